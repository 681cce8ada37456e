//! The cache of a bundle: copies that prove themselves, and nothing that is half written.
//!
//! A copy is believed for the digest it has, never for its name. What digest it must have is said by the record of its
//! reference (`records/`), which also is the step that makes a new copy the current one: before it is written the old copy is
//! served, from then on the new one, which by then lies in `by-digest/`. Writers take turns; readers take no lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::Digest;

use super::document::{self, DOCUMENT_BYTES};
use super::index::{Found, Index};
use super::layout::{Layout, Sub};
use super::lock::{self, Stop};
use super::record::{CatalogOrigin, CopyRecord, RECORD_BYTES};
use super::{CatalogError, ProviderRegistryError, disk, prune};
use crate::dist::chain;

/// Longest wait for another writer. A write takes milliseconds.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Most records that are read to write a lost index anew.
const RECORDS: usize = 10_000;
/// Most reasons that are told why copies are not used.
const REASONS: usize = 4;

/// The cache of one bundle.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    layout: Layout,
}

/// A cached copy whose bytes are proven, unless it says otherwise.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// What the reference has as its digest.
    pub(super) digest: Digest,
    /// What else is known; nothing of copies of earlier versions.
    pub(super) record: Option<CopyRecord>,
    /// Whether nothing proves the bytes, see [`Shelf::vouched`].
    pub(super) is_vouched: bool,
}

/// What the cache has for a reference.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) copy: Option<Copy>,
    /// Where there is no proven copy: what an earlier version fetched and kept under the digest of its manifest, from which nobody
    /// can tell the bytes. Its index is all that says that they are the reference's.
    pub(super) vouched: Option<Copy>,
    /// Why files that are there are not used.
    pub(super) passed_over: Vec<String>,
    /// Whether the index was whole. Without one there may be nothing to write it from.
    pub(super) is_indexed: bool,
}

/// Which of two good copies is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The one that is named by the reference.
    Reference,
    /// The one that is named by its digest.
    Digest,
}

/// Something that says which bytes a reference stands for.
enum Voucher {
    Record(Box<CopyRecord>),
    /// The digest in the index, where it is that of the bytes themselves.
    Indexed(Digest),
    /// The digest in the index of an earlier version, where it is that of the manifest.
    Earlier(Digest),
}

impl Voucher {
    fn digest(&self) -> Digest {
        match self {
            Self::Record(record) => record.digest,
            Self::Indexed(digest) | Self::Earlier(digest) => *digest,
        }
    }

    fn vouches_for(&self, bytes: &[u8], pin: Option<Digest>) -> bool {
        match self {
            Self::Record(record) => record.vouches_for(bytes, pin),
            Self::Indexed(digest) => {
                Digest::of(digest.algorithm(), bytes) == *digest && pin.is_none_or(|pin| pin == *digest)
            }
            Self::Earlier(_) => pin.is_none(),
        }
    }

    fn record(&self) -> Option<CopyRecord> {
        match self {
            Self::Record(record) => Some((**record).clone()),
            Self::Indexed(_) | Self::Earlier(_) => None,
        }
    }
}

impl Cache {
    pub(super) fn of_bundle(bundle: &Path) -> Self {
        Self { layout: Layout::of_bundle(bundle) }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The proven copy of a reference. Files that prove nothing are passed over, with the reason.
    pub(super) fn look(&self, reference: &str, first: First) -> Shelf {
        let pin = pin_of(reference);
        if let Err(reason) = self.require_own() {
            return Shelf { passed_over: vec![reason.to_string()], is_indexed: true, ..Shelf::default() };
        }
        let (index, is_indexed) = match Index::load(&self.layout.index()) {
            Found::Whole(index) => (index, true),
            Found::Missing | Found::Torn(_) => (Index::default(), false),
        };
        let mut shelf = Shelf { is_indexed, ..Shelf::default() };
        let mut named = vec![self.layout.copy(reference)];
        if index.digest(reference).is_some() {
            named.extend(self.layout.earlier_copy(reference));
        }
        for voucher in self.vouchers(reference, &index) {
            let by_digest = self.layout.by_digest(&voucher.digest());
            let mut paths: Vec<&PathBuf> = named.iter().collect();
            match first {
                First::Reference => paths.push(&by_digest),
                First::Digest => paths.insert(0, &by_digest),
            }
            let copy = paths.into_iter().find_map(|path| prove(path, &voucher, pin, &mut shelf.passed_over));
            if copy.is_some() {
                return Shelf { copy, is_indexed, ..Shelf::default() };
            }
        }
        if shelf.passed_over.is_empty() {
            let unproven = named.iter().filter(|path| path.is_file());
            shelf
                .passed_over
                .extend(unproven.map(|path| format!("{} is not used: no digest is known for it", path.display())));
        }
        shelf.vouched = self.vouched(reference, &index, &mut shelf.passed_over);
        shelf.passed_over.truncate(REASONS);
        shelf
    }

    /// What an earlier version kept by digest for a reference without a pin, when its index names that very reference.
    ///
    /// It wrote the file before the index that names it, under a name that no other reference shares, so a kill or a collision of
    /// slugs left nothing wrong there; the file by reference may be anybody's. Where there is a record of ours, that one counts.
    fn vouched(&self, reference: &str, index: &Index, passed_over: &mut Vec<String>) -> Option<Copy> {
        let pin = pin_of(reference);
        if pin.is_some() || index.has_entry(reference) || self.keeps(reference) {
            return None;
        }
        let digest = index.digest(reference)?;
        let copy = prove(&self.layout.by_digest(&digest), &Voucher::Earlier(digest), pin, passed_over)?;
        // Of bytes that nothing proves this much is asked.
        match document::require_catalog(&copy.bytes) {
            Ok(()) => Some(copy),
            Err(error) => {
                passed_over.push(format!("{} is not used: {error}", copy.path.display()));
                None
            }
        }
    }

    /// Who says what the reference stands for, the most trusted first.
    fn vouchers(&self, reference: &str, index: &Index) -> Vec<Voucher> {
        let own = self.record(reference);
        let noted = index.entry(reference).filter(|entry| own.as_ref().is_none_or(|own| own.facts() != *entry));
        let records = own.into_iter().chain(noted).map(|record| Voucher::Record(Box::new(record)));
        records.chain(index.digest(reference).map(Voucher::Indexed)).collect()
    }

    fn record(&self, reference: &str) -> Option<CopyRecord> {
        if !disk::is_usable_dir(&self.layout.sub(Sub::Records)).ok()? {
            return None;
        }
        let bytes = disk::read(&self.layout.record(reference), RECORD_BYTES).ok()??;
        CopyRecord::parse(&bytes, reference)
    }

    /// Bytes with this digest, where any copy of the reference has them: they need not be fetched.
    pub(super) fn content(&self, reference: &str, content: &Digest) -> Option<Vec<u8>> {
        let indexed = match Index::load(&self.layout.index()) {
            Found::Whole(index) => index.digest(reference),
            Found::Missing | Found::Torn(_) => None,
        };
        let by_digest = indexed.map(|digest| self.layout.by_digest(&digest));
        let paths = [Some(self.layout.copy(reference)), self.layout.earlier_copy(reference), by_digest];
        paths.into_iter().flatten().find_map(|path| {
            let bytes = disk::read(&path, DOCUMENT_BYTES).ok()??;
            (Digest::of(content.algorithm(), &bytes) == *content).then_some(bytes)
        })
    }

    /// Makes these bytes the copy of the record's reference. Returns its path.
    ///
    /// A kill between two writes leaves the old copy or the new one.
    pub(super) fn publish(&self, record: &CopyRecord, bytes: &[u8]) -> Result<PathBuf, ProviderRegistryError> {
        let _turn = self.write_turn()?;
        self.publish_in_turn(record, bytes)
    }

    fn publish_in_turn(&self, record: &CopyRecord, bytes: &[u8]) -> Result<PathBuf, ProviderRegistryError> {
        let by_digest = self.layout.by_digest(&record.digest);
        write(&by_digest, bytes)?;
        self.write_record(record)?;
        // From here on it is the current one, whatever becomes of its second copy and of the index.
        let copy = self.layout.copy(&record.reference);
        let told = |error: &ProviderRegistryError| {
            tracing::warn!(error = %chain(error), "a provider catalog was taken over, and is not in all of its places");
        };
        let mut replaced = None;
        let index = self.update_index(|index| {
            replaced = index.digest(&record.reference);
            index.put(record);
        });
        let path = match write(&copy, bytes) {
            Ok(()) => copy,
            Err(error) => {
                told(&error);
                by_digest
            }
        };
        match index {
            Ok(index) => self.prune(&index, replaced),
            Err(error) => told(&error),
        }
        Ok(path)
    }

    /// Notes that the copy of a reference is the current one still; a copy by reference that is missing or wrong is written anew.
    pub(super) fn confirm(&self, record: &CopyRecord, bytes: &[u8]) -> Result<(), ProviderRegistryError> {
        let _turn = self.write_turn()?;
        self.write_record(record)?;
        write(&self.layout.copy(&record.reference), bytes)?;
        self.update_index(|index| index.put(record)).map(drop)
    }

    /// Removes copies by digest that nothing names any more, see [`prune`]. What was replaced just now is the last one to go.
    fn prune(&self, index: &Index, replaced: Option<Digest>) {
        if let Some(replaced) = replaced {
            disk::touch(&self.layout.by_digest(&replaced));
        }
        prune::prune(&self.layout.sub(Sub::ByDigest), || {
            let recorded = self.records().filter_map(|(_, bytes)| {
                // Of another version, too.
                let record: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
                record.get("digest")?.as_str()?.parse().ok()
            });
            index.digests().chain(recorded).collect()
        });
    }

    /// Writes a copy by reference anew, from the one by digest that is good.
    pub(super) fn restore(&self, reference: &str, bytes: &[u8]) -> Result<(), ProviderRegistryError> {
        let _turn = self.write_turn()?;
        write(&self.layout.copy(reference), bytes)
    }

    /// Refuses a cache that lies elsewhere than below its bundle, or that everybody may write to.
    fn require_own(&self) -> io::Result<()> {
        self.layout.way().iter().try_for_each(|dir| disk::is_usable_dir(dir).map(drop))
    }

    /// Writes an index that was torn or lost anew, from the records. Returns what is to be said about it; that it cannot be
    /// written is no failure.
    pub(super) fn mend(&self) -> Option<String> {
        self.torn()?;
        let turn = self.write_turn();
        // Somebody who was just writing it may be done.
        let reason = self.torn()?;
        let mended = turn.and_then(|_turn| self.update_index(|_| ()).map(drop));
        let outcome = match mended {
            Ok(()) => "was written anew".to_owned(),
            Err(error) => format!("cannot be written anew: {}", chain(&error)),
        };
        Some(format!("the index {} of the cache {outcome} ({reason})", self.layout.index().display()))
    }

    /// Why the index has to be written anew; `None` when it is whole, or when there is nothing to write.
    fn torn(&self) -> Option<String> {
        match Index::load(&self.layout.index()) {
            Found::Torn(reason) => Some(reason),
            Found::Missing if self.has_records() => Some("it is missing".to_owned()),
            Found::Whole(_) | Found::Missing => None,
        }
    }

    /// Whether something is kept for a reference.
    pub(super) fn keeps(&self, reference: &str) -> bool {
        fs::symlink_metadata(self.layout.record(reference)).is_ok()
    }

    /// Puts a file into the cache as the copy of a reference.
    pub(super) fn put(&self, reference: &str, source: &Path, now: u64) -> Result<PathBuf, ProviderRegistryError> {
        let refused = |problem: CatalogError| ProviderRegistryError::not_a_catalog(source, problem);
        // Read as a whole before anything is written: the source may be the copy itself.
        let bytes = disk::read_named(source, DOCUMENT_BYTES)
            .map_err(|error| ProviderRegistryError::of_source(source, error))?;
        document::require(&bytes).map_err(refused)?;
        let pin = pin_of(reference);
        let record =
            known_beside(source, reference, &bytes).unwrap_or_else(|| CopyRecord::of_file(reference, &bytes, now));
        if !record.vouches_for(&bytes, pin) {
            return Err(ProviderRegistryError::Unproven { reference: reference.to_owned(), path: source.to_owned() });
        }
        let _turn = self.write_turn()?;
        if let Some(copy) = self.look(reference, First::Reference).copy {
            let held = copy.record.as_ref();
            let is_same = copy.bytes == bytes;
            if is_same && held.is_some() && copy.path == self.layout.copy(reference) {
                return Ok(copy.path);
            }
            let is_of_registry = held.is_some_and(|held| held.origin == CatalogOrigin::Registry);
            if !is_same && is_of_registry && record.origin == CatalogOrigin::File {
                tracing::warn!(
                    source = %source.display(),
                    "a file does not take the place of what a registry sent; it is kept by its digest alone"
                );
                let path = self.layout.by_digest(&record.digest);
                write(&path, &bytes)?;
                disk::touch(&path);
                return Ok(path);
            }
            if is_same && let Some(held) = held {
                return self.publish_in_turn(held, &bytes);
            }
        }
        self.publish_in_turn(&record, &bytes)
    }

    /// The turn of a writer. Makes the directories, and removes what killed writers left.
    fn write_turn(&self) -> Result<lock::Held, ProviderRegistryError> {
        self.make_dirs()?;
        let turn = lock::wait(&self.layout.write_lock(), WRITE_WAIT, &Stop::default())?;
        for sub in [Sub::Top, Sub::ByDigest, Sub::Records] {
            disk::sweep(&self.layout.sub(sub));
        }
        Ok(turn)
    }

    pub(super) fn make_dirs(&self) -> Result<(), ProviderRegistryError> {
        let bundle = self.layout.bundle();
        let bundle = if bundle.as_os_str().is_empty() { Path::new(".") } else { bundle };
        fs::create_dir_all(bundle).map_err(|error| failed("create", bundle, error))?;
        let subs = Sub::ALL.into_iter().map(|sub| self.layout.sub(sub));
        for dir in self.layout.way().into_iter().chain(subs) {
            disk::create_dir(&dir).map_err(|error| failed("use", &dir, error))?;
        }
        Ok(())
    }

    fn write_record(&self, record: &CopyRecord) -> Result<(), ProviderRegistryError> {
        let path = self.layout.record(&record.reference);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| failed("write", &path, error.into()))?;
        write(&path, &bytes)
    }

    /// Changes the index, and returns it as it is then. One that is torn or lost is put together from the records first.
    fn update_index(&self, change: impl FnOnce(&mut Index)) -> Result<Index, ProviderRegistryError> {
        let path = self.layout.index();
        let mut index = match Index::load(&path) {
            Found::Whole(index) => index,
            Found::Missing | Found::Torn(_) => self.index_of_records(),
        };
        change(&mut index);
        let bytes = index.to_bytes().map_err(|error| failed("write", &path, error))?;
        write(&path, &bytes)?;
        Ok(index)
    }

    fn index_of_records(&self) -> Index {
        let mut index = Index::default();
        for (path, bytes) in self.records() {
            // A record lies where its reference says, or it is not ours.
            let record = CopyRecord::parse_any(&bytes);
            if let Some(record) = record.filter(|record| self.layout.record(&record.reference) == path) {
                index.put(&record);
            }
        }
        index
    }

    /// The files of the records, sorted by name, with what they hold.
    fn records(&self) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
        let names = fs::read_dir(self.layout.sub(Sub::Records)).into_iter().flatten().take(RECORDS);
        let paths: BTreeSet<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
        paths.into_iter().filter_map(|path| {
            let bytes = disk::read(&path, RECORD_BYTES).ok().flatten()?;
            Some((path, bytes))
        })
    }

    fn has_records(&self) -> bool {
        fs::read_dir(self.layout.sub(Sub::Records)).is_ok_and(|mut names| names.next().is_some())
    }
}

/// Reads a copy; `None` when there is none, or when it is not what the voucher says.
fn prove(path: &Path, voucher: &Voucher, pin: Option<Digest>, passed_over: &mut Vec<String>) -> Option<Copy> {
    let mut pass = |reason: &str| {
        let reason = format!("{} is not used: {reason}", path.display());
        if !passed_over.contains(&reason) {
            passed_over.push(reason);
        }
    };
    let dir = path.parent().unwrap_or(path);
    match disk::is_usable_dir(dir) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            pass(&error.to_string());
            return None;
        }
    }
    let bytes = match disk::read(path, DOCUMENT_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return None,
        Err(error) => {
            pass(&error.to_string());
            return None;
        }
    };
    if !voucher.vouches_for(&bytes, pin) {
        pass(match voucher {
            Voucher::Record(_) => "its content is not what was recorded",
            // That of the manifest, most likely, from which nobody can tell the bytes.
            Voucher::Indexed(_) | Voucher::Earlier(_) => {
                "an earlier version kept no digest of its content; fetch it again while online"
            }
        });
        return None;
    }
    if let Err(error) = document::require(&bytes) {
        pass(&error.to_string());
        return None;
    }
    let is_vouched = matches!(voucher, Voucher::Earlier(_));
    Some(Copy { path: path.to_owned(), bytes, digest: voucher.digest(), record: voucher.record(), is_vouched })
}

/// What the cache that a file lies in knows of it, when it is the copy of this very pin there: a bundle takes over what another
/// one has, with the proof. What is said there without a proof is not believed.
fn known_beside(source: &Path, reference: &str, bytes: &[u8]) -> Option<CopyRecord> {
    let pin = pin_of(reference)?;
    let cache = Cache { layout: Layout::around(source)? };
    cache.record(reference).filter(|record| record.vouches_for(bytes, Some(pin)))
}

/// The digest in a reference, in capitals or not: what it names never changes.
pub(super) fn pin_of(reference: &str) -> Option<Digest> {
    Digest::parse_any_case(reference.rsplit_once('@')?.1).ok()
}

fn failed(op: &'static str, path: &Path, source: io::Error) -> ProviderRegistryError {
    ProviderRegistryError::Cache { op, path: path.to_owned(), source }
}

/// Writes a file of the cache, unless it is there as it should be.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ProviderRegistryError> {
    if disk::read(path, DOCUMENT_BYTES).ok().flatten().is_some_and(|there| there == bytes) {
        return Ok(());
    }
    disk::write(path, bytes).map_err(|error| failed("write", path, error))
}
