//! An OCI reference: registry, repository, tag and digest, parsed in one linear pass without a regex.
//!
//! Grammar: distribution-spec 1.1, "Pulling manifests" (`<name>`, `<reference>`), and the `host[:port]` prefix every
//! client shares. A registry is a host name, an IPv4 address or a bracketed IPv6 literal, with an optional port.

use std::fmt;
use std::str::FromStr;

use crate::limits::{REFERENCE_BYTES, REPOSITORY_BYTES, TAG_BYTES};
use crate::{Digest, SafeText, redact_reference};

/// What a registry calls an artifact: `registry/repository[:tag][@digest]`.
///
/// When both a tag and a digest are given the digest decides what is fetched and the tag is only kept for display.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: Box<str>,
    repository: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a text is not a [`Reference`]. Carries a sanitised excerpt of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not an OCI reference: {problem}")]
pub struct ParseReferenceError {
    input: SafeText,
    problem: ReferenceProblem,
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceProblem {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// Longer than [`REFERENCE_BYTES`].
    #[error("it is longer than 1024 bytes")]
    TooLong,
    /// `user:password@` in front of the host.
    #[error("user names and passwords do not belong into a reference; log in instead")]
    UserInfo,
    /// No registry in front, and names without one are not sent to a default registry.
    #[error("it names no registry (expected `host/name`, where the host has a dot or a port or is `localhost`)")]
    NoRegistry,
    /// The registry is no valid `host[:port]`.
    #[error("`{0}` is not a registry host")]
    Registry(SafeText),
    /// The repository breaks the distribution-spec grammar.
    #[error(
        "`{0}` is not a repository name (lower-case letters, digits and single `.`, `_`, `__` or `-` between them)"
    )]
    Repository(SafeText),
    /// The tag breaks the distribution-spec grammar.
    #[error("`{0}` is not a tag (up to 128 letters, digits, `_`, `.`, `-`, not starting with `.` or `-`)")]
    Tag(SafeText),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] crate::ParseDigestError),
}

impl ParseReferenceError {
    /// What is wrong.
    pub const fn problem(&self) -> &ReferenceProblem {
        &self.problem
    }
}

/// Docker Hub's name in references; which host answers for it is the transport's business.
const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// Parses a reference that names its registry. A leading `oci://` is allowed.
    ///
    /// Strict: `alpine` or `acme/tool` are refused ([`ReferenceProblem::NoRegistry`]) instead of being sent to a default
    /// registry, upper case is refused, and neither a tag nor a digest is invented.
    ///
    /// # Errors
    /// [`ParseReferenceError`] naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse_with(text, false)
    }

    /// Parses like [`Reference::parse`] and additionally reads Docker Hub's shorthand: `alpine` is
    /// `docker.io/library/alpine`, `acme/tool` is `docker.io/acme/tool`.
    ///
    /// # Errors
    /// [`ParseReferenceError`] naming the part that is wrong.
    pub fn parse_with_docker_hub(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse_with(text, true)
    }

    /// Parses like [`Reference::parse`], and reads the hex of a digest in capitals too, see [`Digest::parse_any_case`].
    ///
    /// # Errors
    /// [`ParseReferenceError`] naming the part that is wrong.
    pub fn parse_any_case(text: &str) -> Result<Self, ParseReferenceError> {
        match text.rsplit_once('@').map(|(name, digest)| (name, Digest::parse_any_case(digest))) {
            Some((name, Ok(digest))) => Self::parse(&format!("{name}@{digest}")),
            _ => Self::parse(text),
        }
    }

    /// Builds a reference from parts that are checked by the same rules.
    ///
    /// # Errors
    /// [`ParseReferenceError`] naming the part that is wrong.
    pub fn new(
        registry: &str,
        repository: &str,
        tag: Option<&str>,
        digest: Option<Digest>,
    ) -> Result<Self, ParseReferenceError> {
        let fail = |problem| ParseReferenceError { input: excerpt(repository, 96), problem };
        check_registry(registry).map_err(fail)?;
        check_repository(repository).map_err(fail)?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(fail)?;
        }
        Ok(Self { registry: registry.into(), repository: repository.into(), tag: tag.map(Into::into), digest })
    }

    fn parse_with(text: &str, docker_hub: bool) -> Result<Self, ParseReferenceError> {
        parse_parts(text.strip_prefix("oci://").unwrap_or(text), docker_hub).map_err(|problem| {
            // What stands before an at sign may be a password: it is not repeated.
            let input = match (&problem, text.rsplit_once('@')) {
                (ReferenceProblem::UserInfo, Some((_, rest))) => excerpt(&format!("…@{rest}"), 120),
                _ => excerpt(text, 120),
            };
            ParseReferenceError { input, problem }
        })
    }

    /// The registry exactly as written: `host[:port]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, e.g. `acme/tools/hello`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The tag to ask for when there is no digest: the written one, else `latest`.
    pub fn tag_or_latest(&self) -> &str {
        self.tag().unwrap_or("latest")
    }

    /// The same repository, pinned to `digest` and without a tag.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { registry: self.registry.clone(), repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The reference with what is asked for written out: as [`Display`](fmt::Display), and `:latest` where neither a tag nor
    /// a digest was written.
    pub fn whole(&self) -> String {
        match (self.tag(), self.digest) {
            (None, None) => format!("{self}:{}", self.tag_or_latest()),
            _ => self.to_string(),
        }
    }
}

fn parse_parts(text: &str, docker_hub: bool) -> Result<Reference, ReferenceProblem> {
    if text.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    if text.len() > REFERENCE_BYTES {
        return Err(ReferenceProblem::TooLong);
    }
    let (name, digest) = match text.split_once('@') {
        // `user:password@host/…`: a path after the at sign, where only a digest may stand.
        Some((_, rest)) if rest.contains(['/', '@']) => return Err(ReferenceProblem::UserInfo),
        Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
        None => (text, None),
    };
    // A colon behind the last slash starts the tag; one before it belongs to the registry's port.
    let last_segment = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name.rfind(':') {
        Some(at) if at >= last_segment && last_segment > 0 => split_around(name, at),
        Some(at) if docker_hub && last_segment == 0 => split_around(name, at),
        _ => (name, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry_like(first) => {
            (if first == "index.docker.io" { DOCKER_HUB } else { first }, rest.to_owned())
        }
        Some(_) if docker_hub => (DOCKER_HUB, name.to_owned()),
        None if docker_hub => (DOCKER_HUB, format!("library/{name}")),
        _ => return Err(ReferenceProblem::NoRegistry),
    };
    check_registry(registry)?;
    check_repository(&repository)?;
    let repository = if registry == DOCKER_HUB && docker_hub && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository
    };
    Ok(Reference { registry: registry.into(), repository: repository.into(), tag: tag.map(Into::into), digest })
}

fn split_around(text: &str, at: usize) -> (&str, Option<&str>) {
    match text.split_at_checked(at) {
        Some((head, tail)) => (head, tail.get(1..)),
        None => (text, None),
    }
}

/// Whether the first segment of a name is a registry: it has a dot or a colon, or is `localhost`.
fn is_registry_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.starts_with('[')
}

/// A part of what was typed, without what may be a password or a signature: people put URLs where names belong.
fn excerpt(text: &str, chars: usize) -> SafeText {
    SafeText::excerpt(&redact_reference(text), chars)
}

/// Whether `target` names its registry: a first segment with a dot, a colon or `localhost`, and a `/` behind it.
///
/// The rule that decides between a target used as it stands and one that is joined to a configured base.
pub fn is_explicit_registry(target: &str) -> bool {
    target
        .split_once('/')
        .is_some_and(|(first, rest)| !rest.is_empty() && is_registry_like(first) && !first.starts_with('.'))
}

fn check_registry(registry: &str) -> Result<(), ReferenceProblem> {
    let wrong = || ReferenceProblem::Registry(excerpt(registry, 96));
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let (literal, after) = rest.split_once(']').ok_or_else(wrong)?;
        literal.parse::<std::net::Ipv6Addr>().map_err(|_invalid| wrong())?;
        match after.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            None => return Err(wrong()),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    if let Some(host) = host {
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !host.split('.').all(label_ok) {
            return Err(wrong());
        }
    }
    match port {
        Some(port) if port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
        Some(port) => match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(wrong()),
        },
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, at most 255 bytes, checked in one pass.
fn check_repository(repository: &str) -> Result<(), ReferenceProblem> {
    let component_ok = |component: &str| {
        let mut separator = 0_usize;
        let mut previous = b'/';
        for byte in component.bytes() {
            let alphanumeric = byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if alphanumeric {
                separator = 0;
            } else {
                let allowed = match byte {
                    b'.' => separator == 0,
                    b'_' => separator == 0 || (separator == 1 && previous == b'_'),
                    b'-' => separator == 0 || previous == b'-',
                    _ => false,
                };
                if !allowed || previous == b'/' {
                    return false;
                }
                separator += 1;
            }
            previous = byte;
        }
        previous != b'/' && separator == 0
    };
    if repository.is_empty() || repository.len() > REPOSITORY_BYTES || !repository.split('/').all(component_ok) {
        return Err(ReferenceProblem::Repository(excerpt(repository, 96)));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), ReferenceProblem> {
    let mut bytes = tag.bytes();
    let first_ok = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !first_ok
        || tag.len() > TAG_BYTES
        || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        return Err(ReferenceProblem::Tag(excerpt(tag, 140)));
    }
    Ok(())
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Reference {
    type Error = ParseReferenceError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_reference_says_what_is_asked_for_and_repeats_the_rest_as_it_was_written() {
        let hex = "a".repeat(64);
        for text in [
            format!("ghcr.io/acme/hello@sha256:{hex}"),
            "ghcr.io/acme/hello:1".to_owned(),
            format!("localhost:5000/hello:1@sha256:{hex}"),
        ] {
            assert_eq!(Reference::try_from(text.as_str()).unwrap().whole(), text);
        }
        assert_eq!(Reference::try_from("ghcr.io/acme/hello".to_owned()).unwrap().whole(), "ghcr.io/acme/hello:latest");
    }

    fn parts(text: &str) -> (String, String, Option<String>, bool) {
        let reference = Reference::parse(text).unwrap();
        (
            reference.registry().into(),
            reference.repository().into(),
            reference.tag().map(Into::into),
            reference.digest().is_some(),
        )
    }

    #[test]
    fn registries_ports_tags_and_digests_are_told_apart() {
        let pin = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parts("ghcr.io/acme/tool:1.0"), ("ghcr.io".into(), "acme/tool".into(), Some("1.0".into()), false));
        assert_eq!(parts("oci://localhost/x"), ("localhost".into(), "x".into(), None, false));
        assert_eq!(parts("localhost:5000/x:y"), ("localhost:5000".into(), "x".into(), Some("y".into()), false));
        assert_eq!(parts("[::1]:5000/a/b"), ("[::1]:5000".into(), "a/b".into(), None, false));
        assert_eq!(
            parts(&format!("127.0.0.1:1/a__b/c-d.e:T_1@{pin}")),
            ("127.0.0.1:1".into(), "a__b/c-d.e".into(), Some("T_1".into()), true)
        );
        assert_eq!(Reference::parse(&format!("ghcr.io/a/b@{pin}")).unwrap().to_string(), format!("ghcr.io/a/b@{pin}"));
    }

    #[test]
    fn names_without_a_registry_are_never_sent_to_a_default_one() {
        for bare in ["alpine", "acme/tool", "acme/tool:1", "nope.wasm", "sha256:abc", "a:1"] {
            assert_eq!(Reference::parse(bare).unwrap_err().problem(), &ReferenceProblem::NoRegistry, "{bare}");
        }
    }

    #[test]
    fn docker_hub_shorthand_is_read_on_request_only() {
        let name = |text| Reference::parse_with_docker_hub(text).unwrap().to_string();
        assert_eq!(name("alpine"), "docker.io/library/alpine");
        assert_eq!(name("alpine:3"), "docker.io/library/alpine:3");
        assert_eq!(name("acme/tool:3"), "docker.io/acme/tool:3");
        assert_eq!(name("index.docker.io/acme/tool"), "docker.io/acme/tool");
        assert_eq!(name("docker.io/alpine"), "docker.io/library/alpine");
        assert_eq!(name("ghcr.io/acme/tool"), "ghcr.io/acme/tool");
    }

    #[test]
    fn hostile_and_malformed_references_are_refused() {
        let long = format!("ghcr.io/{}", "a".repeat(2000));
        let slashes = format!("ghcr.io{}", "/".repeat(100_000));
        for bad in [
            "",
            "/",
            "ghcr.io/",
            "ghcr.io//x",
            "ghcr.io/../x",
            "ghcr.io/a/../b",
            "ghcr.io/A/b",
            "ghcr.io/a b",
            "ghcr.io/a:",
            "ghcr.io/a:-x",
            "ghcr.io/a:x:y",
            "ghcr.io/a@",
            "ghcr.io/a@sha256:abc",
            "ghcr.io/a@md5:abc",
            "ghcr.io:0/a",
            "ghcr.io:99999/a",
            "ghcr.io:x/a",
            "user:pw@ghcr.io/a",
            "ghcr.io/a%2e%2e",
            "ghcr.io/a\u{0}",
            "ghcr.io/a\n",
            "ghcr.io/a\u{202e}b",
            "gh\u{0441}r.io/a",
            "[::1/a",
            "[zz]:1/a",
            "[::1]x/a",
            "-x.io/a",
            "x..io/a",
            "ghcr.io/a___b",
            "ghcr.io/a._b",
            "ghcr.io/.a",
            "ghcr.io/a.",
            "https://ghcr.io/a/b",
            "../x/y",
            "./x.y/z",
            "oci://",
            "oci://oci://a.b/c",
            long.as_str(),
            slashes.as_str(),
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn passwords_and_control_characters_are_not_repeated_in_the_error() {
        let error = Reference::parse("ghcr.io/\u{1b}[31mred").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'));
        for text in ["user:canary@ghcr.io/a", "oci://user:canary@ghcr.io/a:1", "a:canary@b@c"] {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(error.problem(), &ReferenceProblem::UserInfo, "{text}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn explicit_registries_are_recognised_by_their_first_segment() {
        for (target, explicit) in [
            ("ghcr.io/a", true),
            ("localhost/a", true),
            ("host:5000/a", true),
            ("[::1]:5000/a", true),
            ("a/b.c", false),
            ("comp", false),
            ("ghcr.io", false),
            ("ghcr.io/", false),
            ("a/b/c:1.2", false),
            ("./a/b", false),
            ("../a", false),
        ] {
            assert_eq!(is_explicit_registry(target), explicit, "{target}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_round_trips(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }

        #[test]
        fn generated_references_round_trip(
            host in "[a-z0-9]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
            repository in "[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        ) {
            let text = format!("{host}/{repository}{}", tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default());
            let reference = Reference::parse(&text).unwrap();
            prop_assert_eq!(reference.registry(), host);
            prop_assert_eq!(reference.repository(), repository);
            prop_assert_eq!(reference.to_string(), text);
        }
    }
}
