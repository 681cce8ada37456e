//! Taking one entry away, unless somebody needs it: everything that protects it is asked again under its locks.

use std::fmt;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use greentic_dist_types::{BundleId, BundleLifecycleState, Digest};

use crate::bundles::BundlesLock;
use crate::crash::crash_point;
use crate::layout::{LAST_USED, Layout, LockName, Sub};
use crate::os;
use crate::remove::{delete, shared_size};
use crate::{DigestLock, Store, StoreError};

/// On which terms an entry goes.
#[derive(Clone, Copy)]
pub struct EvictTerms<'a> {
    /// It stays when it was used later than this; `None`: whenever it was used.
    pub unused_since: Option<SystemTime>,
    /// Whether it may go although its bundle is in this state; `None`: whatever the record says, and whether or not it can be
    /// read.
    pub bundle: Option<&'a dyn Fn(BundleLifecycleState) -> bool>,
}

impl fmt::Debug for EvictTerms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictTerms").field("unused_since", &self.unused_since).finish_non_exhaustive()
    }
}

/// What became of an entry that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// It is gone. With the size of its artifact in bytes; 0 where another entry shares it.
    Gone {
        /// Bytes that the artifact had for itself.
        bytes: u64,
    },
    /// There was none.
    Absent,
    /// It stays.
    Kept(Kept),
}

/// Why an entry that was to go stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Somebody works on it, or on its bytes.
    Busy,
    /// Somebody has a lease of it.
    Leased,
    /// Somebody used it meanwhile.
    Used,
    /// It may not go.
    Protected,
}

/// The locks of an entry on its way out.
pub(crate) struct Held {
    _pin: DigestLock,
    _content: Option<DigestLock>,
    _leases: DigestLock,
}

/// Which of the locks of an entry somebody else has.
pub(crate) enum Obstacle {
    Working(LockName),
    Leased,
}

impl Store {
    /// Takes an entry away, in whatever layout, on the given terms, and its bundle record with it: locks the entry without
    /// waiting, asks everything that protects it again, and renames it into the trash. Readers that have it open go on
    /// reading; deleting is for [`Store::empty_trash_for`] or the next collection.
    ///
    /// A use in the very moment it goes brings it back.
    ///
    /// # Errors
    /// As [`Store::bundle`] when the bundle record is asked and cannot be read, with the entry still there; otherwise as any
    /// write.
    pub fn evict(&self, pin: &Digest, terms: EvictTerms<'_>) -> Result<Evicted, StoreError> {
        if !self.root_for_reading()? || !self.places(pin).iter().any(|(_, path)| path.symlink_metadata().is_ok()) {
            return Ok(Evicted::Absent);
        }
        let _held = match self.hold(pin)? {
            Ok(held) => held,
            Err(Obstacle::Working(_)) => return Ok(Evicted::Kept(Kept::Busy)),
            Err(Obstacle::Leased) => return Ok(Evicted::Kept(Kept::Leased)),
        };
        let (evicted, _) = self.evict_held(pin, terms)?;
        Ok(evicted)
    }

    /// As [`Store::evict`], by the holder of the entry's locks. With where it is in the trash.
    pub(crate) fn evict_held(
        &self,
        pin: &Digest,
        terms: EvictTerms<'_>,
    ) -> Result<(Evicted, Vec<PathBuf>), StoreError> {
        if let Some(since) = terms.unused_since
            && self.stat_pin(pin).ok().flatten().is_some_and(|entry| self.last_used(&entry) > since)
        {
            return Ok((Evicted::Kept(Kept::Used), Vec::new()));
        }
        let bundle = match self.release_bundle(&BundleId::of(*pin), terms.bundle)? {
            Released::Yes(lock) => lock,
            Released::No => return Ok((Evicted::Kept(Kept::Protected), Vec::new())),
        };
        // Whoever empties the trash leaves alone what is locked, so that it can be brought back.
        let held = os::open_dir(&self.paths().entry_dir(pin)).ok().filter(|dir| dir.try_lock().is_ok());
        let used_before = modified(&self.paths().entry_dir(pin).join(LAST_USED));
        let (bytes, victims) = self.rename_away(pin)?;
        if victims.is_empty() {
            return Ok((Evicted::Absent, victims));
        }
        crash_point("in the trash");
        if terms.unused_since.is_some() && self.bring_back(pin, used_before, &victims) {
            return Ok((Evicted::Kept(Kept::Used), Vec::new()));
        }
        drop(held);
        self.note_removed(bytes.artifacts);
        if let Some(lock) = &bundle {
            self.remove_bundle(lock, &BundleId::of(*pin))?;
        }
        crash_point("record removed");
        Ok((Evicted::Gone { bytes: bytes.own }, victims))
    }

    /// Asks the record of a bundle whether its entry may go. While the lock is held nobody changes it; none can appear while
    /// the pin is locked, so that without one there is nothing to hold.
    fn release_bundle(
        &self,
        id: &BundleId,
        may_go: Option<&dyn Fn(BundleLifecycleState) -> bool>,
    ) -> Result<Released, StoreError> {
        let there = match self.bundle(id) {
            Ok(record) => record.is_some(),
            Err(_) if may_go.is_none() => true,
            Err(error) => return Err(error),
        };
        if !there {
            return Ok(Released::Yes(None));
        }
        let lock = self.lock_bundles(&mut |_| ())?;
        let Some(may_go) = may_go else { return Ok(Released::Yes(Some(lock))) };
        match self.bundle(id)? {
            Some(record) if !may_go(record.lifecycle_state) => Ok(Released::No),
            _ => Ok(Released::Yes(Some(lock))),
        }
    }

    /// The size of the artifact of a pin's entry, in bytes, less what another entry shares; `None` when there is no entry.
    /// Opens nothing and takes no lock.
    ///
    /// # Errors
    /// `NotOurs` for a root others may write to; `Permission` and `Io` as they come.
    pub fn own_size(&self, pin: &Digest) -> Result<Option<u64>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        let places = self.places(pin).into_iter().filter(|(_, path)| path.symlink_metadata().is_ok());
        let sizes: Vec<u64> =
            places.map(|(layout, path)| shared_size(&self.paths().blob_in(&path, layout)).1).collect();
        Ok((!sizes.is_empty()).then(|| sizes.iter().sum()))
    }

    /// Locks an entry so that it can go: its pin, its content, and leases of it.
    pub(crate) fn hold(&self, pin: &Digest) -> Result<Result<Held, Obstacle>, StoreError> {
        let Some(lock) = self.try_lock(pin)? else { return Ok(Err(Obstacle::Working(LockName::Digest(*pin)))) };
        // Whoever fetches or links the same bytes holds the lock of the bytes.
        let content = self.stat(pin).ok().flatten().map(|entry| entry.content_digest).filter(|content| content != pin);
        let content = match content {
            None => None,
            Some(content) => match self.try_lock(&content)? {
                Some(lock) => Some(lock),
                None => return Ok(Err(Obstacle::Working(LockName::Digest(content)))),
            },
        };
        let Some(leases) = self.exclude_leases(pin)? else { return Ok(Err(Obstacle::Leased)) };
        Ok(Ok(Held { _pin: lock, _content: content, _leases: leases }))
    }

    /// Renames an entry, wherever it lies, into the trash. The caller holds its locks.
    pub(crate) fn rename_away(&self, pin: &Digest) -> Result<(Bytes, Vec<PathBuf>), StoreError> {
        let (mut bytes, mut victims) = (Bytes::default(), Vec::new());
        for (layout, path) in self.places(pin) {
            if layout == Layout::Sharded && !self.is_below_real_directories(&path) {
                continue;
            }
            let (size, own) = shared_size(&self.paths().blob_in(&path, layout));
            if let Some(victim) = self.to_trash(&path)? {
                bytes.artifacts += size;
                bytes.own += own;
                victims.push(victim);
            }
            if layout == Layout::Sharded
                && let Some(shard) = path.parent()
            {
                // Succeeds only when it was the last entry of its shard.
                let _gone = std::fs::remove_dir(shard).is_ok();
            }
        }
        Ok((bytes, victims))
    }

    /// Whether the entry was used while it went, and is back at its place. A reader notes its use before it hands the path
    /// out, so that nothing used is lost.
    fn bring_back(&self, pin: &Digest, used_before: Option<SystemTime>, victims: &[PathBuf]) -> bool {
        let target = self.paths().entry_dir(pin);
        victims
            .iter()
            .find(|victim| modified(&victim.join(LAST_USED)) != used_before)
            .is_some_and(|victim| std::fs::rename(victim, &target).is_ok())
    }

    /// Deletes what is in the trash, for about as long as `limit`. Whether nothing is left there.
    ///
    /// # Errors
    /// `Permission` and `Io` when the trash cannot be listed. What cannot be deleted stays for the next time.
    pub fn empty_trash_for(&self, limit: Duration) -> Result<bool, StoreError> {
        let began = Instant::now();
        for (name, _) in self.names_in(Sub::Trash)? {
            if began.elapsed() >= limit {
                return Ok(false);
            }
            let path = self.paths().sub(Sub::Trash).join(name);
            // Who put it there may still want it back.
            let held = os::open_dir(&path).is_ok_and(|dir| matches!(dir.try_lock(), Err(TryLockError::WouldBlock)));
            if !held {
                delete(&path);
            }
        }
        Ok(true)
    }

    /// Makes the caller the one who makes room; `None` when somebody else did so for longer than `wait`.
    ///
    /// # Errors
    /// As any write.
    pub fn lock_retention(&self, wait: Duration) -> Result<Option<DigestLock>, StoreError> {
        self.lock_name_within(LockName::Retention, wait)
    }
}

/// Whether the record of a bundle lets its entry go; with the lock of the records where there is one.
enum Released {
    Yes(Option<BundlesLock>),
    No,
}

/// How many bytes went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes {
    /// Of the artifacts, whoever shares them.
    pub(crate) artifacts: u64,
    /// Of the artifacts that nobody shares.
    pub(crate) own: u64,
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::symlink_metadata(path)
        .ok()
        .filter(|meta| os::Kind::of(meta.file_type()) == os::Kind::File)?
        .modified()
        .ok()
}
