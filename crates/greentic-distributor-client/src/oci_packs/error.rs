//! Why there is no pack.

use std::io;

use greentic_dist_types::{SelectError, redact_reference};

use crate::dist::{DistError, DistErrorKind};
use crate::registry_client::{FetchError, RegistryClientError, offline_hint};

/// Any failure of an [`OciPackFetcher`](super::OciPackFetcher).
///
/// `Display` names the reference and the reason, also what a registry said. Code decides by [`OciPackError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciPackError {
    /// The reference cannot name anything in a registry.
    #[error("invalid pack reference `{reference}`: {reason}")]
    InvalidReference {
        /// The reference as given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tag, and tags are not allowed.
    #[error("`{reference}` is a tag, and only pinned references are allowed (`allow_tags` is off)")]
    TagDisallowed {
        /// The reference as given.
        reference: String,
    },
    /// Offline, and nobody asked before what the tag means.
    #[error("offline, and what the tag of `{reference}` stands for is not known")]
    OfflineTaggedReference {
        /// The reference as given.
        reference: String,
    },
    /// Offline, and the pack is not in the cache.
    #[error("offline, and `{reference}` is not in the cache ({digest})")]
    OfflineMissing {
        /// The reference as given.
        reference: String,
        /// The pin.
        digest: String,
    },
    /// The manifest has no layers.
    #[error("`{reference}` has no layers")]
    MissingLayers {
        /// The reference as given.
        reference: String,
    },
    /// No layer has an accepted media type.
    #[error("nothing usable in `{reference}`: {source}")]
    NoUsableLayer {
        /// The reference as given.
        reference: String,
        /// What there was, and what is accepted.
        #[source]
        source: SelectError,
    },
    /// Something has another digest than the one that was promised.
    #[error("wrong bytes for `{reference}`: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The reference as given.
        reference: String,
        /// The promised digest: the pin, or that of a layer.
        expected: String,
        /// The digest there is.
        actual: String,
    },
    /// Wrong bytes in another way: too many or too few, a damaged cache while offline, a digest that is none.
    #[error("corrupt pack `{reference}`: {reason}")]
    Corrupt {
        /// The reference as given.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry client has no answer.
    #[error("failed to pull `{reference}`: {source}")]
    PullFailed {
        /// The reference as given.
        reference: String,
        /// What the client says.
        #[source]
        source: RegistryClientError,
    },
    /// A file that could not be read or written.
    #[error("cannot read or write the pack of `{reference}`: {source}")]
    Io {
        /// The reference as given.
        reference: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A document that could not be written.
    #[error("cannot write what is known of `{reference}`: {source}")]
    Serde {
        /// The reference as given.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Anything else: a cache that cannot be used, a manifest type that is not accepted, a limit.
    #[error("cannot fetch `{reference}`: {source}")]
    Other {
        /// The reference as given.
        reference: String,
        /// The failure.
        #[source]
        source: Box<DistError>,
    },
}

impl OciPackError {
    pub(super) fn of(reference: &str, error: FetchError) -> Self {
        let reference = redact_reference(reference);
        match error {
            FetchError::InvalidReference { reason } => Self::InvalidReference { reference, reason },
            FetchError::TagDisallowed => Self::TagDisallowed { reference },
            FetchError::OfflineTag => Self::OfflineTaggedReference { reference },
            FetchError::OfflineMissing { digest } => Self::OfflineMissing { reference, digest },
            FetchError::MissingLayers => Self::MissingLayers { reference },
            FetchError::NoUsableLayer(source) => Self::NoUsableLayer { reference, source },
            FetchError::DigestMismatch { expected, actual } => Self::DigestMismatch { reference, expected, actual },
            FetchError::Corrupt { reason } => Self::Corrupt { reference, reason },
            FetchError::Pull(source) => Self::PullFailed { reference, source },
            FetchError::Io(source) => Self::Io { reference, source },
            FetchError::Serde(source) => Self::Serde { reference, source },
            FetchError::Other(source) => Self::Other { reference, source },
        }
    }

    /// The kind, as [`DistError`] has it.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::InvalidReference { .. } | Self::TagDisallowed { .. } => DistErrorKind::InvalidInput,
            Self::OfflineTaggedReference { .. } | Self::OfflineMissing { .. } => DistErrorKind::Offline,
            Self::DigestMismatch { .. } | Self::Corrupt { .. } => DistErrorKind::Integrity,
            Self::PullFailed { source, .. } => source.kind(),
            Self::Other { source, .. } => source.kind(),
            Self::MissingLayers { .. } | Self::NoUsableLayer { .. } | Self::Io { .. } | Self::Serde { .. } => {
                DistErrorKind::Internal
            }
        }
    }

    /// The process exit code of the kind.
    pub fn exit_code(&self) -> i32 {
        self.kind().exit_code()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        self.kind() == DistErrorKind::Temporary
    }

    /// What a person may do about it: short imperative sentences, most useful first. Empty when there is nothing to say.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::TagDisallowed { .. } => {
                vec!["write the digest (`host/name@sha256:…`), or allow tags (`allow_tags`, `--allow-tags`)".into()]
            }
            Self::OfflineTaggedReference { .. } | Self::OfflineMissing { .. } => {
                vec![offline_hint()]
            }
            Self::Corrupt { .. } => vec![
                "fetch it again while online; a damaged cache entry is replaced by a verified one".into(),
                greentic_dist_net::WRONG_BYTES.into(),
            ],
            Self::MissingLayers { .. } => {
                vec![
                    "push the artifact again, with its bytes as a layer; what the reference names is a manifest alone"
                        .into(),
                ]
            }
            Self::DigestMismatch { .. } => vec![greentic_dist_net::WRONG_BYTES.into()],
            Self::NoUsableLayer { .. } => {
                vec!["accept another layer type (`add_accepted_layer_media_type`), or push it with one of the pack types".into()]
            }
            Self::PullFailed { source, .. } => source.hints(),
            Self::Other { source, .. } => source.hints(),
            _ => Vec::new(),
        }
    }

    /// The reference the failure is about, as given and without secrets.
    pub fn reference(&self) -> &str {
        match self {
            Self::InvalidReference { reference, .. }
            | Self::TagDisallowed { reference }
            | Self::OfflineTaggedReference { reference }
            | Self::OfflineMissing { reference, .. }
            | Self::MissingLayers { reference }
            | Self::NoUsableLayer { reference, .. }
            | Self::DigestMismatch { reference, .. }
            | Self::Corrupt { reference, .. }
            | Self::PullFailed { reference, .. }
            | Self::Io { reference, .. }
            | Self::Serde { reference, .. }
            | Self::Other { reference, .. } => reference,
        }
    }
}
