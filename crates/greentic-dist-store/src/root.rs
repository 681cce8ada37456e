//! The root directory: whose it is, and the directories below it that are not entries.

use std::fs::Metadata;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::error::Context;
use crate::layout::Sub;
use crate::{Store, StoreError, StoreErrorKind, os};

/// The text of `CACHEDIR.TAG`; its first line is fixed by the Cache Directory Tagging Specification.
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds artifacts that greentic-dist can fetch again.\n\
    # For information about cache directory tags, see https://bford.info/cachedir/\n";

/// Modes that let somebody else write.
#[cfg(unix)]
const OTHERS_WRITE: u32 = 0o022;

impl Store {
    /// Whether there is a root to read from. Never creates it.
    ///
    /// # Errors
    /// `NotOurs` when somebody else could have written what is in it.
    pub(crate) fn root_for_reading(&self) -> Result<bool, StoreError> {
        match std::fs::metadata(self.root()) {
            Ok(meta) => self.check_root("read the cache", &meta, false).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("read the cache", self.root(), error)),
        }
    }

    /// Makes sure of the root and of `sub` below it, and gives the path of `sub`.
    pub(crate) fn dir_for_writing(&self, sub: Sub) -> Result<PathBuf, StoreError> {
        self.root_for_writing()?;
        if let Some(parent) = sub.parent() {
            ensure_dir(&self.paths().sub(parent))?;
        }
        let path = self.paths().sub(sub);
        ensure_dir(&path)?;
        Ok(path)
    }

    fn root_for_writing(&self) -> Result<(), StoreError> {
        const OP: &str = "prepare the cache";
        let root = self.root();
        let meta = match std::fs::metadata(root) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    std::fs::create_dir_all(parent).at(OP, parent)?;
                }
                match os::create_dir(root) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(StoreError::io(OP, root, error));
                    }
                    _ => std::fs::metadata(root).at(OP, root)?,
                }
            }
            Err(error) => return Err(StoreError::io(OP, root, error)),
        };
        self.check_root(OP, &meta, true)?;
        if !self.0.tagged.swap(true, Ordering::Relaxed) {
            // Only backup programs miss it when it cannot be written.
            let path = self.paths().tag();
            if let Ok(mut file) = os::create_new(&path)
                && let Err(error) = file.write_all(TAG)
            {
                tracing::debug!(path = %path.display(), %error, "the cache tag could not be written");
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn check_root(&self, op: &'static str, meta: &Metadata, writing: bool) -> Result<(), StoreError> {
        let refuse = |detail: &str| Err(StoreError::new(StoreErrorKind::NotOurs, op, self.root()).with_detail(detail));
        if !meta.is_dir() {
            return refuse("it is not a directory");
        }
        if self.0.options.allow_shared_root {
            return Ok(());
        }
        let owner = os::ownership(meta);
        // Whatever the superuser could put into a cache it could do to this process anyway, so a cache baked into a
        // read-only image can be read by the user who runs there.
        let trusted = owner.uid == owner.our_uid || (owner.uid == 0 && !writing);
        if !trusted {
            let (uid, our_uid) = (owner.uid, owner.our_uid);
            return refuse(&format!("it belongs to user {uid}, and this process runs as user {our_uid}"));
        }
        if owner.mode & OTHERS_WRITE != 0 {
            return refuse(&format!("others may write to it (mode {:04o})", owner.mode));
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn check_root(&self, op: &'static str, meta: &Metadata, _writing: bool) -> Result<(), StoreError> {
        if meta.is_dir() {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::NotOurs, op, self.root()).with_detail("it is not a directory"))
    }
}

/// A directory below the root must be a real one: a symbolic link would lead our writes and deletions elsewhere.
fn ensure_dir(path: &Path) -> Result<(), StoreError> {
    const OP: &str = "prepare the cache";
    let meta = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match os::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io(OP, path, error));
                }
                _ => {}
            }
            std::fs::symlink_metadata(path)
        }
        other => other,
    };
    if meta.at(OP, path)?.is_dir() {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::NotOurs, OP, path).with_detail("it is not a directory"))
}
