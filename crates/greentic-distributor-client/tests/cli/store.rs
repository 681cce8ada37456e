//! `greentic-dist store download`, against a store that is a registry on this machine.

use std::fs;
use std::process::Command;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::process::Run;
use greentic_dist_types::Digest;
use serde_json::json;

use crate::support::{BIN, Bench, CANARY, error_of};

const TOOLS: &[u8] = br#"{"tools":[]}"#;

/// A store with `catalogs/tools:1`: a JSON document beside a Wasm.
fn store() -> RunningRegistry {
    let registry = Registry::in_memory();
    let mut layers = Vec::new();
    for (kind, bytes) in [("application/wasm", &b"\0asm"[..]), ("application/vnd.acme.tools+json", TOOLS)] {
        let digest = registry.put_blob(bytes).unwrap();
        layers.push(json!({ "mediaType": kind, "digest": digest.to_string(), "size": bytes.len() }));
    }
    let config = registry.put_blob(&b"{}"[..]).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2 },
        "layers": layers,
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    registry.put_manifest("catalogs/tools", &["1"], kind, manifest.to_string().as_bytes()).unwrap();
    registry.start(([127, 0, 0, 1], 0).into()).unwrap()
}

fn download<const N: usize>(bench: &Bench, store: &RunningRegistry, args: [&str; N]) -> Run {
    let run =
        Run::new(BIN).arg("--cache-dir").arg(bench.cache()).args(["store", "download", "store://catalogs/tools:1"]);
    run.args(args).dir(bench.path()).env("GREENTIC_STORE_REGISTRY_BASE", store.host())
}

#[test]
fn the_json_of_a_store_is_saved_under_a_name_of_its_own_and_nothing_is_cached() {
    let (bench, store) = (Bench::new(), store());
    let saved = download(&bench, &store, []).output();
    saved.expect_code(0);
    assert!(saved.line().ends_with("tools.json"), "{}", saved.stdout);
    assert_eq!(fs::read(bench.path().join("tools.json")).unwrap(), TOOLS);
    assert!(!bench.cache().exists());

    let told = download(&bench, &store, ["--json", "--output", "below/it.json"]).output();
    told.expect_code(0);
    let document = told.json();
    assert_eq!(document["reference"], json!("store://catalogs/tools:1"));
    assert_eq!(document["media_type"], json!("application/vnd.acme.tools+json"));
    assert_eq!(document["size_bytes"], json!(TOOLS.len()));
    assert_eq!(document["content_digest"], json!(Digest::sha256(TOOLS).to_string()));
    assert_eq!(document["mapped_reference"], json!(format!("oci://{}/catalogs/tools:1", store.host())));
    assert!(document["canonical_ref"].as_str().unwrap().ends_with(document["digest"].as_str().unwrap()));
    assert_eq!(fs::read(bench.path().join("below/it.json")).unwrap(), TOOLS);
}

#[test]
fn row_77_a_file_that_is_there_a_link_and_a_directory_are_not_written_over() {
    let (bench, store) = (Bench::new(), store());
    fs::write(bench.path().join("kept"), "mine").unwrap();
    std::os::unix::fs::symlink("kept", bench.path().join("link")).unwrap();
    fs::create_dir(bench.path().join("dir")).unwrap();
    let before = TreeSnapshot::of(bench.path());
    for output in ["kept", "link", "dir", "/dev/full"] {
        let refused = download(&bench, &store, ["--json", "--output", output]).output();
        error_of(&refused, 2, "invalid_input");
    }
    before.assert_unchanged(bench.path());
    assert_eq!(store.requests(), 0, "what cannot be written is not asked for");

    // Asked for, the file and the link make way; what the link led to does not.
    for output in ["kept", "link"] {
        download(&bench, &store, ["--force", "--output", output]).output().expect_code(0);
        assert_eq!(fs::read(bench.path().join(output)).unwrap(), TOOLS);
        fs::write(bench.path().join("kept"), "mine").unwrap();
    }
    assert_eq!(fs::read_to_string(bench.path().join("kept")).unwrap(), "mine");
}

#[test]
fn a_token_for_a_store_without_tenants_is_refused_and_stands_nowhere() {
    let (bench, store) = (Bench::new(), store());
    let refused = download(&bench, &store, ["--json", "--token", CANARY]).output();
    error_of(&refused, 2, "invalid_input");
    assert!(refused.stderr.contains("--token-stdin"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(CANARY) && !refused.stdout.contains(CANARY), "{}", refused.stderr);
    bench.assert_canary_in_no_file();
    assert_eq!(store.requests(), 0);
    error_of(&download(&bench, &store, ["--json", "--token", ""]).output(), 2, "invalid_input");
}

#[test]
fn references_that_are_none_of_a_store_and_offline_have_their_exit_codes() {
    let bench = Bench::new();
    let run = |args: &[&str]| Run::new(BIN).arg("--json").args(args.iter().copied()).dir(bench.path()).output();
    error_of(&run(&["store", "download", "oci://ghcr.io/acme/x:1"]), 2, "invalid_input");
    error_of(&run(&["store", "download", "store://tools:1"]), 5, "auth");
    error_of(&run(&["--offline", "store", "download", "store://greentic-biz/acme/tools:1"]), 4, "offline");
    // No saved login: the network is not reached.
    let missing = error_of(&run(&["store", "download", "store://greentic-biz/acme/tools:1"]), 5, "auth");
    assert!(missing.to_string().contains("auth login"), "{missing}");
    let help = Command::new(BIN).args(["store", "download", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("--force"));
}
