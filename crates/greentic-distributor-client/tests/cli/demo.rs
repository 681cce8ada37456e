//! `greentic-dist demo`: the whole job on a machine that has nothing.

use std::fs;

use greentic_dist_testkit::process::Run;
use greentic_dist_testkit::{TreeSnapshot, fixture};

use crate::support::{BIN, Bench};

const STEPS: [&str; 10] =
    ["registry", "publish", "resolve", "pull", "verify", "pull again", "revalidate", "stop", "offline", "tamper"];

/// The demo with every directory it could write to inside `bench`.
fn demo(bench: &Bench) -> Run {
    for dir in ["tmp", "home", "work"] {
        fs::create_dir_all(bench.path().join(dir)).unwrap();
    }
    Run::new(BIN)
        .arg("demo")
        .dir(bench.path().join("work"))
        .env("TMPDIR", bench.path().join("tmp"))
        .env("HOME", bench.path().join("home"))
}

#[test]
fn it_ends_well_and_explains_every_step() {
    let bench = Bench::new();
    let outcome = demo(&bench).output();
    outcome.expect_code(0);
    for (number, step) in STEPS.iter().enumerate() {
        let start = format!("{:>2}. {step}", number + 1);
        assert!(
            outcome.stdout.lines().any(|line| line.starts_with(&start)),
            "`{start}` is missing:\n{}",
            outcome.stdout
        );
    }
    for fact in ["sha256:", "component.wasm", "2 requests", "0 requests", "1 request", " bytes", " ms", "exit 8"] {
        assert!(outcome.stdout.contains(fact), "`{fact}` is missing:\n{}", outcome.stdout);
    }
    assert!(outcome.stdout.trim_end().lines().last().unwrap().starts_with("ok: "));
    assert_eq!(outcome.stderr, "");
}

#[test]
fn it_leaves_nothing_behind() {
    let bench = Bench::new();
    let run = demo(&bench);
    let before = TreeSnapshot::of(bench.path());
    run.output().expect_code(0);
    before.assert_unchanged(bench.path());
}

#[test]
fn it_needs_no_configuration_and_is_bothered_by_none() {
    let bench = Bench::new();
    let run = demo(&bench)
        .env("GREENTIC_CACHE_DIR", bench.path().join("elsewhere"))
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1");
    run.output().expect_code(0);
    assert!(!bench.path().join("elsewhere").exists());
}

#[test]
fn offline_it_is_refused_because_its_registry_is_behind_a_socket() {
    let bench = Bench::new();
    for run in [demo(&bench).env("GREENTIC_DIST_OFFLINE", "1"), demo(&bench).arg("--offline")] {
        let outcome = run.output();
        outcome.expect_code(4);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("socket"), "{}", outcome.stderr);
    }
}

#[test]
fn what_is_kept_can_be_opened_afterwards() {
    let bench = Bench::new();
    let kept = bench.path().join("kept").join("deeper");
    let outcome = demo(&bench).arg("--keep").arg(&kept).output();
    outcome.expect_code(0);
    let cache = kept.join("cache");
    let list = Run::new(BIN).args(["--offline", "cache", "ls", "--cache-dir"]).arg(&cache).output();
    let digest = list.line().to_owned();
    let pull = Run::new(BIN).args(["--offline", "pull", &digest, "--cache-dir"]).arg(&cache).output();
    pull.expect_code(0);
    let bytes = fs::read(pull.line()).unwrap();
    // A component, by the preamble that tells one from a module.
    assert_eq!(&bytes[..8], b"\0asm\x0d\0\x01\0");
    assert_eq!(bytes, fixture::component_bytes());
    assert!(!TreeSnapshot::of(&kept.join("registry")).is_empty());
    assert!(TreeSnapshot::of(&bench.path().join("tmp")).is_empty());
}

#[test]
fn a_directory_with_something_in_it_is_not_filled() {
    let bench = Bench::new();
    let full = bench.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "x").unwrap();
    let outcome = demo(&bench).arg("--keep").arg(&full).output();
    outcome.expect_code(2);
    assert!(outcome.stderr.contains("not empty"), "{}", outcome.stderr);
    assert_eq!(TreeSnapshot::of(&full).paths(), ["mine"]);
}

#[test]
fn as_json_it_is_one_document_with_the_facts_of_every_step() {
    let bench = Bench::new();
    let outcome = demo(&bench).arg("--json").output();
    outcome.expect_code(0);
    let document = outcome.json();
    assert_eq!(document["ok"], true);
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    let facts = |name: &str| &steps[STEPS.iter().position(|step| *step == name).unwrap()]["facts"];
    assert_eq!(facts("pull")["requests"], 2);
    assert_eq!(facts("pull")["digest"], facts("publish")["digest"]);
    assert_eq!(facts("pull")["bytes"], fixture::component_bytes().len());
    assert_eq!(facts("pull again")["requests"], 0);
    assert_eq!(facts("revalidate")["requests"], 1);
    assert_eq!(facts("tamper")["exit"], 8);
}
