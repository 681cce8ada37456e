//! Deletion of tags, manifests and blobs.

use greentic_dist_types::Digest;

use super::{Named, Problem, Target, expect, same};
use crate::fixture::MANIFEST_TYPE;

pub(super) const CHECKS: &[Named] = &[
    ("a_tag_is_deleted_and_its_manifest_stays", tag),
    ("a_manifest_is_deleted_with_its_tags", manifest),
    ("a_blob_is_deleted", blob),
    ("what_is_not_there_cannot_be_deleted", missing),
];

fn delete(target: &Target, rest: &str) -> Result<u16, Problem> {
    Ok(target.ask("DELETE", &target.path(rest), &[], b"")?.status)
}

fn tag(target: &Target) -> Result<(), Problem> {
    let manifest = target.push_image("one", b"layer")?;
    expect(&target.put_manifest("two", &manifest)?, &[201], "PUT")?;
    same(&delete(target, "manifests/one")?, &202, "DELETE of the tag")?;
    expect(&target.manifest("GET", "one", MANIFEST_TYPE)?, &[404], "GET of the tag")?;
    target.has_manifest("two", &manifest)?;
    target.has_manifest(&manifest.digest().to_string(), &manifest)?;
    let tags = target.get(&target.path("tags/list"))?.json();
    same(&tags["tags"], &serde_json::json!(["two"]), "the tags")
}

fn manifest(target: &Target) -> Result<(), Problem> {
    let digest = target.push_image("one", b"layer")?.digest().to_string();
    same(&delete(target, &format!("manifests/{digest}"))?, &202, "DELETE")?;
    expect(&target.manifest("GET", &digest, MANIFEST_TYPE)?, &[404], "GET by digest")?;
    expect(&target.manifest("GET", "one", MANIFEST_TYPE)?, &[404], "GET by tag")
}

fn blob(target: &Target) -> Result<(), Problem> {
    let digest = target.push_blob(b"to be deleted")?;
    same(&delete(target, &format!("blobs/{digest}"))?, &202, "DELETE")?;
    expect(&target.get(&target.path(&format!("blobs/{digest}")))?, &[404], "GET")
}

fn missing(target: &Target) -> Result<(), Problem> {
    target.push_image("one", b"layer")?;
    let digest = Digest::sha256(b"missing");
    same(&delete(target, &format!("manifests/{digest}"))?, &404, "DELETE of a manifest")?;
    same(&delete(target, &format!("blobs/{digest}"))?, &404, "DELETE of a blob")
}
