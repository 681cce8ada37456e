//! When an entry was last used, and the few fields of its record that change after it was published.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use greentic_dist_types::Digest;

use crate::entry::Entry;
use crate::glance::Glance;
use crate::layout::{LAST_USED, Layout, RECORD};
use crate::os::{self, Dir};
use crate::record::EntryRecord;
use crate::{Store, StoreError, StoreErrorKind};

/// As coarse as the times are that the kernel gives to files.
const GRAIN: Duration = Duration::from_millis(20);
/// The record tells seconds; within these its own time tells the rest.
const SECONDS: Duration = Duration::from_secs(2);

/// When an entry was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastUse {
    /// The time, never in the future.
    pub(crate) at: SystemTime,
    /// Whether it was opened then, by [`Store::touch`]; else it was fetched then, or a record says so.
    pub(crate) opened: bool,
}

impl Store {
    /// Notes that an entry is being used, before its path is handed out. Changes nothing but the times of a marker file, so
    /// that the trust stamp stays valid, and costs one system call, however many entries there are.
    ///
    /// `false` when the entry is not there any more. Otherwise best effort: on a read-only cache, and for entries in older
    /// layouts, nothing is noted.
    pub fn touch(&self, entry: &Entry) -> bool {
        if entry.layout != Layout::Current {
            return true;
        }
        let path = entry.dir.join(LAST_USED);
        let now = self.clock().now();
        // The other time of the marker says which record it is newer than: one that somebody writes later counts again.
        let record = modified(&entry.dir, RECORD).unwrap_or(SystemTime::UNIX_EPOCH);
        let touched = match os::set_times(&path, record, now) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                os::create_new(&path).and_then(|_| os::set_times(&path, record, now))
            }
            other => other,
        };
        match touched {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => entry.dir.symlink_metadata().is_ok(),
            Err(error) => {
                tracing::debug!(pin = %entry.pin, %error, "the use of an entry could not be noted");
                true
            }
        }
    }

    /// When an entry was last used: opened, as [`Store::touch`] noted it, or fetched, or what its record says where that was
    /// written later. Never in the future, and the beginning of 1970 where nothing tells.
    pub fn last_used(&self, entry: &Entry) -> SystemTime {
        self.last_use(entry).at
    }

    pub(crate) fn last_use(&self, entry: &Entry) -> LastUse {
        let marker = (entry.layout == Layout::Current)
            .then(|| std::fs::symlink_metadata(entry.dir.join(LAST_USED)).ok())
            .flatten()
            .and_then(|meta| Some((meta.modified().ok()?, meta.accessed().ok()?)));
        self.last_use_by(modified(&entry.dir, RECORD), entry.record.last_accessed_at, marker)
    }

    /// The last use of the entry in `dir`, whose record is known.
    pub(crate) fn last_use_in(&self, dir: &Dir, glance: &Glance) -> LastUse {
        let marker = dir.times(LAST_USED).ok().flatten();
        self.last_use_by(glance.recorded_at, glance.last_accessed_at, marker)
    }

    /// The last use by when the record was written, what it says, and the times of the marker: modified, accessed.
    fn last_use_by(
        &self,
        record: Option<SystemTime>,
        said_secs: u64,
        marker: Option<(SystemTime, SystemTime)>,
    ) -> LastUse {
        let now = self.clock().now();
        let said = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(said_secs)).unwrap_or(now);
        let said = record.filter(|at| at.duration_since(said).is_ok_and(|later| later < SECONDS)).unwrap_or(said);
        match (marker, record) {
            (Some((opened, _)), None) => LastUse { at: opened.min(now), opened: true },
            (Some((opened, newer_than)), Some(record))
                if newer_than == record || (opened > record + GRAIN && opened <= now) =>
            {
                LastUse { at: opened.min(now), opened: true }
            }
            _ => LastUse { at: said.min(now), opened: false },
        }
    }

    /// Changes the record of an entry and writes it back as a whole: its state, when it was verified, what was found. The
    /// fields that bind it to its entry are set anew, and fields nobody here knows are kept. `None` when there is no such
    /// entry in the current layout. The bytes are on the disk before they replace the old ones: what a bundle stands on is
    /// not to be lost by looking at it.
    ///
    /// Takes no lock; of two changes at the same time the later one stays.
    ///
    /// # Errors
    /// As [`Store::stat`] and as any write.
    pub fn update(&self, pin: &Digest, change: &mut dyn FnMut(&mut EntryRecord)) -> Result<Option<Entry>, StoreError> {
        const OP: &str = "update the record";
        let Some(mut entry) = self.stat(pin)?.filter(|entry| entry.pin == *pin && entry.layout == Layout::Current)
        else {
            return Ok(None);
        };
        let size_bytes = entry.record.size_bytes;
        // The record will be newer than the marker, and must not say less.
        let used_at = self.last_used(&entry).duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        entry.record.last_accessed_at = entry.record.last_accessed_at.max(used_at);
        change(&mut entry.record);
        entry.record.bind(&entry.pin, &entry.content_digest, size_bytes, &entry.path);
        let path = entry.dir.join(RECORD);
        let bytes = entry.record.to_json().map_err(|error| StoreError::io(OP, &path, error.into()))?;
        match self.write_atomic(&path, &bytes, true) {
            // The entry was removed meanwhile.
            Err(error) if *error.kind() == StoreErrorKind::Missing => Ok(None),
            other => other.map(|()| Some(entry)),
        }
    }
}

fn modified(dir: &Path, name: &str) -> Option<SystemTime> {
    std::fs::symlink_metadata(dir.join(name)).and_then(|meta| meta.modified()).ok()
}
