//! Packs from a client that the host brought along: its word counts for what nobody else can know, and for nothing else.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use greentic_dist_types::Digest;
use greentic_distributor_client::oci_packs::{
    OciPackError, OciPackFetcher, PackFetchOptions, PulledImage, PulledLayer, Reference, RegistryClient,
    RegistryClientError,
};

use crate::packs::options;
use crate::support::Home;

/// Answers from a table by the whole reference, and counts how often it is asked.
#[derive(Clone, Default)]
pub(crate) struct Mock {
    images: HashMap<String, PulledImage>,
    pulls: Arc<AtomicUsize>,
}

impl Mock {
    pub(crate) fn with(reference: &str, image: PulledImage) -> Self {
        Self { images: HashMap::from([(reference.to_owned(), image)]), pulls: Arc::default() }
    }

    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl RegistryClient for Mock {
    fn default_client() -> Self {
        panic!("a client that was given is used")
    }

    async fn pull(&self, reference: &Reference, _accepted: &[&str]) -> Result<PulledImage, RegistryClientError> {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let known = self.images.get(&reference.whole()).cloned();
        known.ok_or_else(|| RegistryClientError::GenericError(Some("manifest unknown".into())))
    }
}

pub(crate) fn layer(media_type: &str, data: &[u8]) -> PulledLayer {
    let digest = Some(Digest::sha256(data).to_string());
    PulledLayer { media_type: media_type.to_owned(), data: data.to_vec(), digest }
}

fn digest(text: &str) -> String {
    Digest::sha256(text.as_bytes()).to_string()
}

fn fetcher(mock: &Mock, home: &Home) -> OciPackFetcher<Mock> {
    OciPackFetcher::with_client(mock.clone(), options(home))
}

const BYTES: &[u8] = b"the pack";

#[tokio::test]
async fn a_pinned_pack_is_asked_for_once_and_then_found() {
    for reported in [None, Some(digest("the pack")), Some(digest("a manifest that only the client saw"))] {
        let home = Home::new();
        let pin = reported.clone().unwrap_or_else(|| digest("the pack"));
        let reference = format!("ghcr.io/acme/pack@{pin}");
        let image = PulledImage { digest: reported.clone(), layers: vec![layer("application/json", BYTES)] };
        let mock = Mock::with(&reference, image);
        for fetched in [true, false, false] {
            let resolved = fetcher(&mock, &home).fetch_pack_to_cache(&reference).await.unwrap();
            assert_eq!(resolved.fetched_from_network, fetched);
            assert_eq!(
                (resolved.resolved_digest.as_str(), resolved.manifest_digest.as_ref()),
                (&*pin, reported.as_ref())
            );
            assert_eq!(resolved.media_type, "application/json");
            assert_eq!(resolved.path, home.entry(&pin).join("pack.gtpack"));
            assert!(resolved.path.with_file_name("metadata.json").is_file());
            assert_eq!(fs::read(&resolved.path).unwrap(), BYTES);
        }
        assert_eq!(fetcher(&mock, &home).fetch_pack(&reference).await.unwrap(), BYTES);
        assert_eq!(mock.pulls(), 1);
    }
}

#[tokio::test]
async fn a_tag_is_asked_for_each_time_online_and_known_offline_afterwards() {
    let (home, reference) = (Home::new(), "ghcr.io/acme/pack:1");
    let offline =
        |mock: &Mock| OciPackFetcher::with_client(mock.clone(), PackFetchOptions { offline: true, ..options(&home) });
    let image = PulledImage { digest: Some(digest("manifest")), layers: vec![layer("text/markdown", BYTES)] };
    let mock = Mock::with(reference, image);
    let error = offline(&mock).fetch_pack_to_cache(reference).await.unwrap_err();
    assert!(matches!(error, OciPackError::OfflineTaggedReference { .. }), "{error}");
    for _ in 0..2 {
        fetcher(&mock, &home).fetch_pack_to_cache(reference).await.unwrap();
    }
    assert_eq!(mock.pulls(), 2);
    let found = offline(&mock).fetch_pack_to_cache(reference).await.unwrap();
    assert_eq!(found.resolved_digest, digest("manifest"));
    let pinned = format!("ghcr.io/acme/pack@{}", digest("never seen"));
    let error = offline(&mock).fetch_pack_to_cache(&pinned).await.unwrap_err();
    assert!(matches!(&error, OciPackError::OfflineMissing { digest: missing, .. } if *missing == digest("never seen")));
    assert_eq!((mock.pulls(), error.exit_code()), (2, 4));
}

#[tokio::test]
async fn what_the_client_says_of_a_failure_is_in_the_text() {
    let home = Home::new();
    let error = fetcher(&Mock::default(), &home).fetch_pack_to_cache("ghcr.io/acme/pack:1").await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown") && error.to_string().contains("ghcr.io/acme/pack:1"));
    assert!(std::error::Error::source(&error).is_some());
    home.assert_nothing_outside_changed();
}
