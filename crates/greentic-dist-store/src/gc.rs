//! Collection of what nobody will ever read: temporaries of dead processes, old partial downloads, trash, and entries that
//! can never prove themselves. What to evict to save space is not decided here.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use greentic_dist_types::Digest;

use crate::layout::{self, LOCK_SUFFIX, Layout, LockName, Sub};
use crate::os::{self, Dir};
use crate::refs::{read_index, read_reference};
use crate::remove::{delete, size_of};
use crate::scan::scan;
use crate::temp::seize;
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "collect garbage";
/// How long a partial download waits for somebody to go on with it.
const PARTIAL_AGE: Duration = Duration::from_hours(7 * 24);
/// How long a temporary is left alone on a file system that has no locks.
const UNLOCKABLE_AGE: Duration = Duration::from_hours(24);
/// How long an entry directory is left alone after its last change, for somebody may be copying it there.
const GRACE: Duration = Duration::from_mins(5);

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Pins of the entries that were removed because they could never have been opened, sorted.
    pub removed: Vec<Digest>,
    /// Temporaries of dead processes that were removed.
    pub temp_removed: usize,
    /// Partial downloads nobody went on with that were removed.
    pub partials_removed: usize,
    /// Bytes given back to the file system.
    pub bytes: u64,
    /// Things left alone because somebody is working on them, or was a moment ago.
    pub kept_busy: usize,
}

/// Whether a temporary may be taken away.
enum Owner {
    Dead,
    Alive,
    Gone,
}

impl Store {
    /// Collects garbage. One collection runs at a time; it waits for nobody and leaves alone what is in use.
    ///
    /// # Errors
    /// `Locked` when another collection is running; otherwise as any write. What cannot be deleted is left for the next
    /// time.
    pub fn gc(&self) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        if !self.root_for_reading()? {
            return Ok(report);
        }
        let Some(_lock) = self.try_lock_name(LockName::Gc)? else {
            return Err(self.in_use(OP, LockName::Gc));
        };
        self.collect_temporaries(&mut report)?;
        self.collect_partials(&mut report)?;
        self.collect_entries(&mut report)?;
        self.collect_sharded(&mut report)?;
        report.bytes += self.trim_quarantine();
        self.empty_trash(&mut report)?;
        self.collect_lock_files()?;
        self.collect_index()?;
        report.removed.sort_unstable();
        Ok(report)
    }

    /// The names in a directory of ours; none when it is missing or no directory.
    fn names_in(&self, sub: Sub) -> Result<Vec<(String, os::Kind)>, StoreError> {
        let path = self.paths().sub(sub);
        if Dir::open(&path).is_err() {
            return Ok(Vec::new());
        }
        let mut names = layout::names(&path).map_err(|error| StoreError::io(OP, &path, error))?;
        names.retain(|(name, _)| !layout::is_silly_rename(name));
        Ok(names)
    }

    fn collect_temporaries(&self, report: &mut GcReport) -> Result<(), StoreError> {
        for (name, kind) in self.names_in(Sub::Tmp)? {
            let path = self.paths().sub(Sub::Tmp).join(name);
            match self.owner_of(&path, kind, &mut || {
                report.bytes += size_of(&path);
                delete(&path);
            }) {
                Owner::Dead => report.temp_removed += 1,
                Owner::Alive => report.kept_busy += 1,
                Owner::Gone => {}
            }
        }
        Ok(())
    }

    /// Finds out whether the creator of a temporary lives, and if not, runs `bury` while holding its lock.
    fn owner_of(&self, path: &Path, kind: os::Kind, bury: &mut dyn FnMut()) -> Owner {
        let opened = match kind {
            os::Kind::File => os::open_read(path),
            os::Kind::Dir => os::open_dir(path),
            os::Kind::Other => {
                // Nothing of ours ever was such a thing.
                bury();
                return Owner::Dead;
            }
        };
        let locked = match opened {
            Ok(file) => file.try_lock().map(|()| Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Owner::Gone,
            Err(error) => Err(TryLockError::Error(error)),
        };
        match locked {
            Ok(_held) => {
                bury();
                Owner::Dead
            }
            Err(TryLockError::Error(_)) if self.age_of(path) > UNLOCKABLE_AGE => {
                bury();
                Owner::Dead
            }
            Err(_) => Owner::Alive,
        }
    }

    /// Time since the last change of what is at `path`; zero when that cannot be told.
    fn age_of(&self, path: &Path) -> Duration {
        let changed = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
        changed.map_or(Duration::ZERO, |changed| self.clock().age(changed.max(UNIX_EPOCH)))
    }

    fn collect_partials(&self, report: &mut GcReport) -> Result<(), StoreError> {
        for (name, kind) in self.names_in(Sub::Partial)? {
            let path = self.paths().sub(Sub::Partial).join(&name);
            let note = layout::parse_note_name(&name);
            let Some(content) = layout::parse_partial(&name).or(note) else { continue };
            if kind != os::Kind::File {
                report.bytes += size_of(&path);
                report.partials_removed += usize::from(self.clear_odd(&path)?);
                continue;
            }
            // A note goes with what it is about, and after that.
            if self.age_of(&path) <= PARTIAL_AGE || (note.is_some() && self.paths().partial(&content).exists()) {
                continue;
            }
            let Some(_lock) = self.try_lock(&content)? else {
                report.kept_busy += 1;
                continue;
            };
            let Some(_file) = seize(&path) else {
                report.kept_busy += 1;
                continue;
            };
            report.bytes += size_of(&path);
            report.partials_removed += usize::from(note.is_none());
            delete(&path);
            if note.is_none() {
                delete(&layout::note_of(&path));
            }
        }
        Ok(())
    }

    fn collect_entries(&self, report: &mut GcReport) -> Result<(), StoreError> {
        let names = layout::names(self.root()).map_err(|error| StoreError::io(OP, self.root(), error))?;
        let hopeless = scan(&names, |(name, kind)| {
            let pin = layout::parse_entry_dir(name).filter(|_| *kind == os::Kind::Dir)?;
            self.is_hopeless(&self.paths().entry_dir(&pin), &pin).then_some(pin)
        });
        for pin in hopeless {
            let path = self.paths().entry_dir(&pin);
            let lock = self.try_lock(&pin)?;
            if lock.is_none() || self.age_of(&path) <= GRACE {
                report.kept_busy += 1;
            } else if self.is_hopeless(&path, &pin)
                && let Some(bytes) = self.throw_away(&path)?
            {
                report.bytes += bytes;
                report.removed.push(pin);
            }
        }
        Ok(())
    }

    /// Whether an entry can never be opened, as far as that shows without hashing its artifact.
    fn is_hopeless(&self, path: &Path, pin: &Digest) -> bool {
        let Ok(dir) = Dir::open(path) else { return false };
        let claims = self.load(dir, Layout::Current, pin).and_then(|loaded| {
            let Some(loaded) = loaded else { return Ok(None) };
            let blob = loaded.dir.stat(self.paths().blob_name(Layout::Current)).ok().flatten();
            let sizes = crate::open::allowed_sizes(&loaded)?;
            Ok(blob.filter(|blob| {
                blob.is_file && sizes.iter().any(|size| size.is_none_or(|size| size == blob.size_bytes))
            }))
        });
        match claims {
            Ok(found) => found.is_none(),
            Err(error) => *error.kind() == StoreErrorKind::Corrupt,
        }
    }

    /// What an earlier version left without an artifact; its good entries stay as they are.
    fn collect_sharded(&self, report: &mut GcReport) -> Result<(), StoreError> {
        let mut empty = Vec::new();
        self.each_sharded(&mut |shard, name, pin| {
            let has_blob = shard.stat(&format!("{name}/{}", self.paths().blob_name(Layout::Sharded)));
            let path = shard.path().join(name);
            if matches!(has_blob, Ok(None)) && self.age_of(&path) > GRACE {
                empty.push((path, pin));
            }
            Ok(())
        })?;
        for (path, pin) in empty {
            let Some(_lock) = self.try_lock(&pin)? else {
                report.kept_busy += 1;
                continue;
            };
            if let Some(bytes) = self.throw_away(&path)? {
                report.bytes += bytes;
                report.removed.push(pin);
            }
            if let Some(shard) = path.parent() {
                let _gone = std::fs::remove_dir(shard).is_ok();
            }
        }
        Ok(())
    }

    fn empty_trash(&self, report: &mut GcReport) -> Result<(), StoreError> {
        for (name, _) in self.names_in(Sub::Trash)? {
            let path = self.paths().sub(Sub::Trash).join(name);
            report.bytes += size_of(&path);
            delete(&path);
        }
        Ok(())
    }

    /// Lock files of holders that were killed. Whoever opened one just now notices that it is gone and makes another.
    fn collect_lock_files(&self) -> Result<(), StoreError> {
        for (name, kind) in self.names_in(Sub::Locks)? {
            let path = self.paths().sub(Sub::Locks).join(&name);
            if !name.ends_with(LOCK_SUFFIX) {
                continue;
            }
            if kind != os::Kind::File {
                self.clear_odd(&path)?;
            } else if let Some(_file) = seize(&path) {
                delete(&path);
            }
        }
        Ok(())
    }

    /// Index files none of whose pins is there any more, and references to what is not there: neither answers anything.
    fn collect_index(&self) -> Result<(), StoreError> {
        let (names, references) = (self.names_in(Sub::ByContent)?, self.names_in(Sub::Refs)?);
        if names.is_empty() && references.is_empty() {
            return Ok(());
        }
        let pins: HashSet<Digest> = self.list()?.into_iter().collect();
        let forgotten = scan(&references, |(name, kind)| {
            let path = self.paths().sub(Sub::Refs).join(name);
            let is_dangling = *kind == os::Kind::File
                && read_reference(&path).is_some_and(|record| !pins.contains(&record.pin))
                && self.age_of(&path) > GRACE;
            is_dangling.then_some(path)
        });
        for path in forgotten {
            delete(&path);
        }
        let dangling = scan(&names, |(name, _)| {
            let path = self.paths().sub(Sub::ByContent).join(name);
            let is_dangling = layout::parse_by_content(name).is_some()
                && read_index(&path).is_ok_and(|named| !named.iter().any(|pin| pins.contains(pin)))
                && self.age_of(&path) > GRACE;
            is_dangling.then_some(path)
        });
        for path in dangling {
            delete(&path);
        }
        Ok(())
    }
}
