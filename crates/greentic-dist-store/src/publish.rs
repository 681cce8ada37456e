//! Publishing: one rename, after everything is on the disk. From then on the entry exists, whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::assembly::WRITEBACK_BYTES;
use crate::crash::crash_point;
use crate::entry::Entry;
use crate::error::Context;
use crate::layout::{self, ARTIFACT_MODE, Layout, Sub};
use crate::open::{Proof, is_current};
use crate::os::{self, Dir, FileState};
use crate::remove::shared_size;
use crate::stage::Staged;
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "publish the entry";
/// Most threads that wait for the disk at once. More gain nothing: the file system merges their commits.
const SYNC_THREADS: usize = 16;
/// How many files one thread syncs together. Below, starting a thread costs more than its waiting beside the others gains.
const GROUP: usize = 16;
/// From this size on it is worth waiting a moment for a trust stamp that spares the first open its hashing.
const STAMP_WAIT_BYTES: u64 = 256 << 20;
/// How long that moment is at most.
const STAMP_WAIT: Duration = Duration::from_millis(25);

/// How often a name that comes and goes is tried.
const TRIES: usize = 16;

/// What became of a staged entry.
#[derive(Debug)]
pub struct Published {
    /// The entry that is now in the cache under this pin.
    pub entry: Entry,
    /// Whether it is the staged one. False when somebody else published a good entry first; the staged one is gone then.
    pub fresh: bool,
}

/// Who has the name of a staged entry.
enum Naming {
    Ours,
    Theirs(Box<Entry>),
    Again,
}

impl Store {
    /// Makes a staged entry visible under its pin, all of it at once.
    ///
    /// When the name is taken by an entry that proves itself, that one is kept. When it is taken by anything else, the two
    /// change places, and what was there goes to quarantine.
    ///
    /// Publications that meet, from several threads, share one wait for the disk.
    ///
    /// # Errors
    /// `NewerFormat` when a newer version's entry has the name; otherwise as any write. The staged entry is gone then.
    pub fn publish(&self, staged: Staged) -> Result<Published, StoreError> {
        self.0.batch.publish(self, staged)
    }

    /// As [`Store::publish`] for many entries: all are synced together before the first gets its name. The results are in the order of `staged`.
    pub fn publish_all(&self, staged: Vec<Staged>) -> Vec<Result<Published, StoreError>> {
        let synced = self.sync(&staged);
        staged.into_iter().zip(synced).map(|(staged, synced)| synced.and_then(|()| self.put_in_place(staged))).collect()
    }

    /// Forces the files of each staged entry to the disk.
    pub(crate) fn sync(&self, staged: &[Staged]) -> Vec<Result<(), StoreError>> {
        if !self.syncs() {
            return staged.iter().map(|_| Ok(())).collect();
        }
        let files: Vec<(usize, &PathBuf)> = staged
            .iter()
            .enumerate()
            .flat_map(|(of, staged)| staged.files.iter().map(move |path| (of, path)))
            .collect();
        let groups: Vec<_> = files.chunks(GROUP).collect();
        let results = Mutex::new(staged.iter().map(|_| Ok(())).collect::<Vec<_>>());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                for (of, error) in sync_group(group) {
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(slot) = results.get_mut(of) {
                        *slot = Err(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..groups.len().min(SYNC_THREADS) {
                // A thread that cannot be had is a thread less.
                if std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        crash_point("synced");
        results.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put_in_place(&self, mut staged: Staged) -> Result<Published, StoreError> {
        self.stamp_staged(&staged);
        let Entry { pin, content_digest, dir: target, .. } = staged.entry.clone();
        if pin != content_digest {
            self.index_content(&content_digest, &pin);
        }
        crash_point("indexed");
        let size_bytes = staged.entry.record.size_bytes;
        // Before it is there: a process that dies in between leaves a total that is too large, which is looked into.
        self.note_added(size_bytes);
        match self.name(&staged, &target) {
            Ok(None) => {
                crash_point("published");
                staged.dir.disarm();
                Ok(Published { entry: staged.entry.clone(), fresh: true })
            }
            Ok(Some(theirs)) => {
                self.note_removed(size_bytes);
                Ok(Published { entry: *theirs, fresh: false })
            }
            Err(error) => {
                self.note_removed(size_bytes);
                Err(error)
            }
        }
    }

    /// Gives a staged entry its name; `Some` when a good entry has it already.
    fn name(&self, staged: &Staged, target: &Path) -> Result<Option<Box<Entry>>, StoreError> {
        for _ in 0..TRIES {
            match self.try_name(staged)? {
                Naming::Ours => return Ok(None),
                Naming::Theirs(entry) => return Ok(Some(entry)),
                Naming::Again => {}
            }
        }
        let busy = io::Error::from(io::ErrorKind::ResourceBusy);
        let detail = "other entries come and go under its name";
        Err(StoreError::io(OP, target, busy).with_digest(&staged.entry.pin).with_detail(detail))
    }

    /// Renames a staged entry to its final name, or finds out who has it.
    fn try_name(&self, staged: &Staged) -> Result<Naming, StoreError> {
        let (from, target) = (staged.dir.path(), &staged.entry.dir);
        let ours = FileState::of(&std::fs::metadata(from).at(OP, from)?);
        let Err(error) = std::fs::rename(from, target) else { return Ok(Naming::Ours) };
        if std::fs::symlink_metadata(target).is_ok_and(|meta| FileState::of(&meta).same_file(&ours)) {
            // It was done and the answer got lost, as on network file systems.
            return Ok(Naming::Ours);
        }
        if !is_taken(&error) {
            return Err(StoreError::io(OP, target, error).with_digest(&staged.entry.pin));
        }
        match self.good_entry(&staged.entry)? {
            Some(entry) => Ok(Naming::Theirs(Box::new(entry))),
            None => self.displace(from, target, &staged.entry),
        }
    }

    /// The entry that has the name already, if it is worth keeping.
    fn good_entry(&self, staged: &Entry) -> Result<Option<Entry>, StoreError> {
        match self.open_pin(&staged.pin, Proof::Stamped) {
            Ok(Some(open)) => Ok(Some(open.entry).filter(is_current)),
            Err(error) if *error.kind() == StoreErrorKind::NewerFormat => Err(error),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Puts the staged entry where something else is, and that into quarantine.
    fn displace(&self, staged: &Path, target: &Path, entry: &Entry) -> Result<Naming, StoreError> {
        let at = |error| StoreError::io(OP, target, error).with_digest(&entry.pin);
        let name = layout::quarantine_name(self.clock().unix_seconds(), &entry.pin, "did not prove itself");
        let away = self.dir_for_writing(Sub::Quarantine)?.join(name);
        let (size, _) = shared_size(&self.paths().blob_in(target, Layout::Current));
        match os::exchange(staged, target) {
            // The old one now has the staging name; nothing was missing at any time.
            Ok(true) => {
                crash_point("exchanged");
                // Collection may have taken it for a temporary of a dead process, which is as good.
                if let Err(error) = std::fs::rename(staged, &away) {
                    tracing::debug!(pin = %entry.pin, %error, "a corrupt entry was replaced and could not be kept");
                }
            }
            Ok(false) => {
                std::fs::rename(target, &away).map_err(at)?;
                std::fs::rename(staged, target).map_err(at)?;
            }
            // Somebody removed it meanwhile, and the name is free.
            Err(error) if error.kind() == io::ErrorKind::NotFound && staged.exists() => return Ok(Naming::Again),
            Err(error) => return Err(at(error)),
        }
        self.note_removed(size);
        tracing::warn!(pin = %entry.pin, quarantine = %away.display(), "a corrupt entry was replaced");
        self.trim_quarantine(false);
        Ok(Naming::Ours)
    }

    /// Notes in a staged entry that its bytes were proven while they came in.
    fn stamp_staged(&self, staged: &Staged) {
        let Ok(dir) = Dir::open(staged.dir.path()) else { return };
        let Ok(file) = dir.open_file(self.paths().blob_name(Layout::Current)) else { return };
        let state = || file.metadata().map(|meta| FileState::of(&meta));
        let Ok(mut before) = state() else { return };
        if before.size != staged.entry.record.size_bytes {
            return;
        }
        let mut shows_changes = before.is_settled(SystemTime::now());
        if !shows_changes && self.shows_every_change(&file, &before, ARTIFACT_MODE) {
            let Ok(now) = state() else { return };
            (before, shows_changes) = (now, true);
        }
        if !shows_changes && before.size >= STAMP_WAIT_BYTES {
            std::thread::sleep(STAMP_WAIT);
            shows_changes = before.is_settled(SystemTime::now());
        }
        if shows_changes {
            self.stamp(&dir, &file, &before, &staged.entry.content_digest);
        }
    }
}

/// Whether a rename failed because something is at the target that a directory cannot replace.
fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::DirectoryNotEmpty | K::AlreadyExists | K::NotADirectory | K::IsADirectory)
        || (cfg!(windows) && error.kind() == K::PermissionDenied)
}

/// Forces a group of files to the disk: the writing of all begins before the first is waited for, so that one wait is
/// almost the wait for all. Gives what failed, by the number of its entry.
fn sync_group(files: &[(usize, &PathBuf)]) -> Vec<(usize, StoreError)> {
    let begun: Vec<_> = files
        .iter()
        .map(|(_, path)| {
            let file = os::open_read(path)?;
            let meta = file.metadata()?;
            // Of larger ones it began while they arrived, and shared ones are there already; their pages stay cached.
            if meta.len() <= WRITEBACK_BYTES && os::link_count(&meta) <= 1 {
                os::begin_writeback(&file, 0, meta.len());
            }
            Ok(file)
        })
        .collect();
    let synced = begun.into_iter().map(|file: io::Result<File>| file.and_then(|file| sync_file(&file)));
    files
        .iter()
        .zip(synced)
        .filter_map(|((of, path), synced)| Some((*of, StoreError::io(OP, path, synced.err()?))))
        .collect()
}

pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // Some network and user-space file systems have no such call; they are not asked for promises.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}
