//! How a failure leaves the process.

use greentic_dist_types::SelectError;

use crate::dist::bundle::BundleError;
use crate::dist::{DistError, DistErrorKind};
use crate::oci_components::OciComponentError;
use crate::oci_packs::OciPackError;

/// A failure of the command line: its exit code and everything that is printed about it.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub code: i32,
    /// What failed, one sentence.
    pub message: String,
    pub(crate) kind: &'static str,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<String>,
    pub(crate) reference: Option<String>,
    pub(crate) retryable: bool,
    /// Why a manifest or an index is of no use, where that is what failed.
    pub(crate) reason: Option<Unusable>,
    /// Results that did succeed before or beside the failure, for `--json`.
    pub(crate) partial: Option<serde_json::Value>,
}

impl CliError {
    /// The failure of the library as the command line shows it.
    pub fn from_dist(error: &DistError) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        causes.dedup();
        // Each problem on a line of its own.
        if let DistError::InvalidLock { source, .. } = error {
            causes = source.problems().iter().map(ToString::to_string).collect();
            match source.total() - causes.len() {
                0 => {}
                more => causes.push(format!("and {more} more")),
            }
        }
        Self {
            code: error.exit_code(),
            message: error.to_string(),
            kind: error.kind().code(),
            causes,
            hints: error.hints(),
            reference: error.reference().map(ToOwned::to_owned),
            retryable: error.is_transient(),
            reason: reason_of(error),
            partial: None,
        }
    }

    /// The failure of a pack fetcher.
    pub fn from_pack(error: &OciPackError) -> Self {
        let failure = Self::from_fetcher(error.kind(), error.reference(), error.hints(), error);
        match error {
            OciPackError::MissingLayers { .. } => Self { reason: Some(Unusable::NoLayers), ..failure },
            _ => failure,
        }
    }

    /// The failure of a component resolver.
    pub fn from_component(error: &OciComponentError) -> Self {
        let failure = Self::from_fetcher(error.kind(), error.reference(), error.hints(), error);
        match error {
            OciComponentError::MissingLayers { .. } => Self { reason: Some(Unusable::NoLayers), ..failure },
            OciComponentError::MissingComponent { .. } => Self { reason: Some(Unusable::MediaTypeRejected), ..failure },
            _ => failure,
        }
    }

    /// The failure of a fetcher. Its text ends with its first cause, which is told as the others are.
    fn from_fetcher(
        kind: DistErrorKind,
        reference: &str,
        hints: Vec<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        causes.dedup();
        let text = error.to_string();
        let said = causes.first().and_then(|cause| text.strip_suffix(cause.as_str())?.strip_suffix(": "));
        let mut failure = Self::plain(kind.exit_code(), kind.code(), said.unwrap_or(&text));
        failure.causes = causes;
        failure.hints = hints;
        failure.reference = Some(reference.to_owned());
        failure.retryable = kind == DistErrorKind::Temporary;
        failure.reason = reason_of(error);
        failure
    }

    /// The failure of an operation on a bundle, or of a verification. The report of a refusal is kept beside it.
    pub(crate) fn from_bundle(error: &BundleError) -> Self {
        let kind = error.kind();
        match error {
            BundleError::Flow(error) => Self::from_dist(error),
            BundleError::Refused(verdict) => {
                let report = verdict.report();
                let mut errors = report.errors.iter();
                let first = errors.next().map_or("the verification failed", String::as_str);
                let mut refusal = Self::plain(kind.exit_code(), kind.code(), first);
                refusal.causes = errors.cloned().collect();
                refusal.reference = Some(report.canonical_ref.clone()).filter(|reference| !reference.is_empty());
                refusal.partial = serde_json::to_value(report).ok();
                refusal
            }
            BundleError::Stated(error) => Self::plain(kind.exit_code(), kind.code(), &error.summary),
        }
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::plain(10, "internal", message)
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::plain(2, "invalid_input", message)
    }

    pub(crate) fn missing(message: &str) -> Self {
        Self::plain(3, "not_found", message)
    }

    pub(crate) fn auth(message: &str) -> Self {
        Self::plain(5, "auth", message)
    }

    pub(crate) fn temporary(message: &str) -> Self {
        Self { retryable: true, ..Self::plain(7, "temporary", message) }
    }

    pub(crate) fn offline(message: &str) -> Self {
        Self::plain(4, "offline", message)
    }

    pub(crate) fn integrity(message: &str) -> Self {
        Self::plain(8, "integrity", message)
    }

    /// An error of another kind with its causes.
    pub(crate) fn with_causes(code: i32, kind: &'static str, error: &dyn std::error::Error) -> Self {
        let mut failure = Self::plain(code, kind, &error.to_string());
        failure.retryable = code == 7;
        let mut source = error.source();
        while let Some(cause) = source {
            failure.causes.push(cause.to_string());
            source = cause.source();
        }
        failure
    }

    fn plain(code: i32, kind: &'static str, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            kind,
            causes: Vec::new(),
            hints: Vec::new(),
            reference: None,
            retryable: false,
            reason: None,
            partial: None,
        }
    }
}

/// Why a manifest or an index is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    NoLayers,
    MediaTypeRejected,
    NoPlatform,
    DifferentContent,
}

impl Unusable {
    /// Its name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoLayers => "no_layers",
            Self::MediaTypeRejected => "media_type_rejected",
            Self::NoPlatform => "no_platform",
            Self::DifferentContent => "different_content",
        }
    }
}

/// What a choice among layers or platforms failed at, where one did.
pub(crate) fn reason_of(error: &(dyn std::error::Error + 'static)) -> Option<Unusable> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<SelectError>() {
            Some(SelectError::NoLayers) => return Some(Unusable::NoLayers),
            Some(SelectError::NoLayer { .. }) => return Some(Unusable::MediaTypeRejected),
            Some(SelectError::NoPlatform { .. }) => return Some(Unusable::NoPlatform),
            Some(SelectError::DifferentContent { .. }) => return Some(Unusable::DifferentContent),
            Some(_) | None => cause = error.source(),
        }
    }
    None
}

impl From<DistError> for CliError {
    fn from(error: DistError) -> Self {
        Self::from_dist(&error)
    }
}
