//! What can go wrong in the cache directory, by kind, with the operation, the path and the cause.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use greentic_dist_types::{Digest, Mismatch, SafeText};

/// The kind of a [`StoreError`]; everything a caller decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Something that was asked for is not in the cache.
    Missing,
    /// An entry is there and cannot prove itself. Fetching it again heals it.
    Corrupt,
    /// Written by a newer version of this program; left alone.
    NewerFormat,
    /// A record that something relies on (of a bundle, of advisories) and that cannot be read as one, or is not the record
    /// its name says.
    MalformedRecord,
    /// Bytes that came in are not what was promised. Nothing of them was kept.
    Integrity(Mismatch),
    /// Somebody else holds the lock.
    Locked,
    /// The disk, the quota or the largest file size is used up.
    NoSpace,
    /// The system refuses: permissions, or a read-only file system.
    Permission,
    /// The directory belongs to somebody else, is writable by others, or is not the kind of file it should be.
    NotOurs,
    /// Any other failure of the file system.
    Io,
}

/// A failure of the store.
///
/// `Display` says what could not be done to which path and why, and never repeats the source. Advice is in
/// [`StoreError::hints`].
pub struct StoreError(Box<Inner>);

struct Inner {
    kind: StoreErrorKind,
    op: &'static str,
    path: PathBuf,
    digest: Option<Digest>,
    detail: Option<SafeText>,
    /// Whether it is one file that is not ours, and not the directory.
    is_odd_file: bool,
    /// Whether it is about a directory that is no cache.
    is_outside: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind, op: &'static str, path: &Path) -> Self {
        let path = path.to_owned();
        let (digest, detail, source) = (None, None, None);
        Self(Box::new(Inner { kind, op, path, digest, detail, is_odd_file: false, is_outside: false, source }))
    }

    /// Something at a name of ours that this program did not put there and could not take away.
    pub(crate) fn odd_file(op: &'static str, path: &Path, detail: &str) -> Self {
        let mut error = Self::new(StoreErrorKind::NotOurs, op, path).with_detail(detail);
        error.0.is_odd_file = true;
        error
    }

    /// The same about a directory that is no cache.
    #[must_use]
    pub(crate) fn outside(mut self) -> Self {
        self.0.is_outside = true;
        self
    }

    /// A failed system call; the kind follows from the error.
    pub(crate) fn io(op: &'static str, path: &Path, error: io::Error) -> Self {
        use io::ErrorKind as K;
        let kind = match error.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => StoreErrorKind::NoSpace,
            K::PermissionDenied | K::ReadOnlyFilesystem => StoreErrorKind::Permission,
            K::NotFound => StoreErrorKind::Missing,
            _ => StoreErrorKind::Io,
        };
        Self::new(kind, op, path).with_source(error)
    }

    pub(crate) fn corrupt(op: &'static str, path: &Path, digest: &Digest, detail: &str) -> Self {
        Self::new(StoreErrorKind::Corrupt, op, path).with_digest(digest).with_detail(detail)
    }

    #[must_use]
    pub(crate) fn with_digest(mut self, digest: &Digest) -> Self {
        self.0.digest = Some(*digest);
        self
    }

    #[must_use]
    pub(crate) fn with_detail(mut self, detail: &str) -> Self {
        self.0.detail = Some(SafeText::new(detail));
        self
    }

    #[must_use]
    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> &StoreErrorKind {
        &self.0.kind
    }

    /// What was being done, as a verb phrase: `open the entry`, `publish the entry`.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// The file or directory it was being done to.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The digest concerned, where there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.0.digest.as_ref()
    }

    /// Which promise the bytes broke, for [`StoreErrorKind::Integrity`] and for corrupt entries whose bytes were hashed.
    pub fn mismatch(&self) -> Option<&Mismatch> {
        match &self.0.kind {
            StoreErrorKind::Integrity(mismatch) => Some(mismatch),
            _ => self.0.source.as_ref()?.downcast_ref(),
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            StoreErrorKind::Locked => true,
            StoreErrorKind::Io => self.0.source.as_ref().and_then(|source| source.downcast_ref()).is_some_and(busy),
            _ => false,
        }
    }

    /// What a person can do about it, most useful first. Not part of the message.
    pub fn hints(&self) -> Vec<String> {
        let path = SafeText::new(&self.0.path.to_string_lossy());
        let hint = match self.0.kind {
            StoreErrorKind::Corrupt => match &self.0.digest {
                Some(digest) => format!("fetch it again while online, or run `greentic-dist cache rm {digest}`"),
                None => "fetch it again while online".to_owned(),
            },
            StoreErrorKind::NewerFormat => {
                "it was written by a newer version: update this program, or use another cache directory".to_owned()
            }
            StoreErrorKind::MalformedRecord => {
                format!("repair `{path}` or remove it; a bundle whose record is lost is staged again")
            }
            StoreErrorKind::Integrity(_) => {
                "nothing was kept; try again, and tell whoever runs the registry if it stays so".to_owned()
            }
            StoreErrorKind::Locked => "wait for the other process, or stop it; its lock ends with it".to_owned(),
            StoreErrorKind::NoSpace if self.0.is_outside => {
                "free some space there, or choose a place on another file system".to_owned()
            }
            StoreErrorKind::NoSpace => {
                "free some space (`greentic-dist cache gc`), or choose another `--cache-dir`".to_owned()
            }
            StoreErrorKind::Permission => {
                format!("check that you may write to `{path}`, or choose another `--cache-dir`")
            }
            StoreErrorKind::NotOurs if self.0.is_odd_file => {
                format!("remove `{path}`, which this program did not make, or choose another `--cache-dir`")
            }
            StoreErrorKind::NotOurs => format!(
                "make `{path}` a directory of your own that nobody else can write to (`chmod go-w`), or choose another \
                 `--cache-dir`"
            ),
            StoreErrorKind::Missing | StoreErrorKind::Io => return Vec::new(),
        };
        vec![hint]
    }
}

/// Failures that pass by themselves: too many open files, a stale network handle, a busy resource.
fn busy(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.kind(), K::Interrupted | K::WouldBlock | K::ResourceBusy | K::StaleNetworkFileHandle | K::TimedOut)
        || (cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "cannot {} `{}`: ", inner.op, SafeText::new(&inner.path.to_string_lossy()))?;
        if let Some(detail) = &inner.detail {
            return write!(f, "{detail}");
        }
        f.write_str(match inner.kind {
            StoreErrorKind::Missing => "it is not there",
            StoreErrorKind::Corrupt => "it cannot prove itself",
            StoreErrorKind::NewerFormat => "it was written by a newer version",
            StoreErrorKind::MalformedRecord => "it is not the record it should be",
            StoreErrorKind::Integrity(mismatch) => return write!(f, "{mismatch}"),
            StoreErrorKind::Locked => "somebody else holds the lock",
            StoreErrorKind::NoSpace => "there is no space left",
            StoreErrorKind::Permission => "permission denied",
            StoreErrorKind::NotOurs => "it is not ours",
            StoreErrorKind::Io => "the file system failed",
        })
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.0.kind)
            .field("op", &self.0.op)
            .field("path", &self.0.path)
            .field("digest", &self.0.digest)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Adds the operation and the path to a failed system call.
pub(crate) trait Context<T> {
    /// Turns the error into a [`StoreError`].
    fn at(self, op: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(op, path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_and_missing_rights_have_their_own_kinds() {
        let kind = |code| *StoreError::io("write", Path::new("/x"), io::Error::from_raw_os_error(code)).kind();
        for code in [28, 122, 27] {
            assert_eq!(kind(code), StoreErrorKind::NoSpace, "{code}");
        }
        for code in [13, 30, 1] {
            assert_eq!(kind(code), StoreErrorKind::Permission, "{code}");
        }
        assert_eq!(kind(5), StoreErrorKind::Io);
    }

    #[test]
    fn only_what_passes_by_itself_is_transient() {
        let error = |code| StoreError::io("open", Path::new("/x"), io::Error::from_raw_os_error(code));
        assert!(error(24).is_transient() && error(116).is_transient());
        assert!(!error(5).is_transient() && !error(28).is_transient());
        assert!(StoreError::new(StoreErrorKind::Locked, "lock", Path::new("/x")).is_transient());
    }

    #[test]
    fn the_message_names_the_path_and_not_the_source() {
        let error = StoreError::io("read", Path::new("/a/\u{1b}b"), io::Error::from_raw_os_error(5));
        assert_eq!(error.to_string(), "cannot read `/a/\u{fffd}b`: the file system failed");
        assert!(error.source().is_some());
    }
}
