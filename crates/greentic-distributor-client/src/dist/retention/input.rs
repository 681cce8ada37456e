//! What retention decides on, read from the cache.

use greentic_dist_types::BundleLifecycleState;

use super::{RetentionEnvironment, RetentionInput};
use crate::dist::client::Inner;
use crate::dist::{DistError, cache};

pub(crate) fn of_cache(inner: &Inner) -> Result<RetentionInput, DistError> {
    let input = of_bundles(inner)?;
    Ok(RetentionInput { entries: cache::try_entries(inner)?, ..input })
}

/// As [`of_cache`], without the entries.
pub(super) fn of_bundles(inner: &Inner) -> Result<RetentionInput, DistError> {
    let mut bundles = inner.store.bundles().map_err(|error| DistError::from_store("the bundle records", error))?;
    // The last staged is the first to go back to.
    bundles.sort_by_key(|record| (record.fetched_at, record.cache_key));
    let in_state = |state: BundleLifecycleState| {
        let found = bundles.iter().filter(|record| record.lifecycle_state == state);
        found.map(|record| record.bundle_id.to_string()).collect()
    };
    Ok(RetentionInput {
        entries: Vec::new(),
        active_bundle_ids: Vec::new(),
        staged_bundle_ids: in_state(BundleLifecycleState::Staged),
        warming_bundle_ids: in_state(BundleLifecycleState::Warming),
        ready_bundle_ids: in_state(BundleLifecycleState::Ready),
        draining_bundle_ids: in_state(BundleLifecycleState::Draining),
        session_referenced_bundle_ids: Vec::new(),
        max_cache_bytes: inner.options.cache_max_bytes,
        max_entry_age: None,
        minimum_rollback_depth: 0,
        environment: RetentionEnvironment::Dev,
    })
}
