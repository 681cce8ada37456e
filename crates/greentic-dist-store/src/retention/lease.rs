//! Leases: a promise that an entry stays while somebody works with its path.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greentic_dist_types::Digest;

use crate::error::Context;
use crate::intruder::Intruders;
use crate::layout::{LockName, Sub};
use crate::os::{self, FileState};
use crate::temp::{Claim, claim, discard};
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "lease the entry";
/// Pause between two tries while an eviction has the lease file, which takes the time of a rename.
const PAUSE: Duration = Duration::from_millis(1);

/// Keeps one entry from being evicted, collected or removed by anybody, until dropped. Any number of leases may be held of one
/// entry, in any number of processes; that of a process that dies ends with it.
#[must_use = "the lease ends when this is dropped"]
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    /// `None` where there are no locks or nothing can be written, so that nothing can be evicted either.
    file: Option<File>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The last one takes the file away; whoever opened it meanwhile notices.
        if let Some(file) = &self.file
            && matches!(claim(file, &self.path), Ok(Claim::Held))
        {
            discard(std::fs::remove_file(&self.path), &self.path);
        }
    }
}

impl Store {
    /// Leases the entry of a pin. Whether there is one is looked up afterwards: from now on it stays.
    ///
    /// On a cache that cannot be written to, and on file systems without locks, the lease protects from nothing.
    ///
    /// # Errors
    /// `Locked` when the lock file is not to be had within the lock timeout; otherwise as any write.
    pub fn lease(&self, pin: &Digest) -> Result<Lease, StoreError> {
        let path = self.paths().lock(&LockName::Lease(*pin));
        match self.dir_for_writing(Sub::Locks).and_then(|_| self.shared(&path)) {
            Ok(file) => Ok(Lease { path, file }),
            Err(error) if *error.kind() == StoreErrorKind::Permission => Ok(Lease { path, file: None }),
            Err(error) => Err(error),
        }
    }

    fn shared(&self, path: &Path) -> Result<Option<File>, StoreError> {
        let mut odd = Intruders::new(self, OP, path);
        let began = Instant::now();
        loop {
            let file = match os::open_or_create(path) {
                Err(error) if odd.is_one(&error) => {
                    odd.clear(error)?;
                    continue;
                }
                other => other.at(OP, path)?,
            };
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if began.elapsed() < self.options().lock_timeout => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::new(StoreErrorKind::Locked, OP, path));
                }
                Err(TryLockError::Error(error)) if os::lacks_locks(&error) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(StoreError::io(OP, path, error)),
            }
            let held = FileState::of(&file.metadata().at(OP, path)?);
            match std::fs::symlink_metadata(path) {
                Ok(meta) if FileState::of(&meta).same_file(&held) => {
                    os::set_mode(&file, 0o600).at(OP, path)?;
                    return Ok(Some(file));
                }
                // Its last holder took it away between our open and our lock.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(OP, path, error)),
            }
        }
    }

    /// Keeps leases of a pin from being taken while its entry goes; `None` when there is one.
    pub(crate) fn exclude_leases(&self, pin: &Digest) -> Result<Option<crate::DigestLock>, StoreError> {
        self.try_lock_name(LockName::Lease(*pin))
    }
}
