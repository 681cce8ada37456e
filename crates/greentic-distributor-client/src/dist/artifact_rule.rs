//! Which layer of a manifest a client takes: by what the manifest holds, or as one of the fetchers lists it.

use greentic_dist_store::Sidecar;
use greentic_dist_types::{ArtifactType, Digest, LayerRule};

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

    /// Whether component manifests are looked for.
    pub(crate) fn wants_component_manifest(&self) -> bool {
        self.listed().is_none_or(|listed| listed.artifact_type == ArtifactType::Component)
    }
}
