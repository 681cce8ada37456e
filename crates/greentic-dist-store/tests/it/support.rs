//! A store in a temporary directory, and artifacts to put into it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use greentic_dist_store::{
    Durability, Entry, EntryDraft, EntryRecord, Expected, Proof, Published, SourceSnapshot, Staged, Store, StoreError,
    StoreErrorKind, StoreOptions,
};
use greentic_dist_types::{ArtifactSourceKind, ArtifactType, Digest};

/// A store whose directory goes away with it. Nothing is synced, for speed; `synced` has the default.
pub(crate) struct Cache {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

impl std::ops::Deref for Cache {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(crate) fn unsynced() -> StoreOptions {
    StoreOptions { durability: Durability::Unsynced, ..StoreOptions::default() }
}

pub(crate) fn cache() -> Cache {
    cache_with(unsynced())
}

pub(crate) fn cache_with(options: StoreOptions) -> Cache {
    let dir = tempfile::tempdir().unwrap();
    Cache { store: Store::with_options(dir.path().join("cache"), options), dir }
}

pub(crate) fn record() -> EntryRecord {
    let source = SourceSnapshot {
        raw_ref: "oci://registry.example/acme/tool:1".into(),
        canonical_ref: "oci://registry.example/acme/tool@pinned".into(),
        source_kind: ArtifactSourceKind::Oci,
        authoritative: false,
    };
    EntryRecord::new(ArtifactType::Component, source, "application/wasm")
}

/// An image manifest with one Wasm layer for each of `layers`.
pub(crate) fn manifest_of(layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|bytes| {
            format!(r#"{{"mediaType":"application/wasm","digest":"{}","size":{}}}"#, Digest::sha256(bytes), bytes.len())
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{}","size":2}},"layers":[{}]}}"#,
        Digest::sha256(b"{}"),
        layers.join(",")
    )
    .into_bytes()
}

/// An artifact of an OCI registry: bytes, the manifest that names them, and the pin that names that.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) pin: Digest,
}

pub(crate) fn artifact(bytes: &[u8]) -> Artifact {
    let manifest = manifest_of(&[bytes]);
    Artifact { bytes: bytes.to_vec(), content: Digest::sha256(bytes), pin: Digest::sha256(&manifest), manifest }
}

impl Artifact {
    pub(crate) fn expected(&self) -> Expected {
        Expected { digest: self.content, size_bytes: self.bytes.len() as u64 }
    }

    pub(crate) fn draft(&self) -> EntryDraft {
        EntryDraft::of_manifest(self.pin, self.manifest.clone(), record())
    }

    pub(crate) fn stage_in(&self, store: &Store) -> Staged {
        let lock = store.lock(&self.content, &mut |_| ()).unwrap();
        let mut ingest = store.ingest(&lock, self.expected()).unwrap();
        ingest.restart().unwrap();
        ingest.write(&self.bytes).unwrap();
        ingest.finish().unwrap().stage(self.draft()).unwrap()
    }

    pub(crate) fn publish_in(&self, store: &Store) -> Published {
        store.publish(self.stage_in(store)).unwrap()
    }
}

/// Publishes bytes under their own digest, as for a file or a URL.
pub(crate) fn publish_content(store: &Store, bytes: &[u8]) -> Entry {
    let mut ingest = store.ingest_measured(1 << 30).unwrap();
    ingest.write(bytes).unwrap();
    let staged = ingest.finish().unwrap().stage(EntryDraft::of_content(record())).unwrap();
    store.publish(staged).unwrap().entry
}

/// The bytes an entry hands out; panics when it does not open.
pub(crate) fn bytes_of(store: &Store, key: &Digest, proof: Proof) -> Vec<u8> {
    try_bytes_of(store, key, proof).unwrap().expect("there is an entry")
}

pub(crate) fn try_bytes_of(store: &Store, key: &Digest, proof: Proof) -> Result<Option<Vec<u8>>, StoreError> {
    use std::io::Read;
    let Some(mut open) = store.open(key, proof)? else { return Ok(None) };
    let mut bytes = Vec::new();
    open.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(open.entry.content_digest, Digest::sha256(&bytes), "an entry was opened with other bytes than it says");
    assert_eq!(open.entry.record.size_bytes, bytes.len() as u64);
    Ok(Some(bytes))
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    *result.expect_err("it should have been refused").kind()
}

/// Every path below `dir` with its kind, mode, size and, for files, digest.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let what = if meta.is_dir() {
            pending.extend(path.read_dir().unwrap().map(|item| item.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_file() {
            format!("{} bytes {}", meta.len(), Digest::sha256(&std::fs::read(&path).unwrap()))
        } else if meta.file_type().is_symlink() {
            format!("link to {}", path.read_link().unwrap().display())
        } else {
            "special".to_owned()
        };
        found.insert(path.strip_prefix(dir).unwrap().to_owned(), format!("{:o} {what}", meta.mode()));
    }
    found
}

/// The names in a directory of the cache, sorted; none when it is missing.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let Ok(listing) = path.read_dir() else { return Vec::new() };
    let mut names: Vec<String> = listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asserts that nobody left anything in the making behind.
pub(crate) fn assert_tidy(store: &Store) {
    for sub in ["tmp", "locks", "trash"] {
        assert_eq!(names(&store.root().join(sub)), Vec::<String>::new(), "{sub}/ is not empty");
    }
}

pub(crate) fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Lets time stamps of the file system move on: changes that follow show in the change time on any kernel.
pub(crate) fn let_the_clock_tick() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}
