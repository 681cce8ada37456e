//! Bundle records: which artifacts somebody relies on, and where each is in its life.
//!
//! One file a bundle, written as a whole and durable before the call returns. Reading is strict: a record that cannot be
//! read is an error that names the file, never a bundle less, because what a record protects would be evicted. What is no
//! record by its name (hidden files, other endings) is nobody's business here.
//!
//! Changes happen under one lock, [`BundlesLock`]. Whoever stages holds the lock of the pin until the record is durable;
//! whoever evicts takes the lock of the pin, then this one, reads the record again and only then takes the entry away.

use std::io;
use std::path::Path;

use greentic_dist_types::limits::RECORD_BYTES;
use greentic_dist_types::{ArtifactSourceKind, BundleId, BundleLifecycleState, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Context;
use crate::layout::{self, LockName, Sub};
use crate::lock::{DigestLock, LockWait};
use crate::os::{self, Dir};
use crate::record::{FORMAT_VERSION, version_of};
use crate::scan::scan;
use crate::{Store, StoreError, StoreErrorKind};

const READ: &str = "read the bundle record";

/// The record of a bundle, version 1.
///
/// All fields but `format_version` are the published format, which has no version. Fields nobody here knows survive a
/// rewrite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleRecord {
    /// 1, also where the file has none. Set when it is written.
    #[serde(default = "first_version")]
    pub format_version: u32,
    /// The bundle; the file is named after it.
    pub bundle_id: BundleId,
    /// The pin of its artifact; the one in the id.
    pub cache_key: Digest,
    /// The reference it was staged from, with its digest.
    pub canonical_ref: String,
    /// The kind of source it was staged from.
    pub source_kind: ArtifactSourceKind,
    /// When its artifact was fetched, unix seconds.
    pub fetched_at: u64,
    /// Where it is in its life.
    pub lifecycle_state: BundleLifecycleState,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

const fn first_version() -> u32 {
    FORMAT_VERSION
}

/// The lock of all bundle records, held until dropped. While it is held no record appears, changes or goes.
#[derive(Debug)]
#[must_use = "the lock is let go when this is dropped"]
pub struct BundlesLock(DigestLock);

/// What became of a change of state.
#[derive(Clone, Debug, PartialEq)]
pub enum BundleChange {
    /// It was made; the record as it is now.
    Made(BundleRecord),
    /// The bundle was in another state than the change starts from; the record as it is.
    Elsewhere(BundleRecord),
    /// There is no such bundle.
    Missing,
}

impl Store {
    /// Locks the bundle records, waiting for whoever holds them: at most
    /// [`StoreOptions::lock_timeout`](crate::StoreOptions). Taken after the lock of a digest, never before one. Not reentrant.
    ///
    /// # Errors
    /// `Locked` when the time is over; otherwise as any write.
    pub fn lock_bundles(&self, on_wait: &mut dyn FnMut(&LockWait)) -> Result<BundlesLock, StoreError> {
        self.wait_for(LockName::Bundles, on_wait, &|| false).map(BundlesLock)
    }

    /// The record of a bundle; `None` when there is none. Takes no lock, writes nothing.
    ///
    /// # Errors
    /// `MalformedRecord` when there is a file and it is not the record of this bundle; `NewerFormat`; `NotOurs`;
    /// `Permission` and `Io` as they come.
    pub fn bundle(&self, id: &BundleId) -> Result<Option<BundleRecord>, StoreError> {
        match self.bundles_dir()? {
            Some(dir) => read(&dir, &layout::bundle_file(id), id),
            None => Ok(None),
        }
    }

    /// All records, sorted by their ids. Takes no lock: a record that changes meanwhile is the old or the new one.
    ///
    /// # Errors
    /// As [`Store::bundle`], for the first record that cannot be read, naming it; `MalformedRecord` also for a `.json` file
    /// that is not named after a bundle.
    pub fn bundles(&self) -> Result<Vec<BundleRecord>, StoreError> {
        let Some(dir) = self.bundles_dir()? else { return Ok(Vec::new()) };
        let mut names = layout::names(dir.path()).at("list the bundle records", dir.path())?;
        names.retain(|(name, _)| layout::is_bundle_file(name));
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let records: Result<Vec<_>, _> = scan(&names, |(name, _)| {
            let Some(id) = layout::parse_bundle_file(name) else {
                return Some(Err(malformed(&dir.path().join(name), "it is not named after a bundle")));
            };
            // One that is removed meanwhile is none.
            read(&dir, name, &id).transpose()
        })
        .into_iter()
        .collect();
        let mut records = records?;
        records.sort_unstable_by_key(|record| record.bundle_id);
        Ok(records)
    }

    /// Writes the record of a bundle, in place of the one that is there. When it returns, the record survives a power cut; so
    /// does the entry, if [`Store::make_durable`] was called before.
    ///
    /// # Errors
    /// `NewerFormat` when a newer version wrote the one that is there; otherwise as any write. The old record is there then,
    /// or the new one, whole.
    pub fn put_bundle(&self, lock: &BundlesLock, record: &BundleRecord) -> Result<(), StoreError> {
        const OP: &str = "write the bundle record";
        let dir = self.dir_for_writing(Sub::Bundles)?;
        let path = self.paths().bundle(&record.bundle_id);
        let record =
            BundleRecord { format_version: FORMAT_VERSION, cache_key: record.bundle_id.pin(), ..record.clone() };
        let mut bytes = serde_json::to_vec_pretty(&record).map_err(|error| StoreError::io(OP, &path, error.into()))?;
        bytes.push(b'\n');
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > RECORD_BYTES {
            let detail = format!("it has {} bytes, and {RECORD_BYTES} are allowed", bytes.len());
            return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_detail(&detail));
        }
        let old = os::open_read(&path).and_then(|file| os::read_at_most(file, RECORD_BYTES)).ok();
        if let Some(version) =
            old.and_then(|bytes| version_of(&bytes)).filter(|version| *version > u64::from(FORMAT_VERSION))
        {
            return Err(newer(&path, version));
        }
        self.write_durable(&path, &bytes).map_err(|error| match error.kind() {
            // Removing what has the name is for a person.
            StoreErrorKind::Io if path.is_dir() => malformed(&path, "it is a directory").with_source(error),
            _ => error,
        })?;
        tracing::trace!(lock = %lock.0.digest(), dir = %dir.display(), bundle = %record.bundle_id, "bundle record written");
        Ok(())
    }

    /// Changes the state of a bundle, if it is in `from` (or in whatever state, for `None`). Nobody changes it in between,
    /// and the change survives a power cut when this returns.
    ///
    /// # Errors
    /// `Locked` when somebody else holds the records for too long; otherwise as [`Store::bundle`] and
    /// [`Store::put_bundle`].
    pub fn change_bundle(
        &self,
        id: &BundleId,
        from: Option<BundleLifecycleState>,
        to: BundleLifecycleState,
    ) -> Result<BundleChange, StoreError> {
        if self.bundle(id)?.is_none() {
            // Nothing is created for what is not there.
            return Ok(BundleChange::Missing);
        }
        let lock = self.lock_bundles(&mut |_| ())?;
        let Some(mut record) = self.bundle(id)? else { return Ok(BundleChange::Missing) };
        if from.is_some_and(|from| from != record.lifecycle_state) {
            return Ok(BundleChange::Elsewhere(record));
        }
        record.lifecycle_state = to;
        self.put_bundle(&lock, &record)?;
        Ok(BundleChange::Made(record))
    }

    /// Removes the record of a bundle, readable or not; false when there was none. A power cut may bring it back; then it
    /// names an artifact that is gone, which every reader finds out.
    ///
    /// # Errors
    /// As any write.
    pub fn remove_bundle(&self, lock: &BundlesLock, id: &BundleId) -> Result<bool, StoreError> {
        if self.bundles_dir()?.is_none() {
            return Ok(false);
        }
        tracing::trace!(lock = %lock.0.digest(), bundle = %id, "bundle record removed");
        let path = self.paths().bundle(id);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove the bundle record", &path, error)),
        }
    }

    /// The directory of the records; `None` when it was never made. One that cannot be opened is an error: no records is an
    /// answer that lets everything be evicted.
    fn bundles_dir(&self) -> Result<Option<Dir>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        let path = self.paths().sub(Sub::Bundles);
        match Dir::open(&path) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if os::is_odd_file(&error) => {
                Err(StoreError::odd_file("list the bundle records", &path, "it is not a directory").with_source(error))
            }
            Err(error) => Err(StoreError::io("list the bundle records", &path, error)),
        }
    }
}

/// Reads the record `name`, which must be that of `id`. `None` when there is no such file.
fn read(dir: &Dir, name: &str, id: &BundleId) -> Result<Option<BundleRecord>, StoreError> {
    let path = dir.path().join(name);
    let bytes = match dir.read_small(name, RECORD_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if os::is_odd_file(&error) => {
            return Err(malformed(&path, "it is no regular file of a sane size").with_source(error));
        }
        Err(error) => return Err(StoreError::io(READ, &path, error)),
    };
    let record: BundleRecord = match serde_json::from_slice(&bytes) {
        Ok(record) => record,
        Err(error) => {
            return Err(match version_of(&bytes) {
                Some(version) if version > u64::from(FORMAT_VERSION) => newer(&path, version),
                _ => malformed(&path, "it is not the JSON of a bundle record").with_source(error),
            });
        }
    };
    if record.format_version > FORMAT_VERSION {
        return Err(newer(&path, record.format_version.into()));
    }
    if record.bundle_id != *id {
        return Err(malformed(&path, &format!("it is the record of {}", record.bundle_id)));
    }
    if record.cache_key != id.pin() {
        return Err(malformed(&path, &format!("its cache key {} is not the one in its id", record.cache_key)));
    }
    Ok(Some(record))
}

fn malformed(path: &Path, detail: &str) -> StoreError {
    StoreError::new(StoreErrorKind::MalformedRecord, READ, path).with_detail(detail)
}

fn newer(path: &Path, version: u64) -> StoreError {
    StoreError::new(StoreErrorKind::NewerFormat, READ, path)
        .with_detail(&format!("it has format version {version}, and this program knows 1"))
}
