//! A lock file is replaced when it is still the one that was read: of several writers one is first, and the others are told.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use greentic_dist_types::SafeText;

use crate::dist::DistError;
use crate::dist::resolve::file::open_regular;
use crate::output_file::{Existing, OutputFile, rewrite};

/// Puts `bytes` in the place of a file that has the content `read`, none for a file that is not there. Waits for nobody.
///
/// Who replaces the file has it locked meanwhile, and knows that its name still leads to what is locked. Readers take no lock: they see
/// one file or the other.
///
/// # Errors
/// [`DistError::LockOutOfDate`] when it has another content by now, or is being replaced. Nothing is written then.
pub(super) fn replace_unchanged(path: &Path, read: &[u8], bytes: &[u8]) -> Result<(), DistError> {
    let failed = |error| DistError::io(path, error);
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) if !read.is_empty() => return Err(changed(path)),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
            let shown = SafeText::new(&path.display().to_string());
            return Err(DistError::InvalidInput(format!("`{shown}` is a symbolic link to a file that is not there")));
        }
        // Not `rewrite`, which would replace what appears at this moment.
        Err(_) => {
            return create(path, bytes).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => changed(path),
                _ => failed(error),
            });
        }
    };
    let file = open_regular(&real)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(changed(path)),
        // A file system without locks: what follows tells most of what a lock would.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let mut there = Vec::with_capacity(read.len().saturating_add(1));
    let most = u64::try_from(read.len()).unwrap_or(u64::MAX).saturating_add(1);
    (&file).take(most).read_to_end(&mut there).map_err(failed)?;
    if there != read || !is_still(&real, &file).map_err(failed)? {
        return Err(changed(path));
    }
    rewrite(&real, bytes).map_err(failed)
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut output = OutputFile::create(path, Existing::Keep)?;
    output.write_all(bytes)?;
    output.place()
}

fn changed(path: &Path) -> DistError {
    DistError::LockOutOfDate {
        path: path.display().to_string(),
        reason: "it was changed by somebody else while its references were resolved; nothing was written".into(),
    }
}

/// Whether a name still leads to the file that was opened by it.
#[cfg(unix)]
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (named, open) = (fs::metadata(path), file.metadata()?);
    match named {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere a file that is open and locked keeps its name.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere this asks")]
fn is_still(_path: &Path, _file: &File) -> io::Result<bool> {
    Ok(true)
}
