//! This test program, started again to be another process: to be killed, and to be looked at from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_testkit::process::Run;
use greentic_distributor_client::dist::{DistClient, DistOptions, RangePolicy, StaticCredentials};

const ROLE: &str = "CLIENT_TEST_ROLE";
const CACHE: &str = "CLIENT_TEST_CACHE";
const REFERENCES: &str = "CLIENT_TEST_REFERENCES";

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Pulls the references one after the other, over several connections at once.
    Several,
    /// Pulls all references at the same time, each from a task of its own.
    AtOnce,
}

/// Several connections from the first byte of a blob on, whoever has it.
pub(crate) fn eager() -> RangePolicy {
    RangePolicy {
        from_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        look: Duration::ZERO,
        fast_bytes_per_second: u64::MAX,
        trial: Duration::ZERO,
        loopback: true,
        ..RangePolicy::default()
    }
}

/// The program that plays `role`.
pub(crate) fn child(role: Role, cache: &Path, references: &[String]) -> Run {
    Run::new(std::env::current_exe().unwrap())
        .args(["child::the_part_of_a_child_process", "--exact", "--nocapture"])
        .env(ROLE, format!("{role:?}"))
        .env(CACHE, cache)
        .env(REFERENCES, references.join(" "))
}

/// Does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_part_of_a_child_process() {
    let (Ok(role), Some(cache), Ok(references)) =
        (std::env::var(ROLE), std::env::var_os(CACHE), std::env::var(REFERENCES))
    else {
        return;
    };
    let options =
        DistOptions { cache_dir: PathBuf::from(cache), allow_tags: true, offline: false, ..DistOptions::default() };
    let builder = DistClient::builder().options(options).credentials(Arc::new(StaticCredentials::new()));
    let several = role == format!("{:?}", Role::Several);
    let client = if several { builder.ranges(eager()).build() } else { builder.build() };
    let references = references.split(' ').map(str::to_owned);
    if several {
        for reference in references {
            client.resolve_ref(&reference).await.unwrap();
        }
        return;
    }
    let tasks: Vec<_> = references
        .map(|reference| {
            let client = client.clone();
            tokio::spawn(async move { client.resolve_ref(&reference).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}
