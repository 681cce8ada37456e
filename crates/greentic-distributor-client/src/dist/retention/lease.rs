//! Leases for hosts that work with an artifact's path for long.

use greentic_dist_store::Lease;

use crate::dist::client::Inner;
use crate::dist::{DistClient, DistError, ResolvedArtifact, cache};

/// An opened artifact that stays in the cache until this is dropped: no cap, no retention and no removal by any process takes
/// it away, except somebody who deletes files by hand.
///
/// The lease of a process that dies ends with it. On a read-only cache and on file systems without locks it protects from
/// nothing.
#[derive(Debug)]
#[must_use = "the lease ends when this is dropped"]
pub struct CacheLease {
    artifact: ResolvedArtifact,
    // Held for its drop.
    _lease: Lease,
}

impl CacheLease {
    /// The artifact, proven when it was leased.
    pub const fn artifact(&self) -> &ResolvedArtifact {
        &self.artifact
    }
}

pub(crate) fn lease(inner: &Inner, key: &str) -> Result<CacheLease, DistError> {
    let digest = cache::parse_digest(key)?;
    let missing = || DistError::NotFound { reference: digest.to_string() };
    // The key may be that of the content; what is leased is the entry.
    let found = inner.store.stat(&digest).map_err(|error| DistError::from_store(key, error))?.ok_or_else(missing)?;
    let lease = inner.store.lease(&found.pin).map_err(|error| DistError::from_store(key, error))?;
    let artifact = cache::try_open(inner, &found.pin, key)?.ok_or_else(missing)?;
    Ok(CacheLease { artifact, _lease: lease })
}

impl DistClient {
    /// Opens an artifact of the cache, as [`DistClient::open_cached`] does, and keeps it there for as long as the lease lives:
    /// for hosts that map the file, or hand its path on. Any number of leases may be held of one artifact.
    ///
    /// # Errors
    /// As [`DistClient::open_cached`].
    pub fn lease(&self, digest_or_cache_key: &str) -> Result<CacheLease, DistError> {
        lease(&self.inner, digest_or_cache_key)
    }
}
