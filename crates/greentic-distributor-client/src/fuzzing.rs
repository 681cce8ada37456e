//! A door to parsers, for the fuzz targets in `fuzz/` and nobody else. No promise of any kind.

use greentic_dist_net::CredentialTarget;
use greentic_dist_types::Digest;

use crate::credentials::docker_config;
use crate::oci::layout;
use crate::provider_registry::{self, ProviderRegistryError, RegistryBases};

/// Whether a text in the form of Docker's `config.json` has a login for this host and repository, and what is told beside it.
pub fn docker_config(text: &str, host: &str, repository: &str) -> (bool, Vec<String>) {
    let target = CredentialTarget::new(host, repository);
    let (login, told) = docker_config::find_in(text, &target);
    (login.is_some(), told)
}

/// The name, the position and the size of every member of a tar archive. `None` for an archive that is refused.
pub fn tar_members(archive: &[u8]) -> Option<Vec<(String, u64, u64)>> {
    layout::members_of(archive)
}

/// The `index.json` of a layout after this manifest was added under this name, and the digests that the name and the only image
/// then stand for. The text says why one is refused.
///
/// # Errors
/// Why it is no index.
pub fn layout_index(document: &[u8], added: Digest, name: &str) -> Result<IndexAfter, String> {
    layout::index_after(document, added, name)
}

/// An index that something was added to.
#[derive(Debug, PartialEq, Eq)]
pub struct IndexAfter {
    /// The document.
    pub document: Vec<u8>,
    /// What the name stands for.
    pub named: Option<Digest>,
    /// What stands for the layout as a whole, or why nothing does.
    pub only: Result<Digest, String>,
}

/// Whether a document may be kept as a provider catalog.
pub fn is_kept_as_catalog(document: &[u8]) -> bool {
    provider_registry::may_be_kept(document)
}

/// Which name in which registry a reference to a provider catalog means; `None` for a path.
///
/// # Errors
/// Why it means nothing.
pub fn catalog_reference(text: &str, bases: &RegistryBases) -> Result<Option<String>, ProviderRegistryError> {
    provider_registry::located(text, bases)
}

/// The index of a catalog cache after a file was put in as the copy of a reference. `None` for one that is torn.
pub fn catalog_index(document: &[u8], reference: &str, file: &[u8]) -> Option<CatalogIndexAfter> {
    provider_registry::index_after(document, reference, file)
}

/// The index of a catalog cache that something was added to.
#[derive(Debug, PartialEq, Eq)]
pub struct CatalogIndexAfter {
    /// The document.
    pub document: Vec<u8>,
    /// What the reference stood for.
    pub before: Option<Digest>,
    /// What it stands for.
    pub after: Option<Digest>,
}
