//! `components`: what a pack manifest names, fetched and listed.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::scenario::LyingRegistry;
use serde_json::{Value, json};

use crate::support::{Bench, error_of, registry};

/// Writes a pack manifest with these references and returns its path.
fn manifest(bench: &Bench, refs: &[String], mode: &str) -> PathBuf {
    let path = bench.path().join("pack.json");
    let document =
        json!({ "id": "acme.pack", "extensions": { "greentic.components": { "refs": refs, "mode": mode } } });
    fs::write(&path, document.to_string()).unwrap();
    path
}

fn published(registry: &LyingRegistry, count: u64) -> Vec<fixture::Artifact> {
    (0..count)
        .map(|number| {
            let artifact = fixture::artifact(fixture::WASM_TYPE, fixture::random_bytes(50 + number, 4_000));
            registry.publish(&artifact, &format!("n{number}"));
            artifact
        })
        .collect()
}

#[test]
fn components_are_fetched_and_printed_in_the_order_of_the_manifest_also_offline() {
    let (bench, registry) = (Bench::new(), registry());
    let artifacts = published(&registry, 3);
    let refs: Vec<String> = artifacts.iter().map(|artifact| registry.pinned_to(artifact.manifest_digest)).collect();
    // Fetching asks for all of them, whatever the mode.
    let manifest = manifest(&bench, &refs, "lazy");
    let manifest = manifest.to_str().unwrap();
    let outcome = bench.run(["components", "fetch", manifest]);
    outcome.expect_code(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, artifact) in lines.iter().zip(&artifacts) {
        let (digest, path) = line.split_once(' ').unwrap();
        assert_eq!(digest, artifact.manifest_digest.to_string());
        assert_eq!(fs::read(path).unwrap(), artifact.layer_bytes());
    }
    registry.journal().clear();
    let offline = bench.run(["--offline", "components", "fetch", manifest]);
    assert_eq!(offline.expect_code(0).stdout, outcome.stdout);
    assert!(registry.journal().is_empty());

    let document = bench.run(["--json", "components", "fetch", manifest]).json();
    let first = &document[0];
    assert_eq!(document.as_array().unwrap().len(), 3);
    assert_eq!((&first["reference"], &first["fetched"]), (&json!(refs[0]), &json!(false)));
    assert_eq!((&first["size_bytes"], &first["media_type"]), (&json!(4_000), &json!("application/wasm")));
    assert_eq!(first["digest"], first["manifest_digest"]);
    assert!(first["cache_path"].as_str().unwrap().ends_with("component.wasm"));
}

#[test]
fn a_listing_tells_digests_and_sizes_and_moves_nothing() {
    let (bench, registry) = (Bench::new(), registry());
    let artifacts = published(&registry, 2);
    let refs = ["n0", "n1"].map(|tag| registry.reference_to(tag));
    let manifest = manifest(&bench, &refs, "eager");
    let manifest = manifest.to_str().unwrap();
    let refused = bench.run(["--json", "components", "ls", manifest]);
    let error = error_of(&refused, 2, "invalid_input");
    assert!(error["hints"].to_string().contains("--allow-tags"), "{error}");
    let outcome = bench.run(["components", "ls", "--allow-tags", manifest]);
    let expected: Vec<String> =
        artifacts.iter().map(|artifact| format!("{} 4000 application/wasm", artifact.manifest_digest)).collect();
    assert_eq!(outcome.expect_code(0).stdout.lines().collect::<Vec<_>>(), expected);
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    assert!(!bench.cache().exists());
}

#[test]
fn every_failure_is_told_the_worst_decides_and_what_was_brought_stays() {
    let (bench, registry) = (Bench::new(), registry());
    let artifacts = published(&registry, 1);
    let refs = [
        registry.reference_to("missing"),
        registry.pinned_to(artifacts[0].manifest_digest),
        "not a reference".to_owned(),
    ];
    let manifest = manifest(&bench, &refs, "eager");
    let manifest = manifest.to_str().unwrap();
    let outcome = bench.run(["--json", "components", "fetch", "--allow-tags", manifest]);
    outcome.expect_code(3);
    let document = outcome.json();
    assert_eq!(document["error"]["reference"], refs[0]);
    assert!(document["error"]["causes"][0].as_str().unwrap().contains("manifest unknown"), "{document}");
    let told: Vec<Option<i64>> =
        document["results"].as_array().unwrap().iter().map(|result| result["error"]["exit"].as_i64()).collect();
    assert_eq!(told, [Some(3), None, Some(2)]);
    assert!(
        outcome.stderr.contains("not a reference") && outcome.stderr.contains("1 of 3 components"),
        "{}",
        outcome.stderr
    );

    let plain = bench.run(["components", "fetch", "--allow-tags", manifest]);
    plain.expect_code(3);
    assert!(plain.stdout.starts_with(&format!("{} ", artifacts[0].manifest_digest)), "{}", plain.stdout);
    // A reference that is none stays one, online or not.
    let offline = bench.run(["--offline", "components", "fetch", "--allow-tags", manifest]);
    offline.expect_code(2);
}

#[test]
fn a_failure_that_passes_by_itself_hides_none_that_does_not() {
    let (bench, registry) = (Bench::new(), registry());
    let refs = [
        "127.0.0.1:1/acme/hello:1".to_owned(),
        registry.reference_to("missing"),
        "not a reference".to_owned(),
        registry.reference_to("gone"),
    ];
    let manifest = manifest(&bench, &refs, "eager");
    let outcome = bench.run(["--json", "components", "ls", "--allow-tags", manifest.to_str().unwrap()]);
    let error = error_of(&outcome, 3, "not_found");
    assert_eq!(error["reference"], refs[1]);
    // The others in the order of the manifest, before the one that decides.
    let places: Vec<_> =
        [0, 2, 3, 1].map(|at: usize| outcome.stderr.find(&format!("`{}`", refs[at])).unwrap()).to_vec();
    assert!(places.is_sorted(), "{}", outcome.stderr);
}

#[test]
fn a_file_that_is_no_pack_manifest_is_refused_and_one_without_components_names_none() {
    let bench = Bench::new();
    let path = bench.path().join("pack.json");
    let run = |json: bool| {
        let path = path.to_str().unwrap();
        if json { bench.run(["--json", "components", "fetch", path]) } else { bench.run(["components", "fetch", path]) }
    };
    error_of(&run(true), 3, "not_found");
    for wrong in ["", "[]", "{", r#"{"extensions":{"greentic.components":{"refs":"x"}}}"#] {
        fs::write(&path, wrong).unwrap();
        let error = error_of(&run(true), 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().contains("pack.json"), "{error}");
    }
    fs::write(&path, vec![b' '; (4 << 20) + 1]).unwrap();
    error_of(&run(true), 2, "invalid_input");
    for none in ["{}", r#"{"extensions":{}}"#, r#"{"extensions":{"greentic.components":{"refs":[]}}}"#] {
        fs::write(&path, none).unwrap();
        assert_eq!(run(true).expect_code(0).json(), Value::Array(Vec::new()));
        assert_eq!(run(false).expect_code(0).stdout, "");
    }
}

#[test]
fn two_processes_that_want_the_same_components_move_each_once() {
    let (bench, registry) = (Bench::new(), registry());
    let artifacts = published(&registry, 24);
    let refs: Vec<String> = artifacts.iter().map(|artifact| registry.pinned_to(artifact.manifest_digest)).collect();
    let manifest = manifest(&bench, &refs, "eager");
    let manifest = manifest.to_str().unwrap();
    let outcomes: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.run(["components", "fetch", manifest]))).collect();
        runs.into_iter().map(|run| run.join().unwrap().expect_code(0).stdout.clone()).collect()
    });
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].lines().count(), 24);
    assert_eq!(registry.journal().count_containing("/blobs/"), 24, "each layer came once");
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let (bench, registry) = (Bench::new(), registry());
    let artifacts = published(&registry, 64);
    let refs: Vec<String> = artifacts.iter().map(|artifact| registry.pinned_to(artifact.manifest_digest)).collect();
    let manifest = manifest(&bench, &refs, "eager");
    let manifest = manifest.to_str().unwrap();
    let is_here = |artifact: &fixture::Artifact| {
        bench.cache().join(artifact.manifest_digest.to_hex()).join("component.wasm").exists()
    };
    let running = bench.dist(["components", "fetch", manifest]).spawn();
    running.kill_when(|| artifacts.iter().any(is_here));
    let here: Vec<bool> = artifacts.iter().map(is_here).collect();
    registry.journal().clear();
    let outcome = bench.run(["components", "fetch", manifest]);
    assert_eq!(outcome.expect_code(0).stdout.lines().count(), 64);
    let asked = registry.journal().lines();
    for (artifact, was_here) in artifacts.iter().zip(here) {
        let line = format!("GET /v2/acme/hello/blobs/{}", artifact.layer_digest());
        let times = asked.iter().filter(|asked| **asked == line).count();
        assert!(times <= usize::from(!was_here), "{times} times, here before: {was_here}");
    }
}
