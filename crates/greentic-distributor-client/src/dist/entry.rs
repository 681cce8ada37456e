//! The public view of a cache entry, and its way from the store's record.

use std::path::PathBuf;

use greentic_dist_store::{Entry, EntryRecord, SourceSnapshot};
use serde::{Deserialize, Serialize};

use super::{ArtifactDescriptor, ArtifactSourceKind, ArtifactType, CacheEntryState, ResolvedVia};

/// Snapshot of a reference, with its digest and whether it already was the canonical one.
pub(crate) fn snapshot(raw_ref: &str, canonical_ref: &str, source_kind: ArtifactSourceKind) -> SourceSnapshot {
    SourceSnapshot {
        raw_ref: raw_ref.to_owned(),
        canonical_ref: canonical_ref.to_owned(),
        source_kind,
        authoritative: raw_ref == canonical_ref,
    }
}

/// What the cache knows of one artifact; the documented part of `entry.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// Version of the entry format: 1.
    pub format_version: u32,
    /// The pin; equal to `digest`.
    pub cache_key: String,
    /// The pin: the manifest digest for OCI sources, the content digest for all others.
    pub digest: String,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes.
    pub size_bytes: u64,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// The kind of source it came from.
    pub source_kind: ArtifactSourceKind,
    /// The reference as typed when it was fetched.
    pub raw_ref: String,
    /// That reference with its digest.
    pub canonical_ref: String,
    /// When it was fetched, unix seconds.
    pub fetched_at: u64,
    /// When it was last used, unix seconds.
    pub last_accessed_at: u64,
    /// When its bytes were last proven by a verification, unix seconds.
    pub last_verified_at: Option<u64>,
    /// State of the entry.
    pub state: CacheEntryState,
    /// Version of the advisory of the last verification.
    pub advisory_epoch: Option<u64>,
    /// Outcome of the signature check of the last verification.
    pub signature_summary: Option<serde_json::Value>,
    /// Where the artifact is. Computed from the digest at every call, never read from the file.
    pub local_path: PathBuf,
    /// What the reference was.
    pub source_snapshot: SourceSnapshot,
}

impl CacheEntry {
    pub(crate) fn from_store(entry: Entry) -> Self {
        let Entry { pin, path, record, .. } = entry;
        let source_snapshot = snapshot(&record.raw_ref, &record.canonical_ref, record.source_kind);
        Self {
            format_version: record.format_version,
            cache_key: pin.to_string(),
            digest: pin.to_string(),
            media_type: record.media_type,
            size_bytes: record.size_bytes,
            artifact_type: record.artifact_type,
            source_kind: record.source_kind,
            raw_ref: record.raw_ref,
            canonical_ref: record.canonical_ref,
            fetched_at: record.fetched_at,
            last_accessed_at: record.last_accessed_at,
            last_verified_at: record.last_verified_at,
            state: record.state,
            advisory_epoch: record.advisory_epoch,
            signature_summary: record.signature_summary,
            local_path: path,
            source_snapshot,
        }
    }
}

/// The descriptor an entry was fetched by, with everything that reopening must not lose.
pub(crate) fn descriptor_of(entry: &Entry) -> ArtifactDescriptor {
    let record = &entry.record;
    ArtifactDescriptor {
        artifact_type: record.artifact_type,
        source_kind: record.source_kind,
        raw_ref: record.raw_ref.clone(),
        canonical_ref: record.canonical_ref.clone(),
        digest: entry.pin.to_string(),
        media_type: record.media_type.clone(),
        size_bytes: record.size_bytes,
        created_at: record.created_at,
        annotations: record.annotations.clone(),
        manifest_digest: record.manifest_digest.map(|digest| digest.to_string()),
        resolved_via: resolved_via_of(record),
        signature_refs: record.signature_refs.clone(),
        sbom_refs: record.sbom_refs.clone(),
    }
}

fn resolved_via_of(record: &EntryRecord) -> ResolvedVia {
    record
        .resolved_via
        .as_ref()
        .and_then(|name| serde_json::from_value(serde_json::Value::String(name.clone())).ok())
        .unwrap_or(match record.source_kind {
            ArtifactSourceKind::Oci => ResolvedVia::Direct,
            ArtifactSourceKind::Https => ResolvedVia::Https,
            ArtifactSourceKind::File => ResolvedVia::File,
            ArtifactSourceKind::Fixture => ResolvedVia::Fixture,
            ArtifactSourceKind::Repo => ResolvedVia::RepoMapping,
            ArtifactSourceKind::Store => ResolvedVia::StoreMapping,
            ArtifactSourceKind::CacheDigest => ResolvedVia::CacheDigest,
        })
}
