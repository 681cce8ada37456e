//! Opening, looking at and removing what is in the cache. Synchronous; opens no socket.

use std::time::SystemTime;

use greentic_dist_store::{Entry, GcReport, Proof};
use greentic_dist_types::Digest;

use super::client::Inner;
use super::{CacheEntry, DistClient, DistError, InvalidRefReason, ResolvedArtifact, TransportHints};

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

/// How often an entry that is evicted while it is opened is looked for again.
const OPENS: usize = 4;

/// Opens an entry. `None` when there is none. That it is used is noted before its path is handed out, so that whoever makes
/// room leaves it.
pub(super) fn try_open(inner: &Inner, key: &Digest, shown: &str) -> Result<Option<ResolvedArtifact>, DistError> {
    for _ in 0..OPENS {
        let opened = inner.store.open(key, inner.proof).map_err(|error| DistError::from_store(shown, error))?;
        let Some(open) = opened else { return Ok(None) };
        if inner.store.touch(&open.entry) {
            return Ok(Some(ResolvedArtifact::from_entry(&open.entry, false, hints(inner))));
        }
    }
    Ok(None)
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
    entry.map(|entry| view(inner, entry)).ok_or_else(|| DistError::NotFound { reference: key.to_owned() })
}

pub(super) fn list(inner: &Inner) -> Result<Vec<String>, DistError> {
    let pins = inner.store.list().map_err(|error| DistError::from_store("the cache", error))?;
    Ok(pins.iter().map(ToString::to_string).collect())
}

pub(super) fn entries(inner: &Inner) -> Vec<CacheEntry> {
    try_entries(inner).unwrap_or_default()
}

pub(super) fn try_entries(inner: &Inner) -> Result<Vec<CacheEntry>, DistError> {
    let entries = inner.store.entries().map_err(|error| DistError::from_store("the cache", error))?;
    Ok(entries.into_iter().map(|entry| view(inner, entry)).collect())
}

/// An entry as it is shown: with its last use, which is newer than what its record says.
pub(super) fn view(inner: &Inner, entry: Entry) -> CacheEntry {
    let used_at = inner.store.last_used(&entry);
    let mut shown = CacheEntry::from_store(entry);
    shown.last_accessed_at = used_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    shown
}

/// Removes what cannot be used any more, or says what would go.
pub(super) fn gc(inner: &Inner, dry_run: bool) -> Result<GcReport, DistError> {
    let collected = if dry_run { inner.store.gc_dry_run() } else { inner.store.gc() };
    let report = collected.map_err(|error| DistError::from_store("the cache", error))?;
    for path in &report.unreadable {
        inner.warn(&format!("`{}` is no bundle record that can be read; it was left alone", path.display()));
    }
    Ok(report)
}

/// Hashes every byte of an entry again, whatever the stamp says. `None` when there is no such entry.
pub(super) fn verify_full(inner: &Inner, key: &Digest) -> Result<Option<()>, DistError> {
    let opened = inner.store.open(key, Proof::Full).map_err(|error| DistError::from_store(&key.to_string(), error))?;
    Ok(opened.map(|_| ()))
}

fn digests(report: &GcReport) -> Vec<String> {
    report.removed.iter().map(ToString::to_string).collect()
}

impl DistClient {
    /// Removes dead temporary files, old partial downloads, entries that can never be opened again, and bundle records whose
    /// entry is gone; returns the digests of the latter two, sorted. What another process is working on stays, and so does a
    /// bundle record that cannot be read, with a warning.
    ///
    /// # Errors
    /// [`DistError::CacheError`].
    pub fn gc(&self) -> Result<Vec<String>, DistError> {
        Ok(digests(&gc(&self.inner, false)?))
    }

    /// What [`DistClient::gc`] would remove now. Changes nothing.
    ///
    /// # Errors
    /// [`DistError::CacheError`].
    pub fn gc_dry_run(&self) -> Result<Vec<String>, DistError> {
        Ok(digests(&gc(&self.inner, true)?))
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
