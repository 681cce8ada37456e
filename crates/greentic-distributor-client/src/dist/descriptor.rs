//! What a reference resolved to, before any artifact byte is moved.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ArtifactSourceKind, ArtifactType};

/// By which way a reference was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResolvedVia {
    /// The reference carried its digest.
    Direct,
    /// A registry was asked (or remembered) what a tag means.
    TagResolution,
    /// `repo://`, mapped to the configured registry.
    RepoMapping,
    /// `store://`, mapped to the configured registry.
    StoreMapping,
    /// A file of the fixture directory.
    Fixture,
    /// A local file.
    File,
    /// An `https://` URL.
    Https,
    /// A digest that is in the cache.
    CacheDigest,
}

/// An artifact pinned: what [`DistClient::fetch`](super::DistClient::fetch) will deliver, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactDescriptor {
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// The kind of the source.
    pub source_kind: ArtifactSourceKind,
    /// The reference as typed.
    pub raw_ref: String,
    /// The reference with its digest, where the bytes can be asked for again.
    pub canonical_ref: String,
    /// The pin: the manifest digest for OCI sources, the content digest for all others. Stable in lock files.
    pub digest: String,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes.
    pub size_bytes: u64,
    /// When it was created, unix seconds, where the publisher says so.
    pub created_at: Option<u64>,
    /// The publisher's annotations of the manifest.
    pub annotations: Map<String, Value>,
    /// The manifest digest, for OCI sources.
    pub manifest_digest: Option<String>,
    /// By which way it was resolved.
    pub resolved_via: ResolvedVia,
    /// References to signatures.
    pub signature_refs: Vec<String>,
    /// References to bills of materials.
    pub sbom_refs: Vec<String>,
}

impl ArtifactDescriptor {
    /// The key of the artifact in the cache: the pin.
    pub fn cache_key(&self) -> String {
        self.digest.clone()
    }
}
