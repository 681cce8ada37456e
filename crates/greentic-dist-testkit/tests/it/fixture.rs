//! Fixtures are what they say they are.

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{
    INDEX_TYPE, WASM_TYPE, artifact, component, component_bytes, index, oci_layout, random_bytes,
};
use greentic_dist_types::Digest;

#[test]
fn the_committed_component_is_its_text_and_valid() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hello.wat");
    let compiled = wat::parse_file(text).unwrap();
    assert_eq!(compiled, component_bytes(), "fixtures/hello.component.wasm is not the binary of fixtures/hello.wat");
    assert!(wasmparser::Parser::is_component(component_bytes()));
    wasmparser::Validator::new().validate_all(component_bytes()).unwrap();
}

#[test]
fn an_artifact_names_its_blobs_by_digest_and_size() {
    let artifact = artifact(WASM_TYPE, "some bytes");
    let manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest_bytes).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], Digest::sha256(b"some bytes").to_string());
    assert_eq!(manifest["layers"][0]["size"], 10);
    assert_eq!(manifest["config"]["digest"], artifact.config.digest.to_string());
    assert_eq!(artifact.manifest_digest, Digest::sha256(&artifact.manifest_bytes));
    assert_eq!(artifact.layer_bytes(), b"some bytes");
}

#[test]
fn an_index_gives_each_child_its_platform() {
    let index = index(&[(component().descriptor(), Some(("wasip2", "wasm"))), (component().descriptor(), None)]);
    let json: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
    assert_eq!(index.media_type, INDEX_TYPE);
    assert_eq!(json["manifests"][0]["platform"]["architecture"], "wasm");
    assert!(json["manifests"][1].get("platform").is_none());
}

#[test]
fn random_bytes_depend_on_the_seed_alone() {
    assert_eq!(random_bytes(1, 100), random_bytes(1, 100));
    assert_eq!(random_bytes(1, 100)[..50], random_bytes(1, 50)[..]);
    assert_ne!(random_bytes(1, 100), random_bytes(2, 100));
}

#[test]
fn a_snapshot_tells_what_changed_and_ignores_locks() {
    let dir = tempfile::tempdir().unwrap();
    oci_layout(dir.path(), &[component()], "1");
    let before = TreeSnapshot::of(dir.path());
    assert_eq!(before.files().len(), 5);
    std::fs::create_dir(dir.path().join("locks")).unwrap();
    std::fs::write(dir.path().join("locks/x"), "").unwrap();
    before.assert_unchanged(dir.path());
    std::fs::write(dir.path().join("oci-layout"), "{}").unwrap();
    std::fs::remove_file(dir.path().join("index.json")).unwrap();
    std::fs::write(dir.path().join("new"), "").unwrap();
    let diff = before.diff(&TreeSnapshot::of(dir.path()));
    assert_eq!(diff.len(), 3, "{diff:?}");
    assert!(diff[0].starts_with("- index.json: "));
    assert!(diff[1].starts_with("! oci-layout: "));
    assert!(diff[2].starts_with("+ new: 0 bytes"));
    assert!(TreeSnapshot::of(&dir.path().join("missing")).is_empty());
}
