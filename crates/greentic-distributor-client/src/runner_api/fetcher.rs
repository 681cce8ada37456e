//! `DigestFetcher`: a blob from the cache, or from its repository into the cache.

use std::fmt;
use std::path::PathBuf;

use greentic_dist_store::{ArtifactFile, Entry, OpenEntry, StoreError, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;
use serde::Serialize;

use super::error::actual;
use super::{
    DefaultRegistryClient, DigestRef, DigestRefInput, PulledImage, PulledLayer, RegistryClient, RunnerApiError,
};
use crate::dist::{DistClient, DistOptions, chain, fetch_blob};
use crate::{blocking, paths};

/// How a [`DigestFetcher`] works.
#[derive(Clone, Debug)]
pub struct DigestFetchOptions {
    /// Where blobs are kept. Default: `digests` in `GREENTIC_CACHE_DIR`, else in `GREENTIC_DIST_CACHE_DIR`, else
    /// `$GREENTIC_HOME/cache/digests`, else `${XDG_CACHE_HOME:-~/.cache}/greentic/digests`.
    pub cache_dir: PathBuf,
    /// Manifest types that an injected client is told to accept. The client of this crate asks for the blob itself and looks at
    /// no manifest. Default: those of OCI and Docker.
    pub accepted_manifest_types: Vec<String>,
}

impl Default for DigestFetchOptions {
    /// Reads the environment; touches no file.
    fn default() -> Self {
        use greentic_dist_types::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST};
        let types = [OCI_ARTIFACT, OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
        Self { cache_dir: paths::digest_root(), accepted_manifest_types: types.map(ToOwned::to_owned).to_vec() }
    }
}

/// Whether a blob was in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// Whether nobody had to be asked.
    pub hit: bool,
}

/// What is known of a blob beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FetchMetadata {
    /// Its digest.
    pub digest: String,
    /// Whether it was in the cache.
    pub cache: CacheInfo,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its media type, where an injected client told one. A registry does not say what the blob of a digest is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

/// A blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedDigest {
    /// The file.
    pub path: PathBuf,
    /// What is known of it.
    pub metadata: FetchMetadata,
}

/// Fetches blobs by their digest, and keeps them.
///
/// Cheap to make; no I/O before the first call. `Send` and `Sync`; may be used from several runtimes.
pub struct DigestFetcher<C: RegistryClient = DefaultRegistryClient> {
    client: C,
    options: DigestFetchOptions,
    offline: bool,
    dist: DistClient,
}

impl Default for DigestFetcher<DefaultRegistryClient> {
    /// A fetcher with default options, which reads the environment.
    fn default() -> Self {
        Self::new(DigestFetchOptions::default())
    }
}

impl<C: RegistryClient> DigestFetcher<C> {
    /// A fetcher that asks [`RegistryClient::default_client`]. No I/O.
    pub fn new(options: DigestFetchOptions) -> Self {
        Self::with_client(C::default_client(), options)
    }

    /// A fetcher that asks `client`. No I/O.
    pub fn with_client(client: C, options: DigestFetchOptions) -> Self {
        let dist = DistOptions { cache_dir: options.cache_dir.clone(), cache_max_bytes: 0, ..DistOptions::default() };
        let store = StoreOptions { artifact_file: ArtifactFile::Blob, ..StoreOptions::default() };
        let offline = dist.offline;
        // Offline is this fetcher's own matter, and can be changed yet.
        let builder = client.streaming().map_or_else(DistClient::builder, DefaultRegistryClient::builder);
        let dist = builder.options(DistOptions { offline: false, ..dist }).store_options(store).build();
        Self { client, options, offline, dist }
    }

    /// Whether nobody may be asked. Default: `GREENTIC_DIST_OFFLINE` is exactly `1`.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// The bytes of a blob and what is known of it.
    ///
    /// The bytes are read into memory, up to 2 GiB of them; [`DigestFetcher::ensure_cached`] holds a few MiB whatever the size.
    /// Cancel-safe: what was downloaded is kept for the next attempt.
    ///
    /// # Errors
    /// As [`DigestFetcher::ensure_cached`].
    pub async fn fetch_by_digest<R: DigestRefInput>(
        &self,
        reference: R,
    ) -> Result<(Vec<u8>, FetchMetadata), RunnerApiError> {
        let wanted = reference.to_digest_ref()?;
        let (mut open, hit) = self.get(&wanted).await?;
        let metadata = metadata(&open.entry, hit);
        let shown = wanted.reference().to_string();
        let bytes = blocking::run(move || Ok(fetch_blob::read_open(&mut open)))
            .await
            .map_err(|error| RunnerApiError::from_dist(&shown, wanted.digest(), error))?
            .map_err(|source| RunnerApiError::Io { reference: shown.clone(), source })?;
        // Somebody may have written to the very file since it was hashed.
        let read = Digest::of(wanted.pin().algorithm(), &bytes);
        if read != wanted.pin() {
            let (expected, actual) = (wanted.digest().to_owned(), read.to_string());
            return Err(RunnerApiError::CacheDigestMismatch { expected, actual });
        }
        Ok((bytes, metadata))
    }

    /// The file of a blob in the cache, hashed by this call, and brought there first where it was not.
    ///
    /// One request when it must be brought, none otherwise. A copy that is damaged is brought anew; offline it is refused. A
    /// transfer that was cut continues where it was, also one of another process. Cancel-safe.
    ///
    /// # Errors
    /// By kind: invalid input, not found, offline, auth, temporary, integrity, internal; see [`RunnerApiError`].
    pub async fn ensure_cached<R: DigestRefInput>(&self, reference: R) -> Result<CachedDigest, RunnerApiError> {
        let wanted = reference.to_digest_ref()?;
        let (open, hit) = self.get(&wanted).await?;
        Ok(CachedDigest { path: open.entry.path.clone(), metadata: metadata(&open.entry, hit) })
    }

    /// The blob, open and hashed, and whether it was there.
    async fn get(&self, wanted: &DigestRef) -> Result<(OpenEntry, bool), RunnerApiError> {
        let shown = wanted.reference().to_string();
        match fetch_blob::open(&self.dist.inner, wanted.pin()).await {
            Ok(Some(open)) => return Ok((open, true)),
            Ok(None) if self.offline => {
                return Err(RunnerApiError::OfflineMissing { reference: shown, digest: wanted.digest().to_owned() });
            }
            Ok(None) => {}
            Err(error) if self.offline || *error.kind() != StoreErrorKind::Corrupt => {
                return Err(unusable(&shown, wanted, error));
            }
            // What comes takes its place.
            Err(error) => tracing::warn!(%error, "a cached blob is damaged and is fetched again"),
        }
        self.bring(&shown, wanted).await?;
        match fetch_blob::open(&self.dist.inner, wanted.pin()).await {
            Ok(Some(open)) => Ok((open, false)),
            Ok(None) => Err(RunnerApiError::Io {
                reference: shown,
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    "the blob was removed as soon as it was there",
                ),
            }),
            Err(error) => Err(unusable(&shown, wanted, error)),
        }
    }

    async fn bring(&self, shown: &str, wanted: &DigestRef) -> Result<(), RunnerApiError> {
        let (inner, reference, pin) = (&self.dist.inner, wanted.reference(), wanted.pin());
        let wrap = |error| RunnerApiError::from_dist(shown, wanted.digest(), error);
        if let Some(client) = self.client.streaming() {
            client.expect(reference);
            return fetch_blob::fetch(inner, shown, reference, pin).await.map(drop).map_err(wrap);
        }
        let types: Vec<&str> = self.options.accepted_manifest_types.iter().map(String::as_str).collect();
        let image = self.client.pull(reference, &types).await;
        let image = image.map_err(|source| RunnerApiError::PullFailed { reference: shown.to_owned(), source })?;
        let PulledLayer { media_type, data, .. } = chosen(image, wanted)?;
        fetch_blob::store(inner, shown, reference, pin, media_type, data).await.map(drop).map_err(wrap)
    }
}

impl<C: RegistryClient> fmt::Debug for DigestFetcher<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestFetcher")
            .field("options", &self.options)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// The layer that has the digest: what it says of itself is a hint, what it hashes to decides.
fn chosen(image: PulledImage, wanted: &DigestRef) -> Result<PulledLayer, RunnerApiError> {
    let hash = |layer: &PulledLayer| Digest::of(wanted.pin().algorithm(), &layer.data);
    let says_so =
        |layer: &PulledLayer| layer.digest.as_deref().and_then(|digest| digest.parse().ok()) == Some(wanted.pin());
    let mut other = None;
    for layer in image.layers {
        if says_so(&layer) || layer.digest.is_none() {
            let actual = hash(&layer);
            if actual == wanted.pin() {
                return Ok(layer);
            }
            other = other.or(says_so(&layer).then_some(actual));
        }
    }
    Err(match other {
        Some(actual) => {
            RunnerApiError::DigestMismatch { expected: wanted.digest().to_owned(), actual: actual.to_string() }
        }
        None => RunnerApiError::DigestLayerMissing { digest: wanted.digest().to_owned() },
    })
}

/// What the store says of a blob that it does not hand out.
fn unusable(shown: &str, wanted: &DigestRef, error: StoreError) -> RunnerApiError {
    match error.kind() {
        StoreErrorKind::Corrupt => RunnerApiError::CacheDigestMismatch {
            expected: wanted.digest().to_owned(),
            actual: error.mismatch().map_or_else(|| chain(&error), |mismatch| actual(*mismatch)),
        },
        _ => RunnerApiError::Io { reference: shown.to_owned(), source: std::io::Error::other(error) },
    }
}

fn metadata(entry: &Entry, hit: bool) -> FetchMetadata {
    FetchMetadata {
        digest: entry.pin.to_string(),
        cache: CacheInfo { hit },
        size_bytes: entry.record.size_bytes,
        media_type: entry.record.content_type.clone(),
    }
}
