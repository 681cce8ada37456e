//! What the user typed, classified by its text alone.
//!
//! Total and free of I/O: a pinned or schemed reference never touches the file system. Only [`SourceRef::Bare`] leaves a
//! question open (is there such a file?), which the caller answers.

use crate::limits::REFERENCE_BYTES;
use crate::{
    Algorithm, Digest, ParseDigestError, ParseReferenceError, Reference, SafeText, is_explicit_registry,
    redact_reference, redact_url,
};

/// A reference as typed, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceRef {
    /// `sha256:…`, `sha384:…` or `sha512:…`: something that is in the cache.
    Digest(Digest),
    /// `https://` or `http://`, verbatim.
    Url(String),
    /// A path on this machine: `file://…`, or a text that starts with `.`, `/`, `~/` or a drive letter.
    File(String),
    /// `oci://…`, or a bare reference that names its registry.
    Oci(Reference),
    /// `repo://` with its target.
    Repo(String),
    /// `store://` with its target.
    Store(String),
    /// `fixture://` with its name.
    Fixture(String),
    /// Anything else: a file if one of that name exists, an error otherwise.
    Bare(String),
}

/// Why a text can be no reference at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSourceError {
    /// Nothing, or only white space.
    #[error("the reference is empty")]
    Empty,
    /// Longer than [`REFERENCE_BYTES`] (paths and URLs: 8 KiB).
    #[error("`{0}` is too long for a reference")]
    TooLong(SafeText),
    /// A control or invisible character.
    #[error("`{0}` holds a control or invisible character")]
    Control(SafeText),
    /// Looks like a digest, and is none.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// `oci://` or a registry in front, and the rest is wrong.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// `file://host/…`: files of other machines are not read.
    #[error("`{0}` names a file of another machine")]
    RemoteFile(SafeText),
    /// A scheme nobody here knows.
    #[error("`{0}` has an unsupported scheme (use oci, https, file, repo, store or fixture)")]
    Scheme(SafeText),
    /// A scheme with nothing behind it.
    #[error("`{0}` names nothing behind its scheme")]
    NoTarget(SafeText),
}

const PATH_OR_URL_BYTES: usize = 8 << 10;

impl SourceRef {
    /// Classifies `text`.
    ///
    /// Order: a digest; a scheme (any case); a path by its first character; a bare reference that names its registry;
    /// else [`SourceRef::Bare`].
    ///
    /// # Errors
    /// [`ParseSourceError`] for texts that cannot name anything.
    pub fn parse(text: &str) -> Result<Self, ParseSourceError> {
        if text.trim().is_empty() {
            return Err(ParseSourceError::Empty);
        }
        if text.len() > PATH_OR_URL_BYTES {
            return Err(ParseSourceError::TooLong(SafeText::excerpt(&redact_reference(text), 64)));
        }
        if SafeText::excerpt(text, PATH_OR_URL_BYTES).as_str() != text {
            return Err(ParseSourceError::Control(SafeText::excerpt(&redact_reference(text), 96)));
        }
        let names_algorithm = |(name, _): (&str, &str)| Algorithm::ALL.iter().any(|known| known.name() == name);
        if text.split_once(':').is_some_and(names_algorithm) {
            return Ok(Self::Digest(text.parse()?));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Self::with_scheme(text, scheme, rest);
        }
        if is_path(text) {
            return Ok(Self::File(text.to_owned()));
        }
        if is_explicit_registry(text) {
            return Ok(Self::Oci(Reference::parse(text)?));
        }
        if text.len() > REFERENCE_BYTES {
            return Err(ParseSourceError::TooLong(SafeText::excerpt(&redact_reference(text), 64)));
        }
        Ok(Self::Bare(text.to_owned()))
    }

    fn with_scheme(text: &str, scheme: &str, rest: &str) -> Result<Self, ParseSourceError> {
        let shown = || SafeText::excerpt(&redact_url(text), 96);
        let scheme = scheme.to_ascii_lowercase();
        if rest.is_empty() {
            return Err(ParseSourceError::NoTarget(shown()));
        }
        match scheme.as_str() {
            "oci" => Ok(Self::Oci(Reference::parse(rest)?)),
            "http" | "https" => Ok(Self::Url(text.to_owned())),
            "repo" => Ok(Self::Repo(rest.to_owned())),
            "store" => Ok(Self::Store(rest.to_owned())),
            "fixture" => Ok(Self::Fixture(rest.to_owned())),
            "file" => {
                let path = match rest.strip_prefix("localhost") {
                    Some(path) if path.starts_with('/') => path,
                    _ => rest,
                };
                if path.starts_with('/') {
                    percent_decode(path).map(Self::File).ok_or_else(|| ParseSourceError::Control(shown()))
                } else {
                    Err(ParseSourceError::RemoteFile(shown()))
                }
            }
            _ => Err(ParseSourceError::Scheme(shown())),
        }
    }
}

/// Whether a text is a path by its first character: `.`, `/`, `~/` or a drive letter.
fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    match (bytes.next(), bytes.next(), bytes.next()) {
        (Some(b'.' | b'/' | b'\\'), _, _) | (Some(b'~'), Some(b'/'), _) => true,
        (Some(drive), Some(b':'), Some(b'\\' | b'/')) => drive.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Decodes `%41` in a file URL. `None` for a broken escape, a NUL, or bytes that are not UTF-8.
fn percent_decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            let decoded = u8::try_from(high * 16 + low).ok()?;
            if decoded == 0 {
                return None;
            }
            out.push(decoded);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_is_recognised() {
        let hex = "a".repeat(64);
        let parse = |text: &str| SourceRef::parse(text).unwrap();
        assert!(matches!(parse(&format!("sha256:{hex}")), SourceRef::Digest(_)));
        assert!(matches!(parse("ghcr.io/a/b:1"), SourceRef::Oci(_)));
        assert!(matches!(parse("localhost:5000/a"), SourceRef::Oci(_)));
        assert!(matches!(parse("OCI://ghcr.io/a"), SourceRef::Oci(_)));
        assert_eq!(parse("HTTPS://x/y"), SourceRef::Url("HTTPS://x/y".into()));
        assert_eq!(parse("repo://comp"), SourceRef::Repo("comp".into()));
        assert_eq!(parse("store://a/b:1"), SourceRef::Store("a/b:1".into()));
        assert_eq!(parse("fixture://q"), SourceRef::Fixture("q".into()));
        assert_eq!(parse("./a.wasm"), SourceRef::File("./a.wasm".into()));
        assert_eq!(parse("file:///tmp/a%20b"), SourceRef::File("/tmp/a b".into()));
        assert_eq!(parse("file://localhost/x"), SourceRef::File("/x".into()));
        assert_eq!(parse("C:\\x\\y.wasm"), SourceRef::File("C:\\x\\y.wasm".into()));
        assert_eq!(parse("nope.wasm"), SourceRef::Bare("nope.wasm".into()));
        assert_eq!(parse("a/b:1"), SourceRef::Bare("a/b:1".into()));
    }

    #[test]
    fn what_can_name_nothing_is_refused() {
        for bad in [
            "",
            " ",
            "\t",
            "oci://",
            "ftp://x/y",
            "file://server/share",
            "file://%00",
            "file:///a%00b",
            "file:///a%zz",
            "sha256:abc",
            "sha256:../../x",
            "ghcr.io/A/b",
            "ghcr.io/a@sha512:aa",
            "oci://x",
            "oci://acme/tool",
            "a\nb",
            "a\u{202e}b",
            "x\u{0}",
        ] {
            assert!(SourceRef::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(SourceRef::parse(&"x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn passwords_are_not_repeated_by_the_errors_that_quote_the_text() {
        let long = format!("https://ann:canary@x/{}", "y".repeat(PATH_OR_URL_BYTES));
        for text in ["https://ann:canary@x\u{202e}/", "https://x/?sig=canary\n", "ann:canary@x/y\u{0}", &long] {
            let error = SourceRef::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn classification_is_total(text in "\\PC*") {
            drop(SourceRef::parse(&text));
        }
    }
}
