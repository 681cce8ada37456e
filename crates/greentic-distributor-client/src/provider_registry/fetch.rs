//! The catalog from its registry: one manifest, and of its layers the one that is the catalog.

use std::time::Duration;

use greentic_dist_net::{FetchedImage, FetchedManifest, NetError, NetErrorKind, Repository, Selector};
use greentic_dist_types::media_type::{EMPTY, JSON, OCTET_STREAM, PACK_JSON, essence, pack_rank};
use greentic_dist_types::{Descriptor, Digest, Manifest, ManifestKind, Reference, SelectError};

use super::document::{self, DOCUMENT_BYTES};
use super::record::{CopyRecord, PROOF_BYTES};
use super::{Catalog, CatalogError, ProviderRegistryError};
use crate::dist::error::kind_of_net;
use crate::dist::{DistClient, DistError, DistErrorKind};

/// Times the same bytes are asked for from the start when what came was wrong. Each mirror makes room for one try more.
const TRIES: usize = 2;

/// Why a registry did not give a catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// It could not be asked, or did not give the right answer.
    #[error(transparent)]
    Network(#[from] NetError),
    /// Its manifest has no layer that could be a catalog.
    #[error("the manifest has nothing that could be a catalog")]
    Selection(#[from] SelectError),
    /// The layer is larger than any catalog.
    #[error("the catalog has {size_bytes} bytes, and at most {limit_bytes} are taken")]
    TooLarge {
        /// Its size in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// What came is no catalog.
    #[error("what the registry sent is no catalog")]
    NotACatalog(#[from] CatalogError),
    /// It took longer than a refresh may take where there is a copy.
    #[error("the registry did not answer within {:.1} s", limit.as_secs_f64())]
    Slow {
        /// The limit.
        limit: Duration,
    },
    /// What it named leads to no manifest of an artifact.
    #[error("the reference leads to no image manifest")]
    NoManifest,
    /// The network could not be set up.
    #[error(transparent)]
    Setup(Box<DistError>),
    /// The failure is on this side: a reference that cannot be located, a cache that cannot be written.
    #[error(transparent)]
    Local(Box<ProviderRegistryError>),
}

impl FetchFailure {
    /// The kind.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::Network(error) => kind_of_net(error),
            Self::Selection(_) | Self::TooLarge { .. } | Self::NotACatalog(_) | Self::NoManifest => {
                DistErrorKind::Internal
            }
            Self::Slow { .. } => DistErrorKind::Temporary,
            Self::Setup(error) => error.kind(),
            Self::Local(error) => error.kind(),
        }
    }

    pub(super) fn hints(&self) -> Vec<String> {
        match self {
            Self::Network(error) => error.hints(),
            Self::Setup(error) => error.hints(),
            Self::Local(error) => error.hints(),
            Self::NotACatalog(_) | Self::Selection(_) | Self::NoManifest => {
                vec!["look at what is published under that name with `greentic-dist inspect`".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl From<ProviderRegistryError> for FetchFailure {
    fn from(error: ProviderRegistryError) -> Self {
        Self::Local(Box::new(error))
    }
}

/// What a registry said about a reference.
#[derive(Debug)]
pub(super) enum Answer {
    /// It still stands for what is known.
    Unchanged,
    /// It stands for this, whose bytes are not here yet.
    Found(Box<Remote>),
}

/// A catalog in a registry.
#[derive(Debug)]
pub(super) struct Remote {
    repository: Repository,
    reference: Reference,
    image: FetchedImage,
    layer: Descriptor,
}

/// Asks what a reference stands for. With `known`, in one conditional request when nothing changed.
pub(super) async fn ask(
    client: &DistClient,
    reference: &Reference,
    known: Option<&CopyRecord>,
) -> Result<Answer, FetchFailure> {
    let net = client.inner.net(&reference.to_string()).map_err(|error| FetchFailure::Setup(Box::new(error)))?;
    let repository = net.repository(reference);
    let found = match (reference.digest(), known) {
        (Some(pin), _) => repository.manifest(Selector::Digest(pin)).await?,
        (None, Some(known)) => {
            let changed = repository
                .manifest_if_changed(reference.tag_or_latest(), known.etag.as_deref(), &known.named())
                .await?;
            match changed {
                None => return Ok(Answer::Unchanged),
                Some(manifest) => manifest,
            }
        }
        (None, None) => repository.manifest(Selector::Tag(reference.tag_or_latest())).await?,
    };
    let content = |manifest: &Manifest| catalog_layer(manifest).ok().map(|layer| layer.digest);
    // The platform that the client was given, and as a catalog is the same on all of them, else a common one.
    let image = repository.follow_portable(found, &client.inner.platform, content).await?;
    let ManifestKind::Image(manifest) = &image.manifest.kind else {
        return Err(FetchFailure::NoManifest);
    };
    let layer = catalog_layer(manifest)?.clone();
    if layer.size_bytes > DOCUMENT_BYTES {
        return Err(FetchFailure::TooLarge { size_bytes: layer.size_bytes, limit_bytes: DOCUMENT_BYTES });
    }
    Ok(Answer::Found(Box::new(Remote { repository, reference: reference.clone(), image, layer })))
}

impl Remote {
    /// The digest of the bytes.
    pub(super) fn content_digest(&self) -> Digest {
        self.layer.digest
    }

    /// Fetches the layer, proven while it flows.
    pub(super) async fn download(&self) -> Result<Vec<u8>, FetchFailure> {
        let mut tries = 1;
        loop {
            match self.download_once().await {
                Err(error) if error.kind() == NetErrorKind::Integrity && tries < TRIES + self.repository.mirrors() => {
                    tries += 1;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn download_once(&self) -> Result<Vec<u8>, NetError> {
        let mut stream = self.repository.blob(&self.layer).open().await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    /// Refuses bytes that may not take the place of a good copy.
    pub(super) fn check(bytes: &[u8]) -> Result<(), FetchFailure> {
        Ok(document::require_json(bytes)?)
    }

    /// Refuses bytes that this client cannot read in the place of some that it can, and in any place those that are a catalog for
    /// nobody. A catalog of another version is taken where there is nothing better.
    pub(super) fn may_replace(held: Option<&[u8]>, bytes: &[u8]) -> Result<(), FetchFailure> {
        let Err(error) = Catalog::from_slice(bytes) else { return Ok(()) };
        if held.is_some_and(|held| Catalog::from_slice(held).is_ok()) {
            return Err(error.into());
        }
        Ok(document::require_catalog(bytes)?)
    }

    /// What will be known of the copy.
    pub(super) fn record(&self, reference: &str, now: u64) -> CopyRecord {
        let FetchedImage { index, inner_indexes, manifest } = &self.image;
        let all = || index.iter().chain(inner_indexes).chain([manifest]);
        let bytes = all().map(|fetched| fetched.raw.len()).fold(0, usize::saturating_add);
        let is_kept = self.reference.digest().is_some() && bytes <= PROOF_BYTES;
        let proof = |fetched: &FetchedManifest| is_kept.then(|| String::from_utf8(fetched.raw.to_vec()).ok()).flatten();
        CopyRecord {
            resolved_reference: Some(self.reference.to_string()),
            index_digest: index.as_ref().map(|index| index.digest),
            size_bytes: self.layer.size_bytes,
            media_type: Some(self.layer.media_type.clone()),
            etag: index.as_ref().map_or(&manifest.etag, |index| &index.etag).clone(),
            manifest: proof(manifest),
            index: index.as_ref().and_then(proof),
            inner_indexes: inner_indexes.iter().filter_map(proof).collect(),
            ..CopyRecord::of_registry(reference, manifest.digest, self.layer.digest, now)
        }
    }
}

/// The layer that is the catalog: the first whose type stands first among pack as JSON, JSON, bytes of no type, and the other
/// types of packs; else the first of any type. One that carries nothing is none.
pub(super) fn catalog_layer(manifest: &Manifest) -> Result<&Descriptor, SelectError> {
    let rank = |layer: &Descriptor| match essence(&layer.media_type).as_str() {
        PACK_JSON => 0,
        JSON => 1,
        OCTET_STREAM => 2,
        other => pack_rank(other).map_or(usize::MAX, |rank| 3 + rank),
    };
    let layers = manifest.layers.iter().filter(|layer| essence(&layer.media_type) != EMPTY);
    layers.min_by_key(|layer| rank(layer)).ok_or(SelectError::NoLayers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn chosen(types: &[&str]) -> Result<usize, SelectError> {
        let layer = |(number, name): (usize, &&str)| {
            Descriptor::new(*name, Digest::sha256(&[u8::try_from(number).unwrap()]), 1)
        };
        let manifest = Manifest {
            artifact_type: None,
            config: None,
            layers: types.iter().enumerate().map(layer).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let found = catalog_layer(&manifest)?;
        Ok(manifest.layers.iter().position(|layer| layer == found).unwrap())
    }

    #[test]
    fn json_is_preferred_and_any_layer_is_taken_where_there_is_no_better_one() {
        let gtpack = "application/vnd.greentic.gtpack.v1+zip";
        for (types, expected) in [
            (&["text/plain", JSON, OCTET_STREAM][..], 1),
            (&[OCTET_STREAM, JSON], 1),
            (&[JSON, PACK_JSON], 1),
            (&[gtpack, OCTET_STREAM], 1),
            (&["text/html", gtpack], 1),
            (&["text/markdown", "Application/JSON; charset=utf-8"], 1),
            (&["text/html", "application/vnd.acme+json"], 0),
            (&[EMPTY, "text/html"], 1),
            (&[JSON, JSON], 0),
        ] {
            assert_eq!(chosen(types), Ok(expected), "{types:?}");
        }
        for nothing in [&[][..], &[EMPTY]] {
            assert_eq!(chosen(nothing), Err(SelectError::NoLayers));
        }
    }
}
