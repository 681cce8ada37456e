//! The only file that knows names in the cache directory. Paths are made from [`Digest`]s and nothing else.
//!
//! ```text
//! <root>/CACHEDIR.TAG
//! <root>/<hex of pin>/component.wasm | pack.gtpack | blob.bin    the artifact, mode 0444
//! <root>/<hex of pin>/manifest.json                   the raw OCI manifest, where the pin is a manifest digest
//! <root>/<hex of pin>/entry.json                      the record
//! <root>/<hex of pin>/component.manifest.json, metadata.json, verified, last_used
//! <root>/refs/<sha256 of reference>.json              what a tag meant last time
//! <root>/refs/by-content/<algorithm>-<hex>            one pin per line: entries with that content
//! <root>/bundles/bundle__sha256__<hex>.json           bundle records
//! <root>/advisories/<sha256 of source>.json         the youngest advisory seen from a source
//! <root>/state/endpoints.json                         mirrors that sent wrong bytes a short while ago
//! <root>/usage                                        how many bytes the artifacts have, about
//! <root>/tmp/ partial/ locks/ trash/ quarantine/      never read as entries
//! ```
//!
//! Read and never written: `artifacts/sha256/<2>/<62>/{blob,entry.json}` and a bare `<hex>/component.wasm`.

use std::path::{Path, PathBuf};

use greentic_dist_types::{Algorithm, BundleId, Digest};

use crate::os;

/// The record of an entry.
pub(crate) const RECORD: &str = "entry.json";
/// The raw OCI manifest of an entry.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The trust stamp of an entry.
pub(crate) const STAMP: &str = "verified";
/// Its mtime is the last use of an entry.
pub(crate) const LAST_USED: &str = "last_used";
/// The tag backup programs look for.
pub(crate) const CACHEDIR_TAG: &str = "CACHEDIR.TAG";
/// How many bytes the artifacts have, about.
const USAGE: &str = "usage";
/// The mirrors that are left alone, in `state/`.
pub(crate) const STATE_ENDPOINTS: &str = "endpoints.json";
/// The artifact in the older, sharded layout.
const SHARDED_BLOB: &str = "blob";
/// The suffix of partial downloads.
const PART_SUFFIX: &str = ".part";
/// The extension of the note beside a partial download with holes.
const NOTE_EXTENSION: &str = "upto";
/// The suffix of lock files.
pub(crate) const LOCK_SUFFIX: &str = ".lock";
/// The suffix of bundle records.
const BUNDLE_SUFFIX: &str = ".json";

/// The mode of an artifact.
pub(crate) const ARTIFACT_MODE: u32 = 0o444;

/// Which file of an entry is the artifact: a store holds components, packs or blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ArtifactFile {
    /// `component.wasm`, in the component cache.
    #[default]
    Component,
    /// `pack.gtpack`, in the pack cache.
    Pack,
    /// `blob.bin`, in the cache of blobs that are asked for by their digest alone.
    Blob,
}

impl ArtifactFile {
    pub(crate) const ALL: [Self; 3] = [Self::Component, Self::Pack, Self::Blob];

    /// The file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Component => "component.wasm",
            Self::Pack => "pack.gtpack",
            Self::Blob => "blob.bin",
        }
    }
}

/// A document kept beside an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sidecar {
    /// `component.manifest.json`.
    ComponentManifest,
    /// `metadata.json`.
    Metadata,
}

impl Sidecar {
    pub(crate) const ALL: [Self; 2] = [Self::ComponentManifest, Self::Metadata];

    /// The file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ComponentManifest => "component.manifest.json",
            Self::Metadata => "metadata.json",
        }
    }
}

/// How an entry lies in the cache directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `<hex>/` with a record or a manifest: what this version writes.
    Current,
    /// `artifacts/sha256/<2>/<62>/` of an earlier version. Read only.
    Sharded,
    /// A bare `<hex>/` with nothing but the artifact. Read only.
    Flat,
}

/// A directory of the root that is not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sub {
    Refs,
    ByContent,
    Bundles,
    Advisories,
    State,
    Tmp,
    Partial,
    Locks,
    Trash,
    Quarantine,
}

impl Sub {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refs => "refs",
            Self::ByContent => "refs/by-content",
            Self::Bundles => "bundles",
            Self::Advisories => "advisories",
            Self::State => "state",
            Self::Tmp => "tmp",
            Self::Partial => "partial",
            Self::Locks => "locks",
            Self::Trash => "trash",
            Self::Quarantine => "quarantine",
        }
    }

    /// The directory it lies in, where that is not the root.
    pub(crate) const fn parent(self) -> Option<Self> {
        match self {
            Self::ByContent => Some(Self::Refs),
            _ => None,
        }
    }
}

/// Makes paths below one root.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
    artifact: ArtifactFile,
}

impl Paths {
    pub(crate) fn new(root: PathBuf, artifact: ArtifactFile) -> Self {
        Self { root, artifact }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn artifact(&self) -> ArtifactFile {
        self.artifact
    }

    pub(crate) fn sub(&self, sub: Sub) -> PathBuf {
        self.root.join(sub.name())
    }

    pub(crate) fn tag(&self) -> PathBuf {
        self.root.join(CACHEDIR_TAG)
    }

    /// The running total of the artifacts' bytes.
    pub(crate) fn usage(&self) -> PathBuf {
        self.root.join(USAGE)
    }

    /// Where the entry of `pin` is published.
    pub(crate) fn entry_dir(&self, pin: &Digest) -> PathBuf {
        self.root.join(pin.to_hex())
    }

    /// `artifacts/sha256`, the parent of the shards of the older layout.
    pub(crate) fn sharded_root(&self) -> PathBuf {
        self.root.join("artifacts").join("sha256")
    }

    /// Where the older layout has `pin`, which it can only have for SHA-256.
    pub(crate) fn sharded_dir(&self, pin: &Digest) -> Option<PathBuf> {
        let hex = pin.to_hex();
        match pin.algorithm() {
            Algorithm::Sha256 => Some(self.sharded_root().join(hex.get(..2)?).join(hex.get(2..)?)),
            Algorithm::Sha384 | Algorithm::Sha512 => None,
        }
    }

    /// The name of the artifact in a directory of `layout`.
    pub(crate) fn blob_name(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::Current | Layout::Flat => self.artifact.name(),
            Layout::Sharded => SHARDED_BLOB,
        }
    }

    /// The names under which an artifact of `layout` may lie, the one of this store first: stores of several kinds can share
    /// a directory, and an entry that another one made is as good.
    pub(crate) fn blob_names(&self, layout: Layout) -> impl Iterator<Item = &'static str> + use<> {
        let own = self.blob_name(layout);
        let others = ArtifactFile::ALL.into_iter().map(ArtifactFile::name).filter(move |name| *name != own);
        std::iter::once(own).chain(others.take(if layout == Layout::Sharded { 0 } else { usize::MAX }))
    }

    /// The artifact in the entry directory `dir`, under whatever name it lies there.
    pub(crate) fn blob_in(&self, dir: &Path, layout: Layout) -> PathBuf {
        let mut names = self.blob_names(layout);
        let is_file = |name: &&'static str| dir.join(name).symlink_metadata().is_ok_and(|meta| meta.is_file());
        dir.join(names.find(is_file).unwrap_or_else(|| self.blob_name(layout)))
    }

    pub(crate) fn partial(&self, content: &Digest) -> PathBuf {
        self.sub(Sub::Partial).join(format!("{}{PART_SUFFIX}", file_stem(content)))
    }

    pub(crate) fn lock(&self, name: &LockName) -> PathBuf {
        let name = match name {
            LockName::Digest(digest) => format!("{}{LOCK_SUFFIX}", file_stem(digest)),
            LockName::Key(key) => format!("key-{}{LOCK_SUFFIX}", key.to_hex()),
            LockName::Lease(pin) => format!("lease-{}{LOCK_SUFFIX}", file_stem(pin)),
            LockName::Gc => format!("gc{LOCK_SUFFIX}"),
            LockName::Bundles => format!("bundles{LOCK_SUFFIX}"),
            LockName::Retention => format!("retention{LOCK_SUFFIX}"),
            LockName::Endpoints => format!("endpoints{LOCK_SUFFIX}"),
        };
        self.sub(Sub::Locks).join(name)
    }

    /// The memory of a reference, named by the digest of its text.
    pub(crate) fn reference(&self, reference: &str) -> PathBuf {
        self.sub(Sub::Refs).join(format!("{}.json", Digest::sha256(reference.as_bytes()).to_hex()))
    }

    pub(crate) fn by_content(&self, content: &Digest) -> PathBuf {
        self.sub(Sub::ByContent).join(file_stem(content))
    }

    /// The record of a bundle: its id with every `:` replaced by `__`.
    pub(crate) fn bundle(&self, id: &BundleId) -> PathBuf {
        self.sub(Sub::Bundles).join(bundle_file(id))
    }

    /// The memory of a source of advisories, named by the digest of its text.
    pub(crate) fn advisory(&self, source: &str) -> PathBuf {
        self.sub(Sub::Advisories).join(format!("{}.json", Digest::sha256(source.as_bytes()).to_hex()))
    }

    /// The memory of endpoints that are left alone.
    pub(crate) fn endpoints(&self) -> PathBuf {
        self.sub(Sub::State).join(STATE_ENDPOINTS)
    }

    /// A new name in `sub` that nobody can guess.
    pub(crate) fn random(&self, sub: Sub) -> PathBuf {
        self.sub(sub).join(random_name())
    }
}

/// What a lock file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LockName {
    /// Work on a digest.
    Digest(Digest),
    /// Work on something that has no digest yet; the digest is that of the key's text.
    Key(Digest),
    /// Somebody works with the path of an entry, so that it must stay.
    Lease(Digest),
    /// Collection of garbage.
    Gc,
    /// A change of the bundle records.
    Bundles,
    /// Making room.
    Retention,
    /// A change of the endpoints that are left alone.
    Endpoints,
}

/// 32 hex characters from a random 128-bit number.
pub(crate) fn random_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn file_stem(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.to_hex())
}

fn parse_stem(stem: &str) -> Option<Digest> {
    let (algorithm, hex) = stem.split_once('-')?;
    Digest::from_hex(hex).ok().filter(|digest| digest.algorithm().name() == algorithm)
}

/// The file name of the record of a bundle.
pub(crate) fn bundle_file(id: &BundleId) -> String {
    format!("{}{BUNDLE_SUFFIX}", id.to_string().replace(':', "__"))
}

/// Whether a name in `bundles/` is to be a record: it ends with `.json` and is not hidden, as the files of desktops and
/// editors are.
pub(crate) fn is_bundle_file(name: &str) -> bool {
    name.ends_with(BUNDLE_SUFFIX) && !name.starts_with('.')
}

/// The bundle whose record has this file name.
pub(crate) fn parse_bundle_file(name: &str) -> Option<BundleId> {
    let id: BundleId = name.strip_suffix(BUNDLE_SUFFIX)?.replace("__", ":").parse().ok()?;
    // Only the one spelling that is written.
    (bundle_file(&id) == name).then_some(id)
}

/// The content digest in the name of a partial download.
pub(crate) fn parse_partial(name: &str) -> Option<Digest> {
    parse_stem(name.strip_suffix(PART_SUFFIX)?)
}

/// The note that says how much of a partial download counts, where it has holes.
pub(crate) fn note_of(part: &Path) -> PathBuf {
    part.with_extension(NOTE_EXTENSION)
}

/// The content digest in the name of such a note.
pub(crate) fn parse_note_name(name: &str) -> Option<Digest> {
    parse_stem(name.strip_suffix(NOTE_EXTENSION)?.strip_suffix('.')?)
}

/// The content digest in the name of a file of `refs/by-content`.
pub(crate) fn parse_by_content(name: &str) -> Option<Digest> {
    parse_stem(name)
}

/// The pin in the name of an entry directory.
pub(crate) fn parse_entry_dir(name: &str) -> Option<Digest> {
    Digest::from_hex(name).ok()
}

/// The pin of an entry of the older layout, from the names of its two directories.
pub(crate) fn parse_sharded(shard: &str, name: &str) -> Option<Digest> {
    if shard.len() != 2 || name.len() != 62 {
        return None;
    }
    Digest::from_hex(&format!("{shard}{name}")).ok()
}

/// The name of a quarantined entry: when, which, why.
pub(crate) fn quarantine_name(unix_seconds: u64, pin: &Digest, why: &str) -> String {
    let mut slug = String::new();
    for ch in why.chars().take(64) {
        match ch.to_ascii_lowercase() {
            ch @ ('a'..='z' | '0'..='9') => slug.push(ch),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(32);
    let random = fastrand::u32(..);
    format!("{unix_seconds:012}-{}-{}-{random:08x}", pin.to_hex(), slug.trim_end_matches('-'))
}

/// When a quarantined entry was put away, in unix seconds, from its name.
pub(crate) fn parse_quarantine_time(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

/// Whether a name is one that network file systems invent for files deleted while open.
pub(crate) fn is_silly_rename(name: &str) -> bool {
    name.starts_with(".nfs")
}

/// The names in a directory with their kinds, unsorted; names that are not UTF-8 are nobody's of ours and left out.
/// A directory that is not there is empty.
pub(crate) fn names(path: &Path) -> std::io::Result<Vec<(String, os::Kind)>> {
    let listing = match std::fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for item in listing {
        let item = item?;
        if let Ok(name) = item.file_name().into_string() {
            let kind = item.file_type().map_or(os::Kind::Other, os::Kind::of);
            names.push((name, kind));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_parse_back_to_the_digests_they_were_made_from() {
        let paths = Paths::new("/r".into(), ArtifactFile::Component);
        for digest in Algorithm::ALL.map(|algorithm| Digest::of(algorithm, b"x")) {
            let last = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(parse_partial(&last(paths.partial(&digest))), Some(digest));
            assert_eq!(parse_note_name(&last(note_of(&paths.partial(&digest)))), Some(digest));
            assert_eq!(parse_by_content(&last(paths.by_content(&digest))), Some(digest));
            assert_eq!(parse_entry_dir(&last(paths.entry_dir(&digest))), Some(digest));
            let id = BundleId::of(digest);
            assert_eq!(parse_bundle_file(&last(paths.bundle(&id))), Some(id));
        }
    }

    #[test]
    fn names_that_only_look_like_ours_are_not_ours() {
        let hex = Digest::sha256(b"x").to_hex();
        assert_eq!(parse_entry_dir(&hex.to_uppercase()), None);
        assert_eq!(parse_entry_dir(hex.get(1..).unwrap()), None);
        assert_eq!(parse_partial(&format!("sha512-{hex}.part")), None);
        assert_eq!(parse_partial(&format!("sha384-{hex}.part")), None);
        assert_eq!(parse_partial(&format!("sha256-{hex}.part.bak")), None);
        assert_eq!(parse_sharded("a", &hex), None);
        for name in [format!("bundle__{hex}.json"), format!("bundle:sha256:{hex}.json"), format!("{hex}.json")] {
            assert_eq!(parse_bundle_file(&name), None, "{name}");
        }
        assert_eq!(parse_sharded("..", &"a".repeat(62)), None);
    }

    proptest! {
        #[test]
        fn no_reference_and_no_reason_makes_a_path_that_leaves_its_directory(text in ".*", seconds in any::<u64>()) {
            let paths = Paths::new("/r".into(), ArtifactFile::Pack);
            let path = paths.reference(&text);
            prop_assert_eq!(path.parent(), Some(Path::new("/r/refs")));
            let name = quarantine_name(seconds, &Digest::sha256(text.as_bytes()), &text);
            prop_assert!(name.chars().all(|ch| ch.is_ascii_alphanumeric() || ch == '-'), "{}", name);
            prop_assert!(name.len() < 200);
            prop_assert_eq!(parse_quarantine_time(&name), Some(seconds));
        }
    }
}
