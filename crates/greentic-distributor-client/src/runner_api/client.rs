//! Who is asked for a blob: a registry, or a client that the host brings along.

use async_trait::async_trait;
use greentic_dist_types::Reference;

use crate::dist::{DistError, fetch_blob};
use crate::registry_client::{DefaultRegistryClient, RegistryClientError};

/// What a client pulled.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The layers, in the order of the manifest.
    pub layers: Vec<PulledLayer>,
}

/// A layer in memory.
#[derive(Clone, Debug)]
pub struct PulledLayer {
    /// Its media type, where it is known.
    pub media_type: Option<String>,
    /// Its bytes. They are hashed before they are used.
    pub data: Vec<u8>,
    /// Its digest as the client says it.
    pub digest: Option<String>,
}

/// Asks registries for blobs, in place of [`DefaultRegistryClient`]: for tests, and for hosts with a client of their own.
///
/// Whatever it returns is verified as a registry's answer is.
#[async_trait]
pub trait RegistryClient: Send + Sync {
    /// The client that a fetcher makes for itself when it is given none. No I/O.
    fn default_client() -> Self
    where
        Self: Sized;

    /// Pulls the layer whose digest `reference` names; others may come with it. `accepted_manifest_types` are those of the
    /// fetcher's options. Called once for each blob that is not in the cache.
    ///
    /// Dropped when the fetch is cancelled.
    ///
    /// # Errors
    /// Whatever kept the client from the answer.
    async fn pull(
        &self,
        reference: &Reference,
        accepted_manifest_types: &[&str],
    ) -> Result<PulledImage, RegistryClientError>;

    /// The client of this crate, when this is it: it streams to the disk, and is not asked to [`pull`](Self::pull).
    #[doc(hidden)]
    fn streaming(&self) -> Option<&DefaultRegistryClient> {
        None
    }
}

#[async_trait]
impl RegistryClient for DefaultRegistryClient {
    fn default_client() -> Self {
        Self::default()
    }

    /// Downloads the blob alone into memory, 2 GiB at most, proven.
    async fn pull(
        &self,
        reference: &Reference,
        _accepted_manifest_types: &[&str],
    ) -> Result<PulledImage, RegistryClientError> {
        let Some(digest) = reference.digest() else {
            return Err(Box::new(DistError::InvalidInput(format!("`{reference}` names no digest"))).into());
        };
        self.expect(reference);
        let client = self.builder().build();
        let data = fetch_blob::read(&client.inner, reference, digest).await.map_err(Box::new)?;
        let layer = PulledLayer { media_type: None, data, digest: Some(digest.to_string()) };
        Ok(PulledImage { layers: vec![layer] })
    }

    fn streaming(&self) -> Option<&DefaultRegistryClient> {
        Some(self)
    }
}
