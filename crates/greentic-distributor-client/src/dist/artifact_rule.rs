//! Which layer of a manifest a client takes: by what the manifest holds, or as one of the fetchers lists it.

use greentic_dist_store::{Entry, Sidecar, Store, StoreError};
use greentic_dist_types::media_type::essence;
use greentic_dist_types::{
    ArtifactType, Digest, LayerChoice, LayerRule, Manifest, ManifestKind, SafeText, SelectError, parse_kept_manifest,
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

    /// The layer this client takes of a manifest of whatever kind.
    pub(crate) fn taken<'a>(&self, manifest: &'a Manifest) -> Result<LayerChoice<'a>, SelectError> {
        match self {
            Self::Listed(listed) => listed.layers.select(manifest),
            // The packages of a tenant may be packs whose type does not say so.
            Self::ByKind => match manifest.artifact_layer() {
                Ok((_, choice)) => Ok(choice),
                Err(error) => manifest.pack_layer().map_err(|_no_pack_either| error),
            },
        }
    }

    /// Whether component manifests are looked for.
    pub(crate) fn wants_component_manifest(&self) -> bool {
        self.listed().is_none_or(|listed| listed.artifact_type == ArtifactType::Component)
    }
}

impl Listed {
    /// Refuses a manifest or an index of a type that is not among those it takes.
    pub(crate) fn expect_manifest_type(&self, reference: &str, media_type: &str) -> Result<(), DistError> {
        if self.manifests.contains(&essence(media_type)) {
            return Ok(());
        }
        Err(DistError::ManifestType {
            reference: reference.to_owned(),
            media_type: SafeText::excerpt(media_type, 100).to_string(),
        })
    }

    /// As [`Listed::expect_manifest_type`], of a document that was kept, by what it says of itself. OCI leaves it free to say
    /// nothing; what its registry called it then is not known any more.
    pub(crate) fn expect_kept_type(&self, reference: &str, raw: &[u8]) -> Result<(), DistError> {
        #[derive(serde::Deserialize)]
        struct Stated {
            #[serde(rename = "mediaType")]
            media_type: Option<String>,
        }
        let stated = serde_json::from_slice::<Stated>(raw).ok().and_then(|stated| stated.media_type);
        stated.map_or(Ok(()), |media_type| self.expect_manifest_type(reference, &media_type))
    }
}

/// The image manifest of an entry.
pub(crate) struct KeptManifest {
    pub(crate) manifest: Manifest,
    /// The document itself.
    pub(crate) raw: Vec<u8>,
}

/// The image manifest an entry is named by; `None` for what came from elsewhere than a registry.
pub(crate) fn manifest_of(store: &Store, entry: &Entry) -> Result<Option<KeptManifest>, StoreError> {
    let raw = store.manifest(entry)?;
    Ok(raw.and_then(|raw| match parse_kept_manifest(&raw) {
        Ok(ManifestKind::Image(manifest)) => Some(KeptManifest { manifest: *manifest, raw }),
        _ => None,
    }))
}

/// Refuses an entry that holds another layer of its manifest than `taken`. A directory has room for one artifact under a digest; who came
/// first may have taken another layer by another rule, and bundles may rely on it.
pub(crate) fn expect_taken<'a>(
    entry: &Entry,
    reference: &str,
    kept: Option<&'a KeptManifest>,
    taken: impl FnOnce(&'a Manifest) -> Result<LayerChoice<'a>, SelectError>,
) -> Result<(), DistError> {
    match kept.map(|kept| taken(&kept.manifest)) {
        Some(Ok(choice)) if choice.layer.digest != entry.content_digest => Err(other_layer(entry, reference)),
        // Without a manifest nothing else can be meant; one without a usable layer was refused when it was resolved.
        _ => Ok(()),
    }
}

/// The error about an entry that holds another layer than is asked for.
pub(crate) fn other_layer(entry: &Entry, reference: &str) -> DistError {
    let kept = SafeText::excerpt(&entry.record.media_type, 100).to_string();
    DistError::OtherLayer { reference: reference.to_owned(), digest: entry.pin.to_string(), kept }
}
