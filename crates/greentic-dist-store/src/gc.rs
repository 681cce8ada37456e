//! Collection of what nobody will ever read: temporaries of dead processes, old partial downloads, trash, and entries that
//! can never prove themselves. What to evict to save space is not decided here (`retention/`).

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use greentic_dist_types::{BundleId, Digest};

use crate::entry::Loaded;
use crate::glance::Glance;
use crate::layout::{self, LOCK_SUFFIX, Layout, LockName, Sub};
use crate::lock::DigestLock;
use crate::open::{Claim, allowed_sizes};
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
pub(crate) const GRACE: Duration = Duration::from_mins(5);

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Pins of the entries that were removed because they could never have been opened, and of the bundle records that were
    /// removed because their entry is gone; sorted.
    pub removed: Vec<Digest>,
    /// Temporaries of dead processes that were removed.
    pub temp_removed: usize,
    /// Partial downloads nobody went on with that were removed.
    pub partials_removed: usize,
    /// Bytes given back to the file system.
    pub bytes: u64,
    /// Things left alone because somebody is working on them, or was a moment ago.
    pub kept_busy: usize,
    /// Bundle records that cannot be read. They are left alone: what is wrong with them is for a person to find out.
    pub unreadable: Vec<PathBuf>,
}

/// Whether a digest is locked for this collection.
enum Turn {
    Ours(Option<DigestLock>),
    Theirs,
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
        if !self.root_for_reading()? {
            return Ok(GcReport::default());
        }
        let Some(_lock) = self.try_lock_name(LockName::Gc)? else {
            return Err(self.in_use(OP, LockName::Gc));
        };
        let collection = Collection { store: self, report: GcReport::default(), counted: Some(0), dry_run: false };
        let before = self.noted_total();
        let (report, counted) = collection.run()?;
        if self.paths().usage().exists() {
            match counted {
                Some(bytes) => self.remember_total(before, bytes),
                None => self.count()?,
            };
        }
        Ok(report)
    }

    /// What [`Store::gc`] would do now. Takes no lock and changes nothing, so that what is in use by then may differ.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn gc_dry_run(&self) -> Result<GcReport, StoreError> {
        if !self.root_for_reading()? {
            return Ok(GcReport::default());
        }
        let collection = Collection { store: self, report: GcReport::default(), counted: None, dry_run: true };
        collection.run().map(|(report, _)| report)
    }

    /// The names in a directory of ours; none when it is missing or no directory.
    pub(crate) fn names_in(&self, sub: Sub) -> Result<Vec<(String, os::Kind)>, StoreError> {
        let path = self.paths().sub(sub);
        if Dir::open(&path).is_err() {
            return Ok(Vec::new());
        }
        let mut names = layout::names(&path).map_err(|error| StoreError::io(OP, &path, error))?;
        names.retain(|(name, _)| !layout::is_silly_rename(name));
        Ok(names)
    }

    /// Time since the last change of what is at `path`; zero when that cannot be told.
    pub(crate) fn age_of(&self, path: &Path) -> Duration {
        let changed = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
        changed.map_or(Duration::ZERO, |changed| self.clock().age(changed.max(UNIX_EPOCH)))
    }
}

/// One collection on its way.
struct Collection<'a> {
    store: &'a Store,
    report: GcReport,
    /// Bytes of the artifacts that stay; `None` when they have to be counted by themselves.
    counted: Option<u64>,
    dry_run: bool,
}

/// An entry that may never open, with the size of its artifact, if it has one.
struct Suspect {
    pin: Digest,
    size_bytes: u64,
}

impl Collection<'_> {
    fn run(mut self) -> Result<(GcReport, Option<u64>), StoreError> {
        self.temporaries()?;
        self.partials()?;
        self.entries()?;
        self.sharded()?;
        self.bundles()?;
        self.quarantine();
        self.trash()?;
        self.lock_files()?;
        self.index()?;
        self.report.removed.sort_unstable();
        self.report.removed.dedup();
        Ok((self.report, self.counted))
    }

    fn names_in(&self, sub: Sub) -> Result<Vec<(String, PathBuf, os::Kind)>, StoreError> {
        let dir = self.store.paths().sub(sub);
        let names = self.store.names_in(sub)?;
        Ok(names.into_iter().map(|(name, kind)| (name.clone(), dir.join(name), kind)).collect())
    }

    /// The lock of a digest. A dry run needs none.
    fn try_lock(&self, digest: &Digest) -> Result<Turn, StoreError> {
        if self.dry_run {
            return Ok(Turn::Ours(None));
        }
        Ok(self.store.try_lock(digest)?.map_or(Turn::Theirs, |lock| Turn::Ours(Some(lock))))
    }

    fn delete(&mut self, path: &Path) {
        let bytes = size_of(path);
        if self.dry_run || delete(path) {
            self.report.bytes += bytes;
        }
    }

    /// Takes away an entry, by way of the trash; false when it was gone already.
    fn throw_away(&mut self, path: &Path) -> Result<bool, StoreError> {
        let bytes = if self.dry_run { Some(size_of(path)) } else { self.store.throw_away(path)? };
        self.report.bytes += bytes.unwrap_or_default();
        Ok(bytes.is_some())
    }

    fn temporaries(&mut self) -> Result<(), StoreError> {
        for (_, path, kind) in self.names_in(Sub::Tmp)? {
            match self.bury(&path, kind) {
                Owner::Dead => self.report.temp_removed += 1,
                Owner::Alive => self.report.kept_busy += 1,
                Owner::Gone => {}
            }
        }
        Ok(())
    }

    /// Finds out whether the creator of a temporary lives, and if not, deletes it while holding its lock.
    fn bury(&mut self, path: &Path, kind: os::Kind) -> Owner {
        let opened = match kind {
            os::Kind::File => os::open_read(path),
            os::Kind::Dir => os::open_dir(path),
            os::Kind::Other => {
                // Nothing of ours ever was such a thing.
                self.delete(path);
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
                self.delete(path);
                Owner::Dead
            }
            Err(TryLockError::Error(_)) if self.store.age_of(path) > UNLOCKABLE_AGE => {
                self.delete(path);
                Owner::Dead
            }
            Err(_) => Owner::Alive,
        }
    }

    fn partials(&mut self) -> Result<(), StoreError> {
        for (name, path, kind) in self.names_in(Sub::Partial)? {
            let note = layout::parse_note_name(&name);
            let Some(content) = layout::parse_partial(&name).or(note) else { continue };
            if kind != os::Kind::File {
                self.report.bytes += size_of(&path);
                self.report.partials_removed += usize::from(self.dry_run || self.store.clear_odd(&path)?);
                continue;
            }
            // A note goes with what it is about, and after that.
            let has_part = note.is_some() && self.store.paths().partial(&content).exists();
            if self.store.age_of(&path) <= PARTIAL_AGE || has_part {
                continue;
            }
            let Turn::Ours(_lock) = self.try_lock(&content)? else {
                self.report.kept_busy += 1;
                continue;
            };
            let Some(_file) = seize(&path) else {
                self.report.kept_busy += 1;
                continue;
            };
            self.report.partials_removed += usize::from(note.is_none());
            self.delete(&path);
            if note.is_none() && !self.dry_run {
                delete(&layout::note_of(&path));
            }
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let names = layout::names(store.root()).map_err(|error| StoreError::io(OP, store.root(), error))?;
        let counted = AtomicU64::new(0);
        let suspects = scan(&names, |(name, kind)| {
            let pin = layout::parse_entry_dir(name).filter(|_| *kind == os::Kind::Dir)?;
            let (size_bytes, is_hopeless) = store.is_hopeless(&store.paths().entry_dir(&pin), &pin, true);
            if is_hopeless {
                return Some(Suspect { pin, size_bytes });
            }
            counted.fetch_add(size_bytes, Ordering::Relaxed);
            None
        });
        drop(names);
        let mut stays = counted.into_inner();
        for Suspect { pin, size_bytes } in suspects {
            let path = store.paths().entry_dir(&pin);
            let turn = self.try_lock(&pin)?;
            if matches!(turn, Turn::Theirs) || store.age_of(&path) <= GRACE {
                self.report.kept_busy += 1;
            } else if store.is_hopeless(&path, &pin, false).1 && self.throw_away(&path)? {
                self.report.removed.push(pin);
                continue;
            }
            stays = stays.saturating_add(size_bytes);
        }
        self.counted = self.counted.map(|counted| counted.saturating_add(stays));
        Ok(())
    }

    /// What an earlier version left without an artifact; its good entries stay as they are.
    fn sharded(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let (mut empty, mut has_any) = (Vec::new(), false);
        store.each_sharded(&mut |shard, name, pin| {
            has_any = true;
            let has_blob = shard.stat(&format!("{name}/{}", store.paths().blob_name(Layout::Sharded)));
            let path = shard.path().join(name);
            if matches!(has_blob, Ok(None)) && store.age_of(&path) > GRACE {
                empty.push((path, pin));
            }
            Ok(())
        })?;
        if has_any {
            // An entry may lie in both layouts, and is one.
            self.counted = None;
        }
        for (path, pin) in empty {
            let Turn::Ours(_lock) = self.try_lock(&pin)? else {
                self.report.kept_busy += 1;
                continue;
            };
            if self.throw_away(&path)? {
                self.report.removed.push(pin);
            }
            if let Some(shard) = path.parent().filter(|_| !self.dry_run) {
                let _gone = std::fs::remove_dir(shard).is_ok();
            }
        }
        Ok(())
    }

    /// Bundle records whose entry is gone: nothing can be warmed or rolled back to by them. Whoever stages holds the lock of
    /// the pin from before the entry is there until the record is.
    fn bundles(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let is_there = |pin: &Digest| store.places(pin).iter().any(|(_, path)| path.symlink_metadata().is_ok());
        for (name, path, _) in self.names_in(Sub::Bundles)? {
            if !layout::is_bundle_file(&name) {
                continue;
            }
            let id = layout::parse_bundle_file(&name);
            let Some((id, _record)) = id.and_then(|id| Some((id, store.bundle(&id).ok().flatten()?))) else {
                if path.symlink_metadata().is_ok() {
                    self.report.unreadable.push(path);
                }
                continue;
            };
            let pin = id.pin();
            if is_there(&pin) {
                continue;
            }
            let Turn::Ours(_lock) = self.try_lock(&pin)? else {
                self.report.kept_busy += 1;
                continue;
            };
            if !is_there(&pin) && (self.dry_run || self.remove_record(&id)?) {
                self.report.removed.push(pin);
            }
        }
        Ok(())
    }

    fn remove_record(&self, id: &BundleId) -> Result<bool, StoreError> {
        let lock = self.store.lock_bundles(&mut |_| ())?;
        self.store.remove_bundle(&lock, id)
    }

    fn quarantine(&mut self) {
        self.report.bytes += self.store.trim_quarantine(self.dry_run);
    }

    fn trash(&mut self) -> Result<(), StoreError> {
        for (_, path, kind) in self.names_in(Sub::Trash)? {
            // Who put it there may still want it back.
            if matches!(self.bury(&path, kind), Owner::Alive) {
                self.report.kept_busy += 1;
            }
        }
        Ok(())
    }

    /// Lock files of holders that were killed. Whoever opened one just now notices that it is gone and makes another.
    fn lock_files(&self) -> Result<(), StoreError> {
        if self.dry_run {
            return Ok(());
        }
        for (name, path, kind) in self.names_in(Sub::Locks)? {
            if !name.ends_with(LOCK_SUFFIX) {
                continue;
            }
            if kind != os::Kind::File {
                self.store.clear_odd(&path)?;
            } else if let Some(_file) = seize(&path) {
                delete(&path);
            }
        }
        Ok(())
    }

    /// Index files none of whose pins is there any more, and references to what is not there: neither answers anything.
    fn index(&mut self) -> Result<(), StoreError> {
        let (names, references) = (self.names_in(Sub::ByContent)?, self.names_in(Sub::Refs)?);
        if names.is_empty() && references.is_empty() {
            return Ok(());
        }
        let store = self.store;
        let pins: HashSet<Digest> = store.list()?.into_iter().collect();
        let forgotten = scan(&references, |(_, path, kind)| {
            let is_dangling = *kind == os::Kind::File
                && read_reference(path).is_some_and(|record| !pins.contains(&record.pin))
                && store.age_of(path) > GRACE;
            is_dangling.then(|| path.clone())
        });
        let dangling = scan(&names, |(name, path, _)| {
            let is_dangling = layout::parse_by_content(name).is_some()
                && read_index(path).is_ok_and(|named| !named.iter().any(|pin| pins.contains(pin)))
                && store.age_of(path) > GRACE;
            is_dangling.then(|| path.clone())
        });
        if !self.dry_run {
            for path in forgotten.into_iter().chain(dangling) {
                delete(&path);
            }
        }
        Ok(())
    }
}

impl Store {
    /// The size of the artifact of an entry, and whether the entry can never be opened, as far as that shows without hashing
    /// it. At a `glance`, one that can be opened after all may be among those that cannot.
    fn is_hopeless(&self, path: &Path, pin: &Digest, glance: bool) -> (u64, bool) {
        let Ok(dir) = Dir::open(path) else { return (0, false) };
        let mut blobs = self.paths().blob_names(Layout::Current).filter_map(|name| dir.stat(name).ok().flatten());
        let blob = blobs.find(|blob| blob.is_file);
        let fits = |sizes: &[Option<u64>]| {
            blob.is_some_and(|blob| sizes.iter().any(|size| size.is_none_or(|size| size == blob.size_bytes)))
        };
        let size_bytes = blob.map_or(0, |blob| blob.size_bytes);
        if glance && let Some(glance) = Glance::at(&dir, pin) {
            let sizes = allowed_sizes(&glance.claim(pin), &dir);
            return (size_bytes, !sizes.is_ok_and(|sizes| fits(&sizes)));
        }
        let claims = self.load(dir, Layout::Current, pin).and_then(|loaded| {
            let Some(Loaded { entry, dir, content_named }) = loaded else { return Ok(false) };
            let sizes = allowed_sizes(&Claim::of(&entry, content_named), &dir)?;
            Ok(fits(&sizes))
        });
        let is_hopeless = match claims {
            Ok(fits) => !fits,
            Err(error) => *error.kind() == StoreErrorKind::Corrupt,
        };
        (size_bytes, is_hopeless)
    }
}
