//! Which layer of a manifest a client takes: by what the manifest holds, or as one of the fetchers lists it.

use greentic_dist_store::{Entry, Sidecar, Store, StoreError};
use greentic_dist_types::{
    ArtifactType, Digest, LayerChoice, LayerRule, Manifest, ManifestKind, SelectError, parse_manifest,
};

use super::DistError;

/// Documents to keep beside an artifact.
pub(crate) type Documents = Vec<(Sidecar, Vec<u8>)>;

/// What a client looks for in a manifest.
#[derive(Clone, Debug, Default)]
pub(crate) enum ArtifactRule {
    /// A component or a pack, whatever the types of the layers say.
    #[default]
    ByKind,
    /// One kind of artifact, by lists of media types.
    Listed(Box<Listed>),
}

/// What a fetcher looks for.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What its artifacts are.
    pub(crate) artifact_type: ArtifactType,
    /// Which layer.
    pub(crate) layers: LayerRule,
    /// Media types of manifests and indexes it takes, without parameters.
    pub(crate) manifests: Vec<String>,
    /// The documents it keeps beside an artifact. Called before the artifact is downloaded: what it refuses leaves no trace.
    pub(crate) beside: fn(&Beside<'_>) -> Result<Documents, DistError>,
}

/// What is known of an artifact that is about to be brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    /// The reference as given.
    pub(crate) reference: &'a str,
    /// What the reference names: an index, a manifest, or the artifact itself.
    pub(crate) named: Digest,
    /// The manifest, where anybody said which it is.
    pub(crate) manifest: Option<Digest>,
    /// Media type of the artifact.
    pub(crate) media_type: &'a str,
    /// Size of the artifact in bytes.
    pub(crate) size_bytes: u64,
    /// The time, unix seconds.
    pub(crate) now: u64,
    /// The component manifest that travels as a layer, where there is one and the artifact is a component.
    pub(crate) component_manifest: Option<&'a [u8]>,
}

impl ArtifactRule {
    /// What the fetcher looks for; `None` for a client that takes everything.
    pub(crate) fn listed(&self) -> Option<&Listed> {
        match self {
            Self::ByKind => None,
            Self::Listed(listed) => Some(listed),
        }
    }

    /// The layer of a manifest that is an artifact of this type.
    pub(crate) fn choose<'a>(
        &self,
        artifact_type: ArtifactType,
        manifest: &'a Manifest,
    ) -> Result<LayerChoice<'a>, SelectError> {
        match (self, artifact_type) {
            (Self::Listed(listed), _) => listed.layers.select(manifest),
            (Self::ByKind, ArtifactType::Component) => manifest.component_layer(),
            (Self::ByKind, ArtifactType::Pack | ArtifactType::Bundle) => manifest.pack_layer(),
        }
    }

    /// Whether component manifests are looked for.
    pub(crate) fn wants_component_manifest(&self) -> bool {
        self.listed().is_none_or(|listed| listed.artifact_type == ArtifactType::Component)
    }
}

/// The image manifest an entry is named by; `None` for what came from elsewhere than a registry.
pub(crate) fn manifest_of(store: &Store, entry: &Entry) -> Result<Option<Manifest>, StoreError> {
    let raw = store.manifest(entry)?;
    Ok(raw.and_then(|raw| match parse_manifest(&raw, None) {
        Ok(ManifestKind::Image(manifest)) => Some(*manifest),
        _ => None,
    }))
}

/// Whether an entry holds the layer that `choose` takes of its manifest. A directory has one entry for each manifest, and who came
/// first may have taken another layer by another rule. `None` when there is no manifest that could tell.
pub(crate) fn holds_choice<'a>(
    manifest: Option<&'a Manifest>,
    content: &Digest,
    choose: impl FnOnce(&'a Manifest) -> Result<LayerChoice<'a>, SelectError>,
) -> Option<bool> {
    choose(manifest?).ok().map(|choice| choice.layer.digest == *content)
}
