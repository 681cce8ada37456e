//! What there is to know about a reference, for people: `greentic-dist inspect`.

use std::path::PathBuf;

use greentic_dist_types::{Reference, SourceRef, map_to_registry};
use serde::Serialize;

use super::error::chain;
use super::source::classify;
use super::{ArtifactType, CachePolicy, DistClient, DistError, ResolvePolicy, cache};
use crate::oci::ArtifactDescription;

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
    /// What its OCI manifest says, and what is said about it; `None` for what has no such manifest.
    pub oci: Option<ArtifactDescription>,
}

impl DistClient {
    /// Brings a reference into the cache and reports what is known about it.
    ///
    /// Costs what [`DistClient::resolve`] and [`DistClient::fetch`] cost and, for a reference of a registry while online, what
    /// [`DistClient::describe`] costs. Otherwise the manifest in the cache is described, and what refers to it is unknown.
    ///
    /// # Errors
    /// As [`DistClient::resolve`] and [`DistClient::fetch`].
    pub async fn inspect(&self, reference: &str) -> Result<ArtifactInspection, DistError> {
        let source = self.parse_source(reference)?;
        let descriptor = self.resolve(source, ResolvePolicy).await?;
        let artifact = self.fetch(&descriptor, CachePolicy).await?;
        let dir = artifact.local_path.parent().map(ToOwned::to_owned).unwrap_or_default();
        let beside = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        let named = self.registry_reference(reference);
        let described = match named {
            Some(named) if !self.inner.is_offline(false) => {
                self.describe(&named.into()).await.map_err(|error| chain(&error))
            }
            Some(_) => Err("offline".to_owned()),
            None => Err("a digest of the cache names no registry".to_owned()),
        };
        let oci = match described {
            Ok(described) => Some(described),
            // What is in the cache needs nobody to be described.
            Err(why) => {
                let pin = cache::parse_digest(&artifact.digest)?;
                let raw = beside("manifest.json").and_then(|path| std::fs::read(path).ok());
                raw.and_then(|raw| ArtifactDescription::of_manifest(raw, pin, &why))
            }
        };
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
            oci,
            artifact_path: artifact.local_path.clone(),
            digest: artifact.digest,
            cache_dir: dir,
        })
    }

    /// The registry's reference behind a reference, where there is one.
    fn registry_reference(&self, reference: &str) -> Option<Reference> {
        let options = &self.inner.options;
        match classify(reference).ok()? {
            SourceRef::Oci(reference) => Some(reference),
            SourceRef::Repo(target) => map_to_registry(&target, options.repo_registry_base.as_deref()).ok(),
            SourceRef::Store(target) => map_to_registry(&target, options.store_registry_base.as_deref()).ok(),
            _ => None,
        }
    }
}
