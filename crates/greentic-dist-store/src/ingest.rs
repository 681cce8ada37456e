//! Taking bytes in: hashed and counted while they are written, kept across crashes, handed on only when they are right.

use std::fs::{File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::{Algorithm, Digest, Mismatch, SafeText, Verified, Verifier};

use crate::assembly::{Assembly, TakeError};
use crate::crash::crash_point;
use crate::error::Context;
use crate::holes::{self, Holes};
use crate::intruder::Intruders;
use crate::layout::{ARTIFACT_MODE, Sub};
use crate::lock::DigestLock;
use crate::os::{self, FileState};
use crate::room::check_room_for;
use crate::temp::{TempFile, discard};
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "store the bytes";
/// Pauses between tries for a partial file that is still locked by a writer that is going away.
const PART_RETRIES: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(32),
    Duration::from_millis(64),
    Duration::from_millis(128),
];

/// What incoming bytes must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Their digest.
    pub digest: Digest,
    /// Their exact number.
    pub size_bytes: u64,
}

/// Bytes on their way in.
///
/// Dropped before [`Ingest::finish`], an ingest of a known digest leaves its partial file for whoever resumes, and an
/// ingest of an unknown digest leaves nothing.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    target: Option<Target>,
    fresh: Verifier,
    body: Assembly,
    resumed: bool,
    /// How many bytes there will be, where that is known.
    size_bytes: Option<u64>,
    /// What is noted about bytes that came before their turn.
    holes: Holes,
}

/// Where the bytes go.
#[derive(Debug)]
enum Target {
    /// A file of `partial/`, locked by this ingest, that outlives it.
    Part { file: File, path: PathBuf },
    /// A file of `tmp/` that does not.
    Temp(TempFile),
}

impl Target {
    fn file(&self) -> Result<&File, StoreError> {
        match self {
            Self::Part { file, .. } => Ok(file),
            Self::Temp(temp) => temp.file(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Part { path, .. } => path,
            Self::Temp(temp) => temp.path(),
        }
    }

    /// Removes the file.
    fn remove(self) {
        if let Self::Part { path, .. } = &self {
            discard(std::fs::remove_file(path), path);
        }
    }
}

impl Store {
    /// Begins or resumes taking in content whose digest and size are known.
    ///
    /// What an earlier attempt left is hashed again, and [`Ingest::offset`] says how much of it there is; the caller goes
    /// on from there. At most one ingest works on a digest at a time: callers hold the lock of the content's digest, and
    /// an ingest that nevertheless finds the partial file in use writes to a file of its own, from the start.
    ///
    /// Blocks, for about a second per GiB that is already there.
    ///
    /// # Errors
    /// `NoSpace` when the file system says beforehand that the bytes do not fit; otherwise as any write.
    pub fn ingest(&self, lock: &DigestLock, expected: Expected) -> Result<Ingest, StoreError> {
        tracing::trace!(lock = %lock.digest(), content = %expected.digest, "ingest");
        let dir = self.dir_for_writing(Sub::Partial)?;
        let fresh = Verifier::for_content(expected.digest, expected.size_bytes);
        let path = self.paths().partial(&expected.digest);
        let target = match self.open_part(&path)? {
            Some(file) => Target::Part { file, path },
            None => Target::Temp(TempFile::create(self)?),
        };
        let mut ingest = Ingest {
            store: self.clone(),
            target: Some(target),
            fresh: fresh.clone(),
            body: Assembly::new(fresh, Some(expected.size_bytes)),
            resumed: false,
            size_bytes: Some(expected.size_bytes),
            holes: Holes::default(),
        };
        ingest.resume(expected)?;
        let missing = expected.size_bytes.saturating_sub(ingest.offset());
        check_room_for(OP, &dir, missing).map_err(|error| error.with_digest(&expected.digest))?;
        Ok(ingest)
    }

    /// Begins taking in content whose digest nobody knows yet, at most `limit` bytes of it. It will be named by SHA-256.
    ///
    /// # Errors
    /// As any write.
    pub fn ingest_measured(&self, limit: u64) -> Result<Ingest, StoreError> {
        self.ingest_measured_as(Algorithm::Sha256, limit)
    }

    /// As [`Store::ingest_measured`], for content that will be named by this algorithm.
    ///
    /// # Errors
    /// As any write.
    pub fn ingest_measured_as(&self, algorithm: Algorithm, limit: u64) -> Result<Ingest, StoreError> {
        let target = Target::Temp(TempFile::create(self)?);
        let fresh = Verifier::measuring(algorithm, limit);
        Ok(Ingest {
            store: self.clone(),
            target: Some(target),
            fresh: fresh.clone(),
            body: Assembly::new(fresh, None),
            resumed: false,
            size_bytes: None,
            holes: Holes::default(),
        })
    }
}

impl Store {
    /// Opens and locks a partial file; `None` when somebody else keeps it, or when what is there cannot be taken away.
    fn open_part(&self, path: &Path) -> Result<Option<File>, StoreError> {
        let mut odd = Intruders::new(self, OP, path);
        let mut pauses = PART_RETRIES.iter();
        loop {
            let file = match os::open_or_create(path) {
                Ok(file) => file,
                Err(error) if odd.is_one(&error) => match odd.clear(error) {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "the bytes go to a temporary file");
                        return Ok(None);
                    }
                },
                Err(error) => return Err(StoreError::io(OP, path, error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let Some(pause) = pauses.next() else { return Ok(None) };
                    std::thread::sleep(*pause);
                    continue;
                }
                Err(TryLockError::Error(error)) if os::lacks_locks(&error) => {}
                Err(TryLockError::Error(error)) => return Err(StoreError::io(OP, path, error)),
            }
            let meta = file.metadata().at(OP, path)?;
            match std::fs::symlink_metadata(path) {
                Ok(now) if FileState::of(&now).same_file(&FileState::of(&meta)) => {}
                // Its last owner finished or removed it between our open and our lock.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io(OP, path, error)),
            }
            if os::is_ours(&meta, self.owners()) {
                os::set_mode(&file, 0o600).at(OP, path)?;
                return Ok(Some(file));
            }
            if odd.unlink().is_err() {
                return Ok(None);
            }
        }
    }
}

impl Ingest {
    /// How many bytes are there already; the next [`Ingest::write`] continues from here.
    pub const fn offset(&self) -> u64 {
        self.body.whole()
    }

    /// Whether bytes of an earlier attempt are part of it. When such an ingest turns out wrong, one more attempt from the
    /// start is worth it: a power cut may have left a partial file of zeros.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    fn target(&self) -> Result<&Target, StoreError> {
        self.target.as_ref().ok_or_else(|| self.over())
    }

    fn over(&self) -> StoreError {
        StoreError::new(StoreErrorKind::Io, OP, self.store.root()).with_detail("it failed before")
    }

    /// Gives everything up, the partial file included.
    fn abandon(&mut self) {
        if let Some(target) = self.target.take() {
            target.remove();
        }
        self.holes.forget();
    }

    fn fail(&mut self, path: &Path, error: io::Error) -> StoreError {
        // Before the bytes so far are given up: what they give back was not there for them. Of a quota it would say nothing.
        let free = (error.kind() == io::ErrorKind::StorageFull).then(|| os::free_bytes(self.store.root())).flatten();
        // After a failed write nobody knows what the file holds, and on a full disk it is in the way.
        self.abandon();
        let error = StoreError::io(OP, path, error);
        let Some(free) = free else { return error };
        let seen = self.offset();
        let needed = match self.size_bytes {
            Some(size_bytes) => format!("{size_bytes} bytes are needed in all"),
            None => "its size is not known".to_owned(),
        };
        error.with_detail(&format!("there is no space left ({free} bytes are free after {seen} were taken; {needed})"))
    }

    fn refuse(&mut self, path: &Path, error: TakeError) -> StoreError {
        match error {
            TakeError::Wrong(mismatch) => {
                self.abandon();
                StoreError::new(StoreErrorKind::Integrity(mismatch), OP, path)
            }
            TakeError::Io(error) => self.fail(path, error),
        }
    }

    /// Hashes what an earlier attempt left.
    fn resume(&mut self, expected: Expected) -> Result<(), StoreError> {
        let target = self.target()?;
        let path = target.path().to_owned();
        let file = target.file()?;
        if matches!(target, Target::Part { .. }) {
            holes::cut_to_note(&self.store, file, &path)?;
        }
        let size = file.metadata().at(OP, &path)?.len();
        if size == 0 {
            return Ok(());
        }
        if size <= expected.size_bytes {
            let mut reader = file.try_clone().at(OP, &path)?;
            let mut verifier = self.fresh.clone();
            reader.seek(SeekFrom::Start(0)).at(OP, &path)?;
            let read = verifier.read_all_of(&mut reader).at(OP, &path)?;
            // A complete file of wrong bytes is of no use to anybody.
            let wrong = verifier.seen() == expected.size_bytes && verifier.clone().finish().is_err();
            if read.is_ok() && !wrong {
                self.body = Assembly::new(verifier, self.size_bytes);
                self.resumed = true;
                return Ok(());
            }
        }
        self.restart()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Integrity` with the first byte beyond the expected size or the limit; `NoSpace`, `Permission`, `Io` when they
    /// cannot be written. The ingest is over after any error, and nothing of it is kept.
    pub fn write(&mut self, data: &[u8]) -> Result<(), StoreError> {
        let Some(target) = &self.target else { return Err(self.over()) };
        let taken = self.body.append(target.file()?, data);
        self.judge(taken)
    }

    /// As [`Ingest::write`], for bytes that are cheap to share between threads: large content is hashed on a thread of its
    /// own while this one writes.
    ///
    /// # Errors
    /// As [`Ingest::write`].
    pub fn write_shared<B>(&mut self, data: &B) -> Result<(), StoreError>
    where
        B: AsRef<[u8]> + Clone + Send + 'static,
    {
        let offset = self.offset();
        self.put(offset, data)
    }

    /// Takes bytes that belong at `offset`, in whatever order they come, each once. What comes before its turn is written
    /// at once, and hashed from the page cache when everything before it is there.
    ///
    /// Dropped with holes in it, an ingest leaves the bytes before the first of them.
    ///
    /// # Errors
    /// As [`Ingest::write`]; `Io` for bytes that came before, and for an ingest of a size nobody knows.
    pub fn write_shared_at<B>(&mut self, offset: u64, data: &B) -> Result<(), StoreError>
    where
        B: AsRef<[u8]> + Clone + Send + 'static,
    {
        let whole = self.offset();
        if offset <= whole {
            return self.put(offset, data);
        }
        if let Some(Target::Part { path, .. }) = &self.target
            && self.size_bytes.is_some()
            && let Err(error) = self.holes.begin_note(&self.store, path, whole)
        {
            self.abandon();
            return Err(error);
        }
        crash_point("note of holes made");
        self.put(offset, data)?;
        crash_point("written behind a hole");
        Ok(())
    }

    fn put<B>(&mut self, offset: u64, data: &B) -> Result<(), StoreError>
    where
        B: AsRef<[u8]> + Clone + Send + 'static,
    {
        let Some(target) = &self.target else { return Err(self.over()) };
        let taken = self.body.put(target.file()?, offset, data);
        self.judge(taken)
    }

    /// What is to be done about bytes that were taken, or not.
    fn judge(&mut self, taken: Result<(), TakeError>) -> Result<(), StoreError> {
        if let Err(error) = taken {
            let path = self.target()?.path().to_owned();
            return Err(self.refuse(&path, error));
        }
        self.holes.advance_note(self.offset())?;
        if self.store.syncs()
            && let Some(target) = &self.target
        {
            self.body.begin_writeback(target.file()?);
        }
        Ok(())
    }

    /// Forgets all bytes so far, for a server that answers a request for the rest with the whole.
    ///
    /// # Errors
    /// As any write.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let target = self.target()?;
        target.file()?.set_len(0).at(OP, target.path())?;
        self.holes.forget();
        self.body = Assembly::new(self.fresh.clone(), self.size_bytes);
        self.resumed = false;
        Ok(())
    }

    /// Gives the bytes so far up, the partial file included: they are known to be wrong.
    pub fn discard(mut self) {
        self.abandon();
    }

    /// Ends the ingest: the bytes are all there and they are the right ones.
    ///
    /// A transfer that was cut is not to be finished but dropped, so that it can be resumed.
    ///
    /// # Errors
    /// `Integrity` when they are not; nothing of them is kept then.
    pub fn finish(mut self) -> Result<VerifiedBlob, StoreError> {
        let path = self.target()?.path().to_owned();
        let body = std::mem::replace(&mut self.body, Assembly::new(self.fresh.clone(), self.size_bytes));
        let verified = body.finish().map_err(|error| self.refuse(&path, error))?;
        let size = self.target()?.file()?.metadata().at(OP, &path)?.len();
        if size != verified.size_bytes() {
            // Somebody else wrote to the file.
            let expected = verified.size_bytes();
            let mismatch =
                if size < expected { Mismatch::Short { expected, actual: size } } else { Mismatch::Long { expected } };
            return Err(self.refuse(&path, TakeError::Wrong(mismatch)));
        }
        // Every hole is filled: the note is not needed any more.
        self.holes.forget();
        let target = self.target.take();
        Ok(VerifiedBlob { store: self.store.clone(), target, verified })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let seen = self.offset();
        let settled = match &self.target {
            None => return,
            Some(target) => target.file().is_ok_and(|file| self.holes.settle(file, seen).is_ok()),
        };
        // An empty partial file is of no use to anybody; one with holes keeps its note.
        if settled && seen == 0 {
            self.abandon();
        }
    }
}

/// Bytes that were proven, not yet part of an entry. Dropped, content of a known digest stays as a complete partial file.
#[derive(Debug)]
pub struct VerifiedBlob {
    store: Store,
    target: Option<Target>,
    verified: Verified,
}

impl VerifiedBlob {
    /// The proof: digest and size.
    pub const fn verified(&self) -> Verified {
        self.verified
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Moves the bytes to `to`, which is in a staging directory, and makes them read-only.
    pub(crate) fn move_to(mut self, to: &Path) -> Result<(), StoreError> {
        let gone = || {
            StoreError::new(StoreErrorKind::Io, OP, to)
                .with_detail(SafeText::new("the bytes were moved already").as_str())
        };
        let file = match self.target.take().ok_or_else(gone)? {
            Target::Part { file, path } => {
                std::fs::rename(&path, to).at(OP, &path)?;
                Some(file)
            }
            Target::Temp(temp) => temp.rename(to)?,
        };
        // Moved bytes must still be the proven ones: a partial file swapped by somebody else is not.
        let file = file.ok_or_else(gone)?;
        let moved = std::fs::symlink_metadata(to).at(OP, to)?;
        if !FileState::of(&moved).same_file(&FileState::of(&file.metadata().at(OP, to)?)) {
            return Err(StoreError::new(StoreErrorKind::NotOurs, OP, to).with_detail("somebody replaced the file"));
        }
        os::set_mode(&file, ARTIFACT_MODE).at(OP, to)
    }
}
