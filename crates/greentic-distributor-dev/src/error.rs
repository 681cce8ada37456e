//! What can go wrong between an id and a file, by cause.

use std::{fmt, io, path::PathBuf};

/// Why a [`DevDirectory`](crate::DevDirectory) named no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DevSourceErrorKind {
    /// `packs_dir` or `components_dir` is absolute, or leads out of the root with `..`.
    InvalidConfig,
    /// The id is empty, too long, only dots, or holds a character an id cannot have.
    InvalidId,
    /// The version is no semantic version, or too long.
    InvalidVersion,
    /// There is no such file. The only kind after which another source may be asked.
    NotFound,
    /// Something other than a regular file lies at the place of the file.
    NotAFile,
    /// A symbolic link on the way leads out of the root.
    OutsideRoot,
    /// The flat file name can mean more than one id and version.
    Ambiguous,
    /// The operating system could not look at the path.
    Io,
}

/// Why no file was named, for which artifact, and at which path.
///
/// The text quotes ids and versions with their control characters escaped, and cut to a length a terminal bears.
#[derive(Debug, thiserror::Error)]
#[error("cannot locate {noun} {} {}: {reason}", Quoted(.id), Quoted(.version))]
pub struct DevSourceError {
    kind: DevSourceErrorKind,
    noun: &'static str,
    id: String,
    version: String,
    reason: String,
    path: Option<PathBuf>,
    #[source]
    source: Option<io::Error>,
}

impl DevSourceError {
    /// The cause, for a decision in code.
    pub fn kind(&self) -> DevSourceErrorKind {
        self.kind
    }

    /// What the operating system said, where it was the one to refuse.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source.as_ref().map(io::Error::kind)
    }

    /// The path that was looked at, when it came to that.
    pub fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref()
    }
}

/// Which artifact an error is about; makes errors that all name it alike.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) noun: &'static str,
    pub(crate) id: &'a str,
    pub(crate) version: &'a str,
}

impl Asked<'_> {
    pub(crate) fn refuse(self, kind: DevSourceErrorKind, reason: impl Into<String>) -> DevSourceError {
        DevSourceError {
            kind,
            noun: self.noun,
            id: self.id.to_owned(),
            version: self.version.to_owned(),
            reason: reason.into(),
            path: None,
            source: None,
        }
    }

    pub(crate) fn refuse_at(
        self,
        kind: DevSourceErrorKind,
        path: impl Into<PathBuf>,
        reason: impl Into<String>,
    ) -> DevSourceError {
        DevSourceError { path: Some(path.into()), ..self.refuse(kind, reason) }
    }

    /// An error of the operating system; a missing file is [`NotFound`](DevSourceErrorKind::NotFound).
    pub(crate) fn failed(self, path: impl Into<PathBuf>, source: io::Error) -> DevSourceError {
        let path = path.into();
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            let reason = format!("there is no {}", path.display());
            return self.refuse_at(DevSourceErrorKind::NotFound, path, reason);
        }
        let reason = format!("cannot look at {}", path.display());
        DevSourceError { source: Some(source), ..self.refuse_at(DevSourceErrorKind::Io, path, reason) }
    }
}

/// Text of somebody else, in backticks, escaped and cut.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARS: usize = 80;
        f.write_str("`")?;
        for char in self.0.chars().take(SHOWN_CHARS).flat_map(char::escape_debug) {
            write!(f, "{char}")?;
        }
        f.write_str(if self.0.chars().nth(SHOWN_CHARS).is_some() { "…`" } else { "`" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_cannot_move_the_cursor_or_fill_the_screen() {
        let id = format!("a\n\u{1b}[2J\u{202e}{}", "x".repeat(1000));
        let text = Asked { noun: "pack", id: &id, version: "1.0.0" }
            .refuse(DevSourceErrorKind::InvalidId, "it is odd")
            .to_string();
        assert!(text.starts_with("cannot locate pack `a\\n\\u{1b}[2J\\u{202e}xxx"), "{text}");
        assert!(text.ends_with("…` `1.0.0`: it is odd"), "{text}");
        assert!(text.len() < 200, "{}", text.len());
    }

    #[test]
    fn only_a_missing_file_is_not_found() {
        let asked = Asked { noun: "pack", id: "a", version: "1.0.0" };
        let missing = asked.failed("p", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(missing.kind(), DevSourceErrorKind::NotFound);
        let denied = asked.failed("p", io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.kind(), DevSourceErrorKind::Io);
        assert!(std::error::Error::source(&denied).is_some());
        assert_eq!(denied.path(), Some(std::path::Path::new("p")));
    }
}
