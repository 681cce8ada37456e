//! `metadata.json` beside what a fetcher found: also where somebody else made the entry, or somebody removed it since.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::fixture::{self, Artifact, Blob, INDEX_TYPE, WASM_TYPE, artifact_of, index};
use greentic_dist_testkit::scenario::Scenario;
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci_components::{ComponentResolveOptions, OciComponentResolver};
use greentic_distributor_client::oci_packs::{DefaultRegistryClient, OciPackFetcher, PackFetchOptions, PulledImage};
use serde_json::{Value, json};

use crate::components::{COMPONENT_MANIFEST, options as component_options};
use crate::packs::{self, GTPACK, fetcher, options};
use crate::packs_injected::{Mock, layer};
use crate::support::Home;

/// The document beside an artifact, and the time in the record of its entry.
#[track_caller]
fn metadata(artifact: &Path) -> Value {
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(artifact.with_file_name(name)).unwrap()).unwrap() };
    let (mut metadata, record) = (read("metadata.json"), read("entry.json"));
    assert_eq!(metadata["fetched_at_unix_seconds"], record["fetched_at"], "{metadata}");
    metadata.as_object_mut().unwrap().remove("fetched_at_unix_seconds");
    metadata
}

/// A cache in which no file can be made: what is needed for that is in the way.
fn lock_up(home: &Home) {
    let temp = home.cache().join("tmp");
    fs::remove_dir_all(&temp).unwrap();
    fs::write(temp, "in the way").unwrap();
}

fn pack() -> Artifact {
    artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(61, 4_000))], &[])
}

fn component() -> Artifact {
    let manifest = json!({ "artifacts": { "component_wasm": "hello.wasm" } }).to_string();
    artifact_of(vec![Blob::new(COMPONENT_MANIFEST, manifest), Blob::new(WASM_TYPE, fixture::component_bytes())], &[])
}

fn resolver(home: &Home, offline: bool) -> OciComponentResolver {
    OciComponentResolver::new(ComponentResolveOptions { offline, ..component_options(home) })
}

#[tokio::test]
async fn a_pack_that_somebody_else_brought_gets_its_metadata_and_a_lost_one_is_written_again() {
    let (home, artifact) = (Home::new(), pack());
    let registry = Scenario::new(artifact.clone()).start();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    let pin = artifact.manifest_digest.to_string();
    let expected = |reference: &str| {
        json!({
            "original_reference": reference, "resolved_digest": pin, "media_type": GTPACK, "size_bytes": 4_000,
            "manifest_digest": pin,
        })
    };
    registry.journal().clear();
    for offline in [false, true] {
        let fetcher = fetcher(&home, PackFetchOptions { offline, ..options(&home) });
        for reference in [registry.pinned(), registry.reference()] {
            let found = fetcher.fetch_pack_to_cache(&reference).await.unwrap();
            assert!(!found.fetched_from_network);
            assert_eq!(metadata(&found.path), expected(&reference));
            // What is there stays, whoever asks.
            fs::write(found.path.with_file_name("metadata.json"), "mine").unwrap();
            fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
            assert_eq!(fs::read_to_string(found.path.with_file_name("metadata.json")).unwrap(), "mine");
            fs::remove_file(found.path.with_file_name("metadata.json")).unwrap();
        }
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    home.client().verify_cached(&pin).unwrap();
}

#[tokio::test]
async fn a_pack_of_an_index_gets_metadata_with_both_digests() {
    let (home, artifact) = (Home::new(), pack());
    let registry = Scenario::new(artifact.clone()).start();
    let document = index(&[(artifact.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, Some("index"));
    let reference = registry.pinned_to(document.digest);
    home.client().resolve_ref(&reference).await.unwrap();
    let offline = fetcher(&home, PackFetchOptions { offline: true, ..options(&home) });
    let found = offline.fetch_pack_to_cache(&reference).await.unwrap();
    let metadata = metadata(&found.path);
    assert_eq!(metadata["resolved_digest"], document.digest.to_string());
    assert_eq!(metadata["manifest_digest"], artifact.manifest_digest.to_string());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_to_hands_out_what_it_has_without_metadata() {
    let (home, pack, component) = (Home::new(), pack(), component());
    let registry = Scenario::new(pack).start();
    registry.publish(&component, "component");
    for reference in [registry.pinned(), registry.reference_to("component")] {
        home.client().resolve_ref(&reference).await.unwrap();
    }
    lock_up(&home);
    for offline in [false, true] {
        let fetcher = fetcher(&home, PackFetchOptions { offline, ..options(&home) });
        let found = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
        assert_eq!(fs::read(&found.path).unwrap(), registry.artifact().layer_bytes());
        assert!(!found.path.with_file_name("metadata.json").exists());
        let resolver = resolver(&home, offline);
        let found = resolver.resolve_ref(&registry.pinned_to(component.manifest_digest)).await.unwrap();
        assert_eq!(fs::read(&found.path).unwrap(), fixture::component_bytes());
        assert!(!found.path.with_file_name("metadata.json").exists());
    }
}

#[tokio::test]
async fn a_component_that_somebody_else_brought_gets_its_metadata_and_a_lost_one_is_written_again() {
    let (home, artifact) = (Home::new(), component());
    let registry = Scenario::new(artifact.clone()).start();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    let pin = artifact.manifest_digest.to_string();
    for offline in [false, true] {
        let resolver = resolver(&home, offline);
        let found = resolver.resolve_ref(&registry.pinned()).await.unwrap();
        let expected = json!({
            "original_reference": registry.pinned(), "resolved_digest": pin, "media_type": WASM_TYPE,
            "size_bytes": fixture::component_bytes().len(), "manifest_digest": pin, "manifest_wasm_name": "hello.wasm",
        });
        assert_eq!(metadata(&found.path), expected);
        fs::remove_file(found.path.with_file_name("metadata.json")).unwrap();
        // Asking what it is writes nothing.
        resolver.resolve_descriptor(&registry.pinned()).await.unwrap();
        assert!(!found.path.with_file_name("metadata.json").exists());
    }
    // Nothing is taken from a component manifest that is not the published one.
    let manifest = home.entry(&pin).join("component.manifest.json");
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, r#"{"artifacts":{"component_wasm":"evil.wasm"}}"#).unwrap();
    let offline = resolver(&home, true);
    let error = offline.resolve_ref(&registry.pinned()).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity, "{error}");
    assert!(!home.entry(&pin).join("metadata.json").exists());
    resolver(&home, false).resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!(metadata(&home.entry(&pin).join("component.wasm"))["manifest_wasm_name"], "hello.wasm");
}

#[tokio::test]
async fn the_pack_of_a_hosts_client_gets_its_lost_metadata_again() {
    let (home, reference) = (Home::new(), "registry.example/acme/pack:1");
    let mock = Mock::with(reference, PulledImage { digest: None, layers: vec![layer(GTPACK, b"a pack")] });
    let fetcher = |offline| OciPackFetcher::with_client(mock.clone(), PackFetchOptions { offline, ..options(&home) });
    let first = fetcher(false).fetch_pack_to_cache(reference).await.unwrap();
    let written = metadata(&first.path);
    fs::remove_file(first.path.with_file_name("metadata.json")).unwrap();
    fetcher(true).fetch_pack_to_cache(reference).await.unwrap();
    assert_eq!(metadata(&first.path), written);
    assert_eq!(mock.pulls(), 1);
}

#[tokio::test]
async fn d11_what_is_in_the_cache_is_held_against_the_accepted_manifest_types_too() {
    let (home, pack, component) = (Home::new(), pack(), component());
    let registry = Scenario::new(pack.clone()).start();
    registry.publish(&component, "component");
    let document = index(&[(pack.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, Some("index"));
    let pinned_component = registry.pinned_to(component.manifest_digest);
    fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.pinned_to(document.digest)).await.unwrap();
    resolver(&home, false).resolve_ref(&pinned_component).await.unwrap();
    registry.journal().clear();
    let indexes = vec![INDEX_TYPE.to_owned()];
    let manifests = vec![pack.media_type.clone()];
    for offline in [false, true] {
        for (types, reference, refused) in [
            (&indexes, registry.pinned(), pack.media_type.as_str()),
            (&indexes, registry.pinned_to(document.digest), pack.media_type.as_str()),
            (&manifests, registry.pinned_to(document.digest), INDEX_TYPE),
        ] {
            let options = PackFetchOptions { offline, accepted_manifest_types: types.clone(), ..options(&home) };
            let error = fetcher(&home, options).fetch_pack_to_cache(&reference).await.unwrap_err();
            assert_eq!(error.kind(), DistErrorKind::Policy, "{error}");
            assert!(error.to_string().contains(refused), "{error}");
        }
        let options =
            ComponentResolveOptions { offline, accepted_manifest_types: indexes.clone(), ..component_options(&home) };
        let error = OciComponentResolver::<DefaultRegistryClient>::new(options)
            .resolve_ref(&pinned_component)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Policy, "{error}");
        // A client of the host is told the same about what a registry sent.
        let options = PackFetchOptions { offline, accepted_manifest_types: indexes.clone(), ..packs::options(&home) };
        let own = OciPackFetcher::with_client(Mock::default(), options);
        let error = own.fetch_pack_to_cache(&registry.pinned()).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Policy, "{error}");
    }
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    let takes = PackFetchOptions { accepted_manifest_types: manifests, ..options(&home) };
    assert!(!fetcher(&home, takes).fetch_pack_to_cache(&registry.pinned()).await.unwrap().fetched_from_network);
}
