//! The components a pack names: references go in, verified files in a cache directory come out.
//!
//! ```no_run
//! use greentic_distributor_client::oci_components::{ComponentResolveOptions, ComponentsExtension, OciComponentResolver};
//!
//! # async fn example(pack_manifest: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let resolver: OciComponentResolver = OciComponentResolver::new(ComponentResolveOptions::default());
//! if let Some(extension) = ComponentsExtension::from_pack_manifest(pack_manifest)? {
//!     for component in resolver.resolve_refs(&extension).await? {
//!         println!("{} is {} at {}", component.original_reference, component.resolved_digest, component.path.display());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `docs/oci_components.md` tells the rules: which layer is the component, what is verified, how its file is called, what lazy and
//! offline mean.

mod bounded;
mod error;
mod extension;
mod options;
mod published;
mod resolved;
mod resolver;
mod wasm_name;

pub use crate::registry_client::{DefaultRegistryClient, PulledImage, PulledLayer, Reference, RegistryClientError};
pub use error::OciComponentError;
pub use extension::{ComponentsExtension, ComponentsExtensionError, ComponentsMode};
pub use options::ComponentResolveOptions;
pub use resolved::{ResolvedComponent, ResolvedComponentDescriptor};
pub use resolver::OciComponentResolver;

crate::registry_client::registry_client! {
    /// Asks registries for components, in place of [`DefaultRegistryClient`]: for tests, and for hosts with a client of their own.
    tarballs: false
}
