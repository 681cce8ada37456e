//! Writing manifests of every kind.

use greentic_dist_types::Digest;
use serde_json::json;

use super::content::{EMPTY_TYPE, Manifest, descriptor, image, index, sha512};
use super::{Named, Problem, Target, expect, expect_code, location, same};
use crate::fixture::{INDEX_TYPE, MANIFEST_TYPE};

pub(super) const CHECKS: &[Named] = &[
    ("a_manifest_is_pushed_by_tag", by_tag),
    ("a_manifest_is_pushed_by_digest", by_digest),
    ("a_manifest_is_pushed_under_several_tags_at_once", several_tags),
    ("a_manifest_of_another_digest_is_refused", wrong_digest),
    ("a_manifest_that_is_none_is_refused", no_manifest),
    ("a_manifest_without_its_blobs_is_refused", missing_blobs),
    ("a_manifest_of_nearly_4_mib_is_taken", large),
    ("a_manifest_is_pushed_by_its_sha512_digest", by_sha512),
    ("an_index_is_pushed", plain_index),
    ("an_index_in_an_index_is_pushed", nested_index),
    ("an_empty_index_is_pushed", empty_index),
    ("an_artifact_of_its_own_type_is_pushed", artifact),
    ("an_image_without_layers_is_pushed", no_layers),
    ("content_inside_a_descriptor_is_kept", inline_data),
    ("a_layer_that_is_kept_elsewhere_need_not_be_there", elsewhere),
    ("fields_nobody_knows_are_kept", unknown_fields),
];

fn by_tag(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let manifest = Manifest::of(&image(b"layer"));
    let answer = target.put_manifest("v1.0_x-Y", &manifest)?;
    expect(&answer, &[201], "PUT")?;
    let at = target.manifest("GET", "v1.0_x-Y", MANIFEST_TYPE)?;
    same(&at.body, &manifest.bytes, "the manifest")?;
    expect(&target.ask("GET", &location(&answer)?, &[("Accept", MANIFEST_TYPE)], b"")?, &[200], "GET of the Location")
}

fn by_digest(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let manifest = Manifest::of(&image(b"layer"));
    let digest = manifest.digest().to_string();
    expect(&target.put_manifest(&digest, &manifest)?, &[201], "PUT")?;
    target.has_manifest(&digest, &manifest)
}

fn several_tags(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let manifest = Manifest::of(&image(b"layer"));
    let answer = target.put_manifest(&format!("{}?tag=one&tag=two", manifest.digest()), &manifest)?;
    expect(&answer, &[201], "PUT")?;
    let told: Vec<&str> = answer.headers.get_all("oci-tag").flat_map(|value| value.split(',')).map(str::trim).collect();
    same(&told, &vec!["one", "two"], "OCI-Tag")?;
    target.has_manifest("one", &manifest)?;
    target.has_manifest("two", &manifest)?;
    let bad = target.put_manifest(&format!("{}?tag=.bad", manifest.digest()), &manifest)?;
    expect(&bad, &[400], "PUT with a tag that is none")
}

fn wrong_digest(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let other = Digest::sha256(b"other").to_string();
    let answer = target.put_manifest(&other, &Manifest::of(&image(b"layer")))?;
    expect(&answer, &[400], "PUT")?;
    expect_code(&answer, "DIGEST_INVALID", "PUT")
}

fn no_manifest(target: &Target) -> Result<(), Problem> {
    for bytes in [&b"no json"[..], b"[]"] {
        let manifest = Manifest { media_type: MANIFEST_TYPE.to_owned(), bytes: bytes.to_vec() };
        let answer = target.put_manifest("1", &manifest)?;
        expect(&answer, &[400], "PUT")?;
        expect_code(&answer, "MANIFEST_INVALID", "PUT")?;
    }
    Ok(())
}

fn missing_blobs(target: &Target) -> Result<(), Problem> {
    target.push_blob(b"{}")?;
    let answer = target.put_manifest("1", &Manifest::of(&image(b"never pushed")))?;
    expect(&answer, &[400, 404], "PUT")?;
    expect_code(&answer, "MANIFEST_BLOB_UNKNOWN", "PUT")
}

fn large(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let mut value = image(b"layer");
    value["annotations"] = json!({ "filler": "x".repeat((4 << 20) - 1_000) });
    let manifest = Manifest::of(&value);
    expect(&target.put_manifest("large", &manifest)?, &[201], "PUT")?;
    target.has_manifest("large", &manifest)
}

fn by_sha512(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let manifest = Manifest::of(&image(b"layer"));
    let digest = sha512(&manifest.bytes).to_string();
    expect(&target.put_manifest(&digest, &manifest)?, &[201], "PUT")?;
    target.has_manifest(&digest, &manifest)
}

fn takes(target: &Target, manifest: &Manifest) -> Result<(), Problem> {
    expect(&target.put_manifest("1", manifest)?, &[201], "PUT")?;
    target.has_manifest("1", manifest)?;
    let answer = target.manifest("GET", "1", &manifest.media_type)?;
    same(&answer.header("content-type"), &&*manifest.media_type, "Content-Type")
}

fn plain_index(target: &Target) -> Result<(), Problem> {
    let (one, two) = (target.push_image("one", b"1")?, target.push_image("two", b"2")?);
    takes(target, &Manifest::of(&index(&[&one, &two])))
}

fn nested_index(target: &Target) -> Result<(), Problem> {
    let inner = Manifest::of(&index(&[&target.push_image("one", b"1")?]));
    expect(&target.put_manifest("inner", &inner)?, &[201], "PUT of the inner index")?;
    takes(target, &Manifest::of(&index(&[&inner])))
}

fn empty_index(target: &Target) -> Result<(), Problem> {
    let empty = index(&[]);
    same(&empty["mediaType"].as_str(), &Some(INDEX_TYPE), "the fixture")?;
    takes(target, &Manifest::of(&empty))
}

fn artifact(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"sbom")?;
    let mut value = image(b"sbom");
    value["artifactType"] = "application/vnd.example.sbom".into();
    value["layers"][0]["mediaType"] = "application/vnd.example.sbom.v1+json".into();
    takes(target, &Manifest::of(&value))
}

fn no_layers(target: &Target) -> Result<(), Problem> {
    target.push_blob(b"{}")?;
    let mut value = image(b"");
    value["layers"] = json!([]);
    takes(target, &Manifest::of(&value))
}

fn inline_data(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let mut value = image(b"layer");
    value["config"]["data"] = "e30=".into();
    takes(target, &Manifest::of(&value))
}

fn elsewhere(target: &Target) -> Result<(), Problem> {
    target.push_blob(b"{}")?;
    let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut layer = descriptor(kind, b"kept elsewhere");
    layer["urls"] = json!(["https://example.com/layer"]);
    let value = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(EMPTY_TYPE, b"{}"),
        "layers": [layer],
    });
    takes(target, &Manifest::of(&value))
}

fn unknown_fields(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let mut value = image(b"layer");
    value["org.example.own"] = json!({ "nested": [1, 2, 3] });
    value["layers"][0]["x-own"] = true.into();
    takes(target, &Manifest::of(&value))
}
