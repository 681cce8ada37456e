//! The directory form: what is in it, what cannot get out of it, what survives.

use std::fs;
use std::path::Path;

use greentic_dist_serve::{Registry, ServeError};
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, MANIFEST_TYPE};
use greentic_dist_testkit::raw_client::exchange;
use greentic_dist_types::Digest;

use crate::{ask, assert_error, get, started};

fn fill(registry: &Registry) -> fixture::Artifact {
    let artifact = fixture::component();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    registry.put_manifest("acme/hello", &["1"], MANIFEST_TYPE, &artifact.manifest_bytes).unwrap();
    artifact
}

fn blob_path(dir: &Path, digest: Digest) -> std::path::PathBuf {
    dir.join("blobs").join(digest.algorithm().name()).join(digest.to_hex())
}

#[test]
fn content_and_names_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = fill(&Registry::over_dir(dir.path()).unwrap());
    let registry = Registry::over_dir(dir.path()).unwrap();
    let untagged = registry.put_manifest("acme/untagged", &[], MANIFEST_TYPE, b"{\"x\":1}").unwrap();
    let subject = format!("{{\"subject\":{}}}", artifact.descriptor());
    let referrer = registry.put_manifest("acme/hello", &[], MANIFEST_TYPE, subject.as_bytes()).unwrap();
    drop(registry);
    let running = started(&Registry::over_dir(dir.path()).unwrap());
    assert_eq!(get(&running, "/v2/acme/hello/manifests/1").body, artifact.manifest_bytes);
    let blob = get(&running, &format!("/v2/acme/hello/blobs/{}", artifact.layer_digest()));
    assert_eq!(blob.body, artifact.layer_bytes());
    assert_eq!(get(&running, &format!("/v2/acme/untagged/manifests/{untagged}")).status, 200);
    let referrers = get(&running, &format!("/v2/acme/hello/referrers/{}", artifact.manifest_digest));
    assert_eq!(referrers.json()["manifests"][0]["digest"], referrer.to_string());
}

#[test]
fn a_directory_has_one_registry_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Registry::over_dir(dir.path()).unwrap();
    assert!(matches!(Registry::over_dir(dir.path()), Err(ServeError::InUse { .. })));
    drop(first);
    assert!(Registry::over_dir(dir.path()).is_ok());
}

#[test]
fn entries_of_others_stay_in_the_index() {
    let dir = tempfile::tempdir().unwrap();
    fixture::oci_layout(dir.path(), &[fixture::component()], "v1");
    fill(&Registry::over_dir(dir.path()).unwrap());
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["v1", "acme/hello:1"]);
}

#[test]
fn a_directory_with_another_index_is_refused() {
    for broken in ["", "{", "[]", "{\"manifests\":{}}"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("index.json"), broken).unwrap();
        assert!(matches!(Registry::over_dir(dir.path()), Err(ServeError::Layout { .. })), "{broken}");
    }
}

#[test]
fn hostile_names_in_an_index_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::sha256(b"{}");
    for name in ["../../x:1", "acme/hello:../1", "/abs:1", ":"] {
        let entry = serde_json::json!({
            "mediaType": MANIFEST_TYPE, "digest": digest.to_string(), "size": 2,
            "annotations": { "org.opencontainers.image.ref.name": name },
        });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
        let running = started(&Registry::over_dir(dir.path()).unwrap());
        assert_eq!(get(&running, "/v2/_catalog").json()["repositories"], serde_json::json!([]), "{name}");
    }
}

#[test]
fn traversal_never_leaves_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("registry");
    fs::write(outside.path().join("secret"), "not yours").unwrap();
    let running = started(&Registry::over_dir(&dir).unwrap());
    fill(running.registry());
    let before = TreeSnapshot::of(outside.path());
    let up = "../".repeat(8);
    let encoded = "%2e%2e%2f".repeat(8);
    for name in [up.as_str(), encoded.as_str(), "/etc/", "//", "..\\..\\", "acme/../../", "%00", "acme%2f..%2f..%2f"] {
        for target in [
            format!("/v2/{name}secret/manifests/1"),
            format!("/v2/acme/hello/manifests/{name}secret"),
            format!("/v2/acme/hello/blobs/{name}secret"),
            format!("/v2/acme/hello/blobs/sha256:{name}secret"),
            format!("/v2/acme/hello/blobs/uploads/{name}secret"),
            format!("/v2/{name}secret/blobs/uploads/"),
            format!("/v2/{name}secret/tags/list"),
            format!("/v2/acme/hello/referrers/sha256:{name}secret"),
            format!("/{name}secret"),
        ] {
            for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
                let typed = [("Content-Type", MANIFEST_TYPE)];
                let answer = exchange(running.addr(), method, &target, &typed, b"{}").unwrap();
                assert!(matches!(answer.status, 400 | 404 | 405), "{method} {target}: {}", answer.status);
                assert!(!answer.text().contains("not yours"), "{method} {target}");
            }
        }
    }
    before.assert_unchanged(outside.path());
}

#[test]
fn a_large_blob_streams_through_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(&Registry::over_dir(dir.path()).unwrap());
    let bytes = fixture::random_bytes(9, 24 << 20);
    let digest = Digest::sha256(&bytes);
    let pushed = ask(&running, "POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], &bytes);
    assert_eq!(pushed.status, 201);
    assert!(get(&running, &format!("/v2/a/blobs/{digest}")).body == bytes);
    let tail = ask(&running, "GET", &format!("/v2/a/blobs/{digest}"), &[("Range", "bytes=-1000000")], &[]);
    assert!(tail.body == bytes[bytes.len() - 1_000_000..]);
    assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}

#[test]
fn what_is_changed_behind_its_back_is_served_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(&Registry::over_dir(dir.path()).unwrap());
    let artifact = fill(running.registry());
    let path = blob_path(dir.path(), artifact.layer_digest());
    fs::write(&path, "tampered").unwrap();
    let target = format!("/v2/acme/hello/blobs/{}", artifact.layer_digest());
    let answer = get(&running, &target);
    assert_eq!((answer.status, answer.text().as_str()), (200, "tampered"));
    assert_eq!(answer.header("docker-content-digest"), artifact.layer_digest().to_string());
    fs::remove_file(&path).unwrap();
    assert_error(&get(&running, &target), 404, "BLOB_UNKNOWN");
    fs::create_dir(&path).unwrap();
    assert_error(&get(&running, &target), 404, "BLOB_UNKNOWN");
}

#[test]
fn unfinished_uploads_are_gone_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::over_dir(dir.path()).unwrap();
    let running = started(&registry);
    let location = ask(&running, "POST", "/v2/a/blobs/uploads/", &[], &[]).header("location").to_owned();
    assert_eq!(ask(&running, "PATCH", &location, &[], b"some bytes").status, 202);
    fs::write(dir.path().join("uploads/dead"), "left by a crash").unwrap();
    drop((running, registry));
    drop(Registry::over_dir(dir.path()).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}
