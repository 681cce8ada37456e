//! Opening, looking at and removing what is in the cache. Synchronous; opens no socket.

use greentic_dist_store::{Proof, StoreErrorKind};
use greentic_dist_types::Digest;

use super::client::Inner;
use super::{CacheEntry, DistClient, DistError, InvalidRefReason, ResolvedArtifact, RetentionReport, TransportHints};

/// Parses a digest argument; `sha256:` may be left out.
pub(super) fn parse_digest(text: &str) -> Result<Digest, DistError> {
    let parsed = if text.contains(':') { text.parse() } else { Digest::from_hex(text) };
    parsed.map_err(|error: greentic_dist_types::ParseDigestError| DistError::InvalidRef {
        reference: greentic_dist_types::redact_reference(text),
        source: Box::new(InvalidRefReason::Syntax(error.into())),
    })
}

pub(super) fn hints(inner: &Inner) -> TransportHints {
    TransportHints {
        offline: inner.options.offline,
        allow_insecure_local_http: inner.options.allow_insecure_local_http,
    }
}

/// Opens an entry. `None` when there is none.
pub(super) fn try_open(inner: &Inner, key: &Digest, shown: &str) -> Result<Option<ResolvedArtifact>, DistError> {
    let opened = inner.store.open(key, inner.proof).map_err(|error| DistError::from_store(shown, error))?;
    Ok(opened.map(|open| {
        inner.store.touch(&open.entry);
        ResolvedArtifact::from_entry(&open.entry, false, hints(inner))
    }))
}

pub(super) fn open(inner: &Inner, key: &str) -> Result<ResolvedArtifact, DistError> {
    let digest = parse_digest(key)?;
    try_open(inner, &digest, key)?.ok_or_else(|| DistError::NotFound { reference: digest.to_string() })
}

pub(super) fn stat(inner: &Inner, key: &str) -> Result<CacheEntry, DistError> {
    let digest = parse_digest(key)?;
    let entry = inner.store.stat(&digest).map_err(|error| DistError::CacheError {
        path: error.path().display().to_string(),
        source: super::CacheFailure::Store(Box::new(error)),
    })?;
    entry.map(CacheEntry::from_store).ok_or_else(|| DistError::NotFound { reference: key.to_owned() })
}

pub(super) fn list(inner: &Inner) -> Result<Vec<String>, DistError> {
    let pins = inner.store.list().map_err(|error| DistError::from_store("the cache", error))?;
    Ok(pins.iter().map(ToString::to_string).collect())
}

pub(super) fn entries(inner: &Inner) -> Vec<CacheEntry> {
    inner.store.entries().map(|entries| entries.into_iter().map(CacheEntry::from_store).collect()).unwrap_or_default()
}

/// Removes entries. Every digest is parsed before anything is touched; what a pull is using right now is refused and
/// reported, not waited for.
pub(super) fn remove(inner: &Inner, digests: &[String]) -> Result<RetentionReport, DistError> {
    let parsed = digests.iter().map(|digest| parse_digest(digest)).collect::<Result<Vec<_>, _>>()?;
    let mut report = RetentionReport { scanned_entries: parsed.len(), ..RetentionReport::default() };
    for digest in &parsed {
        match inner.store.remove(digest) {
            Ok(removed) if removed.existed => {
                report.evicted += 1;
                report.bytes_reclaimed += removed.bytes;
            }
            Ok(_) => {}
            Err(error) if *error.kind() == StoreErrorKind::Locked => report.refusals.push(digest.to_string()),
            Err(error) => return Err(DistError::from_store(&digest.to_string(), error)),
        }
    }
    report.kept = report.refusals.len();
    Ok(report)
}

/// Removes what cannot be used any more: dead temporary files, old partial downloads, entries without their artifact.
pub(super) fn gc(inner: &Inner) -> Result<Vec<String>, DistError> {
    let report = inner.store.gc().map_err(|error| DistError::from_store("the cache", error))?;
    let mut removed: Vec<String> = report.removed.iter().map(ToString::to_string).collect();
    removed.sort();
    removed.dedup();
    Ok(removed)
}

/// Hashes every byte of an entry again, whatever the stamp says. `None` when there is no such entry.
pub(super) fn verify_full(inner: &Inner, key: &Digest) -> Result<Option<()>, DistError> {
    let opened = inner.store.open(key, Proof::Full).map_err(|error| DistError::from_store(&key.to_string(), error))?;
    Ok(opened.map(|_| ()))
}

impl DistClient {
    /// Removes entries by digest and reports what that did. Entries in use by a pull are refused and listed.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] for a text that is no digest, before anything is touched; [`DistError::CacheError`].
    pub fn remove(&self, digests: &[String]) -> Result<RetentionReport, DistError> {
        remove(&self.inner, digests)
    }

    /// Removes dead temporary files, old partial downloads and entries that can never be opened again; returns the digests
    /// of the latter, sorted. What another process is working on stays.
    ///
    /// # Errors
    /// [`DistError::CacheError`].
    pub fn gc(&self) -> Result<Vec<String>, DistError> {
        gc(&self.inner)
    }

    /// Hashes a cached artifact from its first to its last byte again, whatever was proven before.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CorruptArtifact`]; [`DistError::InvalidRef`].
    pub fn verify_cached(&self, digest: &str) -> Result<(), DistError> {
        let parsed = parse_digest(digest)?;
        verify_full(&self.inner, &parsed)?.ok_or_else(|| DistError::NotFound { reference: parsed.to_string() })
    }
}
