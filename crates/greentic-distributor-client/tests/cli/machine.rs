//! What the machine does to the program: pipes where files are expected, few files that may be open, others at the same cache.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::process::{Outcome, Run};

use crate::support::{BIN, Bench, error_of, registry, sample};

/// Longest that a program may take that has nothing to wait for.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn row_7_a_pipe_in_place_of_a_file_is_refused_by_every_command_and_never_waited_for() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.wasm");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::create_dir(dir.path().join("127.0.0.1_1_")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("127.0.0.1_1_/hosts.toml")).status().unwrap().success());
    let (pipe, out) = (pipe.to_str().unwrap(), format!("oci-layout:{}", dir.path().join("out").display()));
    let archive = format!("oci-archive:{pipe}");
    for args in [
        &["pull", pipe][..],
        &["resolve", pipe],
        &["inspect", pipe],
        &["verify", pipe],
        &["lock", pipe],
        &["bundle", "stage", pipe],
        &["pull", "--lock", pipe],
        &["verify", "/dev/null", "--policy", pipe],
        &["push", pipe, "127.0.0.1:1/acme/hello:1"],
        &["push", pipe, "127.0.0.1:1/acme/hello:1", "--type", "catalog"],
        &["push", pipe, &out],
        &["copy", &archive, &out],
        &["inspect", &archive],
        &["--hosts-dir", dir.path().to_str().unwrap(), "pull", "127.0.0.1:1/acme/hello:1"],
    ] {
        let run = Run::new(BIN).args(["--json", "--cache-dir"]).arg(bench.cache()).args(args);
        let outcome = run.dir(dir.path()).limit(SOON).output();
        error_of(&outcome, 2, "invalid_input");
        assert!(outcome.stderr.contains("regular file"), "{args:?}: {}", outcome.stderr);
    }
    bench.assert_nothing_outside_changed();
}

/// The program with at most so many open files.
fn with_files(count: u32, cache: &Path, reference: &str) -> Outcome {
    let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
    let run = Run::new("sh").args(["-c", &script, BIN, "--json", "pull", reference, "--cache-dir"]).arg(cache);
    run.limit(SOON).output()
}

#[test]
fn row_69_with_few_files_that_may_be_open_a_pull_works_or_says_so_and_leaves_nothing_half() {
    let registry = registry();
    // Where a program and its runtime can just begin, and where there is room for a connection and the files of an entry.
    let mut failed = 0;
    for count in (8..40).step_by(2) {
        let bench = Bench::new();
        let outcome = with_files(count, &bench.cache(), &registry.reference());
        assert!(!outcome.says("panicked"), "{count}: {}", outcome.stderr);
        if outcome.code != Some(0) {
            failed += 1;
            // A socket that is not to be had is the network's failure and may pass; a file or a runtime is the machine's.
            let (exit, code) = if outcome.code == Some(7) { (7, "temporary") } else { (10, "internal") };
            error_of(&outcome, exit, code);
            assert!(outcome.says("Too many open files"), "{count}: {}", outcome.stderr);
            let left = TreeSnapshot::of(&bench.cache());
            assert!(!left.files().iter().any(|file| file.ends_with("entry.json")), "{count}: {:?}", left.files());
        }
        // What was left behind is in nobody's way.
        assert_eq!(std::fs::read(bench.pull(&registry.reference())).unwrap(), sample().layer_bytes(), "{count}");
    }
    assert!(failed > 0, "there were always enough");
    let bench = Bench::new();
    with_files(64, &bench.cache(), &registry.reference()).expect_code(0);
}

#[test]
fn row_72_pulls_collections_and_plans_at_the_same_time_all_exit_with_0() {
    let (bench, registry) = (Bench::new(), registry());
    let run = |args: &[&str]| Run::new(BIN).args(["--json", "--cache-dir"]).arg(bench.cache()).args(args);
    let (reference, pinned) = (registry.reference(), registry.pinned());
    let commands = [
        &["pull", &reference][..],
        &["cache", "gc"],
        &["pull", &pinned],
        &["retention", "apply", "--max-bytes", "1"],
        &["bundle", "stage", &reference],
        &["cache", "ls"],
        &["retention", "plan", "--max-bytes", "1"],
    ];
    for _ in 0..6 {
        let everybody: Vec<_> = commands.iter().map(|args| run(args).spawn()).collect();
        for (args, running) in commands.iter().zip(everybody) {
            let outcome = running.wait();
            assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
            outcome.json();
        }
    }
    // The bundle keeps its artifact, whoever collected beside it.
    let verified = run(&["cache", "verify"]).output();
    verified.expect_code(0);
    assert_eq!(std::fs::read(bench.pull(&pinned)).unwrap(), sample().layer_bytes());
    bench.assert_nothing_outside_changed();
}
