//! Where an artifact is: in a registry, in a directory, in an archive.

use std::fmt;
use std::path::{Path, PathBuf};

use greentic_dist_types::{Digest, Reference, SafeText, redact_reference};

use crate::dist::{DistError, InvalidRefReason};

/// The name of a directory, in front of its path.
const LAYOUT: &str = "oci-layout:";
/// The name of an archive, in front of its path.
const ARCHIVE: &str = "oci-archive:";

/// Where an artifact is, and which one of what is there.
///
/// | written | is |
/// |---|---|
/// | `host/name:tag`, `host/name@sha256:…`, `oci://…` | in a registry, which must be named |
/// | `oci-layout:PATH`, `oci-layout:PATH:TAG`, `oci-layout:PATH@sha256:…` | in an OCI image layout, a directory |
/// | `oci-archive:PATH`, `oci-archive:PATH:TAG`, … | in an OCI image layout, a tar file |
/// | a path that starts with `.` or `/` | a directory, or an archive when it ends with `.tar` or is a file |
///
/// In a path, what follows the last `:` after the last `/` is a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) shown: String,
    pub(crate) kind: PlaceKind,
}

/// What kind of place it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceKind {
    /// A registry.
    Registry(Reference),
    /// A directory with an OCI image layout.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The name in its index.
        name: Option<String>,
        /// The digest of a manifest.
        digest: Option<Digest>,
    },
    /// A tar file with an OCI image layout.
    Archive {
        /// The file.
        path: PathBuf,
        /// The name in its index.
        name: Option<String>,
        /// The digest of a manifest.
        digest: Option<Digest>,
    },
}

impl Place {
    /// Parses a place. Looks at the file system only for a path without a kind in front.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`]: a reference without its registry, a malformed digest or tag, an empty path.
    pub fn parse(text: &str) -> Result<Self, DistError> {
        let kind = if let Some(rest) = text.strip_prefix(LAYOUT) {
            let (path, name, digest) = parts(text, rest)?;
            PlaceKind::Layout { path, name, digest }
        } else if let Some(rest) = text.strip_prefix(ARCHIVE) {
            let (path, name, digest) = parts(text, rest)?;
            PlaceKind::Archive { path, name, digest }
        } else if text.starts_with(['.', '/']) {
            let (path, name, digest) = parts(text, text)?;
            let is_tar = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
            if path.is_file() || (is_tar && !path.is_dir()) {
                PlaceKind::Archive { path, name, digest }
            } else {
                PlaceKind::Layout { path, name, digest }
            }
        } else {
            let reference = Reference::parse(text).map_err(|error| invalid(text, error.into()))?;
            PlaceKind::Registry(reference)
        };
        Ok(Self { shown: redact_reference(text), kind })
    }

    /// What kind of place it is.
    pub const fn kind(&self) -> &PlaceKind {
        &self.kind
    }

    /// The tag or name that was written.
    pub fn tag(&self) -> Option<&str> {
        match &self.kind {
            PlaceKind::Registry(reference) => reference.tag(),
            PlaceKind::Layout { name, .. } | PlaceKind::Archive { name, .. } => name.as_deref(),
        }
    }

    /// The place without tag and digest: a repository, a directory, a file.
    pub fn whole(&self) -> String {
        match &self.kind {
            PlaceKind::Registry(reference) => reference.name(),
            PlaceKind::Layout { path, .. } => format!("{LAYOUT}{}", path.display()),
            PlaceKind::Archive { path, .. } => format!("{ARCHIVE}{}", path.display()),
        }
    }

    /// The digest that was written.
    pub fn digest(&self) -> Option<Digest> {
        match &self.kind {
            PlaceKind::Registry(reference) => reference.digest(),
            PlaceKind::Layout { digest, .. } | PlaceKind::Archive { digest, .. } => *digest,
        }
    }
}

impl Place {
    /// The place of exactly this content, as it is written.
    pub(crate) fn pinned(&self, digest: Digest) -> String {
        match &self.kind {
            PlaceKind::Registry(reference) => format!("oci://{}@{digest}", reference.name()),
            PlaceKind::Layout { path, .. } => format!("{LAYOUT}{}@{digest}", path.display()),
            PlaceKind::Archive { path, .. } => format!("{ARCHIVE}{}@{digest}", path.display()),
        }
    }
}

impl From<Reference> for Place {
    fn from(reference: Reference) -> Self {
        Self { shown: reference.to_string(), kind: PlaceKind::Registry(reference) }
    }
}

impl fmt::Display for Place {
    /// As it was written, sanitised.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SafeText::excerpt(&self.shown, 1_024).fmt(f)
    }
}

/// Path, name and digest of `PATH[:NAME][@DIGEST]`.
fn parts(text: &str, rest: &str) -> Result<(PathBuf, Option<String>, Option<Digest>), DistError> {
    let after_folder = |at: usize| !rest.get(at..).unwrap_or_default().contains('/');
    let (rest, digest) = match rest.rfind('@').filter(|at| after_folder(*at)) {
        Some(at) => {
            let digest = rest.get(at + 1..).unwrap_or_default();
            let digest = digest.parse().map_err(|error: greentic_dist_types::ParseDigestError| {
                invalid(text, greentic_dist_types::ParseSourceError::from(error))
            })?;
            (rest.get(..at).unwrap_or_default(), Some(digest))
        }
        None => (rest, None),
    };
    let (path, name) = match rest.rfind(':').filter(|at| !rest.get(*at..).unwrap_or_default().contains('/')) {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        None => (rest, None),
    };
    if path.is_empty() || name.is_some_and(|name| !is_name(name)) {
        let why = if path.is_empty() { "it has no path" } else { "what follows the last `:` is no tag" };
        return Err(DistError::InvalidInput(format!("`{}`: {why}", SafeText::excerpt(text, 200))));
    }
    Ok((Path::new(path).to_owned(), name.map(ToOwned::to_owned), digest))
}

/// Whether a text may name an entry of a layout: what a tag may be, and `+`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

fn invalid(text: &str, error: greentic_dist_types::ParseSourceError) -> DistError {
    DistError::InvalidRef { reference: redact_reference(text), source: Box::new(InvalidRefReason::Syntax(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::DistErrorKind;

    fn local(text: &str) -> (bool, String, Option<String>, bool) {
        match Place::parse(text).unwrap().kind {
            PlaceKind::Layout { path, name, digest } => (false, path.display().to_string(), name, digest.is_some()),
            PlaceKind::Archive { path, name, digest } => (true, path.display().to_string(), name, digest.is_some()),
            PlaceKind::Registry(_) => panic!("{text} is a registry"),
        }
    }

    #[test]
    fn paths_tags_and_digests_are_told_apart() {
        let digest = Digest::sha256(b"x");
        let tag = || Some("1.0".to_owned());
        assert_eq!(local("oci-layout:dist"), (false, "dist".into(), None, false));
        assert_eq!(local("oci-layout:/a:b/dist:1.0"), (false, "/a:b/dist".into(), tag(), false));
        assert_eq!(local(&format!("oci-layout:dist:1.0@{digest}")), (false, "dist".into(), tag(), true));
        assert_eq!(local("oci-archive:x.tar:1.0"), (true, "x.tar".into(), tag(), false));
        assert_eq!(local("./nowhere/x.tar"), (true, "./nowhere/x.tar".into(), None, false));
        assert_eq!(local("./nowhere/x:1.0"), (false, "./nowhere/x".into(), tag(), false));
        assert_eq!(local(&format!("/nowhere/x@{digest}")), (false, "/nowhere/x".into(), None, true));
    }

    #[test]
    fn a_registry_must_be_named() {
        assert!(matches!(Place::parse("localhost:5000/a/b:1").unwrap().kind, PlaceKind::Registry(_)));
        assert!(matches!(Place::parse("oci://ghcr.io/a/b").unwrap().kind, PlaceKind::Registry(_)));
        for wrong in ["alpine", "acme/tool:1", "", "oci-layout:", "oci-layout::1", "oci-layout:x:", "oci-layout:x:-a"] {
            assert_eq!(Place::parse(wrong).unwrap_err().kind(), DistErrorKind::InvalidInput, "{wrong}");
        }
        assert_eq!(Place::parse("oci-layout:x@sha256:12").unwrap_err().kind(), DistErrorKind::InvalidInput);
        let secret = Place::parse("user:hunter2@ghcr.io/a/b").unwrap_err();
        assert!(!format!("{secret:?} {secret}").contains("hunter2"), "{secret:?}");
    }
}
