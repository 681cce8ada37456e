//! Turns between threads and processes: an exclusive lock on an empty file, which stays.
//!
//! The kernel lets go for a holder that was killed.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{ProviderRegistryError, disk};
use crate::private_file::lacks_locks;

/// First and longest pause between two looks at a lock.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A lock, held until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is let go when this is dropped"]
pub(super) struct Held {
    /// `None` on a file system without locks, where renames still keep every file whole.
    _file: Option<File>,
}

/// Waits for the lock at `path` for at most `limit`; less when `stop` says so.
pub(super) fn wait(path: &Path, limit: Duration, stop: &Stop) -> Result<Held, ProviderRegistryError> {
    let failed = |source: io::Error| ProviderRegistryError::Cache { op: "lock", path: path.to_owned(), source };
    let file = disk::open_lock(path).map_err(failed)?;
    let (began, mut pause) = (Instant::now(), LOOK.0);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Held { _file: Some(file) }),
            Err(TryLockError::WouldBlock) if began.elapsed() < limit && !stop.is_set() => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LOOK.1);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(ProviderRegistryError::Busy { path: path.to_owned(), waited: began.elapsed() });
            }
            Err(TryLockError::Error(error)) if lacks_locks(&error) => return Ok(Held { _file: None }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Says to a thread that waits that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it when the guard is dropped: with the future that waits, for example.
    pub(super) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

/// See [`Stop::on_drop`].
#[derive(Debug)]
pub(super) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn one_holds_it_and_the_next_one_gets_it_when_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = wait(&path, SHORT, &Stop::default()).unwrap();
        assert!(matches!(wait(&path, SHORT, &Stop::default()), Err(ProviderRegistryError::Busy { .. })));
        std::thread::scope(|scope| {
            let next = scope.spawn(|| wait(&path, Duration::from_mins(1), &Stop::default()));
            drop(held);
            drop(next.join().unwrap().unwrap());
        });
    }

    #[test]
    fn a_wait_ends_when_nobody_waits_for_it_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = wait(&path, SHORT, &Stop::default()).unwrap();
        let stop = Stop::default();
        drop(stop.on_drop());
        assert!(matches!(wait(&path, Duration::from_mins(1), &stop), Err(ProviderRegistryError::Busy { .. })));
    }
}
