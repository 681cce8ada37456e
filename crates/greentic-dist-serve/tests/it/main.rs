//! The registry seen from outside, over a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod disk;
mod guard;
mod list;
mod log;
mod pull;
mod push;
mod running;
mod skopeo;
mod slow;
mod tree;
mod tree_changes;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::raw_client::{Answer, exchange};

/// Both forms of a registry, each serving. The directory lives as long as the pair.
fn both() -> [(RunningRegistry, Option<tempfile::TempDir>); 2] {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = Registry::over_dir(dir.path()).unwrap();
    [(started(&Registry::in_memory()), None), (started(&on_disk), Some(dir))]
}

fn started(registry: &Registry) -> RunningRegistry {
    registry.start(([127, 0, 0, 1], 0).into()).unwrap()
}

fn ask(running: &RunningRegistry, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    exchange(running.addr(), method, target, headers, body).unwrap()
}

fn get(running: &RunningRegistry, target: &str) -> Answer {
    ask(running, "GET", target, &[], &[])
}

/// Status and OCI code of an error answer.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["errors"][0]["code"].as_str()), (status, Some(code)), "{}", answer.text());
    assert!(!answer.json()["errors"][0]["message"].as_str().unwrap().is_empty());
}
