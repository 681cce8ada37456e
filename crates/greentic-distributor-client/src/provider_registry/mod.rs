//! The provider catalog of a bundle: from a reference to a file of this machine, also with the network gone.
//!
//! ```text
//! "oci://ghcr.io/acme/providers:latest"   what a person writes
//!    │ parse                              reference.rs
//!    ▼
//! a path, or a name in a registry
//!    │ look: a copy that proves itself    cache.rs, with record.rs, index.rs, layout.rs, names.rs
//!    ▼
//! a miss, or a refresh is wanted
//!    │ locate: which registry             mapping.rs
//!    │ ask and fetch: one layer           fetch.rs
//!    │ check: it is a document            document.rs, yaml.rs
//!    ▼
//! a copy in <bundle>/.greentic/cache/provider-registry
//!    │ read                               read.rs, catalog.rs
//!    ▼
//! ResolvedCatalog                         resolved.rs
//! ```
//!
//! [`resolve_catalog_path`] and [`cache_registry_file`] are synchronous and work inside async runtimes and outside of any;
//! [`ProviderRegistry`] has the same with more to say and to set. [`Catalog`] reads the document. `docs/provider-catalog.md`
//! tells the rules.

mod cache;
mod catalog;
mod disk;
mod document;
mod error;
mod fetch;
mod index;
mod layout;
mod lock;
mod mapping;
mod names;
mod prune;
mod read;
mod record;
mod reference;
mod resolve;
mod resolved;
mod yaml;

use std::path::{Path, PathBuf};

pub use catalog::{Catalog, Category, Label, Provider};
pub use error::{CatalogError, ProviderRegistryError};
pub use fetch::FetchFailure;
pub use mapping::RegistryBases;
pub use record::CatalogOrigin;
pub use resolve::{ProviderRegistry, ProviderRegistryBuilder};
pub use resolved::{CatalogSource, RefreshFailure, ResolvedCatalog};

/// Whether what is read as a catalog may be kept as one, for the fuzz target.
#[cfg(feature = "fuzzing")]
pub(crate) fn may_be_kept(document: &[u8]) -> bool {
    document::require(document).is_ok() && document::require_catalog(document).is_ok()
}

/// Where a reference leads with these bases, for the fuzz target.
#[cfg(feature = "fuzzing")]
pub(crate) fn located(text: &str, bases: &RegistryBases) -> Result<Option<String>, ProviderRegistryError> {
    use reference::CatalogRef;

    match CatalogRef::parse(text)? {
        Some(CatalogRef::Remote(remote)) => remote.locate(bases).map(|reference| Some(reference.to_string())),
        Some(CatalogRef::Local(_)) | None => Ok(None),
    }
}

/// The index of a cache after a file was put in, for the fuzz target.
#[cfg(feature = "fuzzing")]
pub(crate) fn index_after(document: &[u8], reference: &str, file: &[u8]) -> Option<crate::fuzzing::CatalogIndexAfter> {
    let mut index = index::Index::parse(document).ok()?;
    let before = index.digest(reference);
    index.put(&record::CopyRecord::of_file(reference, file, 1));
    let entry = index.entry(reference)?;
    Some(crate::fuzzing::CatalogIndexAfter {
        document: index.to_bytes().ok()?,
        before,
        after: index.digest(reference).filter(|digest| *digest == entry.content_digest),
    })
}

/// The path of a provider catalog on this machine.
///
/// - `catalog_file` is returned as it is, unchecked. Nothing is cached for it.
/// - Without a reference, or with a blank one: `None`.
/// - `file://PATH` and every text without `://` is a path, and must be a regular file. (A bare `ghcr.io/x/y:1` is a path.)
/// - `oci://`, `repo://` and `store://` name something in a registry: the copy below `bundle`, else it is fetched. With
///   `refresh` the registry is asked first, in one request when nothing changed; when that fails the copy is used all the same.
///   With `offline` no socket is opened, whatever `refresh` says.
///
/// Logins, certificates, mirrors, the bases of `repo://` and `store://` and the offline switch are those of
/// [`DistClient::default`](crate::dist::DistClient), which reads the environment; [`ProviderRegistry`] takes them from a client.
///
/// Synchronous: blocks the thread, and may be called inside an async runtime of any kind.
///
/// # Errors
/// As [`ProviderRegistry::resolve`].
///
/// # Example
/// ```
/// use greentic_distributor_client::provider_registry::resolve_catalog_path;
///
/// let bundle = std::env::temp_dir();
/// let path = resolve_catalog_path(Some("catalog.json".into()), Some("oci://ghcr.io/acme/providers:1"), false, false, &bundle)?;
/// assert_eq!(path.as_deref(), Some("catalog.json".as_ref()));
/// assert_eq!(resolve_catalog_path(None, Some("  "), false, false, &bundle)?, None);
/// # Ok::<(), greentic_distributor_client::provider_registry::ProviderRegistryError>(())
/// ```
pub fn resolve_catalog_path(
    catalog_file: Option<PathBuf>,
    provider_registry_ref: Option<&str>,
    offline: bool,
    refresh: bool,
    bundle: &Path,
) -> Result<Option<PathBuf>, ProviderRegistryError> {
    if catalog_file.is_some() {
        return Ok(catalog_file);
    }
    let registry = ProviderRegistry::builder(bundle).offline(offline).refresh(refresh).build();
    Ok(registry.resolve_blocking(None, provider_registry_ref)?.map(|resolved| resolved.path))
}

/// Puts a file into the cache of a bundle as the copy of a reference, and returns the path of the copy.
///
/// The file must be a catalog document: a JSON object or list of at most 16 MiB, or a catalog in YAML. It is read as a whole
/// before anything is written, so it may be the copy itself. What a registry sent is not replaced by another file: that is then
/// kept by its digest alone, and the path of that copy is returned. A file for a pinned reference must be what the pin names; one
/// that lies in the cache of another bundle brings along the proof.
///
/// Synchronous: blocks on the disk. Opens no socket.
///
/// # Errors
/// By kind: not found or internal for a file that cannot be read; invalid input for one that is no catalog; integrity for one
/// that is not what a pin names; temporary when another process writes for too long; internal when the cache cannot be written.
pub fn cache_registry_file(bundle: &Path, reference: &str, source: &Path) -> Result<PathBuf, ProviderRegistryError> {
    ProviderRegistry::builder(bundle).build().put(reference, source)
}
