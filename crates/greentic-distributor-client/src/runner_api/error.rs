//! Why a blob was not handed out.

use greentic_dist_net::NetErrorKind;
use greentic_dist_types::{Mismatch, redact_reference};

use crate::dist::{CacheFailure, DistError, DistErrorKind};
use crate::registry_client::RegistryClientError;

/// Any failure of a [`DigestFetcher`](super::DigestFetcher).
///
/// `Display` says what failed for which reference and never repeats its `source()`; [`RunnerApiError::kind`] is what code
/// decides by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerApiError {
    /// The text is no reference.
    #[error("invalid reference `{reference}`: {reason}")]
    InvalidReference {
        /// The reference as given, without anything secret.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The reference names no digest.
    #[error("`{reference}` names no digest, and blobs are asked for by digest alone")]
    DigestRequired {
        /// The reference as given.
        reference: String,
    },
    /// A digest without a repository to ask.
    #[error("`{digest}` names no repository that could be asked for it")]
    MissingRepositoryContext {
        /// The digest.
        digest: String,
    },
    /// What an injected client pulled has no layer of this digest.
    #[error("no layer that was pulled has the digest `{digest}`")]
    DigestLayerMissing {
        /// The digest.
        digest: String,
    },
    /// The bytes that came are not those of the digest.
    #[error("the bytes that came are not the ones of `{expected}`: they hash to {actual}")]
    DigestMismatch {
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came, or what else is wrong with it.
        actual: String,
    },
    /// The cached bytes are not those of the digest, and offline mode forbids to bring them anew.
    #[error("the cached copy of `{expected}` is damaged: {actual}")]
    CacheDigestMismatch {
        /// The digest that was asked for.
        expected: String,
        /// The digest of what is there, or what else is wrong with it.
        actual: String,
    },
    /// The blob is not in the cache, and offline mode forbids to ask for it.
    #[error("offline, and `{digest}` of `{reference}` is not in the cache")]
    OfflineMissing {
        /// The reference.
        reference: String,
        /// The digest.
        digest: String,
    },
    /// The registry could not be asked, or did not give the right answer.
    #[error("cannot fetch `{reference}`")]
    PullFailed {
        /// The reference.
        reference: String,
        /// What happened.
        #[source]
        source: RegistryClientError,
    },
    /// The cache directory could not be used.
    #[error("the cache could not be used for `{reference}`")]
    Io {
        /// The reference.
        reference: String,
        /// What the operating system or the store said.
        #[source]
        source: std::io::Error,
    },
    /// A document of the cache could not be written.
    #[error("the metadata of `{reference}` could not be written")]
    Serde {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl RunnerApiError {
    /// The kind.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::InvalidReference { .. } | Self::DigestRequired { .. } | Self::MissingRepositoryContext { .. } => {
                DistErrorKind::InvalidInput
            }
            Self::DigestLayerMissing { .. } => DistErrorKind::NotFound,
            Self::DigestMismatch { .. } | Self::CacheDigestMismatch { .. } => DistErrorKind::Integrity,
            Self::OfflineMissing { .. } => DistErrorKind::Offline,
            Self::PullFailed { source, .. } => source.kind(),
            Self::Io { .. } | Self::Serde { .. } => DistErrorKind::Internal,
        }
    }

    /// What a person may do about it, most useful first. Empty when there is nothing to say.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::DigestRequired { .. } => vec!["write the digest of the blob: `host/name@sha256:…`".into()],
            Self::MissingRepositoryContext { digest } => {
                vec![format!("write the repository in front: `host/name@{digest}`")]
            }
            Self::CacheDigestMismatch { .. } | Self::OfflineMissing { .. } => {
                vec!["fetch it once while online; a damaged copy is replaced by a verified one".into()]
            }
            Self::PullFailed { source, .. } if source.kind() == DistErrorKind::NotFound => vec![
                "the digest must be that of a blob, such as a layer; the digest of a manifest is for `DistClient`"
                    .into(),
            ],
            Self::PullFailed { source, .. } => source.hints(),
            _ => Vec::new(),
        }
    }

    /// What the flow says about a blob.
    pub(super) fn from_dist(reference: &str, expected: &str, error: DistError) -> Self {
        let reference = redact_reference(reference);
        match error {
            DistError::CorruptArtifact { reason, .. } => {
                Self::DigestMismatch { expected: expected.to_owned(), actual: reason }
            }
            DistError::Offline { .. } => Self::OfflineMissing { reference, digest: expected.to_owned() },
            DistError::CacheError { source: CacheFailure::Io(source), .. } => Self::Io { reference, source },
            DistError::Network { source, .. } => match source.mismatch() {
                Some(mismatch) if source.kind() == NetErrorKind::Integrity => {
                    Self::DigestMismatch { expected: expected.to_owned(), actual: actual(mismatch) }
                }
                _ => Self::PullFailed { reference, source: source.into() },
            },
            other => Self::PullFailed { reference, source: Box::new(other).into() },
        }
    }
}

/// What is wrong with bytes, as the variants with two digests tell it.
pub(super) fn actual(mismatch: Mismatch) -> String {
    match mismatch {
        Mismatch::Digest { actual, .. } => actual.to_string(),
        other => other.to_string(),
    }
}
