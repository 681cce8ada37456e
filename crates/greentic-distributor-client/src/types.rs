//! What goes over the distributor API: the shared types of `greentic-types`, and two answers of our own.
//!
//! [`ResolveComponentResponse`] and [`PackStatusResponse`] are built by literal in published code: their fields are fixed.

pub use greentic_types::{
    ArtifactLocation, CacheInfo, ComponentDigest, ComponentId, ComponentStatus, DistributorEnvironmentId, EnvId,
    PackId, ResolveComponentRequest, SecretFormat, SecretKey, SecretRequirement, SecretScope, SignatureSummary,
    TenantCtx, TenantId,
};
pub use semver::Version;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a distributor says about a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveComponentResponse {
    /// Whether the component is ready, still on its way, or not to be had.
    pub status: ComponentStatus,
    /// The digest of the artifact, as the distributor writes it: not checked.
    pub digest: ComponentDigest,
    /// Where the artifact is. A word of the distributor: a place named here is validated like one a user names.
    pub artifact: ArtifactLocation,
    /// What the distributor says about signatures. Its own claim, nothing this crate verified.
    pub signature: SignatureSummary,
    /// The distributor's cache.
    pub cache: CacheInfo,
    /// The secrets the component needs. `None` from distributors that do not say; over WIT always `Some`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_requirements: Option<Vec<SecretRequirement>>,
}

/// What a distributor says about a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackStatusResponse {
    /// The status, in the distributor's words.
    pub status: String,
    /// The secrets the pack needs. `None` from distributors that do not say; over WIT always `Some`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_requirements: Option<Vec<SecretRequirement>>,
    /// Anything else the distributor tells. Null when it tells nothing.
    #[serde(default)]
    pub extra: Value,
}
