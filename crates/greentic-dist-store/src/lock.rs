//! Locks: one holder per digest among all threads and processes, waits that end, and a name for who is in the way.
//!
//! A lock is an exclusive lock on a file of `locks/`. The holder removes the file before it lets go, so that the directory
//! stays empty; whoever opened it meanwhile notices that the file is no longer the one at that path and tries again. A
//! killed holder needs no care: the kernel lets go for it.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greentic_dist_types::{Digest, SafeText};

use crate::error::Context;
use crate::intruder::Intruders;
use crate::layout::{LockName, Sub};
use crate::os::{self, FileState};
use crate::temp::discard;
use crate::{Store, StoreError, StoreErrorKind};

/// First and longest pause between two tries.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// When a wait is announced for the first time; every later announcement waits twice as long.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);
/// Most bytes read from the body of a lock file.
const BODY_BYTES: u64 = 256;

/// Who holds a lock, as far as the lock file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process id on its machine.
    pub pid: u32,
    /// The name of the program, without its arguments.
    pub command: SafeText,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.command, self.pid)
    }
}

/// A wait for a lock, told to the caller while it lasts.
#[derive(Clone, Debug)]
pub struct LockWait {
    /// The lock file.
    pub path: PathBuf,
    /// Who holds the lock.
    pub holder: Option<Holder>,
    /// How long the wait has lasted.
    pub waited: Duration,
}

/// The lock of one digest (or key), held until dropped.
#[must_use = "the lock is let go when this is dropped"]
pub struct DigestLock {
    store: Store,
    name: LockName,
    path: PathBuf,
    file: Option<File>,
}

impl DigestLock {
    /// The digest that is locked; for [`Store::lock_key`] the digest of the key's text.
    pub fn digest(&self) -> Digest {
        match self.name {
            LockName::Digest(digest) | LockName::Key(digest) | LockName::Lease(digest) => digest,
            LockName::Gc => Digest::sha256(b"gc"),
            LockName::Bundles => Digest::sha256(b"bundles"),
            LockName::Retention => Digest::sha256(b"retention"),
            LockName::Endpoints => Digest::sha256(b"endpoints"),
        }
    }
}

impl fmt::Debug for DigestLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for DigestLock {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Before the lock is let go, so that nobody can hold the file that is removed.
            discard(std::fs::remove_file(&self.path), &self.path);
        }
        self.file = None;
        self.store.0.held.release(&self.name);
    }
}

/// The locks held or sought by threads of this process: a thread that waits for another one wakes up at once, and only
/// one of them polls the file.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys {
    names: Mutex<HashSet<LockName>>,
    freed: Condvar,
}

impl HeldKeys {
    fn lock(&self) -> MutexGuard<'_, HashSet<LockName>> {
        // A set of names cannot be left half changed by a panic.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the name, waiting for it at most `wait`.
    fn claim(&self, name: &LockName, wait: Duration) -> bool {
        let names = self.lock();
        let (mut names, _) = self
            .freed
            .wait_timeout_while(names, wait, |names| names.contains(name))
            .unwrap_or_else(PoisonError::into_inner);
        names.insert(*name)
    }

    fn release(&self, name: &LockName) {
        self.lock().remove(name);
        self.freed.notify_all();
    }
}

impl Store {
    /// Locks a digest, waiting for whoever holds it: at most [`StoreOptions::lock_timeout`](crate::StoreOptions).
    ///
    /// Whoever downloads content locks the content's digest, so that one of several downloads it and the others find it.
    /// `on_wait` is called after a second and then ever more rarely, with who holds the lock.
    ///
    /// Blocks the thread. Not reentrant: locking a digest twice waits for oneself.
    ///
    /// # Errors
    /// `Locked` when the time is over; otherwise as any write.
    pub fn lock(&self, digest: &Digest, on_wait: &mut dyn FnMut(&LockWait)) -> Result<DigestLock, StoreError> {
        self.lock_unless(digest, on_wait, &|| false)
    }

    /// As [`Store::lock`], and gives up soon after `stop` says so (it is asked at least every 100 ms).
    ///
    /// # Errors
    /// As [`Store::lock`]; `Locked` when stopped.
    pub fn lock_unless(
        &self,
        digest: &Digest,
        on_wait: &mut dyn FnMut(&LockWait),
        stop: &dyn Fn() -> bool,
    ) -> Result<DigestLock, StoreError> {
        self.wait_for(LockName::Digest(*digest), on_wait, stop)
    }

    /// As [`Store::lock`], for work on something that has no digest yet, named by any text: a URL, for example. The text
    /// itself is not written anywhere.
    ///
    /// # Errors
    /// As [`Store::lock`].
    pub fn lock_key(&self, key: &str, on_wait: &mut dyn FnMut(&LockWait)) -> Result<DigestLock, StoreError> {
        self.wait_for(LockName::Key(Digest::sha256(key.as_bytes())), on_wait, &|| false)
    }

    /// Locks a digest if nobody holds it.
    ///
    /// # Errors
    /// As any write.
    pub fn try_lock(&self, digest: &Digest) -> Result<Option<DigestLock>, StoreError> {
        self.try_lock_name(LockName::Digest(*digest))
    }

    pub(crate) fn try_lock_name(&self, name: LockName) -> Result<Option<DigestLock>, StoreError> {
        self.dir_for_writing(Sub::Locks)?;
        if !self.0.held.claim(&name, Duration::ZERO) {
            return Ok(None);
        }
        let claimed = Claimed { store: self, name: Some(name) };
        let path = self.paths().lock(&name);
        Ok(self.try_file(&path)?.map(|file| claimed.into_lock(path, file)))
    }

    /// Locks `name`, waiting for it at most `limit`; `None` when that was not enough.
    pub(crate) fn lock_name_within(&self, name: LockName, limit: Duration) -> Result<Option<DigestLock>, StoreError> {
        match self.wait_within(name, limit, &mut |_| (), &|| false) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if *error.kind() == StoreErrorKind::Locked => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The error for a lock that was not to be had.
    pub(crate) fn in_use(&self, op: &'static str, name: LockName) -> StoreError {
        let path = self.paths().lock(&name);
        let holder = holder_of(&path).map_or_else(|| "somebody else".to_owned(), |holder| holder.to_string());
        StoreError::new(StoreErrorKind::Locked, op, &path).with_detail(&format!("{holder} is working on it"))
    }

    pub(crate) fn wait_for(
        &self,
        name: LockName,
        on_wait: &mut dyn FnMut(&LockWait),
        stop: &dyn Fn() -> bool,
    ) -> Result<DigestLock, StoreError> {
        self.wait_within(name, self.0.options.lock_timeout, on_wait, stop)
    }

    fn wait_within(
        &self,
        name: LockName,
        limit: Duration,
        on_wait: &mut dyn FnMut(&LockWait),
        stop: &dyn Fn() -> bool,
    ) -> Result<DigestLock, StoreError> {
        self.dir_for_writing(Sub::Locks)?;
        let path = self.paths().lock(&name);
        let mut wait = Waiting::new(limit);
        let mut pause = Duration::ZERO;
        while !self.0.held.claim(&name, pause) {
            pause = wait.go_on(&path, on_wait, stop)?;
        }
        let claimed = Claimed { store: self, name: Some(name) };
        loop {
            if let Some(file) = self.try_file(&path)? {
                return Ok(claimed.into_lock(path, file));
            }
            std::thread::sleep(wait.go_on(&path, on_wait, stop)?);
        }
    }
}

/// A name of [`HeldKeys`] that is given back unless it becomes a lock.
struct Claimed<'a> {
    store: &'a Store,
    name: Option<LockName>,
}

impl Claimed<'_> {
    fn into_lock(mut self, path: PathBuf, file: LockedFile) -> DigestLock {
        let name = self.name.take().unwrap_or(LockName::Gc);
        DigestLock { store: self.store.clone(), name, path, file: file.0 }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.store.0.held.release(&name);
        }
    }
}

/// The course of one wait.
struct Waiting {
    began: Instant,
    limit: Duration,
    pause: Duration,
    announce_at: Duration,
}

impl Waiting {
    fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, pause: POLL.0, announce_at: ANNOUNCE_AFTER }
    }

    /// How long to pause before the next try; announces the wait, and ends it when it has lasted too long.
    fn go_on(
        &mut self,
        path: &Path,
        on_wait: &mut dyn FnMut(&LockWait),
        stop: &dyn Fn() -> bool,
    ) -> Result<Duration, StoreError> {
        let waited = self.began.elapsed();
        let stopped = stop();
        if stopped || waited >= self.limit {
            let holder = holder_of(path).map_or_else(|| "somebody else".to_owned(), |holder| holder.to_string());
            let why = if stopped { "given up" } else { "no longer waited for" };
            let detail = format!("{holder} holds it; {why} after {:.1} s", waited.as_secs_f64());
            return Err(StoreError::new(StoreErrorKind::Locked, "lock", path).with_detail(&detail));
        }
        if waited >= self.announce_at {
            self.announce_at = waited.saturating_mul(2);
            on_wait(&LockWait { path: path.to_owned(), holder: holder_of(path), waited });
        }
        let pause = self.pause.min(self.limit.saturating_sub(waited));
        self.pause = self.pause.saturating_mul(2).min(POLL.1);
        Ok(pause)
    }
}

/// A lock file that is locked; without a file on file systems that have no locks.
struct LockedFile(Option<File>);

impl Store {
    /// Locks the file at `path` if nobody holds it.
    fn try_file(&self, path: &Path) -> Result<Option<LockedFile>, StoreError> {
        const OP: &str = "lock";
        let mut odd = Intruders::new(self, OP, path);
        loop {
            let file = match os::open_or_create(path) {
                Err(error) if odd.is_one(&error) => {
                    odd.clear(error)?;
                    continue;
                }
                other => other.at(OP, path)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if os::lacks_locks(&error) => {
                    warn_once_about_missing_locks(path, &error);
                    return Ok(Some(LockedFile(None)));
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io(OP, path, error)),
            }
            let meta = file.metadata().at(OP, path)?;
            match std::fs::symlink_metadata(path) {
                Ok(now) if FileState::of(&now).same_file(&FileState::of(&meta)) => {}
                // The last holder removed the file between our open and our lock.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io(OP, path, error)),
            }
            if !os::is_ours(&meta, self.owners()) {
                // Held, so that nobody else's new lock is removed.
                odd.unlink()?;
                continue;
            }
            os::set_mode(&file, 0o600).at(OP, path)?;
            say_who(&file, meta.len());
            return Ok(Some(LockedFile(Some(file))));
        }
    }
}

fn warn_once_about_missing_locks(path: &Path, error: &io::Error) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(path = %path.display(), %error,
            "the file system of the cache has no locks; the same artifact may be downloaded twice");
    }
}

/// Writes who holds the lock into its file. Only people read it, so failing is no failure.
fn say_who(mut file: &File, old_size: u64) {
    static BODY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let body = BODY.get_or_init(|| {
        let program = std::env::args_os().next().map(PathBuf::from);
        let name = program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = SafeText::excerpt(&name.unwrap_or_default(), 64);
        format!("{} {name}\n", std::process::id())
    });
    let written = if old_size == 0 { Ok(()) } else { file.set_len(0) }.and_then(|()| file.write_all(body.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "the holder of a lock could not be noted");
    }
}

fn holder_of(path: &Path) -> Option<Holder> {
    let bytes = os::read_at_most(os::open_read(path).ok()?, BODY_BYTES).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (pid, command) = text.trim_end().split_once(' ')?;
    Some(Holder { pid: pid.parse().ok()?, command: SafeText::excerpt(command, 64) })
}
