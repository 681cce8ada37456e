//! Collection of what nobody will ever read: temporaries of dead processes, old partial downloads, trash, and entries that
//! can never prove themselves. What to evict to save space is not decided here (`retention/`).

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
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
        let before = self.noted_total();
        let (report, census) = Collection::new(self, false).run()?;
        if self.paths().usage().exists() {
            match census {
                Some(census) => self.remember_total(before, census.bytes),
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
        Collection::new(self, true).run().map(|(report, _)| report)
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
    /// What the look at every entry found out; `None` where it did not see all of them.
    census: Option<Census>,
    dry_run: bool,
}

/// The entries that stay.
#[derive(Default)]
struct Census {
    /// Bytes of their artifacts.
    bytes: u64,
    /// Their pins, and what they say is their content; sorted.
    pins: Vec<Digest>,
    contents: Vec<Digest>,
}

impl Census {
    fn has_pin(&self, pin: &Digest) -> bool {
        self.pins.binary_search(pin).is_ok()
    }
}

/// An entry at a glance, or on a second look.
struct Seen {
    pin: Digest,
    /// The size of its artifact, if it has one.
    blob: Option<u64>,
    /// What its record says is its content, where that was read.
    content: Option<Digest>,
    /// Whether it can never be opened, as far as that shows without hashing its artifact. At a glance, one that can be
    /// opened after all may look so.
    is_hopeless: bool,
}

impl<'a> Collection<'a> {
    fn new(store: &'a Store, dry_run: bool) -> Self {
        Self { store, report: GcReport::default(), census: None, dry_run }
    }

    fn run(mut self) -> Result<(GcReport, Option<Census>), StoreError> {
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
        Ok((self.report, self.census))
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
        let seen = scan(&names, |(name, kind)| {
            let pin = layout::parse_entry_dir(name).filter(|_| *kind == os::Kind::Dir)?;
            store.see(&store.paths().entry_dir(&pin), &pin, true)
        });
        drop(names);
        let mut census = Census::default();
        for Seen { pin, blob, content, is_hopeless } in seen {
            if is_hopeless && self.collect_entry(&pin)? {
                self.report.removed.push(pin);
                continue;
            }
            census.contents.extend(content);
            if let Some(size_bytes) = blob {
                census.bytes = census.bytes.saturating_add(size_bytes);
                census.pins.push(pin);
            }
        }
        census.pins.sort_unstable();
        census.contents.sort_unstable();
        self.census = Some(census);
        Ok(())
    }

    /// Takes away an entry that looked hopeless, if it is, and if nobody works on it or did so a moment ago.
    fn collect_entry(&mut self, pin: &Digest) -> Result<bool, StoreError> {
        let path = self.store.paths().entry_dir(pin);
        let turn = self.try_lock(pin)?;
        if matches!(turn, Turn::Theirs) || self.store.age_of(&path) <= GRACE {
            self.report.kept_busy += 1;
            return Ok(false);
        }
        let is_hopeless = self.store.see(&path, pin, false).is_some_and(|seen| seen.is_hopeless);
        Ok(is_hopeless && self.throw_away(&path)?)
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
            self.census = None;
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
    fn index(&self) -> Result<(), StoreError> {
        let (names, references) = (self.store.names_in(Sub::ByContent)?, self.store.names_in(Sub::Refs)?);
        if names.is_empty() && references.is_empty() {
            return Ok(());
        }
        let store = self.store;
        let listed;
        let census = if let Some(census) = &self.census {
            census
        } else {
            listed = Census { pins: store.list()?, ..Census::default() };
            &listed
        };
        // What came since the entries were looked at is there, or so young that nobody forgets it.
        let is_gone = |pin: &Digest| {
            let blob = |layout, path: &Path| path.join(store.paths().blob_name(layout)).symlink_metadata();
            !census.has_pin(pin) && store.places(pin).iter().all(|(layout, path)| blob(*layout, path).is_err())
        };
        let (dir, index) = (store.paths().sub(Sub::Refs), store.paths().sub(Sub::ByContent));
        let forgotten = scan(&references, |(name, kind)| {
            let path = dir.join(name);
            let is_dangling = *kind == os::Kind::File
                && read_reference(&path).is_some_and(|record| is_gone(&record.pin))
                && store.age_of(&path) > GRACE;
            is_dangling.then_some(path)
        });
        let dangling = scan(&names, |(name, _)| {
            let content = layout::parse_by_content(name)?;
            // An entry with this content is there, so that the file is not in the way.
            if census.contents.binary_search(&content).is_ok() {
                return None;
            }
            let path = index.join(name);
            let is_dangling =
                read_index(&path).is_ok_and(|named| named.iter().all(is_gone)) && store.age_of(&path) > GRACE;
            is_dangling.then_some(path)
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
    /// Looks at an entry; `None` when its directory cannot be opened.
    fn see(&self, path: &Path, pin: &Digest, glance: bool) -> Option<Seen> {
        let dir = Dir::open(path).ok()?;
        let blob = dir.stat(self.paths().blob_name(Layout::Current)).ok().flatten();
        let blob = blob.filter(|blob| blob.is_file).map(|blob| blob.size_bytes);
        let fits = |sizes: &[Option<u64>]| {
            blob.is_some_and(|blob| sizes.iter().any(|size| size.is_none_or(|size| size == blob)))
        };
        if glance && let Some(glance) = Glance::at(&dir, pin) {
            let claim = glance.claim(pin);
            let is_hopeless = !allowed_sizes(&claim, &dir).is_ok_and(|sizes| fits(&sizes));
            return Some(Seen { pin: *pin, blob, content: Some(claim.content), is_hopeless });
        }
        let claims = self.load(dir, Layout::Current, pin).and_then(|loaded| {
            let Some(Loaded { entry, dir, content_named }) = loaded else { return Ok((false, None)) };
            let claim = Claim::of(&entry, content_named);
            Ok((fits(&allowed_sizes(&claim, &dir)?), Some(claim.content)))
        });
        let (is_hopeless, content) = match claims {
            Ok((fits, content)) => (!fits, content),
            Err(error) => (*error.kind() == StoreErrorKind::Corrupt, None),
        };
        Some(Seen { pin: *pin, blob, content, is_hopeless })
    }
}
