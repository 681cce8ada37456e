//! Lock files: the artifacts of a list, each exactly the one that was locked.
//!
//! A file is checked as a whole before anything is asked for; then its entries are pulled side by side, equal ones once. What
//! a lock file may hold is in `docs/lockfile.md`, and how it is read in `greentic_dist_types`.

mod pull;
mod replace;
mod write;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_types::{Digest, LockEntry, Lockfile, SourceRef, limits, redact_reference};

use super::client::Inner;
use super::{ArtifactDescriptor, ArtifactSource, DistError, resolve, source};
use crate::blocking;

pub use pull::{LockMode, LockPull, LockPullItem};
pub use write::{LockChange, LockReport};

/// A lock file that was read from disk.
struct LoadedLock {
    path: PathBuf,
    lock: Lockfile,
    bytes: Vec<u8>,
}

impl LoadedLock {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// What each entry asks for, as the client takes it: relative paths are meant from the directory of the file. Everything
    /// that can be told without asking anybody is checked here.
    fn wanted(&self) -> Result<Vec<Wanted>, DistError> {
        self.lock.entries.iter().map(|entry| Wanted::of(&self.path, entry)).collect()
    }
}

/// What one entry asks for. Equal ones are brought once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    /// `None` for an entry that is only a digest.
    reference: Option<String>,
    digest: Option<Digest>,
    content_digest: Option<Digest>,
}

impl Wanted {
    fn of(lock: &Path, entry: &LockEntry) -> Result<Self, DistError> {
        let reference = entry.reference.as_deref().map(|reference| from_lock_dir(lock, reference)).transpose()?;
        if let Some(reference) = &reference {
            resolve::check(reference, &source::classify(reference)?)?;
        }
        Ok(Self { reference, digest: entry.digest, content_digest: entry.content_digest })
    }

    /// What is asked for.
    fn subject(&self) -> String {
        self.reference.clone().or_else(|| self.digest.map(|digest| digest.to_string())).unwrap_or_default()
    }

    /// What is asked for, as it may be shown.
    fn shown(&self) -> String {
        redact_reference(&self.subject())
    }
}

/// A reference of a lock file as it is meant from the working directory.
fn from_lock_dir(lock: &Path, reference: &str) -> Result<String, DistError> {
    let path = match SourceRef::parse(reference) {
        Ok(SourceRef::File(path)) if Path::new(&path).is_relative() => path,
        _ => return Ok(reference.to_owned()),
    };
    let dir = std::path::absolute(lock).map_err(|error| DistError::io(lock, error))?;
    let dir = dir.parent().unwrap_or(Path::new("/"));
    // Without the `.` of `./name`, which means nothing behind a directory.
    let joined: PathBuf = dir.join(path).components().collect();
    joined.into_os_string().into_string().map_err(|_not_unicode| {
        DistError::InvalidInput(format!("the directory of `{}` has a name that is not UTF-8", lock.display()))
    })
}

/// Positions of what is asked for more than once: for each item the position of the first equal one.
fn firsts(wanted: &[Wanted]) -> Vec<usize> {
    let mut seen = HashMap::new();
    wanted.iter().enumerate().map(|(position, wanted)| *seen.entry(wanted).or_insert(position)).collect()
}

/// Reads and checks a lock file.
async fn load(path: &Path) -> Result<LoadedLock, DistError> {
    let path = path.to_owned();
    blocking::run(move || {
        let mut bytes = Vec::new();
        let file = resolve::file::open_regular(&path)?;
        // One byte more than allowed tells that there is more.
        let most = u64::try_from(limits::LOCK_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(|error| DistError::io(&path, error))?;
        let lock = Lockfile::parse(&bytes)
            .map_err(|error| DistError::InvalidLock { path: path.display().to_string(), source: Box::new(error) })?;
        Ok(LoadedLock { path, lock, bytes })
    })
    .await
}

/// Resolves a reference as a person would type it.
async fn resolve_text(inner: &Arc<Inner>, reference: &str) -> Result<ArtifactDescriptor, DistError> {
    let source: ArtifactSource = source::parse_source(reference, &inner.options)?;
    resolve::resolve(inner, &source).await
}

/// The digests that a resolved artifact has beside its pin, where the client knows them without moving its bytes.
#[derive(Clone, Copy, Debug, Default)]
struct OtherDigests {
    content: Option<Digest>,
    index: Option<Digest>,
}

impl OtherDigests {
    async fn of(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<Self, DistError> {
        let Ok(pin) = descriptor.digest.parse::<Digest>() else { return Ok(Self::default()) };
        if descriptor.manifest_digest.is_none() {
            return Ok(Self { content: Some(pin), index: None });
        }
        if let Some(known) = inner.memo.get(&pin) {
            let layer = resolve::oci::layer_of(inner, &descriptor.raw_ref, descriptor.artifact_type, &known.manifest)?;
            return Ok(Self { content: Some(layer.digest), index: known.index_digest });
        }
        let inner = Arc::clone(inner);
        blocking::run(move || {
            let entry = inner.store.stat(&pin).ok().flatten();
            Ok(entry.map_or_else(Self::default, |entry| Self {
                content: Some(entry.content_digest),
                index: entry.record.index_digest,
            }))
        })
        .await
    }

    /// Whether a digest of a lock file names this artifact: its pin, its content, the index that led to it, or what the
    /// reference itself is pinned to.
    fn name(&self, locked: Digest, descriptor: &ArtifactDescriptor, reference: &str) -> bool {
        descriptor.digest == locked.to_string()
            || [self.content, self.index].contains(&Some(locked))
            || matches!(SourceRef::parse(reference), Ok(SourceRef::Oci(pinned)) if pinned.digest() == Some(locked))
    }
}
