//! Where bundles are in their lives.

use greentic_dist_store::BundleChange;

use super::record::parse_id;
use super::{BundleLifecycleState, BundleRecord};
use crate::dist::{DistClient, DistError};

impl DistClient {
    /// What is written down of a bundle.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::InvalidRef`] for a text that is no bundle id; [`DistError::CacheError`] for a
    /// malformed record.
    pub fn stat_bundle(&self, bundle_id: &str) -> Result<BundleRecord, DistError> {
        let id = parse_id(bundle_id)?;
        let record = self.inner.store.bundle(&id).map_err(|error| DistError::from_store(bundle_id, error))?;
        record.map(BundleRecord::from).ok_or_else(|| DistError::NotFound { reference: bundle_id.to_owned() })
    }

    /// What is written down of all bundles, sorted by their ids.
    ///
    /// # Errors
    /// [`DistError::CacheError`] with the file that is malformed: a bundle that is left out would be one whose artifact may
    /// be evicted. Hidden files and those that do not end with `.json` are no records.
    pub fn list_bundles(&self) -> Result<Vec<BundleRecord>, DistError> {
        let records = self.inner.store.bundles().map_err(|error| DistError::from_store("the bundles", error))?;
        Ok(records.into_iter().map(BundleRecord::from).collect())
    }

    /// Sets the state of a bundle, whatever it was. Durable when this returns.
    ///
    /// # Errors
    /// As [`DistClient::stat_bundle`]; [`DistError::CacheError`] when the record cannot be written.
    pub fn set_bundle_state(&self, bundle_id: &str, state: BundleLifecycleState) -> Result<BundleRecord, DistError> {
        self.change(bundle_id, None, state)
    }

    /// Sets the state of a bundle that is in the state `from`, to the one that follows it: `Inactive`, `Staged`, `Warming`,
    /// `Ready`, `Draining`, `Inactive`. Of several callers that start from the same state one succeeds. Durable when this
    /// returns.
    ///
    /// # Errors
    /// [`DistError::InvalidTransition`] when `to` does not follow `from`, or the bundle is in another state; otherwise as
    /// [`DistClient::set_bundle_state`].
    pub fn try_transition(
        &self,
        bundle_id: &str,
        from: BundleLifecycleState,
        to: BundleLifecycleState,
    ) -> Result<BundleRecord, DistError> {
        if from.may_become(to) {
            return self.change(bundle_id, Some(from), to);
        }
        let actual = self.stat_bundle(bundle_id)?.lifecycle_state;
        Err(DistError::InvalidTransition { bundle_id: bundle_id.to_owned(), from, to, actual })
    }

    fn change(
        &self,
        bundle_id: &str,
        from: Option<BundleLifecycleState>,
        to: BundleLifecycleState,
    ) -> Result<BundleRecord, DistError> {
        let id = parse_id(bundle_id)?;
        let change =
            self.inner.store.change_bundle(&id, from, to).map_err(|error| DistError::from_store(bundle_id, error))?;
        match change {
            BundleChange::Made(record) => Ok(record.into()),
            BundleChange::Missing => Err(DistError::NotFound { reference: bundle_id.to_owned() }),
            BundleChange::Elsewhere(record) => {
                let actual = record.lifecycle_state;
                let from = from.unwrap_or(actual);
                Err(DistError::InvalidTransition { bundle_id: bundle_id.to_owned(), from, to, actual })
            }
        }
    }
}
