//! Reading manifests and blobs.

use greentic_dist_types::Digest;

use super::content::sha512;
use super::{Named, Problem, Target, expect, expect_code, same};
use crate::fixture::{MANIFEST_TYPE, random_bytes};

pub(super) const CHECKS: &[Named] = &[
    ("the_base_says_that_the_api_is_there", base),
    ("a_blob_is_read_whole", blob),
    ("the_head_of_a_blob_has_its_length_and_no_body", blob_head),
    ("a_missing_blob_is_404_blob_unknown", missing_blob),
    ("a_digest_that_is_none_is_400", no_digest),
    ("a_part_of_a_blob_is_206_with_its_range", part),
    ("the_rest_of_a_blob_is_206", rest),
    ("the_end_of_a_blob_is_206", suffix),
    ("a_part_beyond_the_end_is_416", beyond),
    ("an_unchanged_blob_is_304", blob_not_modified),
    ("a_sha512_blob_is_read_by_its_own_digest", sha512_blob),
    ("a_manifest_is_read_by_tag", by_tag),
    ("a_manifest_is_read_by_digest", by_digest),
    ("the_head_of_a_manifest_says_what_it_is", manifest_head),
    ("a_missing_manifest_is_404_manifest_unknown", missing_manifest),
    ("an_unchanged_manifest_is_304", manifest_not_modified),
];

const BYTES: usize = 2_000;

fn with_blob(target: &Target) -> Result<(Vec<u8>, String), Problem> {
    let bytes = random_bytes(41, BYTES);
    let digest = target.push_blob(&bytes)?;
    Ok((bytes, target.path(&format!("blobs/{digest}"))))
}

fn base(target: &Target) -> Result<(), Problem> {
    expect(&target.get("/v2/")?, &[200], "GET /v2/")
}

fn blob(target: &Target) -> Result<(), Problem> {
    let (bytes, path) = with_blob(target)?;
    let answer = target.get(&path)?;
    expect(&answer, &[200], "GET")?;
    same(&answer.body, &bytes, "the bytes")?;
    same(&answer.header("content-length"), &"2000", "Content-Length")
}

fn blob_head(target: &Target) -> Result<(), Problem> {
    let (_, path) = with_blob(target)?;
    let answer = target.ask("HEAD", &path, &[], b"")?;
    expect(&answer, &[200], "HEAD")?;
    same(&answer.header("content-length"), &"2000", "Content-Length")?;
    same(&answer.body.len(), &0, "the body")
}

fn missing_blob(target: &Target) -> Result<(), Problem> {
    target.push_blob(b"another")?;
    let path = target.path(&format!("blobs/{}", Digest::sha256(b"missing")));
    expect(&target.ask("HEAD", &path, &[], b"")?, &[404], "HEAD")?;
    let answer = target.get(&path)?;
    expect(&answer, &[404], "GET")?;
    expect_code(&answer, "BLOB_UNKNOWN", "GET")
}

fn no_digest(target: &Target) -> Result<(), Problem> {
    target.push_blob(b"another")?;
    let answer = target.get(&target.path("blobs/sha256:short"))?;
    expect(&answer, &[400], "GET")
}

fn ranged(target: &Target, range: &str, first: usize, last: usize) -> Result<(), Problem> {
    let (bytes, path) = with_blob(target)?;
    let answer = target.ask("GET", &path, &[("Range", range)], b"")?;
    expect(&answer, &[206], range)?;
    same(&answer.header("content-range"), &&*format!("bytes {first}-{last}/{BYTES}"), "Content-Range")?;
    same(&answer.body, &bytes[first..=last].to_vec(), "the bytes")
}

fn part(target: &Target) -> Result<(), Problem> {
    ranged(target, "bytes=500-1499", 500, 1_499)
}

fn rest(target: &Target) -> Result<(), Problem> {
    ranged(target, "bytes=500-", 500, BYTES - 1)
}

fn suffix(target: &Target) -> Result<(), Problem> {
    ranged(target, "bytes=-500", BYTES - 500, BYTES - 1)
}

fn beyond(target: &Target) -> Result<(), Problem> {
    let (_, path) = with_blob(target)?;
    let answer = target.ask("GET", &path, &[("Range", "bytes=5000-10000")], b"")?;
    expect(&answer, &[416], "GET")
}

fn blob_not_modified(target: &Target) -> Result<(), Problem> {
    let (_, path) = with_blob(target)?;
    let etag = target.get(&path)?.header("etag").to_owned();
    let answer = target.ask("GET", &path, &[("If-None-Match", &etag)], b"")?;
    expect(&answer, &[304], "GET")?;
    same(&answer.body.len(), &0, "the body")
}

fn sha512_blob(target: &Target) -> Result<(), Problem> {
    let bytes = random_bytes(42, 300);
    let digest = target.push_blob_as(sha512(&bytes), &bytes)?;
    target.has_blob(&digest, &bytes)?;
    let answer = target.get(&target.path(&format!("blobs/{digest}")))?;
    same(&answer.header("docker-content-digest"), &&*digest.to_string(), "Docker-Content-Digest")
}

fn by_tag(target: &Target) -> Result<(), Problem> {
    let manifest = target.push_image("1", b"layer")?;
    target.has_manifest("1", &manifest)?;
    let answer = target.manifest("GET", "1", MANIFEST_TYPE)?;
    same(&answer.header("content-type"), &MANIFEST_TYPE, "Content-Type")?;
    same(&answer.header("docker-content-digest"), &&*manifest.digest().to_string(), "Docker-Content-Digest")
}

fn by_digest(target: &Target) -> Result<(), Problem> {
    let manifest = target.push_image("1", b"layer")?;
    target.has_manifest(&manifest.digest().to_string(), &manifest)
}

fn manifest_head(target: &Target) -> Result<(), Problem> {
    let manifest = target.push_image("1", b"layer")?;
    for reference in ["1", &manifest.digest().to_string()] {
        let answer = target.manifest("HEAD", reference, MANIFEST_TYPE)?;
        expect(&answer, &[200], "HEAD")?;
        same(&answer.header("content-length"), &&*manifest.bytes.len().to_string(), "Content-Length")?;
        same(&answer.header("content-type"), &MANIFEST_TYPE, "Content-Type")?;
        same(&answer.body.len(), &0, "the body")?;
    }
    Ok(())
}

fn missing_manifest(target: &Target) -> Result<(), Problem> {
    target.push_image("1", b"layer")?;
    for reference in ["2", &Digest::sha256(b"missing").to_string()] {
        expect(&target.manifest("HEAD", reference, MANIFEST_TYPE)?, &[404], "HEAD")?;
        let answer = target.manifest("GET", reference, MANIFEST_TYPE)?;
        expect(&answer, &[404], "GET")?;
        expect_code(&answer, "MANIFEST_UNKNOWN", "GET")?;
    }
    Ok(())
}

fn manifest_not_modified(target: &Target) -> Result<(), Problem> {
    target.push_image("1", b"layer")?;
    let etag = target.manifest("GET", "1", MANIFEST_TYPE)?.header("etag").to_owned();
    let path = target.path("manifests/1");
    let answer = target.ask("GET", &path, &[("Accept", MANIFEST_TYPE), ("If-None-Match", &etag)], b"")?;
    expect(&answer, &[304], "GET")?;
    same(&answer.body.len(), &0, "the body")
}
