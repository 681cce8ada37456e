//! Warming: a staged artifact is hashed, verified and opened, without a network.

use greentic_dist_types::BundleId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::BundleError;
use super::{ArtifactOpenOutput, ArtifactOpenRequest, BundleManifestSummary, BundleOpenMode};
use crate::dist::{
    AdvisorySet, DistClient, IntegrationError, IntegrationErrorCode, VerificationPolicy, VerificationReport, cache,
    verify,
};

/// What to warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmBundleInput {
    /// The bundle.
    pub bundle_id: String,
    /// The pin of its artifact; the one in the id.
    pub cache_key: String,
    /// Whether the opener is to try the artifact out.
    pub smoke_test: bool,
    /// Whether the opener is to open nothing.
    pub dry_run: bool,
    /// The version of the operator that will use it, for the check of the minimum version.
    pub expected_operator_version: Option<String>,
}

/// Who warmed it, for an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmAuditFields {
    /// When, unix seconds.
    pub warmed_at: u64,
    /// Whether the opener was to try the artifact out.
    pub smoke_test: bool,
    /// Whether the opener was to open nothing.
    pub dry_run: bool,
    /// Always true: nothing is fetched.
    pub reopened_from_cache: bool,
}

/// A bundle that is warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmBundleResult {
    /// The bundle.
    pub bundle_id: String,
    /// The verification it passed.
    pub verification_report: VerificationReport,
    /// What the opener says the artifact is.
    pub bundle_manifest_summary: BundleManifestSummary,
    /// How the opener opened it.
    pub bundle_open_mode: BundleOpenMode,
    /// The warnings of the verification, then those of the opener.
    pub warnings: Vec<String>,
    /// The errors of the verification: none.
    pub errors: Vec<String>,
    /// Who warmed it.
    pub warm_audit_fields: WarmAuditFields,
}

impl DistClient {
    /// Warms a bundle: hashes its artifact in the cache from end to end, verifies it and hands it to the opener.
    ///
    /// Needs no record and changes none: [`DistClient::try_transition`] does. Synchronous; opens no socket; blocks for
    /// about a second per GiB and for as long as the opener takes.
    ///
    /// # Errors
    /// `InvalidReference` for an id that is none, or not that of the cache key; `CacheMiss`; `CacheCorrupt` for an entry that cannot be
    /// opened; the code of the first check that failed (`DigestMismatch` for wrong bytes), with `details.failed_checks`; what
    /// the opener says, unchanged.
    pub fn warm_bundle(
        &self,
        input: &WarmBundleInput,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
    ) -> Result<WarmBundleResult, IntegrationError> {
        warm(self, input, advisory, policy).map_err(IntegrationError::from)
    }
}

/// As [`DistClient::warm_bundle`].
pub(crate) fn warm(
    client: &DistClient,
    input: &WarmBundleInput,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Result<WarmBundleResult, BundleError> {
    let inner = &client.inner;
    let pin = cache::parse_digest(&input.cache_key)?;
    let expected = BundleId::of(pin);
    if input.bundle_id.parse() != Ok(expected) {
        let summary = format!("bundle id `{}` does not match cache key `{pin}`", shown(&input.bundle_id));
        let details = json!({
            "bundle_id": input.bundle_id,
            "expected_bundle_id": expected.to_string(),
            "cache_key": input.cache_key,
        });
        let error = IntegrationError::new(IntegrationErrorCode::InvalidReference, summary).with_details(details);
        return Err(BundleError::Stated(error));
    }
    let verify::Opened { mut artifact, proven } = verify::open_cached(inner, &pin)?;
    if let Some(version) = &input.expected_operator_version {
        artifact.descriptor.annotations.insert("operator_version".to_owned(), Value::String(version.clone()));
    }
    let report = verify::verify(inner, &artifact, proven, advisory, policy)?.accepted()?;
    let request =
        ArtifactOpenRequest { bundle_id: expected.to_string(), dry_run: input.dry_run, smoke_test: input.smoke_test };
    let ArtifactOpenOutput { bundle_manifest_summary, bundle_open_mode, warnings } =
        inner.opener.open(&artifact, &request).map_err(BundleError::Stated)?;
    Ok(WarmBundleResult {
        bundle_id: request.bundle_id,
        bundle_manifest_summary,
        bundle_open_mode,
        warnings: report.warnings.iter().cloned().chain(warnings).collect(),
        errors: report.errors.clone(),
        verification_report: report,
        warm_audit_fields: WarmAuditFields {
            warmed_at: inner.now_secs(),
            smoke_test: input.smoke_test,
            dry_run: input.dry_run,
            reopened_from_cache: true,
        },
    })
}

fn shown(text: &str) -> greentic_dist_types::SafeText {
    greentic_dist_types::SafeText::excerpt(text, 96)
}
