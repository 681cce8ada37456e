//! A failure as embedding hosts store and forward it: a stable code, one sentence, whether a retry may help, and details.

use std::fmt;

use greentic_dist_net::{NetError, NetErrorKind};
use greentic_dist_store::StoreErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::chain;
use super::{CacheFailure, DistError, DistErrorKind};

/// What failed, by name. The variant names are the JSON, verbatim; they are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IntegrationErrorCode {
    /// A reference, bundle id or digest that can name nothing, or not this.
    InvalidReference,
    /// A source this client does not read, e.g. a URL without transport security.
    UnsupportedSource,
    /// A reference could not be resolved: no login, no such artifact.
    ResolutionFailed,
    /// The bytes could not be brought.
    DownloadFailed,
    /// A name without a registry, and no base is configured.
    ResolutionUnavailable,
    /// The bytes are not the promised ones.
    DigestMismatch,
    /// The media type is not an accepted one.
    MediaTypeRejected,
    /// The issuer is denied.
    IssuerRejected,
    /// The digest is denied.
    DigestDenied,
    /// A signature is demanded and not there, or not verified.
    SignatureRequired,
    /// A cached artifact is damaged.
    CacheCorrupt,
    /// Not in the cache.
    CacheMiss,
    /// Offline, and the cache cannot answer.
    OfflineRequiredButUnavailable,
    /// An artifact of a type that cannot be used here.
    UnsupportedArtifactType,
    /// A document that is not what it should be.
    DescriptorCorrupt,
    /// An argument or policy that is not acceptable.
    PolicyInputInvalid,
    /// The advisory itself is not acceptable.
    AdvisoryRejected,
    /// A check of the verification failed.
    VerificationFailed,
    /// The artifact is there and could not be opened.
    BundleOpenFailed,
}

/// A failure for hosts that embed the client and keep it as data.
///
/// Built by literal or from a [`DistError`]. `Display` is the summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrationError {
    /// What failed.
    pub code: IntegrationErrorCode,
    /// One sentence for people, causes included.
    pub summary: String,
    /// Whether the same call may succeed later, or after the cache was filled.
    pub retryable: bool,
    /// The facts, by name.
    pub details: Option<Value>,
}

impl IntegrationError {
    /// A failure that a retry does not help, without details.
    pub fn new(code: IntegrationErrorCode, summary: impl Into<String>) -> Self {
        Self { code, summary: summary.into(), retryable: false, details: None }
    }

    /// The same failure with these details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl fmt::Display for IntegrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

impl std::error::Error for IntegrationError {}

impl From<&DistError> for IntegrationError {
    fn from(error: &DistError) -> Self {
        let (code, retryable, details) = parts(error);
        Self { code, summary: chain(error), retryable, details }
    }
}

impl From<DistError> for IntegrationError {
    fn from(error: DistError) -> Self {
        Self::from(&error)
    }
}

fn parts(error: &DistError) -> (IntegrationErrorCode, bool, Option<Value>) {
    use IntegrationErrorCode as Code;
    match error {
        DistError::InvalidRef { reference, .. } | DistError::TagNotAllowed { reference } => {
            (Code::InvalidReference, false, Some(json!({ "reference": reference })))
        }
        // Retryable: it may have been pulled by then.
        DistError::NotFound { reference } => (Code::CacheMiss, true, Some(json!({ "reference": reference }))),
        DistError::Unauthorized { target } => (Code::ResolutionFailed, false, Some(json!({ "target": target }))),
        DistError::ResolutionUnavailable { reference } => {
            (Code::ResolutionUnavailable, false, Some(json!({ "reference": reference })))
        }
        DistError::Network { reference, source } => {
            let details = json!({ "reference": reference, "kind": error.kind().code() });
            (code_of_net(source), error.is_transient(), Some(details))
        }
        DistError::CorruptArtifact { reference, reason } => {
            (Code::CacheCorrupt, false, Some(json!({ "reference": reference, "reason": reason })))
        }
        DistError::Selection { reference, .. }
        | DistError::ManifestType { reference, .. }
        | DistError::OtherLayer { reference, .. }
        | DistError::ComponentManifest { reference, .. } => {
            (Code::MediaTypeRejected, false, Some(json!({ "reference": reference })))
        }
        DistError::UnsupportedAbi { abi } => (Code::UnsupportedArtifactType, false, Some(json!({ "abi": abi }))),
        DistError::TooLarge { reference, limit_bytes } => {
            (Code::DownloadFailed, false, Some(json!({ "reference": reference, "limit_bytes": limit_bytes })))
        }
        DistError::CacheError { path, source } => {
            let damaged = matches!(source, CacheFailure::Store(store)
                if matches!(store.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Integrity(_)));
            let code = if damaged { Code::CacheCorrupt } else { Code::BundleOpenFailed };
            (code, !damaged, Some(json!({ "path": path })))
        }
        DistError::Layout(layout) => {
            let code = match error.kind() {
                DistErrorKind::NotFound => Code::ResolutionFailed,
                DistErrorKind::Integrity => Code::DigestMismatch,
                DistErrorKind::InvalidInput | DistErrorKind::Policy => Code::UnsupportedSource,
                _ => Code::DownloadFailed,
            };
            (code, false, Some(json!({ "path": layout.path().display().to_string() })))
        }
        DistError::InvalidTransition { bundle_id, from, to, actual } => {
            let details = json!({ "bundle_id": bundle_id, "from": from, "to": to, "actual": actual });
            (Code::PolicyInputInvalid, false, Some(details))
        }
        DistError::InvalidInput(_) => (Code::PolicyInputInvalid, false, None),
        DistError::InsecureUrl { url } => (Code::UnsupportedSource, false, Some(json!({ "url": url }))),
        DistError::Offline { reference } => {
            (Code::OfflineRequiredButUnavailable, true, Some(json!({ "reference": reference })))
        }
        DistError::StoreAuth(_) => (Code::ResolutionFailed, false, None),
        DistError::Serde(_) => (Code::DescriptorCorrupt, false, None),
        DistError::InvalidLock { path, source } => {
            let problems: Vec<String> = source.problems().iter().map(ToString::to_string).collect();
            let details = json!({ "path": path, "problems": problems, "total": source.total() });
            (Code::DescriptorCorrupt, false, Some(details))
        }
        DistError::LockOutOfDate { path, reason } => {
            (Code::PolicyInputInvalid, false, Some(json!({ "path": path, "reason": reason })))
        }
        DistError::Cancelled | DistError::NoRuntime(_) => (Code::DownloadFailed, true, None),
    }
}

fn code_of_net(error: &NetError) -> IntegrationErrorCode {
    use IntegrationErrorCode as Code;
    match error.kind() {
        NetErrorKind::NotFound | NetErrorKind::Unauthorized | NetErrorKind::Forbidden => Code::ResolutionFailed,
        NetErrorKind::Integrity => Code::DigestMismatch,
        NetErrorKind::Offline => Code::OfflineRequiredButUnavailable,
        _ => Code::DownloadFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::IntegrationErrorCode as Code;
    use super::*;

    fn io(kind: std::io::ErrorKind) -> CacheFailure {
        CacheFailure::Io(kind.into())
    }

    #[test]
    fn every_failure_keeps_its_documented_code_retryability_and_details() {
        let reference = || "oci://a.b/c:1".to_owned();
        let by_reference = || Some(json!({ "reference": "oci://a.b/c:1" }));
        let bad_json = serde_json::from_str::<Value>("{").unwrap_err();
        let bad_reference = greentic_dist_types::Reference::parse("x").unwrap_err();
        for (error, code, retryable, details) in [
            (DistError::from_reference("oci://a.b/c:1", bad_reference), Code::InvalidReference, false, by_reference()),
            (DistError::TagNotAllowed { reference: reference() }, Code::InvalidReference, false, by_reference()),
            (DistError::NotFound { reference: reference() }, Code::CacheMiss, true, by_reference()),
            (
                DistError::Unauthorized { target: "a.b".into() },
                Code::ResolutionFailed,
                false,
                Some(json!({ "target": "a.b" })),
            ),
            (
                DistError::ResolutionUnavailable { reference: reference() },
                Code::ResolutionUnavailable,
                false,
                by_reference(),
            ),
            (
                DistError::CorruptArtifact { reference: reference(), reason: "short".into() },
                Code::CacheCorrupt,
                false,
                Some(json!({ "reference": "oci://a.b/c:1", "reason": "short" })),
            ),
            (
                DistError::UnsupportedAbi { abi: "9".into() },
                Code::UnsupportedArtifactType,
                false,
                Some(json!({ "abi": "9" })),
            ),
            (
                DistError::CacheError { path: "/c".into(), source: io(std::io::ErrorKind::PermissionDenied) },
                Code::BundleOpenFailed,
                true,
                Some(json!({ "path": "/c" })),
            ),
            (DistError::InvalidInput("no".into()), Code::PolicyInputInvalid, false, None),
            (
                DistError::InsecureUrl { url: "http://x/".into() },
                Code::UnsupportedSource,
                false,
                Some(json!({ "url": "http://x/" })),
            ),
            (DistError::Offline { reference: reference() }, Code::OfflineRequiredButUnavailable, true, by_reference()),
            (DistError::StoreAuth("no login".into()), Code::ResolutionFailed, false, None),
            (DistError::Serde(bad_json), Code::DescriptorCorrupt, false, None),
        ] {
            let shown = chain(&error);
            let made = IntegrationError::from(error);
            assert_eq!((made.code, made.retryable, &made.details), (code, retryable, &details), "{shown}");
            assert_eq!(made.to_string(), shown);
        }
    }

    #[test]
    fn a_cache_miss_says_that_it_was_not_found() {
        let made = IntegrationError::from(DistError::NotFound { reference: "sha256:aa".into() });
        assert!(made.summary.contains("was not found"), "{}", made.summary);
    }

    #[test]
    fn the_json_has_the_variant_names_and_absent_details_as_null() {
        let made = IntegrationError::new(Code::OfflineRequiredButUnavailable, "offline");
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(
            text,
            r#"{"code":"OfflineRequiredButUnavailable","summary":"offline","retryable":false,"details":null}"#
        );
        assert_eq!(serde_json::from_str::<IntegrationError>(&text).unwrap(), made);
    }
}
