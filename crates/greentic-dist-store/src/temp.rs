//! Temporary files and directories that say by a lock whether their creator still lives.
//!
//! The creator holds an exclusive lock on the file or directory itself. When the lock can be had, the creator is dead, and
//! collection may take the thing away; there is no guess from its age, and no process id to be reused. Where the file
//! system has no locks, age is all there is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::layout::{Sub, random_name};
use crate::os::{self, FileState};
use crate::{Store, StoreError};

/// How often a new name is tried before giving up. One is enough unless collection runs at the same instant.
const TRIES: usize = 16;

/// A temporary file below `tmp/`, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
    file: Option<File>,
}

/// A temporary directory below `tmp/`, removed with everything in it when dropped.
#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
    // Held for its lock.
    lock: Option<File>,
    armed: bool,
}

/// What became of the lock of a new temporary.
pub(crate) enum Claim {
    Held,
    Unsupported,
    Lost,
}

/// Locks what is open as `file`. Between its opening and its lock somebody may have removed it, collection for example, so
/// whether it is still there is looked up after the lock is held.
pub(crate) fn claim(file: &File, path: &Path) -> std::io::Result<Claim> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Claim::Lost),
        Err(TryLockError::Error(error)) if os::lacks_locks(&error) => return Ok(Claim::Unsupported),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let held = FileState::of(&file.metadata()?);
    match std::fs::symlink_metadata(path) {
        Ok(meta) if FileState::of(&meta).same_file(&held) => Ok(Claim::Held),
        Ok(_) => Ok(Claim::Lost),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Claim::Lost),
        Err(error) => Err(error),
    }
}

/// Opens and locks the existing file at `path`; `None` when somebody holds it, or when another file took its place
/// meanwhile. Whoever has it may remove it.
pub(crate) fn seize(path: &Path) -> Option<File> {
    let file = os::open_read(path).ok()?;
    matches!(claim(&file, path), Ok(Claim::Held)).then_some(file)
}

fn lost(op: &'static str, path: &Path) -> StoreError {
    StoreError::io(op, path, std::io::Error::from(std::io::ErrorKind::ResourceBusy))
        .with_detail("temporary files disappear as soon as they are created")
}

impl TempFile {
    /// Creates an empty file, mode 0600.
    pub(crate) fn create(store: &Store) -> Result<Self, StoreError> {
        const OP: &str = "create a temporary file";
        let dir = store.dir_for_writing(Sub::Tmp)?;
        for _ in 0..TRIES {
            let path = dir.join(random_name());
            let file = os::create_new(&path).at(OP, &path)?;
            match claim(&file, &path).at(OP, &path)? {
                Claim::Held | Claim::Unsupported => return Ok(Self { path, file: Some(file) }),
                Claim::Lost => {}
            }
        }
        Err(lost(OP, &dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file away under a new name. The lock goes with the returned file.
    pub(crate) fn rename(mut self, to: &Path) -> Result<Option<File>, StoreError> {
        std::fs::rename(&self.path, to).at("rename a temporary file", to)?;
        Ok(self.file.take())
    }

    /// The open file.
    pub(crate) fn file(&self) -> Result<&File, StoreError> {
        self.file.as_ref().ok_or_else(|| lost("use a temporary file", &self.path))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            discard(std::fs::remove_file(&self.path), &self.path);
        }
    }
}

impl TempDir {
    /// Creates an empty directory, mode 0700.
    pub(crate) fn create(store: &Store) -> Result<Self, StoreError> {
        const OP: &str = "create a staging directory";
        let dir = store.dir_for_writing(Sub::Tmp)?;
        for _ in 0..TRIES {
            let path = dir.join(random_name());
            match os::create_dir(&path) {
                // Collected as soon as it was made.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.exists() => continue,
                other => other.at(OP, &path)?,
            }
            // Where a directory cannot be opened as a file it has no lock, and collection goes by its age.
            let lock = match os::open_dir(&path) {
                Ok(file) => file,
                Err(error) if cfg!(unix) && error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io(OP, &path, error));
                }
                Err(_) if cfg!(unix) => continue,
                Err(_) => return Ok(Self { path, lock: None, armed: true }),
            };
            match claim(&lock, &path).at(OP, &path)? {
                Claim::Held => return Ok(Self { path, lock: Some(lock), armed: true }),
                Claim::Unsupported => return Ok(Self { path, lock: None, armed: true }),
                Claim::Lost => {}
            }
        }
        Err(lost(OP, &dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory alone from now on: it was renamed away.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
        self.lock = None;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.armed {
            discard(std::fs::remove_dir_all(&self.path), &self.path);
        }
    }
}

/// Cleaning up is best effort: what stays is collected later.
pub(crate) fn discard(result: std::io::Result<()>, path: &Path) {
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(path = %path.display(), %error, "a temporary could not be removed"),
    }
}
