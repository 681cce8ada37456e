//! How much of a partial file counts after a crash, where bytes came before their turn.
//!
//! The length of a partial file says how much of it is there, until a byte is written behind a hole. So before the first
//! such byte, a note is put beside the file that says up to where it has no hole. Whoever finds a note cuts the file there,
//! and only then takes the note away: a file with holes is never taken for one without.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::layout;
use crate::os;
use crate::position::write_all_at;
use crate::temp::{TempFile, discard};
use crate::{Store, StoreError};

const OP: &str = "store the bytes";
/// After how many more bytes without a hole the note is written again: what a kill costs at most, beside what was ahead.
const NOTE_EVERY: u64 = 4 << 20;
/// Longest note that is read, in bytes.
const NOTE_BYTES: u64 = 64;

/// What is known about the holes of a partial file.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    note: Option<Note>,
}

/// The note beside a partial file.
#[derive(Debug)]
struct Note {
    file: File,
    path: PathBuf,
    upto: u64,
}

impl Holes {
    /// Sees to it that a note lies beside the partial file, which has no hole before `upto`.
    pub(crate) fn begin_note(&mut self, store: &Store, part: &Path, upto: u64) -> Result<(), StoreError> {
        if self.note.is_some() {
            return Ok(());
        }
        let path = layout::note_of(part);
        let temp = TempFile::create(store)?;
        write_note(temp.file()?, upto).at(OP, temp.path())?;
        store.clear_odd(&path)?;
        let Some(file) = temp.rename(&path)? else { return Ok(()) };
        self.note = Some(Note { file, path, upto });
        Ok(())
    }

    /// Writes down, now and then, that there is no hole before `upto`.
    pub(crate) fn advance_note(&mut self, upto: u64) -> Result<(), StoreError> {
        let Some(note) = &mut self.note else { return Ok(()) };
        if upto.saturating_sub(note.upto) >= NOTE_EVERY {
            write_note(&note.file, upto).at(OP, &note.path)?;
            note.upto = upto;
        }
        Ok(())
    }

    /// Leaves a partial file that has no hole: cut at `upto`, and without a note.
    pub(crate) fn settle(&mut self, file: &File, upto: u64) -> io::Result<()> {
        let Some(note) = self.note.take() else { return Ok(()) };
        file.set_len(upto)?;
        discard(std::fs::remove_file(&note.path), &note.path);
        Ok(())
    }

    /// Takes the note away, after the file itself was removed or emptied.
    pub(crate) fn forget(&mut self) {
        if let Some(note) = self.note.take() {
            discard(std::fs::remove_file(&note.path), &note.path);
        }
    }
}

/// Cuts a partial file to what counts of it, and takes its note away. Nothing counts beside a note that cannot be read.
pub(crate) fn cut_to_note(store: &Store, file: &File, part: &Path) -> Result<(), StoreError> {
    let path = layout::note_of(part);
    let upto = match os::open_read(&path).and_then(|note| os::read_at_most(note, NOTE_BYTES)) {
        Ok(text) => parse_note(&text).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_unreadable) => 0,
    };
    let size = file.metadata().at(OP, part)?.len();
    if upto < size {
        tracing::debug!(path = %part.display(), upto, size, "a partial file with holes is cut");
        file.set_len(upto).at(OP, part)?;
    }
    if !store.clear_odd(&path)? {
        discard(std::fs::remove_file(&path), &path);
    }
    Ok(())
}

/// One write of always the same length: a kill leaves the old number or the new one.
fn write_note(file: &File, upto: u64) -> io::Result<()> {
    write_all_at(file, format!("{upto:020}\n").as_bytes(), 0)
}

fn parse_note(text: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let digits =
        Some(digits).filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_twenty_digits_and_a_line_feed_or_nothing() {
        assert_eq!(parse_note(b"00000000000000001234\n"), Some(1234));
        assert_eq!(parse_note(format!("{:020}\n", u64::MAX).as_bytes()), Some(u64::MAX));
        for bad in ["", "1234\n", "00000000000000001234", "0000000000000000123x\n", "99999999999999999999\n"] {
            assert_eq!(parse_note(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
