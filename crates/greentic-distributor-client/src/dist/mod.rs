//! From a reference to an opened artifact.
//!
//! ```text
//! "oci://ghcr.io/acme/hello:1"        what a person types
//!    │ parse                          source.rs
//!    ▼
//! ArtifactSource
//!    │ resolve: the manifest only     resolve/{oci,https,file,fixture,mapping}.rs
//!    ▼
//! ArtifactDescriptor (pin, size, …)   descriptor.rs
//!    │ fetch: stream, verify, ingest  fetch.rs, fetch_oci.rs, transfer.rs
//!    ▼
//! CacheEntry                          entry.rs
//!    │ open: prove, hand out          cache.rs
//!    ▼
//! ResolvedArtifact                    artifact.rs
//!    │ verify: against a policy       verify/
//!    ▼
//! VerificationReport
//!    │ stage, warm, roll back         bundle/
//!    ▼
//! BundleRecord
//! ```
//!
//! Start at [`DistClient`].

mod artifact;
pub(crate) mod artifact_rule;
mod builder;
pub(crate) mod bundle;
mod cache;
pub(crate) mod client;
mod compat;
mod component_manifest;
mod descriptor;
mod endpoint_memory;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod fetch_blob;
mod fetch_oci;
pub(crate) mod identity;
mod injector;
mod inspect;
mod integration_error;
mod lockfile;
mod many;
mod memo;
mod neighbours;
mod options;
pub(crate) mod resolve;
mod retention;
mod source;
mod store_download;
mod tenants;
pub(crate) mod transfer;
mod turns;
pub(crate) mod verify;
mod wire;

pub use greentic_dist_net::{
    Capabilities, ClientStats, Credential, CredentialAction, CredentialAnswer, CredentialSource, CredentialTarget,
    EndpointFailure, Event as NetEvent, HostConfig, HostEndpoint, HostSource, HttpRule, Limit, Limits, Login,
    LoginOrigin, NetError, NetErrorClass, NetErrorKind, NetStats, Observer, Proxy, ProxyRule, RangePolicy, RateLimit,
    RetryPolicy, StaticCredentials, TargetPolicy, Timeouts,
};
pub use greentic_dist_store::{Proof, SourceSnapshot, StoreError, StoreErrorKind};
pub use greentic_dist_types::{
    ArtifactSourceKind, ArtifactType, CacheEntryState, LockEntry, LockError, LockProblem, Lockfile, PlatformChoice,
    Secret,
};

pub use crate::credentials::{CredentialChain, EnvCredentials};
pub use crate::hosts::{HostFiles, HostsDir};
pub use crate::progress::{Event, Reporter, Silent, SkipReason};
pub use crate::registries_conf::RegistriesConf;
pub use artifact::{IntegrityState, LockHint, ResolvedArtifact};
pub(crate) use artifact_rule::{ArtifactRule, Beside, Documents, Listed};
pub use builder::DistClientBuilder;
pub use bundle::{
    AccessMode, ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener, BundleLifecycleState, BundleManifestSummary,
    BundleOpenMode, BundleRecord, RollbackAuditFields, RollbackBundleInput, RollbackBundleResult, StageAuditFields,
    StageBundleInput, StageBundleResult, WarmAuditFields, WarmBundleInput, WarmBundleResult,
};
pub use cache::{CacheDamage, CacheSizes, CacheVerification};
pub use client::DistClient;
pub use compat::OciCacheInspection;
#[expect(deprecated, reason = "names of 0.4 that stay")]
pub use compat::{BundleOpenOutput, BundleOpenRequest, BundleOpener, ResolveComponentRequest, ResolveRefRequest};
pub use component_manifest::ComponentManifestError;
pub use descriptor::{ArtifactDescriptor, ResolvedVia};
pub use entry::CacheEntry;
pub(crate) use error::chain;
pub use error::{CacheFailure, DistError, DistErrorKind, ResolveError};
pub use injector::{InjectedResolution, ResolveRefInjector};
pub use inspect::ArtifactInspection;
#[cfg(feature = "dist-cli")]
pub(crate) use inspect::Inspected;
pub use integration_error::{IntegrationError, IntegrationErrorCode};
pub use lockfile::{LockChange, LockMode, LockPull, LockPullItem, LockReport};
pub use options::DistOptions;
#[cfg(feature = "dist-cli")]
pub(crate) use retention::Planned;
pub use retention::{
    CacheLease, RemoveOptions, RetentionDecision, RetentionDisposition, RetentionEnvironment, RetentionInput,
    RetentionOutcome, RetentionReport,
};
pub use source::{ArtifactSource, InvalidRefReason, TransportHints};
pub use store_download::{DownloadedStoreArtifact, SavedStoreArtifact, StoreDownload};
pub use verify::{
    AdvisorySet, PreliminaryDecision, ReleaseTrainDescriptor, VerificationCheck, VerificationEnvironment,
    VerificationOutcome, VerificationPolicy, VerificationReport,
};

/// How a source is resolved. A value without choices today; kept so that calls name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolvePolicy;

/// How an artifact is cached. A value without choices today; kept so that calls name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy;
