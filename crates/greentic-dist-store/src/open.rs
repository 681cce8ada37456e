//! Opening an entry: nobody gets a file here whose bytes were not proven.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::time::SystemTime;

use greentic_dist_types::{CacheEntryState, Digest, Mismatch, Verifier};

use crate::entry::{Entry, Loaded, likely_layers, read_manifest};
use crate::layout::Layout;
use crate::os::{self, Dir, FileState};
use crate::{Store, StoreError};

const OP: &str = "open the entry";

/// How bytes are proven when an entry is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Trust a proof made since the machine started, if the file is untouched since; hash otherwise.
    #[default]
    Stamped,
    /// Hash, always.
    Full,
}

/// An entry that proved itself, with its artifact open for reading at its start.
#[derive(Debug)]
pub struct OpenEntry {
    /// The entry. Its size and content digest are the proven ones.
    pub entry: Entry,
    /// The artifact. What is read from it is what was proven, even if the entry is removed or replaced meanwhile; only an
    /// edit of this very file in place could change it.
    pub file: File,
}

impl Store {
    /// Opens an entry by its pin, else by the digest of its content, and proves it: its manifest hashes to the pin and
    /// names the content's digest and size (or the pin is the content's digest), and the bytes hash to it. `None` when
    /// there is none.
    ///
    /// Takes no lock and works on a read-only cache; where it hashed, it notes the proof if it can. Blocks for about a
    /// second per GiB when it hashes.
    ///
    /// # Errors
    /// `Corrupt` when the entry does not prove itself, with the [`Mismatch`] as source where bytes were hashed, or when its
    /// record says that it is not `Ready`; otherwise as [`Store::stat`].
    pub fn open(&self, key: &Digest, proof: Proof) -> Result<Option<OpenEntry>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        if let Some(open) = self.open_pin(key, proof)? {
            return Ok(Some(open));
        }
        match self.find_in_index(key)? {
            Some(entry) => self.open_pin(&entry.pin, proof),
            None => Ok(None),
        }
    }

    /// As [`Store::open`], by pin only.
    pub(crate) fn open_pin(&self, pin: &Digest, proof: Proof) -> Result<Option<OpenEntry>, StoreError> {
        let names = if self.options().believe_vouched { Names::Vouched } else { Names::Proven };
        self.open_named(pin, proof, names)
    }

    /// As [`Store::open`], by pin only, with what is enough for its name.
    pub(crate) fn open_named(&self, pin: &Digest, proof: Proof, names: Names) -> Result<Option<OpenEntry>, StoreError> {
        self.look_for(pin, &|dir, layout| {
            let Some(loaded) = self.load(dir, layout, pin)? else { return Ok(None) };
            self.prove(loaded, proof, names).map(Some)
        })
    }

    fn prove(&self, loaded: Loaded, proof: Proof, names: Names) -> Result<OpenEntry, StoreError> {
        let Loaded { mut entry, dir, content_named } = loaded;
        let state = entry.record.state;
        if state != CacheEntryState::Ready {
            let detail = format!("its record says that it is {state:?}");
            return Err(StoreError::corrupt(OP, &entry.dir, &entry.pin, &detail));
        }
        let allowed = allowed_contents(&Claim::of(&entry, content_named), &dir, names)?;
        let pin = entry.pin;
        let mut file = dir.open_file(entry.file_name()).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                StoreError::corrupt(OP, &entry.path, &pin, "the cached blob is missing")
            } else if os::is_odd_file(&error) {
                StoreError::corrupt(OP, &entry.path, &pin, "the cached blob is no regular file").with_source(error)
            } else {
                StoreError::io(OP, &entry.path, error).with_digest(&pin)
            }
        })?;
        let io_error = |error| StoreError::io(OP, &entry.path, error).with_digest(&pin);
        let before = FileState::of(&file.metadata().map_err(io_error)?);
        let sized: Vec<Digest> = allowed
            .iter()
            .filter(|content| content.size_bytes.is_none_or(|size| size == before.size))
            .map(|content| content.digest)
            .collect();
        let content = if sized.is_empty() {
            Err(size_mismatch(&allowed, before.size))
        } else if let Some(trusted) = (proof == Proof::Stamped).then(|| self.stamped(&dir, &before, &sized)).flatten() {
            Ok(trusted)
        } else {
            let shows_changes = before.is_settled(SystemTime::now());
            let actual = hash_to_one_of(&mut file, &sized, before.size).map_err(io_error)?;
            file.seek(SeekFrom::Start(0)).map_err(io_error)?;
            if let Ok(digest) = &actual
                && shows_changes
                && self.stamped(&dir, &before, &[*digest]).is_none()
            {
                self.stamp(&dir, &file, &before, digest);
            }
            actual
        };
        let content = content.map_err(|mismatch| {
            StoreError::corrupt(OP, &entry.path, &pin, "the cached blob is not what was stored").with_source(mismatch)
        })?;
        entry.content_digest = content;
        entry.record.content_digest = Some(content);
        entry.record.size_bytes = before.size;
        Ok(OpenEntry { entry, file })
    }
}

/// Content an entry may hand out by what its name proves.
struct Allowed {
    digest: Digest,
    size_bytes: Option<u64>,
}

/// What is enough to believe that the name of an entry stands for its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// The content's digest, or a manifest that hashes to it.
    Proven,
    /// Also the word of a client that the host brought along.
    Vouched,
}

/// What an entry says of its content.
pub(crate) struct Claim {
    pub(crate) pin: Digest,
    pub(crate) content: Digest,
    /// Whether its record names the content, so that no other layer is possible.
    pub(crate) is_named: bool,
    /// The size that its record tells, where a client that the host brought along vouched for it.
    pub(crate) vouched_bytes: Option<u64>,
}

impl Claim {
    pub(crate) fn of(entry: &Entry, is_named: bool) -> Self {
        let Entry { pin, content_digest, record, .. } = entry;
        let vouched_bytes = record.vouched.then_some(record.size_bytes);
        Self { pin: *pin, content: *content_digest, is_named, vouched_bytes }
    }
}

fn allowed_contents(claim: &Claim, dir: &Dir, names: Names) -> Result<Vec<Allowed>, StoreError> {
    let Claim { pin, content, is_named, vouched_bytes } = claim;
    let corrupt = |detail: &str| StoreError::corrupt(OP, dir.path(), pin, detail);
    let Some((_, manifest)) = read_manifest(dir, pin)? else {
        return match vouched_bytes {
            _ if content == pin => Ok(vec![Allowed { digest: *pin, size_bytes: None }]),
            Some(size) if names == Names::Vouched => Ok(vec![Allowed { digest: *content, size_bytes: Some(*size) }]),
            Some(_) => Err(corrupt("another client vouched for its name, and no manifest proves it")),
            None => Err(corrupt(&format!("it has no manifest that names its content {content}"))),
        };
    };
    let named: Vec<Allowed> = likely_layers(&manifest)
        .into_iter()
        .filter(|layer| !is_named || layer.digest == *content)
        .map(|layer| Allowed { digest: layer.digest, size_bytes: Some(layer.size_bytes) })
        .collect();
    if named.is_empty() {
        return Err(corrupt(&format!("its manifest does not name its content {content}")));
    }
    Ok(named)
}

/// The sizes an entry's artifact may have, where its manifest tells; `None` for any.
pub(crate) fn allowed_sizes(claim: &Claim, dir: &Dir) -> Result<Vec<Option<u64>>, StoreError> {
    let allowed = allowed_contents(claim, dir, Names::Vouched)?;
    Ok(allowed.into_iter().map(|content| content.size_bytes).collect())
}

fn size_mismatch(allowed: &[Allowed], actual: u64) -> Mismatch {
    let expected = allowed.first().and_then(|content| content.size_bytes).unwrap_or_default();
    if actual < expected { Mismatch::Short { expected, actual } } else { Mismatch::Long { expected } }
}

/// Hashes the file, which has `size_bytes`, and says which of `digests` it has. Wrong bytes are an inner error.
fn hash_to_one_of(file: &mut File, digests: &[Digest], size_bytes: u64) -> io::Result<Result<Digest, Mismatch>> {
    // One pass per algorithm; almost always one.
    let mut wrong = None;
    for expected in digests {
        let same_algorithm = |other: &&Digest| other.algorithm() == expected.algorithm();
        if digests.iter().find(same_algorithm) != Some(expected) {
            continue;
        }
        file.seek(SeekFrom::Start(0))?;
        let mut verifier = Verifier::measuring(expected.algorithm(), size_bytes);
        match verifier.read_all_of(file)? {
            Ok(()) => {}
            Err(mismatch) => return Ok(Err(mismatch)),
        }
        let actual = match verifier.finish() {
            Ok(verified) if verified.size_bytes() < size_bytes => {
                return Ok(Err(Mismatch::Short { expected: size_bytes, actual: verified.size_bytes() }));
            }
            Ok(verified) => verified.digest(),
            Err(mismatch) => return Ok(Err(mismatch)),
        };
        if digests.contains(&actual) {
            return Ok(Ok(actual));
        }
        wrong = wrong.or(Some(Mismatch::Digest { expected: *expected, actual }));
    }
    Ok(Err(wrong.unwrap_or(Mismatch::Long { expected: 0 })))
}

/// Whether an entry lies in the current layout with a record that was read and not rebuilt, so that it need not be written
/// again.
pub(crate) fn is_current(entry: &Entry) -> bool {
    entry.layout == Layout::Current && !entry.rebuilt
}
