//! Looking after the cache: `cache stat|size|verify|rm|gc` and `retention plan|apply`.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::TreeSnapshot;
use greentic_distributor_client::dist::{DistClient, DistOptions, RetentionInput};
use serde_json::{Value, json};

use crate::support::{Bench, error_of};

/// Pulls a file with these bytes; its digest and the path of its artifact.
fn keep(bench: &Bench, name: &str, bytes: &[u8]) -> (String, PathBuf) {
    let path = bench.path().join(name);
    fs::write(&path, bytes).unwrap();
    let document = bench.run(["--json", "pull", path.to_str().unwrap()]).expect_code(0).json();
    fs::remove_file(&path).unwrap();
    (document["digest"].as_str().unwrap().to_owned(), document["cache_path"].as_str().unwrap().into())
}

fn damage(artifact: &PathBuf) {
    let mut bytes = fs::read(artifact).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(artifact).unwrap();
    fs::write(artifact, bytes).unwrap();
}

fn put_bundle(bench: &Bench, digest: &str, state: &str) -> PathBuf {
    let dir = bench.cache().join("bundles");
    fs::create_dir_all(&dir).unwrap();
    let record = json!({
        "bundle_id": format!("bundle:{digest}"), "cache_key": digest, "canonical_ref": "x", "source_kind": "File",
        "fetched_at": 1, "lifecycle_state": state,
    });
    let path = dir.join(format!("bundle__{}.json", digest.replace(':', "__")));
    fs::write(&path, record.to_string()).unwrap();
    path
}

fn digests(outcome: &Value, decision: &str) -> Vec<String> {
    let of = |one: &Value| one["cache_key"].as_str().unwrap().to_owned();
    outcome["decisions"].as_array().unwrap().iter().filter(|one| one["decision"] == decision).map(of).collect()
}

#[test]
fn stat_tells_what_the_record_says_and_changes_nothing() {
    let bench = Bench::new();
    let (digest, path) = keep(&bench, "one.wasm", b"one");
    let before = TreeSnapshot::of(&bench.cache());
    let document = bench.run(["cache", "stat", &digest, "--json"]).expect_code(0).json();
    assert_eq!(
        (&document["digest"], &document["size_bytes"], &document["state"]),
        (&json!(digest), &json!(3), &json!("Ready"))
    );
    assert_eq!(document["local_path"], path.to_str().unwrap());
    let outcome = bench.run(["cache", "stat", digest.strip_prefix("sha256:").unwrap()]);
    assert!(outcome.expect_code(0).stdout.contains(&format!("digest: {digest}\n")), "{}", outcome.stdout);
    before.assert_unchanged(&bench.cache());
    let unknown = format!("sha256:{}", "0".repeat(64));
    error_of(&bench.run(["--json", "cache", "stat", &unknown]), 3, "not_found");
    error_of(&bench.run(["--json", "cache", "stat", "../x"]), 2, "invalid_input");
}

#[test]
fn size_tells_what_there_is_and_the_cap() {
    let bench = Bench::new();
    let empty = bench.run(["cache", "size", "--json"]).expect_code(0).json();
    assert_eq!((&empty["entries"], &empty["artifact_bytes"]), (&json!(0), &json!(0)));
    assert!(!bench.cache().exists());
    keep(&bench, "one.wasm", &[1; 3000]);
    keep(&bench, "two.wasm", &[2; 2000]);
    let document = bench.dist(["cache", "size", "--json"]).env("GREENTIC_CACHE_MAX_BYTES", "10000").output();
    let document = document.expect_code(0).json();
    for (name, value) in [("entries", 2), ("artifact_bytes", 5000), ("max_bytes", 10_000), ("trash_bytes", 0)] {
        assert_eq!(document[name], value, "{name}");
    }
    let outcome = bench.run(["cache", "size"]);
    assert!(
        outcome.expect_code(0).stdout.starts_with("entries: 2\nartifacts: 4.8 KiB\ncap: 3.0 GiB\n"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn verify_hashes_everything_and_exits_with_8_for_damage() {
    let bench = Bench::new();
    let (good, _) = keep(&bench, "good.wasm", b"good");
    let (bad, path) = keep(&bench, "bad.wasm", b"bad!");
    let whole = bench.run(["cache", "verify", "--json"]).expect_code(0).json();
    assert_eq!((&whole["checked"], &whole["bytes"], &whole["damaged"]), (&json!(2), &json!(8), &json!([])));
    damage(&path);
    let before = TreeSnapshot::ignoring(&bench.cache(), &["locks"]);
    let outcome = bench.run(["cache", "verify", "--json"]);
    error_of(&outcome, 8, "integrity");
    let report = &outcome.json()["results"];
    assert_eq!((&report["checked"], &report["bytes"]), (&json!(2), &json!(4)));
    assert_eq!(report["damaged"][0]["digest"], bad);
    assert_eq!(report["damaged"][0]["repaired"], false);
    let outcome = bench.run(["cache", "verify"]);
    assert_eq!(outcome.expect_code(8).line(), bad);
    assert!(outcome.stderr.contains("--repair"), "{}", outcome.stderr);
    bench.run(["cache", "verify", &good]).expect_code(0);
    bench.run(["cache", "verify", &good, &bad]).expect_code(8);
    before.assert_unchanged(&bench.cache());
    error_of(&bench.run(["--json", "cache", "verify", &format!("sha256:{}", "0".repeat(64))]), 3, "not_found");
}

#[test]
fn verify_with_repair_puts_the_damaged_aside_and_nothing_else() {
    let bench = Bench::new();
    let (good, _) = keep(&bench, "good.wasm", b"good");
    let (bad, path) = keep(&bench, "bad.wasm", b"bad!");
    damage(&path);
    let report = bench.run(["cache", "verify", "--repair", "--json"]).expect_code(0).json();
    assert_eq!((&report["damaged"][0]["digest"], &report["damaged"][0]["repaired"]), (&json!(bad), &json!(true)));
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!([good]));
    assert_eq!(fs::read_dir(bench.cache().join("quarantine")).unwrap().count(), 1);
    bench.run(["cache", "verify"]).expect_code(0);
    // And it comes back.
    assert_eq!(keep(&bench, "bad.wasm", b"bad!").0, bad);
    bench.run(["cache", "verify"]).expect_code(0);
}

#[test]
fn dry_runs_of_rm_and_gc_say_what_would_go_and_change_nothing() {
    let bench = Bench::new();
    let (one, path) = keep(&bench, "one.wasm", b"one");
    let (gone, gone_path) = keep(&bench, "gone.wasm", b"gone");
    put_bundle(&bench, &gone, "Staged");
    fs::remove_dir_all(gone_path.parent().unwrap()).unwrap();
    fs::create_dir_all(bench.cache().join("tmp/dead")).unwrap();
    let before = TreeSnapshot::ignoring(&bench.cache(), &[]);
    let rm = bench.run(["cache", "rm", "--dry-run", "--json", &one]).expect_code(0).json();
    assert_eq!((&rm["evicted"], &rm["bytes_reclaimed"]), (&json!(1), &json!(3)));
    assert!(bench.run(["cache", "rm", "--dry-run", &one]).stderr.contains("would remove 1 artifacts (3 B)"));
    assert_eq!(bench.run(["cache", "gc", "--dry-run", "--json"]).expect_code(0).json(), json!([gone]));
    assert!(bench.run(["cache", "gc", "--dry-run"]).stderr.contains(&format!("would remove {gone}")));
    let after = TreeSnapshot::ignoring(&bench.cache(), &[]);
    assert_eq!(before.diff(&after), [""; 0]);
    assert_eq!(bench.run(["cache", "gc", "--json"]).expect_code(0).json(), json!([gone]));
    bench.run(["cache", "rm", &one]).expect_code(0);
    assert!(!path.exists());
    // A cache that is not there stays so.
    fs::remove_dir_all(bench.cache()).unwrap();
    for args in [["cache", "gc", "--dry-run"], ["cache", "rm", "--dry-run"]] {
        bench.run(args).expect_code(0);
    }
    bench.run(["retention", "plan"]).expect_code(0);
    assert!(!bench.cache().exists());
}

#[test]
fn rm_leaves_a_bundle_in_use_unless_it_is_forced() {
    let bench = Bench::new();
    let (one, path) = keep(&bench, "one.wasm", b"one");
    let record = put_bundle(&bench, &one, "Ready");
    let outcome = bench.run(["cache", "rm", "--json", &one]);
    let report = outcome.expect_code(0).json();
    assert_eq!((&report["evicted"], &report["kept"], &report["protected"]), (&json!(0), &json!(1), &json!(1)));
    assert_eq!(report["refusals"], json!([one]));
    assert!(outcome.stderr.contains("--force") && path.exists(), "{}", outcome.stderr);
    bench.run(["cache", "rm", "--force", &one]).expect_code(0);
    assert!(!path.exists() && !record.exists());
}

#[test]
fn retention_plans_without_touching_and_applies_what_it_planned() {
    let bench = Bench::new();
    let (first, first_path) = keep(&bench, "first.wasm", &[1; 1000]);
    let (second, _) = keep(&bench, "second.wasm", &[2; 1000]);
    let (third, _) = keep(&bench, "third.wasm", &[3; 1000]);
    put_bundle(&bench, &first, "Ready");
    let before = TreeSnapshot::ignoring(&bench.cache(), &[]);
    let plan = bench.run(["retention", "plan", "--max-bytes", "2kb", "--json"]).expect_code(0).json();
    assert_eq!(digests(&plan, "Evict"), std::slice::from_ref(&second));
    assert_eq!(digests(&plan, "Protect"), std::slice::from_ref(&first));
    assert_eq!(plan["report"]["evicted"], 1);
    let outcome = bench.run(["retention", "plan", "--max-bytes", "2kb"]);
    assert_eq!(outcome.expect_code(0).line(), format!("{second} cache_budget"));
    assert!(outcome.stderr.contains("would evict 1 of 3 artifacts (1000 B); 1 are protected"), "{}", outcome.stderr);
    let dry = bench.run(["retention", "apply", "--dry-run", "--max-bytes", "2kb", "--json"]).expect_code(0).json();
    assert_eq!(dry["report"], plan["report"]);
    let after = TreeSnapshot::ignoring(&bench.cache(), &[]);
    assert_eq!(before.diff(&after), [""; 0]);

    let applied = bench.run(["retention", "apply", "--max-bytes", "2kb", "--json"]).expect_code(0).json();
    assert_eq!((&applied["report"]["evicted"], &applied["report"]["bytes_reclaimed"]), (&json!(1), &json!(1000)));
    let mut left = [first, third.clone()];
    left.sort();
    assert_eq!(bench.run(["cache", "ls", "--json"]).json(), json!(left));
    assert!(first_path.exists());
    // Nothing asks for more; a cap of none evicts nothing; an age does.
    for limit in ["2kb", "0"] {
        let again = bench.run(["retention", "apply", "--max-bytes", limit, "--json"]).expect_code(0).json();
        assert_eq!(again["report"]["evicted"], 0);
    }
    let kept = bench.run(["retention", "plan", "--max-bytes", "1", "--keep-rollback", "2", "--env", "prod", "--json"]);
    assert_eq!(digests(&kept.expect_code(0).json(), "Evict"), Vec::<String>::new(), "{}", kept.stdout);
    let active = format!("bundle:{third}");
    let kept = bench.run(["retention", "plan", "--max-bytes", "1", "--active", &active, "--json"]).json();
    assert_eq!(digests(&kept, "Evict"), Vec::<String>::new());
}

#[test]
fn a_plan_of_the_command_line_is_the_one_of_the_library() {
    let bench = Bench::new();
    let digests: Vec<String> =
        (0..12_u8).map(|number| keep(&bench, &format!("{number}.wasm"), &[number; 1000]).0).collect();
    for (digest, state) in digests.iter().zip(["Staged", "Ready", "Inactive", "Warming", "Draining"]) {
        put_bundle(&bench, digest, state);
    }
    let record = |digest: &str| bench.cache().join(digest.strip_prefix("sha256:").unwrap()).join("entry.json");
    let torn = fs::read(record(&digests[6])).unwrap();
    fs::write(record(&digests[6]), &torn[..torn.len() / 2]).unwrap();
    let mut corrupt: Value = serde_json::from_slice(&fs::read(record(&digests[7])).unwrap()).unwrap();
    corrupt["state"] = json!("Corrupt");
    fs::write(record(&digests[7]), corrupt.to_string()).unwrap();
    let options = DistOptions { cache_dir: bench.cache(), offline: true, ..DistOptions::default() };
    let client = DistClient::new(options);
    for max_bytes in [0, 3_000, 9_000] {
        let input = RetentionInput {
            active_bundle_ids: vec![format!("bundle:{}", digests[8])],
            max_cache_bytes: max_bytes,
            minimum_rollback_depth: 1,
            ..client.retention_input().unwrap()
        };
        let told = client.evaluate_retention(&input).unwrap();
        let limit = max_bytes.to_string();
        let active = &input.active_bundle_ids[0];
        let args = ["retention", "plan", "--max-bytes", &limit, "--keep-rollback", "1", "--active", active, "--json"];
        let planned = bench.run(args).expect_code(0).json();
        assert_eq!(planned["report"], serde_json::to_value(&told.report).unwrap());
        // A second may pass between the two, so that words that tell an age are left out.
        let decided = |document: &Value| {
            let decisions = document["decisions"].as_array().unwrap();
            let fields = ["cache_key", "bundle_id", "decision", "reason_code"];
            decisions.iter().map(|decision| fields.map(|field| decision[field].clone())).collect::<Vec<_>>()
        };
        assert_eq!(decided(&planned), decided(&serde_json::to_value(&told).unwrap()));
    }
}

#[test]
fn retention_takes_only_limits_it_understands() {
    let bench = Bench::new();
    for args in [
        ["--max-bytes", "much"],
        ["--max-bytes", "-1"],
        ["--max-age", "1y"],
        ["--keep-rollback", "-1"],
        ["--env", "moon"],
        ["--active", "sha256:00"],
        ["--session", "bundle:../x"],
    ] {
        let [name, value] = args;
        let value = format!("{name}={value}");
        let outcome = bench.run(["--json", "retention", "apply", &value]);
        outcome.expect_code(2);
        assert_eq!(outcome.json()["error"]["code"], "invalid_input", "{args:?}");
    }
    assert!(!bench.cache().exists());
}

#[test]
fn a_bundle_record_that_cannot_be_read_stops_retention_and_not_a_pull() {
    let bench = Bench::new();
    let (one, path) = keep(&bench, "one.wasm", b"one");
    let record = put_bundle(&bench, &one, "Inactive");
    fs::write(&record, b"{").unwrap();
    let outcome = bench.run(["--json", "retention", "apply", "--max-bytes", "1"]);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.json()["error"]["message"].as_str().unwrap().contains("bundle__sha256__"), "{}", outcome.stdout);
    let other = bench.path().join("two.wasm");
    fs::write(&other, b"two").unwrap();
    let pull = bench.dist(["pull", other.to_str().unwrap()]).env("GREENTIC_CACHE_MAX_BYTES", "1").output();
    assert!(pull.expect_code(0).stderr.contains("not kept to its cap"), "{}", pull.stderr);
    assert!(path.exists() && record.exists());
}

#[test]
fn the_cap_of_the_environment_is_kept_from_one_pull_to_the_next() {
    let bench = Bench::new();
    for (name, bytes) in [("one", b"one....."), ("two", b"two....."), ("six", b"six.....")] {
        let path = bench.path().join(name);
        fs::write(&path, bytes).unwrap();
        let pull = bench.dist(["pull", path.to_str().unwrap()]).env("GREENTIC_CACHE_MAX_BYTES", "16").output();
        assert_eq!(fs::read(pull.expect_code(0).line()).unwrap(), bytes);
    }
    assert_eq!(bench.run(["cache", "size", "--json"]).json()["artifact_bytes"], 16);
}
