//! Packs and components in a directory, served as a registry would: each version is an artifact with a manifest made for it.
//!
//! ```text
//! <root>/components/<id>-<version>.wasm     components/<id>:<version>
//! <root>/packs/<id>-<version>.gtpack        packs/<id>:<version>
//! ```
//!
//! The directory is the only truth and is never written to. A file is hashed when somebody asks for its artifact, and again
//! when it changed since; nothing is read at the start.

mod place;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use greentic_dist_types::{Algorithm, Digest, Hasher, media_type};
use serde_json::json;

pub use place::TreeLayout;
pub(crate) use place::{Kind, Missing, Name};

use crate::store::{Content, ManifestRecord};
use crate::{ServeError, name};

/// The configuration of every artifact served here: none, by the convention of the image specification.
const EMPTY: &[u8] = b"{}";
/// Its media type.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The media type of a pack's one layer.
const PACK_TYPE: &str = "application/vnd.greentic.gtpack.v1+zip";
/// Bytes read at a time while a file is hashed.
const PIECE_BYTES: usize = 256 << 10;
/// Most artifacts remembered; beyond it the table starts anew.
const REMEMBERED: usize = 100_000;

/// A directory of packs and components.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    layout: TreeLayout,
    known: Mutex<Known>,
}

/// What was found out by hashing.
#[derive(Debug, Default)]
struct Known {
    artifacts: HashMap<Name, Arc<Artifact>>,
    blobs: HashMap<Digest, Arc<Artifact>>,
}

/// One version of a pack or component, as it was when it was hashed.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) name: Name,
    pub(crate) content: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) changed_at: Option<SystemTime>,
    pub(crate) manifest: Bytes,
    pub(crate) manifest_digest: Digest,
}

impl Tree {
    /// # Errors
    /// [`ServeError::Io`] when there is no such directory.
    pub(crate) fn open(root: &Path, layout: TreeLayout) -> Result<Self, ServeError> {
        let real = root.canonicalize().map_err(ServeError::io("open", root))?;
        if !real.is_dir() {
            return Err(ServeError::io("open", root)(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { root: real, layout, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The artifact of a name, hashed now unless that was done before and the file is as it was. Blocks for as long as reading
    /// the file takes.
    ///
    /// # Errors
    /// [`Missing`]; a file that cannot be read is not there.
    pub(crate) fn artifact(&self, name: &Name) -> Result<Arc<Artifact>, Missing> {
        let (_, file, meta) = place::open(&self.root, self.layout, name)?;
        if let Some(known) = self.known().artifacts.get(name)
            && known.is_as(&meta)
        {
            return Ok(Arc::clone(known));
        }
        let artifact = Artifact::read(name, file).map(Arc::new).map_err(|error| {
            tracing::debug!(?name, %error, "an artifact could not be read");
            Missing::File
        })?;
        let mut known = self.known();
        if known.artifacts.len() >= REMEMBERED {
            *known = Known::default();
        }
        if let Some(before) = known.artifacts.insert(name.clone(), Arc::clone(&artifact)) {
            known.blobs.retain(|_, held| !Arc::ptr_eq(held, &before));
        }
        known.blobs.insert(artifact.content, Arc::clone(&artifact));
        known.blobs.insert(artifact.manifest_digest, Arc::clone(&artifact));
        Ok(artifact)
    }

    /// The versions of an artifact, sorted as text.
    pub(crate) fn versions(&self, kind: Kind, id: &str) -> Vec<String> {
        place::versions(&self.root, self.layout, kind, id).into_iter().collect()
    }

    /// The repositories whose names the distribution specification allows, sorted.
    pub(crate) fn repositories(&self) -> Vec<String> {
        let of = |kind: Kind| place::ids(&self.root, self.layout, kind).into_iter().map(move |id| (kind, id));
        let named = Kind::ALL.into_iter().flat_map(of).filter(|(kind, id)| !self.versions(*kind, id).is_empty());
        named.map(|(kind, id)| format!("{}/{id}", kind.dir())).filter(|name| name::is_repository(name)).collect()
    }

    /// The tags of a repository, sorted; `None` when there is nothing of that name.
    pub(crate) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        let names = self.names(repository);
        let mut tags: Vec<String> = names.iter().map(Name::tag).filter(|tag| name::is_tag(tag)).collect();
        tags.sort_unstable();
        (!names.is_empty()).then_some(tags)
    }

    /// Every version of a repository.
    fn names(&self, repository: &str) -> Vec<Name> {
        let split = repository.split_once('/');
        let found = split.and_then(|(dir, id)| Some((Kind::ALL.into_iter().find(|kind| kind.dir() == dir)?, id)));
        let Some((kind, id)) = found else { return Vec::new() };
        let versions = self.versions(kind, id);
        versions.iter().filter_map(|version| Name::new(kind, id, version).ok()).collect()
    }

    /// Hashes what a question about a manifest or blob may need, so that answering it is quick: call it where blocking is
    /// allowed.
    pub(crate) fn prepare(&self, repository: &str, reference: &str) {
        let digest = reference.parse::<Digest>().ok();
        if digest.is_some_and(|digest| self.blob(digest).is_some()) {
            return;
        }
        for name in self.names(repository) {
            if digest.is_none() && name.tag() != reference {
                continue;
            }
            let found = self.artifact(&name);
            if found.is_ok_and(|found| digest.is_none_or(|digest| found.has(digest))) {
                return;
            }
        }
    }

    /// The manifest of a tag or digest, when it was prepared.
    pub(crate) fn find_manifest(&self, repository: &str, reference: &str) -> Option<(Digest, ManifestRecord)> {
        let known = self.known();
        let digest = reference.parse::<Digest>().ok();
        let artifact = known.artifacts.values().find(|artifact| {
            artifact.name.repository() == repository
                && digest.map_or_else(|| artifact.name.tag() == reference, |digest| artifact.manifest_digest == digest)
        })?;
        Some((artifact.manifest_digest, ManifestRecord::new(media_type::OCI_MANIFEST, &artifact.manifest)))
    }

    /// A manifest, a configuration or an artifact's file, when it was prepared and the file is as it was.
    pub(crate) fn blob(&self, digest: Digest) -> Option<Content> {
        if digest == Digest::sha256(EMPTY) {
            return Some(Content::Memory(Bytes::from_static(EMPTY)));
        }
        let artifact = self.known().blobs.get(&digest).map(Arc::clone)?;
        if artifact.manifest_digest == digest {
            return Some(Content::Memory(artifact.manifest.clone()));
        }
        let (_, file, meta) = place::open(&self.root, self.layout, &artifact.name).ok()?;
        artifact.is_as(&meta).then_some(Content::File(file, artifact.size_bytes))
    }
}

impl Artifact {
    fn read(name: &Name, mut file: File) -> io::Result<Self> {
        let before = file.metadata()?;
        let (mut hasher, mut size_bytes) = (Hasher::new(Algorithm::Sha256), 0_u64);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            size_bytes += u64::try_from(read).unwrap_or_default();
        }
        let content = hasher.finish();
        let manifest = Bytes::from(manifest(name, content, size_bytes));
        let artifact = Self {
            name: name.clone(),
            content,
            size_bytes,
            changed_at: before.modified().ok(),
            manifest_digest: Digest::sha256(&manifest),
            manifest,
        };
        // What was written to meanwhile is hashed again by the next question.
        if artifact.is_as(&file.metadata()?) { Ok(artifact) } else { Err(io::Error::other("the file changed")) }
    }

    fn has(&self, digest: Digest) -> bool {
        self.content == digest || self.manifest_digest == digest
    }

    /// Whether the file is as it was hashed, as far as its size and its time tell.
    fn is_as(&self, meta: &Metadata) -> bool {
        meta.len() == self.size_bytes && meta.modified().ok() == self.changed_at
    }
}

/// The manifest of an artifact: the same bytes for the same name and content, always.
fn manifest(name: &Name, content: Digest, size_bytes: u64) -> Vec<u8> {
    let layer = match name.kind {
        Kind::Component => media_type::WASM,
        Kind::Pack => PACK_TYPE,
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": layer,
        "config": { "mediaType": EMPTY_TYPE, "digest": Digest::sha256(EMPTY).to_string(), "size": EMPTY.len() },
        "layers": [{ "mediaType": layer, "digest": content.to_string(), "size": size_bytes }],
        "annotations": {
            "org.opencontainers.image.title": name.id,
            "org.opencontainers.image.version": name.version,
        },
    });
    document.to_string().into_bytes()
}
