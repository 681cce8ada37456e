//! Every kind of content goes from our hands into skopeo's and back without a byte being another: pushed by us and pulled by
//! skopeo, pushed by skopeo and pulled by us, through Debian's `docker-registry`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::raw_client;
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo_digest, skopeo_pull, skopeo_push};
use serde_json::json;

use crate::machine::Machine;

/// The blobs of a layout by their names.
pub(crate) fn blobs(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    TreeSnapshot::of(&layout.join("blobs"))
        .files()
        .iter()
        .map(|name| ((*name).to_owned(), fs::read(layout.join("blobs").join(name)).unwrap()))
        .collect()
}

/// What a layout must hold of the content. Without `with_referrers`, what refers to the root stays where it is.
fn expected(content: &Content, with_referrers: bool) -> BTreeMap<String, Vec<u8>> {
    let layout = tempfile::tempdir().unwrap();
    if with_referrers {
        content.write_layout(layout.path(), "1");
    } else {
        let mut alone = content.clone();
        alone.manifests.clear();
        alone.blobs.truncate(2);
        alone.write_layout(layout.path(), "1");
    }
    blobs(layout.path())
}

/// Both ways for one kind.
fn carried(test: &str, content: &Content) {
    if !ready(test, &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let machine = Machine::new();
    let layout = |name: &str| format!("oci-layout:{}:1", path(name).display());
    let (ours, theirs) = (format!("{}/acme/ours:1", registry.host()), format!("{}/acme/theirs:1", registry.host()));
    fs::create_dir(path("source")).unwrap();
    content.write_layout(&path("source"), "1");
    let has_referrer = test.contains("refers");

    // What we push, skopeo pulls; it leaves referrers where they are.
    machine.dist(["copy", &layout("source"), &ours]).expect_code(0);
    skopeo_pull(&ours, &path("skopeo-pulled"), "1", None).unwrap_or_else(|words| panic!("{words}"));
    assert!(blobs(&path("skopeo-pulled")) == expected(content, !has_referrer));
    machine.dist(["copy", &ours, &layout("pulled")]).expect_code(0);
    assert!(blobs(&path("pulled")) == expected(content, true));

    // What skopeo pushes, we pull.
    skopeo_push(&path("source"), "1", &theirs, None).unwrap_or_else(|words| panic!("{words}"));
    machine.dist(["copy", &theirs, &layout("skopeo-pushed")]).expect_code(0);
    assert!(blobs(&path("skopeo-pushed")) == expected(content, !has_referrer));
}

#[test]
fn an_image_is_carried_unchanged() {
    carried("an_image_is_carried_unchanged", &content::image());
}

#[test]
fn an_index_is_carried_unchanged() {
    carried("an_index_is_carried_unchanged", &content::index());
}

#[test]
fn an_index_in_an_index_is_carried_unchanged() {
    let test = "an_index_in_an_index_is_carried_unchanged";
    if !ready(test, &["docker-registry", "skopeo"]) {
        return;
    }
    // skopeo copies no index that stands in another one, so it is given the parts.
    let (content, inner) = (content::nested_index(), content::index());
    let (registry, machine, work) = (DockerRegistry::open(), Machine::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| work.path().join(name);
    let layout = |name: &str| format!("oci-layout:{}:1", path(name).display());
    let ours = format!("{}/acme/ours", registry.host());
    for (name, content) in [("source", &content), ("inner", &inner)] {
        fs::create_dir(path(name)).unwrap();
        content.write_layout(&path(name), "1");
    }
    machine.dist(["copy", &layout("source"), &format!("{ours}:1")]).expect_code(0);
    assert_eq!(skopeo_digest(&format!("{ours}:1")), content.root.digest);
    skopeo_pull(&format!("{ours}@{}", inner.root.digest), &path("skopeo-pulled"), "1", None).unwrap();
    assert!(blobs(&path("skopeo-pulled")) == blobs(&path("inner")));

    // The inner index was pushed by skopeo; what stands around it goes there without it, and everything comes back.
    let theirs = format!("{}/acme/theirs", registry.host());
    skopeo_push(&path("inner"), "1", &format!("{theirs}:inner"), None).unwrap();
    let report = machine.dist(["--json", "copy", &layout("source"), &format!("{theirs}:1")]);
    let report = report.expect_code(0).json();
    assert_eq!((&report["manifests_present"], &report["manifests_copied"]), (&json!(3), &json!(2)));
    machine.dist(["copy", &format!("{theirs}:1"), &layout("pulled")]).expect_code(0);
    assert!(blobs(&path("pulled")) == expected(&content, true));
}

#[test]
fn an_artifact_with_an_empty_config_is_carried_unchanged() {
    carried("an_artifact_with_an_empty_config_is_carried_unchanged", &content::artifact());
}

#[test]
fn a_list_of_artifacts_is_carried_unchanged() {
    carried("a_list_of_artifacts_is_carried_unchanged", &content::artifact_list());
}

#[test]
fn an_artifact_whose_subject_is_missing_is_carried_unchanged() {
    carried("an_artifact_whose_subject_is_missing_is_carried_unchanged", &content::missing_subject());
}

#[test]
fn fields_that_no_specification_knows_are_carried_unchanged() {
    carried("fields_that_no_specification_knows_are_carried_unchanged", &content::custom_fields());
}

#[test]
fn what_refers_to_an_image_is_carried_unchanged() {
    carried("what_refers_to_an_image_is_carried_unchanged", &content::with_subject());
}

#[test]
fn a_list_that_refers_to_an_image_is_carried_unchanged() {
    carried("a_list_that_refers_to_an_image_is_carried_unchanged", &content::subject_list());
}

#[test]
fn a_manifest_without_layers_is_carried_unchanged() {
    carried("a_manifest_without_layers_is_carried_unchanged", &content::no_layers());
}

#[test]
fn an_empty_blob_is_carried_unchanged() {
    carried("an_empty_blob_is_carried_unchanged", &content::empty_blob());
}

#[test]
fn inline_data_is_carried_unchanged() {
    carried("inline_data_is_carried_unchanged", &content::inline_data());
}

#[test]
fn a_blob_named_by_its_sha512_is_carried_unchanged() {
    named_otherwise("a_blob_named_by_its_sha512_is_carried_unchanged", &content::sha512(), "sha512:");
}

#[test]
fn a_blob_named_by_its_sha384_is_carried_unchanged() {
    named_otherwise("a_blob_named_by_its_sha384_is_carried_unchanged", &content::sha384(), "sha384:");
}

/// Both ways for a layer that is named by another algorithm.
fn named_otherwise(test: &str, content: &Content, algorithm: &str) {
    if !ready(test, &["docker-registry", "skopeo"]) {
        return;
    }
    // skopeo 1.9 reads such a manifest and cannot write the blob, because it names it by its SHA-256. So a client that knows
    // nothing but HTTP reads what we pushed, and pushes what we pull.
    let layer = &content.blobs[1];
    assert!(layer.digest.to_string().starts_with(algorithm));
    let (registry, machine, work) = (DockerRegistry::open(), Machine::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| work.path().join(name);
    let layout = |name: &str| format!("oci-layout:{}:1", path(name).display());
    let ask = |method: &str, target: &str, kind: &str, body: &[u8]| {
        raw_client::exchange(registry.addr(), method, target, &[("Content-Type", kind)], body).unwrap()
    };
    fs::create_dir(path("source")).unwrap();
    content.write_layout(&path("source"), "1");
    let ours = format!("{}/acme/ours:1", registry.host());
    machine.dist(["copy", &layout("source"), &ours]).expect_code(0);
    assert_eq!(skopeo_digest(&ours), content.root.digest);
    for blob in &content.blobs {
        assert!(ask("GET", &format!("/v2/acme/ours/blobs/{}", blob.digest), "", b"").body == blob.bytes);
    }

    for blob in &content.blobs {
        let session = ask("POST", "/v2/acme/theirs/blobs/uploads/", "", b"").header("Location").to_owned();
        let target = session.split_once(&registry.host()).unwrap().1;
        let put = ask("PUT", &format!("{target}&digest={}", blob.digest), "application/octet-stream", &blob.bytes);
        assert_eq!(put.status, 201, "{}", put.text());
    }
    let put = ask("PUT", "/v2/acme/theirs/manifests/1", &content.root.media_type, &content.root.bytes);
    assert_eq!(put.status, 201, "{}", put.text());
    for name in ["ours", "theirs"] {
        machine.dist(["copy", &format!("{}/acme/{name}:1", registry.host()), &layout(name)]).expect_code(0);
        assert!(blobs(&path(name)) == expected(content, true), "{name}");
    }
}

#[test]
fn a_manifest_of_4_mib_is_carried_unchanged() {
    carried("a_manifest_of_4_mib_is_carried_unchanged", &content::large_manifest());
}
