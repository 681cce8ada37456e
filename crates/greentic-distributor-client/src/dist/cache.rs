//! Opening, looking at and removing what is in the cache. Synchronous; opens no socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use greentic_dist_store::{Entry, GcReport, Proof};
use greentic_dist_types::Digest;
use serde::Serialize;

use super::client::Inner;
use super::error::chain;
use super::{CacheEntry, CacheEntryState, DistClient, DistError, InvalidRefReason, ResolvedArtifact, TransportHints};

/// Parses a digest argument; `sha256:` may be left out.
pub(super) fn parse_digest(text: &str) -> Result<Digest, DistError> {
    let parsed = if text.contains(':') { text.parse() } else { Digest::from_hex(text) };
    parsed.map_err(|error: greentic_dist_types::ParseDigestError| DistError::InvalidRef {
        reference: greentic_dist_types::redact_reference(text),
        source: Box::new(InvalidRefReason::Syntax(error.into())),
    })
}

/// How much the cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheSizes {
    /// Entries.
    pub entries: usize,
    /// Bytes of their artifacts; those that several entries share count for each.
    pub artifact_bytes: u64,
    /// The cap in force, in bytes; 0 for none.
    pub max_bytes: u64,
    /// Bytes of partial downloads.
    pub partial_bytes: u64,
    /// Bytes of what is in the making.
    pub temp_bytes: u64,
    /// Bytes of what was found to be wrong.
    pub quarantine_bytes: u64,
    /// Bytes of what is on its way out.
    pub trash_bytes: u64,
}

/// What hashing the cache again found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheVerification {
    /// Entries that were hashed, good and damaged.
    pub checked: usize,
    /// Bytes of the good ones.
    pub bytes: u64,
    /// The damaged ones, sorted by digest.
    pub damaged: Vec<CacheDamage>,
    /// Entries that could not be read, by digest, and why.
    pub unknown: BTreeMap<String, String>,
}

/// An entry that is not what its name promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheDamage {
    /// The digest it is named by.
    pub digest: String,
    /// The file or directory that is wrong.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it was put aside, so that the next fetch brings it anew.
    pub repaired: bool,
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
    let entry = try_open_entry(inner, key, shown)?;
    Ok(entry.map(|entry| ResolvedArtifact::from_entry(&entry, false, hints(inner))))
}

/// As [`try_open`], the entry itself.
pub(super) fn try_open_entry(inner: &Inner, key: &Digest, shown: &str) -> Result<Option<Entry>, DistError> {
    for _ in 0..OPENS {
        let opened = inner.store.open(key, inner.proof).map_err(|error| DistError::from_store(shown, error))?;
        let Some(open) = opened else { return Ok(None) };
        if inner.store.touch(&open.entry) {
            return Ok(Some(open.entry));
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
    inner.store.entries_as(|entry| view(inner, entry)).map_err(|error| DistError::from_store("the cache", error))
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

/// Hashes every byte of an entry again, whatever the stamp says. `None` when there is no such entry. One with wrong bytes is
/// marked, if it can be.
pub(super) fn verify_full(inner: &Inner, key: &Digest) -> Result<Option<()>, DistError> {
    let opened = inner.store.open(key, Proof::Full).map_err(|error| {
        if let (Some(pin), Some(_)) = (error.digest(), error.mismatch())
            && let Err(error) = inner.store.update(pin, &mut |record| record.state = CacheEntryState::Corrupt)
        {
            tracing::debug!(%pin, %error, "a damaged entry was not marked");
        }
        DistError::from_store(&key.to_string(), error)
    })?;
    Ok(opened.map(|_| ()))
}

fn verify_all(inner: &Inner, digests: &[String], repair: bool) -> Result<CacheVerification, DistError> {
    let cache_error = |error| DistError::from_store("the cache", error);
    let mut pins = Vec::with_capacity(digests.len());
    for digest in digests.iter().map(|text| parse_digest(text)).collect::<Result<Vec<_>, _>>()? {
        // One that cannot even be read is still to be looked at.
        match inner.store.stat(&digest) {
            Ok(Some(entry)) => pins.push(entry.pin),
            Ok(None) => return Err(DistError::NotFound { reference: digest.to_string() }),
            Err(_) => pins.push(digest),
        }
    }
    if digests.is_empty() {
        pins = inner.store.list().map_err(cache_error)?;
    }
    let audit = inner.store.audit(&pins, repair).map_err(cache_error)?;
    let damaged = audit.damaged.iter().map(|damage| CacheDamage {
        digest: damage.pin.to_string(),
        path: damage.path.clone(),
        reason: chain(&damage.error),
        repaired: damage.put_aside,
    });
    let unknown = audit.unknown.iter().map(|(pin, error)| (pin.to_string(), chain(error)));
    Ok(CacheVerification {
        checked: audit.good + audit.damaged.len(),
        bytes: audit.bytes,
        damaged: damaged.collect(),
        unknown: unknown.collect(),
    })
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

    /// How much the cache holds, by what it is for.
    ///
    /// # Errors
    /// [`DistError::CacheError`].
    pub fn cache_sizes(&self) -> Result<CacheSizes, DistError> {
        let sizes = self.inner.store.sizes().map_err(|error| DistError::from_store("the cache", error))?;
        Ok(CacheSizes {
            entries: sizes.entries,
            artifact_bytes: sizes.artifact_bytes,
            max_bytes: self.inner.options.cache_max_bytes,
            partial_bytes: sizes.partial_bytes,
            temp_bytes: sizes.temp_bytes,
            quarantine_bytes: sizes.quarantine_bytes,
            trash_bytes: sizes.trash_bytes,
        })
    }

    /// Hashes cached artifacts again, whatever was proven before: those of `digests`, or all of them when there are none. With
    /// `repair`, what is damaged is put into quarantine, so that the next fetch brings it anew.
    ///
    /// Parallel; memory does not grow with sizes. Blocks for about a second per GiB and processor.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] and [`DistError::NotFound`] for the digests, before anything is hashed;
    /// [`DistError::CacheError`]. Damage is no error but a finding.
    pub fn verify_cache(&self, digests: &[String], repair: bool) -> Result<CacheVerification, DistError> {
        verify_all(&self.inner, digests, repair)
    }

    /// Hashes a cached artifact from its first to its last byte again, whatever was proven before. An entry with wrong bytes
    /// is marked `Corrupt` and opens no more.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CorruptArtifact`]; [`DistError::InvalidRef`].
    pub fn verify_cached(&self, digest: &str) -> Result<(), DistError> {
        let parsed = parse_digest(digest)?;
        verify_full(&self.inner, &parsed)?.ok_or_else(|| DistError::NotFound { reference: parsed.to_string() })
    }
}
