//! What there is to plan about.

use std::path::PathBuf;
use std::time::SystemTime;

use greentic_dist_types::{CacheEntryState, Digest};

use crate::scan::scan;
use crate::usage::LastUse;
use crate::{Store, StoreError, StoreErrorKind};

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
        Ok(scan(&listed, |(pin, size_bytes)| match self.stat_pin(pin) {
            Ok(Some(entry)) => {
                let LastUse { at: used_at, opened } = self.last_use(&entry);
                Some(Surveyed {
                    pin: *pin,
                    size_bytes: *size_bytes,
                    used_at,
                    opened,
                    fetched_at: entry.record.fetched_at,
                    corrupt: entry.record.state == CacheEntryState::Corrupt,
                })
            }
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

    /// Whether nobody changed the directory of an entry in the last minutes.
    fn is_settled(&self, pin: &Digest) -> bool {
        let places: Vec<PathBuf> = self.places(pin).into_iter().map(|(_, path)| path).collect();
        places.iter().filter(|path| path.symlink_metadata().is_ok()).all(|path| self.age_of(path) > crate::gc::GRACE)
    }
}
