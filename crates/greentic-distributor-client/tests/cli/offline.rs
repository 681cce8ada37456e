//! Offline is a promise about sockets.

use std::fs;

use greentic_dist_testkit::process::{Run, find};
use greentic_dist_testkit::real::skip_line;

use crate::support::{BIN, Bench, error_of, registry, sample, skip};

#[test]
fn nothing_cached_exits_with_4_and_asks_nobody() {
    let (bench, registry) = (Bench::new(), registry());
    for command in ["pull", "resolve", "inspect"] {
        for reference in [registry.reference(), registry.pinned(), format!("oci://{}", registry.reference())] {
            let outcome = bench.run(["--json", "--offline", command, &reference]);
            let error = error_of(&outcome, 4, "offline");
            assert_eq!(error["reference"], reference);
            assert!(!error["hints"].as_array().unwrap().is_empty());
        }
    }
    assert_eq!(registry.server().connections(), 0);
    assert!(!bench.cache().exists());
}

#[test]
fn what_was_pulled_once_opens_with_the_registry_gone() {
    let (bench, registry) = (Bench::new(), registry());
    let path = bench.pull(&registry.reference());
    let references = [
        registry.reference(),
        registry.pinned(),
        sample().manifest_digest.to_string(),
        sample().layer_digest().to_string(),
    ];
    drop(registry);
    for reference in references {
        let outcome = bench.run(["--offline", "pull", &reference]);
        outcome.expect_code(0);
        assert_eq!(outcome.line(), path.display().to_string());
    }
}

/// The calls for sockets a run of the program makes; `None` where they cannot be watched.
fn sockets(test: &str, bench: &Bench, args: &[&str], exit: i32) -> Option<Vec<String>> {
    if find("strace").is_none() {
        skip_line(test, "strace");
        return None;
    }
    let log = bench.path().join("strace.log");
    let watch = |args: &[&str]| {
        Run::new("strace").args(["-f", "-qq", "-e", "trace=socket,connect", "-o"]).arg(&log).args(args).output()
    };
    if watch(&["true"]).code != Some(0) {
        skip(test, "strace may not watch processes here");
        return None;
    }
    let cache = bench.cache().display().to_string();
    let mut line = vec![BIN, "--cache-dir", cache.as_str()];
    line.extend(args);
    watch(&line).expect_code(exit);
    let calls = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    Some(
        calls.lines().filter(|line| line.contains("socket(") || line.contains("connect(")).map(str::to_owned).collect(),
    )
}

#[test]
fn offline_opens_no_socket_whatever_is_asked() {
    const TEST: &str = "offline_opens_no_socket_whatever_is_asked";
    let (bench, registry) = (Bench::new(), registry());
    for (reference, exit) in [
        ("ghcr.io/acme/hello:1", 4),
        (
            "oci://registry.example/acme/hello@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            4,
        ),
        ("https://registry.example/x.wasm", 4),
        (registry.reference().as_str(), 4),
        ("./no-such-file", 3),
    ] {
        let Some(calls) = sockets(TEST, &bench, &["--offline", "pull", reference], exit) else { return };
        assert!(calls.is_empty(), "{reference}: {calls:#?}");
    }
    bench.pull(&registry.reference());
    let Some(calls) = sockets(TEST, &bench, &["--offline", "pull", &registry.reference()], 0) else { return };
    assert!(calls.is_empty(), "{calls:#?}");
}

#[test]
fn a_cached_pin_opens_no_socket_even_online() {
    const TEST: &str = "a_cached_pin_opens_no_socket_even_online";
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.pinned());
    for reference in [registry.pinned(), sample().manifest_digest.to_string()] {
        let Some(calls) = sockets(TEST, &bench, &["pull", &reference], 0) else { return };
        assert!(calls.is_empty(), "{calls:#?}");
    }
    // The watch works: a tag is asked for.
    let Some(calls) = sockets(TEST, &bench, &["pull", &registry.reference()], 0) else { return };
    assert!(!calls.is_empty());
}

#[test]
fn cache_commands_open_no_socket() {
    const TEST: &str = "cache_commands_open_no_socket";
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.pinned());
    let pin = sample().manifest_digest.to_string();
    for args in [
        vec!["cache", "ls"],
        vec!["cache", "stat", &pin],
        vec!["cache", "size"],
        vec!["cache", "verify"],
        vec!["cache", "verify", "--repair"],
        vec!["cache", "gc", "--dry-run"],
        vec!["cache", "gc"],
        vec!["retention", "plan", "--max-bytes", "1"],
        vec!["retention", "apply", "--max-age", "30d"],
        vec!["cache", "rm", "--dry-run", &pin],
        vec!["cache", "rm", &pin],
    ] {
        let Some(calls) = sockets(TEST, &bench, &args, 0) else { return };
        assert!(calls.is_empty(), "{args:?}: {calls:#?}");
    }
}

#[test]
fn offline_lock_commands_answer_from_the_cache_and_open_no_socket() {
    const TEST: &str = "offline_lock_commands_answer_from_the_cache_and_open_no_socket";
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let lock = bench.path().join("components.lock.json").display().to_string();
    let locked = bench.run(["lock", "--lock", &lock, &format!("oci://{}", registry.reference())]);
    locked.expect_code(0);
    registry.journal().clear();
    for (args, exit) in [
        (vec!["--offline", "pull", "--lock", &lock], 0),
        (vec!["--offline", "pull", "--lock", &lock, "--locked"], 0),
        (vec!["--offline", "lock", "check", "--lock", &lock], 0),
        (vec!["--offline", "lock", "update", "--lock", &lock], 0),
    ] {
        let Some(calls) = sockets(TEST, &bench, &args, exit) else { return };
        assert!(calls.is_empty(), "{args:?}: {calls:#?}");
    }
    // What is not cached is refused as quietly.
    fs::write(&lock, r#"["oci://registry.example/acme/hello:1"]"#).unwrap();
    for (args, exit) in [
        (vec!["--offline", "pull", "--lock", &lock], 4),
        (vec!["--offline", "lock", "update", "--lock", &lock], 4),
        (vec!["--offline", "lock", "--lock", &lock, "oci://registry.example/acme/hello:1"], 4),
    ] {
        let Some(calls) = sockets(TEST, &bench, &args, exit) else { return };
        assert!(calls.is_empty(), "{args:?}: {calls:#?}");
    }
    assert!(registry.journal().is_empty());
}

#[test]
fn offline_every_other_command_keeps_to_the_cache_or_is_refused_and_opens_no_socket() {
    const TEST: &str = "offline_every_other_command_keeps_to_the_cache_or_is_refused_and_opens_no_socket";
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let (cached, absent) = (registry.reference(), "registry.example/acme/hello:1");
    for (args, exit) in [
        (vec!["resolve", cached.as_str()], 0),
        (vec!["resolve", absent], 4),
        (vec!["inspect", cached.as_str()], 0),
        (vec!["inspect", absent], 4),
        (vec!["verify", cached.as_str()], 0),
        (vec!["bundle", "stage", cached.as_str()], 0),
        (vec!["bundle", "stage", absent], 4),
        (vec!["bundle", "ls"], 0),
        (vec!["tags", "registry.example/acme/hello"], 4),
        (vec!["store", "download", "store://registry.example/acme/list:1"], 4),
        (vec!["auth", "ls"], 0),
        (vec!["auth", "logout", "acme"], 0),
    ] {
        let args: Vec<&str> = std::iter::once("--offline").chain(args).collect();
        let Some(calls) = sockets(TEST, &bench, &args, exit) else { return };
        assert!(calls.is_empty(), "{args:?}: {calls:#?}");
    }
}
