//! What a verification found, and what a host is told when it was not enough.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[cfg(feature = "dist-cli")]
use crate::dist::DistErrorKind;
use crate::dist::{IntegrationError, IntegrationErrorCode};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VerificationOutcome {
    /// As demanded.
    Passed,
    /// Not as demanded. One failed check fails the verification.
    Failed,
    /// Not as it should be, and not demanded.
    Warning,
    /// Nothing was demanded.
    Skipped,
}

impl VerificationOutcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationCheck {
    /// Its name, stable: `digest_allowed`, `media_type_allowed`, `issuer_allowed`, `operator_version_compatible`,
    /// `advisory_current` (only where it is not), `content_digest_match`, `signature_present`, `signature_verified`, `sbom_present`.
    pub name: String,
    /// How it ended.
    pub outcome: VerificationOutcome,
    /// One sentence for people.
    pub detail: String,
    /// The facts, by name.
    pub payload: Option<Value>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationReport {
    /// The pin of the artifact.
    pub artifact_digest: String,
    /// Its reference with its digest.
    pub canonical_ref: String,
    /// The checks, in their order.
    pub checks: Vec<VerificationCheck>,
    /// Whether no check failed.
    pub passed: bool,
    /// The details of the checks that warn, in order.
    pub warnings: Vec<String>,
    /// The details of the checks that failed, in order.
    pub errors: Vec<String>,
    /// The digest of the policy as compact JSON.
    pub policy_fingerprint: String,
    /// The version of the advisory.
    pub advisory_version: Option<String>,
    /// The digest of the entry as compact JSON, as it was before this verification was noted in it.
    pub cache_entry_fingerprint: Option<String>,
}

/// What can be said before the bytes are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreliminaryDecision {
    /// Whether no check failed.
    pub passed: bool,
    /// The checks, in their order.
    pub checks: Vec<VerificationCheck>,
    /// The details of the checks that warn, in order.
    pub warnings: Vec<String>,
    /// The details of the checks that failed, in order.
    pub errors: Vec<String>,
}

/// A check, and what a host is told when it is the first that failed.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(super) check: VerificationCheck,
    code: IntegrationErrorCode,
}

impl Finding {
    pub(super) fn new(
        name: &str,
        outcome: VerificationOutcome,
        detail: impl Into<String>,
        payload: Option<Value>,
    ) -> Self {
        let check = VerificationCheck { name: name.to_owned(), outcome, detail: detail.into(), payload };
        Self { check, code: IntegrationErrorCode::VerificationFailed }
    }

    /// The code of the failure this check leads to; `VerificationFailed` without.
    pub(super) const fn refusing_with(mut self, code: IntegrationErrorCode) -> Self {
        self.code = code;
        self
    }

    pub(super) fn is_failed(&self) -> bool {
        self.check.outcome == VerificationOutcome::Failed
    }
}

impl PreliminaryDecision {
    pub(super) fn of(findings: Vec<Finding>) -> Self {
        let checks = checks_of(findings);
        let (warnings, errors) =
            (details(&checks, VerificationOutcome::Warning), details(&checks, VerificationOutcome::Failed));
        Self { passed: errors.is_empty(), checks, warnings, errors }
    }
}

fn checks_of(findings: Vec<Finding>) -> Vec<VerificationCheck> {
    findings.into_iter().map(|finding| finding.check).collect()
}

fn details(checks: &[VerificationCheck], outcome: VerificationOutcome) -> Vec<String> {
    checks.iter().filter(|check| check.outcome == outcome).map(|check| check.detail.clone()).collect()
}

/// What a report is about, beside its checks.
pub(super) struct About {
    pub(super) artifact_digest: String,
    pub(super) canonical_ref: String,
    pub(super) policy_fingerprint: String,
    pub(super) advisory_version: Option<String>,
    pub(super) cache_entry_fingerprint: Option<String>,
}

/// A report, and the code of its first failed check.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    report: VerificationReport,
    code: Option<IntegrationErrorCode>,
}

impl Verdict {
    pub(super) fn of(about: About, findings: Vec<Finding>) -> Self {
        let code = findings.iter().find(|finding| finding.is_failed()).map(|finding| finding.code);
        let PreliminaryDecision { passed, checks, warnings, errors } = PreliminaryDecision::of(findings);
        let About { artifact_digest, canonical_ref, policy_fingerprint, advisory_version, cache_entry_fingerprint } =
            about;
        let report = VerificationReport {
            artifact_digest,
            canonical_ref,
            checks,
            passed,
            warnings,
            errors,
            policy_fingerprint,
            advisory_version,
            cache_entry_fingerprint,
        };
        Self { report, code }
    }

    /// The report, or the verdict itself when the verification failed.
    pub(crate) fn accepted(self) -> Result<VerificationReport, Box<Self>> {
        if self.code.is_some() { Err(Box::new(self)) } else { Ok(self.report) }
    }

    #[cfg(feature = "dist-cli")]
    pub(crate) const fn report(&self) -> &VerificationReport {
        &self.report
    }

    pub(crate) fn into_report(self) -> VerificationReport {
        self.report
    }

    /// What a refusal counts as: wrong bytes, a policy that cannot be read, or the policy.
    #[cfg(feature = "dist-cli")]
    pub(crate) const fn kind(&self) -> DistErrorKind {
        match self.code {
            Some(IntegrationErrorCode::DigestMismatch) => DistErrorKind::Integrity,
            Some(IntegrationErrorCode::PolicyInputInvalid) => DistErrorKind::InvalidInput,
            _ => DistErrorKind::Policy,
        }
    }

    /// The failure a host is told.
    pub(crate) fn to_error(&self) -> IntegrationError {
        let report = &self.report;
        let summary = report.errors.first().or(report.warnings.first());
        let failed: Vec<Value> = report
            .checks
            .iter()
            .filter(|check| check.outcome == VerificationOutcome::Failed)
            .map(|check| json!({ "name": check.name, "detail": check.detail, "payload": check.payload }))
            .collect();
        let code = self.code.unwrap_or(IntegrationErrorCode::VerificationFailed);
        let summary = summary.map_or("the verification failed", String::as_str);
        IntegrationError::new(code, summary).with_details(json!({
            "artifact_digest": report.artifact_digest,
            "canonical_ref": report.canonical_ref,
            "errors": report.errors,
            "warnings": report.warnings,
            "failed_checks": failed,
        }))
    }
}
