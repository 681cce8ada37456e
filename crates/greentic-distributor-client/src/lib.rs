//! Find, fetch, verify, keep and reopen Wasm components and packs.
//!
//! A reference goes in (an OCI registry, an `https://` URL, a file, a digest), exactly the promised bytes come out: hashed
//! on arrival, kept in a cache that survives crashes, opened again with the network gone.
//!
//! ```no_run
//! use greentic_distributor_client::dist::{CachePolicy, DistClient, DistOptions, ResolvePolicy};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = DistClient::new(DistOptions::default());
//!
//! // A tag is asked for once and pinned; nothing that moves later changes what is fetched.
//! let source = client.parse_source("oci://ghcr.io/acme/hello:1")?;
//! let descriptor = client.resolve(source, ResolvePolicy).await?;
//! println!("{} is {}", descriptor.raw_ref, descriptor.digest);
//!
//! // Verified while it streams, then opened from the cache.
//! let artifact = client.fetch(&descriptor, CachePolicy).await?;
//! println!("{} bytes at {}", descriptor.size_bytes, artifact.local_path.display());
//!
//! // Later, in another process, without a network:
//! let again = client.open_cached(&descriptor.digest)?;
//! assert_eq!(again.local_path, artifact.local_path);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | none | [`DistributorClient`], its types, [`source`]s and the WIT client; builds for `wasm32-wasip2` |
//! | `http-runtime` | `HttpDistributorClient` |
//! | `greentic-config` (default) | `DistributorClientConfig::from_greentic` |
//! | `dist-client` | `dist`: the library flow from reference to opened artifact, and what is built on it; `oci` and `blocking` |
//! | `pack-fetch` | `oci_packs`: packs by their references; part of `dist-client` |
//! | `oci-components` | `oci_components`: the components a pack names; part of `dist-client` |
//! | `runner-api` | `runner_api`: blobs by their digest alone; part of `dist-client` |
//! | `dist-cli` (default) | `dist_cli` and the `greentic-dist` binary |
//! | `provider-registry` | `provider_registry`: the provider catalog of a bundle |
//! | `fixture-resolver` | `fixture://` sources |
//!
//! Errors are kinds, see `dist::DistError`; the exit codes of the CLI are the same kinds.

#[cfg(feature = "dist-client")]
pub mod blocking;
pub mod config;
#[cfg(feature = "dist-client")]
mod credentials;
#[cfg(feature = "dist-client")]
pub mod dist;
#[cfg(feature = "dist-cli")]
#[path = "cli/mod.rs"]
pub mod dist_cli;
mod distributor;
#[cfg_attr(not(feature = "dist-client"), expect(dead_code, reason = "logins need the place of their file alone"))]
mod env;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "dist-client")]
mod hosts;
#[cfg(feature = "http-runtime")]
mod http_client;
#[cfg(all(unix, feature = "dist-client"))]
mod interruption;
#[cfg(feature = "dist-client")]
pub mod oci;
/// The examples in the documents are compiled.
#[cfg(all(doctest, feature = "dist-client"))]
#[doc = include_str!("../../../docs/oci-client.md")]
mod tour {}
#[cfg(feature = "dist-client")]
pub mod oci_components;
#[cfg(feature = "dist-client")]
pub mod oci_packs;
#[cfg(feature = "dist-client")]
mod output_file;
#[cfg_attr(not(feature = "dist-client"), expect(dead_code, reason = "logins need the place of their file alone"))]
mod paths;
mod private_file;
#[cfg(feature = "dist-client")]
mod progress;
#[cfg(feature = "provider-registry")]
pub mod provider_registry;
#[cfg(feature = "dist-client")]
mod registries_conf;
#[cfg(feature = "dist-client")]
mod registry_client;
#[cfg(feature = "dist-client")]
mod regular_file;
#[cfg(feature = "dist-client")]
pub mod runner_api;
pub mod source;
pub mod store_auth;
pub mod types;
/// The types of the WIT interface `greentic:distributor-api@1.0.0`, which [`DistributorApiBindings`] speaks in: those of
/// `greentic-interfaces-guest`, and on `wasm32` the ones of the guest's own imports (same names, same fields).
pub mod wit {
    #[cfg(target_arch = "wasm32")]
    pub use greentic_dist_guest::distributor::*;
    #[cfg(not(target_arch = "wasm32"))]
    pub use greentic_interfaces_guest::distributor_api::*;
}
mod wit_client;

pub use config::DistributorClientConfig;
pub use distributor::DistributorClient;
pub use error::DistributorError;
#[cfg(feature = "http-runtime")]
pub use greentic_dist_net::{NetError, NetErrorKind, RetryPolicy, Timeouts};
#[cfg(feature = "http-runtime")]
pub use http_client::{HttpDistributorClient, HttpDistributorClientBuilder};
pub use source::{ChainedDistributorSource, DistributorSource};
pub use store_auth::{
    StoreAuth, StoreAuthError, StoreAuthErrorKind, StoreCredentials, default_store_auth_path, default_store_state_path,
    load_login, load_login_default, save_login, save_login_default,
};
pub use types::*;
pub use wit_client::{DistributorApiBindings, GeneratedDistributorApiBindings, WitDistributorClient};

#[cfg(feature = "dist-client")]
pub use oci_components::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, OciComponentError, OciComponentResolver,
    ResolvedComponent, ResolvedComponentDescriptor,
};
#[cfg(feature = "dist-client")]
pub use oci_packs::{
    OciPackError, OciPackFetcher, PackFetchOptions, ResolvedPack, default_pack_layer_media_types,
    default_preferred_pack_layer_media_types, fetch_pack, fetch_pack_to_cache, fetch_pack_to_cache_with_options,
    fetch_pack_to_cache_with_options_and_client, fetch_pack_with_options, fetch_pack_with_options_and_client,
};

#[cfg(feature = "dist-client")]
pub use dist::{
    AccessMode, AdvisorySet, ArtifactDescriptor, ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener,
    ArtifactSource, ArtifactSourceKind, ArtifactType, BundleLifecycleState, BundleManifestSummary, BundleOpenMode,
    BundleRecord, CacheEntry, CacheEntryState, CachePolicy, DistClient, DistOptions, DownloadedStoreArtifact,
    InjectedResolution, IntegrationError, IntegrationErrorCode, IntegrityState, LockHint, PreliminaryDecision,
    ReleaseTrainDescriptor, ResolvePolicy, ResolveRefInjector, ResolvedArtifact, ResolvedVia, RetentionDecision,
    RetentionDisposition, RetentionEnvironment, RetentionInput, RetentionOutcome, RetentionReport, RollbackAuditFields,
    RollbackBundleInput, RollbackBundleResult, SourceSnapshot, StageAuditFields, StageBundleInput, StageBundleResult,
    TransportHints, VerificationCheck, VerificationEnvironment, VerificationOutcome, VerificationPolicy,
    VerificationReport, WarmAuditFields, WarmBundleInput, WarmBundleResult,
};
#[cfg(feature = "dist-client")]
#[expect(deprecated, reason = "names of 0.4 that stay")]
pub use dist::{BundleOpenOutput, BundleOpenRequest, BundleOpener, ResolveRefRequest};
