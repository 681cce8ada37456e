//! Bundles: artifacts that somebody relies on.
//!
//! ```text
//! reference ─▶ stage     fetched, verified, and written down so that it survives a power cut     stage.rs
//! bundle id ─▶ warm      hashed, verified and opened from the cache, without a network           warm.rs
//! bundle id ─▶ rollback  hashed and verified from the cache, without a network                   rollback.rs
//! bundle id ─▶ state     where it is in its life                                                 state.rs
//! ```
//!
//! `docs/bundles.md` has the rules.

mod error;
mod opener;
mod record;
mod rollback;
mod stage;
mod state;
mod warm;

pub use greentic_dist_types::BundleLifecycleState;

pub use opener::{ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener};
pub use record::{AccessMode, BundleManifestSummary, BundleOpenMode, BundleRecord};
pub use rollback::{RollbackAuditFields, RollbackBundleInput, RollbackBundleResult};
pub use stage::{StageAuditFields, StageBundleInput, StageBundleResult};
pub use warm::{WarmAuditFields, WarmBundleInput, WarmBundleResult};

pub(crate) use opener::CacheOpener;
#[cfg(feature = "dist-cli")]
pub(crate) use {error::BundleError, rollback::rollback, stage::stage, warm::warm};
