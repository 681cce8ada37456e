//! What there is to plan about.

use std::path::PathBuf;
use std::time::SystemTime;

use greentic_dist_types::{CacheEntryState, Digest};

use crate::glance::Glance;
use crate::os::Dir;
use crate::scan::scan;
use crate::usage::LastUse;
use crate::{EntryRecord, Store, StoreError, StoreErrorKind};

/// An entry as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// The digest the entry is named by.
    pub pin: Digest,
    /// Size of its artifact in bytes.
    pub size_bytes: u64,
    /// When it was last used; never in the future.
    pub used_at: SystemTime,
    /// Whether it was opened then: somebody was given its path.
    pub opened: bool,
    /// When it was fetched, unix seconds; 0 where nothing tells.
    pub fetched_at: u64,
    /// Whether its record says that its bytes are wrong, or it can never prove itself.
    pub corrupt: bool,
}

impl Store {
    /// Every entry in any layout, sorted by pin, with what retention goes by. Entries of a newer version are left out, and so
    /// are those that cannot prove themselves and changed a moment ago, since somebody may be copying them there.
    ///
    /// Remembers the sum of the sizes, as [`Store::count`] does. Reads all records: about two seconds for 100 000 on two cores.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn survey(&self) -> Result<Vec<Surveyed>, StoreError> {
        let before = self.noted_total();
        let listed = self.list_sized()?;
        self.remember_total(before, listed.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size)));
        Ok(scan(&listed, |(pin, size_bytes)| match self.surveyed(pin) {
            Ok(Some(entry)) => Some(Surveyed { size_bytes: *size_bytes, ..entry }),
            Err(error) if *error.kind() == StoreErrorKind::Corrupt && self.is_settled(pin) => Some(Surveyed {
                pin: *pin,
                size_bytes: *size_bytes,
                used_at: SystemTime::UNIX_EPOCH,
                opened: false,
                fetched_at: 0,
                corrupt: true,
            }),
            Ok(None) | Err(_) => None,
        }))
    }

    /// As [`Store::survey`], of what records say: sizes are the recorded ones, entries that cannot be read are left out, and
    /// nothing is remembered.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn survey_records(&self) -> Result<Vec<Surveyed>, StoreError> {
        Ok(scan(&self.list()?, |pin| {
            let entry = self.surveyed(pin);
            entry.inspect_err(|error| tracing::debug!(%pin, %error, "an entry is left out of the list")).ok()?
        }))
    }

    /// What retention goes by, by the record of an entry.
    fn surveyed(&self, pin: &Digest) -> Result<Option<Surveyed>, StoreError> {
        if let Ok(dir) = Dir::open(&self.paths().entry_dir(pin))
            && let Some(glance) = Glance::at(&dir, pin)
        {
            let LastUse { at: used_at, opened } = self.last_use_in(&dir, &glance);
            let Glance { size_bytes, fetched_at, state, .. } = glance;
            let corrupt = state == CacheEntryState::Corrupt;
            return Ok(Some(Surveyed { pin: *pin, size_bytes, used_at, opened, fetched_at, corrupt }));
        }
        let Some(entry) = self.stat_pin(pin)? else { return Ok(None) };
        let LastUse { at: used_at, opened } = self.last_use(&entry);
        let EntryRecord { size_bytes, fetched_at, state, .. } = entry.record;
        let corrupt = state == CacheEntryState::Corrupt;
        Ok(Some(Surveyed { pin: *pin, size_bytes, used_at, opened, fetched_at, corrupt }))
    }

    /// Whether nobody changed the directory of an entry in the last minutes.
    fn is_settled(&self, pin: &Digest) -> bool {
        let places: Vec<PathBuf> = self.places(pin).into_iter().map(|(_, path)| path).collect();
        places.iter().filter(|path| path.symlink_metadata().is_ok()).all(|path| self.age_of(path) > crate::gc::GRACE)
    }
}
