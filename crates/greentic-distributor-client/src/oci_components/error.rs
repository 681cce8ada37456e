//! Why there is no component.

use std::io;

use greentic_dist_types::{SafeText, SelectError, redact_reference};

use crate::dist::{ComponentManifestError, DistError, DistErrorKind};
use crate::registry_client::{FetchError, RegistryClientError, offline_hint};

/// Any failure of an [`OciComponentResolver`](super::OciComponentResolver).
///
/// `Display` names the reference and the reason, also what a registry said. Code decides by [`OciComponentError::kind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciComponentError {
    /// The reference cannot name anything in a registry.
    #[error("invalid component reference `{reference}`: {reason}")]
    InvalidReference {
        /// The reference as given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tag, and tags are not allowed.
    #[error("`{reference}` has no digest, and only pinned references are allowed (`allow_tags` is off)")]
    DigestRequired {
        /// The reference as given.
        reference: String,
    },
    /// Offline, and nobody asked before what the tag means.
    #[error("offline, and what the tag of `{reference}` stands for is not known")]
    OfflineTaggedReference {
        /// The reference as given.
        reference: String,
    },
    /// Offline, and the component is not in the cache.
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
    /// No layer has a media type that is a component's.
    #[error("`{reference}` holds no component: {media_types}")]
    MissingComponent {
        /// The reference as given.
        reference: String,
        /// The media types there are, and those that are looked for.
        media_types: String,
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
    #[error("corrupt component `{reference}`: {reason}")]
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
    #[error("cannot read or write the component of `{reference}`: {source}")]
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
    /// The component manifest that travels with the component is not the JSON it should be.
    #[error("the component manifest of `{reference}` cannot be read: {source}")]
    ManifestParse {
        /// The reference as given.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The component manifest gives the component a name that no file of the cache may have.
    #[error("the component manifest of `{reference}` names its component `{}`, which is no plain file name", shown(.name))]
    InvalidManifestWasmName {
        /// The reference as given.
        reference: String,
        /// The name as written.
        name: String,
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

fn shown(name: &str) -> SafeText {
    SafeText::excerpt(name, 80)
}

impl OciComponentError {
    pub(super) fn of(reference: &str, error: FetchError) -> Self {
        let reference = redact_reference(reference);
        match error {
            FetchError::InvalidReference { reason } => Self::InvalidReference { reference, reason },
            FetchError::TagDisallowed => Self::DigestRequired { reference },
            FetchError::OfflineTag => Self::OfflineTaggedReference { reference },
            FetchError::OfflineMissing { digest } => Self::OfflineMissing { reference, digest },
            FetchError::MissingLayers => Self::MissingLayers { reference },
            FetchError::NoUsableLayer(source) => Self::missing(reference, &source),
            FetchError::DigestMismatch { expected, actual } => Self::DigestMismatch { reference, expected, actual },
            FetchError::Corrupt { reason } => Self::Corrupt { reference, reason },
            FetchError::Pull(source) => Self::PullFailed { reference, source },
            FetchError::Io(source) => Self::Io { reference, source },
            FetchError::Serde(source) => Self::Serde { reference, source },
            FetchError::Other(source) => match *source {
                DistError::ComponentManifest { source, .. } => match source {
                    ComponentManifestError::Malformed(source) => Self::ManifestParse { reference, source },
                    ComponentManifestError::Name(name) => Self::InvalidManifestWasmName { reference, name },
                },
                other => Self::Other { reference, source: Box::new(other) },
            },
        }
    }

    fn missing(reference: String, source: &SelectError) -> Self {
        Self::MissingComponent { reference, media_types: source.to_string() }
    }

    /// The kind, as [`DistError`] has it.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::InvalidReference { .. } | Self::DigestRequired { .. } => DistErrorKind::InvalidInput,
            Self::OfflineTaggedReference { .. } | Self::OfflineMissing { .. } => DistErrorKind::Offline,
            Self::DigestMismatch { .. } | Self::Corrupt { .. } => DistErrorKind::Integrity,
            Self::InvalidManifestWasmName { .. } => DistErrorKind::Policy,
            Self::PullFailed { source, .. } => source.kind(),
            Self::Other { source, .. } => source.kind(),
            Self::MissingLayers { .. }
            | Self::MissingComponent { .. }
            | Self::ManifestParse { .. }
            | Self::Io { .. }
            | Self::Serde { .. } => DistErrorKind::Internal,
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
            Self::InvalidReference { reference, .. } if reference.contains("://") => {
                vec!["leave the scheme away: `host/name@sha256:…`".into()]
            }
            Self::DigestRequired { .. } => {
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
            Self::MissingComponent { .. } => {
                vec!["push the component with one of the types that are looked for, such as `application/wasm`".into()]
            }
            Self::ManifestParse { .. } | Self::InvalidManifestWasmName { .. } => {
                vec![
                    "ask the publisher for a component manifest whose `artifacts.component_wasm` is a plain file name"
                        .into(),
                ]
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
            | Self::DigestRequired { reference }
            | Self::OfflineTaggedReference { reference }
            | Self::OfflineMissing { reference, .. }
            | Self::MissingLayers { reference }
            | Self::MissingComponent { reference, .. }
            | Self::DigestMismatch { reference, .. }
            | Self::Corrupt { reference, .. }
            | Self::PullFailed { reference, .. }
            | Self::Io { reference, .. }
            | Self::Serde { reference, .. }
            | Self::ManifestParse { reference, .. }
            | Self::InvalidManifestWasmName { reference, .. }
            | Self::Other { reference, .. } => reference,
        }
    }
}
