//! What `oci_packs` and `oci_components` share: the client that asks registries, and the way from a reference to a verified
//! artifact in a cache directory.
//!
//! A fetcher is generic over its client. With [`DefaultRegistryClient`] it streams through the same engine as
//! [`DistClient`](crate::dist::DistClient). A host can bring a client of its own, which answers with whole layers in memory;
//! what it returns is held against every digest there is before a path is made from it.

mod answer;
mod asked;
mod client;
mod complete;
mod error;
mod fetcher;
mod injected;
mod metadata;

pub use client::DefaultRegistryClient;
pub use error::RegistryClientError;
/// A reference to an artifact in a registry, as clients are given it.
pub use greentic_dist_types::Reference;

pub(crate) use asked::Asked;
pub(crate) use complete::{Found, complete};
pub(crate) use error::{FetchError, offline_hint};
pub(crate) use fetcher::{FetchRules, Fetched, Fetcher, Named};
pub(crate) use metadata::Metadata;

/// What a client returns for a reference.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// Digest of what the reference names, where the client knows it. Believed as the digest of the manifest, which the client
    /// has seen and the fetcher has not; its syntax is checked.
    pub digest: Option<String>,
    /// The layers with their bytes, in the order of the manifest.
    pub layers: Vec<PulledLayer>,
}

/// A layer with its bytes.
#[derive(Clone, Debug)]
pub struct PulledLayer {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Digest of the bytes, where the client knows it. Checked.
    pub digest: Option<String>,
}

/// Media types of manifests and indexes that fetchers take by default.
pub(crate) fn default_manifest_types() -> Vec<String> {
    use greentic_dist_types::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST};
    [OCI_ARTIFACT, OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, DOCKER_INDEX]
        .map(ToOwned::to_owned)
        .to_vec()
}

/// Defines the trait `RegistryClient` of a module and implements it for [`DefaultRegistryClient`].
///
/// Each fetcher has a trait of its own at its own path, as published code implements them one by one, for one type.
macro_rules! registry_client {
    ($(#[$about:meta])* tarballs: $tarballs:literal) => {
        $(#[$about])*
        #[async_trait::async_trait]
        pub trait RegistryClient: Send + Sync {
            /// The client that a fetcher makes for itself when it is given none. No I/O.
            fn default_client() -> Self
            where
                Self: Sized;

            /// Fetches what `reference` names: its digest, and the layers whose media type is in `accepted_layer_types`. Called once
            /// for each reference that is not in the cache.
            ///
            /// What it returns is verified: digests by their syntax, bytes against the digest of their layer, and both against the
            /// digest in the reference. Layers of other types may be left out; the order is that of the manifest.
            ///
            /// Dropped when the fetch is cancelled.
            ///
            /// # Errors
            /// Whatever kept the client from the answer.
            async fn pull(
                &self,
                reference: &Reference,
                accepted_layer_types: &[&str],
            ) -> Result<PulledImage, RegistryClientError>;

            /// The client of this crate, when this is it: it streams to the disk, and is not asked to [`pull`](Self::pull).
            #[doc(hidden)]
            fn streaming(&self) -> Option<&DefaultRegistryClient> {
                None
            }
        }

        #[async_trait::async_trait]
        impl RegistryClient for DefaultRegistryClient {
            fn default_client() -> Self {
                Self::default()
            }

            /// Downloads the layers into memory, 2 GiB in all at most, each proven by its digest.
            async fn pull(
                &self,
                reference: &Reference,
                accepted_layer_types: &[&str],
            ) -> Result<PulledImage, RegistryClientError> {
                self.pull_into_memory(reference, accepted_layer_types, $tarballs).await
            }

            fn streaming(&self) -> Option<&DefaultRegistryClient> {
                Some(self)
            }
        }
    };
}

pub(crate) use registry_client;
