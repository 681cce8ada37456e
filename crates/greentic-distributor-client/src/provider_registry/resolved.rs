//! What came of a resolve, beside the path.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greentic_dist_types::{Digest, SafeText};

use super::cache::Copy;
use super::document::DOCUMENT_BYTES;
use super::fetch::FetchFailure;
use super::{Catalog, CatalogError, CatalogOrigin, disk};
use crate::dist::{DistErrorKind, chain};

/// Most characters of one failure that are repeated.
const SHOWN_CHARS: usize = 1_000;

/// Where the bytes of a catalog came from in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CatalogSource {
    /// A file that the caller named.
    File,
    /// The cache of the bundle.
    Cache,
    /// A registry: they are new in the cache.
    Network,
}

impl CatalogSource {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Cache => "cache",
            Self::Network => "network",
        }
    }
}

/// Why a refresh that was wanted did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshFailure {
    /// The kind of the failure.
    pub kind: DistErrorKind,
    /// The failure and its causes in one line, sanitised.
    pub message: String,
    /// The same one by one, the failure first.
    pub causes: Vec<String>,
    /// What a person may do about it: short imperative sentences.
    pub hints: Vec<String>,
}

impl RefreshFailure {
    /// One without causes.
    pub(super) fn plain(kind: DistErrorKind, message: &str, hints: Vec<String>) -> Self {
        Self { kind, message: message.to_owned(), causes: vec![message.to_owned()], hints }
    }
}

impl From<&FetchFailure> for RefreshFailure {
    fn from(failure: &FetchFailure) -> Self {
        let shown = |text: &str| SafeText::excerpt(text, SHOWN_CHARS).to_string();
        let mut causes = vec![shown(&failure.to_string())];
        let mut source = std::error::Error::source(failure);
        while let Some(cause) = source {
            causes.push(shown(&cause.to_string()));
            source = cause.source();
        }
        causes.dedup();
        Self { kind: failure.kind(), message: shown(&chain(failure)), causes, hints: failure.hints() }
    }
}

/// A catalog on this machine, and how it got there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolvedCatalog {
    /// The file.
    pub path: PathBuf,
    /// The reference that was asked for, without secrets; `None` for a catalog file.
    pub requested_reference: Option<String>,
    /// What that was at which registry: `host/repository:tag`, or with `@digest`.
    pub resolved_reference: Option<String>,
    /// Where the bytes came from in this call.
    pub source: CatalogSource,
    /// Who had them before they were cached.
    pub origin: Option<CatalogOrigin>,
    /// The digest of the manifest; of a vouched copy the one that the index of an earlier version names.
    pub manifest_digest: Option<String>,
    /// The digest of the bytes: the layer's. `None` for a file that cannot be read.
    pub layer_digest: Option<String>,
    /// The size in bytes.
    pub size_bytes: Option<u64>,
    /// The media type of the layer.
    pub media_type: Option<String>,
    /// Whether a refresh was wanted and did not happen, so that the registry may have another catalog by now.
    pub is_stale: bool,
    /// Whether nothing proves the bytes: an earlier version kept them under the digest of their manifest, and its index alone says that
    /// they are the reference's. Only while no registry can be asked, and never for a pinned reference.
    pub is_vouched: bool,
    /// When the bytes came from the registry.
    pub fetched_at: Option<SystemTime>,
    /// When the registry last said that they are the current ones.
    pub checked_at: Option<SystemTime>,
    /// How long ago that was, in this call.
    pub age: Option<Duration>,
    /// Why a refresh that was wanted did not happen.
    pub refresh_failure: Option<RefreshFailure>,
    catalog: Result<Catalog, CatalogError>,
}

impl ResolvedCatalog {
    /// What the document says. That it cannot be read is no failure of a resolve: another version of this client may know it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn catalog(&self) -> Result<&Catalog, CatalogError> {
        self.catalog.as_ref().map_err(Clone::clone)
    }

    /// How many providers it lists; `None` when it cannot be read.
    pub fn item_count(&self) -> Option<usize> {
        self.catalog.as_ref().ok().map(|catalog| catalog.providers.len())
    }

    /// The ids of the providers it lists, in its order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.catalog.iter().flat_map(|catalog| catalog.providers.iter().map(|provider| provider.id.as_str()))
    }

    /// Of a file that the caller named, as it is.
    pub(super) fn of_file(path: PathBuf, reference: Option<&str>) -> Self {
        let bytes = disk::read_named(&path, DOCUMENT_BYTES);
        let catalog = match &bytes {
            Ok(bytes) => Catalog::from_slice(bytes),
            Err(error) => Err(CatalogError::unreadable(&path, error)),
        };
        Self {
            path,
            requested_reference: reference.map(ToOwned::to_owned),
            resolved_reference: None,
            source: CatalogSource::File,
            origin: None,
            manifest_digest: None,
            layer_digest: bytes.as_ref().ok().map(|bytes| Digest::sha256(bytes).to_string()),
            size_bytes: bytes.as_ref().ok().and_then(|bytes| u64::try_from(bytes.len()).ok()),
            media_type: None,
            is_stale: false,
            is_vouched: false,
            fetched_at: None,
            checked_at: None,
            age: None,
            refresh_failure: None,
            catalog,
        }
    }

    /// Of a copy in the cache.
    pub(super) fn of_copy(copy: Copy, shown: String, source: CatalogSource, now: u64) -> Self {
        let Copy { path, bytes, digest, record, is_vouched } = copy;
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let is_of_registry = record.as_ref().is_some_and(|record| record.origin == CatalogOrigin::Registry);
        let checked = record.as_ref().filter(|_| is_of_registry).map(|record| record.checked_at);
        Self {
            path,
            requested_reference: Some(shown),
            source,
            origin: record.as_ref().map(|record| record.origin),
            manifest_digest: (is_of_registry || is_vouched).then(|| digest.to_string()),
            layer_digest: Some(
                record.as_ref().map_or_else(|| Digest::sha256(&bytes), |record| record.content_digest).to_string(),
            ),
            size_bytes: u64::try_from(bytes.len()).ok(),
            is_stale: false,
            is_vouched,
            fetched_at: record.as_ref().and_then(|record| at(record.fetched_at)),
            checked_at: checked.and_then(at),
            age: checked.map(|checked| Duration::from_secs(now.saturating_sub(checked))),
            refresh_failure: None,
            resolved_reference: record.as_ref().and_then(|record| record.resolved_reference.clone()),
            media_type: record.and_then(|record| record.media_type),
            catalog: Catalog::from_slice(&bytes),
        }
    }

    /// The same, though a refresh was wanted.
    pub(super) fn stale(self, failure: RefreshFailure) -> Self {
        Self { is_stale: true, refresh_failure: Some(failure), ..self }
    }
}
