//! Why a registry gave no answer, and why a fetcher has no artifact.

use std::io;

use greentic_dist_net::NetError;
use greentic_dist_types::{Digest, Mismatch, SafeText, SelectError};

use super::asked::Asked;
use crate::dist::error::kind_of_net;
use crate::dist::{CacheFailure, DistError, DistErrorKind};

/// Why a registry client has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryClientError {
    /// What a client that the host brought along has to say.
    #[error("{}", said(.0.as_deref()))]
    GenericError(Option<String>),
    /// The registry could not be asked, or did not give the right answer.
    #[error(transparent)]
    RequestError(#[from] NetError),
    /// Anything else that kept the client of this crate from an answer.
    #[error(transparent)]
    Client(#[from] Box<DistError>),
}

fn said(text: Option<&str>) -> SafeText {
    SafeText::new(text.filter(|text| !text.is_empty()).unwrap_or("the registry client failed and did not say why"))
}

impl RegistryClientError {
    /// The kind. What a client of the host says has none and counts as internal.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::GenericError(_) => DistErrorKind::Internal,
            Self::RequestError(error) => kind_of_net(error),
            Self::Client(error) => error.kind(),
        }
    }

    /// What a person may do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::GenericError(_) => Vec::new(),
            Self::RequestError(error) => error.hints(),
            Self::Client(error) => error.hints(),
        }
    }
}

/// What to do where offline mode is in the way.
pub(crate) fn offline_hint() -> String {
    format!(
        "fetch it once while online, then it opens offline; offline mode comes from `offline`, --offline or {}=1",
        crate::env::OFFLINE
    )
}

/// Why a fetcher has no artifact; the public errors are made from it.
#[derive(Debug)]
pub(crate) enum FetchError {
    InvalidReference {
        reason: String,
    },
    TagDisallowed,
    /// Offline, and nobody knows what the tag means.
    OfflineTag,
    /// Offline, and the artifact is not here.
    OfflineMissing {
        digest: String,
    },
    MissingLayers,
    NoUsableLayer(SelectError),
    DigestMismatch {
        expected: String,
        actual: String,
    },
    /// Bytes or digests that contradict each other, or a damaged cache.
    Corrupt {
        reason: String,
    },
    Pull(RegistryClientError),
    Io(io::Error),
    Serde(serde_json::Error),
    Other(Box<DistError>),
}

impl From<RegistryClientError> for FetchError {
    fn from(error: RegistryClientError) -> Self {
        Self::Pull(error)
    }
}

impl FetchError {
    pub(super) fn mismatch(expected: Digest, actual: Digest) -> Self {
        Self::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() }
    }

    /// What the engine's failure is for whoever asked for `asked`.
    pub(crate) fn from_dist(error: DistError, asked: &Asked) -> Self {
        match error {
            DistError::TagNotAllowed { .. } => Self::TagDisallowed,
            DistError::Offline { .. } => match asked.pin() {
                Some(pin) => Self::OfflineMissing { digest: pin.to_string() },
                None => Self::OfflineTag,
            },
            DistError::Selection { source: SelectError::NoLayers, .. } => Self::MissingLayers,
            DistError::Selection { source, .. } => Self::NoUsableLayer(source),
            DistError::CorruptArtifact { reason, .. } => Self::Corrupt { reason },
            DistError::Network { source, .. } => match source.mismatch() {
                Some(Mismatch::Digest { expected, actual }) => Self::mismatch(expected, actual),
                _ => Self::Pull(source.into()),
            },
            DistError::CacheError { source: CacheFailure::Io(error), .. } => Self::Io(error),
            DistError::Serde(error) => Self::Serde(error),
            other => Self::Other(Box::new(other)),
        }
    }
}
