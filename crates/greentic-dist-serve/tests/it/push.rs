//! Blobs and manifests, written and removed.

use greentic_dist_serve::RunningRegistry;
use greentic_dist_testkit::fixture::{self, INDEX_TYPE, MANIFEST_TYPE};
use greentic_dist_testkit::raw_client::Answer;
use greentic_dist_types::Digest;

use crate::{ask, assert_error, both, get};

fn begin(running: &RunningRegistry) -> String {
    let answer = ask(running, "POST", "/v2/acme/hello/blobs/uploads/", &[], &[]);
    assert_eq!((answer.status, answer.header("range")), (202, "0-0"));
    assert!(!answer.header("docker-upload-uuid").is_empty());
    answer.header("location").to_owned()
}

fn push_blob(running: &RunningRegistry, bytes: &[u8]) {
    let location = begin(running);
    let digest = Digest::sha256(bytes);
    let answer = ask(running, "PUT", &format!("{location}?digest={digest}"), &[], bytes);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("location"), format!("/v2/acme/hello/blobs/{digest}"));
}

fn put_manifest(running: &RunningRegistry, name: &str, media_type: &str, bytes: &[u8]) -> Answer {
    ask(running, "PUT", &format!("/v2/acme/hello/manifests/{name}"), &[("Content-Type", media_type)], bytes)
}

#[test]
fn post_then_put_makes_a_blob() {
    for (running, _dir) in both() {
        let bytes = fixture::random_bytes(1, 3_000_000);
        push_blob(&running, &bytes);
        assert_eq!(get(&running, &format!("/v2/acme/hello/blobs/{}", Digest::sha256(&bytes))).body, bytes);
    }
}

#[test]
fn one_post_with_a_digest_makes_a_blob() {
    for (running, _dir) in both() {
        let digest = Digest::sha256(b"single");
        let target = format!("/v2/acme/hello/blobs/uploads/?digest={}", digest.to_string().replace(':', "%3A"));
        assert_eq!(ask(&running, "POST", &target, &[], b"single").status, 201);
        assert_eq!(get(&running, &format!("/v2/acme/hello/blobs/{digest}")).body, b"single");
        assert_error(&ask(&running, "POST", &target, &[], b"other"), 400, "DIGEST_INVALID");
    }
}

#[test]
fn chunks_must_come_in_order() {
    for (running, _dir) in both() {
        let location = begin(&running);
        let patch = |range: &str, bytes: &[u8]| ask(&running, "PATCH", &location, &[("Content-Range", range)], bytes);
        let answer = patch("0-2", b"abc");
        assert_eq!((answer.status, answer.header("range")), (202, "0-2"));
        assert_error(&patch("5-6", b"de"), 416, "BLOB_UPLOAD_INVALID");
        assert_error(&patch("3-9", b"de"), 400, "SIZE_INVALID");
        assert_error(&patch("nonsense", b"de"), 400, "SIZE_INVALID");
        assert_eq!(patch("3-4", b"de").status, 202);
        let status = get(&running, &location);
        assert_eq!((status.status, status.header("range")), (204, "0-4"));
        let digest = Digest::sha256(b"abcdef");
        assert_eq!(ask(&running, "PUT", &format!("{location}?digest={digest}"), &[], b"f").status, 201);
        assert_eq!(get(&running, &format!("/v2/acme/hello/blobs/{digest}")).body, b"abcdef");
        assert_error(&get(&running, &location), 404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn bytes_of_another_digest_are_not_kept() {
    for (running, dir) in both() {
        let wanted = Digest::sha256(b"wanted");
        let location = begin(&running);
        let target = format!("{location}?digest={wanted}");
        assert_error(&ask(&running, "PUT", &target, &[], b"something else"), 400, "DIGEST_INVALID");
        assert_error(&get(&running, &format!("/v2/acme/hello/blobs/{wanted}")), 404, "BLOB_UNKNOWN");
        assert_error(&ask(&running, "PUT", &target, &[], b"wanted"), 404, "BLOB_UPLOAD_UNKNOWN");
        let location = begin(&running);
        assert_error(&ask(&running, "PUT", &location, &[], b"wanted"), 400, "DIGEST_INVALID");
        assert_error(&ask(&running, "PUT", &format!("{location}?digest=md5:0"), &[], b"wanted"), 400, "DIGEST_INVALID");
        if let Some(dir) = dir {
            drop(running);
            let left: Vec<_> = std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn an_upload_can_be_cancelled_and_belongs_to_its_repository() {
    for (running, dir) in both() {
        let location = begin(&running);
        assert_error(&get(&running, &location.replace("acme/hello", "acme/other")), 404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(ask(&running, "PATCH", &location, &[], b"some").status, 202);
        assert_eq!(ask(&running, "DELETE", &location, &[], &[]).status, 204);
        assert_error(&get(&running, &location), 404, "BLOB_UPLOAD_UNKNOWN");
        if let Some(dir) = dir {
            assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_mount_is_done_when_the_blob_is_here_and_an_upload_otherwise() {
    for (running, _dir) in both() {
        push_blob(&running, b"here");
        let mount = |bytes: &[u8]| {
            let target = format!("/v2/acme/other/blobs/uploads/?mount={}&from=acme/hello", Digest::sha256(bytes));
            ask(&running, "POST", &target, &[], &[])
        };
        assert_eq!(mount(b"here").status, 201);
        let answer = mount(b"missing");
        assert_eq!(answer.status, 202);
        assert!(answer.header("location").starts_with("/v2/acme/other/blobs/uploads/"));
    }
}

#[test]
fn a_manifest_is_pushed_by_tag_and_by_digest() {
    for (running, _dir) in both() {
        let artifact = fixture::component();
        for blob in artifact.blobs() {
            push_blob(&running, &blob.bytes);
        }
        let pin = artifact.manifest_digest.to_string();
        for name in ["1", pin.as_str()] {
            let answer = put_manifest(&running, name, MANIFEST_TYPE, &artifact.manifest_bytes);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.header("docker-content-digest"), pin);
            assert_eq!(answer.header("location"), format!("/v2/acme/hello/manifests/{pin}"));
        }
        assert_eq!(get(&running, "/v2/acme/hello/manifests/1").body, artifact.manifest_bytes);
    }
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let (running, _dir) = &both()[0];
    let artifact = fixture::component();
    let bytes = &artifact.manifest_bytes;
    assert_error(&put_manifest(running, "1", MANIFEST_TYPE, bytes), 404, "MANIFEST_BLOB_UNKNOWN");
    for blob in artifact.blobs() {
        push_blob(running, &blob.bytes);
    }
    assert_error(&put_manifest(running, "1", INDEX_TYPE, bytes), 400, "MANIFEST_INVALID");
    assert_error(&put_manifest(running, "1", "text/plain", bytes), 400, "MANIFEST_INVALID");
    assert_error(&put_manifest(running, "1", MANIFEST_TYPE, b"{"), 400, "MANIFEST_INVALID");
    assert_error(&put_manifest(running, "1", MANIFEST_TYPE, b"[]"), 400, "MANIFEST_INVALID");
    assert_error(&put_manifest(running, "-1", MANIFEST_TYPE, bytes), 400, "TAG_INVALID");
    let other = Digest::sha256(b"other").to_string();
    assert_error(&put_manifest(running, &other, MANIFEST_TYPE, bytes), 400, "DIGEST_INVALID");
    assert_error(&get(running, "/v2/acme/hello/manifests/1"), 404, "MANIFEST_UNKNOWN");
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20));
    assert_error(&put_manifest(running, "1", MANIFEST_TYPE, huge.as_bytes()), 413, "SIZE_INVALID");
    // Its children may come later.
    let index = fixture::index(&[(fixture::artifact("text/plain", "elsewhere").descriptor(), None)]);
    assert_eq!(put_manifest(running, "i", INDEX_TYPE, &index.bytes).status, 201);
}

#[test]
fn tags_manifests_and_blobs_can_be_removed() {
    for (running, _dir) in both() {
        let artifact = fixture::component();
        for blob in artifact.blobs() {
            push_blob(&running, &blob.bytes);
        }
        for tag in ["1", "2", "3"] {
            put_manifest(&running, tag, MANIFEST_TYPE, &artifact.manifest_bytes);
        }
        let delete = |target: &str| ask(&running, "DELETE", target, &[], &[]).status;
        let by_digest = format!("/v2/acme/hello/manifests/{}", artifact.manifest_digest);
        assert_eq!(delete("/v2/acme/hello/manifests/1"), 202);
        assert_eq!(delete("/v2/acme/hello/manifests/1"), 404);
        assert_eq!(get(&running, &by_digest).status, 200);
        assert_eq!(get(&running, "/v2/acme/hello/tags/list").json()["tags"], serde_json::json!(["2", "3"]));
        assert_eq!(delete(&by_digest), 202);
        assert_eq!(get(&running, "/v2/acme/hello/manifests/2").status, 404);
        let blob = format!("/v2/acme/hello/blobs/{}", artifact.layer_digest());
        assert_eq!((delete(&blob), delete(&blob)), (202, 404));
    }
}
