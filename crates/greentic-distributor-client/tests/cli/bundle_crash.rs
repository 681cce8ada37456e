//! Staging and warming, killed and failed at every system call: success, or nothing that is wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greentic_dist_testkit::process::{Outcome, Run, find};
use greentic_dist_testkit::real::skip_line;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{
    BundleLifecycleState as State, CachePolicy, DistClient, DistOptions, RollbackBundleInput, StageBundleInput,
    VerificationPolicy, WarmBundleInput,
};
use serde_json::json;

use crate::support::{BIN, Bench, skip};
use crate::verify::{advisory, document};

/// The system calls that change something, or open it.
pub(crate) const CALLS: [&str; 12] = [
    "openat",
    "write",
    "fdatasync",
    "fsync",
    "rename",
    "mkdir",
    "unlink",
    "flock",
    "ftruncate",
    "fchmod",
    "linkat",
    "renameat2",
];
/// Most calls of one kind that are tried; a program that makes more would never end the test.
pub(crate) const MOST: usize = 400;

const BYTES: &[u8] = b"\0asm that is staged";

fn pin() -> String {
    Digest::sha256(BYTES).to_string()
}

fn id() -> String {
    format!("bundle:{}", pin())
}

/// A machine with a file to stage and an advisory to hold it against.
struct Rig {
    bench: Bench,
    file: String,
    advisory: String,
}

impl Rig {
    fn new() -> Self {
        let bench = Bench::new();
        let file = bench.path().join("tool.wasm");
        fs::write(&file, BYTES).unwrap();
        let advisory = document(&bench, "advisory.json", &advisory("1", 5));
        Self { file: file.display().to_string(), advisory, bench }
    }

    fn client(&self) -> DistClient {
        let cache_dir = self.bench.cache();
        let store_auth_path = self.bench.path().join("auth");
        DistClient::new(DistOptions {
            cache_dir,
            offline: true,
            store_state_path: store_auth_path.clone(),
            store_auth_path,
            ..DistOptions::default()
        })
    }

    /// Runs a command with `what` happening to its `nth` call of `syscall`.
    fn injected(&self, syscall: &str, what: &str, nth: usize, args: &[&str]) -> Outcome {
        Run::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={syscall}"))
            .arg("-e")
            .arg(format!("inject={syscall}:{what}:when={nth}"))
            .arg(BIN)
            .arg("--cache-dir")
            .arg(self.bench.cache())
            .args(args)
            .output()
    }

    /// What is there opens, and the record is of one piece. Whether there is a record.
    fn look(&self, context: &str) -> bool {
        let client = self.client();
        let bundles = client.list_bundles().unwrap_or_else(|error| panic!("{context}: a torn record: {error:?}"));
        for bundle in &bundles {
            let input = WarmBundleInput {
                bundle_id: bundle.bundle_id.clone(),
                cache_key: bundle.cache_key.clone(),
                smoke_test: false,
                dry_run: true,
                expected_operator_version: None,
            };
            let warmed = client.warm_bundle(&input, None, &VerificationPolicy::default());
            assert!(warmed.is_ok(), "{context}: a record without its artifact: {warmed:?}");
            let entry = client.stat_cache(&bundle.cache_key).unwrap();
            assert_eq!(entry.raw_ref, self.file, "{context}: the record of the entry was lost");
        }
        !bundles.is_empty()
    }

    /// The next one gets through, and collection leaves nothing in the making.
    fn recovers(&self, context: &str) {
        let client = self.client();
        let input = StageBundleInput {
            bundle_ref: self.file.clone(),
            requested_access_mode: greentic_distributor_client::dist::AccessMode::Userspace,
            verification_policy_ref: String::new(),
            cache_policy_ref: String::new(),
            tenant: None,
            team: None,
        };
        let policy = VerificationPolicy::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let staged = runtime.block_on(client.stage_bundle(&input, None, &policy, CachePolicy));
        assert_eq!(staged.unwrap_or_else(|error| panic!("{context}: {error}")).bundle_id, id());
        let input = RollbackBundleInput { target_bundle_id: id(), expected_cache_key: None };
        client.rollback_bundle(&input, None, &policy).unwrap();
        client.gc().unwrap();
        for sub in ["tmp", "locks", "trash"] {
            let left: Vec<PathBuf> = fs::read_dir(self.bench.cache().join(sub))
                .map_or_else(|_| Vec::new(), |names| names.map(|name| name.unwrap().path()).collect());
            assert!(left.is_empty(), "{context}: {left:?}");
        }
    }
}

pub(crate) fn can_inject(test: &str) -> bool {
    if find("strace").is_none() {
        skip_line(test, "strace");
        return false;
    }
    let works = Run::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().code == Some(0);
    if !works {
        skip(test, "strace may not tamper with processes here");
    }
    works
}

/// A process that ended by itself said what is wrong, and did not panic.
pub(crate) fn assert_clean(outcome: &Outcome, context: &str) {
    let code = outcome.code.unwrap_or_else(|| panic!("{context}: it was ended by a signal: {}", outcome.stderr));
    assert!([0, 2, 3, 7, 8, 10].contains(&code), "{context}: exit code {code}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{context}: {}", outcome.stderr);
    if code != 0 {
        assert!(outcome.stderr.contains("error"), "{context}: {}", outcome.stderr);
    }
}

#[test]
fn a_kill_at_any_system_call_of_staging_leaves_a_whole_bundle_or_none() {
    const TEST: &str = "a_kill_at_any_system_call_of_staging_leaves_a_whole_bundle_or_none";
    if !can_inject(TEST) {
        return;
    }
    let (deaths, staged) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // The processes wait for the disk most of the time, so that a few kinds of calls are tried at once.
    std::thread::scope(|scope| {
        for calls in CALLS.chunks(3) {
            let (deaths, staged) = (Arc::clone(&deaths), Arc::clone(&staged));
            scope.spawn(move || {
                for syscall in calls {
                    for nth in 1..=MOST {
                        assert!(nth < MOST, "{syscall} is called without end");
                        let rig = Rig::new();
                        let args = ["bundle", "stage", &rig.file, "--advisory", &rig.advisory];
                        let outcome = rig.injected(syscall, "signal=KILL", nth, &args);
                        let context = format!("killed at {syscall} {nth}");
                        if outcome.code == Some(0) {
                            assert_eq!(outcome.line(), id());
                            break;
                        }
                        deaths.fetch_add(1, Ordering::Relaxed);
                        staged.fetch_add(usize::from(rig.look(&context)), Ordering::Relaxed);
                        // Before its first write to the cache it is only a program that starts.
                        if rig.bench.cache().exists() {
                            rig.recovers(&context);
                        }
                    }
                }
            });
        }
    });
    let (deaths, staged) = (deaths.load(Ordering::Relaxed), staged.load(Ordering::Relaxed));
    println!("{deaths} deaths, {staged} of them after the record was there");
    assert!(deaths > 40 && staged > 2, "{deaths} deaths, {staged} staged: is the injection working?");
}

#[test]
fn a_kill_at_any_system_call_of_warming_changes_nothing_that_was_promised() {
    const TEST: &str = "a_kill_at_any_system_call_of_warming_changes_nothing_that_was_promised";
    if !can_inject(TEST) {
        return;
    }
    let rig = Rig::new();
    rig.recovers("before");
    rig.client().set_bundle_state(&id(), State::Ready).unwrap();
    let mut deaths = 0;
    for syscall in CALLS {
        for nth in 1..=MOST {
            assert!(nth < MOST, "{syscall} is called without end");
            let args = ["bundle", "warm", &id(), "--advisory", &rig.advisory];
            if rig.injected(syscall, "signal=KILL", nth, &args).code == Some(0) {
                break;
            }
            deaths += 1;
            assert!(rig.look(&format!("killed at {syscall} {nth}")));
            assert_eq!(rig.client().stat_bundle(&id()).unwrap().lifecycle_state, State::Ready);
        }
    }
    rig.recovers("after");
    println!("{deaths} deaths");
    assert!(deaths > 20, "only {deaths} deaths: is the injection working?");
}

#[test]
fn an_error_of_any_system_call_of_staging_and_warming_is_told_and_tears_no_record() {
    const TEST: &str = "an_error_of_any_system_call_of_staging_and_warming_is_told_and_tears_no_record";
    if !can_inject(TEST) {
        return;
    }
    // Writes that fail are tried at the store alone: here the runtime wakes itself by writes, which never fail in earnest.
    let faults = [
        ("fdatasync", "EIO"),
        ("fdatasync", "ENOSPC"),
        ("fsync", "EIO"),
        ("fsync", "EINVAL"),
        ("rename", "EIO"),
        ("rename", "EXDEV"),
        ("rename", "EACCES"),
        ("mkdir", "ENOSPC"),
        ("unlink", "EACCES"),
        ("flock", "ENOLCK"),
        ("flock", "EINTR"),
        ("fchmod", "EPERM"),
        ("openat", "EMFILE"),
        ("openat", "EROFS"),
    ];
    let one = |syscall: &str, errno: &str, nth: usize| {
        let context = format!("{errno} at {syscall} {nth}");
        let rig = Rig::new();
        let fault = format!("error={errno}");
        let args = ["bundle", "stage", &rig.file, "--advisory", &rig.advisory];
        let outcome = rig.injected(syscall, &fault, nth, &args);
        // 127: the program was not even loaded.
        if outcome.code != Some(127) {
            assert_clean(&outcome, &context);
        }
        let is_staged = rig.look(&context);
        assert!(is_staged || outcome.code != Some(0), "{context}: it said that it staged");
        rig.recovers(&context);
        let args = ["bundle", "warm", &id(), "--advisory", &rig.advisory];
        let outcome = rig.injected(syscall, &fault, nth, &args);
        if outcome.code != Some(127) {
            assert_clean(&outcome, &context);
        }
        assert!(rig.look(&context), "{context}: warming lost the bundle");
    };
    std::thread::scope(|scope| {
        for some in faults.chunks(4) {
            scope.spawn(move || {
                for (syscall, errno) in some {
                    for nth in [1, 2, 3, 5, 8, 14] {
                        one(syscall, errno, nth);
                    }
                }
            });
        }
    });
}

#[test]
fn warm_and_rollback_open_no_socket() {
    const TEST: &str = "warm_and_rollback_open_no_socket";
    if !can_inject(TEST) {
        return;
    }
    let rig = Rig::new();
    rig.recovers("before");
    let policy = document(&rig.bench, "policy.json", &json!({ "environment": "Prod" }));
    for args in [
        ["bundle", "warm", &id(), "--policy", &policy],
        ["bundle", "rollback", &id(), "--policy", &policy],
        ["verify", &pin(), "--quiet", "--policy", &policy],
    ] {
        let log = rig.bench.path().join("strace.log");
        let run = |args: &[&str]| {
            Run::new("strace")
                .args(["-f", "-qq", "-e", "trace=socket,connect", "-o"])
                .arg(&log)
                .arg(BIN)
                .arg("--cache-dir")
                .arg(rig.bench.cache())
                .args(args)
                .output()
        };
        run(&args).expect_code(0);
        assert_eq!(fs::read_to_string(&log).unwrap(), "", "{args:?}");
    }
}
