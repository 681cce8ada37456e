//! Why an operation of the distributor client failed: a kind, the reference, the real cause, and what to do.

use greentic_dist_net::{NetError, NetErrorKind};
use greentic_dist_store::{StoreError, StoreErrorKind};
use greentic_dist_types::{
    BundleLifecycleState, Digest, LockError, ParseReferenceError, SafeText, SelectError, redact_reference,
};

use super::component_manifest::ComponentManifestError;
use super::source::InvalidRefReason;
use crate::oci::LayoutError;

/// Any failure of [`DistClient`](super::DistClient).
///
/// `Display` says what failed for which reference and never repeats its `source()`; [`DistError::kind`] is what code
/// decides by, [`DistError::exit_code`] what a process ends with, [`DistError::hints`] what a person may do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistError {
    /// The reference cannot name anything.
    #[error("invalid reference `{reference}`")]
    InvalidRef {
        /// The reference as typed.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: Box<InvalidRefReason>,
    },
    /// Neither the cache nor this machine has it.
    #[error("`{reference}` was not found")]
    NotFound {
        /// The reference or digest as typed.
        reference: String,
    },
    /// A login is needed or was refused. Registries answer through [`DistError::Network`]; this variant is for callers
    /// that decide on their own, e.g. injected resolvers.
    #[error("not authorized for `{target}`")]
    Unauthorized {
        /// What was asked for.
        target: String,
    },
    /// A `repo://` or `store://` name, and no registry base is configured.
    #[error("resolution unavailable for `{reference}`: the name has no registry and no base is configured")]
    ResolutionUnavailable {
        /// The reference as typed.
        reference: String,
    },
    /// A registry or web server could not be asked, or did not give the right answer.
    #[error("cannot {} `{reference}`{}", deed(source), unknown(source))]
    Network {
        /// The reference as typed.
        reference: String,
        /// What happened on the wire.
        #[source]
        source: NetError,
    },
    /// The bytes are not the ones that were promised, or a cache entry no longer is what it was.
    #[error("corrupt artifact `{reference}`: {reason}")]
    CorruptArtifact {
        /// The reference or digest.
        reference: String,
        /// What is wrong, expected and actual values included.
        reason: String,
    },
    /// The manifest is fine and holds nothing this client can use as the artifact.
    #[error("nothing usable in `{reference}`")]
    Selection {
        /// The reference as typed.
        reference: String,
        /// What there was and what was wanted.
        #[source]
        source: SelectError,
    },
    /// The cache directory holds another layer of this manifest, which a client with another rule took before: a directory has room
    /// for one artifact under a digest, and nothing that is there is replaced.
    #[error("`{reference}` is in this cache as another of its layers ({kept})")]
    OtherLayer {
        /// The reference as given.
        reference: String,
        /// The digest under which it is kept.
        digest: String,
        /// Media type of the layer that is kept.
        kept: String,
    },
    /// The manifest, or the index that led to it, is of a type this client was told not to take.
    #[error("`{reference}` is a manifest of type `{media_type}`, which is not accepted")]
    ManifestType {
        /// The reference as typed.
        reference: String,
        /// Its media type.
        media_type: String,
    },
    /// The component manifest that travels with a component cannot be followed.
    #[error("the component manifest of `{reference}` cannot be used")]
    ComponentManifest {
        /// The reference as typed.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: ComponentManifestError,
    },
    /// The ABI of the artifact is not supported.
    #[error("unsupported ABI `{abi}`")]
    UnsupportedAbi {
        /// The ABI the artifact asks for.
        abi: String,
    },
    /// The artifact is larger than the limit in force.
    #[error("`{reference}` is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The reference as typed.
        reference: String,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A file that could not be read or a cache directory that could not be used.
    #[error("cache error at {path}")]
    CacheError {
        /// The path concerned.
        path: String,
        /// What the operating system or the store said.
        #[source]
        source: CacheFailure,
    },
    /// An argument that is well formed and still not acceptable.
    #[error("{0}")]
    InvalidInput(String),
    /// A tag, where only pinned references are allowed.
    #[error("`{reference}` is a tag, and this client accepts pinned references only")]
    TagNotAllowed {
        /// The reference as typed.
        reference: String,
    },
    /// A URL that would be read without transport security.
    #[error("insecure url `{url}`")]
    InsecureUrl {
        /// The URL, redacted.
        url: String,
    },
    /// The network would be needed, and offline mode forbids it.
    #[error("offline, and `{reference}` is not in the cache")]
    Offline {
        /// The reference as typed.
        reference: String,
    },
    /// An OCI image layout that could not be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The login for a store is missing or cannot be used.
    #[error("{0}")]
    StoreAuth(String),
    /// A lock file that cannot be believed. Nothing of it was asked for.
    #[error("invalid lockfile `{path}`")]
    InvalidLock {
        /// The file.
        path: String,
        /// Every problem with its place in the file.
        #[source]
        source: Box<LockError>,
    },
    /// A lock file says something that is not so any more.
    #[error("lockfile `{path}` is out of date: {reason}")]
    LockOutOfDate {
        /// The file.
        path: String,
        /// What is not so, both digests included.
        reason: String,
    },
    /// A document (a lock file, an advisory) that is not the JSON it should be.
    #[error("invalid lockfile or advisory document")]
    Serde(#[from] serde_json::Error),
    /// A bundle is not in the state a change starts from, or the life cycle has no such change.
    #[error("bundle `{bundle_id}` does not go from {from:?} to {to:?}: it is {actual:?}")]
    InvalidTransition {
        /// The bundle.
        bundle_id: String,
        /// The state the change starts from.
        from: BundleLifecycleState,
        /// The state the change leads to.
        to: BundleLifecycleState,
        /// The state the bundle is in.
        actual: BundleLifecycleState,
    },
    /// The runtime shut down before the work was done. Nothing is lost: a transfer resumes where it was.
    #[error("the operation was cancelled by the shutdown of its runtime")]
    Cancelled,
    /// The system has no thread for the runtime that waiting needs, see [`blocking`](crate::blocking).
    #[error("no runtime could be started to wait in")]
    NoRuntime(#[source] std::io::Error),
}

/// What stands behind a [`DistError::CacheError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheFailure {
    /// The store's own, typed failure.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// Reading a file that is not in the cache.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What code decides by; one exit code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DistErrorKind {
    /// The caller's input is wrong (exit 2).
    InvalidInput,
    /// There is no such thing (exit 3).
    NotFound,
    /// Offline mode forbids what would be needed (exit 4).
    Offline,
    /// A login or a configuration that grants access is missing or refused (exit 5).
    Auth,
    /// A rule of this client refuses it (exit 6).
    Policy,
    /// The same call may succeed later (exit 7).
    Temporary,
    /// The bytes are wrong (exit 8).
    Integrity,
    /// What a lock file says is not what its references mean (exit 9).
    LockOutOfDate,
    /// Anything else (exit 10).
    Internal,
}

impl DistErrorKind {
    /// The process exit code: a contract, see `docs/errors.md`.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::InvalidInput => 2,
            Self::NotFound => 3,
            Self::Offline => 4,
            Self::Auth => 5,
            Self::Policy => 6,
            Self::Temporary => 7,
            Self::Integrity => 8,
            Self::LockOutOfDate => 9,
            Self::Internal => 10,
        }
    }

    fn of_exit_code(code: i32) -> Self {
        use DistErrorKind as K;
        let all = [K::InvalidInput, K::NotFound, K::Offline, K::Auth, K::Policy, K::Temporary, K::Integrity];
        all.into_iter().find(|kind| kind.exit_code() == code).unwrap_or(K::Internal)
    }

    /// The stable name used in JSON.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::Offline => "offline",
            Self::Auth => "auth",
            Self::Policy => "policy",
            Self::Temporary => "temporary",
            Self::Integrity => "integrity",
            Self::LockOutOfDate => "lock_out_of_date",
            Self::Internal => "internal",
        }
    }
}

impl DistError {
    /// The kind.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::InvalidRef { .. }
            | Self::InvalidInput(_)
            | Self::TagNotAllowed { .. }
            | Self::InsecureUrl { .. }
            | Self::InvalidLock { .. }
            | Self::Selection { source: SelectError::SeveralVariants { .. }, .. }
            | Self::Serde(_) => DistErrorKind::InvalidInput,
            Self::InvalidTransition { .. }
            | Self::ManifestType { .. }
            | Self::OtherLayer { .. }
            | Self::ComponentManifest { source: ComponentManifestError::Name(_), .. } => DistErrorKind::Policy,
            Self::NotFound { .. } | Self::Selection { source: SelectError::NoPlatform { .. }, .. } => {
                DistErrorKind::NotFound
            }
            Self::Offline { .. } => DistErrorKind::Offline,
            Self::Unauthorized { .. } | Self::ResolutionUnavailable { .. } | Self::StoreAuth(_) => DistErrorKind::Auth,
            Self::CorruptArtifact { .. } => DistErrorKind::Integrity,
            Self::LockOutOfDate { .. } => DistErrorKind::LockOutOfDate,
            Self::Network { source, .. } => kind_of_net(source),
            Self::CacheError { source: CacheFailure::Io(error), .. } => match error.kind() {
                std::io::ErrorKind::NotFound => DistErrorKind::NotFound,
                _ => DistErrorKind::Internal,
            },
            Self::CacheError { source: CacheFailure::Store(error), .. } => match error.kind() {
                StoreErrorKind::Locked => DistErrorKind::Temporary,
                StoreErrorKind::Corrupt | StoreErrorKind::Integrity(_) => DistErrorKind::Integrity,
                _ => DistErrorKind::Internal,
            },
            Self::Layout(error) => error.kind(),
            Self::Cancelled | Self::NoRuntime(_) => DistErrorKind::Temporary,
            Self::ComponentManifest { .. }
            | Self::Selection { .. }
            | Self::UnsupportedAbi { .. }
            | Self::TooLarge { .. } => DistErrorKind::Internal,
        }
    }

    /// The process exit code: 0 ok, 2 invalid input, 3 not found, 4 offline, 5 auth, 6 policy, 7 temporary, 8 integrity,
    /// 9 lock out of date, 10 anything else.
    pub fn exit_code(&self) -> i32 {
        self.kind().exit_code()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        self.kind() == DistErrorKind::Temporary
    }

    /// The reference the failure is about, where there is one.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::InvalidRef { reference, .. }
            | Self::NotFound { reference }
            | Self::ResolutionUnavailable { reference }
            | Self::Network { reference, .. }
            | Self::CorruptArtifact { reference, .. }
            | Self::Selection { reference, .. }
            | Self::ManifestType { reference, .. }
            | Self::OtherLayer { reference, .. }
            | Self::ComponentManifest { reference, .. }
            | Self::TooLarge { reference, .. }
            | Self::TagNotAllowed { reference }
            | Self::Offline { reference } => Some(reference),
            Self::Unauthorized { target } => Some(target),
            Self::InsecureUrl { url } => Some(url),
            Self::InvalidTransition { bundle_id, .. } => Some(bundle_id),
            Self::CacheError { .. }
            | Self::Layout(_)
            | Self::UnsupportedAbi { .. }
            | Self::InvalidInput(_)
            | Self::StoreAuth(_)
            | Self::InvalidLock { .. }
            | Self::LockOutOfDate { .. }
            | Self::Serde(_)
            | Self::Cancelled
            | Self::NoRuntime(_) => None,
        }
    }

    /// What a person may do about it: short imperative sentences, most useful first. Empty when there is nothing to say.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::InvalidRef { reference, source } if matches!(**source, InvalidRefReason::NoRegistryAndNoFile) => {
                let name = SafeText::excerpt(reference, 64);
                vec![format!("name the registry (`ghcr.io/{name}`), or write `./{name}` for a file")]
            }
            Self::NotFound { reference } if reference.parse::<Digest>().is_ok() => {
                vec!["a bare digest is only looked up in the cache; pull it as `host/name@sha256:…`".into()]
            }
            Self::ResolutionUnavailable { reference } => {
                let variable = if reference.starts_with("store://") {
                    crate::env::STORE_REGISTRY_BASE
                } else {
                    crate::env::REPO_REGISTRY_BASE
                };
                vec![format!("set {variable} to a registry, e.g. `ghcr.io/acme`, or write the registry into the name")]
            }
            Self::Network { source, .. } => source.hints(),
            Self::CorruptArtifact { .. } => {
                vec!["pull it again while online; a damaged cache entry is replaced by a verified one".into()]
            }
            Self::LockOutOfDate { .. } => {
                vec!["`greentic-dist lock update` writes what the references mean now".into()]
            }
            Self::CacheError { source: CacheFailure::Store(error), .. } => error.hints(),
            Self::Layout(error) => error.hints(),
            Self::TagNotAllowed { .. } => {
                vec!["write the digest: `host/name@sha256:…` (`greentic-dist resolve` prints it)".into()]
            }
            Self::InsecureUrl { .. } => {
                vec![format!("use https; for a server of this machine set {}=1", crate::env::ALLOW_INSECURE_LOCAL_HTTP)]
            }
            Self::Offline { .. } => vec![format!(
                "pull it once while online, then it opens offline; offline mode comes from --offline or {}=1",
                crate::env::OFFLINE
            )],
            Self::OtherLayer { digest, .. } => vec![format!(
                "name another directory with --cache-dir; or `greentic-dist cache rm {digest}`, when nobody needs what is there"
            )],
            Self::Selection { source: SelectError::SeveralVariants { .. }, .. } => {
                vec!["name the variant, e.g. `--platform linux/amd64/v2`".into()]
            }
            Self::TooLarge { limit_bytes, .. } => vec![format!(
                "if that much is expected, raise the limit: --set-limit artifact-bytes={}",
                limit_bytes.saturating_mul(2)
            )],
            _ => Vec::new(),
        }
    }

    /// The kind of the store's failure behind it, where the store failed.
    pub(crate) fn store_kind(&self) -> Option<StoreErrorKind> {
        match self {
            Self::CacheError { source: CacheFailure::Store(error), .. } => Some(*error.kind()),
            _ => None,
        }
    }

    /// Wraps a store failure. Integrity failures become [`DistError::CorruptArtifact`], so that wrong bytes have one
    /// shape wherever they were noticed.
    pub(crate) fn from_store(reference: &str, error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Integrity(mismatch) => {
                Self::CorruptArtifact { reference: reference.to_owned(), reason: mismatch.to_string() }
            }
            StoreErrorKind::Corrupt => Self::CorruptArtifact { reference: reference.to_owned(), reason: chain(&error) },
            _ => Self::CacheError {
                path: error.path().display().to_string(),
                source: CacheFailure::Store(Box::new(error)),
            },
        }
    }

    /// Wraps a network failure; what offline mode says keeps its own variant.
    pub(crate) fn from_net(reference: &str, error: NetError) -> Self {
        match error.kind() {
            NetErrorKind::Offline => Self::Offline { reference: reference.to_owned() },
            _ => Self::Network { reference: reference.to_owned(), source: error },
        }
    }

    pub(crate) fn from_reference(reference: &str, error: ParseReferenceError) -> Self {
        // What is no reference may be an address with a password in it.
        let reference = redact_reference(reference);
        Self::InvalidRef { reference, source: Box::new(InvalidRefReason::Syntax(error.into())) }
    }

    pub(crate) fn io(path: &std::path::Path, error: std::io::Error) -> Self {
        Self::CacheError { path: crate::regular_file::shown(path), source: error.into() }
    }
}

/// What was being done to a reference when a request failed.
fn deed(error: &NetError) -> &'static str {
    match error.method() {
        Some("PUT" | "POST" | "PATCH") => "push to",
        Some("DELETE") => "delete",
        _ => "fetch",
    }
}

/// What a registry says that has no such manifest. Programs look for these words in the first line of an error.
fn unknown(error: &NetError) -> &'static str {
    if error.has_code("MANIFEST_UNKNOWN") { ": manifest unknown" } else { "" }
}

/// The kind that has the failure's exit code, or that of the layout which could not be read.
pub(crate) fn kind_of_net(error: &NetError) -> DistErrorKind {
    let layout = std::error::Error::source(error).and_then(|source| source.downcast_ref::<LayoutError>());
    match layout.filter(|_| error.kind() == NetErrorKind::Source) {
        Some(layout) => layout.kind(),
        None => DistErrorKind::of_exit_code(error.exit_code()),
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Earlier name of [`DistError`], kept for 0.4 users.
pub type ResolveError = DistError;
