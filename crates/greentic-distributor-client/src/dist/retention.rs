//! What a removal from the cache did.

use serde::{Deserialize, Serialize};

/// The report of a removal.
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
    /// Bytes that were given back.
    pub bytes_reclaimed: u64,
    /// Digests that could not be removed, e.g. because a pull is using them.
    pub refusals: Vec<String>,
}
