//! `OciComponentResolver` with the client of this crate: which requests it sends, what it refuses, what stays in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE, artifact_of};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario};
use greentic_dist_testkit::{LyingServer, Response, TreeSnapshot};
use greentic_dist_types::{Algorithm, Digest};
use greentic_distributor_client::dist::{DistClient, DistErrorKind};
use greentic_distributor_client::oci_components::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, DefaultRegistryClient, OciComponentError,
    OciComponentResolver, ResolvedComponent,
};
use serde_json::json;

use crate::support::{CANARY, Home, chain, other, registry, sample};

/// Media type of a component manifest.
pub(crate) const COMPONENT_MANIFEST: &str = "application/vnd.greentic.component.manifest+json";

pub(crate) fn options(home: &Home) -> ComponentResolveOptions {
    ComponentResolveOptions {
        allow_tags: true,
        offline: false,
        cache_dir: home.cache(),
        ..ComponentResolveOptions::default()
    }
}

fn resolver(home: &Home) -> OciComponentResolver {
    OciComponentResolver::new(options(home))
}

fn offline(home: &Home) -> OciComponentResolver {
    OciComponentResolver::new(ComponentResolveOptions { offline: true, ..options(home) })
}

pub(crate) fn eager(refs: &[String]) -> ComponentsExtension {
    ComponentsExtension { refs: refs.to_vec(), mode: ComponentsMode::Eager }
}

fn lazy(refs: &[String]) -> ComponentsExtension {
    ComponentsExtension { refs: refs.to_vec(), mode: ComponentsMode::Lazy }
}

fn manifest_line(name: impl std::fmt::Display) -> String {
    format!("GET /v2/acme/hello/manifests/{name}")
}

fn blob_line(blob: &Blob) -> String {
    format!("GET /v2/acme/hello/blobs/{}", blob.digest)
}

/// A component with the manifest that names it.
fn named_component(name: &str) -> Artifact {
    let manifest = json!({ "id": "acme.hello", "artifacts": { "component_wasm": name } }).to_string();
    artifact_of(
        vec![Blob::new(COMPONENT_MANIFEST, manifest), Blob::new(WASM_TYPE, fixture::random_bytes(3, 9_000))],
        &[],
    )
}

#[track_caller]
fn assert_holds(component: &ResolvedComponent, bytes: &[u8]) {
    assert!(fs::read(&component.path).unwrap() == bytes, "other bytes at {}", component.path.display());
}

/// Panics unless it failed with this kind and exit code, and says all of this.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, OciComponentError>,
    kind: DistErrorKind,
    said: &[&str],
) -> OciComponentError {
    let error = result.unwrap_err();
    let text = chain(&error);
    assert_eq!((error.kind(), error.exit_code()), (kind, kind.exit_code()), "{text}");
    for said in said.iter().chain(&[error.reference()]) {
        assert!(text.contains(said), "`{said}` is not said: {text}");
    }
    assert!(!text.chars().any(char::is_control), "{text:?}");
    error
}

#[test]
fn a_resolver_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let home = Home::new();
    let resolver = resolver(&home);
    shared(&resolver);
    assert!(!home.cache().exists(), "making one does no I/O");
}

#[tokio::test]
async fn a_pinned_component_costs_two_requests_and_then_none() {
    let (home, registry) = (Home::new(), registry());
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    let artifact = registry.artifact();
    assert_eq!(registry.journal().lines(), [manifest_line(artifact.manifest_digest), blob_line(&artifact.layers[0])]);
    assert_holds(&component, artifact.layer_bytes());
    assert_eq!(component.path, home.entry(artifact.manifest_digest).join("component.wasm"));
    assert_eq!(component.original_reference, registry.pinned());
    assert_eq!(component.resolved_digest, artifact.manifest_digest.to_string());
    assert_eq!(component.manifest_digest.as_ref(), Some(&component.resolved_digest));
    assert_eq!((component.media_type.as_str(), component.fetched_from_network), (WASM_TYPE, true));

    registry.journal().clear();
    let again = resolver(&home).resolve_refs(&eager(&[registry.pinned()])).await.unwrap();
    assert_eq!(again, [ResolvedComponent { fetched_from_network: false, ..component.clone() }]);
    assert!(registry.journal().is_empty());
    let metadata = fs::read(component.path.with_file_name("metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["original_reference"], component.original_reference);
    assert_eq!(metadata["resolved_digest"], component.resolved_digest);
    assert_eq!(metadata["manifest_digest"], component.resolved_digest);
    assert_eq!((&metadata["media_type"], &metadata["size_bytes"]), (&json!(WASM_TYPE), &json!(200_000)));
    assert!(metadata["fetched_at_unix_seconds"].is_u64() && metadata["manifest_wasm_name"].is_null(), "{metadata}");
}

#[tokio::test]
async fn d14_a_descriptor_asks_for_the_manifest_alone_writes_nothing_and_is_not_asked_for_again() {
    let (home, registry) = (Home::new(), registry());
    let resolver = resolver(&home);
    let artifact = registry.artifact();
    let descriptor = resolver.resolve_descriptor(&registry.pinned()).await.unwrap();
    assert_eq!(registry.journal().lines(), [manifest_line(artifact.manifest_digest)]);
    assert!(!home.cache().exists(), "{:?}", TreeSnapshot::of(&home.cache()).paths());
    assert_eq!(descriptor.resolved_digest, artifact.manifest_digest.to_string());
    assert_eq!((descriptor.size_bytes, descriptor.fetched_from_network), (200_000, true));

    registry.journal().clear();
    assert_holds(&resolver.resolve_ref(&registry.pinned()).await.unwrap(), artifact.layer_bytes());
    assert_eq!(registry.journal().lines(), [blob_line(&artifact.layers[0])], "what was resolved is remembered");

    registry.journal().clear();
    for _ in 0..200 {
        let cached = resolver.resolve_descriptor(&registry.pinned()).await.unwrap();
        assert!(!cached.fetched_from_network);
        assert_eq!((cached.size_bytes, &cached.resolved_digest), (200_000, &descriptor.resolved_digest));
    }
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn d15_tags_are_taken_only_where_they_are_allowed_and_known_ones_also_offline() {
    let (home, registry) = (Home::new(), registry());
    let pins = OciComponentResolver::<DefaultRegistryClient>::new(ComponentResolveOptions {
        allow_tags: false,
        ..options(&home)
    });
    let error = assert_refused(pins.resolve_ref(&registry.reference()).await, DistErrorKind::InvalidInput, &[]);
    assert!(matches!(error, OciComponentError::DigestRequired { .. }), "{error:?}");
    let never = OciComponentResolver::<DefaultRegistryClient>::new(ComponentResolveOptions {
        allow_tags: false,
        offline: true,
        ..options(&home)
    });
    let error = never.resolve_ref(&registry.reference()).await.unwrap_err();
    assert!(matches!(error, OciComponentError::DigestRequired { .. }), "before offline: {error:?}");
    let unknown = assert_refused(offline(&home).resolve_ref(&registry.reference()).await, DistErrorKind::Offline, &[]);
    assert!(matches!(unknown, OciComponentError::OfflineTaggedReference { .. }), "{unknown:?}");
    let missing = assert_refused(offline(&home).resolve_ref(&registry.pinned()).await, DistErrorKind::Offline, &[]);
    let pin = registry.artifact().manifest_digest.to_string();
    assert!(matches!(&missing, OciComponentError::OfflineMissing { digest, .. } if *digest == pin), "{missing:?}");
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());

    let resolver = resolver(&home);
    assert!(resolver.resolve_ref(&registry.reference()).await.unwrap().fetched_from_network);
    registry.journal().clear();
    let again = resolver.resolve_ref(&registry.reference()).await.unwrap();
    assert!(!again.fetched_from_network);
    assert_eq!(registry.journal().lines(), [manifest_line(1)], "a tag is asked about, nothing is moved");
    assert_eq!(registry.journal().entries()[0].status, 304);

    registry.journal().clear();
    let from_memory = offline(&home).resolve_refs(&eager(&[registry.reference(), registry.pinned()])).await.unwrap();
    for component in &from_memory {
        assert_holds(component, registry.artifact().layer_bytes());
    }
    assert!(!offline(&home).resolve_descriptor(&registry.reference()).await.unwrap().fetched_from_network);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn what_is_no_reference_to_a_registry_is_refused_before_anybody_is_asked() {
    let (home, registry) = (Home::new(), registry());
    for wrong in ["not a ref", "", "foo", "oci://ghcr.io/a/b:1", "ghcr.io/A/b:1", "me:hidden@ghcr.io/a/b:1"] {
        let refs = [registry.pinned(), wrong.to_owned()];
        let error = resolver(&home).resolve_refs(&eager(&refs)).await.unwrap_err();
        assert!(matches!(error, OciComponentError::InvalidReference { .. }), "{wrong}: {error:?}");
        assert_eq!(error.exit_code(), 2);
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        assert_eq!(error.hints().is_empty(), !wrong.contains("://"), "{error:?}");
    }
    assert!(registry.journal().is_empty() && !home.cache().exists());
}

#[tokio::test]
async fn d12_layers_of_other_kinds_are_neither_refused_nor_downloaded() {
    let extras = ["application/spdx+json", "text/markdown", "application/vnd.acme.licence.v1"]
        .map(|kind| Blob::new(kind, format!("some {kind}")));
    let manifest = Blob::new(COMPONENT_MANIFEST, r#"{ "id": "acme.hello" }"#);
    let wasm = Blob::new(WASM_TYPE, fixture::random_bytes(3, 9_000));
    let mut layers: Vec<Blob> = extras.to_vec();
    layers.extend([manifest.clone(), wasm.clone()]);
    for turn in 0..layers.len() {
        layers.rotate_left(turn);
        let (home, artifact) = (Home::new(), artifact_of(layers.clone(), &[]));
        let registry = Scenario::new(artifact.clone()).start();
        let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
        assert_holds(&component, &wasm.bytes);
        assert_eq!(fs::read(component.path.with_file_name("component.manifest.json")).unwrap(), manifest.bytes);
        let expected = [manifest_line(artifact.manifest_digest), blob_line(&manifest), blob_line(&wasm)];
        assert_eq!(registry.journal().lines(), expected, "no config, no other layer");
    }
}

#[tokio::test]
async fn every_default_type_is_a_component_and_so_is_what_a_host_prefers() {
    let defaults = ComponentResolveOptions::default().preferred_layer_media_types;
    let own = "application/vnd.acme.component";
    for (seed, media_type) in defaults.iter().map(String::as_str).chain([own, "Application/WASM; v=1"]).enumerate() {
        // What is the component manifest itself has to be one.
        let bytes = if media_type == COMPONENT_MANIFEST {
            br#"{ "id": "acme.hello" }"#.to_vec()
        } else {
            fixture::random_bytes(seed as u64, 700)
        };
        let (home, registry) =
            (Home::new(), Scenario::new(artifact_of(vec![Blob::new(media_type, bytes.clone())], &[])).start());
        let mut options = options(&home);
        options.preferred_layer_media_types.push(own.to_owned());
        let resolver: OciComponentResolver = OciComponentResolver::new(options);
        let component = resolver.resolve_ref(&registry.reference()).await.unwrap();
        assert_eq!(component.media_type, media_type);
        assert_holds(&component, &bytes);
    }
    let registry = Scenario::new(artifact_of(vec![Blob::new(own, "x")], &[])).start();
    let refused = resolver(&Home::new()).resolve_ref(&registry.reference()).await;
    assert_refused(refused, DistErrorKind::Internal, &[own]);
}

#[tokio::test]
async fn row_30_of_two_equally_preferred_layers_the_first_of_the_manifest_is_taken() {
    let layers: Vec<Blob> = (0..4).map(|seed| Blob::new(WASM_TYPE, fixture::random_bytes(seed, 2_000))).collect();
    let best = Blob::new("application/vnd.wasm.component.v1+wasm", fixture::random_bytes(9, 2_000));
    let (home, registry) = (Home::new(), Scenario::new(artifact_of(layers.clone(), &[])).start());
    assert_holds(&resolver(&home).resolve_ref(&registry.pinned()).await.unwrap(), &layers[0].bytes);
    let with_best = artifact_of([&layers[..], std::slice::from_ref(&best)].concat(), &[]);
    registry.publish(&with_best, "best");
    let component = resolver(&home).resolve_ref(&registry.reference_to("best")).await.unwrap();
    assert_holds(&component, &best.bytes);
    assert_eq!(component.media_type, best.media_type);
}

#[tokio::test]
async fn row_30_an_artifact_without_a_component_is_refused_with_what_there_was_and_leaves_no_trace() {
    let home = Home::new();
    let unknown = artifact_of(vec![Blob::new("text/html", "<p>"), Blob::new("application/x-tar", "tar")], &[]);
    let registry = Scenario::new(unknown).start();
    registry.publish(&artifact_of(Vec::new(), &[]), "empty");
    for reference in [registry.pinned(), registry.reference()] {
        let said = ["text/html", "application/x-tar", "application/wasm"];
        let error = assert_refused(resolver(&home).resolve_ref(&reference).await, DistErrorKind::Internal, &said);
        assert!(matches!(error, OciComponentError::MissingComponent { .. }), "{error:?}");
        assert!(!error.hints().is_empty());
    }
    let empty = assert_refused(
        resolver(&home).resolve_ref(&registry.reference_to("empty")).await,
        DistErrorKind::Internal,
        &[],
    );
    assert!(matches!(empty, OciComponentError::MissingLayers { .. }), "{empty:?}");
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    home.assert_cache_empty();
}

#[tokio::test]
async fn d09_an_index_is_proven_by_its_pin_and_leads_to_its_wasm_manifest() {
    let (home, native) = (Home::new(), other(4));
    let registry = Scenario::new(sample()).start();
    registry.publish(&native, "native");
    let wasm = registry.artifact().clone();
    let children = [(native.descriptor(), Some(("linux", "amd64"))), (wasm.descriptor(), Some(("wasip2", "wasm")))];
    let index = fixture::index(&children);
    registry.publish_document(&index, Some("all"));
    let pinned = registry.pinned_to(index.digest);
    for reference in [registry.reference_to("all"), pinned.clone()] {
        let component = resolver(&home).resolve_ref(&reference).await.unwrap();
        assert_holds(&component, wasm.layer_bytes());
        assert_eq!(component.resolved_digest, index.digest.to_string(), "what the reference names");
        assert_eq!(component.manifest_digest, Some(wasm.manifest_digest.to_string()), "what was taken");
        assert_eq!(component.path.parent().unwrap(), home.entry(wasm.manifest_digest));
    }
    registry.journal().clear();
    let offline = offline(&home).resolve_ref(&pinned).await.unwrap();
    assert_eq!(offline.resolved_digest, index.digest.to_string());
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn an_index_of_common_platforms_leads_to_the_component_they_agree_on_and_else_to_none() {
    let registry = registry();
    let build = |bytes: &[u8], name| artifact_of(vec![Blob::new(WASM_TYPE, bytes)], &[("platform", name)]);
    let wasm = fixture::random_bytes(21, 5_000);
    let (amd, arm, other) = (build(&wasm, "amd64"), build(&wasm, "arm64"), build(b"another", "arm64"));
    for (name, arm) in [("same", &arm), ("different", &other)] {
        registry.publish(&amd, "amd");
        registry.publish(arm, "arm");
        let entries = [(arm.descriptor(), Some(("linux", "arm64"))), (amd.descriptor(), Some(("linux", "amd64")))];
        registry.publish_document(&fixture::index(&entries), Some(name));
    }
    let home = Home::new();
    let found = resolver(&home).resolve_ref(&registry.reference_to("same")).await.unwrap();
    assert_eq!(found.manifest_digest, Some(amd.manifest_digest.to_string()));
    assert_holds(&found, &wasm);
    assert_eq!(offline(&home).resolve_ref(&registry.reference_to("same")).await.unwrap().path, found.path);
    let different = registry.reference_to("different");
    assert_refused(resolver(&home).resolve_ref(&different).await, DistErrorKind::NotFound, &[]);
    assert_refused(resolver(&home).resolve_descriptor(&different).await, DistErrorKind::NotFound, &[]);
}

#[tokio::test]
async fn d10_pins_may_be_written_in_capitals_and_in_sha512() {
    let (home, registry) = (Home::new(), registry());
    let artifact = registry.artifact();
    let (name, hex) = (registry.reference(), artifact.manifest_digest.to_hex().to_uppercase());
    let capitals = format!("{}@sha256:{hex}", name.strip_suffix(":1").unwrap());
    let component = resolver(&home).resolve_ref(&capitals).await.unwrap();
    assert_holds(&component, artifact.layer_bytes());
    assert_eq!(component.original_reference, capitals);
    assert_eq!(component.resolved_digest, artifact.manifest_digest.to_string());

    for algorithm in [Algorithm::Sha384, Algorithm::Sha512] {
        let long = Digest::of(algorithm, &artifact.manifest_bytes);
        let document =
            Blob { media_type: artifact.media_type.clone(), bytes: artifact.manifest_bytes.clone(), digest: long };
        registry.publish_document(&document, None);
        let component = resolver(&home).resolve_ref(&registry.pinned_to(long)).await.unwrap();
        assert_holds(&component, artifact.layer_bytes());
        assert_eq!(component.resolved_digest, long.to_string());
        registry.journal().clear();
        assert!(!resolver(&home).resolve_ref(&registry.pinned_to(long)).await.unwrap().fetched_from_network);
        assert!(registry.journal().is_empty());
    }
}

#[tokio::test]
async fn d01_a_registry_that_echoes_the_pin_and_sends_other_bytes_is_refused() {
    for lie in [Lie::WrongManifestEchoed, Lie::PaddedManifest, Lie::WrongBlob] {
        let (home, registry) = (Home::new(), Scenario::new(sample()).lie(lie.clone()).start());
        let expected = match lie {
            Lie::WrongBlob => registry.artifact().layer_digest(),
            _ => registry.artifact().manifest_digest,
        };
        let error = assert_refused(
            resolver(&home).resolve_ref(&registry.pinned()).await,
            DistErrorKind::Integrity,
            &[&expected.to_hex()],
        );
        assert!(!error.is_transient());
        home.assert_cache_empty();
        registry.be_honest();
        let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
        assert_holds(&component, registry.artifact().layer_bytes());
    }
}

#[tokio::test]
async fn d02_a_digest_header_never_becomes_a_path() {
    for header in ["../../escaped", "/tmp/escaped", "sha256:../../escaped", "sha256:"] {
        let (home, registry) = (Home::new(), Scenario::new(sample()).lie(Lie::DigestHeader(header.into())).start());
        // What is no digest says nothing: the body was hashed, and that is its digest.
        let component = resolver(&home).resolve_ref(&registry.reference()).await.unwrap();
        assert_eq!(component.path.parent().unwrap(), home.entry(registry.artifact().manifest_digest), "{header}");
        assert_holds(&component, registry.artifact().layer_bytes());
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn d05_a_component_has_the_name_its_publisher_gave_it_beside_the_fixed_one() {
    let (home, artifact) = (Home::new(), named_component(" component_templates.wasm "));
    let registry = Scenario::new(artifact.clone()).start();
    let component = resolver(&home).resolve_ref(&registry.reference()).await.unwrap();
    let dir = home.entry(artifact.manifest_digest);
    assert_eq!(component.path, dir.join("component_templates.wasm"));
    assert_holds(&component, &artifact.layers[1].bytes);
    assert_eq!(fs::read(dir.join("component.wasm")).unwrap(), artifact.layers[1].bytes);
    assert_eq!(fs::read(dir.join("component.manifest.json")).unwrap(), artifact.layers[0].bytes);
    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["manifest_wasm_name"], "component_templates.wasm");
    assert_eq!(component.media_type, WASM_TYPE);

    // The link is relative: a cache that was moved is whole.
    let moved = home.path().join("outside").join("moved");
    fs::rename(home.cache(), &moved).unwrap();
    let elsewhere = OciComponentResolver::<DefaultRegistryClient>::new(ComponentResolveOptions {
        offline: true,
        cache_dir: moved.clone(),
        ..options(&home)
    });
    let again = elsewhere.resolve_ref(&registry.pinned()).await.unwrap();
    assert!(again.path.starts_with(&moved) && again.path.ends_with("component_templates.wasm"));
    assert_holds(&again, &artifact.layers[1].bytes);
}

#[tokio::test]
async fn the_path_of_a_build_in_a_component_manifest_is_passed_over() {
    let (home, artifact) = (Home::new(), named_component("target/wasm32-wasip2/release/hello.wasm"));
    let registry = Scenario::new(artifact.clone()).start();
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!(component.path, home.entry(artifact.manifest_digest).join("component.wasm"));
    assert_holds(&component, &artifact.layers[1].bytes);
}

#[tokio::test]
async fn row_34_names_that_lead_out_of_the_cache_or_onto_its_own_files_are_refused_before_the_component_is_moved() {
    let long = "a".repeat(300);
    for name in [
        "..",
        ".",
        "/",
        "C:",
        "/etc/passwd",
        "../../outside/sentinel",
        "a/../../x.wasm",
        "entry.json",
        "metadata.json",
        "component.manifest.json",
        "manifest.json",
        "con",
        "a\0b",
        "\u{fc}.wasm",
        "x\u{202e}.wasm",
        "x.wasm.",
        &long,
    ] {
        let (home, artifact) = (Home::new(), named_component(name));
        let registry = Scenario::new(artifact.clone()).start();
        let error = assert_refused(resolver(&home).resolve_ref(&registry.pinned()).await, DistErrorKind::Policy, &[]);
        let OciComponentError::InvalidManifestWasmName { name: told, .. } = &error else { panic!("{name}: {error:?}") };
        assert_eq!(told, name);
        assert!(!registry.journal().lines().contains(&blob_line(&artifact.layers[1])), "{name}: it was downloaded");
        home.assert_cache_empty();
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn a_component_manifest_that_is_no_json_is_refused_and_one_alone_is_the_artifact() {
    let home = Home::new();
    let wasm = Blob::new(WASM_TYPE, fixture::random_bytes(3, 9_000));
    let torn = artifact_of(vec![Blob::new(COMPONENT_MANIFEST, "{ \"artifacts\": "), wasm], &[]);
    let registry = Scenario::new(torn).start();
    let error = assert_refused(resolver(&home).resolve_ref(&registry.pinned()).await, DistErrorKind::Internal, &[]);
    assert!(matches!(error, OciComponentError::ManifestParse { .. }), "{error:?}");
    home.assert_cache_empty();

    let alone = artifact_of(vec![Blob::new(COMPONENT_MANIFEST, r#"{ "id": "acme.hello" }"#)], &[]);
    registry.publish(&alone, "alone");
    let component = resolver(&home).resolve_ref(&registry.reference_to("alone")).await.unwrap();
    assert_eq!(component.path, home.entry(alone.manifest_digest).join("component.manifest.json"));
    assert_eq!(component.media_type, COMPONENT_MANIFEST);
    assert_holds(&component, alone.layer_bytes());
}

#[tokio::test]
async fn row_35_titles_in_annotations_are_never_paths() {
    let title = [("org.opencontainers.image.title", "../../outside/sentinel")];
    let artifact = artifact_of(vec![Blob::new(WASM_TYPE, fixture::random_bytes(3, 9_000))], &title);
    let (home, registry) = (Home::new(), Scenario::new(artifact.clone()).start());
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!(component.path, home.entry(artifact.manifest_digest).join("component.wasm"));
    home.assert_nothing_outside_changed();
}

/// Overwrites a file of the cache, whatever its mode.
fn tamper(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn d04_whatever_is_changed_in_the_cache_is_healed_online_and_refused_offline() {
    let artifact = named_component("hello.wasm");
    let (manifest, wasm) = (&artifact.layers[0].bytes, &artifact.layers[1].bytes);
    let mut flipped = wasm.clone();
    flipped[100] ^= 1;
    let hostile = manifest.clone().iter().map(|byte| if *byte == b'h' { b'x' } else { *byte }).collect::<Vec<_>>();
    for (file, wrong) in [
        ("component.wasm", &b""[..]),
        ("component.wasm", &wasm[..100]),
        ("component.wasm", &flipped),
        ("component.manifest.json", &hostile),
        ("component.manifest.json", b""),
        ("manifest.json", b"{}"),
    ] {
        let (home, registry) = (Home::new(), Scenario::new(artifact.clone()).start());
        let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
        tamper(&component.path.with_file_name(file), wrong);
        registry.journal().clear();
        let error = assert_refused(offline(&home).resolve_ref(&registry.pinned()).await, DistErrorKind::Integrity, &[]);
        assert!(!error.hints().is_empty(), "{error}");
        let healed = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
        assert!(healed.fetched_from_network, "{file}");
        if file == "component.manifest.json" {
            assert_eq!(registry.journal().lines(), [blob_line(&artifact.layers[0])], "nothing else is moved");
        }
        assert_eq!(healed.path, component.path);
        assert_holds(&healed, wasm);
        assert!(fs::read(healed.path.with_file_name("component.manifest.json")).unwrap() == *manifest, "{file}");
        assert_holds(&offline(&home).resolve_ref(&registry.pinned()).await.unwrap(), wasm);
    }
}

#[tokio::test]
async fn a_component_manifest_that_cannot_be_healed_costs_nothing_that_was_good() {
    let (home, artifact) = (Home::new(), named_component("hello.wasm"));
    let registry = Scenario::new(artifact.clone()).start();
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    fs::remove_file(component.path.with_file_name("component.manifest.json")).unwrap();
    registry.lie(Lie::Status { on: Part::Blob, status: 404, times: Lie::ALWAYS, retry_after: None });
    assert_refused(resolver(&home).resolve_ref(&registry.pinned()).await, DistErrorKind::NotFound, &[]);
    assert_holds(&component, &artifact.layers[1].bytes);
    registry.be_honest();
    assert!(resolver(&home).resolve_ref(&registry.pinned()).await.unwrap().fetched_from_network);
}

#[tokio::test]
async fn a_publishers_name_that_leads_elsewhere_by_now_is_set_right() {
    let (home, artifact) = (Home::new(), named_component("hello.wasm"));
    let registry = Scenario::new(artifact.clone()).start();
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    fs::remove_file(&component.path).unwrap();
    std::os::unix::fs::symlink(home.sentinel(), &component.path).unwrap();
    let again = offline(&home).resolve_ref(&registry.pinned()).await.unwrap();
    assert_holds(&again, &artifact.layers[1].bytes);
    home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn d13_a_lazy_extension_moves_no_layer_until_one_is_asked_for_and_then_exactly_the_resolved_one() {
    let (home, registry) = (Home::new(), registry());
    let first = registry.artifact().clone();
    let (second, cached) = (other(5), other(6));
    registry.publish(&second, "second");
    registry.publish(&cached, "cached");
    let resolver = resolver(&home);
    let here = resolver.resolve_ref(&registry.reference_to("cached")).await.unwrap();
    registry.journal().clear();

    let refs = [registry.reference(), registry.pinned_to(second.manifest_digest), registry.reference_to("cached")];
    let components = resolver.resolve_refs(&lazy(&refs)).await.unwrap();
    assert_eq!(registry.journal().count_containing("/blobs/"), 0, "{:?}", registry.journal().lines());
    for (component, artifact) in components.iter().zip([&first, &second]) {
        assert_eq!(component.resolved_digest, artifact.manifest_digest.to_string());
        assert_eq!(component.path, home.entry(artifact.manifest_digest).join("component.wasm"));
        assert!(!component.path.exists() && !component.fetched_from_network);
    }
    assert_eq!(components[2], ResolvedComponent { fetched_from_network: false, ..here });
    assert_eq!(registry.journal().len(), 3, "each is asked about once: {:?}", registry.journal().lines());

    // The tag moves on; what was resolved does not.
    registry.publish(&other(7), "1");
    registry.journal().clear();
    let brought = resolver.fetch(&components[0]).await.unwrap();
    assert_holds(&brought, first.layer_bytes());
    assert_eq!(brought, ResolvedComponent { fetched_from_network: true, ..components[0].clone() });
    assert_eq!(registry.journal().lines(), [blob_line(&first.layers[0])], "the manifest is remembered");
    assert!(!components[1].path.exists(), "nobody asked for it");
    assert!(!resolver.fetch(&brought).await.unwrap().fetched_from_network);
}

#[tokio::test]
async fn a_damaged_component_of_a_lazy_extension_is_healed_when_it_is_asked_for() {
    let (home, artifact) = (Home::new(), named_component("hello.wasm"));
    let registry = Scenario::new(artifact.clone()).start();
    let resolver = resolver(&home);
    let whole = resolver.resolve_ref(&registry.pinned()).await.unwrap();
    for file in ["component.wasm", "component.manifest.json"] {
        tamper(&whole.path.with_file_name(file), b"changed");
        registry.journal().clear();
        let announced = resolver.resolve_refs(&lazy(&[registry.pinned()])).await.unwrap().remove(0);
        assert!(!announced.fetched_from_network && announced.path.ends_with("component.wasm"));
        assert_eq!(registry.journal().count_containing("/blobs/"), 0, "{file}: {:?}", registry.journal().lines());
        let refused = offline(&home).resolve_refs(&lazy(&[registry.pinned()])).await;
        assert_refused(refused, DistErrorKind::Integrity, &[]);
        let healed = resolver.fetch(&announced).await.unwrap();
        assert_eq!((healed.fetched_from_network, &healed.path), (true, &whole.path));
        assert_holds(&healed, &artifact.layers[1].bytes);
    }
}

#[tokio::test]
async fn a_component_manifest_that_is_too_large_is_left_out_and_missed_by_nobody() {
    let wasm = Blob::new(WASM_TYPE, fixture::random_bytes(3, 9_000));
    let manifest = Blob::new(COMPONENT_MANIFEST, vec![b' '; (1 << 20) + 1]);
    let (home, registry) = (Home::new(), Scenario::new(artifact_of(vec![manifest.clone(), wasm.clone()], &[])).start());
    for brought in [true, false] {
        let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
        assert_eq!(component.fetched_from_network, brought);
        assert_holds(&component, &wasm.bytes);
        assert!(component.path.ends_with("component.wasm"));
        assert!(!component.path.with_file_name("component.manifest.json").exists());
    }
    assert!(!registry.journal().lines().contains(&blob_line(&manifest)));
}

#[tokio::test]
async fn d11_manifests_of_a_type_that_is_not_accepted_are_refused() {
    let (home, registry) = (Home::new(), registry());
    let only_indexes =
        ComponentResolveOptions { accepted_manifest_types: vec![fixture::INDEX_TYPE.to_owned()], ..options(&home) };
    let resolver = OciComponentResolver::<DefaultRegistryClient>::new(only_indexes);
    assert_refused(resolver.resolve_ref(&registry.pinned()).await, DistErrorKind::Policy, &[fixture::MANIFEST_TYPE]);
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    home.assert_cache_empty();
}

#[tokio::test]
async fn descriptors_of_an_extension_come_in_order_whatever_its_mode() {
    let (home, registry) = (Home::new(), registry());
    let artifacts: Vec<Artifact> = (10..16).map(other).collect();
    for (number, artifact) in artifacts.iter().enumerate() {
        registry.publish(artifact, &format!("n{number}"));
    }
    let refs: Vec<String> = (0..artifacts.len()).map(|number| registry.reference_to(&format!("n{number}"))).collect();
    for extension in [eager(&refs), lazy(&refs)] {
        let descriptors = resolver(&home).resolve_descriptors(&extension).await.unwrap();
        let digests: Vec<_> = descriptors.into_iter().map(|descriptor| descriptor.resolved_digest).collect();
        assert_eq!(digests, artifacts.iter().map(|artifact| artifact.manifest_digest.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    assert!(!home.cache().exists());
}

#[tokio::test]
async fn the_first_failure_in_order_is_told_and_what_was_brought_stays() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(5), "2");
    let resolver = resolver(&home);
    let refs = [registry.reference(), registry.reference_to("missing"), registry.reference_to("gone")];
    let error =
        assert_refused(resolver.resolve_refs(&eager(&refs)).await, DistErrorKind::NotFound, &["manifest unknown"]);
    assert_eq!(error.reference(), refs[1]);
    assert!(matches!(error, OciComponentError::PullFailed { .. }), "{error:?}");
    assert_holds(&offline(&home).resolve_ref(&registry.reference()).await.unwrap(), registry.artifact().layer_bytes());

    let refs = [&refs[..], &[registry.reference_to("2"), "not a ref".to_owned()]].concat();
    let each = resolver.resolve_each(&eager(&refs)).await;
    let told: Vec<_> = each.iter().map(|result| result.as_ref().err().map(OciComponentError::exit_code)).collect();
    assert_eq!(told, [None, Some(3), Some(3), None, Some(2)]);
}

/// A registry that answers requests for blobs only while this many of them wait.
struct Together {
    waiting: Mutex<usize>,
    changed: Condvar,
    enough: usize,
}

impl Together {
    fn wait(&self) -> bool {
        let mut waiting = self.waiting.lock().unwrap();
        *waiting += 1;
        self.changed.notify_all();
        let (waiting, timeout) = self
            .changed
            .wait_timeout_while(waiting, Duration::from_secs(20), |waiting| *waiting < self.enough)
            .unwrap();
        drop(waiting);
        !timeout.timed_out()
    }
}

#[tokio::test]
async fn components_are_fetched_at_the_same_time_and_told_in_order() {
    let artifacts: Arc<Vec<Artifact>> = Arc::new((100..164).map(other).collect());
    let together = Arc::new(Together { waiting: Mutex::new(0), changed: Condvar::new(), enough: 16 });
    let server = {
        let (artifacts, together) = (Arc::clone(&artifacts), Arc::clone(&together));
        LyingServer::start(move |request, _| {
            let name = request.path.rsplit('/').next().unwrap_or_default();
            let manifest = artifacts.iter().find(|artifact| artifact.manifest_digest.to_string() == name);
            let blob = artifacts.iter().find(|artifact| artifact.layer_digest().to_string() == name);
            match (manifest, blob) {
                (Some(artifact), _) => {
                    Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", artifact.media_type.clone())
                }
                (_, Some(artifact)) if together.wait() => Response::ok(artifact.layer_bytes().to_vec()),
                _ => Response::status(500, "nobody else came"),
            }
        })
    };
    let pinned = |artifact: &Artifact| format!("{}/acme/hello@{}", server.host(), artifact.manifest_digest);
    let refs: Vec<String> = artifacts.iter().map(pinned).collect();
    let home = Home::new();
    let components = resolver(&home).resolve_refs(&eager(&refs)).await.unwrap();
    for ((component, artifact), reference) in components.iter().zip(artifacts.iter()).zip(&refs) {
        assert_eq!(&component.original_reference, reference);
        assert_holds(component, artifact.layer_bytes());
    }
    assert_eq!(server.journal().len(), 128, "a manifest and a layer each, and no ping");
}

#[tokio::test]
async fn sixty_four_references_of_a_registry_with_tokens_share_one() {
    let (home, registry) = (Home::new(), Scenario::new(sample()).auth(Auth::AnonymousBearer).start());
    let refs: Vec<String> = (0..64)
        .map(|number| {
            let artifact = other(200 + number);
            registry.publish(&artifact, &format!("n{number}"));
            registry.pinned_to(artifact.manifest_digest)
        })
        .collect();
    let components = resolver(&home).resolve_refs(&eager(&refs)).await.unwrap();
    assert_eq!(components.len(), 64);
    let journal = registry.journal();
    assert_eq!(journal.count_containing("/token"), 1, "{:?}", journal.lines());
    assert_eq!(journal.lines().iter().filter(|line| line.as_str() == "GET /v2/").count(), 0);
    assert_eq!(journal.entries().iter().filter(|entry| entry.path.contains("/blobs/")).count(), 64);
}

#[test]
fn d29_one_resolver_serves_several_runtimes_on_several_threads() {
    let (home, registry) = (Home::new(), registry());
    let resolver = Arc::new(resolver(&home));
    for round in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (resolver, registry) = (Arc::clone(&resolver), &registry);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let refs = [registry.reference(), registry.pinned()];
                    let components = runtime.block_on(resolver.resolve_refs(&eager(&refs))).unwrap();
                    for component in &components {
                        assert_holds(component, registry.artifact().layer_bytes());
                    }
                });
            }
        });
        assert_eq!(
            registry.journal().count_containing("/blobs/"),
            1,
            "round {round}: {:?}",
            registry.journal().lines()
        );
    }
}

#[tokio::test]
async fn components_and_pulled_artifacts_are_the_same_entries() {
    let (home, artifact) = (Home::new(), named_component("hello.wasm"));
    let registry = Scenario::new(artifact.clone()).start();
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    registry.journal().clear();
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    assert!(!component.fetched_from_network);
    assert_eq!(component.path, pulled.local_path.with_file_name("hello.wasm"));
    assert_eq!(fs::canonicalize(&component.path).unwrap(), fs::canonicalize(&pulled.local_path).unwrap());

    let elsewhere = Home::new();
    resolver(&elsewhere).resolve_ref(&registry.pinned()).await.unwrap();
    let opened: DistClient = elsewhere.offline();
    let opened = opened.open_cached(&artifact.manifest_digest.to_string()).unwrap();
    assert!(opened.wasm_bytes().unwrap() == artifact.layers[1].bytes);
}

#[tokio::test]
async fn a_transfer_that_was_given_up_goes_on_where_it_stopped() {
    let (home, registry) = (Home::new(), Scenario::new(sample()).start());
    registry.lie(Lie::StallBlob { after: 100_000, times: 1 });
    let dropped = {
        let resolver = resolver(&home);
        let partial = home.cache().join("partial");
        let reference = registry.pinned();
        let task = tokio::spawn(async move { resolver.resolve_ref(&reference).await });
        let mut left = 2_000;
        while left > 0 && !has_bytes(&partial) {
            left -= 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(has_bytes(&partial), "nothing came");
        task.abort();
        task.await
    };
    assert!(dropped.unwrap_err().is_cancelled());
    registry.be_honest();
    let component = resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    assert_holds(&component, registry.artifact().layer_bytes());
    let last = registry.journal().entries().pop().unwrap();
    assert!(last.headers.get("range").is_some_and(|range| range.starts_with("bytes=")), "{:?}", last.headers);
}

#[tokio::test]
async fn d31_a_resolver_remembers_nothing_that_the_directory_does_not_hold() {
    let (home, registry) = (Home::new(), registry());
    let resolver = resolver(&home);
    let first = resolver.resolve_ref(&registry.pinned()).await.unwrap();
    fs::remove_dir_all(first.path.parent().unwrap()).unwrap();
    let again = resolver.resolve_ref(&registry.pinned()).await.unwrap();
    assert!(again.fetched_from_network);
    fs::write(
        first.path.with_file_name("metadata.json"),
        r#"{"media_type":"x/evil","resolved_digest":"sha256:x","manifest_wasm_name":"../evil.wasm"}"#,
    )
    .unwrap();
    let found = resolver.resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!((found.media_type.as_str(), found.fetched_from_network), (WASM_TYPE, false));
    assert_eq!(found.path, first.path);
}

#[tokio::test]
async fn d08_a_login_for_one_registry_is_not_told_to_another_that_a_pack_names() {
    let mine = Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start();
    let theirs = Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start();
    let home = Home::new();
    let client = DefaultRegistryClient::with_registry_login(mine.host(), "alice", CANARY);
    let resolver = OciComponentResolver::with_client(client, options(&home));
    assert!(!format!("{resolver:?}").contains(CANARY));
    let results = resolver.resolve_each(&eager(&[mine.pinned(), theirs.pinned()])).await;
    assert_holds(results[0].as_ref().unwrap(), sample().layer_bytes());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), DistErrorKind::Auth);
    assert!(!theirs.journal().contains(CANARY) && !theirs.journal().any_header_contains("Basic"));
    home.assert_in_no_file(CANARY);
}

fn has_bytes(dir: &Path) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.metadata().is_ok_and(|meta| meta.len() > 0))
}

#[tokio::test]
async fn a_failing_registry_is_told_by_its_kind() {
    for (status, kind) in [(404, DistErrorKind::NotFound), (401, DistErrorKind::Auth), (403, DistErrorKind::Auth)] {
        let lie = Lie::Status { on: Part::Manifest, status, times: Lie::ALWAYS, retry_after: None };
        let (home, registry) = (Home::new(), Scenario::new(sample()).lie(lie).start());
        assert_refused(resolver(&home).resolve_ref(&registry.pinned()).await, kind, &[]);
        home.assert_cache_empty();
    }
}

/// The names of the files below an entry, for tests that care which there are.
#[tokio::test]
async fn an_entry_holds_the_documented_files_and_no_others() {
    let (home, artifact) = (Home::new(), named_component("hello.wasm"));
    let registry: LyingRegistry = Scenario::new(artifact.clone()).start();
    resolver(&home).resolve_ref(&registry.pinned()).await.unwrap();
    let dir: PathBuf = home.entry(artifact.manifest_digest);
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|name| name != "last_used" && name != "verified");
    let expected =
        ["component.manifest.json", "component.wasm", "entry.json", "hello.wasm", "manifest.json", "metadata.json"];
    assert_eq!(names, expected);
}
