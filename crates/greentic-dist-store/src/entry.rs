//! An entry: where it lies, what its record says, and which bytes it claims to hold. No bytes are proven here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use greentic_dist_types::limits::{MOST_MANIFEST_BYTES, RECORD_BYTES, SIDECAR_BYTES};
use greentic_dist_types::{
    ArtifactSourceKind, ArtifactType, Descriptor, Digest, Manifest, ManifestKind, media_type, parse_kept_manifest,
};

use crate::layout::{self, ArtifactFile, Layout, MANIFEST, RECORD, Sidecar};
use crate::os::{self, Dir, FileState};
use crate::record::{EntryRecord, Reading, SourceSnapshot};
use crate::scan::scan;
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "read the entry";
/// How often a directory that is moved away while it is read is looked for again.
const MOVES: u32 = 16;

/// An entry of the cache. What it says about its bytes is a claim; [`Store::open`] proves it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The digest the entry is named by: that of its manifest, or of its bytes where it has no manifest.
    pub pin: Digest,
    /// The digest of the bytes it hands out.
    pub content_digest: Digest,
    /// Its directory.
    pub dir: PathBuf,
    /// The artifact.
    pub path: PathBuf,
    /// Its record; rebuilt where the file is missing or broken.
    pub record: EntryRecord,
    /// How it lies in the cache directory.
    pub layout: Layout,
    /// Whether `entry.json` was missing or broken, so that the source fields of the record are empty.
    pub rebuilt: bool,
}

impl Entry {
    /// The name of the artifact in its directory.
    pub(crate) fn file_name(&self) -> &str {
        self.path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
    }
}

impl Store {
    /// Looks an entry up by its pin, else by the digest of its content. Reads its record; hashes no artifact, writes
    /// nothing, takes no lock. `None` when there is none.
    ///
    /// The artifact itself may be missing or wrong; only [`Store::open`] finds out. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when an entry is there that can never prove itself; `NewerFormat`; `NotOurs` for a root others may write
    /// to; `Permission` and `Io` as they come.
    pub fn stat(&self, key: &Digest) -> Result<Option<Entry>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        match self.stat_pin(key)? {
            Some(entry) => Ok(Some(entry)),
            None => self.find_in_index(key),
        }
    }

    /// As [`Store::stat`], by pin only.
    pub(crate) fn stat_pin(&self, pin: &Digest) -> Result<Option<Entry>, StoreError> {
        self.look_for(pin, &|dir, layout| Ok(self.load(dir, layout, pin)?.map(|loaded| loaded.entry)))
    }

    /// Looks at each directory where `pin` may lie, until one has what `look` wants.
    ///
    /// A directory that was removed or replaced while it was looked at says nothing; then the one that is there now is
    /// looked at.
    pub(crate) fn look_for<T>(
        &self,
        pin: &Digest,
        look: &dyn Fn(Dir, Layout) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        first_success(self.places(pin).into_iter().map(|(layout, path)| {
            let mut tries = 0;
            loop {
                tries += 1;
                let Some(dir) = open_dir(&path, pin)? else { return Ok(None) };
                let opened = dir.metadata().map(|meta| FileState::of(&meta));
                let result = look(dir, layout);
                let is_corrupt = matches!(&result, Err(error) if *error.kind() == StoreErrorKind::Corrupt);
                let was_moved = || match (&opened, std::fs::symlink_metadata(&path)) {
                    (Ok(opened), Ok(now)) => !FileState::of(&now).same_file(opened),
                    (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
                    (Err(_), _) => false,
                };
                if !is_corrupt || tries > MOVES || !was_moved() {
                    return result;
                }
            }
        }))
    }

    /// Where an entry of `pin` may lie, best first.
    pub(crate) fn places(&self, pin: &Digest) -> Vec<(Layout, PathBuf)> {
        let mut places = vec![(Layout::Current, self.paths().entry_dir(pin))];
        places.extend(self.paths().sharded_dir(pin).map(|path| (Layout::Sharded, path)));
        places
    }

    /// Reads what an entry directory says about itself.
    pub(crate) fn load(&self, dir: Dir, layout: Layout, pin: &Digest) -> Result<Option<Loaded>, StoreError> {
        let (record, why) = match read_record(&dir, pin)? {
            Ok(record) => (Some(*record), None),
            Err(why) => (None, why),
        };
        let source = Source { store: self, dir, layout, pin: *pin, manifest: None };
        match (record, why) {
            (Some(record), _) => source.recorded(record).map(Some),
            (None, why) => source.rebuilt(why.as_deref()),
        }
    }

    /// The raw manifest of an entry, proven against its pin; `None` when the entry has none.
    ///
    /// # Errors
    /// `Corrupt` when the file does not hash to the pin.
    pub fn manifest(&self, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(dir) = open_dir(&entry.dir, &entry.pin)? else { return Ok(None) };
        Ok(read_manifest(&dir, &entry.pin)?.map(|(bytes, _)| bytes))
    }

    /// A sidecar document of an entry; `None` when the entry has none. Not proven by anything: the publisher's own
    /// documents are layers of the manifest, and its digest is there.
    ///
    /// # Errors
    /// `Corrupt` when it is no regular file or larger than [`SIDECAR_BYTES`].
    pub fn sidecar(&self, entry: &Entry, sidecar: Sidecar) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(dir) = open_dir(&entry.dir, &entry.pin)? else { return Ok(None) };
        dir.read_small(sidecar.name(), SIDECAR_BYTES)
            .map_err(|error| odd_is_corrupt(error, &dir.path().join(sidecar.name()), &entry.pin))
    }
}

impl Store {
    /// Replaces a sidecar document of an entry, or gives the entry one, whole. Not synced: a power cut may lose it.
    ///
    /// # Errors
    /// `Missing` when the entry is gone, or lies in an older layout, which is not written to; `Io` for a document larger than
    /// [`SIDECAR_BYTES`]; otherwise as any write.
    pub fn put_sidecar(&self, entry: &Entry, sidecar: Sidecar, bytes: &[u8]) -> Result<(), StoreError> {
        const OP: &str = "write the document";
        let missing = || StoreError::new(StoreErrorKind::Missing, OP, &entry.dir).with_digest(&entry.pin);
        if entry.layout == Layout::Sharded {
            return Err(missing());
        }
        let dir = open_dir(&entry.dir, &entry.pin)?.ok_or_else(missing)?;
        let path = dir.path().join(sidecar.name());
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SIDECAR_BYTES {
            let detail = format!("it has {} bytes, and {SIDECAR_BYTES} are allowed", bytes.len());
            return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_digest(&entry.pin).with_detail(&detail));
        }
        self.write_atomic(&path, bytes, false)
    }
}

/// The record, or why there is none: `Some` text when the file is broken, `None` when there is no file.
fn read_record(dir: &Dir, pin: &Digest) -> Result<Result<Box<EntryRecord>, Option<String>>, StoreError> {
    let path = dir.path().join(RECORD);
    let bytes = match dir.read_small(RECORD, RECORD_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err(None)),
        Err(error) if os::is_odd_file(&error) => return Ok(Err(Some(format!("{RECORD} is {error}")))),
        Err(error) => return Err(StoreError::io(OP, &path, error).with_digest(pin)),
    };
    match crate::record::read(&bytes, pin) {
        Reading::Record(record) => Ok(Ok(record)),
        Reading::Garbage(why) => Ok(Err(Some(format!("{RECORD} is broken: {why}")))),
        Reading::OfAnother(claimed) => {
            Err(StoreError::corrupt(OP, &path, pin, &format!("it is the record of {claimed}")))
        }
        Reading::Newer(version) => Err(StoreError::new(StoreErrorKind::NewerFormat, OP, &path)
            .with_digest(pin)
            .with_detail(&format!("it has format version {version}, and this program knows 1"))),
    }
}

/// The first success; else the first error; else nothing.
fn first_success<T>(results: impl Iterator<Item = Result<Option<T>, StoreError>>) -> Result<Option<T>, StoreError> {
    let mut first_error = None;
    for result in results {
        match result {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Opens the directory of an entry; `None` when there is nothing at its path.
pub(crate) fn open_dir(path: &Path, pin: &Digest) -> Result<Option<Dir>, StoreError> {
    match Dir::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(odd_is_corrupt(error, path, pin)),
    }
}

fn odd_is_corrupt(error: io::Error, path: &Path, pin: &Digest) -> StoreError {
    if os::is_odd_file(&error) {
        return StoreError::corrupt(OP, path, pin, "it is not the kind of file it should be").with_source(error);
    }
    StoreError::io(OP, path, error).with_digest(pin)
}

/// Reads and proves the manifest of an entry.
pub(crate) fn read_manifest(dir: &Dir, pin: &Digest) -> Result<Option<(Vec<u8>, Manifest)>, StoreError> {
    let path = dir.path().join(MANIFEST);
    let Some(bytes) =
        dir.read_small(MANIFEST, MOST_MANIFEST_BYTES).map_err(|error| odd_is_corrupt(error, &path, pin))?
    else {
        return Ok(None);
    };
    let actual = Digest::of(pin.algorithm(), &bytes);
    if actual != *pin {
        return Err(StoreError::corrupt(OP, &path, pin, &format!("the manifest hashes to {actual}, not to its pin")));
    }
    match parse_kept_manifest(&bytes) {
        Ok(ManifestKind::Image(manifest)) => Ok(Some((bytes, *manifest))),
        Ok(ManifestKind::Index(_)) => Err(StoreError::corrupt(OP, &path, pin, "the manifest is an index")),
        Err(error) => Err(StoreError::corrupt(OP, &path, pin, "the manifest is malformed").with_source(error)),
    }
}

/// The layers of `manifest` that an entry may hand out, the most likely one first.
pub(crate) fn likely_layers(manifest: &Manifest) -> Vec<&Descriptor> {
    let first = manifest.artifact_layer().ok().map(|(_, choice)| choice.position);
    let chosen = first.and_then(|position| manifest.layers.get(position));
    let others = manifest.layers.iter().enumerate().filter(|(position, _)| Some(*position) != first);
    chosen.into_iter().chain(others.map(|(_, layer)| layer)).collect()
}

/// An entry as read, with the directory it was read from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) entry: Entry,
    pub(crate) dir: Dir,
    /// Whether the record named the content, so that no other layer is possible.
    pub(crate) content_named: bool,
}

/// The parts an [`Entry`] is made from.
struct Source<'a> {
    store: &'a Store,
    dir: Dir,
    layout: Layout,
    pin: Digest,
    manifest: Option<Manifest>,
}

impl Source<'_> {
    /// The name of the artifact, of whatever kind; this store's own where there is none.
    fn blob_name(&self) -> &'static str {
        let paths = self.store.paths();
        let is_file = |name: &&'static str| self.dir.stat(name).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_file));
        paths.blob_names(self.layout).find(is_file).unwrap_or_else(|| paths.blob_name(self.layout))
    }

    fn read_manifest(&mut self) -> Result<(), StoreError> {
        self.manifest = read_manifest(&self.dir, &self.pin)?.map(|(_, manifest)| manifest);
        Ok(())
    }

    fn blob(&self) -> Result<Option<os::Stat>, StoreError> {
        let path = self.dir.path().join(self.blob_name());
        self.dir.stat(self.blob_name()).map_err(|error| StoreError::io(OP, &path, error).with_digest(&self.pin))
    }

    /// The layer whose bytes the artifact has, by its size where the manifest leaves a choice.
    fn layer_of_size(&self, size_bytes: Option<u64>) -> Option<&Descriptor> {
        let layers = likely_layers(self.manifest.as_ref()?);
        let of_size = size_bytes.and_then(|size| layers.iter().find(|layer| layer.size_bytes == size));
        of_size.or(layers.first()).copied()
    }

    fn recorded(mut self, record: EntryRecord) -> Result<Loaded, StoreError> {
        if let Some(content) = record.content_digest {
            return Ok(self.into_loaded(content, record, false, true));
        }
        // Written by a program that knows only the published fields.
        self.read_manifest()?;
        let content = if self.manifest.is_some() {
            let size = self.blob()?.filter(|blob| blob.is_file).map(|blob| blob.size_bytes);
            let Some(layer) = self.layer_of_size(size) else {
                return Err(StoreError::corrupt(OP, self.dir.path(), &self.pin, "its manifest has no layers"));
            };
            layer.digest
        } else {
            self.pin
        };
        Ok(self.into_loaded(content, record, false, false))
    }

    /// Makes the record of an entry whose `entry.json` is missing, or broken for the reason `why`.
    fn rebuilt(mut self, why: Option<&str>) -> Result<Option<Loaded>, StoreError> {
        let blob = self.blob()?;
        let corrupt = |path: &Path, pin: &Digest, detail: &str| {
            let detail = why.map_or_else(|| detail.to_owned(), |why| format!("{why}; and {detail}"));
            StoreError::corrupt(OP, path, pin, &detail)
        };
        let Some(blob) = blob else {
            return match why {
                None => Ok(None),
                Some(_) => Err(corrupt(self.dir.path(), &self.pin, "the cached blob is missing")),
            };
        };
        let path = self.dir.path().join(self.blob_name());
        if !blob.is_file {
            return Err(corrupt(&path, &self.pin, "the artifact is no regular file"));
        }
        self.read_manifest()?;
        let (content, media_type) = match &self.manifest {
            None => (self.pin, None),
            Some(manifest) => match likely_layers(manifest).iter().find(|layer| layer.size_bytes == blob.size_bytes) {
                Some(layer) => (layer.digest, Some(layer.media_type.clone())),
                None => return Err(corrupt(&path, &self.pin, "no layer of the manifest has the size of the artifact")),
            },
        };
        if self.manifest.is_none() && why.is_none() && self.layout == Layout::Current {
            self.layout = Layout::Flat;
        }
        let record = self.record_from(content, media_type, blob.size_bytes);
        Ok(Some(self.into_loaded(content, record, true, false)))
    }

    fn record_from(&self, content: Digest, media_type: Option<String>, size_bytes: u64) -> EntryRecord {
        let (artifact_type, default_type) = match self.store.paths().artifact() {
            ArtifactFile::Component => (ArtifactType::Component, media_type::WASM),
            ArtifactFile::Pack => (ArtifactType::Pack, media_type::OCTET_STREAM),
            ArtifactFile::Blob => (ArtifactType::Component, media_type::OCTET_STREAM),
        };
        let source = SourceSnapshot {
            raw_ref: String::new(),
            canonical_ref: String::new(),
            source_kind: ArtifactSourceKind::CacheDigest,
            authoritative: false,
        };
        let mut record = EntryRecord::new(artifact_type, source, media_type.unwrap_or_else(|| default_type.to_owned()));
        let modified = self.dir.metadata().and_then(|meta| meta.modified()).unwrap_or(UNIX_EPOCH);
        record.fetched_at = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        record.last_accessed_at = record.fetched_at;
        record.manifest_digest = self.manifest.as_ref().map(|_| self.pin);
        record.bind(&self.pin, &content, size_bytes, &self.dir.path().join(self.blob_name()));
        record
    }

    fn into_loaded(self, content: Digest, mut record: EntryRecord, rebuilt: bool, content_named: bool) -> Loaded {
        let path = self.dir.path().join(self.blob_name());
        record.local_path.clone_from(&path);
        let entry = Entry {
            pin: self.pin,
            content_digest: content,
            dir: self.dir.path().to_owned(),
            path,
            record,
            layout: self.layout,
            rebuilt,
        };
        Loaded { entry, dir: self.dir, content_named }
    }
}

impl Store {
    /// The pins of all entries, sorted: every directory named by a digest that has an artifact in it, in any layout. Reads
    /// names only, so an entry may still turn out not to prove itself. Follows no symbolic link and does not look below
    /// entries.
    ///
    /// # Errors
    /// `NotOurs` for a root others may write to; `Permission` and `Io` as they come.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.list_sized()?.into_iter().map(|(pin, _)| pin).collect())
    }

    /// As [`Store::list`], with the sizes of the artifacts in bytes.
    pub(crate) fn list_sized(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        const OP: &str = "list the cache";
        if !self.root_for_reading()? {
            return Ok(Vec::new());
        }
        let at = |path: &Path, error| StoreError::io(OP, path, error);
        let file_size = |dir: &Dir, name: &str| {
            let found = dir.stat(name).map_err(|error| at(dir.path(), error))?;
            Ok(found.filter(|stat| stat.is_file).map(|stat| stat.size_bytes))
        };
        let root = Dir::open(&self.root().canonicalize().map_err(|error| at(self.root(), error))?)
            .map_err(|error| at(self.root(), error))?;
        let names = layout::names(root.path()).map_err(|error| at(root.path(), error))?;
        let found = scan(&names, |(name, kind)| {
            let pin = layout::parse_entry_dir(name).filter(|_| *kind == os::Kind::Dir)?;
            let mut sizes =
                self.paths().blob_names(Layout::Current).map(|blob| file_size(&root, &format!("{name}/{blob}")));
            let size = sizes.find_map(Result::transpose).transpose();
            size.map(|size| Some((pin, size?))).transpose()
        });
        drop(names);
        let mut pins = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.each_sharded(&mut |shard, name, pin| {
            if let Some(size) = file_size(shard, &format!("{name}/{}", self.paths().blob_name(Layout::Sharded)))? {
                pins.push((pin, size));
            }
            Ok(())
        })?;
        pins.sort_unstable();
        pins.dedup_by_key(|(pin, _)| *pin);
        Ok(pins)
    }

    /// Visits the entry directories of the older, sharded layout.
    pub(crate) fn each_sharded(
        &self,
        visit: &mut dyn FnMut(&Dir, &str, Digest) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        const OP: &str = "list the cache";
        let sharded = self.paths().sharded_root();
        if [sharded.parent(), Some(&sharded)].into_iter().flatten().any(|path| Dir::open(path).is_err()) {
            return Ok(());
        }
        for (shard, kind) in layout::names(&sharded).map_err(|error| StoreError::io(OP, &sharded, error))? {
            if kind != os::Kind::Dir || shard.len() != 2 {
                continue;
            }
            let path = sharded.join(&shard);
            let Ok(dir) = Dir::open(&path) else { continue };
            for (name, kind) in layout::names(&path).map_err(|error| StoreError::io(OP, &path, error))? {
                if kind == os::Kind::Dir
                    && let Some(pin) = layout::parse_sharded(&shard, &name)
                {
                    visit(&dir, &name, pin)?;
                }
            }
        }
        Ok(())
    }

    /// The listed entries whose record can be read or rebuilt, in the order of [`Store::list`].
    ///
    /// # Errors
    /// As [`Store::list`]; entries that cannot be read are left out.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.entries_as(|entry| entry)
    }

    /// As [`Store::entries`], with what `view` makes of each, several at once: of many entries only that is kept.
    ///
    /// # Errors
    /// As [`Store::entries`].
    pub fn entries_as<T: Send>(&self, view: impl Fn(Entry) -> T + Sync) -> Result<Vec<T>, StoreError> {
        Ok(scan(&self.list()?, |pin| {
            let entry = self.stat_pin(pin);
            let entry =
                entry.inspect_err(|error| tracing::debug!(%pin, %error, "an entry is left out of the list")).ok()??;
            Some(view(entry))
        }))
    }
}
