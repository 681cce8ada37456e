//! Going back: an artifact that was staged before is hashed and verified, without a network.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::BundleError;
use super::record::parse_id;
use crate::dist::{
    AdvisorySet, CacheEntry, DistClient, DistError, IntegrationError, IntegrationErrorCode, VerificationPolicy,
    VerificationReport, cache, verify,
};

/// What to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackBundleInput {
    /// The bundle.
    pub target_bundle_id: String,
    /// The pin its artifact must have, where the caller wants to be sure.
    pub expected_cache_key: Option<String>,
}

/// Who went back, for an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackAuditFields {
    /// When, unix seconds.
    pub rolled_back_at: u64,
    /// Always true: nothing is fetched.
    pub reopened_from_cache: bool,
    /// The pin the caller expected.
    pub expected_cache_key: Option<String>,
}

/// A bundle that can be used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackBundleResult {
    /// The bundle.
    pub bundle_id: String,
    /// Always true: nothing is fetched.
    pub reopened_from_cache: bool,
    /// Its entry in the cache, with this verification noted.
    pub cache_entry: CacheEntry,
    /// The verification it passed.
    pub verification_report: VerificationReport,
    /// Who went back.
    pub rollback_audit_fields: RollbackAuditFields,
}

impl DistClient {
    /// Makes sure that an earlier bundle can be used: hashes its artifact in the cache from end to end and verifies it.
    ///
    /// Needs no record and changes none; a record that is there must be readable and agree with the id. Synchronous;
    /// opens no socket; blocks for about a second per GiB.
    ///
    /// # Errors
    /// `InvalidReference` for an id that is none, or another pin than expected; `BundleOpenFailed` for a malformed record; otherwise as
    /// [`DistClient::warm_bundle`].
    pub fn rollback_bundle(
        &self,
        input: &RollbackBundleInput,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
    ) -> Result<RollbackBundleResult, IntegrationError> {
        rollback(self, input, advisory, policy).map_err(IntegrationError::from)
    }
}

/// As [`DistClient::rollback_bundle`].
pub(crate) fn rollback(
    client: &DistClient,
    input: &RollbackBundleInput,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Result<RollbackBundleResult, BundleError> {
    let inner = &client.inner;
    let id = parse_id(&input.target_bundle_id)?;
    let pin = id.pin();
    // A record that does not agree with its id is an error of reading it.
    inner.store.bundle(&id).map_err(|error| DistError::from_store(&input.target_bundle_id, error))?;
    if let Some(expected) = &input.expected_cache_key
        && cache::parse_digest(expected).ok() != Some(pin)
    {
        let summary = format!("bundle `{id}` does not have the expected cache key");
        let details = json!({
            "bundle_id": id.to_string(),
            "expected_cache_key": expected,
            "actual_cache_key": pin.to_string(),
        });
        let error = IntegrationError::new(IntegrationErrorCode::InvalidReference, summary).with_details(details);
        return Err(BundleError::Stated(error));
    }
    let verify::Opened { artifact, proven } = verify::open_cached(inner, &pin)?;
    let report = verify::verify(inner, &artifact, proven, advisory, policy)?.accepted()?;
    Ok(RollbackBundleResult {
        bundle_id: id.to_string(),
        reopened_from_cache: true,
        cache_entry: cache::stat(inner, &artifact.digest)?,
        verification_report: report,
        rollback_audit_fields: RollbackAuditFields {
            rolled_back_at: inner.now_secs(),
            reopened_from_cache: true,
            expected_cache_key: input.expected_cache_key.clone(),
        },
    })
}
