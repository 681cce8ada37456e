//! Packs and components in a directory, served as a registry would: each version is an artifact with a manifest made for it.
//!
//! ```text
//! <root>/components/<id>-<version>.wasm     components/<id>:<version>
//! <root>/packs/<id>-<version>.gtpack        packs/<id>:<version>
//! ```
//!
//! The directory is the only truth and is never written to. A file is hashed when somebody asks for its artifact, and again
//! when it changed since; nothing is read at the start. Everything that touches the directory runs where blocking is allowed, and
//! only so much of it at once.

mod beneath;
mod known;
mod place;
mod stamp;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use greentic_dist_types::{Algorithm, Digest, Hasher, media_type};
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use known::Known;
pub use place::TreeLayout;
pub(crate) use place::{Kind, Missing, Name};
use stamp::Stamp;

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
/// Most files hashed at once; further questions for others wait.
const HASHED_AT_ONCE: usize = 4;
/// Most questions at once that look through a directory; more wait.
const LISTED_AT_ONCE: usize = 4;

/// A directory of packs and components.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    layout: TreeLayout,
    known: Mutex<Known>,
    /// Whose file is being hashed: who asks for it too waits for the result.
    turns: Mutex<HashMap<Name, Weak<tokio::sync::Mutex<()>>>>,
    hashing: Arc<Semaphore>,
    listing: Arc<Semaphore>,
}

/// One version of a pack or component, as it was when it was hashed.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) name: Name,
    pub(crate) content: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) stamp: Stamp,
    pub(crate) manifest: Bytes,
    pub(crate) manifest_digest: Digest,
}

/// An artifact whose file is there and is as it was hashed, and that file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) artifact: Arc<Artifact>,
    file: File,
}

impl Tree {
    /// # Errors
    /// [`ServeError::Io`] when there is no such directory.
    pub(crate) fn open(root: &Path, layout: TreeLayout) -> Result<Self, ServeError> {
        let real = root.canonicalize().map_err(ServeError::io("open", root))?;
        if !real.is_dir() {
            return Err(ServeError::io("open", root)(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self {
            root: real,
            layout,
            known: Mutex::default(),
            turns: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHED_AT_ONCE)),
            listing: Arc::new(Semaphore::new(LISTED_AT_ONCE)),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs where blocking is allowed. What began there ends there, also when nobody waits for it any more.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Missing> {
        let tree = Arc::clone(self);
        tokio::task::spawn_blocking(move || ask(&tree)).await.map_err(|_ended| Missing::Stopping)
    }

    /// Looks through a directory, when not too many do. The right to it ends with the work, not with the question: who asked may be
    /// gone.
    async fn list<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Missing> {
        let permit = permit(&self.listing).await?;
        let asked = self.on_disk(move |tree| {
            let _permit = permit;
            ask(tree)
        });
        asked.await
    }

    /// The artifact of a name, hashed now unless that was done before and the file is as it was. Several that ask for the same one
    /// wait for one hash.
    ///
    /// # Errors
    /// [`Missing`], as far as it is about files.
    pub(crate) async fn artifact(self: &Arc<Self>, name: &Name) -> Result<Found, Missing> {
        let asked = name.clone();
        if let Some(found) = self.on_disk(move |tree| tree.recall(&asked)).await?? {
            return Ok(found);
        }
        let turn = self.turn(name).await;
        let permit = permit(&self.hashing).await?;
        let asked = name.clone();
        let hashed = self.on_disk(move |tree| {
            let (_turn, _permit) = (turn, permit);
            tree.recall(&asked)?.map_or_else(|| tree.hash(&asked), Ok)
        });
        hashed.await?
    }

    async fn turn(&self, name: &Name) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let running = turns.get(name).and_then(Weak::upgrade);
            running.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(name.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// The artifact as it was hashed, unless its file changed since. Blocks for a few system calls.
    fn recall(&self, name: &Name) -> Result<Option<Found>, Missing> {
        let (file, meta) = place::open(&self.root, self.layout, name).inspect_err(|_gone| self.known().forget(name))?;
        let artifact = self.known().get(name).filter(|artifact| artifact.stamp == Stamp::of(&meta));
        Ok(artifact.map(|artifact| Found { artifact, file }))
    }

    /// Hashes a file. Blocks for as long as reading it takes.
    fn hash(&self, name: &Name) -> Result<Found, Missing> {
        let (mut file, meta) = place::open(&self.root, self.layout, name)?;
        // A write that comes now could leave the stamp as it is.
        let wait = Stamp::of(&meta).settles_in(SystemTime::now());
        std::thread::sleep(wait.min(Stamp::patience()));
        let began_at = SystemTime::now();
        let artifact = match Artifact::read(name, &mut file) {
            Ok(artifact) => Arc::new(artifact.ok_or(Missing::Changing)?),
            Err(error) => return Err(Missing::unreadable(&error)),
        };
        // With a clock that was set back nothing settles; the file is then hashed for every question.
        if artifact.stamp.settles_in(began_at) == Duration::ZERO {
            self.known().remember(&artifact);
        }
        Ok(Found { artifact, file })
    }

    /// The versions of an artifact, newest first.
    ///
    /// # Errors
    /// [`Missing::Stopping`].
    pub(crate) async fn versions(self: &Arc<Self>, kind: Kind, id: &str) -> Result<Vec<String>, Missing> {
        let id = id.to_owned();
        let mut versions = self.list(move |tree| place::versions(&tree.root, tree.layout, kind, &id)).await?;
        versions.sort_by_cached_key(|version| std::cmp::Reverse(semver::Version::parse(version).ok()));
        Ok(versions)
    }

    /// The repositories whose names the distribution specification allows, sorted.
    ///
    /// # Errors
    /// [`Missing::Stopping`].
    pub(crate) async fn repositories(self: &Arc<Self>) -> Result<BTreeSet<String>, Missing> {
        let listed = self.list(|tree| {
            let of = |kind: Kind| place::ids(&tree.root, tree.layout, kind).into_iter().map(move |id| (kind, id));
            let named = Kind::ALL.into_iter().flat_map(of).map(|(kind, id)| format!("{}/{id}", kind.dir()));
            named.filter(|name| name::is_repository(name)).collect()
        });
        listed.await
    }

    /// The tags of a repository, sorted; `None` when there is nothing of that name.
    ///
    /// # Errors
    /// [`Missing::Stopping`].
    pub(crate) async fn tags(self: &Arc<Self>, repository: &str) -> Result<Option<BTreeSet<String>>, Missing> {
        let names = self.names(repository).await?;
        let tags = names.iter().map(Name::tag).filter(|tag| name::is_tag(tag)).collect();
        Ok((!names.is_empty()).then_some(tags))
    }

    /// Every version of a repository, newest first.
    async fn names(self: &Arc<Self>, repository: &str) -> Result<Vec<Name>, Missing> {
        let Some((kind, id)) = place::split(repository) else { return Ok(Vec::new()) };
        let versions = self.versions(kind, id).await?;
        Ok(versions.iter().filter_map(|version| Name::new(kind, id, version).ok()).collect())
    }

    /// The manifest of a tag or digest.
    ///
    /// # Errors
    /// [`Missing`]; of a digest nothing but that there is none.
    pub(crate) async fn manifest(
        self: &Arc<Self>,
        repository: &str,
        reference: &str,
    ) -> Result<(Digest, ManifestRecord, Content), Missing> {
        let found = match reference.parse::<Digest>() {
            Ok(digest) => self.found(repository, digest, |artifact| artifact.manifest_digest == digest).await?,
            Err(_a_tag) => self.artifact(&Name::of_tag(repository, reference)?).await?,
        };
        let manifest = found.artifact.manifest.clone();
        let record = ManifestRecord::new(media_type::OCI_MANIFEST, &manifest);
        Ok((found.artifact.manifest_digest, record, Content::Memory(manifest)))
    }

    /// A manifest, a configuration or an artifact's file.
    ///
    /// # Errors
    /// [`Missing::File`] and [`Missing::Stopping`].
    pub(crate) async fn blob(self: &Arc<Self>, repository: &str, digest: Digest) -> Result<Content, Missing> {
        if digest == Digest::sha256(EMPTY) {
            return Ok(Content::Memory(Bytes::from_static(EMPTY)));
        }
        let has = |artifact: &Artifact| artifact.content == digest || artifact.manifest_digest == digest;
        let Found { artifact, file } = self.found(repository, digest, has).await?;
        if artifact.content == digest {
            let proof = Proof { content: digest, stamp: artifact.stamp };
            return Ok(Content::Proven(file, artifact.size_bytes, proof));
        }
        Ok(Content::Memory(artifact.manifest.clone()))
    }

    /// The artifact that has a digest: one that was hashed before, or else one of the repository, whose versions are then hashed.
    async fn found(
        self: &Arc<Self>,
        repository: &str,
        digest: Digest,
        has: impl Fn(&Artifact) -> bool,
    ) -> Result<Found, Missing> {
        let known = self.known().names(digest);
        // Whoever needs a name of another repository read its manifest there: a blob is the same under every name.
        let (own, others): (Vec<Name>, Vec<Name>) = known.into_iter().partition(|name| name.repository() == repository);
        let elsewhere = others.into_iter().filter(|name| !self.is_manifest(name, digest));
        for name in own.into_iter().chain(elsewhere) {
            if let Some(found) = self.artifact(&name).await.ok().filter(|found| has(&found.artifact)) {
                return Ok(found);
            }
        }
        for name in self.names(repository).await? {
            match self.artifact(&name).await {
                Ok(found) if has(&found.artifact) => return Ok(found),
                Err(Missing::Stopping) => return Err(Missing::Stopping),
                Ok(_) | Err(_) => {}
            }
        }
        Err(Missing::File)
    }

    fn is_manifest(&self, name: &Name, digest: Digest) -> bool {
        self.known().get(name).is_some_and(|artifact| artifact.manifest_digest == digest)
    }
}

impl Artifact {
    /// `None` when the file was written to meanwhile.
    fn read(name: &Name, file: &mut File) -> io::Result<Option<Self>> {
        let stamp = Stamp::of(&file.metadata()?);
        let (content, size_bytes) = digest_of(file)?;
        if Stamp::of(&file.metadata()?) != stamp {
            return Ok(None);
        }
        let manifest = Bytes::from(manifest(name, content, size_bytes));
        let manifest_digest = Digest::sha256(&manifest);
        Ok(Some(Self { name: name.clone(), content, size_bytes, stamp, manifest, manifest_digest }))
    }
}

/// That an open file has a digest: it had when it was hashed, and its stamp is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    content: Digest,
    stamp: Stamp,
}

impl Proof {
    /// Whether the stamp is as it was.
    pub(crate) fn holds(&self, file: &File) -> io::Result<bool> {
        Ok(Stamp::of(&file.metadata()?) == self.stamp)
    }

    /// Hashes the file once more: a file that another one replaced, or that got a second name, has another stamp and the same
    /// bytes. `false` when it has not. Blocks.
    pub(crate) fn renew(&mut self, file: &mut File) -> io::Result<bool> {
        let wait = Stamp::of(&file.metadata()?).settles_in(SystemTime::now());
        std::thread::sleep(wait.min(Stamp::patience()));
        self.stamp = Stamp::of(&file.metadata()?);
        Ok(digest_of(file)?.0 == self.content && self.holds(file)?)
    }
}

/// The digest and the size of what a file holds.
fn digest_of(file: &mut File) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut size_bytes) = (Hasher::new(Algorithm::Sha256), 0_u64);
    let mut piece = vec![0; PIECE_BYTES];
    file.rewind()?;
    loop {
        let read = file.read(&mut piece)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size_bytes += u64::try_from(read).unwrap_or_default();
    }
    Ok((hasher.finish(), size_bytes))
}

async fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Missing> {
    Arc::clone(of).acquire_owned().await.map_err(|_closed| Missing::Stopping)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_many_ask_for_at_once_is_hashed_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("packs")).unwrap();
        File::create(dir.path().join("packs/kit-1.0.0.gtpack")).unwrap().set_len(8 << 20).unwrap();
        let tree = Arc::new(Tree::open(dir.path(), TreeLayout::Flat).unwrap());
        let name = Name::new(Kind::Pack, "kit", "1.0.0").unwrap();
        let asking: Vec<_> = (0..12)
            .map(|_| {
                let (tree, name) = (Arc::clone(&tree), name.clone());
                tokio::spawn(async move { tree.artifact(&name).await.unwrap().artifact })
            })
            .collect();
        let mut found = Vec::new();
        for asking in asking {
            found.push(asking.await.unwrap());
        }
        assert!(found.iter().all(|artifact| Arc::ptr_eq(artifact, &found[0])));
        assert!(tree.turns.lock().unwrap().values().all(|turn| turn.strong_count() == 0));
    }
}
