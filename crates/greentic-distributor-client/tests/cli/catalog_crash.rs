//! An update of the provider catalog, killed and failed at every system call: the old catalog or the new one.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::process::Outcome;
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use serde_json::Value;

use crate::bundle_crash::{CALLS, MOST, assert_clean, can_inject};
use crate::catalog::{Bundle, artifact, document};

const OLD: &[&str] = &["old"];
const NEW: &[&str] = &["new", "newer"];

/// A registry whose tag has moved on, and a bundle that has the old catalog.
struct Rig {
    registry: LyingRegistry,
    before: Bundle,
}

impl Rig {
    fn new() -> Self {
        let registry = Scenario::new(artifact(OLD)).repository("acme/providers").tag("latest").start();
        let rig = Self { registry, before: Bundle::new() };
        rig.before.run(&["update", &rig.reference()]).expect_code(0);
        rig.registry.publish(&artifact(NEW), "latest");
        rig
    }

    fn reference(&self) -> String {
        format!("oci://{}", self.registry.reference())
    }

    /// A copy of the bundle with the old catalog; an empty one for a first fetch.
    fn bundle(&self, is_first: bool) -> Bundle {
        let bundle = Bundle::new();
        if !is_first {
            copy(&self.before.dir(), &bundle.dir());
        }
        bundle
    }

    /// Updates with `what` happening to the `nth` call of `syscall`.
    fn injected(&self, bundle: &Bundle, syscall: &str, what: &str, nth: usize) -> Outcome {
        let inject = format!("inject={syscall}:{what}:when={nth}");
        let trace = format!("trace={syscall}");
        let args = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        bundle.command(&["update", &self.reference()]).below("strace", args).output()
    }

    /// The catalog is the old one or the new one, and whether it is the new one. The next update gets through.
    fn look(&self, bundle: &Bundle, is_first: bool, context: &str) -> bool {
        let offline = bundle.run(&["resolve", "--offline", &self.reference()]);
        let is_new = match offline.code {
            Some(0) => {
                let bytes = bundle.read(&offline);
                assert!(bytes == document(NEW) || (!is_first && bytes == document(OLD)), "{context}: a torn catalog");
                bytes == document(NEW)
            }
            code => {
                assert!(is_first && code == Some(4), "{context}: the old catalog was lost: {}", offline.stderr);
                false
            }
        };
        let updated = bundle.run(&["update", &self.reference()]);
        updated.expect_code(0);
        assert_eq!(updated.line().starts_with("changed"), !is_new, "{context}: {}", updated.stdout);
        assert_eq!(bundle.read(&bundle.run(&["resolve", "--offline", &self.reference()])), document(NEW), "{context}");
        let index: Value = serde_json::from_slice(&fs::read(bundle.cache().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["refs"][self.reference()], artifact(NEW).manifest_digest.to_string(), "{context}");
        is_new
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_system_call_of_an_update_leaves_the_old_catalog_or_the_new_one() {
    const TEST: &str = "a_kill_at_any_system_call_of_an_update_leaves_the_old_catalog_or_the_new_one";
    if !can_inject(TEST) {
        return;
    }
    let rig = Rig::new();
    let (mut deaths, mut new) = (0, 0);
    // Writes and opens of files before the first directory is made are those of a program that starts.
    for syscall in CALLS {
        for nth in 1..=MOST {
            assert!(nth < MOST, "{syscall} is called without end");
            let bundle = rig.bundle(false);
            let outcome = rig.injected(&bundle, syscall, "signal=KILL", nth);
            if outcome.code == Some(0) {
                break;
            }
            deaths += 1;
            new += usize::from(rig.look(&bundle, false, &format!("killed at {syscall} {nth}")));
        }
    }
    println!("{deaths} deaths, {new} of them after the new catalog was there");
    assert!(deaths > 20 && new > 2 && new < deaths, "{deaths} deaths, {new} new: is the injection working?");
}

#[test]
fn a_kill_at_any_rename_or_sync_of_a_first_fetch_leaves_nothing_or_the_catalog() {
    const TEST: &str = "a_kill_at_any_rename_or_sync_of_a_first_fetch_leaves_nothing_or_the_catalog";
    if !can_inject(TEST) {
        return;
    }
    let rig = Rig::new();
    let (mut deaths, mut new) = (0, 0);
    for syscall in ["rename", "fsync", "mkdir"] {
        for nth in 1..=MOST {
            assert!(nth < MOST, "{syscall} is called without end");
            let bundle = rig.bundle(true);
            if rig.injected(&bundle, syscall, "signal=KILL", nth).code == Some(0) {
                break;
            }
            deaths += 1;
            new += usize::from(rig.look(&bundle, true, &format!("killed at {syscall} {nth}")));
        }
    }
    assert!(deaths > 10 && new > 2, "{deaths} deaths, {new} new: is the injection working?");
}

#[test]
fn an_error_of_any_system_call_of_an_update_is_told_and_leaves_the_old_catalog_or_the_new_one() {
    const TEST: &str = "an_error_of_any_system_call_of_an_update_is_told_and_leaves_the_old_catalog_or_the_new_one";
    if !can_inject(TEST) {
        return;
    }
    let rig = Rig::new();
    for (syscall, errno, most) in [
        ("fsync", "EIO", 8),
        ("fsync", "ENOSPC", 8),
        ("rename", "EIO", 4),
        ("rename", "EACCES", 4),
        ("mkdir", "ENOSPC", 4),
        ("unlink", "EACCES", 2),
        ("flock", "ENOLCK", 2),
        ("flock", "EINTR", 2),
    ] {
        for nth in 1..=most {
            let context = format!("{errno} at {syscall} {nth}");
            let bundle = rig.bundle(false);
            let outcome = rig.injected(&bundle, syscall, &format!("error={errno}"), nth);
            assert_clean(&outcome, &context);
            let is_new = rig.look(&bundle, false, &context);
            assert!(is_new || outcome.code != Some(0), "{context}: it said that it updated");
        }
    }
}
