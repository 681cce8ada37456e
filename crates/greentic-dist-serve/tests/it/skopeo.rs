//! An independent client pushes, and pulls the same back.

use greentic_dist_serve::Registry;
use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{ready, skopeo_pull, skopeo_push};

use crate::{both, get, started};

#[test]
fn skopeo_pushes_an_artifact_and_pulls_the_same_back() {
    if !ready("skopeo_pushes_an_artifact_and_pulls_the_same_back", &["skopeo"]) {
        return;
    }
    for (running, _dir) in both() {
        let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(5, 3_000_000));
        let dir = tempfile::tempdir().unwrap();
        fixture::oci_layout(dir.path(), std::slice::from_ref(&artifact), "1");
        let reference = format!("{}/acme/hello:v1", running.host());
        skopeo_push(dir.path(), "1", &reference, None).unwrap();
        assert_eq!(get(&running, "/v2/acme/hello/manifests/v1").body, artifact.manifest_bytes);

        let back = dir.path().join("back");
        skopeo_pull(&reference, &back, "x", None).unwrap();
        let blob = std::fs::read(back.join("blobs/sha256").join(artifact.layer_digest().to_hex())).unwrap();
        assert!(blob == artifact.layer_bytes());
        // A second push finds everything in place.
        skopeo_push(dir.path(), "1", &reference, None).unwrap();
        let pinned = format!("{}/acme/hello@{}", running.host(), artifact.manifest_digest);
        skopeo_pull(&pinned, &dir.path().join("pinned"), "x", None).unwrap();
    }
}

#[test]
fn skopeo_pushes_an_index_with_all_its_children() {
    if !ready("skopeo_pushes_an_index_with_all_its_children", &["skopeo"]) {
        return;
    }
    for (running, _dir) in both() {
        let dir = tempfile::tempdir().unwrap();
        let children = [fixture::component(), fixture::artifact(WASM_TYPE, "another")];
        fixture::oci_layout(dir.path(), &children, "1");
        let reference = format!("{}/acme/index:1", running.host());
        skopeo_push(dir.path(), "1", &reference, None).unwrap();
        for child in &children {
            let target = format!("/v2/acme/index/manifests/{}", child.manifest_digest);
            assert_eq!(get(&running, &target).body, child.manifest_bytes);
        }
        let top = get(&running, "/v2/acme/index/manifests/1");
        assert_eq!(top.json()["manifests"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn the_directory_is_a_layout_that_skopeo_reads() {
    if !ready("the_directory_is_a_layout_that_skopeo_reads", &["skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::over_dir(dir.path()).unwrap();
    let artifact = fixture::component();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    registry.put_manifest("acme/hello", &["1"], &artifact.media_type, &artifact.manifest_bytes).unwrap();
    let running = started(&Registry::in_memory());
    skopeo_push(dir.path(), "acme/hello:1", &format!("{}/copy:1", running.host()), None).unwrap();
    assert_eq!(get(&running, "/v2/copy/manifests/1").body, artifact.manifest_bytes);
}
