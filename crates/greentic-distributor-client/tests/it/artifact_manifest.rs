//! Artifact manifests of the type that was withdrawn from the image-spec: what was published so is pulled like any artifact.

use greentic_dist_serve::Registry;
use greentic_dist_testkit::fixture::{self, ARTIFACT_MANIFEST_TYPE, Blob, Document, WASM_TYPE, artifact_manifest};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci::{CopyOptions, Place};
use greentic_distributor_client::oci_components::{OciComponentResolver, ResolvedComponent};
use greentic_distributor_client::oci_packs::PackFetchOptions;

use crate::components::{self, COMPONENT_MANIFEST};
use crate::packs::{self, GTPACK};
use crate::support::{Home, chain};

const TYPE: &str = "application/vnd.acme.thing";

/// A registry that has an artifact manifest over these blobs as `acme/hello:1`, and what it has.
fn registry_with(blobs: &[Blob]) -> (LyingRegistry, Document) {
    let registry = Scenario::new(fixture::artifact_of(blobs.to_vec(), &[])).start();
    let manifest = artifact_manifest(TYPE, blobs, None);
    registry.publish_document(&manifest, Some("1"));
    (registry, manifest)
}

fn wasm() -> Blob {
    Blob::new(WASM_TYPE, fixture::random_bytes(11, 30_000))
}

#[tokio::test]
async fn a_component_is_pulled_by_tag_by_pin_and_through_an_index_and_opens_offline() {
    let (home, blobs) = (Home::new(), [Blob::new("text/plain", "notes"), wasm()]);
    let (registry, manifest) = registry_with(&blobs);
    let index = fixture::index(&[(manifest.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&index, Some("all"));
    let first = home.client().resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert_eq!(
        (first.digest.as_str(), first.content_digest()),
        (&*manifest.digest.to_string(), blobs[1].digest.to_string())
    );
    assert!(first.wasm_bytes().unwrap() == blobs[1].bytes);
    assert_eq!(registry.journal().len(), 2, "the manifest and one blob, {:?}", registry.journal().lines());
    let raw = std::fs::read(home.entry(manifest.digest).join("manifest.json")).unwrap();
    assert_eq!(raw, manifest.bytes);
    for name in [registry.reference(), registry.pinned_to(manifest.digest), registry.reference_to("all")] {
        let name = format!("oci://{name}");
        home.client().resolve_ref(&name).await.unwrap();
        let offline = home.offline().resolve_ref(&name).await.unwrap();
        assert_eq!((&offline.digest, offline.content_digest()), (&first.digest, first.content_digest()));
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
}

#[tokio::test]
async fn packs_and_components_of_the_fetchers_come_the_same_way() {
    let pack = Blob::new(GTPACK, fixture::random_bytes(12, 20_000));
    let (registry, manifest) = registry_with(&[Blob::new("text/plain", "notes"), pack.clone()]);
    let home = Home::new();
    let resolved =
        packs::fetcher(&home, packs::options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!((resolved.resolved_digest, resolved.media_type.as_str()), (manifest.digest.to_string(), GTPACK));
    assert!(std::fs::read(&resolved.path).unwrap() == pack.bytes);

    let described = Blob::new(COMPONENT_MANIFEST, r#"{"id":"acme.hello","artifacts":{"component_wasm":"hello.wasm"}}"#);
    let (registry, manifest) = registry_with(&[described, wasm()]);
    let home = Home::new();
    let resolver: OciComponentResolver = OciComponentResolver::new(components::options(&home));
    let ResolvedComponent { path, manifest_digest, .. } =
        resolver.resolve_ref(&registry.pinned_to(manifest.digest)).await.unwrap();
    assert_eq!(manifest_digest, Some(manifest.digest.to_string()));
    assert!(path.ends_with("hello.wasm") && std::fs::read(&path).unwrap() == wasm().bytes);
}

#[tokio::test]
async fn a_fetcher_that_does_not_list_the_type_refuses_it_by_name() {
    let (registry, _) = registry_with(&[Blob::new(GTPACK, fixture::random_bytes(13, 900))]);
    let home = Home::new();
    let listed = vec![fixture::MANIFEST_TYPE.to_owned()];
    let options = PackFetchOptions { accepted_manifest_types: listed, ..packs::options(&home) };
    let reference = registry.reference();
    let error = packs::fetcher(&home, options).fetch_pack_to_cache(&reference).await.unwrap_err();
    packs::assert_refused(&error, &reference, DistErrorKind::Policy, &[ARTIFACT_MANIFEST_TYPE]);
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
}

#[tokio::test]
async fn a_body_that_could_be_an_image_too_is_refused_and_nothing_is_kept() {
    let blobs = [wasm()];
    let (registry, manifest) = registry_with(&blobs);
    let mut both: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    both["layers"] = both["blobs"].clone();
    let many: Vec<Blob> = vec![wasm(); 1_001];
    for (document, reason) in [
        (Blob::new(ARTIFACT_MANIFEST_TYPE, both.to_string()), "`blobs` and `layers`"),
        (Blob::new(fixture::MANIFEST_TYPE, manifest.bytes.clone()), "the server calls it"),
        (artifact_manifest(TYPE, &many, None), "blobs"),
        (artifact_manifest(TYPE, &[], None), "no layers"),
    ] {
        let home = Home::new();
        registry.publish_document(&document, Some("1"));
        let error = home.client().resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains(reason), "`{reason}` is not said: {text}");
        home.assert_cache_empty();
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
}

#[tokio::test]
async fn one_that_refers_to_an_image_is_listed_described_and_copied_with_it() {
    let registry = Registry::in_memory();
    let image = fixture::artifact(WASM_TYPE, wasm().bytes);
    let sbom = Blob::new("application/spdx+json", "{}");
    let referrer =
        artifact_manifest("application/vnd.acme.sbom", std::slice::from_ref(&sbom), Some(image.descriptor()));
    for blob in image.blobs().chain([&sbom]) {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    registry.put_manifest("acme/hello", &["1"], &image.media_type, &image.manifest_bytes).unwrap();
    registry.put_manifest("acme/hello", &["sbom"], ARTIFACT_MANIFEST_TYPE, &referrer.bytes).unwrap();
    let registry = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
    let (home, place) = (Home::new(), |name: &str| Place::parse(&format!("{}/{name}", registry.host())).unwrap());

    let described = home.client().describe(&place("acme/hello:1")).await.unwrap();
    let listed = described.referrers.unwrap();
    assert_eq!((listed.len(), listed[0].digest.clone()), (1, referrer.digest.to_string()));
    assert_eq!(listed[0].media_type, ARTIFACT_MANIFEST_TYPE);
    assert_eq!(listed[0].artifact_type.as_deref(), Some("application/vnd.acme.sbom"));
    let described = home.client().describe(&place("acme/hello:sbom")).await.unwrap();
    assert_eq!(described.subject, Some(image.manifest_digest.to_string()));
    assert_eq!((described.config, described.manifest_digest), (None, Some(referrer.digest.to_string())));
    assert_eq!((described.layers.len(), described.layers[0].media_type.as_str()), (1, "application/spdx+json"));

    // Copied as it is: it is carried to where its subject goes.
    let copied = home.client().copy(&place("acme/hello:1"), &place("mirror/hello:1"), &CopyOptions::default()).await;
    assert_eq!(copied.unwrap().referrers, 1);
    let there = home.client().describe(&place(&format!("mirror/hello@{}", referrer.digest))).await.unwrap();
    assert_eq!(there.digest, referrer.digest.to_string());
}
