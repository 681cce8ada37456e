//! `DigestFetcher`: blobs by their digest alone.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Scenario};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::{Algorithm, Digest};
use greentic_distributor_client::dist::{DistError, DistErrorKind};
use greentic_distributor_client::runner_api::{
    DefaultRegistryClient, DigestFetchOptions, DigestFetcher, DigestRef, PulledImage, PulledLayer, Reference,
    RegistryClient, RegistryClientError, RunnerApiError,
};

use crate::support::{Home, chain, registry, sample};

fn options(home: &Home) -> DigestFetchOptions {
    DigestFetchOptions { cache_dir: home.cache(), ..DigestFetchOptions::default() }
}

fn fetcher(home: &Home) -> DigestFetcher {
    DigestFetcher::new(options(home)).offline(false)
}

/// `host/acme/hello@` and the digest of the layer.
fn layer_ref(registry: &LyingRegistry) -> String {
    registry.pinned_to(registry.artifact().layer_digest())
}

fn blob_file(home: &Home, digest: Digest) -> PathBuf {
    home.cache().join(digest.to_hex()).join("blob.bin")
}

#[tokio::test]
async fn d07_a_blob_costs_one_request_and_then_none() {
    let (home, registry) = (Home::new(), registry());
    let layer = registry.artifact().layer_digest();
    let cached = fetcher(&home).ensure_cached(layer_ref(&registry)).await.unwrap();
    assert_eq!(registry.journal().lines(), [format!("GET /v2/acme/hello/blobs/{layer}")]);
    assert_eq!(cached.path, blob_file(&home, layer));
    assert!(fs::read(&cached.path).unwrap() == registry.artifact().layer_bytes());
    assert_eq!((cached.metadata.size_bytes, cached.metadata.cache.hit), (200_000, false));
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(cached.path.with_file_name("metadata.json")).unwrap()).unwrap();
    assert_eq!((&written["digest"], &written["size_bytes"]), (&layer.to_string().into(), &200_000.into()));
    assert!(written["fetched_at_unix_seconds"].is_u64() && written["media_type"].is_null(), "{written}");

    registry.journal().clear();
    let reference = DigestRef::try_from(format!("oci://{}", layer_ref(&registry))).unwrap();
    let (bytes, metadata) = fetcher(&home).offline(true).fetch_by_digest(&reference).await.unwrap();
    assert!(bytes == registry.artifact().layer_bytes());
    assert!(metadata.cache.hit && metadata.digest == layer.to_string());
    let shown = serde_json::to_value(&metadata).unwrap();
    assert!(shown.get("media_type").is_none(), "{shown}");
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn wrong_bytes_are_never_kept() {
    for lie in [Lie::WrongBlob, Lie::ShortBlob(100), Lie::OverLongBlob(7)] {
        let (home, registry) = (Home::new(), Scenario::new(sample()).lie(lie.clone()).start());
        let error = fetcher(&home).ensure_cached(layer_ref(&registry)).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Integrity, "{lie:?}: {error:?}");
        let RunnerApiError::DigestMismatch { expected, .. } = &error else { panic!("{lie:?}: {error:?}") };
        assert_eq!(*expected, registry.artifact().layer_digest().to_string());
        home.assert_cache_empty();
        registry.be_honest();
        let (bytes, _) = fetcher(&home).fetch_by_digest(layer_ref(&registry)).await.unwrap();
        assert!(bytes == registry.artifact().layer_bytes());
    }
}

#[tokio::test]
async fn a_blob_without_an_announced_size_and_one_in_sha512_are_proven_too() {
    let (home, registry) = (Home::new(), Scenario::new(sample()).lie(Lie::ChunkedBlob).start());
    let (bytes, metadata) = fetcher(&home).fetch_by_digest(layer_ref(&registry)).await.unwrap();
    assert!(bytes == registry.artifact().layer_bytes());
    assert_eq!(metadata.size_bytes, 200_000);
    registry.lie(Lie::WrongBlob);
    let elsewhere = Home::new();
    let error = fetcher(&elsewhere).ensure_cached(layer_ref(&registry)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity, "{error:?}");

    let bytes = fixture::random_bytes(5, 70_000);
    let long = Digest::of(Algorithm::Sha512, &bytes);
    let served = bytes.clone();
    let server = LyingServer::start(move |_, _| Response::ok(served.clone()).chunked());
    let capitals = format!("{}/acme/hello@sha512:{}", server.host(), long.to_hex().to_uppercase());
    let cached = fetcher(&home).ensure_cached(capitals).await.unwrap();
    assert!(fs::read(&cached.path).unwrap() == bytes);
    assert_eq!(cached.path, blob_file(&home, long));
    assert_eq!(server.journal().lines(), [format!("GET /v2/acme/hello/blobs/{long}")]);
}

#[tokio::test]
async fn a_transfer_that_was_cut_goes_on() {
    let (home, registry) = (Home::new(), Scenario::new(sample()).start());
    let digest = registry.artifact().layer_digest();
    let partial = home.cache().join("partial");
    fs::create_dir_all(&partial).unwrap();
    for dir in [home.cache(), partial.clone()] {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let part = partial.join(format!("sha256-{}.part", digest.to_hex()));
    fs::write(&part, &registry.artifact().layer_bytes()[..150_000]).unwrap();
    fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (bytes, _) = fetcher(&home).fetch_by_digest(layer_ref(&registry)).await.unwrap();
    assert!(bytes == registry.artifact().layer_bytes());
    let ranges: Vec<_> =
        registry.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=150000-".to_owned())]);
}

#[tokio::test]
async fn a_cached_blob_is_hashed_every_time_healed_online_and_refused_offline() {
    let (home, registry) = (Home::new(), registry());
    let cached = fetcher(&home).ensure_cached(layer_ref(&registry)).await.unwrap();
    let mut wrong = registry.artifact().layer_bytes().to_vec();
    wrong[7] ^= 1;
    let times = fs::metadata(&cached.path).unwrap().modified().unwrap();
    fs::set_permissions(&cached.path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&cached.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &wrong[7..8], 7).unwrap();
    file.set_modified(times).unwrap();
    drop(file);
    registry.journal().clear();
    let error = fetcher(&home).offline(true).ensure_cached(layer_ref(&registry)).await.unwrap_err();
    let RunnerApiError::CacheDigestMismatch { expected, actual } = &error else { panic!("{error:?}") };
    assert_eq!(*expected, registry.artifact().layer_digest().to_string());
    assert_eq!(*actual, Digest::sha256(&wrong).to_string());
    assert_eq!((error.kind(), error.hints().is_empty()), (DistErrorKind::Integrity, false));
    assert!(registry.journal().is_empty());
    let (bytes, metadata) = fetcher(&home).fetch_by_digest(layer_ref(&registry)).await.unwrap();
    assert!(bytes == registry.artifact().layer_bytes() && !metadata.cache.hit);
}

#[tokio::test]
async fn blobs_that_an_earlier_version_kept_are_found_and_proven() {
    let (home, bytes) = (Home::new(), b"kept long ago".to_vec());
    let digest = Digest::sha256(&bytes);
    let dir = home.cache().join(digest.to_hex());
    fs::create_dir_all(&dir).unwrap();
    for dir in [&home.cache(), &dir] {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    fs::write(dir.join("blob.bin"), &bytes).unwrap();
    fs::write(dir.join("metadata.json"), "{}").unwrap();
    let reference = format!("registry.example/acme/hello@{digest}");
    let (found, metadata) = fetcher(&home).offline(true).fetch_by_digest(reference.as_str()).await.unwrap();
    assert!(found == bytes && metadata.cache.hit);
}

#[tokio::test]
async fn what_is_not_there_is_told_by_its_kind() {
    let (home, registry) = (Home::new(), registry());
    let nothing = registry.pinned_to(Digest::sha256(b"nothing"));
    let error = fetcher(&home).ensure_cached(nothing.clone()).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::NotFound, "{error:?}");
    assert!(chain(&error).contains(&nothing), "{}", chain(&error));
    // The digest of the manifest names no blob.
    let error = fetcher(&home).ensure_cached(registry.pinned()).await.unwrap_err();
    assert!(error.hints().iter().any(|hint| hint.contains("manifest")), "{error:?}");
    registry.journal().clear();
    let error = fetcher(&home).offline(true).ensure_cached(layer_ref(&registry)).await.unwrap_err();
    assert!(matches!(error, RunnerApiError::OfflineMissing { .. }), "{error:?}");
    for (text, kind) in [
        (registry.reference(), "names no digest"),
        (registry.artifact().layer_digest().to_string(), "names no repository"),
        ("not a ref".to_owned(), "invalid reference"),
    ] {
        let error = fetcher(&home).ensure_cached(text).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::InvalidInput);
        assert!(error.to_string().contains(kind), "{error}");
    }
    assert!(registry.journal().is_empty());
    let closed = Scenario::new(sample()).auth(Auth::bearer("alice", "secret")).start();
    let error = fetcher(&home).ensure_cached(layer_ref(&closed)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Auth, "{error:?}");
    home.assert_cache_empty();
}

#[tokio::test]
async fn eight_tasks_that_want_a_blob_move_it_once() {
    let (home, registry) = (Home::new(), registry());
    let fetcher = Arc::new(fetcher(&home));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (fetcher, reference) = (Arc::clone(&fetcher), layer_ref(&registry));
            tokio::spawn(async move { fetcher.ensure_cached(reference).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().metadata.size_bytes, 200_000);
    }
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());
}

/// Returns what it was told to.
struct Mock {
    layers: Vec<PulledLayer>,
    asked: Mutex<Vec<String>>,
}

impl Mock {
    fn new(layers: Vec<PulledLayer>) -> Self {
        Self { layers, asked: Mutex::default() }
    }
}

#[async_trait]
impl RegistryClient for Mock {
    fn default_client() -> Self {
        panic!("a client that was given is used")
    }

    async fn pull(&self, reference: &Reference, types: &[&str]) -> Result<PulledImage, RegistryClientError> {
        assert!(types.contains(&fixture::MANIFEST_TYPE));
        self.asked.lock().unwrap().push(reference.to_string());
        if self.layers.is_empty() {
            return Err(Box::new(DistError::NotFound { reference: reference.to_string() }).into());
        }
        Ok(PulledImage { layers: self.layers.clone() })
    }
}

fn layer(bytes: &[u8], digest: Option<String>) -> PulledLayer {
    PulledLayer { media_type: Some("application/wasm".into()), data: bytes.to_vec(), digest }
}

#[tokio::test]
async fn an_injected_client_is_asked_once_and_believed_in_nothing() {
    let digest = Digest::sha256(b"wanted");
    let reference = format!("registry.example/acme/hello@{digest}");
    let told = || Some(digest.to_string());
    let decoy = || layer(b"decoy", Some(Digest::sha256(b"decoy").to_string()));
    for layers in [vec![decoy(), layer(b"wanted", told())], vec![decoy(), layer(b"wanted", None)]] {
        let home = Home::new();
        let fetcher = DigestFetcher::with_client(Mock::new(layers), options(&home));
        let (bytes, metadata) = fetcher.fetch_by_digest(reference.as_str()).await.unwrap();
        assert_eq!((bytes.as_slice(), metadata.media_type.as_deref()), (&b"wanted"[..], Some("application/wasm")));
        assert!(fetcher.fetch_by_digest(reference.as_str()).await.unwrap().1.cache.hit);
    }
    let home = Home::new();
    let error = |layers| {
        let fetcher = DigestFetcher::with_client(Mock::new(layers), options(&home));
        let reference = reference.clone();
        async move { fetcher.ensure_cached(reference).await.unwrap_err() }
    };
    let mismatch = error(vec![layer(b"something else", told())]).await;
    assert!(matches!(mismatch, RunnerApiError::DigestMismatch { .. }), "{mismatch:?}");
    let missing = error(vec![decoy()]).await;
    assert!(matches!(missing, RunnerApiError::DigestLayerMissing { .. }), "{missing:?}");
    let failed = error(Vec::new()).await;
    assert!(matches!(failed, RunnerApiError::PullFailed { .. }), "{failed:?}");
    assert_eq!(failed.kind(), DistErrorKind::NotFound);
    home.assert_cache_empty();
}

#[tokio::test]
async fn the_default_client_also_answers_by_itself() {
    let registry = registry();
    let reference = Reference::parse(&layer_ref(&registry)).unwrap();
    let image = RegistryClient::pull(&DefaultRegistryClient::default(), &reference, &[]).await.unwrap();
    assert!(image.layers.len() == 1 && image.layers[0].data == registry.artifact().layer_bytes());
}
