//! The directory form: an OCI image layout whose `index.json` names every repository and tag.
//!
//! ```text
//! <root>/oci-layout
//! <root>/index.json            one descriptor per tag, and one per manifest without a tag
//! <root>/blobs/<algorithm>/<hex>
//! <root>/uploads/<random>      unfinished uploads; emptied when the registry is opened
//! <root>/.lock                 held while a registry has the directory open
//! ```
//!
//! Files appear under their final name by a rename and are never half written there. They are not synced: a power cut may
//! lose what was pushed last. `index.json` is written whole on every push of a manifest.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use greentic_dist_types::{Algorithm, Digest, limits, media_type};
use serde_json::{Value, json};

use crate::store::{ManifestRecord, Names};
use crate::{ServeError, name};

/// `repository:tag` of a tagged manifest, or the tag alone in layouts made by others.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The repository of a manifest without a tag.
const REPOSITORY: &str = "ai.greentic.registry.repository";
/// Largest `index.json` that is read: some 200 000 manifests.
const INDEX_BYTES: u64 = 64 << 20;

/// An open, locked directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    _lock: File,
}

/// A file under `uploads/` that is removed unless it was renamed away.
#[derive(Debug)]
pub(crate) struct TempPath(PathBuf);

impl TempPath {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        // Gone already when it was renamed; a file that stays is removed when the directory is opened next.
        let _gone = fs::remove_file(&self.0);
    }
}

impl Disk {
    pub(crate) fn open(root: PathBuf) -> Result<(Self, Names), ServeError> {
        for algorithm in Algorithm::ALL {
            let dir = root.join("blobs").join(algorithm.name());
            fs::create_dir_all(&dir).map_err(ServeError::io("create", dir))?;
        }
        let lock_path = root.join(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(ServeError::io("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServeError::InUse { path: root }),
            Err(TryLockError::Error(source)) => return Err(ServeError::io("lock", lock_path)(source)),
        }
        let uploads = root.join("uploads");
        if let Err(error) = fs::remove_dir_all(&uploads)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(ServeError::io("remove", uploads)(error));
        }
        fs::create_dir_all(&uploads).map_err(ServeError::io("create", uploads))?;
        let disk = Self { root, _lock: lock };
        let names = disk.read_index()?;
        disk.write_file(&disk.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok((disk, names))
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.to_hex())
    }

    /// Opens a blob with its size. `None` when there is no such regular file.
    pub(crate) fn open_blob(&self, digest: Digest) -> Option<(File, u64)> {
        let file = File::open(self.blob_path(digest)).ok()?;
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((file, meta.len()))
    }

    pub(crate) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), ServeError> {
        self.write_file(&self.blob_path(digest), bytes)
    }

    pub(crate) fn remove_blob(&self, digest: Digest) -> Result<bool, ServeError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ServeError::io("remove", path)(error)),
        }
    }

    /// A new file for an upload.
    pub(crate) fn new_upload(&self) -> Result<(File, TempPath), ServeError> {
        let path = self.root.join("uploads").join(random_name());
        match OpenOptions::new().create_new(true).read(true).write(true).open(&path) {
            Ok(file) => Ok((file, TempPath(path))),
            Err(error) => Err(ServeError::io("create", path)(error)),
        }
    }

    /// Gives a finished upload its name.
    pub(crate) fn keep_upload(&self, upload: &TempPath, digest: Digest) -> Result<(), ServeError> {
        let path = self.blob_path(digest);
        fs::rename(upload.path(), &path).map_err(ServeError::io("rename", path))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), ServeError> {
        let (mut file, temp) = self.new_upload()?;
        file.write_all(bytes).map_err(ServeError::io("write", temp.path()))?;
        fs::rename(temp.path(), path).map_err(ServeError::io("rename", path))
    }

    pub(crate) fn write_index(&self, names: &Names) -> Result<(), ServeError> {
        let mut manifests = names.foreign.clone();
        for (repository, entry) in &names.repositories {
            let descriptor = |digest: &Digest, key: &str, value: String| {
                let record = entry.manifests.get(digest)?;
                let mut annotations = serde_json::Map::new();
                annotations.insert(key.to_owned(), value.into());
                Some(json!({
                    "mediaType": record.media_type,
                    "digest": digest.to_string(),
                    "size": record.size_bytes,
                    "annotations": annotations,
                }))
            };
            let tagged = entry
                .tags
                .iter()
                .filter_map(|(tag, digest)| descriptor(digest, REF_NAME, format!("{repository}:{tag}")));
            manifests.extend(tagged);
            for digest in entry.manifests.keys().filter(|digest| !entry.tags.values().any(|named| named == *digest)) {
                manifests.extend(descriptor(digest, REPOSITORY, repository.clone()));
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
        self.write_file(&self.root.join("index.json"), index.to_string().as_bytes())
    }

    fn read_index(&self) -> Result<Names, ServeError> {
        let path = self.root.join("index.json");
        let bytes = match read_capped(&path, INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Names::default()),
            Err(error) => return Err(ServeError::io("read", path)(error)),
        };
        let index: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ServeError::Layout { path: path.clone(), problem: error.to_string() })?;
        let Some(entries) = index.get("manifests").and_then(Value::as_array) else {
            return Err(ServeError::Layout { path, problem: "no `manifests` list".to_owned() });
        };
        let mut names = Names::default();
        for entry in entries {
            if self.take_entry(entry, &mut names).is_none() {
                names.foreign.push(entry.clone());
            }
        }
        Ok(names)
    }

    /// Takes one entry of `index.json` into `names`. `None` when it names no repository.
    fn take_entry(&self, entry: &Value, names: &mut Names) -> Option<()> {
        let annotation = |key: &str| entry.get("annotations")?.get(key)?.as_str();
        let digest: Digest = entry.get("digest")?.as_str()?.parse().ok()?;
        let media_type = entry.get("mediaType")?.as_str()?;
        let (repository, tag) = match annotation(REF_NAME).and_then(|text| text.rsplit_once(':')) {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (annotation(REPOSITORY)?, None),
        };
        if !name::is_repository(repository) || tag.is_some_and(|tag| !name::is_tag(tag)) {
            return None;
        }
        // A manifest that is gone keeps its name: asking for it says so.
        let bytes = read_capped(&self.blob_path(digest), limits::MANIFEST_BYTES).unwrap_or_default();
        let place = names.repositories.entry(repository.to_owned()).or_default();
        place.manifests.entry(digest).or_insert_with(|| ManifestRecord::new(media_type, &bytes));
        if let Some(tag) = tag {
            place.tags.insert(tag.to_owned(), digest);
        }
        Some(())
    }
}

fn read_capped(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// 32 random hex characters. Not secret: the registry is open to everybody on this machine.
pub(crate) fn random_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}
