//! Death and failure at every system call of what takes entries away, as `strace` arranges it.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::process::{Outcome, Run, find};
use greentic_dist_testkit::real::skip_line;
use greentic_distributor_client::dist::{BundleLifecycleState, DistClient, DistOptions};
use serde_json::{Value, json};

use crate::machine::{Machine, names};

/// Bytes of each artifact of the cache.
const SIZE: usize = 1000;

/// A cache in which there is something to do: old entries, one of them of an inactive bundle, entries that bundles stand on,
/// a recent one, a record whose entry is gone, and what dead processes left.
struct Template {
    machine: Machine,
    /// What may go, oldest first; the second has an inactive bundle.
    evictable: Vec<String>,
    /// What bundles stand on.
    protected: Vec<String>,
    dangling: String,
}

impl Template {
    fn new() -> Self {
        let machine = Machine::new();
        let keep = |name: &str| {
            let path = machine.dir().join(name);
            fs::write(&path, format!("{name:SIZE$}")).unwrap();
            let outcome = machine.dist(["--json", "pull", path.to_str().unwrap()]);
            outcome.expect_code(0).json()["digest"].as_str().unwrap().to_owned()
        };
        let evictable: Vec<String> = ["old", "inactive", "recent"].map(keep).into();
        let protected: Vec<String> = ["staged", "ready"].map(keep).into();
        let dangling = keep("dangling");
        let bundles = machine.cache().join("bundles");
        fs::create_dir(&bundles).unwrap();
        for (digest, state) in
            [(&evictable[1], "Inactive"), (&protected[0], "Staged"), (&protected[1], "Ready"), (&dangling, "Inactive")]
        {
            let record = json!({
                "bundle_id": format!("bundle:{digest}"), "cache_key": digest, "canonical_ref": "x", "source_kind": "File",
                "fetched_at": 1, "lifecycle_state": state,
            });
            fs::write(record_path(&machine.cache(), digest), record.to_string()).unwrap();
        }
        fs::remove_dir_all(entry_path(&machine.cache(), &dangling)).unwrap();
        for dead in ["tmp/dead", "trash/dead"] {
            fs::create_dir_all(machine.cache().join(dead)).unwrap();
            fs::write(machine.cache().join(dead).join("component.wasm"), b"x").unwrap();
        }
        Self { machine, evictable, protected, dangling }
    }

    /// A machine with a cache like this one, times included.
    fn copy(&self) -> Machine {
        let machine = Machine::new();
        let copied = std::process::Command::new("cp").arg("-a").arg(self.machine.cache()).arg(machine.cache()).status();
        assert!(copied.unwrap().success());
        fs::write(machine.dir().join("new"), format!("{:SIZE$}", "new")).unwrap();
        machine
    }

    /// Whatever happened: no entry lies, no record is torn, and what bundles stand on is there.
    fn assert_sound(&self, machine: &Machine, context: &str) {
        let client = client(machine);
        let verified = client.verify_cache(&[], false).unwrap();
        assert!(verified.damaged.is_empty() && verified.unknown.is_empty(), "{context}: {verified:?}");
        let records = client.list_bundles().unwrap_or_else(|error| panic!("{context}: {error:?}"));
        for digest in &self.protected {
            client.open_cached(digest).unwrap_or_else(|error| panic!("{context}: a protected entry is lost: {error}"));
            let record = records.iter().find(|record| record.cache_key == *digest);
            assert!(record.is_some_and(|record| record.lifecycle_state != BundleLifecycleState::Inactive), "{context}");
        }
        for record in records {
            let is_there = entry_path(&machine.cache(), &record.cache_key).exists();
            assert!(is_there || record.lifecycle_state == BundleLifecycleState::Inactive, "{context}: {record:?}");
        }
    }

    /// The same commands once more, with nothing in their way, end where they would have.
    fn assert_recovers(&self, machine: &Machine, context: &str) {
        machine.dist(["retention", "apply", "--max-bytes", "2000"]).expect_code(0);
        machine.dist(["cache", "gc"]).expect_code(0);
        let mut expected: Vec<String> = self.protected.iter().map(|digest| hex(digest).to_owned()).collect();
        expected.sort();
        assert_eq!(machine.entries(), expected, "{context}");
        assert_eq!(names(&machine.cache().join("bundles")).len(), 2, "{context}");
        for dir in ["tmp", "trash", "locks"] {
            assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{context}: {dir}");
        }
        self.assert_sound(machine, context);
    }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}

fn entry_path(cache: &Path, digest: &str) -> PathBuf {
    cache.join(hex(digest))
}

fn record_path(cache: &Path, digest: &str) -> PathBuf {
    cache.join("bundles").join(format!("bundle__sha256__{}.json", hex(digest)))
}

fn client(machine: &Machine) -> DistClient {
    DistClient::new(DistOptions { cache_dir: machine.cache(), offline: true, ..DistOptions::default() })
}

/// What takes entries away: the cap of a pull, a plan that is applied, a removal, a collection, a repair.
fn commands(template: &Template) -> Vec<Vec<String>> {
    let named = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    vec![
        named(&["pull", "./new"]),
        named(&["retention", "apply", "--max-bytes", "3000"]),
        named(&["cache", "rm", &template.evictable[1], &template.evictable[0]]),
        named(&["cache", "gc"]),
    ]
}

/// The command under `strace` with an injection into the `nth` call of `syscall` of each of its threads.
fn injected(machine: &Machine, args: &[String], syscall: &str, what: &str, nth: usize) -> Outcome {
    let program = env!("CARGO_BIN_EXE_greentic-dist");
    Run::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={syscall}"), "-e"])
        .arg(format!("inject={syscall}:{what}:when={nth}"))
        .arg(program)
        .arg("--json")
        .args(args)
        .dir(machine.dir())
        .env("HOME", machine.dir().join("home"))
        .env("GREENTIC_CACHE_DIR", machine.cache())
        .env("GREENTIC_CACHE_MAX_BYTES", "4000")
        .output()
}

fn can_trace(test: &str) -> bool {
    let can = find("strace").is_some()
        && Run::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().code == Some(0);
    if !can {
        skip_line(test, "strace that may trace");
    }
    can
}

#[test]
fn row_73_a_kill_at_any_change_of_an_eviction_or_a_collection_loses_nothing_that_is_protected() {
    if !can_trace("row_73_a_kill_at_any_change_of_an_eviction_or_a_collection_loses_nothing_that_is_protected") {
        return;
    }
    let template = Template::new();
    // Between two calls that change something nothing changes: these are all the states there are.
    let calls =
        ["write", "rename", "unlink", "unlinkat", "rmdir", "mkdir", "flock", "utimensat", "fdatasync", "ftruncate"];
    let mut deaths = 0;
    for args in commands(&template) {
        for syscall in calls {
            for nth in 1..64 {
                let machine = template.copy();
                let outcome = injected(&machine, &args, syscall, "signal=KILL", nth);
                if outcome.code == Some(0) {
                    break;
                }
                deaths += 1;
                let context = format!("{args:?} killed at {syscall} {nth}");
                template.assert_sound(&machine, &context);
                // A kill at the same place leaves the same; every third recovery is tried.
                if deaths % 3 == 0 {
                    template.assert_recovers(&machine, &context);
                }
            }
        }
    }
    assert!(deaths > 60, "only {deaths} deaths: is the injection working?");
}

#[test]
fn row_78_an_error_of_any_system_call_is_a_clean_error_or_no_error_and_loses_nothing_that_is_protected() {
    if !can_trace("row_78_an_error_of_any_system_call_is_a_clean_error_or_no_error_and_loses_nothing_that_is_protected")
    {
        return;
    }
    let template = Template::new();
    let faults = [
        ("write", "ENOSPC"),
        ("write", "EIO"),
        ("write", "EDQUOT"),
        ("rename", "EIO"),
        ("rename", "EXDEV"),
        ("rename", "EROFS"),
        ("rename", "EACCES"),
        ("unlink", "EACCES"),
        ("unlinkat", "EIO"),
        ("rmdir", "EACCES"),
        ("mkdir", "ENOSPC"),
        ("mkdir", "EROFS"),
        ("flock", "ENOLCK"),
        ("flock", "EIO"),
        ("fdatasync", "EIO"),
        ("utimensat", "EROFS"),
        ("getdents64", "EIO"),
        ("getdents64", "ESTALE"),
        ("openat", "EMFILE"),
        ("openat", "EACCES"),
    ];
    for args in commands(&template) {
        for (syscall, errno) in faults {
            // The runtime of a pull wakes itself by a write, and sleeps for ever when that fails. Writes of the store fail in
            // the store's own tests.
            if syscall == "write" && args[0] == "pull" {
                continue;
            }
            // The first dozens of `openat` are those of a program that starts.
            let places: &[usize] = if syscall == "openat" { &[24, 30, 36, 44] } else { &[1, 2, 3, 5] };
            for nth in places {
                let machine = template.copy();
                let outcome = injected(&machine, &args, syscall, &format!("error={errno}"), *nth);
                let context = format!("{args:?} with {errno} at {syscall} {nth}: {outcome:?}");
                assert!(outcome.code.is_some_and(|code| code != 101), "{context}");
                assert!(!outcome.says("panicked"), "{context}");
                // A program that could not be loaded, or whose output failed, says nothing on stdout.
                let failed_output = syscall == "write" || syscall == "openat";
                let document: Option<Value> = serde_json::from_str(&outcome.stdout).ok();
                assert!(document.is_some() || failed_output, "{context}");
                template.assert_sound(&machine, &context);
            }
        }
    }
    let machine = template.copy();
    template.assert_recovers(&machine, "nothing happened");
    assert!(!record_path(&machine.cache(), &template.dangling).exists());
}
