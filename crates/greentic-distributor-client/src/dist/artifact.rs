//! An artifact that is here, proven, and can be opened.

use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

use greentic_dist_store::{Entry, SourceSnapshot};
use greentic_dist_types::{Digest, Verifier, VerifyReader};
use serde::{Deserialize, Serialize};

use super::entry::{descriptor_of, snapshot};
use super::{ArtifactDescriptor, ArtifactSource, CacheEntryState, DistError, TransportHints};

/// How sure the cache is of an artifact's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IntegrityState {
    /// Not all bytes are there.
    Partial,
    /// Complete and proven.
    Ready,
    /// Found to be wrong.
    Corrupt,
    /// Removed.
    Evicted,
}

impl From<CacheEntryState> for IntegrityState {
    fn from(state: CacheEntryState) -> Self {
        match state {
            CacheEntryState::Partial => Self::Partial,
            CacheEntryState::Ready => Self::Ready,
            CacheEntryState::Corrupt => Self::Corrupt,
            CacheEntryState::Evicted => Self::Evicted,
        }
    }
}

/// An artifact in the cache, proven when it was opened.
///
/// Fields may be moved out: the type has no `Drop`. The path stays valid until the entry is removed from the cache.
#[derive(Clone, Debug)]
pub struct ResolvedArtifact {
    /// The descriptor it was fetched by.
    pub descriptor: ArtifactDescriptor,
    /// The pin; equal to `descriptor.digest`.
    pub cache_key: String,
    /// Where the bytes are.
    pub local_path: PathBuf,
    /// When it was fetched, unix seconds.
    pub fetched_at: u64,
    /// How sure the cache is of the bytes.
    pub integrity_state: IntegrityState,
    /// What the reference was.
    pub source_snapshot: SourceSnapshot,
    /// The pin; equal to `descriptor.digest`.
    pub resolved_digest: String,
    /// The bytes, where they are held in memory; artifacts of the client are on disk and have `None` here.
    pub wasm_bytes: Option<Vec<u8>>,
    /// Where the bytes are; equal to `local_path` for artifacts of the client.
    pub wasm_path: Option<PathBuf>,
    /// Name of the component: the file stem of a path or URL, the repository of an OCI reference.
    pub component_id: String,
    /// Version of the ABI, where the publisher's component manifest states one.
    pub abi_version: Option<String>,
    /// Reference to the describe artifact, where there is one.
    pub describe_artifact_ref: Option<String>,
    /// Size of the artifact in bytes.
    pub content_length: Option<u64>,
    /// Media type of the artifact.
    pub content_type: Option<String>,
    /// Whether this call fetched it; `false` for a cache hit.
    pub fetched: bool,
    /// The source it was first fetched from.
    pub source: ArtifactSource,
    /// The pin; equal to `descriptor.digest`.
    pub digest: String,
    /// Where the bytes are; equal to `local_path` for artifacts of the client.
    pub cache_path: Option<PathBuf>,
    bytes: OnceLock<Vec<u8>>,
    content_digest: Digest,
    content_bytes: u64,
    rebuilt: bool,
    resolved_by: Option<String>,
    served_by: Vec<String>,
}

/// What a lock file should remember of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHint {
    /// The reference to write.
    pub source_ref: String,
    /// The pin.
    pub resolved_digest: String,
    /// Size of the artifact in bytes.
    pub content_length: Option<u64>,
    /// Media type of the artifact.
    pub content_type: Option<String>,
    /// Version of the ABI.
    pub abi_version: Option<String>,
    /// Name of the component.
    pub component_id: String,
}

impl ResolvedArtifact {
    /// Makes the artifact of an entry that was just proven.
    pub(crate) fn from_entry(entry: &Entry, fetched: bool, hints: TransportHints) -> Self {
        let descriptor = descriptor_of(entry);
        let record = &entry.record;
        let pin = descriptor.digest.clone();
        let source = ArtifactSource {
            raw_ref: record.raw_ref.clone(),
            kind: record.source_kind,
            transport_hints: hints,
            dev_mode: matches!(
                record.source_kind,
                super::ArtifactSourceKind::File | super::ArtifactSourceKind::Fixture
            ),
        };
        Self {
            cache_key: pin.clone(),
            local_path: entry.path.clone(),
            fetched_at: record.fetched_at,
            integrity_state: record.state.into(),
            source_snapshot: snapshot(&record.raw_ref, &record.canonical_ref, record.source_kind),
            resolved_digest: pin.clone(),
            wasm_bytes: None,
            wasm_path: Some(entry.path.clone()),
            component_id: record.component_id.clone().unwrap_or_else(|| pin.clone()),
            abi_version: record.abi_version.clone(),
            describe_artifact_ref: record.describe_artifact_ref.clone(),
            content_length: Some(record.size_bytes),
            content_type: Some(record.content_type.clone().unwrap_or_else(|| record.media_type.clone())),
            fetched,
            source,
            digest: pin,
            cache_path: Some(entry.path.clone()),
            bytes: OnceLock::new(),
            content_digest: entry.content_digest,
            content_bytes: record.size_bytes,
            rebuilt: entry.rebuilt,
            resolved_by: None,
            served_by: Vec::new(),
            descriptor,
        }
    }

    /// Digest of the artifact's bytes. Equal to the pin for everything but OCI sources.
    pub fn content_digest(&self) -> String {
        self.content_digest.to_string()
    }

    /// The endpoint that said what the reference means, as [`DistClient::resolved_by`](super::DistClient::resolved_by) has it.
    pub fn resolved_by(&self) -> Option<&str> {
        self.resolved_by.as_deref()
    }

    /// The endpoints that sent its bytes to this call, in the order in which they were asked, as `scheme://host[:port][/path]`: the
    /// registry's own host, or mirrors; more than one where a transfer went on elsewhere. Empty for what was in the cache, and for what
    /// comes from no registry.
    pub fn served_by(&self) -> &[String] {
        &self.served_by
    }

    /// The artifact with those who sent it.
    pub(crate) fn served(mut self, by: Vec<String>) -> Self {
        self.served_by = by;
        self
    }

    pub(crate) fn set_resolved_by(&mut self, endpoint: Option<String>) {
        self.resolved_by = endpoint;
    }

    pub(crate) const fn content(&self) -> Digest {
        self.content_digest
    }

    /// The digest its bytes must have. The one that was proven when it was opened; or, where somebody gave the descriptor
    /// another digest since, that one. `None` when that is none.
    pub(crate) fn promised_content(&self) -> Option<Digest> {
        if self.descriptor.digest == self.digest {
            return Some(self.content_digest);
        }
        self.descriptor.digest.parse().ok()
    }

    /// Whether the record of its entry was missing or torn, so that nothing is known about where it came from.
    pub(crate) const fn is_rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Checks that the artifact has its bytes in exactly one place: in memory or at a path.
    ///
    /// # Errors
    /// [`DistError::CorruptArtifact`] when it has them in both or in none.
    pub fn validate_payload(&self) -> Result<(), DistError> {
        match (&self.wasm_bytes, &self.wasm_path) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (Some(_), Some(_)) => Err(self.corrupt("it has bytes both in memory and at a path")),
            (None, None) => Err(self.corrupt("it has bytes neither in memory nor at a path")),
        }
    }

    /// The bytes, read from the path at the first call and kept for the life of the artifact.
    ///
    /// They are hashed while they are read: what is returned is what was promised, even if the file was changed since it
    /// was opened. Blocks on the disk.
    ///
    /// # Errors
    /// [`DistError::CorruptArtifact`] for wrong bytes; [`DistError::CacheError`] when the file cannot be read.
    pub fn wasm_bytes(&self) -> Result<&[u8], DistError> {
        self.validate_payload()?;
        if let Some(bytes) = &self.wasm_bytes {
            return Ok(bytes);
        }
        if let Some(bytes) = self.bytes.get() {
            return Ok(bytes);
        }
        let read = self.read_proven()?;
        Ok(self.bytes.get_or_init(|| read))
    }

    fn read_proven(&self) -> Result<Vec<u8>, DistError> {
        let path = self.wasm_path.as_ref().unwrap_or(&self.local_path);
        let file = std::fs::File::open(path).map_err(|error| DistError::io(path, error))?;
        let mut bytes = Vec::new();
        match VerifyReader::new(file, Verifier::for_content(self.content_digest, self.content_bytes))
            .read_to_end(&mut bytes)
        {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(self.corrupt(&error.to_string())),
            Err(error) => Err(DistError::io(path, error)),
        }
    }

    fn corrupt(&self, reason: &str) -> DistError {
        DistError::CorruptArtifact { reference: self.digest.clone(), reason: reason.to_owned() }
    }

    /// What a lock file should remember, with `source_ref` as the reference to write.
    pub fn lock_hint(&self, source_ref: impl Into<String>) -> LockHint {
        LockHint {
            source_ref: source_ref.into(),
            resolved_digest: self.resolved_digest.clone(),
            content_length: self.content_length,
            content_type: self.content_type.clone(),
            abi_version: self.abi_version.clone(),
            component_id: self.component_id.clone(),
        }
    }
}
