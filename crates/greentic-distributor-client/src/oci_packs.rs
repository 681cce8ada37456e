//! Packs from OCI registries: a reference goes in, a verified file in a cache directory comes out.
//!
//! ```no_run
//! use greentic_distributor_client::oci_packs::{DefaultRegistryClient, OciPackFetcher, PackFetchOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = PackFetchOptions { allow_tags: true, ..PackFetchOptions::default() };
//! let fetcher: OciPackFetcher<DefaultRegistryClient> = OciPackFetcher::new(options);
//! let pack = fetcher.fetch_pack_to_cache("ghcr.io/acme/packs/hello:1").await?;
//! println!("{} is {} at {}", pack.original_reference, pack.resolved_digest, pack.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! `docs/oci_packs.md` tells the rules: which layer is the pack, what is verified, where it is kept, what offline means.

mod error;
mod options;

use std::path::PathBuf;

use crate::blocking;
use crate::output_file::{self, Existing};
use crate::registry_client::{Asked, FetchError, Fetched, Fetcher, registry_client};
pub use crate::registry_client::{DefaultRegistryClient, PulledImage, PulledLayer, Reference, RegistryClientError};
pub use error::OciPackError;
pub use options::{PackFetchOptions, default_pack_layer_media_types, default_preferred_pack_layer_media_types};

registry_client! {
    /// Asks registries for packs, in place of [`DefaultRegistryClient`]: for tests, and for hosts with a client of their own.
    tarballs: true
}

/// A pack that is in the cache directory, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPack {
    /// The reference as given.
    pub original_reference: String,
    /// Digest of what the reference names: its pin, where it has one. Of an image index, or of the image manifest, or of the
    /// pack itself where a client of the host tells no manifest.
    pub resolved_digest: String,
    /// Media type of the layer that is the pack, as the manifest has it.
    pub media_type: String,
    /// The file, `pack.gtpack` in a directory of its own that is named by the manifest.
    pub path: PathBuf,
    /// Whether this call brought it; `false` for a pack that was in the cache.
    pub fetched_from_network: bool,
    /// Digest of the image manifest that names the pack. Differs from `resolved_digest` where that is an index.
    pub manifest_digest: Option<String>,
}

/// Fetches packs into a cache directory.
///
/// Making one does no I/O. May be used from several tasks at once and from several runtimes, also current-thread ones, one
/// after another.
#[derive(Debug)]
pub struct OciPackFetcher<C: RegistryClient = DefaultRegistryClient> {
    client: C,
    accepted: Vec<String>,
    fetcher: Fetcher,
}

impl Default for OciPackFetcher<DefaultRegistryClient> {
    /// A fetcher with [`PackFetchOptions::default`], which reads the environment.
    fn default() -> Self {
        Self::new(PackFetchOptions::default())
    }
}

impl<C: RegistryClient> OciPackFetcher<C> {
    /// A fetcher with the client's default. No I/O.
    pub fn new(opts: PackFetchOptions) -> Self {
        Self::with_client(C::default_client(), opts)
    }

    /// A fetcher that asks `client`. No I/O.
    pub fn with_client(client: C, opts: PackFetchOptions) -> Self {
        let accepted = opts.accepted_layer_media_types.clone();
        Self { client, accepted, fetcher: Fetcher::new(opts.into_rules()) }
    }

    /// Brings a pack into the cache, or finds it there, and reads it into memory.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`OciPackFetcher::fetch_pack_to_cache`].
    pub async fn fetch_pack(&self, reference: &str) -> Result<Vec<u8>, OciPackError> {
        let fetched = self.fetch(reference).await?;
        fetched.read().await.map_err(|error| OciPackError::of(reference, error))
    }

    /// Brings a pack into the cache, or finds it there.
    ///
    /// A pin that is in the cache costs no request, a tag one. Bytes are hashed while they are written and appear under their
    /// name as a whole or not at all; a cached pack is proven again before its path is returned. Processes that fetch the same
    /// pack wait for the first of them.
    ///
    /// Cancel-safe: what was downloaded is kept for the next attempt.
    ///
    /// # Errors
    /// By kind, see [`OciPackError::kind`]: invalid input, not found, offline, auth, policy, temporary, integrity, internal.
    pub async fn fetch_pack_to_cache(&self, reference: &str) -> Result<ResolvedPack, OciPackError> {
        Ok(resolved(reference, self.fetch(reference).await?))
    }

    /// As [`OciPackFetcher::fetch_pack_to_cache`], and copies the pack to `target`, proven again on the way. The file appears
    /// as a whole or not at all. With `replace`, a file of that name makes way; else it stays, and nobody is asked anything.
    ///
    /// Cancel-safe: a file that is being written is finished.
    ///
    /// # Errors
    /// As [`OciPackFetcher::fetch_pack_to_cache`]; of kind invalid input when the file is there already or cannot be written.
    pub async fn fetch_pack_to_file(
        &self,
        reference: &str,
        target: impl Into<PathBuf>,
        replace: bool,
    ) -> Result<ResolvedPack, OciPackError> {
        let (target, existing) = (target.into(), if replace { Existing::Replace } else { Existing::Keep });
        // Before anybody is asked; looked at again when the file is put in place.
        let checked = {
            let target = target.clone();
            move || output_file::check(&target, existing).map_err(|error| output_file::unwritable(&target, &error))
        };
        blocking::run(checked)
            .await
            .map_err(|error| OciPackError::of(reference, FetchError::Other(Box::new(error))))?;
        let fetched = self.fetch(reference).await?;
        fetched.save(target, existing).await.map_err(|error| OciPackError::of(reference, error))?;
        Ok(resolved(reference, fetched))
    }

    async fn fetch(&self, reference: &str) -> Result<Fetched, OciPackError> {
        let asked = self.fetcher.ask(reference).map_err(|error| OciPackError::of(reference, error))?;
        let fetched = self.bring(reference, &asked).await?;
        self.fetcher.complete(&asked, &fetched).await;
        Ok(fetched)
    }

    async fn bring(&self, reference: &str, asked: &Asked) -> Result<Fetched, OciPackError> {
        let of = |error| OciPackError::of(reference, error);
        if let Some(client) = self.client.streaming() {
            return self.fetcher.fetch(client, asked).await.map_err(of);
        }
        if let Some(found) = self.fetcher.find(asked).await.map_err(of)? {
            return Ok(found);
        }
        let accepted: Vec<&str> = self.accepted.iter().map(String::as_str).collect();
        let image = self.client.pull(asked.reference(), &accepted).await;
        let image = image.map_err(|source| of(source.into()))?;
        self.fetcher.take(asked, image).await.map_err(of)
    }
}

fn resolved(reference: &str, fetched: Fetched) -> ResolvedPack {
    let Fetched { named, path, from_network, .. } = fetched;
    ResolvedPack {
        original_reference: reference.to_owned(),
        resolved_digest: named.digest.to_string(),
        media_type: named.media_type,
        path,
        fetched_from_network: from_network,
        manifest_digest: named.manifest.map(|digest| digest.to_string()),
    }
}

/// As [`OciPackFetcher::fetch_pack`] with the default client and default options.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack(oci_ref: &str) -> Result<Vec<u8>, OciPackError> {
    fetch_pack_with_options(oci_ref, PackFetchOptions::default()).await
}

/// As [`OciPackFetcher::fetch_pack`] with the default client.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack_with_options(oci_ref: &str, opts: PackFetchOptions) -> Result<Vec<u8>, OciPackError> {
    fetch_pack_with_options_and_client(oci_ref, opts, DefaultRegistryClient::default()).await
}

/// As [`OciPackFetcher::fetch_pack`], for one pack.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack_with_options_and_client<C: RegistryClient>(
    oci_ref: &str,
    opts: PackFetchOptions,
    client: C,
) -> Result<Vec<u8>, OciPackError> {
    OciPackFetcher::with_client(client, opts).fetch_pack(oci_ref).await
}

/// As [`OciPackFetcher::fetch_pack_to_cache`] with the default client and default options.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack_to_cache(oci_ref: &str) -> Result<ResolvedPack, OciPackError> {
    fetch_pack_to_cache_with_options(oci_ref, PackFetchOptions::default()).await
}

/// As [`OciPackFetcher::fetch_pack_to_cache`] with the default client.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack_to_cache_with_options(
    oci_ref: &str,
    opts: PackFetchOptions,
) -> Result<ResolvedPack, OciPackError> {
    fetch_pack_to_cache_with_options_and_client(oci_ref, opts, DefaultRegistryClient::default()).await
}

/// As [`OciPackFetcher::fetch_pack_to_cache`], for one pack.
///
/// # Errors
/// As [`OciPackFetcher::fetch_pack_to_cache`].
pub async fn fetch_pack_to_cache_with_options_and_client<C: RegistryClient>(
    oci_ref: &str,
    opts: PackFetchOptions,
    client: C,
) -> Result<ResolvedPack, OciPackError> {
    OciPackFetcher::with_client(client, opts).fetch_pack_to_cache(oci_ref).await
}
