//! A blob on its way to the disk: what an earlier attempt left is its beginning.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use greentic_dist_store::{Assembly, TakeError, read_at, write_all_at};
use greentic_dist_types::{Descriptor, Digest, Mismatch, Verifier};

use super::beneath::Folder;
use super::stale::fresh;
use crate::oci::{LayoutError, LayoutProblem};
use crate::output_file::{Existing, place, sync_dir};

/// Bytes from which on a file of its own, beside a name somebody chose, is worth keeping for the next attempt.
const WORTH_KEEPING: u64 = 1 << 20;
/// Length in bytes of a note about holes.
const NOTE_BYTES: usize = 21;
/// After how many more bytes without a hole the note is written again: what a kill costs at most, beside what was ahead.
const NOTE_EVERY: u64 = 4 << 20;

/// A blob that is being written, hashed from its first byte on, whoever wrote that.
///
/// One process at a time goes on with the file of a digest, which it has locked; another one writes a file of its own beside it.
/// Dropped before it got its name, it stays for the next attempt, unless its bytes are known to be wrong or are too few. What
/// stays ends where its first hole begins.
///
/// The length of the file says how much of it is there, until a byte is written behind a hole. Before the first such byte, a note
/// is put behind the place of the last byte of all: up to where there is no hole. Whoever finds a file with a note cuts it
/// there; to anybody else it is a file that is too long, and nothing of it counts.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    folder: Folder,
    name: String,
    file: File,
    digest: Digest,
    size_bytes: u64,
    /// The bytes so far; `None` when they were judged.
    body: Option<Assembly>,
    /// What the note says, where there is one.
    noted: Option<u64>,
    least: u64,
    /// Whether the bytes may be kept for the next attempt.
    keep: bool,
}

impl Partial {
    /// Begins, or goes on with, the file `name` of a folder of the layout at `path`. With fewer than `least` bytes it is not kept.
    pub(super) fn begin(
        path: &Path,
        folder: Folder,
        name: String,
        descriptor: &Descriptor,
        least: u64,
    ) -> Result<Self, LayoutError> {
        let failed = |error| LayoutError::io(path, error);
        let Descriptor { digest, size_bytes, .. } = *descriptor;
        let shared = open_shared(&folder, &name).map_err(failed)?;
        let keep = shared.is_some();
        let (name, mut file) = if let Some(file) = shared {
            (name, file)
        } else {
            // Another process is at it: this one writes beside it, and whoever is first has it.
            let own = fresh(|unique| {
                let own = format!("{name}.{unique}");
                folder.create_file(&own).map(|file| (own, file))
            });
            own.map_err(failed)?
        };
        cut_to_note(&file, size_bytes).map_err(failed)?;
        let mut verifier = Verifier::for_content(digest, size_bytes);
        if verifier.read_all_of(&mut file).map_err(failed)?.is_err() {
            verifier = Verifier::for_content(digest, size_bytes);
            file.set_len(0).map_err(failed)?;
        }
        let body = Some(Assembly::new(verifier, Some(size_bytes)));
        Ok(Self { path: path.to_owned(), folder, name, file, digest, size_bytes, body, noted: None, least, keep })
    }

    /// Begins, or goes on with, a blob that is to be the file at `target`: in the same directory, under a name made of its digest.
    pub(in crate::oci) fn beside(target: &Path, descriptor: &Descriptor) -> Result<Self, LayoutError> {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Folder::open(parent).map_err(|error| LayoutError::io(parent, error))?;
        let name = format!(".{}-{}.part", descriptor.digest.algorithm(), descriptor.digest.to_hex());
        Self::begin(parent, folder, name, descriptor, WORTH_KEEPING)
    }

    /// Bytes without a hole that the file at `path` has, as far as its length and its note tell. 0 where there is none.
    pub(super) fn bytes_in(path: &Path, size_bytes: u64) -> u64 {
        let Some(length) =
            std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
        else {
            return 0;
        };
        let noted = File::open(path).and_then(|file| noted_in(&file, length, size_bytes));
        noted.ok().flatten().unwrap_or(length)
    }

    /// Bytes that are there without a hole.
    pub(crate) fn offset(&self) -> u64 {
        self.body.as_ref().map_or(self.size_bytes, Assembly::whole)
    }

    /// What it is to become.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Takes bytes that belong at `offset`, in whatever order they come, each once. Over after an error.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &Bytes) -> Result<(), LayoutError> {
        if offset > self.offset() && self.noted.is_none() {
            self.note().map_err(|error| LayoutError::io(&self.path, error))?;
        }
        let Some(body) = &mut self.body else { return Err(self.over()) };
        if let Err(error) = body.put(&self.file, offset, bytes) {
            return Err(self.refuse(error));
        }
        body.begin_writeback(&self.file);
        if self.noted.is_some_and(|upto| self.offset().saturating_sub(upto) >= NOTE_EVERY) {
            self.note().map_err(|error| LayoutError::io(&self.path, error))?;
        }
        Ok(())
    }

    /// Wrong bytes came: none of them is kept.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }

    /// Takes content that is at hand instead of whatever is there.
    pub(super) fn rewrite(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.file.set_len(0).map_err(|error| LayoutError::io(&self.path, error))?;
        let mut body = Assembly::new(Verifier::for_content(self.digest, self.size_bytes), Some(self.size_bytes));
        let taken = body.append(&self.file, bytes);
        self.body = Some(body);
        taken.map_err(|error| self.refuse(error))
    }

    /// Proves that everything is there, and makes it survive a power cut.
    pub(in crate::oci) fn prove(&mut self) -> Result<(), LayoutError> {
        let (expected, actual) = (self.size_bytes, self.offset());
        if actual < expected {
            return Err(self.wrong(Mismatch::Short { expected, actual }));
        }
        let Some(body) = self.body.take() else { return Err(self.over()) };
        body.finish().map_err(|error| self.refuse(error))?;
        // Every hole is filled: the note goes.
        let settled = self.file.set_len(expected).and_then(|()| self.file.sync_data());
        settled.map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Gives what was proven its name in a folder of blobs.
    pub(super) fn move_into(mut self, folder: &Folder) -> Result<(), LayoutError> {
        let moved = self.folder.rename(&self.name, folder, &self.digest.to_hex());
        moved.map_err(|error| LayoutError::io(&self.path, error))?;
        self.keep = true;
        Ok(())
    }

    /// Gives what was proven the name of a file. Where that fails nothing of it stays: nobody would look for it under its own.
    pub(in crate::oci) fn place(mut self, target: &Path, existing: Existing) -> io::Result<()> {
        self.keep = false;
        place(&self.path.join(&self.name), target, existing)?;
        // It has another name now, and its own may be somebody's who begins again.
        self.keep = true;
        sync_dir(target)
    }

    fn refuse(&mut self, error: TakeError) -> LayoutError {
        match error {
            TakeError::Wrong(mismatch) => {
                self.keep = false;
                self.wrong(mismatch)
            }
            TakeError::Io(error) => LayoutError::io(&self.path, error),
        }
    }

    fn wrong(&self, mismatch: Mismatch) -> LayoutError {
        LayoutError::new(&self.path, LayoutProblem::Damaged { digest: self.digest, mismatch })
    }

    fn over(&self) -> LayoutError {
        LayoutError::io(&self.path, io::Error::other("the blob was judged already"))
    }

    /// Notes up to where there is no hole. One write of always the same length: a kill leaves the old number or the new one.
    fn note(&mut self) -> io::Result<()> {
        let upto = self.offset();
        write_all_at(&self.file, format!("{upto:020}\n").as_bytes(), self.size_bytes)?;
        self.noted = Some(upto);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut is_left = self.keep;
        if let Some(body) = self.body.take() {
            let whole = body.whole();
            // Whoever hashes holds the file, and with it its lock: the next attempt would find it taken.
            drop(body.finish());
            let is_cut = || match self.file.metadata() {
                Ok(meta) if meta.len() <= whole => true,
                Ok(_) => self.file.set_len(whole).is_ok(),
                Err(_) => false,
            };
            // A file that cannot be cut keeps its note.
            is_left = self.keep && whole >= self.least && (is_cut() || self.noted.is_some());
        }
        if !is_left && self.folder.is_still(&self.name, &self.file).is_ok_and(|still| still) {
            drop(self.folder.remove(&self.name));
        }
    }
}

/// Cuts a file that says it has holes to what counts of it.
fn cut_to_note(file: &File, size_bytes: u64) -> io::Result<()> {
    match noted_in(file, file.metadata()?.len(), size_bytes)? {
        Some(upto) => file.set_len(upto),
        None => Ok(()),
    }
}

/// What the note of a file says, 0 where it says nothing intelligible; `None` for a file without one.
fn noted_in(file: &File, length: u64, size_bytes: u64) -> io::Result<Option<u64>> {
    if size_bytes.checked_add(NOTE_BYTES as u64) != Some(length) {
        return Ok(None);
    }
    let mut note = [0_u8; NOTE_BYTES];
    let count = read_at(file, &mut note, size_bytes)?;
    let upto = note.get(..count).and_then(parse_note).filter(|upto| *upto <= size_bytes);
    Ok(Some(upto.unwrap_or_default()))
}

fn parse_note(text: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let is_note = digits.len() == NOTE_BYTES - 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_note { digits.parse().ok() } else { None }
}

/// Opens the file in which every process continues a blob, locked; `None` when somebody has it, or it is not ours to write.
fn open_shared(folder: &Folder, name: &str) -> io::Result<Option<File>> {
    let file = match folder.file_to_write(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match folder.create_file(name) {
            Ok(file) => private(file)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        },
        Err(error) if super::beneath::is_odd(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Between the opening and the lock, another process may have finished it and given it its name.
    let is_ours = is_private(&file)? && file.try_lock().is_ok() && folder.is_still(name, &file)?;
    Ok(is_ours.then_some(file))
}

/// Whether nobody but this user can change what was proven: a file that somebody else left in a directory for everybody stays
/// theirs under every name.
#[cfg(unix)]
fn is_private(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = file.metadata()?;
    Ok(meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o002 == 0)
}

/// A file that was just created, closed to everybody whatever the umask.
#[cfg(unix)]
fn private(file: File) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o002 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7775))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere this does something")]
fn private(file: File) -> io::Result<File> {
    Ok(file)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere this asks")]
fn is_private(_file: &File) -> io::Result<bool> {
    Ok(true)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_of_ours_is_closed_to_everybody_and_is_then_private() {
        let dir = tempfile::tempdir().unwrap();
        for (before, after) in [(0o666, 0o664), (0o644, 0o644), (0o600, 0o600)] {
            let file = File::create(dir.path().join("part")).unwrap();
            file.set_permissions(Permissions::from_mode(before)).unwrap();
            assert_eq!(is_private(&file).unwrap(), before & 0o002 == 0);
            let file = private(file).unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, after);
            assert!(is_private(&file).unwrap());
        }
    }

    #[test]
    fn only_a_file_of_its_own_is_removed_when_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let descriptor = Descriptor::new("application/example", Digest::sha256(b"content"), 7);
        let target = dir.path().join("out");
        let begun = || Partial::beside(&target, &descriptor).unwrap();
        let partial = begun();
        let own = dir.path().join(&partial.name);
        drop(partial);
        assert!(!own.exists());
        let partial = begun();
        std::fs::remove_file(&own).unwrap();
        std::fs::write(&own, "of another process").unwrap();
        drop(partial);
        assert_eq!(std::fs::read_to_string(&own).unwrap(), "of another process");
    }
}
