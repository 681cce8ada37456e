//! Offline: the cache answers or nobody does.

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::index;
use greentic_distributor_client::dist::DistErrorKind::{NotFound, Offline};
use greentic_distributor_client::dist::{ResolvePolicy, TransportHints};

use crate::support::{Doubt, Home, assert_delivers, assert_fails, registry, sample};

#[tokio::test]
async fn nothing_cached_is_an_offline_error_and_no_connection() {
    let home = Home::new();
    let registry = registry();
    let offline = home.offline();
    let url = format!("{}/x.wasm", registry.url());
    for reference in [format!("oci://{}", registry.reference()), registry.pinned(), url] {
        let text = assert_fails(offline.resolve_ref(&reference).await, Offline, 4);
        assert!(text.contains("offline") && text.contains(&reference), "{text}");
    }
    assert!(registry.journal().is_empty());
    assert_eq!(registry.server().connections(), 0);
    // Not even a directory.
    assert!(!home.cache().exists());
}

#[tokio::test]
async fn another_tag_of_a_cached_repository_is_not_guessed() {
    let doubt = Doubt::about([]).await;
    let refusal = doubt.refused(&doubt.home.offline(), &doubt.reference()).await;
    refusal.is(Offline, 4, &["offline"]);
    assert!(refusal.error.hints().iter().any(|hint| hint.contains("online")), "{:?}", refusal.error.hints());
    assert!(doubt.journal().is_empty());
}

#[tokio::test]
async fn everything_pulled_once_opens_offline_by_tag_by_pin_and_by_content() {
    let home = Home::new();
    let registry = registry();
    let reference = format!("oci://{}", registry.reference());
    let pulled = home.client().resolve_ref(&reference).await.unwrap();
    let (artifact, pinned) = (registry.artifact().clone(), registry.pinned());
    drop(registry);

    let offline = home.offline();
    for reference in [reference, pinned, artifact.manifest_digest.to_string(), artifact.layer_digest().to_string()] {
        let again = offline.resolve_ref(&reference).await.unwrap();
        assert_delivers(&again, &artifact);
        assert!(!again.fetched);
        assert_eq!(again.local_path, pulled.local_path);
    }
    assert_eq!(offline.fetch_digest(&artifact.layer_digest().to_string()).await.unwrap(), pulled.local_path);
    assert_eq!(offline.net_stats().requests, 0);
}

#[tokio::test]
async fn a_pinned_index_opens_offline_too() {
    let home = Home::new();
    let registry = registry();
    let document = index(&[(sample().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, Some("index"));
    let reference = format!("oci://{}", registry.pinned_to(document.digest));
    let tag = format!("oci://{}", registry.reference_to("index"));
    home.client().resolve_ref(&reference).await.unwrap();
    home.client().resolve_ref(&tag).await.unwrap();
    drop(registry);
    for reference in [reference, tag] {
        assert_delivers(&home.offline().resolve_ref(&reference).await.unwrap(), &sample());
    }
}

#[tokio::test]
async fn a_source_may_be_offline_on_a_client_that_is_not() {
    let home = Home::new();
    let registry = registry();
    let client = home.client();
    let mut source = client.parse_source(&registry.reference()).unwrap();
    source.transport_hints = TransportHints { offline: true, ..TransportHints::default() };
    assert_fails(client.resolve(source, ResolvePolicy).await, Offline, 4);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_source_is_never_less_offline_than_its_client() {
    let home = Home::new();
    let registry = registry();
    let mut source = home.client().parse_source(&registry.reference()).unwrap();
    source.transport_hints.offline = false;
    assert_fails(home.offline().resolve(source, ResolvePolicy).await, Offline, 4);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_removed_artifact_is_gone_offline() {
    let home = Home::new();
    let registry = registry();
    let reference = format!("oci://{}", registry.reference());
    let pulled = home.client().resolve_ref(&reference).await.unwrap();
    home.client().remove(std::slice::from_ref(&pulled.digest)).unwrap();
    assert_fails(home.offline().resolve_ref(&reference).await, Offline, 4);
    assert_fails(home.offline().open_cached(&pulled.digest), NotFound, 3);
}

#[tokio::test]
async fn files_are_taken_in_offline_as_ever() {
    let home = Home::new();
    let file = home.path().join("outside").join("sentinel");
    let pulled = home.offline().resolve_ref(&file.display().to_string()).await.unwrap();
    assert!(pulled.fetched);
    assert_eq!(pulled.wasm_bytes().unwrap(), std::fs::read(file).unwrap());
}

#[tokio::test]
async fn offline_reads_change_no_entry() {
    let home = Home::new();
    let registry = registry();
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let entry = pulled.local_path.parent().unwrap();
    home.offline().open_cached(&pulled.digest).unwrap();
    let ignored = ["last_used", "verified"];
    let before = TreeSnapshot::ignoring(entry, &ignored);
    let offline = home.offline();
    offline.stat_cache(&pulled.digest).unwrap();
    offline.open_cached(&pulled.digest).unwrap();
    offline.resolve_ref(&registry.reference()).await.unwrap();
    assert!(before.diff(&TreeSnapshot::ignoring(entry, &ignored)).is_empty());
}
