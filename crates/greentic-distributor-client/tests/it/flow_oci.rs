//! The main road: an OCI reference becomes a descriptor, the descriptor an opened artifact.

use std::collections::BTreeMap;
use std::sync::Arc;

use greentic_dist_testkit::fixture::{self, Blob, WASM_TYPE, artifact_of, index};
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_distributor_client::dist::{
    ArtifactSourceKind, ArtifactType, CachePolicy, DistErrorKind, DistOptions, IntegrityState, PlatformChoice,
    ResolvePolicy, ResolvedVia,
};

use crate::cap::Warnings;
use crate::support::{Home, assert_delivers, assert_fails, other, registry, sample};

#[tokio::test]
async fn a_cold_pull_without_a_login_is_two_requests() {
    let (home, registry) = (Home::new(), registry());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    assert_delivers(&pulled, registry.artifact());
    assert!(pulled.fetched);
    let layer = format!("GET /v2/acme/hello/blobs/{}", registry.artifact().layer_digest());
    assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1", &layer]);
    assert!(registry.journal().header_of(0, "accept").unwrap().contains("application/vnd.oci.image.manifest.v1+json"));
    for entry in registry.journal().entries() {
        for private in ["authorization", "cookie", "referer"] {
            assert_eq!(entry.headers.get(private), None, "{private}");
        }
        // Nothing is decoded, so nothing encoded is asked for.
        assert!(matches!(entry.headers.get("accept-encoding"), None | Some("identity")));
    }
}

#[tokio::test]
async fn resolving_asks_for_the_manifest_and_nothing_else() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let source = client.parse_source(&registry.reference()).unwrap();
    let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
    assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1"]);
    home.assert_cache_empty();
    let pin = registry.artifact().manifest_digest.to_string();
    assert_eq!(descriptor.digest, pin);
    assert_eq!(descriptor.cache_key(), pin);
    assert_eq!(descriptor.manifest_digest.as_ref(), Some(&pin));
    assert_eq!(descriptor.canonical_ref, format!("oci://{}/acme/hello@{pin}", registry.host()));
    assert_eq!(descriptor.raw_ref, registry.reference());
    assert_eq!(descriptor.source_kind, ArtifactSourceKind::Oci);
    assert_eq!(descriptor.artifact_type, ArtifactType::Component);
    assert_eq!(descriptor.resolved_via, ResolvedVia::TagResolution);
    assert_eq!((descriptor.media_type.as_str(), descriptor.size_bytes), (WASM_TYPE, 200_000));
    let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
    assert_eq!(registry.journal().len(), 2);
    assert_delivers(&artifact, registry.artifact());
}

#[tokio::test]
async fn the_opened_artifact_says_everything_about_itself() {
    let (home, registry) = (Home::new(), registry());
    let reference = format!("oci://{}", registry.reference());
    let client = home.client();
    for fetched in [true, false] {
        let artifact = client.resolve_ref(&reference).await.unwrap();
        let pin = registry.artifact().manifest_digest.to_string();
        assert_eq!(artifact.fetched, fetched);
        for digest in [&artifact.digest, &artifact.resolved_digest, &artifact.cache_key, &artifact.descriptor.digest] {
            assert_eq!(*digest, pin);
        }
        let path = home.entry(&pin).join("component.wasm");
        assert_eq!(artifact.local_path, path);
        assert_eq!(artifact.wasm_path.as_ref(), Some(&path));
        assert_eq!(artifact.cache_path.as_ref(), Some(&path));
        assert!(artifact.wasm_bytes.is_none());
        artifact.validate_payload().unwrap();
        assert_eq!(artifact.component_id, format!("{}/acme/hello", registry.host()));
        assert_eq!((artifact.abi_version.as_ref(), artifact.describe_artifact_ref.as_ref()), (None, None));
        assert_eq!(artifact.content_length, Some(200_000));
        assert_eq!(artifact.content_type.as_deref(), Some(WASM_TYPE));
        assert_eq!(artifact.integrity_state, IntegrityState::Ready);
        assert!(artifact.fetched_at > 1_700_000_000);
        let canonical = format!("oci://{}/acme/hello@{pin}", registry.host());
        assert_eq!(artifact.descriptor.canonical_ref, canonical);
        assert_eq!(artifact.source_snapshot.canonical_ref, canonical);
        assert_eq!(artifact.source_snapshot.raw_ref, reference);
        assert!(!artifact.source_snapshot.authoritative);
        assert_eq!((artifact.source.raw_ref.as_str(), artifact.source.dev_mode), (reference.as_str(), false));
        let hint = artifact.lock_hint("oci://the/lock@file");
        assert_eq!(hint.source_ref, "oci://the/lock@file");
        assert_eq!(hint.resolved_digest, pin);
        assert_eq!((hint.content_length, hint.content_type.as_deref()), (Some(200_000), Some(WASM_TYPE)));
        assert_eq!((hint.abi_version, hint.component_id), (None, artifact.component_id.clone()));
        // No `Drop`: fields can be moved out.
        let moved = artifact.cache_path.unwrap();
        assert!(moved.is_file());
    }
}

#[tokio::test]
async fn a_bare_reference_with_its_registry_is_the_same_as_one_with_a_scheme() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let one = client.resolve_ref(&registry.reference()).await.unwrap();
    let two = client.resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert_eq!(one.digest, two.digest);
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
}

#[tokio::test]
async fn a_cached_pin_costs_no_request_from_this_client_or_any_other() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    client.resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!(registry.journal().len(), 2);
    registry.journal().clear();
    for client in [client, home.client()] {
        let again = client.resolve_ref(&registry.pinned()).await.unwrap();
        assert_delivers(&again, registry.artifact());
        assert!(!again.fetched);
        assert_eq!(again.descriptor.resolved_via, ResolvedVia::Direct);
    }
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn an_unchanged_tag_costs_one_conditional_request_and_no_body() {
    for lies in [vec![], vec![Lie::WeakEtag], vec![Lie::NoDigestHeader]] {
        let home = Home::new();
        let registry = Scenario::new(sample()).start();
        for lie in lies {
            registry.lie(lie);
        }
        home.client().resolve_ref(&registry.reference()).await.unwrap();
        registry.journal().clear();
        let again = home.client().resolve_ref(&registry.reference()).await.unwrap();
        assert_delivers(&again, registry.artifact());
        assert!(!again.fetched);
        assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1"]);
        assert!(registry.journal().header_of(0, "if-none-match").is_some());
        assert_eq!(registry.journal().entries()[0].status, 304);
    }
}

#[tokio::test]
async fn a_registry_without_entity_tags_is_asked_once_too() {
    let home = Home::new();
    let registry = Scenario::new(sample()).lie(Lie::NoEtag).start();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    registry.journal().clear();
    assert!(!home.client().resolve_ref(&registry.reference()).await.unwrap().fetched);
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn quirk_s16_a_tag_that_moved_is_followed_told_with_both_digests_and_the_old_artifact_stays() {
    let (home, registry) = (Home::new(), registry());
    let warnings = Arc::new(Warnings::default());
    let client = home.builder().reporter(Arc::<Warnings>::clone(&warnings) as _).build();
    let old = client.resolve_ref(&registry.reference()).await.unwrap();
    let newer = other(3);
    registry.publish(&newer, "1");
    registry.journal().clear();
    let new = client.resolve_ref(&registry.reference()).await.unwrap();
    assert_delivers(&new, &newer);
    assert_eq!(registry.journal().len(), 2);
    let told = format!("`{}` was {} and is now {}", registry.reference(), old.digest, new.digest);
    assert_eq!(*warnings.0.lock().unwrap(), [told]);
    assert_eq!(client.list_cache().len(), 2);
    assert!(client.open_cached(&old.digest).is_ok());
    assert_delivers(&home.offline().resolve_ref(&registry.reference()).await.unwrap(), &newer);
}

#[tokio::test]
async fn a_tag_that_moves_between_resolve_and_fetch_changes_nothing() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let descriptor = client.resolve(client.parse_source(&registry.reference()).unwrap(), ResolvePolicy).await.unwrap();
    registry.publish(&other(3), "1");
    assert_delivers(&client.fetch(&descriptor, CachePolicy).await.unwrap(), &sample());
    // Also from a client that has only the descriptor.
    let elsewhere = Home::new();
    assert_delivers(&elsewhere.client().fetch(&descriptor, CachePolicy).await.unwrap(), &sample());
}

#[tokio::test]
async fn of_an_index_the_wasm_manifest_is_taken() {
    let (home, registry) = (Home::new(), registry());
    let (wasm, linux) = (other(1), other(2));
    registry.publish(&wasm, "wasm");
    registry.publish(&linux, "linux");
    let document = index(&[
        (other(4).descriptor(), Some(("unknown", "unknown"))),
        (linux.descriptor(), Some(("linux", "amd64"))),
        (wasm.descriptor(), Some(("wasip2", "wasm"))),
    ]);
    registry.publish_document(&document, Some("index"));
    registry.journal().clear();
    let reference = registry.reference_to("index");
    let pulled = home.client().resolve_ref(&reference).await.unwrap();
    assert_delivers(&pulled, &wasm);
    assert_eq!(registry.journal().len(), 3, "{:?}", registry.journal().lines());
    registry.journal().clear();
    assert_delivers(&home.client().resolve_ref(&reference).await.unwrap(), &wasm);
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());

    let choice = platform("linux", "amd64");
    let elsewhere = Home::new();
    let client = elsewhere.builder().platform(choice).build();
    assert_delivers(&client.resolve_ref(&reference).await.unwrap(), &linux);
}

#[tokio::test]
async fn a_cached_pinned_index_costs_no_request() {
    let (home, registry) = (Home::new(), registry());
    let document = index(&[(sample().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, None);
    let reference = registry.pinned_to(document.digest);
    home.client().resolve_ref(&reference).await.unwrap();
    registry.journal().clear();
    assert_delivers(&home.client().resolve_ref(&reference).await.unwrap(), &sample());
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
}

#[tokio::test]
async fn only_the_component_among_many_layers_is_downloaded() {
    let component = Blob::new("application/vnd.wasm.component.v1+wasm", fixture::component_bytes());
    let layers = vec![
        Blob::new("text/plain", "a licence"),
        Blob::new("application/spdx+json", "{}"),
        Blob::new("application/octet-stream", "anything"),
        component.clone(),
        Blob::new("application/wasm", "another"),
    ];
    let artifact = artifact_of(layers, &[("org.opencontainers.image.version", "1.2.3"), ("issuer", "acme")]);
    let (home, registry) = (Home::new(), Scenario::new(artifact.clone()).start());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    assert_eq!(pulled.wasm_bytes().unwrap(), fixture::component_bytes());
    assert_eq!(pulled.content_digest(), component.digest.to_string());
    assert_eq!(pulled.content_type.as_deref(), Some("application/vnd.wasm.component.v1+wasm"));
    assert_eq!(registry.journal().len(), 2, "{:?}", registry.journal().lines());
    // What the publisher said survives the process.
    let annotations: BTreeMap<_, _> =
        home.offline().open_cached(&pulled.digest).unwrap().descriptor.annotations.into_iter().collect();
    assert_eq!(annotations["issuer"], "acme");
    assert_eq!(annotations["org.opencontainers.image.version"], "1.2.3");
}

#[tokio::test]
async fn a_component_manifest_travels_along_and_tells_the_abi_version() {
    let layers = vec![
        Blob::new(
            "application/vnd.greentic.component.manifest+json",
            r#"{"abi_version":"0.6.0","nested":{"component_id":"evil"}}"#,
        ),
        Blob::new(WASM_TYPE, fixture::component_bytes()),
    ];
    let artifact = artifact_of(layers, &[]);
    let (home, registry) = (Home::new(), Scenario::new(artifact).start());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    assert_eq!(pulled.wasm_bytes().unwrap(), fixture::component_bytes());
    assert!(pulled.local_path.with_file_name("component.manifest.json").is_file());
    let reopened = home.offline().open_cached(&pulled.digest).unwrap();
    for artifact in [pulled, reopened] {
        assert_eq!(artifact.abi_version.as_deref(), Some("0.6.0"));
        assert_eq!(artifact.component_id, format!("{}/acme/hello", registry.host()));
    }
}

#[tokio::test]
async fn a_component_manifest_that_is_too_large_or_tells_nonsense_is_no_reason_to_fail() {
    let large = format!("{{\"abi_version\":\"1.0.0\",\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for manifest in [large.as_str(), "", "not json", "[]", r#"{"abi_version":7}"#, r#"{"abi_version":"../../x"}"#] {
        let layers = vec![
            Blob::new("application/vnd.greentic.component.manifest+json", manifest),
            Blob::new(WASM_TYPE, fixture::component_bytes()),
        ];
        let (home, registry) = (Home::new(), Scenario::new(artifact_of(layers, &[])).start());
        let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
        assert_eq!(pulled.wasm_bytes().unwrap(), fixture::component_bytes());
        assert_eq!(pulled.abi_version, None);
        let kept = pulled.local_path.with_file_name("component.manifest.json").exists();
        assert_eq!(kept, manifest.len() <= 1 << 20);
    }
}

#[tokio::test]
async fn the_raw_manifest_is_kept_byte_by_byte() {
    let (home, registry) = (Home::new(), registry());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let kept = std::fs::read(pulled.local_path.with_file_name("manifest.json")).unwrap();
    assert_eq!(kept, registry.artifact().manifest_bytes);
}

#[tokio::test]
async fn an_inspection_reports_what_is_there() {
    let (home, registry) = (Home::new(), registry());
    let found = home.client().inspect(&registry.reference()).await.unwrap();
    let pin = registry.artifact().manifest_digest.to_string();
    assert_eq!((found.digest.as_str(), found.size_bytes), (pin.as_str(), 200_000));
    assert_eq!((found.cached, found.fetched, found.manifest_path), (false, false, None));
    assert_eq!(found.content_digest, registry.artifact().layer_digest().to_string());
    assert_eq!(found.cache_dir, home.entry(&pin));
    assert!(!found.artifact_path.exists());
    home.assert_cache_empty();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    let cached = home.client().inspect(&registry.reference()).await.unwrap();
    assert_eq!((cached.cached, cached.fetched, &cached.artifact_path), (true, false, &found.artifact_path));
    assert_eq!((&cached.content_digest, &cached.canonical_ref), (&found.content_digest, &found.canonical_ref));
    assert!(cached.artifact_path.is_file() && cached.manifest_path.unwrap().is_file());
    assert_eq!(cached.component_manifest_path, None);
    assert!(!home.offline().inspect(&registry.reference()).await.unwrap().fetched);
}

fn platform(os: &str, architecture: &str) -> PlatformChoice {
    format!("{os}/{architecture}").parse().unwrap()
}

#[tokio::test]
async fn what_a_tag_meant_for_one_platform_is_no_answer_for_another() {
    let (home, registry) = (Home::new(), registry());
    let (amd, arm) = (other(1), other(2));
    registry.publish(&amd, "amd");
    registry.publish(&arm, "arm");
    let document = index(&[(amd.descriptor(), Some(("linux", "amd64"))), (arm.descriptor(), Some(("linux", "arm64")))]);
    registry.publish_document(&document, Some("index"));
    for reference in [registry.reference_to("index"), registry.pinned_to(document.digest)] {
        for _ in 0..2 {
            for (architecture, expected) in [("amd64", &amd), ("arm64", &arm)] {
                let client = home.builder().platform(platform("linux", architecture)).build();
                assert_delivers(&client.resolve_ref(&reference).await.unwrap(), expected);
            }
        }
    }
    let offline = DistOptions { offline: true, ..home.options() };
    for (architecture, expected) in [("amd64", &amd), ("arm64", &arm)] {
        let client = home.builder().options(offline.clone()).platform(platform("linux", architecture)).build();
        assert_delivers(&client.resolve_ref(&registry.reference_to("index")).await.unwrap(), expected);
        assert_delivers(&client.resolve_ref(&registry.pinned_to(document.digest)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_pinned_index_is_answered_by_what_proves_it_and_not_by_a_note() {
    let (home, registry) = (Home::new(), registry());
    let document = index(&[(sample().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, None);
    registry.publish(&other(7), "other");
    home.client().resolve_ref(&registry.pinned_to(document.digest)).await.unwrap();
    home.client().resolve_ref(&registry.reference_to("other")).await.unwrap();
    let (mut edited, wrong) = (0, other(7).manifest_digest.to_string());
    for entry in std::fs::read_dir(home.cache().join("refs")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
        if record["index_digest"] == document.digest.to_string() {
            record["pin"] = wrong.clone().into();
            std::fs::write(&path, record.to_string()).unwrap();
            edited += 1;
        }
    }
    assert_eq!(edited, 1);
    let reference = registry.pinned_to(document.digest);
    for client in [home.client(), home.offline()] {
        assert_delivers(&client.resolve_ref(&reference).await.unwrap(), &sample());
    }
}

#[tokio::test]
async fn a_tag_of_an_index_too_large_to_be_kept_opens_offline_for_its_platform_alone() {
    let (home, registry) = (Home::new(), registry());
    let filler: Vec<_> = (0..500).map(|_| (other(4).descriptor(), Some(("unknown", "unknown")))).collect();
    let children = [vec![(sample().descriptor(), Some(("wasip2", "wasm")))], filler].concat();
    let document = index(&children);
    registry.publish_document(&document, Some("index"));
    let reference = registry.reference_to("index");
    home.client().resolve_ref(&reference).await.unwrap();
    assert_delivers(&home.offline().resolve_ref(&reference).await.unwrap(), &sample());
    let offline = DistOptions { offline: true, ..home.options() };
    let elsewhere = home.builder().options(offline).platform(platform("linux", "amd64")).build();
    assert_eq!(elsewhere.resolve_ref(&reference).await.unwrap_err().exit_code(), 4);
    registry.journal().clear();
    assert_delivers(&home.client().resolve_ref(&reference).await.unwrap(), &sample());
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());
}

#[tokio::test]
async fn an_index_in_an_index_is_known_again_by_tag_and_by_pin_as_far_as_each_level_proves_the_next() {
    let (home, registry) = (Home::new(), registry());
    let (wasm, linux) = (other(1), other(2));
    registry.publish(&wasm, "wasm");
    registry.publish(&linux, "linux");
    let inner = index(&[(linux.descriptor(), Some(("linux", "amd64"))), (wasm.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&inner, None);
    let outer = index(&[(inner.descriptor(), None)]);
    registry.publish_document(&outer, Some("index"));
    let (tag, pinned) = (registry.reference_to("index"), registry.pinned_to(outer.digest));
    assert_delivers(&home.client().resolve_ref(&tag).await.unwrap(), &wasm);

    // Offline without a socket, by the tag and by the digest it had.
    registry.journal().clear();
    for reference in [&tag, &pinned] {
        assert_delivers(&home.offline().resolve_ref(reference).await.unwrap(), &wasm);
    }
    assert_delivers(&home.client().resolve_ref(&pinned).await.unwrap(), &wasm);
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    // Online the tag is asked for once, and nothing below it.
    assert_delivers(&home.client().resolve_ref(&tag).await.unwrap(), &wasm);
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());

    // A note that leads elsewhere proves nothing for a pin.
    let wrong = index(&[(linux.descriptor(), Some(("wasip2", "wasm")))]);
    let text = String::from_utf8(wrong.bytes.clone()).unwrap();
    let mut edited = 0;
    for entry in std::fs::read_dir(home.cache().join("refs")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(record) = std::fs::read_to_string(&path) else { continue };
        let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
        if record["index_digest"] == outer.digest.to_string() {
            record["inner_indexes"] = serde_json::json!([text]);
            std::fs::write(&path, record.to_string()).unwrap();
            edited += 1;
        }
    }
    assert_eq!(edited, 2);
    assert_eq!(home.offline().resolve_ref(&pinned).await.unwrap_err().exit_code(), 4);
    assert_delivers(&home.client().resolve_ref(&pinned).await.unwrap(), &wasm);
}

#[tokio::test]
async fn the_only_entry_of_an_index_is_not_taken_for_a_platform_it_is_not_for() {
    let (home, registry) = (Home::new(), registry());
    let document = index(&[(sample().descriptor(), Some(("linux", "amd64")))]);
    registry.publish_document(&document, Some("index"));
    let reference = registry.reference_to("index");
    let client = home.builder().platform(platform("linux", "arm64")).build();
    let text = assert_fails(client.resolve_ref(&reference).await, DistErrorKind::NotFound, 3);
    assert!(text.ends_with("is for linux on arm64; the index has linux/amd64"), "{text}");
    // Without a platform of its own a client takes what there is.
    assert_delivers(&home.client().resolve_ref(&reference).await.unwrap(), &sample());
}
