//! From a typed reference to a classified source: the first step of the flow.

use std::path::Path;

use greentic_dist_types::{SourceRef, redact_reference};
use serde::{Deserialize, Serialize};

use super::{ArtifactSourceKind, DistError, DistOptions};

/// How the bytes of a source may be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportHints {
    /// No socket may be opened for this source, whatever the client's options say.
    pub offline: bool,
    /// What the client's options said about `http://` of this machine when the source was parsed. For information: only the
    /// options of the client that resolves the source decide.
    pub allow_insecure_local_http: bool,
}

/// A classified reference, ready to be resolved.
///
/// Built by [`DistClient::parse_source`](super::DistClient::parse_source) or by literal. `raw_ref` decides: it is
/// classified again when the source is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSource {
    /// The reference exactly as typed.
    pub raw_ref: String,
    /// Its kind.
    pub kind: ArtifactSourceKind,
    /// How its bytes may be moved. A source can only be more restricted than the client's options.
    pub transport_hints: TransportHints,
    /// Whether it is a source for development: a file or a fixture.
    pub dev_mode: bool,
}

/// What a reference turned out to be, with the one question of the text's own classification answered: whether a bare
/// text is an existing file.
pub(crate) fn classify(reference: &str) -> Result<SourceRef, DistError> {
    let invalid = |source| DistError::InvalidRef { reference: redact_reference(reference), source: Box::new(source) };
    match SourceRef::parse(reference).map_err(|error| invalid(InvalidRefReason::Syntax(error)))? {
        SourceRef::Bare(text) if Path::new(&text).exists() => Ok(SourceRef::File(text)),
        SourceRef::Bare(_) => Err(invalid(InvalidRefReason::NoRegistryAndNoFile)),
        #[cfg(not(feature = "fixture-resolver"))]
        SourceRef::Fixture(_) => Err(invalid(InvalidRefReason::FixturesNotBuilt)),
        known => Ok(known),
    }
}

/// Why a reference cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRefReason {
    /// Its text breaks the grammar.
    #[error(transparent)]
    Syntax(#[from] greentic_dist_types::ParseSourceError),
    /// It is no id of a bundle.
    #[error(transparent)]
    BundleId(#[from] greentic_dist_types::ParseBundleIdError),
    /// It names no registry, and no file of that name exists.
    #[error("it names no registry, and there is no such file (write `host/name:tag`, or `./name` for a file)")]
    NoRegistryAndNoFile,
    /// `fixture://` in a build without the `fixture-resolver` feature.
    #[error("this build has no `fixture-resolver` feature")]
    FixturesNotBuilt,
    /// A URL that cannot be parsed.
    #[error("it is not a valid URL")]
    Url(#[from] url::ParseError),
}

pub(crate) const fn kind_of(source: &SourceRef) -> ArtifactSourceKind {
    match source {
        SourceRef::Digest(_) => ArtifactSourceKind::CacheDigest,
        SourceRef::Url(_) => ArtifactSourceKind::Https,
        SourceRef::File(_) | SourceRef::Bare(_) => ArtifactSourceKind::File,
        SourceRef::Oci(_) => ArtifactSourceKind::Oci,
        SourceRef::Repo(_) => ArtifactSourceKind::Repo,
        SourceRef::Store(_) => ArtifactSourceKind::Store,
        SourceRef::Fixture(_) => ArtifactSourceKind::Fixture,
    }
}

pub(crate) fn parse_source(reference: &str, options: &DistOptions) -> Result<ArtifactSource, DistError> {
    let kind = kind_of(&classify(reference)?);
    Ok(ArtifactSource {
        raw_ref: reference.to_owned(),
        kind,
        transport_hints: TransportHints {
            offline: options.offline,
            allow_insecure_local_http: options.allow_insecure_local_http,
        },
        dev_mode: matches!(kind, ArtifactSourceKind::File | ArtifactSourceKind::Fixture),
    })
}
