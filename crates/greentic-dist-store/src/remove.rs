//! Taking entries away: renamed first, so that nobody sees half of one, deleted then.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::Digest;

use crate::error::Context;
use crate::layout::{self, Layout, Sub};
use crate::os::{self, Dir};
use crate::retention::{EvictTerms, Obstacle};
use crate::temp::discard;
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "remove the entry";
/// Most entries kept in quarantine.
const QUARANTINE_ENTRIES: usize = 16;
/// How long an entry is kept in quarantine.
const QUARANTINE_AGE: Duration = Duration::from_hours(7 * 24);

/// What [`Store::remove`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether there was an entry.
    pub existed: bool,
    /// Bytes given back to the file system; an artifact that another entry shares gives none.
    pub bytes: u64,
}

impl Store {
    /// Removes the entry of a pin, in whatever layout, and its bundle record, whatever that says. Readers that have it open go
    /// on reading.
    ///
    /// Does not wait: an entry somebody works on is left alone. Not to be called while holding the lock of the same digest.
    ///
    /// # Errors
    /// `Locked` when somebody works on it or has a lease of it; otherwise as any write.
    pub fn remove(&self, digest: &Digest) -> Result<Removed, StoreError> {
        if !self.root_for_reading()? || !self.places(digest).iter().any(|(_, path)| path.symlink_metadata().is_ok()) {
            return Ok(Removed::default());
        }
        let _held = match self.hold(digest)? {
            Ok(held) => held,
            Err(Obstacle::Working(name)) => return Err(self.in_use(OP, name).with_digest(digest)),
            Err(Obstacle::Leased) => {
                return Err(StoreError::new(StoreErrorKind::Locked, OP, &self.paths().entry_dir(digest))
                    .with_digest(digest)
                    .with_detail("somebody has a lease of it"));
            }
        };
        let (_, victims) = self.evict_held(digest, EvictTerms { unused_since: None, bundle: None })?;
        let mut removed = Removed { existed: !victims.is_empty(), bytes: 0 };
        for victim in victims {
            removed.bytes += size_of(&victim);
            delete(&victim);
        }
        Ok(removed)
    }

    /// Whether no directory between the root and `path` is a symbolic link, so that a rename of `path` moves something of
    /// ours.
    pub(crate) fn is_below_real_directories(&self, path: &Path) -> bool {
        path.ancestors().skip(1).take_while(|above| *above != self.root()).all(|above| Dir::open(above).is_ok())
    }

    /// Renames what is at `path` into the trash and deletes it there. The bytes it gave back; `None` when nothing was
    /// there.
    pub(crate) fn throw_away(&self, path: &Path) -> Result<Option<u64>, StoreError> {
        let Some(victim) = self.to_trash(path)? else { return Ok(None) };
        let bytes = size_of(&victim);
        delete(&victim);
        Ok(Some(bytes))
    }

    /// Renames what is at `path` into the trash. Where it is now; `None` when nothing was there.
    pub(crate) fn to_trash(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        self.dir_for_writing(Sub::Trash)?;
        let victim = self.paths().random(Sub::Trash);
        match std::fs::rename(path, &victim) {
            Ok(()) => Ok(Some(victim)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It was done and the answer got lost, as on network file systems.
            Err(_) if path.symlink_metadata().is_err() && victim.symlink_metadata().is_ok() => Ok(Some(victim)),
            Err(error) => Err(StoreError::io(OP, path, error)),
        }
    }

    /// Puts the entry of a pin aside, out of everybody's way, for somebody to look at. At most sixteen are kept, for at
    /// most seven days. Nothing happens when there is no entry; older layouts are left as they are, since a new entry takes
    /// precedence over them.
    ///
    /// # Errors
    /// As any write.
    pub fn quarantine(&self, pin: &Digest, why: &str) -> Result<(), StoreError> {
        let path = self.paths().entry_dir(pin);
        if !self.root_for_reading()? || path.symlink_metadata().is_err() {
            return Ok(());
        }
        let dir = self.dir_for_writing(Sub::Quarantine)?;
        let name = layout::quarantine_name(self.clock().unix_seconds(), pin, why);
        let (size, _) = shared_size(&self.paths().blob_in(&path, Layout::Current));
        match std::fs::rename(&path, dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("quarantine the entry", &path)?,
        }
        self.note_removed(size);
        self.trim_quarantine(false);
        Ok(())
    }

    /// Deletes what is too much or too long in quarantine.
    pub(crate) fn trim_quarantine(&self, dry_run: bool) -> u64 {
        let dir = self.paths().sub(Sub::Quarantine);
        if Dir::open(&dir).is_err() {
            return 0;
        }
        let mut kept: Vec<(u64, String)> = layout::names(&dir)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, _)| Some((layout::parse_quarantine_time(&name)?, name)))
            .collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = self.clock().unix_seconds().saturating_sub(QUARANTINE_AGE.as_secs());
        let mut bytes = 0;
        for (index, (at, name)) in kept.into_iter().enumerate() {
            if index >= QUARANTINE_ENTRIES || at < oldest {
                let path = dir.join(name);
                bytes += size_of(&path);
                if !dry_run {
                    delete(&path);
                }
            }
        }
        bytes
    }
}

/// The size of the artifact at `path`, and how much of it no other entry shares.
pub(crate) fn shared_size(path: &Path) -> (u64, u64) {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => (meta.len(), if os::link_count(&meta) <= 1 { meta.len() } else { 0 }),
        _ => (0, 0),
    }
}

/// The bytes that deleting `path` gives back: those of its files that have no other name.
pub(crate) fn size_of(path: &Path) -> u64 {
    let of_file = |path: &Path| {
        std::fs::symlink_metadata(path)
            .ok()
            .filter(|meta| meta.is_file() && os::link_count(meta) <= 1)
            .map_or(0, |meta| meta.len())
    };
    if Dir::open(path).is_err() {
        return of_file(path);
    }
    layout::names(path).unwrap_or_default().into_iter().map(|(name, _)| of_file(&path.join(name))).sum()
}

/// Deletes a file, a symbolic link (not what it points to) or a directory with all that is in it. False when it cannot be
/// deleted; it stays where it is for the next collection.
pub(crate) fn delete(path: &Path) -> bool {
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let deleted = if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    let is_gone = deleted.is_ok();
    discard(deleted, path);
    is_gone
}
