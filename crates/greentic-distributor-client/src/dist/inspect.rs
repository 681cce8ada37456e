//! What there is to know about a reference, for people: `greentic-dist inspect`.

use std::path::PathBuf;

use serde::Serialize;

use super::{ArtifactType, CachePolicy, DistClient, DistError, ResolvePolicy};

/// An artifact and the files beside it in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactInspection {
    /// The reference as typed.
    pub reference: String,
    /// The pin.
    pub digest: String,
    /// Digest of the artifact's bytes.
    pub content_digest: String,
    /// The reference it was asked for by, with its digest.
    pub canonical_ref: String,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes.
    pub size_bytes: u64,
    /// Directory of the entry.
    pub cache_dir: PathBuf,
    /// The artifact's file.
    pub artifact_path: PathBuf,
    /// The component manifest beside it, where there is one.
    pub component_manifest_path: Option<PathBuf>,
    /// The raw OCI manifest, where there is one.
    pub manifest_path: Option<PathBuf>,
    /// The publisher's annotations.
    pub annotations: serde_json::Map<String, serde_json::Value>,
    /// Whether this call fetched it.
    pub fetched: bool,
}

impl DistClient {
    /// Brings a reference into the cache and reports what is known about it.
    ///
    /// # Errors
    /// As [`DistClient::resolve`] and [`DistClient::fetch`].
    pub async fn inspect(&self, reference: &str) -> Result<ArtifactInspection, DistError> {
        let source = self.parse_source(reference)?;
        let descriptor = self.resolve(source, ResolvePolicy).await?;
        let artifact = self.fetch(&descriptor, CachePolicy).await?;
        let dir = artifact.local_path.parent().map(ToOwned::to_owned).unwrap_or_default();
        let beside = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        Ok(ArtifactInspection {
            reference: reference.to_owned(),
            content_digest: artifact.content_digest(),
            canonical_ref: descriptor.canonical_ref,
            artifact_type: artifact.descriptor.artifact_type,
            media_type: artifact.descriptor.media_type.clone(),
            size_bytes: artifact.descriptor.size_bytes,
            component_manifest_path: beside("component.manifest.json"),
            manifest_path: beside("manifest.json"),
            annotations: artifact.descriptor.annotations.clone(),
            fetched: artifact.fetched,
            artifact_path: artifact.local_path.clone(),
            digest: artifact.digest,
            cache_dir: dir,
        })
    }
}
