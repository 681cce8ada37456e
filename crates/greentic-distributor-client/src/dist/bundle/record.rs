//! What is written down of a bundle, and what is said about its artifact.

use greentic_dist_store as store;
use greentic_dist_types::BundleId;
use serde::{Deserialize, Serialize};

use crate::dist::source::InvalidRefReason;
use crate::dist::{ArtifactSourceKind, ArtifactType, BundleLifecycleState, DistError, ResolvedArtifact};

/// How the one who stages a bundle means to use it. An echo: written into the result, without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccessMode {
    /// Read by a program.
    Userspace,
    /// Mounted as a file system.
    Mount,
}

/// How an opener opened an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BundleOpenMode {
    /// Not at all: it is in the cache.
    CacheReuse,
    /// Read by a program.
    Userspace,
    /// Mounted as a file system.
    Mount,
}

/// What an opened artifact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifestSummary {
    /// Name of the component.
    pub component_id: String,
    /// Version of the ABI, where the publisher states one.
    pub abi_version: Option<String>,
    /// Reference to the describe artifact, where there is one.
    pub describe_artifact_ref: Option<String>,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes.
    pub size_bytes: u64,
}

impl BundleManifestSummary {
    pub(super) fn of(artifact: &ResolvedArtifact) -> Self {
        Self {
            component_id: artifact.component_id.clone(),
            abi_version: artifact.abi_version.clone(),
            describe_artifact_ref: artifact.describe_artifact_ref.clone(),
            artifact_type: artifact.descriptor.artifact_type,
            media_type: artifact.descriptor.media_type.clone(),
            size_bytes: artifact.descriptor.size_bytes,
        }
    }
}

/// What is written down of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRecord {
    /// The name of the bundle: `bundle:` and the pin.
    pub bundle_id: String,
    /// The pin of its artifact.
    pub cache_key: String,
    /// The reference it was staged from, with its digest.
    pub canonical_ref: String,
    /// The kind of source it was staged from.
    pub source_kind: ArtifactSourceKind,
    /// When its artifact was fetched, unix seconds.
    pub fetched_at: u64,
    /// Where it is in its life.
    pub lifecycle_state: BundleLifecycleState,
}

impl From<store::BundleRecord> for BundleRecord {
    fn from(record: store::BundleRecord) -> Self {
        Self {
            bundle_id: record.bundle_id.to_string(),
            cache_key: record.cache_key.to_string(),
            canonical_ref: record.canonical_ref,
            source_kind: record.source_kind,
            fetched_at: record.fetched_at,
            lifecycle_state: record.lifecycle_state,
        }
    }
}

/// Parses the id of a bundle; `sha256:` may be left out of it.
pub(super) fn parse_id(text: &str) -> Result<BundleId, DistError> {
    text.parse().map_err(|error| DistError::InvalidRef {
        reference: greentic_dist_types::redact_reference(text),
        source: Box::new(InvalidRefReason::BundleId(error)),
    })
}
