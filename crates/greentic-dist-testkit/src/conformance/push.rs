//! Writing blobs.

use greentic_dist_types::Digest;

use super::content::sha512;
use super::{Named, Problem, Target, expect, expect_code, location, same, with};
use crate::fixture::random_bytes;

pub(super) const CHECKS: &[Named] = &[
    ("a_blob_is_pushed_by_post_and_put", post_put),
    ("a_blob_is_pushed_by_one_post", single_post),
    ("a_blob_is_streamed_by_one_patch", one_patch),
    ("a_blob_is_pushed_in_chunks", chunks),
    ("the_last_chunk_may_come_with_the_put", last_chunk_with_put),
    ("a_chunk_out_of_order_is_416", out_of_order),
    ("an_upload_says_how_far_it_is", status),
    ("a_cancelled_upload_is_unknown", cancel),
    ("an_unknown_upload_is_404", unknown_upload),
    ("bytes_of_another_digest_are_refused", wrong_digest),
    ("a_put_without_a_digest_is_refused", missing_digest),
    ("an_empty_blob_is_a_blob", empty_blob),
    ("a_blob_is_mounted_from_another_repository", mount),
    ("a_mount_of_what_is_not_there_opens_an_upload", mount_missing),
    ("the_digest_algorithm_of_an_upload_can_be_named", named_algorithm),
];

const PARTS: [&[u8]; 3] = [b"first chunk, ", b"second chunk, ", b"the last"];

fn post_put(target: &Target) -> Result<(), Problem> {
    let bytes = random_bytes(43, 5_000);
    let digest = Digest::sha256(&bytes);
    let put = with(&target.begin()?, &format!("digest={digest}"));
    let answer = target.ask("PUT", &put, &[("Content-Type", "application/octet-stream")], &bytes)?;
    expect(&answer, &[201], "PUT")?;
    let answer = target.get(&location(&answer)?)?;
    expect(&answer, &[200], "GET of the Location")?;
    target.has_blob(&digest, &bytes)
}

fn single_post(target: &Target) -> Result<(), Problem> {
    let bytes = random_bytes(44, 500);
    let digest = Digest::sha256(&bytes);
    let post = target.path(&format!("blobs/uploads/?digest={digest}"));
    let answer = target.ask("POST", &post, &[("Content-Type", "application/octet-stream")], &bytes)?;
    expect(&answer, &[201], "POST")?;
    location(&answer)?;
    target.has_blob(&digest, &bytes)
}

fn one_patch(target: &Target) -> Result<(), Problem> {
    let bytes = random_bytes(45, 700);
    let digest = Digest::sha256(&bytes);
    let answer = target.ask("PATCH", &target.begin()?, &[("Content-Type", "application/octet-stream")], &bytes)?;
    expect(&answer, &[202], "PATCH")?;
    let put = with(&location(&answer)?, &format!("digest={digest}"));
    expect(&target.ask("PUT", &put, &[], b"")?, &[201], "PUT")?;
    target.has_blob(&digest, &bytes)
}

/// Sends a chunk and returns where the upload goes on.
fn patch(target: &Target, session: &str, first: usize, bytes: &[u8]) -> Result<String, Problem> {
    let last = first + bytes.len() - 1;
    let range = format!("{first}-{last}");
    let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", &*range)];
    let answer = target.ask("PATCH", session, &headers, bytes)?;
    expect(&answer, &[202], "PATCH")?;
    same(&answer.header("range"), &&*format!("0-{last}"), "Range")?;
    location(&answer)
}

fn chunks(target: &Target) -> Result<(), Problem> {
    let all = PARTS.concat();
    let digest = Digest::sha256(&all);
    let (mut session, mut first) = (target.begin()?, 0);
    for part in PARTS {
        session = patch(target, &session, first, part)?;
        first += part.len();
    }
    expect(&target.ask("PUT", &with(&session, &format!("digest={digest}")), &[], b"")?, &[201], "PUT")?;
    target.has_blob(&digest, &all)
}

fn last_chunk_with_put(target: &Target) -> Result<(), Problem> {
    let all = PARTS.concat();
    let digest = Digest::sha256(&all);
    let [one, two, three] = PARTS;
    let session = patch(target, &target.begin()?, 0, one)?;
    let session = patch(target, &session, one.len(), two)?;
    let range = format!("{}-{}", one.len() + two.len(), all.len() - 1);
    let put = with(&session, &format!("digest={digest}"));
    let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", &*range)];
    expect(&target.ask("PUT", &put, &headers, three)?, &[201], "PUT")?;
    target.has_blob(&digest, &all)
}

fn out_of_order(target: &Target) -> Result<(), Problem> {
    let [one, two, _] = PARTS;
    let session = target.begin()?;
    let range = format!("{}-{}", one.len(), one.len() + two.len() - 1);
    let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", &*range)];
    expect(&target.ask("PATCH", &session, &headers, two)?, &[416], "PATCH of the second chunk first")?;
    // And the upload is as it was.
    patch(target, &session, 0, one).map(drop)
}

fn status(target: &Target) -> Result<(), Problem> {
    let [one, ..] = PARTS;
    let session = patch(target, &target.begin()?, 0, one)?;
    let answer = target.get(&session)?;
    expect(&answer, &[204], "GET of the upload")?;
    same(&answer.header("range"), &&*format!("0-{}", one.len() - 1), "Range")?;
    location(&answer).map(drop)
}

fn cancel(target: &Target) -> Result<(), Problem> {
    let session = target.begin()?;
    expect(&target.ask("DELETE", &session, &[], b"")?, &[204], "DELETE of the upload")?;
    expect(&target.get(&session)?, &[404], "GET of the upload")
}

fn unknown_upload(target: &Target) -> Result<(), Problem> {
    target.begin()?;
    let answer = target.get(&target.path("blobs/uploads/00000000-0000-0000-0000-000000000000"))?;
    expect(&answer, &[404], "GET of an upload")?;
    expect_code(&answer, "BLOB_UPLOAD_UNKNOWN", "GET of an upload")
}

fn wrong_digest(target: &Target) -> Result<(), Problem> {
    let digest = Digest::sha256(b"other bytes");
    let put = with(&target.begin()?, &format!("digest={digest}"));
    let answer = target.ask("PUT", &put, &[("Content-Type", "application/octet-stream")], b"bytes")?;
    expect(&answer, &[400], "PUT")?;
    expect_code(&answer, "DIGEST_INVALID", "PUT")?;
    expect(&target.get(&target.path(&format!("blobs/{digest}")))?, &[404], "GET")
}

fn missing_digest(target: &Target) -> Result<(), Problem> {
    let answer = target.ask("PUT", &target.begin()?, &[("Content-Type", "application/octet-stream")], b"bytes")?;
    expect(&answer, &[400], "PUT")
}

fn empty_blob(target: &Target) -> Result<(), Problem> {
    let digest = target.push_blob(b"")?;
    target.has_blob(&digest, b"")
}

fn mount(target: &Target) -> Result<(), Problem> {
    let from = target.other("from");
    let digest = from.push_blob(b"shared")?;
    let post = target.path(&format!("blobs/uploads/?mount={digest}&from={}", from.repository));
    let answer = target.ask("POST", &post, &[], b"")?;
    expect(&answer, &[201], "POST")?;
    location(&answer)?;
    target.has_blob(&digest, b"shared")
}

fn mount_missing(target: &Target) -> Result<(), Problem> {
    let from = target.other("from");
    from.push_blob(b"something else")?;
    let digest = Digest::sha256(b"not there");
    let post = target.path(&format!("blobs/uploads/?mount={digest}&from={}", from.repository));
    let answer = target.ask("POST", &post, &[], b"")?;
    expect(&answer, &[202], "POST")?;
    let put = with(&location(&answer)?, &format!("digest={digest}"));
    expect(&target.ask("PUT", &put, &[], b"not there")?, &[201], "PUT")?;
    target.has_blob(&digest, b"not there")
}

fn named_algorithm(target: &Target) -> Result<(), Problem> {
    let bytes = PARTS.concat();
    let digest = sha512(&bytes);
    let answer = target.ask("POST", &target.path("blobs/uploads/?digest-algorithm=sha512"), &[], b"")?;
    expect(&answer, &[202], "POST")?;
    let session = patch(target, &location(&answer)?, 0, &bytes)?;
    let answer = target.ask("PUT", &with(&session, &format!("digest={digest}")), &[], b"")?;
    expect(&answer, &[201], "PUT")?;
    same(&answer.header("docker-content-digest"), &&*digest.to_string(), "Docker-Content-Digest")?;
    target.has_blob(&digest, &bytes)?;
    let odd = target.ask("POST", &target.path("blobs/uploads/?digest-algorithm=md5"), &[], b"")?;
    expect(&odd, &[400], "POST with an algorithm nobody should use")
}
