//! When an entry was last used, and the few fields of its record that change after it was published.

use std::io;
use std::time::{Duration, SystemTime};

use greentic_dist_types::Digest;

use crate::entry::Entry;
use crate::layout::{LAST_USED, Layout, RECORD};
use crate::record::EntryRecord;
use crate::{Store, StoreError, StoreErrorKind, os};

/// How often the last use of an entry is noted.
const TOUCH_EVERY: Duration = Duration::from_mins(10);

impl Store {
    /// Notes that an entry is being used, at most once in ten minutes. Best effort; changes nothing but the time of a marker
    /// file, so that the trust stamp stays valid. Entries in older layouts are left as they are.
    pub fn touch(&self, entry: &Entry) {
        if entry.layout != Layout::Current || self.clock().age(self.last_used(entry)) < TOUCH_EVERY {
            return;
        }
        let path = entry.dir.join(LAST_USED);
        let touched = match os::touch(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => os::create_new(&path).map(drop),
            other => other,
        };
        if let Err(error) = touched {
            tracing::debug!(pin = %entry.pin, %error, "the use of an entry could not be noted");
        }
    }

    /// When an entry was last used, as far as [`Store::touch`] and its publication tell: to ten minutes, never in the future,
    /// and the beginning of 1970 where nothing tells.
    pub fn last_used(&self, entry: &Entry) -> SystemTime {
        let mtime = |name| std::fs::symlink_metadata(entry.dir.join(name)).and_then(|meta| meta.modified()).ok();
        let latest = mtime(LAST_USED).max(mtime(RECORD)).unwrap_or(SystemTime::UNIX_EPOCH);
        latest.min(self.clock().now())
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
