//! One JSON document on stdout, on success and on failure, for every command.

use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::Digest;
use serde_json::{Value, json};

use crate::support::{Bench, error_of, registry, sample};

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn resolve_tells_the_digest_and_what_it_is_of() {
    let (bench, registry) = (Bench::new(), registry());
    let reference = format!("oci://{}", registry.reference());
    let outcome = bench.run(["resolve", &reference, "--json"]);
    outcome.expect_code(0);
    let pin = sample().manifest_digest.to_string();
    assert_eq!(
        outcome.json(),
        json!({
            "reference": reference, "digest": pin, "canonical_ref": format!("oci://{}/acme/hello@{pin}", registry.host()),
            "media_type": "application/wasm", "size_bytes": 200_000, "resolved_by": registry.url(),
        })
    );
    assert_eq!(outcome.stderr, "");
    let many = bench.run(["resolve", "--json", &reference, &registry.reference()]);
    assert_eq!(many.json().as_array().unwrap().len(), 2);
}

#[test]
fn pull_tells_both_digests_and_the_path() {
    let (bench, registry) = (Bench::new(), registry());
    for fetched in [true, false] {
        let outcome = bench.run(["--json", "pull", &registry.reference()]);
        outcome.expect_code(0);
        let document = outcome.json();
        assert_eq!(
            keys(&document),
            [
                "cache_path",
                "content_digest",
                "digest",
                "fetched",
                "media_type",
                "reference",
                "resolved_by",
                "served_by",
                "size_bytes",
            ]
        );
        assert_eq!(document["reference"], registry.reference());
        assert_eq!(document["digest"], sample().manifest_digest.to_string());
        assert_eq!(document["content_digest"], sample().layer_digest().to_string());
        assert_eq!(document["fetched"], fetched);
        let path = document["cache_path"].as_str().unwrap();
        assert!(std::fs::read(path).unwrap() == sample().layer_bytes());
    }
}

#[test]
fn a_pull_that_fails_in_part_tells_what_succeeded_beside_the_error() {
    let (bench, registry) = (Bench::new(), registry());
    let good = registry.reference();
    let outcome = bench.run(["--json", "pull", &good, &registry.reference_to("nothing"), "not a reference"]);
    let error = error_of(&outcome, 3, "not_found");
    assert_eq!(error["reference"], registry.reference_to("nothing"));
    let document = outcome.json();
    let results = document["results"].as_array().unwrap();
    assert_eq!((results.len(), results[0]["reference"].as_str()), (1, Some(good.as_str())));
    // Every failure is told to people.
    assert!(outcome.stderr.contains("not a reference") && outcome.stderr.contains("nothing"), "{}", outcome.stderr);
    let all = bench.run(["--json", "pull", &good, &registry.pinned()]);
    assert_eq!(all.json().as_array().unwrap().len(), 2);
}

#[test]
fn inspect_tells_what_is_beside_the_artifact() {
    let (bench, registry) = (Bench::new(), registry());
    let outcome = bench.run(["--json", "inspect", &registry.reference()]);
    outcome.expect_code(0);
    let document = outcome.json();
    assert_eq!(
        keys(&document),
        [
            "annotations",
            "artifact_path",
            "artifact_type",
            "cache_dir",
            "cached",
            "canonical_ref",
            "component_manifest_path",
            "content_digest",
            "digest",
            "fetched",
            "manifest_path",
            "media_type",
            "oci",
            "reference",
            "resolved_by",
            "size_bytes",
        ]
    );
    assert_eq!(document["artifact_type"], "Component");
    assert_eq!(document["component_manifest_path"], Value::Null);
}

#[test]
fn the_cache_is_told_as_arrays_and_a_report() {
    let (bench, registry) = (Bench::new(), registry());
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!([]));
    bench.pull(&registry.reference());
    let pin = sample().manifest_digest.to_string();
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!([pin]));
    assert_eq!(bench.run(["cache", "gc", "--json"]).json(), json!([]));
    let unknown = Digest::sha256(b"unknown").to_string();
    let outcome = bench.run(["cache", "rm", "--json", &pin, &unknown]);
    outcome.expect_code(0);
    let report = outcome.json();
    assert_eq!(keys(&report), ["bytes_reclaimed", "evicted", "kept", "protected", "refusals", "scanned_entries"]);
    assert_eq!((&report["scanned_entries"], &report["evicted"], &report["kept"]), (&json!(2), &json!(1), &json!(0)));
    assert!(outcome.stderr.contains("removed 1"), "{}", outcome.stderr);
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!([]));
    bench.run(["cache", "rm", "--json"]).expect_code(0);
}

#[test]
fn an_older_cache_is_listed_and_tidied() {
    let bench = Bench::new();
    let digest = Digest::sha256(b"\0asm old");
    let dir = bench.cache().join(digest.to_hex());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(bench.cache(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("component.wasm"), b"\0asm old").unwrap();
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!([digest.to_string()]));
    assert_eq!(bench.run(["cache", "gc", "--json"]).json(), json!([]));
    let removed = bench.run(["cache", "rm", "--json", &digest.to_string()]);
    removed.expect_code(0);
    assert_eq!(removed.json()["evicted"], 1);
}

#[test]
fn every_command_tells_a_failure_as_one_document() {
    let bench = Bench::new();
    let unknown = Digest::sha256(b"unknown").to_string();
    for (args, exit, code) in [
        (["resolve", "nope"], 2, "invalid_input"),
        (["pull", "nope"], 2, "invalid_input"),
        (["inspect", "nope"], 2, "invalid_input"),
        (["pull", unknown.as_str()], 3, "not_found"),
        (["inspect", unknown.as_str()], 3, "not_found"),
        (["resolve", "./no-such-file"], 3, "not_found"),
        (["pull", "repo://x"], 5, "auth"),
    ] {
        let outcome = bench.dist(["--json"]).args(args).output();
        let error = error_of(&outcome, exit, code);
        assert!(error["reference"].is_string(), "{error}");
    }
    let outcome = bench.run(["--json", "--offline", "pull", "ghcr.io/acme/hello:1"]);
    error_of(&outcome, 4, "offline");
    error_of(&bench.run(["--json", "cache", "rm", "../x"]), 2, "invalid_input");
}

#[test]
fn a_failure_without_json_leaves_stdout_empty() {
    let bench = Bench::new();
    for args in [["pull", "nope"], ["resolve", "nope"], ["inspect", "nope"]] {
        let outcome = bench.run(args);
        outcome.expect_code(2);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.starts_with("error: invalid reference `nope`\n  cause: "), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("\n   hint: "), "{}", outcome.stderr);
    }
}

#[test]
fn the_signature_of_a_url_is_repeated_nowhere() {
    let bench = Bench::new();
    let server = LyingServer::start(|_, _| Response::ok("\0asm"));
    let url = format!("http://{}/a.wasm?X-Amz-Signature=canary-sig", server.host());
    for command in ["resolve", "pull", "inspect"] {
        let outcome =
            bench.dist(["--json", command, &url]).env("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP", "1").output();
        outcome.expect_code(0);
        assert!(!format!("{}{}", outcome.stdout, outcome.stderr).contains("canary-sig"), "{}", outcome.stdout);
    }
    let outcome = bench.run(["cache", "rm", "https://u:canary-sig@h/x"]);
    outcome.expect_code(2);
    assert!(!outcome.stderr.contains("canary-sig"), "{}", outcome.stderr);
}

#[test]
fn a_resolve_that_fails_in_part_tells_what_succeeded_beside_the_error() {
    let (bench, registry) = (Bench::new(), registry());
    let outcome = bench.run(["--json", "resolve", "nope", &registry.reference(), "./no-such-file"]);
    let error = error_of(&outcome, 3, "not_found");
    assert!(error["hints"].to_string().contains("1 of 3"), "{error}");
    assert_eq!(outcome.json()["results"][0]["digest"], sample().manifest_digest.to_string());
    let outcome = bench.run(["resolve", "nope", &registry.reference()]);
    outcome.expect_code(2);
    assert_eq!(outcome.line(), sample().manifest_digest.to_string());
}

#[test]
fn wrong_usage_names_the_argument_and_gives_the_tip_in_the_document_too() {
    let bench = Bench::new();
    // For people the argument stands on a line of its own.
    let missing = bench.run(["pack", "--json"]);
    missing.expect_code(2);
    assert_eq!(missing.json()["error"]["message"], "the following required arguments were not provided: <REF>");
    let mistyped = error_of(&bench.run(["resolv", "--json", "x"]), 2, "invalid_input");
    assert_eq!(mistyped["message"], "unrecognized subcommand 'resolv'");
    assert!(mistyped["hints"][0].as_str().unwrap().contains("'resolve'"), "{mistyped}");
}
