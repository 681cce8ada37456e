//! What a registry holds: blobs by digest, and per repository its manifests and tags.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use greentic_dist_types::{Digest, SafeText, limits, media_type};
use serde_json::Value;

use crate::disk::Disk;
use crate::journal::Journal;
use crate::tree::{Proof, Tree};
use crate::upload::Uploads;
use crate::{ServeError, name};

/// Largest blob taken into memory.
const MEMORY_BLOB_BYTES: u64 = 2 << 30;
/// Largest blob taken into a directory.
const DISK_BLOB_BYTES: u64 = 64 << 30;

/// The content of a registry.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) journal: Arc<Journal>,
    pub(crate) uploads: Uploads,
    blobs: Blobs,
    names: Mutex<Names>,
}

#[derive(Debug)]
enum Blobs {
    Memory(RwLock<HashMap<Digest, Bytes>>),
    Disk(Disk),
    /// Files of somebody else: read, never written.
    Tree(Arc<Tree>),
}

/// A blob that was found, open for reading.
#[derive(Debug)]
pub(crate) enum Content {
    /// In memory.
    Memory(Bytes),
    /// A file and its size when it was opened.
    File(File, u64),
    /// A file of somebody else and its size, which is sent only for as long as it is as it was hashed.
    Proven(File, u64, Proof),
}

/// A page of names, and whether there are more after it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) names: Vec<String>,
    pub(crate) more: bool,
}

/// The repositories, kept in memory whatever holds the blobs.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Entries of `index.json` that name no repository of ours; written back as they were.
    pub(crate) foreign: Vec<Value>,
}

/// One repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) manifests: BTreeMap<Digest, ManifestRecord>,
    pub(crate) tags: BTreeMap<String, Digest>,
}

/// What is known of a manifest without reading it again.
#[derive(Clone, Debug)]
pub(crate) struct ManifestRecord {
    pub(crate) media_type: String,
    pub(crate) size_bytes: u64,
    pub(crate) subject: Option<Digest>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Option<Value>,
}

impl Content {
    /// The size in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File(_, len) | Self::Proven(_, len, _) => *len,
        }
    }

    /// The whole content of a manifest.
    pub(crate) fn read_manifest(self) -> std::io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File(file, _) | Self::Proven(file, ..) => {
                let mut bytes = Vec::new();
                file.take(limits::MANIFEST_BYTES).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

impl ManifestRecord {
    /// Reads what the registry needs from a manifest; what is no JSON object has no facts.
    pub(crate) fn new(media_type: &str, bytes: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let digest = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Self {
            media_type: media_type.to_owned(),
            size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            subject: json.pointer("/subject/digest").and_then(digest),
            artifact_type: json
                .get("artifactType")
                .and_then(text)
                .or_else(|| json.pointer("/config/mediaType").and_then(text)),
            annotations: json.get("annotations").filter(|value| value.is_object()).cloned(),
        }
    }

    /// The descriptor of this manifest in a list of referrers.
    pub(crate) fn descriptor(&self, digest: Digest) -> Value {
        let mut out = serde_json::json!({
            "mediaType": self.media_type,
            "digest": digest.to_string(),
            "size": self.size_bytes,
        });
        if let Some(fields) = out.as_object_mut() {
            if let Some(kind) = &self.artifact_type {
                fields.insert("artifactType".to_owned(), kind.clone().into());
            }
            if let Some(annotations) = &self.annotations {
                fields.insert("annotations".to_owned(), annotations.clone());
            }
        }
        out
    }
}

impl Store {
    pub(crate) fn in_memory() -> Self {
        Self {
            journal: Arc::default(),
            uploads: Uploads::default(),
            blobs: Blobs::Memory(RwLock::default()),
            names: Mutex::default(),
        }
    }

    pub(crate) fn over_dir(path: PathBuf) -> Result<Self, ServeError> {
        let (disk, names) = Disk::open(path)?;
        Ok(Self {
            journal: Arc::default(),
            uploads: Uploads::default(),
            blobs: Blobs::Disk(disk),
            names: Mutex::new(names),
        })
    }

    pub(crate) fn over_tree(tree: Tree) -> Self {
        Self {
            journal: Arc::default(),
            uploads: Uploads::default(),
            blobs: Blobs::Tree(Arc::new(tree)),
            names: Mutex::default(),
        }
    }

    /// The directory of packs and components, when that is what is served.
    pub(crate) const fn tree(&self) -> Option<&Arc<Tree>> {
        match &self.blobs {
            Blobs::Tree(tree) => Some(tree),
            Blobs::Memory(_) | Blobs::Disk(_) => None,
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory, when the content is in one.
    pub(crate) const fn disk(&self) -> Option<&Disk> {
        match &self.blobs {
            Blobs::Memory(_) | Blobs::Tree(_) => None,
            Blobs::Disk(disk) => Some(disk),
        }
    }

    /// Largest blob that is taken.
    pub(crate) const fn blob_limit(&self) -> u64 {
        match &self.blobs {
            Blobs::Memory(_) => MEMORY_BLOB_BYTES,
            Blobs::Disk(_) | Blobs::Tree(_) => DISK_BLOB_BYTES,
        }
    }

    /// Opens a blob. What cannot be opened is not there.
    pub(crate) fn blob(&self, digest: Digest) -> Option<Content> {
        match &self.blobs {
            Blobs::Memory(blobs) => {
                let blobs = blobs.read().unwrap_or_else(PoisonError::into_inner);
                blobs.get(&digest).cloned().map(Content::Memory)
            }
            Blobs::Disk(disk) => disk.open_blob(digest).map(|(file, len)| Content::File(file, len)),
            // They are asked for where blocking is allowed.
            Blobs::Tree(_) => None,
        }
    }

    /// Keeps bytes that are known to have this digest.
    pub(crate) fn put_blob(&self, digest: Digest, bytes: Bytes) -> Result<(), ServeError> {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size_bytes > self.blob_limit() {
            return Err(ServeError::TooLarge { size_bytes, limit_bytes: self.blob_limit() });
        }
        match &self.blobs {
            Blobs::Memory(blobs) => {
                blobs.write().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes);
                Ok(())
            }
            Blobs::Disk(disk) => disk.write_blob(digest, &bytes),
            Blobs::Tree(_) => Err(ServeError::ReadOnly),
        }
    }

    /// Forgets a blob. `false` when there was none.
    pub(crate) fn remove_blob(&self, digest: Digest) -> Result<bool, ServeError> {
        match &self.blobs {
            Blobs::Memory(blobs) => Ok(blobs.write().unwrap_or_else(PoisonError::into_inner).remove(&digest).is_some()),
            Blobs::Disk(disk) => disk.remove_blob(digest),
            Blobs::Tree(_) => Err(ServeError::ReadOnly),
        }
    }

    /// Keeps a manifest under its digest and under `references`, each a tag or that digest.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        references: &[&str],
        media_type: &str,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<(), ServeError> {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size_bytes > limits::MANIFEST_BYTES {
            return Err(ServeError::TooLarge { size_bytes, limit_bytes: limits::MANIFEST_BYTES });
        }
        if !name::is_repository(repository) {
            return Err(ServeError::Name { name: SafeText::excerpt(repository, limits::SHOWN_CHARS) });
        }
        let own = digest.to_string();
        let is_ours = |reference: &&str| **reference == own || name::is_tag(reference);
        if let Some(bad) = references.iter().find(|reference| !is_ours(reference)) {
            return Err(ServeError::Reference { reference: SafeText::excerpt(bad, limits::SHOWN_CHARS), digest });
        }
        let record = ManifestRecord::new(media_type, &bytes);
        self.put_blob(digest, bytes)?;
        let mut names = self.names();
        let entry = names.repositories.entry(repository.to_owned()).or_default();
        entry.manifests.insert(digest, record);
        for tag in references.iter().filter(|reference| **reference != own) {
            entry.tags.insert((*tag).to_owned(), digest);
        }
        self.save(&names)
    }

    /// The digest a tag stands for, or the digest itself, where the repository has that manifest, with its bytes.
    pub(crate) fn find_manifest(&self, repository: &str, reference: &str) -> Option<(Digest, ManifestRecord, Content)> {
        let names = self.names();
        let repository = names.repositories.get(repository)?;
        let digest = match repository.tags.get(reference) {
            Some(digest) => *digest,
            None => reference.parse().ok()?,
        };
        let record = repository.manifests.get(&digest)?.clone();
        drop(names);
        Some((digest, record, self.blob(digest)?))
    }

    /// Removes a tag, or a manifest with every tag that names it. `false` when there was none.
    pub(crate) fn remove_manifest(&self, repository: &str, reference: &str) -> Result<bool, ServeError> {
        if self.tree().is_some() {
            return Err(ServeError::ReadOnly);
        }
        let mut names = self.names();
        let Some(entry) = names.repositories.get_mut(repository) else { return Ok(false) };
        let removed = match reference.parse::<Digest>() {
            Ok(digest) => {
                entry.tags.retain(|_, named| *named != digest);
                entry.manifests.remove(&digest).is_some()
            }
            Err(_not_a_digest) => entry.tags.remove(reference).is_some(),
        };
        if removed {
            self.save(&names)?;
        }
        Ok(removed)
    }

    /// The tags after `last`, at most `count`. `None` for an unknown repository.
    pub(crate) fn tags(&self, repository: &str, last: Option<&str>, count: usize) -> Option<Page> {
        self.names().repositories.get(repository).map(|entry| Page::of(entry.tags.keys(), last, count))
    }

    /// The repositories after `last`, at most `count`.
    pub(crate) fn repositories(&self, last: Option<&str>, count: usize) -> Page {
        Page::of(self.names().repositories.keys(), last, count)
    }

    /// The manifests whose subject is `subject`, by digest.
    pub(crate) fn referrers(&self, repository: &str, subject: Digest) -> Vec<(Digest, ManifestRecord)> {
        let names = self.names();
        let manifests = names.repositories.get(repository).map(|entry| entry.manifests.iter());
        manifests
            .into_iter()
            .flatten()
            .filter(|(_, record)| record.subject == Some(subject))
            .map(|(digest, record)| (*digest, record.clone()))
            .collect()
    }

    fn save(&self, names: &Names) -> Result<(), ServeError> {
        self.disk().map_or(Ok(()), |disk| disk.write_index(names))
    }
}

impl Page {
    pub(crate) fn of<'a>(sorted: impl Iterator<Item = &'a String>, last: Option<&str>, count: usize) -> Self {
        let mut rest = sorted.filter(|name| last.is_none_or(|last| name.as_str() > last));
        let names = rest.by_ref().take(count).cloned().collect();
        Self { names, more: count > 0 && rest.next().is_some() }
    }
}

/// The blobs a manifest needs in the registry that takes it: its config and its layers (an artifact manifest's `blobs`), except those that are kept
/// elsewhere. Children of an index may come later.
pub(crate) fn needed_blobs(manifest: &Value) -> Vec<Digest> {
    let list = |key: &str| manifest.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let own = list("layers").iter().chain(list("blobs")).filter(|layer| layer.get("urls").is_none());
    manifest
        .get("config")
        .into_iter()
        .chain(own)
        .filter(|descriptor| {
            let kind = descriptor.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            !kind.contains("nondistributable") && !kind.contains("foreign")
        })
        .filter_map(|descriptor| descriptor.get("digest")?.as_str()?.parse().ok())
        .collect()
}

/// Whether a media type is one a manifest may be pushed as.
pub(crate) fn is_manifest_type(essence: &str) -> bool {
    matches!(
        essence,
        media_type::OCI_MANIFEST
            | media_type::OCI_INDEX
            | media_type::OCI_ARTIFACT
            | media_type::DOCKER_MANIFEST
            | media_type::DOCKER_INDEX
    )
}
