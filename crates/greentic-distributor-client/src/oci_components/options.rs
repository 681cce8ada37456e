//! How components are resolved.

use std::path::PathBuf;

use greentic_dist_store::Sidecar;
use greentic_dist_types::{ArtifactType, LayerRule, media_type};

use super::wasm_name;
use crate::dist::{Beside, DistError, Documents, Listed};
use crate::registry_client::{FetchRules, Metadata, default_manifest_types};
use crate::{env, paths};

/// Options of an [`OciComponentResolver`](super::OciComponentResolver).
#[derive(Clone, Debug)]
pub struct ComponentResolveOptions {
    /// Whether a reference may be a tag. Default: no; references must carry a digest.
    pub allow_tags: bool,
    /// Whether nobody may be asked. Default: `GREENTIC_DIST_OFFLINE` is exactly `1`.
    pub offline: bool,
    /// The cache root, shared with [`DistClient`](crate::dist::DistClient). Default: `GREENTIC_CACHE_DIR`, else
    /// `GREENTIC_DIST_CACHE_DIR`, else `$GREENTIC_HOME/cache/components`, else
    /// `${XDG_CACHE_HOME:-~/.cache}/greentic/components`.
    pub cache_dir: PathBuf,
    /// Media types of manifests and indexes that are taken. Default: those of OCI and Docker.
    pub accepted_manifest_types: Vec<String>,
    /// Media types of layers that are a component, best first; a layer of another type is never one. Default: those of Wasm
    /// components and modules, then the component manifest, then `application/octet-stream`.
    pub preferred_layer_media_types: Vec<String>,
}

impl Default for ComponentResolveOptions {
    /// Reads the environment; touches no file.
    fn default() -> Self {
        Self {
            allow_tags: false,
            offline: env::switch(env::OFFLINE),
            cache_dir: paths::cache_root(),
            accepted_manifest_types: default_manifest_types(),
            preferred_layer_media_types: default_layer_types(),
        }
    }
}

impl ComponentResolveOptions {
    pub(super) fn into_rules(self) -> FetchRules {
        FetchRules {
            allow_tags: self.allow_tags,
            offline: self.offline,
            cache_dir: self.cache_dir,
            listed: Listed {
                artifact_type: ArtifactType::Component,
                layers: LayerRule::new(&self.preferred_layer_media_types, &[]),
                manifests: self.accepted_manifest_types,
                beside,
            },
        }
    }
}

/// `metadata.json`, beside the component. A component manifest that cannot be followed is refused here, before anything moves.
fn beside(about: &Beside<'_>) -> Result<Documents, DistError> {
    let name = match about.component_manifest {
        // One that is the artifact itself names no other.
        Some(manifest) if media_type::essence(about.media_type) != media_type::COMPONENT_MANIFEST => {
            wasm_name::read(manifest)
                .map_err(|source| DistError::ComponentManifest { reference: about.reference.to_owned(), source })?
        }
        _ => None,
    };
    let name = name.as_ref().map(greentic_dist_store::SecondName::as_str);
    Ok(vec![(Sidecar::Metadata, Metadata::new(about).with_wasm_name(name).to_json()?)])
}

fn default_layer_types() -> Vec<String> {
    [
        media_type::WASM_COMPONENT_LAYER,
        media_type::WASM_MODULE_LAYER,
        media_type::WASM,
        media_type::COMPONENT_MANIFEST,
        media_type::OCTET_STREAM,
        // Of later publishers, behind the documented ones.
        "application/vnd.greentic.wasm.component",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}
