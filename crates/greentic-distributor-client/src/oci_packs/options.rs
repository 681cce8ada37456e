//! What a pack fetcher takes, and where it keeps it.

use std::path::PathBuf;

use greentic_dist_store::Sidecar;
use greentic_dist_types::{ArtifactType, LayerRule, media_type};

use crate::dist::{Beside, DistError, Documents, Listed};
use crate::registry_client::{FetchRules, Metadata, default_manifest_types};
use crate::{env, paths};

/// Layer types that name a pack, and `text/markdown`: those that are taken before any other.
const PREFERRED: [&str; 5] = [
    media_type::PACK_JSON,
    media_type::GTPACK,
    "application/vnd.greentic.gtpack+zip",
    "application/vnd.greentic.pack+zip",
    "text/markdown",
];

/// Layer types that a pack may have beside those.
const OTHERS: [&str; 6] = [
    media_type::OCTET_STREAM,
    media_type::JSON,
    media_type::TAR_LAYER,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.greentic.gtpack.layer.v1+tar",
];

/// Options of an [`OciPackFetcher`](super::OciPackFetcher). More fields may come: build it with `..PackFetchOptions::default()`.
#[derive(Clone, Debug)]
pub struct PackFetchOptions {
    /// Whether a tag may be resolved. When off, references must carry a digest. Default: off.
    pub allow_tags: bool,
    /// Whether no socket may be opened. A tag then means what it meant when it was last asked for. Default:
    /// `GREENTIC_DIST_OFFLINE` is exactly `1`.
    pub offline: bool,
    /// The cache directory. Default: `GREENTIC_PACK_CACHE_DIR`, else `$GREENTIC_HOME/cache/packs`, else
    /// `${XDG_CACHE_HOME:-~/.cache}/greentic/packs`.
    pub cache_dir: PathBuf,
    /// Media types of manifests and image indexes that are taken; others are refused. A client of the host tells none. Default:
    /// OCI's and Docker's, and the withdrawn OCI artifact manifest, which is refused by its name all the same.
    pub accepted_manifest_types: Vec<String>,
    /// Layer types that may be the pack, beside the preferred ones. Every tarball (`+tar`, `+tar+gzip`, `+tar+zstd`) is
    /// accepted, too. Layers of other types are left alone. Default: [`default_pack_layer_media_types`].
    pub accepted_layer_media_types: Vec<String>,
    /// Layer types that are taken before others, best first. Among equals the first of the manifest is taken; where there is
    /// none of these, the first accepted one. Default: [`default_preferred_pack_layer_media_types`].
    pub preferred_layer_media_types: Vec<String>,
}

impl Default for PackFetchOptions {
    /// Reads the environment; touches no file.
    fn default() -> Self {
        Self {
            allow_tags: false,
            offline: env::switch(env::OFFLINE),
            cache_dir: paths::pack_cache_root(),
            accepted_manifest_types: default_manifest_types(),
            accepted_layer_media_types: default_pack_layer_media_types(),
            preferred_layer_media_types: default_preferred_pack_layer_media_types(),
        }
    }
}

impl PackFetchOptions {
    /// The same, with one more accepted layer type.
    #[must_use]
    pub fn add_accepted_layer_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.accepted_layer_media_types.push(media_type.into());
        self
    }

    /// The same, with more accepted layer types.
    #[must_use]
    pub fn add_accepted_layer_media_types<I, S>(mut self, media_types: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.accepted_layer_media_types.extend(media_types.into_iter().map(Into::into));
        self
    }

    pub(super) fn into_rules(self) -> FetchRules {
        let layers = LayerRule::new(&self.preferred_layer_media_types, &self.accepted_layer_media_types);
        FetchRules {
            allow_tags: self.allow_tags,
            offline: self.offline,
            cache_dir: self.cache_dir,
            listed: Listed {
                artifact_type: ArtifactType::Pack,
                layers: layers.with_tarballs(true),
                manifests: self.accepted_manifest_types,
                beside,
            },
        }
    }
}

/// `metadata.json`, beside the pack.
fn beside(about: &Beside<'_>) -> Result<Documents, DistError> {
    Ok(vec![(Sidecar::Metadata, Metadata::new(about).to_json()?)])
}

/// The layer types that may be a pack by default, the preferred ones first.
pub fn default_pack_layer_media_types() -> Vec<String> {
    PREFERRED.into_iter().chain(OTHERS).map(ToOwned::to_owned).collect()
}

/// The layer types that are taken first by default, best first.
pub fn default_preferred_pack_layer_media_types() -> Vec<String> {
    PREFERRED.map(ToOwned::to_owned).to_vec()
}
