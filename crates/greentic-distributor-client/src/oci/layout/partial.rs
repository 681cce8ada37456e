//! A blob on its way to the disk: what an earlier attempt left is its beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use greentic_dist_types::{Descriptor, Digest, Mismatch, Verifier};

use super::beneath::Folder;
use crate::oci::{LayoutError, LayoutProblem};
use crate::output_file::{Existing, place};

/// Bytes hashed at a time.
const CHUNK: usize = 256 << 10;
/// Bytes from which on a file of its own, beside a name somebody chose, is worth keeping for the next attempt.
const WORTH_KEEPING: u64 = 1 << 20;

/// A blob that is being written, hashed from its first byte on, whoever wrote that.
///
/// One process at a time goes on with the file of a digest, which it has locked; another one writes a file of its own beside it.
/// Dropped before it got its name, it stays for the next attempt, unless its bytes are known to be wrong or are too few.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    folder: Folder,
    name: String,
    file: File,
    digest: Digest,
    verifier: Verifier,
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
        let digest = descriptor.digest;
        let verifier = Verifier::for_content(digest, descriptor.size_bytes);
        let shared = open_shared(&folder, &name).map_err(failed)?;
        let keep = shared.is_some();
        let (name, mut file) = if let Some(file) = shared {
            (name, file)
        } else {
            // Another process is at it: this one writes beside it, and whoever is first has it.
            let own = format!("{name}.{}", unique());
            let file = folder.create_file(&own).map_err(failed)?;
            (own, file)
        };
        // The clone has the same position and the same lock.
        let kept = file.try_clone().map_err(failed)?;
        let mut partial = Self { path: path.to_owned(), folder, name, verifier, digest, least, keep, file: kept };
        let fits = feed(&mut file, &mut partial.verifier).map_err(failed)?.is_ok();
        if !fits {
            partial.restart(descriptor).map_err(failed)?;
        }
        Ok(partial)
    }

    /// Begins, or goes on with, a blob that is to be the file at `target`: in the same directory, under a name made of its digest.
    pub(in crate::oci) fn beside(target: &Path, descriptor: &Descriptor) -> Result<Self, LayoutError> {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Folder::open(parent).map_err(|error| LayoutError::io(parent, error))?;
        let name = format!(".{}-{}.part", descriptor.digest.algorithm(), descriptor.digest.to_hex());
        Self::begin(parent, folder, name, descriptor, WORTH_KEEPING)
    }

    /// Bytes that are there.
    pub(crate) const fn offset(&self) -> u64 {
        self.verifier.seen()
    }

    /// What it is to become.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        if let Err(mismatch) = self.verifier.update(bytes) {
            self.keep = false;
            return Err(self.wrong(mismatch));
        }
        self.file.write_all(bytes).map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Wrong bytes came: none of them is kept.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }

    /// Takes content that is at hand instead of whatever is there.
    pub(super) fn rewrite(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), LayoutError> {
        self.restart(descriptor).map_err(|error| LayoutError::io(&self.path, error))?;
        self.write(bytes)
    }

    /// Proves that everything is there, and makes it survive a power cut.
    pub(in crate::oci) fn prove(&mut self) -> Result<(), LayoutError> {
        if let Err(mismatch) = self.verifier.clone().finish() {
            self.keep = matches!(mismatch, Mismatch::Short { .. }) && self.keep;
            return Err(self.wrong(mismatch));
        }
        self.file.sync_data().map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Gives what was proven its name in a folder of blobs.
    pub(super) fn move_into(mut self, folder: &Folder) -> Result<(), LayoutError> {
        let moved = self.folder.rename(&self.name, folder, &self.digest.to_hex());
        moved.map_err(|error| LayoutError::io(&self.path, error))?;
        (self.keep, self.least) = (true, 0);
        Ok(())
    }

    /// Gives what was proven the name of a file. Where that fails nothing of it stays: nobody would look for it under its own.
    pub(in crate::oci) fn place(mut self, target: &Path, existing: Existing) -> io::Result<()> {
        let placed = place(&self.path.join(&self.name), target, existing);
        (self.keep, self.least) = (placed.is_ok(), 0);
        placed
    }

    fn wrong(&self, mismatch: Mismatch) -> LayoutError {
        LayoutError::new(&self.path, LayoutProblem::Damaged { digest: self.digest, mismatch })
    }

    fn restart(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.verifier = Verifier::for_content(descriptor.digest, descriptor.size_bytes);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.keep || self.verifier.seen() < self.least {
            drop(self.folder.remove(&self.name));
        }
    }
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

/// A suffix that nobody else uses at this time.
pub(super) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Feeds a file to its end, or to the byte that is too many.
pub(super) fn feed(file: &mut File, verifier: &mut Verifier) -> io::Result<Result<(), Mismatch>> {
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(mismatch) = verifier.update(buffer.get(..count).unwrap_or_default()) {
            return Ok(Err(mismatch));
        }
    }
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
}
