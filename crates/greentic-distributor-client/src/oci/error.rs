//! Why an OCI image layout could not be read or written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use greentic_dist_types::{Digest, ManifestError, Mismatch, SafeText};

use super::layout::tar::TarError;
use crate::dist::DistErrorKind;

/// A failure of an OCI image layout: which one, and why. Part of [`DistError::Layout`](crate::dist::DistError::Layout).
#[derive(Debug)]
pub struct LayoutError {
    path: PathBuf,
    // Boxed: it holds digests, and results are moved often.
    problem: Box<LayoutProblem>,
}

/// What is wrong with an OCI image layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutProblem {
    /// There is nothing at the path.
    #[error("there is nothing")]
    Absent,
    /// What is there is no OCI image layout, or one of a version this client does not know.
    #[error("it is no OCI image layout: {0}")]
    NotALayout(SafeText),
    /// Its index has no such name or digest.
    #[error("it has no `{wanted}`; it has {names}")]
    NotNamed {
        /// The name or digest that was asked for.
        wanted: SafeText,
        /// The names of its index.
        names: SafeText,
    },
    /// No name was asked for, and its index has several.
    #[error("it holds several images, and none was named; it has {names}")]
    Several {
        /// The names of its index.
        names: SafeText,
    },
    /// Content that a manifest names is not in it.
    #[error("{0} is missing from it")]
    Missing(Digest),
    /// Content is not what its name promises.
    #[error("{digest} in it is damaged")]
    Damaged {
        /// The name.
        digest: Digest,
        /// How the bytes differ.
        #[source]
        mismatch: Mismatch,
    },
    /// A manifest in it is none that this client accepts.
    #[error("{digest} in it is no usable manifest")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// It holds what could lead out of it: links, devices, doubled names. Nothing of it is used.
    #[error("it is refused: {0}")]
    Refused(SafeText),
    /// The file to be written is there already.
    #[error("it is there already")]
    Exists,
    /// There is no room in it for what is added: nobody would read it again. Nothing was written.
    #[error("it would have more than {limit} {what}")]
    Full {
        /// What there would be too much of.
        what: &'static str,
        /// The most that is read.
        limit: u64,
    },
    /// The operating system could not read or write it.
    #[error("it could not be read or written")]
    Io(#[source] io::Error),
}

impl LayoutError {
    pub(super) fn new(path: &Path, problem: LayoutProblem) -> Self {
        Self { path: path.to_owned(), problem: Box::new(problem) }
    }

    /// Its path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &LayoutProblem {
        &self.problem
    }

    pub(crate) fn kind(&self) -> DistErrorKind {
        match &*self.problem {
            LayoutProblem::Absent | LayoutProblem::NotNamed { .. } | LayoutProblem::Missing(_) => {
                DistErrorKind::NotFound
            }
            LayoutProblem::NotALayout(_)
            | LayoutProblem::Several { .. }
            | LayoutProblem::Exists
            | LayoutProblem::Full { .. } => DistErrorKind::InvalidInput,
            LayoutProblem::Damaged { .. } => DistErrorKind::Integrity,
            LayoutProblem::Refused(_) => DistErrorKind::Policy,
            LayoutProblem::Manifest { .. } | LayoutProblem::Io(_) => DistErrorKind::Internal,
        }
    }

    pub(crate) fn hints(&self) -> Vec<String> {
        let path = SafeText::excerpt(&self.path.display().to_string(), 120);
        match &*self.problem {
            LayoutProblem::Several { .. } | LayoutProblem::NotNamed { .. } => {
                vec![format!("name one of them: `oci-layout:{path}:TAG`, or `…@sha256:…` for any manifest in it")]
            }
            LayoutProblem::Exists => {
                vec!["an archive is written whole: choose another file, or replace it with `--force`".into()]
            }
            LayoutProblem::Full { .. } => {
                vec!["write it into another directory or archive; what is there stays as it is".into()]
            }
            LayoutProblem::NotALayout(_) => {
                vec!["a layout is a directory or a tar with `oci-layout`, `index.json` and `blobs/` in it".into()]
            }
            LayoutProblem::Damaged { .. } | LayoutProblem::Missing(_) => {
                vec!["write the layout again from where its content came from".into()]
            }
            _ => Vec::new(),
        }
    }

    /// What stands behind a failed step on a file of the layout.
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let problem = if super::layout::beneath::is_odd(&error) {
            LayoutProblem::Refused("a link or a special file stands where a file or directory must be".into())
        } else {
            LayoutProblem::Io(error)
        };
        Self::new(path, problem)
    }

    pub(super) fn tar(path: &Path, error: TarError) -> Self {
        let problem = match error {
            TarError::Malformed(why) => LayoutProblem::NotALayout(why.into()),
            TarError::Refused(why) => LayoutProblem::Refused(why.into()),
            TarError::Io(error) => return Self::io(path, error),
        };
        Self::new(path, problem)
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = SafeText::excerpt(&self.path.display().to_string(), 300);
        write!(f, "OCI image layout `{path}`: {}", self.problem)
    }
}

impl std::error::Error for LayoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.problem)
    }
}
