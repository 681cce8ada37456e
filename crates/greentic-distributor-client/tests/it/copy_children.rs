//! Manifests that are not what the index that led to them says: refused by a copy from wherever they come.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, Blob, INDEX_TYPE};
use greentic_dist_testkit::scenario::LyingRegistry;
use greentic_distributor_client::dist::{DistError, DistErrorKind};
use greentic_distributor_client::oci::{CopyOptions, CopyReport, Place};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::copy_layouts::archived;
use crate::support::{Home, assert_fails, chain, registry};

const OTHER_TYPES: [&str; 3] =
    [INDEX_TYPE, "application/vnd.docker.distribution.manifest.v2+json", "application/octet-stream"];

/// An index that calls the manifest of a registry so, for one platform.
fn index_calling(registry: &LyingRegistry, media_type: &str) -> Blob {
    let mut child = registry.artifact().descriptor();
    child["mediaType"] = media_type.into();
    fixture::index(&[(child, Some(("linux", "amd64")))])
}

/// A registry whose tag `liar` is such an index.
fn lying(media_type: &str) -> LyingRegistry {
    let registry = registry();
    registry.publish_document(&index_calling(&registry, media_type), Some("liar"));
    registry
}

/// A layout of the same.
fn lying_layout(media_type: &str) -> TempDir {
    let (layout, registry) = (tempfile::tempdir().unwrap(), registry());
    let index = index_calling(&registry, media_type);
    fixture::oci_layout(layout.path(), &[registry.artifact().clone()], "1");
    fs::write(layout.path().join("blobs/sha256").join(index.digest.to_hex()), &index.bytes).unwrap();
    name(layout.path(), &index.descriptor());
    layout
}

/// Lets a layout hold this alone.
fn name(layout: &Path, entry: &Value) {
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

async fn copy(from: &str, to: &str, platform: Option<&str>) -> Result<CopyReport, DistError> {
    let platform = platform.map(|platform| platform.parse().unwrap());
    let options = CopyOptions { platform, ..CopyOptions::default() };
    Home::new().client().copy(&Place::parse(from).unwrap(), &Place::parse(to).unwrap(), &options).await
}

/// Panics unless copies of the whole and of its one platform are refused and leave nothing.
async fn assert_refused(from: &str, called: &str) {
    let work = tempfile::tempdir().unwrap();
    for platform in [None, Some("linux/amd64")] {
        for to in ["oci-layout:DIR/layout", "oci-archive:DIR/archive.tar"] {
            let to = to.replace("DIR", work.path().to_str().unwrap());
            let text = assert_fails(copy(from, &to, platform).await, DistErrorKind::Internal, 10);
            assert!(text.contains(called), "{text}");
        }
    }
    assert_eq!(TreeSnapshot::of(work.path()).paths(), [""; 0]);
}

#[tokio::test]
async fn quirk_s08_a_child_that_its_index_calls_something_else_is_not_copied_from_a_registry() {
    for called in OTHER_TYPES {
        let (registry, to) = (lying(called), registry());
        assert_refused(&registry.reference_to("liar"), called).await;
        copy(&registry.reference_to("liar"), &to.reference_to("2"), None).await.unwrap_err();
        assert_eq!(registry.journal().count_containing("/blobs/"), 0);
        assert_eq!(to.journal().len(), 0);
        // A pull says the same.
        let home = Home::new();
        let error = home.client().resolve_ref(&format!("oci://{}", registry.reference_to("liar"))).await.unwrap_err();
        assert_eq!(error.exit_code(), 10, "{}", chain(&error));
    }
    let honest = registry();
    let called = honest.artifact().media_type.clone();
    honest.publish_document(&index_calling(&honest, &called), Some("honest"));
    let to = tempfile::tempdir().unwrap();
    for (platform, manifests) in [(None, 2), (Some("linux/amd64"), 1)] {
        let to = format!("oci-layout:{}/{manifests}", to.path().display());
        let report = copy(&honest.reference_to("honest"), &to, platform).await.unwrap();
        assert_eq!(report.manifests_copied, manifests);
    }
}

#[tokio::test]
async fn quirk_s08_a_child_that_its_index_calls_something_else_is_not_copied_from_a_layout() {
    for called in OTHER_TYPES {
        let layout = lying_layout(called);
        assert_refused(&format!("oci-layout:{}", layout.path().display()), called).await;
        let work = tempfile::tempdir().unwrap();
        let tar = work.path().join("liar.tar");
        fs::write(&tar, archived(layout.path())).unwrap();
        assert_refused(&format!("oci-archive:{}", tar.display()), called).await;
    }
}

#[tokio::test]
async fn what_the_index_of_a_layout_calls_something_else_is_not_copied() {
    let layout = lying_layout(INDEX_TYPE);
    for called in OTHER_TYPES {
        let mut entry = registry().artifact().descriptor();
        entry["mediaType"] = called.into();
        name(layout.path(), &entry);
        let to = tempfile::tempdir().unwrap();
        let to = format!("oci-layout:{}/out", to.path().display());
        let copied = copy(&format!("oci-layout:{}", layout.path().display()), &to, None).await;
        let text = assert_fails(copied, DistErrorKind::Internal, 10);
        assert!(text.contains(called), "{text}");
    }
}
