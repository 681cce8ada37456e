//! Advisories: what was found out about artifacts after they were published, and whether the advisory itself is current.

use greentic_dist_types::SafeText;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::VerificationPolicy;
use super::report::{Finding, VerificationOutcome};
use crate::dist::client::Inner;
use crate::dist::error::chain;
use crate::dist::{DistError, IntegrationErrorCode};

/// The check of the advisory itself; only there when the advisory is not current.
const CURRENT: &str = "advisory_current";
/// Largest advisory that is read, in bytes.
const ADVISORY_BYTES: usize = 16 << 20;
/// How far ahead of this machine's clock an advisory may be issued.
const CLOCK_SKEW_SECS: u64 = 300;

/// What was found out about artifacts after they were published. Times are unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisorySet {
    /// The version of the advisory. As a number it is the `advisory_epoch` of the entries it was held against.
    pub version: String,
    /// When it was issued. Among advisories of one source a younger one must not be followed by an older one.
    pub issued_at: u64,
    /// Where it came from, as the one who loaded it says.
    pub source: String,
    /// Digests that are refused: of a manifest, an index or of bytes.
    pub deny_digests: Vec<String>,
    /// Issuers that are refused.
    pub deny_issuers: Vec<String>,
    /// Lowest version of the operator.
    pub minimum_operator_version: Option<String>,
    /// The release it belongs to. Carried, not checked.
    pub release_train: Option<ReleaseTrainDescriptor>,
    /// From when on it must not be used.
    pub expires_at: Option<u64>,
    /// When to look for a younger one. Carried, not checked.
    pub next_refresh_hint: Option<u64>,
}

/// What belongs together in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTrainDescriptor {
    /// The name of the train.
    pub train_id: String,
    /// The digest of the operator.
    pub operator_digest: Option<String>,
    /// The digests of the bundles.
    pub bundle_digests: Vec<String>,
    /// The digests of extensions that must be there.
    pub required_extension_digests: Vec<String>,
    /// The digest of the observer to compare with.
    pub baseline_observer_digest: Option<String>,
}

impl AdvisorySet {
    pub(super) fn read(bytes: &[u8], source: String) -> Result<Self, DistError> {
        if bytes.len() > ADVISORY_BYTES {
            let source = SafeText::new(&source);
            return Err(DistError::InvalidInput(format!(
                "the advisory of `{source}` has {} bytes, and {ADVISORY_BYTES} are allowed",
                bytes.len()
            )));
        }
        let set: Self = serde_json::from_slice(bytes)?;
        Ok(Self { source, ..set })
    }

    /// Whether it was issued by now, as far as clocks can be trusted.
    fn is_of_the_future(&self, now: u64) -> bool {
        self.issued_at > now.saturating_add(CLOCK_SKEW_SECS)
    }

    /// What is wrong with using it now.
    fn problem(&self, inner: &Inner) -> Option<String> {
        let now = inner.now_secs();
        let issued_at = self.issued_at;
        if self.is_of_the_future(now) {
            return Some(format!("it was issued in the future, at {issued_at}, and it is {now}"));
        }
        if let Some(expires_at) = self.expires_at.filter(|expires_at| *expires_at <= now) {
            return Some(format!("it expired at {expires_at}, and it is {now}"));
        }
        match inner.store.advisory_mark(&self.source) {
            Ok(Some(mark)) if mark.issued_at > issued_at => Some(format!(
                "it was issued at {issued_at}, and version `{}` of {} was seen already",
                SafeText::new(&mark.version),
                mark.issued_at
            )),
            Ok(_) => None,
            Err(error) => Some(format!("whether a younger one was seen cannot be told: {}", chain(&error))),
        }
    }

    /// Remembers that it was used, so that no older one is taken for the current one after it.
    pub(super) fn remember(&self, inner: &Inner) -> Result<(), DistError> {
        if self.is_of_the_future(inner.now_secs()) {
            // It would lock out every honest one.
            return Ok(());
        }
        let marked = inner.store.mark_advisory(&self.source, &self.version, self.issued_at);
        match marked {
            // Reported by the check, and left for a person.
            Err(error) if *error.kind() == crate::dist::StoreErrorKind::MalformedRecord => Ok(()),
            other => other.map_err(|error| DistError::from_store(&self.source, error)),
        }
    }
}

/// The finding about an advisory that is expired, of the future, or older than one that was seen; nothing about a current one.
pub(super) fn current(inner: &Inner, advisory: &AdvisorySet, policy: &VerificationPolicy) -> Option<Finding> {
    let problem = advisory.problem(inner)?;
    let outcome =
        if policy.environment.is_strict() { VerificationOutcome::Failed } else { VerificationOutcome::Warning };
    let version = SafeText::new(&advisory.version);
    let payload: Value = json!({
        "advisory_version": advisory.version,
        "issued_at": advisory.issued_at,
        "expires_at": advisory.expires_at,
        "environment": policy.environment.name(),
    });
    let detail = format!("advisory `{version}` is not current: {problem}");
    Some(Finding::new(CURRENT, outcome, detail, Some(payload)).refusing_with(IntegrationErrorCode::AdvisoryRejected))
}
