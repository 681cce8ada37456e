//! How many bytes the artifacts of the cache have, without looking at each of them.
//!
//! The file `usage` of the root holds the sum as of the last count, corrected by every publication and removal since. It is a
//! hint: a process that dies in between, and somebody who deletes directories by hand, make it drift. It only decides when
//! somebody counts again, which happens before anything is evicted; never what is evicted.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::time::Duration;

use crate::layout::Sub;
use crate::os;
use crate::{Store, StoreError};

/// Largest file that is read.
const FILE_BYTES: u64 = 64;
/// A sum this old is counted anew, so that what drifted does not drift on.
const COUNTED_FOR: Duration = Duration::from_hours(7 * 24);
/// Pauses between tries for the lock of the file, which is held for the time of one read and one write.
const PAUSES: [Duration; 5] = [
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
];

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Total {
    bytes: u64,
    /// When all entries were counted the last time, unix seconds.
    counted_at: u64,
}

impl Total {
    /// One line of a fixed length, so that one write replaces it.
    fn text(self) -> String {
        format!("1 {:020} {:012}\n", self.bytes, self.counted_at)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split(' ');
        let version = words.next()?;
        let total = Self { bytes: words.next()?.parse().ok()?, counted_at: words.next()?.parse().ok()? };
        (version == "1" && words.next().is_none() && total.text().as_bytes() == text).then_some(total)
    }
}

impl Store {
    /// The bytes of all artifacts, as far as is known without looking: see [`Store::count`] for the truth. Counts where
    /// nothing is known, or nothing recent.
    ///
    /// # Errors
    /// As [`Store::count`].
    pub fn known_total(&self) -> Result<u64, StoreError> {
        let now = self.clock().unix_seconds();
        match self.noted_total().filter(|total| now.abs_diff(total.counted_at) <= COUNTED_FOR.as_secs()) {
            Some(total) => Ok(total.bytes),
            None => self.count(),
        }
    }

    /// Counts the bytes of all artifacts, and remembers the sum. Artifacts that several entries share count for each.
    ///
    /// Looks at every entry, and reads none: about a second for 100 000.
    ///
    /// # Errors
    /// As [`Store::list`]. That the sum cannot be remembered is no error.
    pub fn count(&self) -> Result<u64, StoreError> {
        let before = self.noted_total();
        let counted = self.list_sized()?.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size));
        Ok(self.remember_total(before, counted))
    }

    /// What the file says now.
    pub(crate) fn noted_total(&self) -> Option<Total> {
        os::open_read(&self.paths().usage()).ok().and_then(|mut file| read(&mut file))
    }

    /// Remembers the sum of a count that began when the file said `before`. With what came and went meanwhile.
    pub(crate) fn remember_total(&self, before: Option<Total>, counted: u64) -> u64 {
        let counted_at = self.clock().unix_seconds();
        let mut result = counted;
        self.change_total(true, &mut |now| {
            // Of the same count as before, so that the difference is what moved.
            if let Some((before, now)) = before.zip(now).filter(|(before, now)| before.counted_at == now.counted_at) {
                let (came, went) = (now.bytes.saturating_sub(before.bytes), before.bytes.saturating_sub(now.bytes));
                result = counted.saturating_add(came).saturating_sub(went);
            }
            Some(Total { bytes: result, counted_at })
        });
        result
    }

    /// Notes that an artifact of this size came.
    pub(crate) fn note_added(&self, size_bytes: u64) {
        self.change_total(false, &mut |total| {
            let total = total?;
            Some(Total { bytes: total.bytes.saturating_add(size_bytes), ..total })
        });
    }

    /// Notes that an artifact of this size went.
    pub(crate) fn note_removed(&self, size_bytes: u64) {
        self.change_total(false, &mut |total| {
            let total = total?;
            Some(Total { bytes: total.bytes.saturating_sub(size_bytes), ..total })
        });
    }

    /// Changes what the file says, one at a time. Best effort: what is not noted here is found by the next count.
    fn change_total(&self, create: bool, change: &mut dyn FnMut(Option<Total>) -> Option<Total>) {
        let path = self.paths().usage();
        if create && self.dir_for_writing(Sub::Tmp).is_err() {
            change(None);
            return;
        }
        let opened = if create { os::open_or_create(&path) } else { os::open_to_change(&path) };
        let Ok(mut file) = opened else {
            change(None);
            return;
        };
        let ours = file.metadata().is_ok_and(|meta| os::is_ours(&meta, self.owners()));
        if !ours || !lock(&file) {
            change(None);
            return;
        }
        let written = match change(read(&mut file)) {
            None => Ok(()),
            Some(total) => write(&mut file, total),
        };
        if let Err(error) = written {
            tracing::debug!(path = %path.display(), %error, "the size of the cache could not be noted");
        }
    }
}

fn lock(file: &File) -> bool {
    let mut pauses = PAUSES.iter();
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) => {}
            // Without locks two changes may mix, and one is lost.
            Err(TryLockError::Error(error)) => return os::lacks_locks(&error),
        }
        let Some(pause) = pauses.next() else { return false };
        std::thread::sleep(*pause);
    }
}

fn read(file: &mut File) -> Option<Total> {
    let mut bytes = Vec::new();
    Read::take(file, FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Total::parse(&bytes)
}

fn write(file: &mut File, total: Total) -> std::io::Result<()> {
    let text = total.text();
    let size = u64::try_from(text.len()).unwrap_or_default();
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    if file.metadata()?.len() == size { Ok(()) } else { file.set_len(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_here_is_read_back() {
        let total = Total { bytes: 3 << 30, counted_at: 1_790_000_000 };
        assert_eq!(Total::parse(total.text().as_bytes()), Some(total));
        for text in
            ["", "1 3 4\n", "2 00000000003221225472 001790000000\n", "1 00000000003221225472 001790000000", "\0\0"]
        {
            assert_eq!(Total::parse(text.as_bytes()), None, "{text:?}");
        }
        for end in 0..total.text().len() {
            assert_eq!(Total::parse(&total.text().as_bytes()[..end]), None);
        }
    }
}
