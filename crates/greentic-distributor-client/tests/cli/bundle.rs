//! `bundle stage|warm|rollback|ls|show|state`.

use std::fs;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::scenario::LyingRegistry;
use serde_json::json;

use crate::support::{Bench, error_of, registry, sample};
use crate::verify::document;

fn id() -> String {
    format!("bundle:{}", sample().manifest_digest)
}

fn staged() -> (Bench, LyingRegistry) {
    let (bench, registry) = (Bench::new(), registry());
    bench.run(["bundle", "stage", &registry.reference()]).expect_code(0);
    (bench, registry)
}

#[test]
fn a_bundle_lives_its_life_from_the_command_line() {
    let (bench, registry) = (Bench::new(), registry());
    assert_eq!(bench.run(["bundle", "ls"]).expect_code(0).stdout, "");
    assert_eq!(bench.run(["--json", "bundle", "ls"]).expect_code(0).json(), json!([]));
    let outcome = bench.run(["bundle", "stage", &registry.reference(), "--tenant", "acme", "--access-mode", "mount"]);
    assert_eq!(outcome.expect_code(0).line(), id());
    assert!(outcome.stderr.contains("warning: the issuer is missing"), "{}", outcome.stderr);
    drop(registry);

    let state = |args: &[&str]| bench.dist(["bundle", "state"]).arg(id()).args(args).output();
    let line = |state: &str, outcome: &greentic_dist_testkit::process::Outcome| {
        assert!(outcome.expect_code(0).line().starts_with(&format!("{} {state}", id())), "{}", outcome.stdout);
    };
    line("warming", &state(&["warming", "--from", "staged"]));
    let warmed = bench.run(["--offline", "bundle", "warm", &id()]);
    assert!(warmed.expect_code(0).line().starts_with(&format!("{} userspace ", id())), "{}", warmed.stdout);
    line("ready", &state(&["ready", "--from", "warming"]));
    let back = bench.run(["--offline", "bundle", "rollback", &id()]);
    assert_eq!(fs::read(back.expect_code(0).line()).unwrap(), sample().layer_bytes());
    line("draining", &state(&["draining"]));
    line("inactive", &state(&["inactive", "--from", "draining", "--dry-run"]));
    let listed = bench.run(["bundle", "ls"]);
    assert!(listed.expect_code(0).line().starts_with(&format!("{} draining oci://", id())), "{}", listed.stdout);
    let shown = bench.run(["bundle", "show", &id()]);
    shown.expect_code(0);
    for line in [format!("bundle: {}", id()), "state: draining".to_owned(), "size: 200000 bytes".to_owned()] {
        assert!(shown.stdout.lines().any(|shown| shown == line), "{line}\n{}", shown.stdout);
    }
    bench.assert_nothing_outside_changed();
}

#[test]
fn json_is_the_result_of_the_library() {
    let (bench, registry) = (Bench::new(), registry());
    let staged = bench.run(["--json", "bundle", "stage", &registry.reference(), "--team", "blue"]);
    let staged = staged.expect_code(0).json();
    let pin = sample().manifest_digest.to_string();
    assert_eq!((&staged["bundle_id"], &staged["digest"]), (&json!(id()), &json!(pin)));
    assert_eq!((&staged["lifecycle_state"], &staged["fetched"]), (&json!("Staged"), &json!(true)));
    assert_eq!(staged["content_digest"], sample().layer_digest().to_string());
    assert_eq!(staged["stage_audit_fields"]["team"], "blue");
    assert_eq!(staged["verification_report"]["passed"], true);
    assert_eq!(staged["cache_entry"]["digest"], pin);
    let warmed = bench.run(["--json", "bundle", "warm", &id(), "--dry-run", "--smoke-test"]);
    let warmed = warmed.expect_code(0).json();
    assert_eq!((&warmed["bundle_open_mode"], &warmed["errors"]), (&json!("CacheReuse"), &json!([])));
    let back = bench.run(["--json", "bundle", "rollback", &id(), "--expect", &pin]).expect_code(0).json();
    assert_eq!(back["rollback_audit_fields"]["expected_cache_key"], pin);
    let record = json!({
        "bundle_id": id(), "cache_key": pin, "canonical_ref": staged["canonical_ref"], "source_kind": "Oci",
        "fetched_at": staged["cache_entry"]["fetched_at"], "lifecycle_state": "Staged",
    });
    assert_eq!(bench.run(["--json", "bundle", "ls"]).expect_code(0).json(), json!([record]));
    let shown = bench.run(["--json", "bundle", "show", &id()]).expect_code(0).json();
    assert_eq!((&shown["bundle"], &shown["cache_entry"]["state"]), (&record, &json!("Ready")));
    let mut ready = record;
    ready["lifecycle_state"] = json!("Ready");
    assert_eq!(bench.run(["--json", "bundle", "state", &id(), "ready"]).expect_code(0).json(), ready);
}

#[test]
fn failures_exit_with_the_code_of_their_kind() {
    let (bench, registry) = staged();
    let unknown = format!("bundle:sha256:{}", "0".repeat(64));
    for command in [["warm"].as_slice(), &["rollback"], &["show"]] {
        let outcome = bench.dist(["--json", "bundle"]).args(command).arg(&unknown).output();
        error_of(&outcome, 3, "not_found");
    }
    error_of(&bench.run(["--json", "bundle", "state", &unknown, "ready"]), 3, "not_found");
    let other = format!("sha256:{}", "1".repeat(64));
    error_of(&bench.run(["--json", "bundle", "rollback", &id(), "--expect", &other]), 2, "invalid_input");
    error_of(&bench.run(["--json", "bundle", "state", &id(), "ready", "--from", "staged"]), 6, "policy");
    error_of(&bench.run(["--json", "bundle", "state", &id(), "ready", "--from", "staged", "--dry-run"]), 6, "policy");
    error_of(&bench.run(["--json", "bundle", "state", &id(), "ready", "--from", "warming"]), 6, "policy");
    error_of(&bench.run(["--json", "--offline", "bundle", "stage", &registry.reference_to("never")]), 4, "offline");
    let policy = document(&bench, "policy.json", &json!({ "deny_digests": [sample().manifest_digest.to_string()] }));
    for command in [["stage", &registry.reference()], ["warm", &id()], ["rollback", &id()]] {
        let outcome = bench.dist(["--json", "bundle"]).args(command).args(["--policy", &policy]).output();
        let error = error_of(&outcome, 6, "policy");
        assert!(error["message"].as_str().unwrap().contains("denied"), "{error}");
        assert_eq!(outcome.json()["results"]["passed"], false);
    }
    let blob = bench.cache().join(sample().manifest_digest.to_hex()).join("component.wasm");
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![7; 200_000]).unwrap();
    error_of(&bench.run(["--json", "bundle", "warm", &id()]), 8, "integrity");
    error_of(&bench.run(["--json", "bundle", "rollback", &id()]), 8, "integrity");
    bench.run(["bundle", "stage", &registry.reference()]).expect_code(0);
    bench.run(["bundle", "warm", &id()]).expect_code(0);
}

#[test]
fn row_74_ids_that_mean_harm_exit_with_2_and_touch_nothing() {
    // Row 74.
    let (bench, _registry) = staged();
    let before = TreeSnapshot::of(&bench.cache());
    let absolute = format!("bundle:{}", bench.sentinel().display());
    for bad in
        ["", "x", "..", "../../x", "bundle:", "bundle:../../x", "bundle:sha256:zz", "bundle:sha256:../x", &absolute]
    {
        for command in [["warm"].as_slice(), &["rollback"], &["show"]] {
            let outcome = bench.dist(["--json", "bundle"]).args(command).args(["--", bad]).output();
            error_of(&outcome, 2, "invalid_input");
        }
        error_of(&bench.run(["--json", "bundle", "state", "--", bad, "ready"]), 2, "invalid_input");
    }
    before.assert_unchanged(&bench.cache());
    bench.assert_nothing_outside_changed();
}

#[test]
fn row_74_a_malformed_record_exits_with_10_and_is_named_and_kept() {
    // Row 74.
    let (bench, registry) = staged();
    let dir = bench.cache().join("bundles");
    let path = dir.join(format!("bundle__sha256__{}.json", sample().manifest_digest.to_hex()));
    let good = fs::read_to_string(&path).unwrap();
    let hex = "0".repeat(64);
    let foreign = dir.join("index.json");
    for bad in [
        "junk".to_owned(),
        good.replace(&sample().manifest_digest.to_hex(), &hex),
        good.replace("\"cache_key\": \"sha256:", "\"cache_key\": \"sha256:../../"),
        good.replace("Staged", "Lost"),
    ] {
        fs::write(&path, &bad).unwrap();
        let show = ["--json", "bundle", "show", &id()];
        for outcome in
            [bench.run(show), bench.run(["--json", "bundle", "ls"]), bench.run(["--json", "bundle", "rollback", &id()])]
        {
            let error = error_of(&outcome, 10, "internal");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        error_of(&bench.run(["--json", "bundle", "stage", &registry.reference()]), 10, "internal");
        error_of(&bench.run(["--json", "bundle", "state", &id(), "inactive"]), 10, "internal");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    fs::write(&path, &good).unwrap();
    fs::write(&foreign, &good).unwrap();
    let error = error_of(&bench.run(["--json", "bundle", "ls"]), 10, "internal");
    assert!(error.to_string().contains(foreign.to_str().unwrap()), "{error}");
    fs::rename(&foreign, dir.join(".DS_Store")).unwrap();
    bench.run(["bundle", "ls"]).expect_code(0);
}

#[test]
fn a_record_whose_artifact_is_gone_is_shown_and_misses_with_3() {
    // Row 74.
    let (bench, registry) = staged();
    fs::remove_dir_all(bench.cache().join(sample().manifest_digest.to_hex())).unwrap();
    let shown = bench.run(["bundle", "show", &id()]);
    assert!(shown.expect_code(0).stdout.contains("artifact: not in the cache"));
    error_of(&bench.run(["--json", "bundle", "warm", &id()]), 3, "not_found");
    bench.run(["bundle", "stage", &registry.reference()]).expect_code(0);
    bench.run(["bundle", "warm", &id()]).expect_code(0);
}
