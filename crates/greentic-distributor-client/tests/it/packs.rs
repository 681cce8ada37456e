//! Packs from registries, streamed by the client of this crate.

use std::fs;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, Artifact, Blob, artifact_of, index};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::{CachePolicy, DistError, DistErrorKind, PlatformChoice, ResolvePolicy};
use greentic_distributor_client::oci_packs::{
    DefaultRegistryClient, OciPackError, OciPackFetcher, PackFetchOptions, default_pack_layer_media_types,
    default_preferred_pack_layer_media_types,
};
use greentic_distributor_client::{fetch_pack_to_cache_with_options, fetch_pack_with_options};

use crate::support::Home;

/// The type that packs are pushed with today.
pub(crate) const GTPACK: &str = "application/vnd.greentic.gtpack.v1+zip";

/// Options that read nothing of this process's environment.
pub(crate) fn options(home: &Home) -> PackFetchOptions {
    PackFetchOptions { allow_tags: true, offline: false, cache_dir: home.cache(), ..PackFetchOptions::default() }
}

/// A fetcher with these options, no login, and retries that are not waited for.
pub(crate) fn fetcher(home: &Home, options: PackFetchOptions) -> OciPackFetcher<DefaultRegistryClient> {
    OciPackFetcher::with_client(DefaultRegistryClient::like(&home.client()), options)
}

fn pack(seed: u64) -> Artifact {
    artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(seed, 50_000))], &[])
}

fn serve(artifact: &Artifact) -> LyingRegistry {
    Scenario::new(artifact.clone()).start()
}

/// The directory of the entry with this digest.
fn entry(home: &Home, digest: &str) -> std::path::PathBuf {
    home.cache().join(digest.split_once(':').unwrap().1)
}

/// Panics unless the error names the reference and the kind is the one of this exit code.
#[track_caller]
pub(crate) fn assert_refused(error: &OciPackError, reference: &str, kind: DistErrorKind, reasons: &[&str]) {
    let text = error.to_string();
    assert_eq!((error.kind(), error.exit_code()), (kind, kind.exit_code()), "{text}");
    assert_eq!(error.reference(), reference, "{text}");
    assert!(text.contains(reference), "{text}");
    for reason in reasons {
        assert!(text.contains(reason), "`{reason}` is not said: {text}");
    }
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[tokio::test]
async fn a_pack_comes_in_two_requests_and_is_where_hosts_look_for_it() {
    let (home, artifact) = (Home::new(), pack(1));
    let registry = serve(&artifact);
    let reference = registry.reference();
    let resolved = OciPackFetcher::<DefaultRegistryClient>::new(options(&home)).fetch_pack_to_cache(&reference).await;
    let resolved = resolved.unwrap();
    let pin = artifact.manifest_digest.to_string();
    assert_eq!(resolved.original_reference, reference);
    assert_eq!((resolved.resolved_digest.as_str(), resolved.manifest_digest.as_deref()), (&*pin, Some(&*pin)));
    assert_eq!(resolved.media_type, GTPACK);
    assert!(resolved.fetched_from_network);
    assert_eq!(resolved.path, entry(&home, &pin).join("pack.gtpack"));
    assert_eq!(fs::read(&resolved.path).unwrap(), artifact.layer_bytes());
    let layer = format!("GET /v2/acme/hello/blobs/{}", artifact.layer_digest());
    assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1", &layer]);

    let metadata = fs::read(resolved.path.with_file_name("metadata.json")).unwrap();
    let mut metadata: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&metadata).unwrap();
    assert!(metadata.remove("fetched_at_unix_seconds").unwrap().as_u64().unwrap() > 1_700_000_000);
    let expected = serde_json::json!({
        "original_reference": reference, "resolved_digest": pin, "media_type": GTPACK, "size_bytes": 50_000,
        "manifest_digest": pin,
    });
    assert_eq!(serde_json::Value::Object(metadata), expected);
}

#[tokio::test]
async fn a_cached_pin_costs_no_request_and_an_unchanged_tag_one() {
    let (home, artifact) = (Home::new(), pack(2));
    let registry = serve(&artifact);
    let first = fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    registry.journal().clear();
    let pinned = fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    assert!(registry.journal().is_empty());
    assert!(!pinned.fetched_from_network);
    assert_eq!((pinned.path, pinned.resolved_digest), (first.path.clone(), first.resolved_digest.clone()));
    let tagged = fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!((tagged.path, tagged.fetched_from_network), (first.path, false));
    assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1"]);
}

#[tokio::test]
async fn the_helpers_read_the_pack_into_memory() {
    let (home, artifact) = (Home::new(), pack(3));
    let registry = serve(&artifact);
    let bytes = fetch_pack_with_options(&registry.pinned(), options(&home)).await.unwrap();
    assert_eq!(bytes, artifact.layer_bytes());
    let resolved = fetch_pack_to_cache_with_options(&registry.pinned(), options(&home)).await.unwrap();
    assert!(!resolved.fetched_from_network);
}

#[tokio::test]
async fn a_tag_needs_permission_before_anything_else_is_said_about_it() {
    let (home, artifact) = (Home::new(), pack(4));
    let registry = serve(&artifact);
    let before = TreeSnapshot::of(&home.cache());
    for offline in [false, true] {
        let options = PackFetchOptions { allow_tags: false, offline, ..options(&home) };
        let error = fetcher(&home, options).fetch_pack_to_cache(&registry.reference()).await.unwrap_err();
        assert!(matches!(error, OciPackError::TagDisallowed { .. }), "{error}");
        assert_refused(&error, &registry.reference(), DistErrorKind::InvalidInput, &["tag"]);
    }
    assert!(registry.journal().is_empty());
    assert!(before.diff(&TreeSnapshot::of(&home.cache())).is_empty());
}

#[tokio::test]
async fn every_default_type_is_a_pack_and_any_tarball_too() {
    let defaults = default_pack_layer_media_types();
    assert_eq!(defaults[..5], default_preferred_pack_layer_media_types());
    let tarballs = ["application/vnd.acme.kit.bundle.v1+tar", "x/y+tar+gzip", "x/y+tar+zstd"].map(ToOwned::to_owned);
    for (seed, media_type) in defaults.into_iter().chain(tarballs).enumerate() {
        let layer = Blob::new(&media_type, fixture::random_bytes(seed as u64, 400));
        let (home, artifact) = (Home::new(), artifact_of(vec![layer.clone()], &[]));
        let registry = serve(&artifact);
        let resolved = fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
        assert_eq!(resolved.media_type, media_type);
        assert_eq!(fs::read(&resolved.path).unwrap(), layer.bytes, "{media_type}");
    }
}

#[tokio::test]
async fn of_an_index_the_wasm_manifest_is_taken_and_both_digests_are_told() {
    let (home, wasm, linux) = (Home::new(), pack(5), pack(6));
    let registry = serve(&linux);
    registry.publish(&wasm, "wasm");
    let document =
        index(&[(linux.descriptor(), Some(("linux", "amd64"))), (wasm.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, Some("index"));
    let fetch = async |reference: String, offline: bool| {
        let options = PackFetchOptions { offline, ..options(&home) };
        fetcher(&home, options).fetch_pack_to_cache(&reference).await.unwrap()
    };
    for (reference, offline) in [
        (registry.reference_to("index"), false),
        (registry.pinned_to(document.digest), false),
        (registry.reference_to("index"), true),
        (registry.pinned_to(document.digest), true),
    ] {
        let resolved = fetch(reference, offline).await;
        assert_eq!(resolved.resolved_digest, document.digest.to_string());
        assert_eq!(resolved.manifest_digest, Some(wasm.manifest_digest.to_string()));
        assert_eq!(resolved.path, entry(&home, &wasm.manifest_digest.to_string()).join("pack.gtpack"));
        assert_eq!(fs::read(&resolved.path).unwrap(), wasm.layer_bytes());
    }
}

/// The pack again, in a manifest of another digest.
fn built_for(pack: &Artifact, architecture: &str) -> Artifact {
    artifact_of(pack.layers.clone(), &[("platform", architecture)])
}

#[tokio::test]
async fn of_an_index_of_common_platforms_the_same_one_is_taken_everywhere_when_they_hold_the_same_pack() {
    let pack = pack(7);
    let (amd, arm) = (built_for(&pack, "amd64"), built_for(&pack, "arm64"));
    let registry = serve(&pack);
    let entry = |one: &Artifact, os: &'static str, name: &'static str| (one.descriptor(), Some((os, name)));
    let windows = entry(&self::pack(8), "windows", "amd64");
    for (name, entries, taken, manifests) in [
        ("both", vec![windows.clone(), entry(&arm, "linux", "arm64"), entry(&amd, "linux", "amd64")], &amd, 3),
        ("arm", vec![windows.clone(), entry(&arm, "linux", "arm64")], &arm, 2),
        ("one", vec![entry(&amd, "linux", "arm64"), entry(&amd, "linux", "amd64")], &amd, 2),
    ] {
        for one in [&amd, &arm] {
            registry.publish(one, "inner");
        }
        let document = index(&entries);
        registry.publish_document(&document, Some(name));
        let home = Home::new();
        registry.journal().clear();
        let fetch = async |reference: String, offline| {
            let options = PackFetchOptions { offline, ..options(&home) };
            fetcher(&home, options).fetch_pack_to_cache(&reference).await.unwrap()
        };
        let first = fetch(registry.pinned_to(document.digest), false).await;
        assert_eq!(registry.journal().count_containing("/manifests/"), manifests, "{:?}", registry.journal().lines());
        assert_eq!(registry.journal().count_containing("/blobs/"), 1);
        assert_eq!(first.resolved_digest, document.digest.to_string());
        assert_eq!(first.manifest_digest, Some(taken.manifest_digest.to_string()));
        assert_eq!(fs::read(&first.path).unwrap(), pack.layer_bytes());
        registry.journal().clear();
        assert_eq!(fetch(registry.pinned_to(document.digest), false).await.path, first.path);
        assert_eq!(fetch(registry.pinned_to(document.digest), true).await.path, first.path);
        assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
        assert_eq!(fetch(registry.reference_to(name), false).await.path, first.path);
        assert_eq!(fetch(registry.reference_to(name), true).await.path, first.path);
        // The client and the resolver of components go by the same rule.
        let pulled = Home::new().client().resolve_ref(&registry.reference_to(name)).await.unwrap();
        assert_eq!(pulled.digest, taken.manifest_digest.to_string());
    }
}

#[tokio::test]
async fn an_index_with_another_pack_for_each_common_platform_is_refused_unless_one_is_asked_for() {
    let (home, amd, arm) = (Home::new(), pack(7), pack(8));
    let registry = serve(&amd);
    registry.publish(&arm, "arm");
    let entries = [(amd.descriptor(), Some(("linux", "amd64"))), (arm.descriptor(), Some(("linux", "arm64")))];
    let document = index(&entries);
    registry.publish_document(&document, Some("index"));
    for reference in [registry.reference_to("index"), registry.pinned_to(document.digest)] {
        let error = fetcher(&home, options(&home)).fetch_pack_to_cache(&reference).await.unwrap_err();
        assert_refused(&error, &reference, DistErrorKind::NotFound, &[]);
        let text = crate::support::chain(&error);
        assert!(text.contains("different content") && error.hints()[0].contains("digest"), "{text}");
        home.assert_cache_empty();
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    for (architecture, expected) in [("arm64", &arm), ("amd64", &amd)] {
        let platform: PlatformChoice = format!("linux/{architecture}").parse().unwrap();
        let like = home.builder().platform(platform).build();
        let fetcher = OciPackFetcher::with_client(DefaultRegistryClient::like(&like), options(&home));
        let fetched = fetcher.fetch_pack_to_cache(&registry.reference_to("index")).await.unwrap();
        assert_eq!(fs::read(fetched.path).unwrap(), expected.layer_bytes());
    }
    // What others chose does not make it any less ambiguous.
    for offline in [false, true] {
        let options = PackFetchOptions { offline, ..options(&home) };
        fetcher(&home, options).fetch_pack_to_cache(&registry.pinned_to(document.digest)).await.unwrap_err();
    }
    let windows: PlatformChoice = "windows/amd64".parse().unwrap();
    let like = home.builder().platform(windows).build();
    let error = like.resolve_ref(&registry.reference_to("index")).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_pin_never_stands_for_another_layer_than_the_client_takes_whoever_came_first() {
    let wasm = fixture::random_bytes(41, 3_000);
    let pack = fixture::random_bytes(42, 4_000);
    let artifact = artifact_of(vec![Blob::new(GTPACK, pack.clone()), Blob::new("application/wasm", wasm.clone())], &[]);
    let registry = serve(&artifact);
    let (pinned, tagged) = (registry.pinned(), registry.reference());

    // The fetcher of packs first.
    let home = Home::new();
    let first = fetcher(&home, options(&home)).fetch_pack_to_cache(&pinned).await.unwrap();
    for (client, reference) in [(home.client(), &pinned), (home.client(), &tagged), (home.offline(), &pinned)] {
        let source = client.parse_source(&format!("oci://{reference}")).unwrap();
        let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
        assert_eq!((descriptor.media_type.as_str(), descriptor.size_bytes), ("application/wasm", 3_000));
        let error = client.fetch(&descriptor, CachePolicy).await.unwrap_err();
        assert!(matches!(&error, DistError::OtherLayer { kept, .. } if kept == GTPACK), "{error:?}");
        assert_eq!(error.exit_code(), 6);
        assert!(error.to_string().contains(reference.as_str()) && !error.hints().is_empty(), "{error}");
    }
    assert_eq!(fs::read(&first.path).unwrap(), pack);

    // The client first: it gets the component, and the fetcher is told why it gets no pack.
    let home = Home::new();
    let client = home.client();
    let source = client.parse_source(&format!("oci://{pinned}")).unwrap();
    let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
    let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
    assert_eq!(fs::read(&artifact.local_path).unwrap(), wasm);
    let error = fetcher(&home, options(&home)).fetch_pack_to_cache(&pinned).await.unwrap_err();
    assert_refused(&error, &pinned, DistErrorKind::Policy, &["another of its layers", "application/wasm"]);

    // Each in a directory of its own, as they are by default.
    let own = Home::new();
    let resolved = fetcher(&own, options(&own)).fetch_pack_to_cache(&pinned).await.unwrap();
    assert_eq!(fs::read(resolved.path).unwrap(), pack);
}

/// An archive of one empty file with this name.
fn zip_of(name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap().to_le_bytes();
    // Version 2.0, stored, no time, an empty content with its checksum, both sizes, the length of the name, no extra field.
    let file = [&[20, 0][..], &[0; 20], &length, &[0; 2]].concat();
    let local = [&b"PK\x03\x04"[..], &file, name.as_bytes()].concat();
    // Made by version 2.0; no comment, first disk, no attributes, the file at offset 0.
    let central = [&b"PK\x01\x02\x14\0"[..], &file, &[0; 14], name.as_bytes()].concat();
    let size = |part: &[u8]| u32::try_from(part.len()).unwrap().to_le_bytes();
    let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &size(&central), &size(&local), &[0; 2]].concat();
    [local, central, end].concat()
}

#[tokio::test]
async fn row_36_a_pack_is_never_unpacked_whatever_the_names_in_it_are() {
    for name in ["../../../evil", "/tmp/evil", "metadata.json/evil", "evil"] {
        let (home, zip) = (Home::new(), zip_of(name));
        let registry = serve(&artifact_of(vec![Blob::new(GTPACK, zip.clone())], &[]));
        let pack = fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
        assert_eq!(fs::read(pack.path).unwrap(), zip);
        let snapshot = TreeSnapshot::of(home.path());
        let files = snapshot.files();
        assert!(!files.iter().any(|file| file.ends_with("evil")), "{name}: {files:?}");
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn a_tag_that_meant_nothing_for_this_client_is_asked_for_again() {
    let home = Home::new();
    let notes = "application/vnd.acme.notes";
    let old = artifact_of(vec![Blob::new(notes, fixture::random_bytes(51, 2_000))], &[]);
    let registry = serve(&old);
    let reference = registry.reference();
    let takes_notes = options(&home).add_accepted_layer_media_type(notes);
    fetcher(&home, takes_notes).fetch_pack_to_cache(&reference).await.unwrap();
    let client = home.client();
    let source = || client.parse_source(&format!("oci://{reference}")).unwrap();
    // A client that takes what it knows refuses it, as it would have with an empty cache.
    let error = client.resolve(source(), ResolvePolicy).await.unwrap_err();
    assert!(matches!(error, DistError::Selection { .. }), "{error:?}");

    let new = artifact_of(vec![Blob::new("application/wasm", fixture::component_bytes())], &[]);
    registry.publish(&new, "1");
    let descriptor = client.resolve(source(), ResolvePolicy).await.unwrap();
    assert_eq!(descriptor.digest, new.manifest_digest.to_string());
    let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
    assert_eq!(fs::read(&artifact.local_path).unwrap(), fixture::component_bytes());
}

#[tokio::test]
async fn a_lock_file_never_hands_out_another_layer_of_what_it_locks() {
    let home = Home::new();
    let wasm = Blob::new("application/wasm", fixture::random_bytes(52, 3_000));
    let artifact = artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(53, 4_000)), wasm], &[]);
    let registry = serve(&artifact);
    fetcher(&home, options(&home)).fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    let lock = home.path().join("pack.lock.json");
    let text = serde_json::json!({
        "schema_version": 1,
        "components": [{ "name": "one", "ref": format!("oci://{}", registry.reference()), "digest": artifact.manifest_digest.to_string() }],
    });
    fs::write(&lock, text.to_string()).unwrap();
    for client in [home.client(), home.offline()] {
        let error = client.pull_lock(&lock).await.unwrap_err();
        assert!(crate::support::chain(&error).contains("another of its layers"), "{error:?}");
        assert_eq!(error.exit_code(), 6);
    }
}
