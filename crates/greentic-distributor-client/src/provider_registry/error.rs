//! Why there is no catalog.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::{ParseReferenceError, SafeText, is_explicit_registry, redact_reference};

use super::fetch::FetchFailure;
use crate::dist::{DistError, DistErrorKind};
use crate::env;

/// How to go on without a registry.
const USE_A_FILE: &str =
    "point `GTC_PROVIDER_REGISTRY_REF` at a local file, or use `--provider-registry file://<path>` or a local path";

/// A path as it was typed: what was meant as a reference may hold a login.
pub(super) fn typed(path: &Path) -> String {
    let path = path.display().to_string();
    // A path without an at sign holds none, and may hold what a URL would end with.
    if path.contains('@') { redact_reference(&path) } else { path }
}

/// Any failure of this module.
///
/// The text says what failed for which reference, and where there is a way on also that, since callers show nothing else;
/// [`ProviderRegistryError::summary`] and [`ProviderRegistryError::hints`] have the two apart. Causes are in `source()`, and
/// [`ProviderRegistryError::kind`] is what code decides by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("{}{}", self.summary(), self.way_on().map(|way| format!("; {way}")).unwrap_or_default())]
pub enum ProviderRegistryError {
    /// There is no such file on this machine.
    LocalMissing {
        /// Its path.
        path: PathBuf,
    },
    /// What is there is a directory, a device or a pipe.
    LocalNotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// A scheme that leads to no catalog.
    UnsupportedScheme {
        /// The reference, without secrets.
        reference: String,
    },
    /// Longer than any reference.
    TooLong {
        /// The reference, without secrets and cut.
        reference: String,
    },
    /// A reference that can name nothing.
    InvalidReference {
        /// The reference, without secrets.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: ParseReferenceError,
    },
    /// A `repo://` or `store://` name that names no registry, and no base to join it to.
    NoRegistryBase {
        /// The reference, without secrets.
        reference: String,
        /// The environment variable that says the base.
        variable: &'static str,
    },
    /// Offline mode, and nothing is cached.
    Offline {
        /// The reference, without secrets.
        reference: String,
        /// Where a cached copy would be.
        cache_path: PathBuf,
        /// Why files that are there are not used.
        passed_over: Vec<String>,
    },
    /// The registry gave no catalog, and nothing is cached.
    Unavailable {
        /// The reference, without secrets.
        reference: String,
        /// Where a cached copy would be.
        cache_path: PathBuf,
        /// Why files that are there are not used.
        passed_over: Vec<String>,
        /// What the registry did.
        #[source]
        source: Box<FetchFailure>,
    },
    /// A file that is no catalog.
    NotACatalog {
        /// The file, or the reference it is for.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: CatalogError,
    },
    /// A file that was to be kept as a pinned reference, and nothing proves that it is what the pin names.
    Unproven {
        /// The reference.
        reference: String,
        /// The file.
        path: PathBuf,
    },
    /// A file that cannot be read.
    Source {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The cache of the bundle cannot be used.
    Cache {
        /// What was being done.
        op: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Another process or task works on the same for too long.
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The runtime shut down before the work was done, or none could be started.
    NotRun {
        /// Which of both.
        #[source]
        source: Box<DistError>,
    },
}

impl ProviderRegistryError {
    /// The kind, which also is the exit code.
    pub fn kind(&self) -> DistErrorKind {
        match self {
            Self::LocalMissing { .. } => DistErrorKind::NotFound,
            Self::LocalNotAFile { .. }
            | Self::UnsupportedScheme { .. }
            | Self::TooLong { .. }
            | Self::InvalidReference { .. }
            | Self::NotACatalog { .. } => DistErrorKind::InvalidInput,
            Self::NoRegistryBase { .. } => DistErrorKind::Auth,
            Self::Offline { .. } => DistErrorKind::Offline,
            Self::Unavailable { source, .. } => source.kind(),
            Self::Unproven { .. } => DistErrorKind::Integrity,
            Self::Source { source, .. } if source.kind() == io::ErrorKind::NotFound => DistErrorKind::NotFound,
            Self::Source { source, .. } if source.kind() == io::ErrorKind::InvalidData => DistErrorKind::InvalidInput,
            Self::Source { .. } | Self::Cache { .. } => DistErrorKind::Internal,
            Self::Busy { .. } => DistErrorKind::Temporary,
            Self::NotRun { source } => source.kind(),
        }
    }

    /// What failed, for what, and what was tried; without the causes and without advice.
    pub fn summary(&self) -> String {
        match self {
            Self::LocalMissing { path } => format!("the provider registry path `{}` does not exist", typed(path)),
            Self::LocalNotAFile { path } => {
                format!("the provider registry path `{}` is not a regular file", typed(path))
            }
            Self::UnsupportedScheme { reference } => format!(
                "`{reference}` is no provider registry: accepted are `oci://`, `repo://`, `store://`, `file://` and a local path"
            ),
            Self::TooLong { reference } => format!("`{reference}` is too long for a reference"),
            Self::InvalidReference { reference, .. } => format!("invalid provider registry reference `{reference}`"),
            Self::NoRegistryBase { reference, variable } => {
                format!(
                    "the provider registry `{reference}` names no registry, and {variable} names none to join it to"
                )
            }
            Self::Offline { reference, cache_path, passed_over } => format!(
                "the provider registry `{reference}` is unavailable: offline, and no cached copy was found at {}{}",
                cache_path.display(),
                told(passed_over)
            ),
            Self::Unavailable { reference, cache_path, passed_over, .. } => format!(
                "the provider registry `{reference}` could not be fetched, and no cached copy was found at {}{}",
                cache_path.display(),
                told(passed_over)
            ),
            Self::NotACatalog { reference, .. } => format!("`{reference}` is no provider catalog"),
            Self::Unproven { reference, path } => {
                format!("nothing proves that {} is what the pin of `{}` names", typed(path), reference)
            }
            Self::Source { path, .. } => format!("cannot read the provider catalog {}", typed(path)),
            Self::Cache { op, path, .. } => format!("cannot {op} {} of the provider registry cache", path.display()),
            Self::Busy { path, waited } => {
                format!("somebody else has held {} for {:.1} s", path.display(), waited.as_secs_f64())
            }
            Self::NotRun { .. } => "the provider catalog could not be looked for".to_owned(),
        }
    }

    /// The reference the failure is about, without secrets, where there is one.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::UnsupportedScheme { reference }
            | Self::TooLong { reference }
            | Self::InvalidReference { reference, .. }
            | Self::NoRegistryBase { reference, .. }
            | Self::Offline { reference, .. }
            | Self::Unavailable { reference, .. }
            | Self::NotACatalog { reference, .. }
            | Self::Unproven { reference, .. } => Some(reference),
            _ => None,
        }
    }

    /// What a person may do about it: short imperative sentences, most useful first.
    pub fn hints(&self) -> Vec<String> {
        let mut hints = match self {
            Self::Unavailable { source, .. } => source.hints(),
            _ => Vec::new(),
        };
        hints.extend(self.way_on());
        hints
    }

    fn way_on(&self) -> Option<String> {
        match self {
            Self::Offline { .. } => {
                Some(format!("run without `--offline` and without {}=1, {USE_A_FILE}", env::OFFLINE))
            }
            Self::Unavailable { .. } => Some(USE_A_FILE.to_owned()),
            Self::LocalMissing { path } if is_explicit_registry(&typed(path)) => {
                Some(format!("a registry is named with its scheme, as in `oci://{}`", typed(path)))
            }
            Self::NoRegistryBase { variable, .. } => {
                Some(format!("set {variable} to a registry, e.g. `ghcr.io/acme`, or write the registry into the name"))
            }
            _ => None,
        }
    }

    /// A file that is no catalog, or that cannot be read at all.
    pub(crate) fn not_a_catalog(path: &Path, source: CatalogError) -> Self {
        match source {
            CatalogError::Unreadable { kind, reason, .. } => {
                Self::of_source(path, io::Error::new(kind, reason.to_string()))
            }
            source => Self::NotACatalog { reference: typed(path), source },
        }
    }

    /// Work that was not done, for want of a runtime.
    pub(super) fn not_run(source: DistError) -> Self {
        Self::NotRun { source: Box::new(source) }
    }

    /// A failure to read a file that the caller named.
    pub(super) fn of_source(path: &Path, source: io::Error) -> Self {
        Self::Source { path: path.to_owned(), source }
    }
}

fn told(passed_over: &[String]) -> String {
    if passed_over.is_empty() {
        return String::new();
    }
    format!(" ({})", passed_over.join("; "))
}

/// Why a document is no catalog. Names the element that is wrong; what the document says is shown sanitised and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Nothing, or only white space and comments.
    #[error("the document is empty")]
    Empty,
    /// Larger than a catalog may be.
    #[error("the document has more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// Not UTF-8.
    #[error("the document is no text; it begins with `{excerpt}`")]
    NotText {
        /// How it begins.
        excerpt: SafeText,
    },
    /// Neither JSON nor YAML.
    #[error("the document is no {format}: {reason}; it begins with `{excerpt}`")]
    Syntax {
        /// What it should be.
        format: &'static str,
        /// How it begins.
        excerpt: SafeText,
        /// What is wrong, with its place.
        reason: SafeText,
    },
    /// A number, a text or nothing where a catalog should be.
    #[error("the document is neither a list nor an object")]
    NoContainer,
    /// An object that lists nothing.
    #[error("the document is an object with no `items`")]
    NoItems,
    /// A version this client does not know.
    #[error("the document has the `registry_version` `{version}`, and `providers@1` is what this client knows")]
    Version {
        /// The version.
        version: SafeText,
    },
    /// An element that is not what it should be.
    #[error("{element}: {reason}")]
    Element {
        /// Its place: `items[3].label`.
        element: SafeText,
        /// What is wrong.
        reason: SafeText,
    },
    /// Two elements with one id.
    #[error("the {what} `{id}` stands there twice, as number {first} and as number {second}")]
    Duplicate {
        /// `provider` or `category`.
        what: &'static str,
        /// The id.
        id: SafeText,
        /// The position of the first, counted from 0.
        first: usize,
        /// The position of the second.
        second: usize,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {reason}", typed(path))]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The kind of what the operating system said.
        kind: io::ErrorKind,
        /// What the operating system said.
        reason: SafeText,
    },
}

impl CatalogError {
    /// A failure to read a file.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), kind: error.kind(), reason: SafeText::new(&error.to_string()) }
    }
}
