//! What the cache directory holds, in bytes.

use crate::layout::Sub;
use crate::remove::size_of;
use crate::{Store, StoreError};

/// Bytes in the cache directory, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Entries in any layout.
    pub entries: usize,
    /// Bytes of their artifacts; those that several entries share count for each.
    pub artifact_bytes: u64,
    /// Bytes of partial downloads that can be gone on with.
    pub partial_bytes: u64,
    /// Bytes of what is in the making, by the living and the dead.
    pub temp_bytes: u64,
    /// Bytes of what was found to be wrong and put aside.
    pub quarantine_bytes: u64,
    /// Bytes of what is on its way out.
    pub trash_bytes: u64,
}

impl Store {
    /// Counts what is there. Reads names and sizes only; about a second for 100 000 entries.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        if !self.root_for_reading()? {
            return Ok(Sizes::default());
        }
        let listed = self.list_sized()?;
        let below = |sub: Sub| -> Result<u64, StoreError> {
            let dir = self.paths().sub(sub);
            Ok(self.names_in(sub)?.iter().map(|(name, _)| size_of(&dir.join(name))).sum())
        };
        Ok(Sizes {
            entries: listed.len(),
            artifact_bytes: listed.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size)),
            partial_bytes: below(Sub::Partial)?,
            temp_bytes: below(Sub::Tmp)?,
            quarantine_bytes: below(Sub::Quarantine)?,
            trash_bytes: below(Sub::Trash)?,
        })
    }
}
