use std::path::{Path, PathBuf};

use greentic_distributor_client::provider_registry::{
    ProviderRegistryError, cache_registry_file, resolve_catalog_path,
};

/// The catalog for a run without a network, out of a file that came with the program.
pub fn by_path(bundle: &Path, shipped: &Path) -> Result<Option<PathBuf>, ProviderRegistryError> {
    let reference = "oci://ghcr.io/greenticai/registries/providers:latest";
    cache_registry_file(bundle, reference, shipped)?;
    let (offline, refresh) = (true, false);
    resolve_catalog_path(None, Some(reference), offline, refresh, bundle)
}
