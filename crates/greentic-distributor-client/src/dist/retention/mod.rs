//! Keeping the cache in bounds: what retention is told, what it decides, and what it did.
//!
//! `evaluate` decides and touches nothing, `apply` takes away what was decided, `cap` does both after every fetch that brought
//! something.

mod apply;
pub(super) mod cap;
mod evaluate;
mod holds;
mod input;
mod lease;
#[cfg(feature = "dist-cli")]
mod planned;

pub use apply::RemoveOptions;
pub(super) use holds::Holds;
pub use lease::CacheLease;
#[cfg(feature = "dist-cli")]
pub(crate) use planned::Planned;

use serde::{Deserialize, Serialize};

use super::CacheEntry;

/// What a removal from the cache did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Entries that were looked at.
    pub scanned_entries: usize,
    /// Entries that stay.
    pub kept: usize,
    /// Entries that are gone.
    pub evicted: usize,
    /// Entries that something protects.
    pub protected: usize,
    /// Sizes of the artifacts that are gone, in bytes; those that another entry shares do not count.
    pub bytes_reclaimed: u64,
    /// Digests that were to go and are still there, or were gone already.
    pub refusals: Vec<String>,
}

/// Where bundles run. Carried, and without effect on what is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RetentionEnvironment {
    /// A developer's machine.
    Dev,
    /// A rehearsal.
    Staging,
    /// Production.
    Prod,
}

/// What retention decides on.
///
/// Bundle ids are `bundle:` and the digest of an entry. Every list protects the entries it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionInput {
    /// The entries, usually [`DistClient::list_cache_entries`](super::DistClient::list_cache_entries).
    pub entries: Vec<CacheEntry>,
    /// Bundles that serve.
    pub active_bundle_ids: Vec<String>,
    /// Bundles that are staged, oldest first: rollback goes to the last of them.
    pub staged_bundle_ids: Vec<String>,
    /// Bundles that are warming up.
    pub warming_bundle_ids: Vec<String>,
    /// Bundles that are ready to serve.
    pub ready_bundle_ids: Vec<String>,
    /// Bundles that serve what they began.
    pub draining_bundle_ids: Vec<String>,
    /// Bundles that a session refers to.
    pub session_referenced_bundle_ids: Vec<String>,
    /// Bytes that the artifacts may have together; 0 for any number.
    pub max_cache_bytes: u64,
    /// Seconds that an entry may go unused; `None` for ever. One of exactly this age stays.
    pub max_entry_age: Option<u64>,
    /// How many bundles that do not serve are kept to go back to.
    pub minimum_rollback_depth: usize,
    /// Where the bundles run.
    pub environment: RetentionEnvironment,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RetentionDisposition {
    /// It stays, because nothing asks for its place.
    Keep,
    /// It goes.
    Evict,
    /// It stays, because something protects it.
    Protect,
}

/// The decision on one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionDecision {
    /// The entry.
    pub cache_key: String,
    /// The bundle of its digest, staged or not.
    pub bundle_id: String,
    /// What becomes of it.
    pub decision: RetentionDisposition,
    /// Why, as one of the stable names: `active_bundle`, `session_reference`, `warming_bundle`, `ready_bundle`,
    /// `draining_bundle`, `staged_bundle`, `rollback_depth`, `corrupt_entry`, `max_age_exceeded`, `cache_budget`,
    /// `within_policy`.
    pub reason_code: String,
    /// Why, for people.
    pub reason_detail: String,
}

/// All decisions, in the order of the entries, and their sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionOutcome {
    /// One decision for each entry.
    pub decisions: Vec<RetentionDecision>,
    /// Their sum.
    pub report: RetentionReport,
}
