//! Blobs by their digest, for runners that were told a digest and a repository and nothing else.
//!
//! A [`DigestFetcher`] asks a repository for the blob itself (`GET /v2/<repository>/blobs/<digest>`): one request, no manifest.
//! What comes is hashed while it is written and appears in the cache only when it is the named content. What is in the cache is
//! hashed again every time it is handed out.
//!
//! ```no_run
//! use greentic_distributor_client::runner_api::DigestFetcher;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let fetcher: DigestFetcher = DigestFetcher::default();
//! let layer = "ghcr.io/acme/hello@sha256:6d2b0a2e1c8f4a35b7e9d0c1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5";
//! let cached = fetcher.ensure_cached(layer).await?;
//! println!("{} bytes at {}", cached.metadata.size_bytes, cached.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! The digest is that of a *blob* (a layer, a config). The digest of a manifest, which is what `greentic-dist resolve` prints, is
//! for [`DistClient`](crate::dist::DistClient).

mod client;
mod error;
mod fetcher;
mod reference;

pub use crate::registry_client::{DefaultRegistryClient, Reference, RegistryClientError};
pub use client::{PulledImage, PulledLayer, RegistryClient};
pub use error::RunnerApiError;
pub use fetcher::{CacheInfo, CachedDigest, DigestFetchOptions, DigestFetcher, FetchMetadata};
pub use reference::{DigestRef, DigestRefInput};
