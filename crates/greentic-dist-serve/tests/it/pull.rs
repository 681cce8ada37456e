//! Manifests and blobs, read.

use greentic_dist_testkit::fixture::{self, Artifact, MANIFEST_TYPE};
use greentic_dist_types::{Algorithm, Digest};

use crate::{ask, assert_error, both, get};

fn seed(running: &greentic_dist_serve::RunningRegistry) -> Artifact {
    let artifact = fixture::artifact(fixture::WASM_TYPE, fixture::random_bytes(3, 2_000));
    for blob in artifact.blobs() {
        running.registry().put_blob(blob.bytes.clone()).unwrap();
    }
    let digest = running
        .registry()
        .put_manifest("acme/hello", &["1", "latest"], MANIFEST_TYPE, &artifact.manifest_bytes)
        .unwrap();
    assert_eq!(digest, artifact.manifest_digest);
    artifact
}

#[test]
fn the_base_path_says_that_the_api_is_there() {
    for (running, _dir) in both() {
        for path in ["/v2/", "/v2"] {
            let answer = get(&running, path);
            assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        }
    }
}

#[test]
fn a_manifest_is_found_by_tag_and_by_digest() {
    for (running, _dir) in both() {
        let artifact = seed(&running);
        let pin = artifact.manifest_digest.to_string();
        for name in ["1", "latest", pin.as_str()] {
            let target = format!("/v2/acme/hello/manifests/{name}");
            for method in ["GET", "HEAD"] {
                let answer = ask(&running, method, &target, &[], &[]);
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("content-type"), MANIFEST_TYPE);
                assert_eq!(answer.header("docker-content-digest"), pin);
                assert_eq!(answer.header("etag"), format!("\"{pin}\""));
                assert_eq!(answer.header("content-length"), artifact.manifest_bytes.len().to_string());
                let body = if method == "GET" { artifact.manifest_bytes.as_slice() } else { &[] };
                assert_eq!(answer.body, body);
            }
        }
    }
}

#[test]
fn an_unchanged_manifest_is_not_sent_again() {
    for (running, _dir) in both() {
        let pin = seed(&running).manifest_digest;
        let quoted = format!("\"{pin}\"");
        for (header, status) in [
            (quoted.as_str(), 304),
            (&format!("W/{quoted}"), 304),
            ("*", 304),
            ("\"other\"", 200),
            (&format!("\"x\", {quoted}"), 304),
        ] {
            let answer = ask(&running, "GET", "/v2/acme/hello/manifests/1", &[("If-None-Match", header)], &[]);
            assert_eq!(answer.status, status, "{header}");
            assert_eq!(answer.header("etag"), quoted);
            assert_eq!(answer.body.is_empty(), status == 304);
        }
    }
}

#[test]
fn accept_decides_whether_a_manifest_is_there() {
    let (running, _dir) = &both()[0];
    seed(running);
    for (accept, status) in [
        (MANIFEST_TYPE, 200),
        ("application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json;q=0.9", 200),
        ("*/*", 200),
        ("application/*", 200),
        ("application/vnd.docker.distribution.manifest.v2+json", 404),
        ("text/*", 404),
        ("", 200),
    ] {
        let answer = ask(running, "GET", "/v2/acme/hello/manifests/1", &[("Accept", accept)], &[]);
        assert_eq!(answer.status, status, "{accept}");
    }
    let two = [("Accept", "text/plain"), ("Accept", MANIFEST_TYPE)];
    assert_eq!(ask(running, "GET", "/v2/acme/hello/manifests/1", &two, &[]).status, 200);
}

#[test]
fn what_is_not_there_is_named_by_its_code() {
    for (running, _dir) in both() {
        seed(&running);
        let other = Digest::sha256(b"other");
        assert_error(&get(&running, "/v2/acme/hello/manifests/2"), 404, "MANIFEST_UNKNOWN");
        assert_error(&get(&running, "/v2/acme/hello/manifests/.INVALID"), 404, "MANIFEST_UNKNOWN");
        assert_error(&get(&running, &format!("/v2/acme/hello/manifests/{other}")), 404, "MANIFEST_UNKNOWN");
        assert_error(&get(&running, "/v2/acme/hello/manifests/sha256:x"), 400, "DIGEST_INVALID");
        assert_error(&get(&running, "/v2/acme/nobody/manifests/1"), 404, "MANIFEST_UNKNOWN");
        assert_error(&get(&running, &format!("/v2/acme/hello/blobs/{other}")), 404, "BLOB_UNKNOWN");
        assert_error(&get(&running, "/v2/acme/hello/blobs/latest"), 400, "DIGEST_INVALID");
        assert_error(&get(&running, "/v2/Acme/hello/manifests/1"), 400, "NAME_INVALID");
        assert_error(&get(&running, "/v2/acme/hello"), 404, "UNSUPPORTED");
        assert_error(&get(&running, "/"), 404, "UNSUPPORTED");
        let answer = ask(&running, "HEAD", "/v2/acme/hello/manifests/2", &[], &[]);
        assert_eq!((answer.status, answer.body.len()), (404, 0));
    }
}

#[test]
fn a_blob_comes_whole_and_in_parts() {
    for (running, _dir) in both() {
        let artifact = seed(&running);
        let target = format!("/v2/acme/hello/blobs/{}", artifact.layer_digest());
        let whole = artifact.layer_bytes();
        let answer = get(&running, &target);
        assert_eq!((answer.status, answer.body.as_slice()), (200, whole));
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("docker-content-digest"), artifact.layer_digest().to_string());
        for (range, first, last) in [
            ("bytes=0-", 0, 1999),
            ("bytes=500-1499", 500, 1499),
            ("bytes=500-", 500, 1999),
            ("bytes=-500", 1500, 1999),
            ("bytes=0-0", 0, 0),
            ("bytes=1999-5000", 1999, 1999),
        ] {
            let answer = ask(&running, "GET", &target, &[("Range", range)], &[]);
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/2000"));
            assert_eq!(answer.body, whole[first..=last]);
        }
        for range in ["bytes=2000-", "bytes=5000-10000", "bytes=500-0", "bytes=-0"] {
            let answer = ask(&running, "GET", &target, &[("Range", range)], &[]);
            assert_error(&answer, 416, "RANGE_INVALID");
            assert_eq!(answer.header("content-range"), "bytes */2000");
        }
        for range in ["bytes=0-1,5-6", "lines=1-2", "nonsense"] {
            assert_eq!(ask(&running, "GET", &target, &[("Range", range)], &[]).status, 200, "{range}");
        }
    }
}

#[test]
fn a_part_of_other_content_is_never_sent() {
    for (running, _dir) in both() {
        let artifact = seed(&running);
        let target = format!("/v2/acme/hello/blobs/{}", artifact.layer_digest());
        let etag = format!("\"{}\"", artifact.layer_digest());
        let part = |if_range: &str| {
            ask(&running, "GET", &target, &[("Range", "bytes=5-"), ("If-Range", if_range)], &[]).status
        };
        assert_eq!(part(&etag), 206);
        assert_eq!(part("\"other\""), 200);
        let same = ask(&running, "GET", &target, &[("If-None-Match", &etag)], &[]);
        assert_eq!((same.status, same.body.len()), (304, 0));
        let head = ask(&running, "HEAD", &target, &[("Range", "bytes=5-")], &[]);
        assert_eq!((head.status, head.header("content-length")), (200, "2000"));
    }
}

#[test]
fn sha512_and_sha384_content_is_found_by_its_digest() {
    for (running, _dir) in both() {
        for algorithm in [Algorithm::Sha384, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"wide");
            let pushed = ask(&running, "POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"wide");
            assert_eq!((pushed.status, pushed.header("docker-content-digest")), (201, digest.to_string().as_str()));
            assert_eq!(get(&running, &format!("/v2/a/blobs/{digest}")).body, b"wide");
        }
    }
}

#[test]
fn an_empty_blob_is_a_blob() {
    for (running, _dir) in both() {
        let digest = running.registry().put_blob(Vec::new()).unwrap();
        let target = format!("/v2/a/blobs/{digest}");
        let answer = get(&running, &target);
        assert_eq!((answer.status, answer.header("content-length")), (200, "0"));
        assert_eq!(ask(&running, "GET", &target, &[("Range", "bytes=0-")], &[]).status, 416);
    }
}
