//! What a client of the host returned, held against every digest there is.

use greentic_dist_types::{Algorithm, Digest, LayerRule, limits};

use super::asked::{Asked, reported_digest};
use super::{FetchError, PulledImage, PulledLayer};
use crate::dist::DistError;

/// The layers an answer is about, once it was found consistent.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the reference names: the manifest that the client reports, else the artifact itself.
    pub(super) named: Digest,
    /// The manifest, where the client reports one.
    pub(super) manifest: Option<Digest>,
    /// Digest of the artifact's bytes.
    pub(super) content: Digest,
    /// The artifact.
    pub(super) layer: PulledLayer,
    /// The layer of the type that was asked for beside it.
    pub(super) component_manifest: Option<Vec<u8>>,
}

impl Answer {
    /// Chooses the artifact and proves it. Hashes it: a second for about a GiB.
    pub(super) fn check(
        asked: &Asked,
        image: PulledImage,
        rule: &LayerRule,
        beside: Option<&str>,
    ) -> Result<Self, FetchError> {
        let manifest = image.digest.as_deref().map(reported_digest).transpose()?;
        if image.layers.len() > limits::LAYERS {
            let reason = format!("the registry client returned more than {} layers", limits::LAYERS);
            return Err(FetchError::Corrupt { reason });
        }
        let chosen = rule.best_of(image.layers.iter().map(|layer| layer.media_type.as_str()));
        let chosen = chosen.ok_or(FetchError::MissingLayers)?;
        let is_beside = |layer: &PulledLayer| {
            beside.is_some_and(|wanted| greentic_dist_types::media_type::essence(&layer.media_type) == wanted)
        };
        let is_small =
            |layer: &PulledLayer| u64::try_from(layer.data.len()).is_ok_and(|size| size <= limits::SIDECAR_BYTES);
        let (mut layer, mut component_manifest) = (None, None);
        for (position, candidate) in image.layers.into_iter().enumerate() {
            if is_beside(&candidate) && component_manifest.is_none() && is_small(&candidate) {
                content_of(&candidate)?;
                component_manifest = Some(candidate.data.clone());
            }
            if position == chosen {
                layer = Some(candidate);
            }
        }
        let layer = layer.ok_or(FetchError::MissingLayers)?;
        if u64::try_from(layer.data.len()).unwrap_or(u64::MAX) > limits::ARTIFACT_BYTES {
            let error = DistError::TooLarge { reference: asked.text.clone(), limit_bytes: limits::ARTIFACT_BYTES };
            return Err(FetchError::Other(Box::new(error)));
        }
        let content = content_of(&layer)?;
        let is_content = |digest: &Digest| Digest::of(digest.algorithm(), &layer.data) == *digest;
        // The pin may be the artifact's own digest by another algorithm.
        let named = manifest.or_else(|| asked.pin().filter(is_content)).unwrap_or(content);
        if let Some(pin) = asked.pin()
            && pin != named
        {
            return Err(FetchError::mismatch(pin, named));
        }
        // Where the client calls the artifact itself the manifest, its name is proven by its bytes.
        let content = if is_content(&named) { named } else { content };
        Ok(Self { named, manifest, content, layer, component_manifest })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        u64::try_from(self.layer.data.len()).unwrap_or(u64::MAX)
    }
}

/// The digest of a layer's bytes: the one it is said to have, proven, else SHA-256.
fn content_of(layer: &PulledLayer) -> Result<Digest, FetchError> {
    let Some(text) = layer.digest.as_deref() else {
        return Ok(Digest::of(Algorithm::Sha256, &layer.data));
    };
    let expected = reported_digest(text)?;
    let actual = Digest::of(expected.algorithm(), &layer.data);
    if actual != expected {
        return Err(FetchError::mismatch(expected, actual));
    }
    Ok(expected)
}
