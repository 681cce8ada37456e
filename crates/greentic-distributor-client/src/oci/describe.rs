//! What a manifest says, and what is said about it, for people and scripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, parse_kept_manifest};
use serde::Serialize;
use serde_json::Value;

use super::graph::{Asked, ProvenManifest, Source};
use super::{Limit, Place, RateLimit};
use crate::dist::resolve::oci::certain_entry;
use crate::dist::{DistClient, DistError};

/// An artifact as its manifest describes it, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArtifactDescription {
    /// Digest of what the reference names: an index or a manifest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The entries of the index, when it is one.
    pub platforms: Vec<PlatformDescription>,
    /// Digest of the manifest that is described: of an index, the one for this client's platform. `None` when an index has none
    /// for it.
    pub manifest_digest: Option<String>,
    /// The manifest itself; the index when it has none for this client's platform.
    pub manifest: Value,
    /// What kind of artifact it is, when the publisher says so.
    pub artifact_type: Option<String>,
    /// Digest of the manifest it refers to.
    pub subject: Option<String>,
    /// The config.
    pub config: Option<ContentDescription>,
    /// The layers, in manifest order.
    pub layers: Vec<ContentDescription>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The manifests that refer to what the reference names or to the manifest that is described. `None` when that could not
    /// be asked, which is not the same as that there are none.
    pub referrers: Option<Vec<ContentDescription>>,
    /// Why it could not be asked.
    pub referrers_unknown: Option<String>,
    /// What the registry said about its limit of requests. `None` where it said nothing, and for a layout.
    pub rate_limit: Option<RateLimitDescription>,
}

/// A registry's limit of requests, as far as it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RateLimitDescription {
    /// Requests of a window.
    pub limit: Option<u64>,
    /// Requests that are left of them.
    pub remaining: Option<u64>,
    /// The window in seconds.
    pub window_seconds: Option<u64>,
    /// Seconds until there are new ones.
    pub reset_seconds: Option<u64>,
}

impl From<RateLimit> for RateLimitDescription {
    fn from(told: RateLimit) -> Self {
        Self {
            limit: told.limit,
            remaining: told.remaining,
            window_seconds: told.window.map(|window| window.as_secs()),
            reset_seconds: told.reset.map(|reset| reset.as_secs()),
        }
    }
}

/// Content that a manifest or an index names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ContentDescription {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What kind of artifact it is, when it is a manifest and somebody says so.
    pub artifact_type: Option<String>,
    /// Annotations of the descriptor.
    pub annotations: BTreeMap<String, String>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlatformDescription {
    /// `os/architecture` or `os/architecture/variant`; `None` where the index does not say.
    pub platform: Option<String>,
    /// The manifest.
    #[serde(flatten)]
    pub manifest: ContentDescription,
}

impl From<&Descriptor> for ContentDescription {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.to_string(),
            size_bytes: descriptor.size_bytes,
            artifact_type: descriptor.artifact_type.clone(),
            annotations: descriptor.annotations.clone(),
        }
    }
}

impl ArtifactDescription {
    /// What a root and the manifest chosen from it say. Nothing about referrers yet.
    fn of(root: &ProvenManifest, chosen: Option<&ProvenManifest>) -> Self {
        let described = chosen.unwrap_or(root);
        let entries = match &root.kind {
            ManifestKind::Index(index) => index.manifests.as_slice(),
            ManifestKind::Image(_) => &[],
        };
        let platforms = entries.iter().map(|entry| PlatformDescription {
            platform: entry.platform.as_ref().map(ToString::to_string),
            manifest: entry.into(),
        });
        let is_image = matches!(described.kind, ManifestKind::Image(_));
        let (config, layers, annotations) = match &described.kind {
            ManifestKind::Image(image) => (
                image.config.as_ref().map(Into::into),
                image.layers.iter().map(Into::into).collect(),
                &image.annotations,
            ),
            ManifestKind::Index(index) => (None, Vec::new(), &index.annotations),
        };
        Self {
            digest: root.digest.to_string(),
            media_type: root.media_type.clone(),
            size_bytes: root.raw.len() as u64,
            platforms: platforms.collect(),
            manifest_digest: is_image.then(|| described.digest.to_string()),
            manifest: serde_json::from_slice(&described.raw).unwrap_or(Value::Null),
            artifact_type: described.kind.artifact_type().map(ToOwned::to_owned),
            subject: described.kind.subject().map(|subject| subject.digest.to_string()),
            config,
            layers,
            annotations: annotations.clone(),
            referrers: None,
            referrers_unknown: None,
            rate_limit: None,
        }
    }

    /// The description of manifests that are at hand and about which nobody is asked.
    pub(crate) fn unasked(root: &ProvenManifest, chosen: Option<&ProvenManifest>, why_unknown: &str) -> Self {
        let mut description = Self::of(root, chosen);
        description.referrers_unknown = Some(why_unknown.to_owned());
        description
    }
}

impl ProvenManifest {
    /// A manifest that is at hand under its digest.
    pub(crate) fn at_hand(raw: Bytes, digest: Digest) -> Option<Self> {
        let kind = parse_kept_manifest(&raw).ok()?;
        let by_shape = match &kind {
            ManifestKind::Image(_) => OCI_MANIFEST,
            ManifestKind::Index(_) => OCI_INDEX,
        };
        let media_type = serde_json::from_slice::<Value>(&raw)
            .ok()
            .and_then(|manifest| manifest.get("mediaType")?.as_str().map(ToOwned::to_owned))
            .unwrap_or_else(|| by_shape.to_owned());
        Some(Self { raw, digest, media_type, kind })
    }
}

impl DistClient {
    /// Describes an artifact in a registry or a layout by its manifest. Moves no blob and keeps nothing.
    ///
    /// Requests to a registry: one for the manifest, one more for the chosen manifest of an index, and for each of them one or
    /// two for its referrers. Cancel-safe.
    ///
    /// # Errors
    /// [`DistError::Network`] and [`DistError::Layout`] by kind.
    pub async fn describe(&self, place: &Place) -> Result<ArtifactDescription, DistError> {
        let source = self.source_at(place).await?;
        let root = source.root().await?;
        let chosen = self.chosen(&source, &root).await?;
        asked(&source, &root, chosen.as_ref()).await
    }

    /// The manifest of an index for this client's platform, through nested indexes.
    async fn chosen(
        &self,
        source: &Arc<dyn Source>,
        root: &ProvenManifest,
    ) -> Result<Option<ProvenManifest>, DistError> {
        let mut current = root.clone();
        for _ in 0..self.inner.limits.index_depth {
            let ManifestKind::Index(index) = &current.kind else { break };
            let Some(entry) = certain_entry(&self.inner, index) else { return Ok(None) };
            current = source.manifest(&entry.clone()).await?;
        }
        let is_other_image = matches!(current.kind, ManifestKind::Image(_)) && current.digest != root.digest;
        Ok(is_other_image.then_some(current))
    }
}

/// What a root and the manifest chosen from it say, and what refers to either.
pub(crate) async fn asked(
    source: &Arc<dyn Source>,
    root: &ProvenManifest,
    chosen: Option<&ProvenManifest>,
) -> Result<ArtifactDescription, DistError> {
    let mut description = ArtifactDescription::of(root, chosen);
    let mut referrers: Vec<ContentDescription> = Vec::new();
    for subject in std::iter::once(root).chain(chosen).map(|manifest| manifest.digest) {
        match source.referrers(subject).await {
            Ok(Asked::Found(found)) => referrers.extend(found.iter().map(ContentDescription::from)),
            Ok(Asked::CouldNotAsk(why)) => description.referrers_unknown = Some(why.to_string()),
            // Who looks at an artifact is not kept from it by how much refers to it.
            Err(DistError::Network { source, .. }) if source.limit() == Some(Limit::Referrers) => {
                description.referrers_unknown = Some(source.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if description.referrers_unknown.is_none() {
        description.referrers = Some(referrers);
    }
    description.rate_limit = source.rate_limit().map(Into::into);
    Ok(description)
}
