//! Things at names of ours that this program never put there: a pipe, a directory, a link, a file of somebody else. They
//! make way, so that they keep nobody from an artifact; what they lead to is never touched.

use std::io;
use std::path::Path;

use crate::error::Context;
use crate::os;
use crate::{Store, StoreError};

/// How often a name is cleared. One time is enough unless somebody puts new things there.
const TRIES: u32 = 16;

/// What is in the way at one name of `locks/` or `partial/`.
pub(crate) struct Intruders<'a> {
    store: &'a Store,
    op: &'static str,
    path: &'a Path,
    tries: u32,
}

impl<'a> Intruders<'a> {
    pub(crate) fn new(store: &'a Store, op: &'static str, path: &'a Path) -> Self {
        Self { store, op, path, tries: 0 }
    }

    /// Whether opening the name failed because of what is there.
    pub(crate) fn is_one(&self, error: &io::Error) -> bool {
        os::is_odd_file(error)
            || (error.kind() == io::ErrorKind::PermissionDenied
                && std::fs::symlink_metadata(self.path).is_ok_and(|meta| !os::is_ours(&meta, self.store.owners())))
    }

    /// Takes away what is no plain file of ours.
    pub(crate) fn clear(&mut self, why: io::Error) -> Result<(), StoreError> {
        self.tries += 1;
        if self.tries > TRIES || self.store.clear_odd(self.path).is_err() {
            return Err(StoreError::odd_file(self.op, self.path, "it is not a file of ours").with_source(why));
        }
        Ok(())
    }

    /// Takes the name away from a file that is locked and has other names or another owner.
    pub(crate) fn unlink(&mut self) -> Result<(), StoreError> {
        self.tries += 1;
        if self.tries > TRIES {
            return Err(StoreError::odd_file(self.op, self.path, "it has other names or another owner"));
        }
        tracing::warn!(path = %self.path.display(), "a file with other names or another owner was replaced");
        match std::fs::remove_file(self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(self.op, self.path, error)),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Takes away what is at `path`, in a directory of ours, if it can be no file of ours. Whether it did.
    ///
    /// One at a time does so, under a lock of the directory: whoever comes second must not take away the good file that
    /// was made meanwhile.
    pub(crate) fn clear_odd(&self, path: &Path) -> Result<bool, StoreError> {
        const OP: &str = "clear the name";
        let parent = path.parent().unwrap_or(self.root());
        // Without locks, or where a directory cannot be opened, there is nothing better.
        let held = os::open_dir(parent).ok().filter(|dir| dir.lock().is_ok());
        let meta = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.at(OP, path)?,
        };
        let is_odd = !os::is_ours(&meta, self.owners());
        if is_odd {
            tracing::warn!(path = %path.display(), "something that is no file of ours was taken away");
            self.throw_away(path)?;
        }
        drop(held);
        Ok(is_odd)
    }
}
