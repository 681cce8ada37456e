//! `verify`, and the files that say what an artifact is held against.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use greentic_dist_testkit::fixture::{Blob, WASM_TYPE, artifact_of, random_bytes};
use greentic_dist_testkit::scenario::Scenario;
use serde_json::{Value, json};

use crate::support::{Bench, error_of, registry, sample};

/// Writes a document beside the cache and gives its path. It goes away before the bench is looked at.
pub(crate) fn document(bench: &Bench, name: &str, value: &Value) -> String {
    text(bench, name, &value.to_string())
}

fn text(bench: &Bench, name: &str, text: &str) -> String {
    let path = bench.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn advisory(version: &str, issued_at: u64) -> Value {
    json!({
        "version": version, "issued_at": issued_at, "source": "", "deny_digests": [], "deny_issuers": [],
        "minimum_operator_version": null, "release_train": null, "expires_at": null, "next_refresh_hint": null,
    })
}

#[test]
fn an_artifact_that_passes_prints_its_checks_and_exits_with_0() {
    let (bench, registry) = (Bench::new(), registry());
    let outcome = bench.run(["verify", &registry.reference()]);
    outcome.expect_code(0);
    assert_eq!(outcome.stdout.lines().count(), 8, "{}", outcome.stdout);
    assert!(outcome.stdout.starts_with("passed   digest_allowed "), "{}", outcome.stdout);
    drop(registry);
    // By its digest or that of its bytes, without the registry.
    for digest in [sample().manifest_digest, sample().layer_digest()] {
        let report = bench.run(["--offline", "--json", "verify", &digest.to_string()]);
        report.expect_code(0);
        let report = report.json();
        assert_eq!((&report["passed"], report["checks"].as_array().unwrap().len()), (&json!(true), 8));
        assert_eq!(report["artifact_digest"], sample().manifest_digest.to_string());
        assert_eq!(
            report["policy_fingerprint"],
            "sha256:7dc5aaf3d86c4578ad5f5526cee94041ebe67af5e4a34251ba15ae484c48af53"
        );
    }
}

#[test]
fn a_policy_that_refuses_exits_with_6_and_shows_the_report() {
    let (bench, registry) = (Bench::new(), registry());
    let pin = sample().manifest_digest.to_string();
    let layer = sample().layer_digest().to_string();
    for (policy, first) in [
        (json!({ "deny_digests": [pin] }), "digest_allowed"),
        // Row 37: the bytes are denied, whatever the manifest around them is.
        (json!({ "deny_digests": [layer] }), "digest_allowed"),
        (json!({ "allowed_media_types": ["application/json"] }), "media_type_allowed"),
        (json!({ "trusted_issuers": ["acme"], "environment": "Prod" }), "issuer_allowed"),
        (json!({ "minimum_operator_version": "1.0.0", "environment": "Staging" }), "operator_version_compatible"),
        (json!({ "require_signature": true, "environment": "Prod" }), "signature_present"),
        (json!({ "require_sbom": true }), "sbom_present"),
    ] {
        let path = document(&bench, "policy.json", &policy);
        let outcome = bench.run(["--json", "verify", &registry.reference(), "--policy", &path]);
        let error = error_of(&outcome, 6, "policy");
        let checks = outcome.json()["results"]["checks"].as_array().unwrap().clone();
        let failed = checks.iter().find(|check| check["outcome"] == "Failed").unwrap().clone();
        assert_eq!((failed["name"].as_str(), &error["message"]), (Some(first), &failed["detail"]));
        assert!(error["reference"].as_str().unwrap().contains(&pin));
        let outcome = bench.run(["verify", &registry.reference(), "--policy", &path]);
        outcome.expect_code(6);
        assert!(outcome.stdout.lines().any(|line| line.starts_with("failed   ") && line.contains(first)));
    }
}

#[test]
fn the_environment_of_the_command_line_goes_before_that_of_the_policy() {
    let (bench, registry) = (Bench::new(), registry());
    let policy = document(&bench, "policy.json", &json!({ "require_signature": true, "environment": "Prod" }));
    for (environment, exit) in [("dev", 0), ("staging", 6), ("prod", 6)] {
        bench.run(["verify", &registry.reference(), "--policy", &policy, "--env", environment]).expect_code(exit);
    }
    bench.run(["verify", &registry.reference(), "--policy", &policy]).expect_code(6);
    bench.run(["verify", &registry.reference(), "--env", "production"]).expect_code(2);
}

#[test]
fn row_37_the_same_bytes_in_another_wrapping_are_denied() {
    let bytes = random_bytes(4, 900);
    let one = artifact_of(vec![Blob::new(WASM_TYPE, bytes.clone())], &[]);
    let two = artifact_of(vec![Blob::new(WASM_TYPE, bytes)], &[("new", "wrapping")]);
    let registry = Scenario::new(one.clone()).start();
    registry.publish(&two, "two");
    let bench = Bench::new();
    let advisory = {
        let mut advisory = advisory("1", 5);
        advisory["deny_digests"] = json!([one.layer_digest().to_string()]);
        document(&bench, "advisory.json", &advisory)
    };
    for reference in [registry.reference(), registry.reference_to("two")] {
        let outcome = bench.run(["--json", "verify", &reference, "--advisory", &advisory]);
        error_of(&outcome, 6, "policy");
    }
}

#[test]
fn row_38_documents_that_cannot_be_read_are_refused_before_anything_is_fetched() {
    let (bench, registry) = (Bench::new(), registry());
    let hex = "ab".repeat(32);
    for policy in [
        String::new(),
        "[]".to_owned(),
        r#"{"deny_digest":[]}"#.to_owned(),
        r#"{"require_signature":"yes"}"#.to_owned(),
        r#"{"environment":"production"}"#.to_owned(),
        r#"{"require_sbom":true,"require_sbom":false}"#.to_owned(),
        format!(r#"{{"deny_digests":["SHA256:{hex}"]}}"#),
        format!(r#"{{"deny_digests":["{hex}"]}}"#),
        format!(r#"{{"deny_digests":[" sha256:{hex}"]}}"#),
        format!(r#"{{"deny_digests":["sha256:{hex}","sha256:zz"]}}"#),
        r#"{"deny_issuers":[""]}"#.to_owned(),
        r#"{"minimum_operator_version":"v1"}"#.to_owned(),
        " ".repeat((1 << 20) + 1),
    ] {
        let path = text(&bench, "policy.json", &policy);
        for command in [["verify", &registry.reference()].to_vec(), ["bundle", "stage", &registry.reference()].to_vec()]
        {
            let outcome = bench.dist(["--json"]).args(&command).args(["--policy", &path]).output();
            let error = error_of(&outcome, 2, "invalid_input");
            assert!(error["message"].as_str().unwrap().contains("policy.json"), "{error}");
        }
    }
    let with = |field: &str, value: Value| {
        let mut advisory = advisory("1", 5);
        advisory[field] = value;
        advisory.to_string()
    };
    for advisory in [
        "{}".to_owned(),
        with("deny_digests", json!([format!("SHA256:{hex}")])),
        with("minimum_operator_version", json!("one")),
        with("issued_at", json!(-1)),
    ] {
        let path = text(&bench, "advisory.json", &advisory);
        let outcome = bench.run(["--json", "verify", &registry.reference(), "--advisory", &path]);
        let error = error_of(&outcome, 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().contains("advisory.json"), "{error}");
    }
    let missing = bench.path().join("missing.json").display().to_string();
    error_of(&bench.run(["--json", "verify", &registry.reference(), "--policy", &missing]), 3, "not_found");
    let directory = bench.path().display().to_string();
    error_of(&bench.run(["--json", "verify", &registry.reference(), "--policy", &directory]), 2, "invalid_input");
    assert_eq!(registry.server().connections(), 0);
    assert!(!bench.cache().exists());
}

#[test]
fn row_39_an_advisory_that_is_not_current_exits_with_6_in_production_and_warns_in_development() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let pin = sample().manifest_digest.to_string();
    let run = |advisory: &Value, environment: &str| {
        let path = document(&bench, "advisory.json", advisory);
        bench.run(["--json", "--offline", "verify", &pin, "--advisory", &path, "--env", environment])
    };
    let mut expired = advisory("1", 5);
    expired["expires_at"] = json!(now() - 1);
    let future = advisory("9", now() + 86_400);
    for stale in [&expired, &future] {
        let outcome = run(stale, "prod");
        error_of(&outcome, 6, "policy");
        let failed = outcome.json()["results"]["checks"][4].clone();
        assert_eq!((&failed["name"], &failed["outcome"]), (&json!("advisory_current"), &json!("Failed")));
        run(stale, "dev").expect_code(0);
    }
    // An older one after a younger one, in the same place, as a mirror that is frozen or rolled back serves it.
    run(&advisory("2", 1_000), "prod").expect_code(0);
    error_of(&run(&advisory("1", 999), "prod"), 6, "policy");
    let warned = run(&advisory("1", 999), "dev");
    assert!(warned.json()["warnings"].to_string().contains("seen already"));
    run(&advisory("3", 1_001), "prod").expect_code(0);
}

#[test]
fn wrong_bytes_exit_with_8_and_what_is_not_there_with_3_or_4() {
    let (bench, registry) = (Bench::new(), registry());
    let path = bench.pull(&registry.reference());
    let pin = sample().manifest_digest.to_string();
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![7; 200_000]).unwrap();
    let outcome = bench.run(["--json", "verify", &pin]);
    error_of(&outcome, 8, "integrity");
    let failed = outcome.json()["results"]["checks"][4].clone();
    assert_eq!((&failed["name"], &failed["outcome"]), (&json!("content_digest_match"), &json!("Failed")));
    // It is marked, and still says so.
    error_of(&bench.run(["--json", "--offline", "verify", &pin]), 8, "integrity");
    error_of(&bench.run(["--json", "--offline", "pull", &pin]), 8, "integrity");
    // A reference heals it.
    bench.run(["verify", &registry.reference()]).expect_code(0);
    let unknown = format!("sha256:{}", "0".repeat(64));
    error_of(&bench.run(["--json", "verify", &unknown]), 3, "not_found");
    error_of(&bench.run(["--json", "--offline", "verify", &registry.reference_to("never")]), 4, "offline");
    error_of(&bench.run(["--json", "verify", "sha256:zz"]), 2, "invalid_input");
}
