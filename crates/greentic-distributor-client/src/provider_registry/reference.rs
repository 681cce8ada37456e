//! What a person wrote as provider registry: nothing, a file, or a name in a registry.

use std::path::PathBuf;

use greentic_dist_types::{Digest, SafeText, limits, redact_reference};

use super::ProviderRegistryError;

/// A provider registry by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CatalogRef {
    /// A path on this machine.
    Local(PathBuf),
    /// Something a registry has.
    Remote(RemoteRef),
}

/// A name in a registry, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteRef {
    /// The whole text: the key of the cache.
    pub(super) text: String,
    pub(super) scheme: Scheme,
    /// What stands behind the scheme.
    pub(super) target: String,
}

impl RemoteRef {
    /// The text fit to be shown: without user names and passwords.
    pub(super) fn shown(&self) -> String {
        match self.target.rsplit_once('@') {
            // What stands before a tag or digest is a name, also where there is no slash in it.
            Some((name, behind))
                if !name.contains('@')
                    && (Digest::parse_any_case(behind).is_ok() || !name.contains(':') && !behind.contains('/')) =>
            {
                SafeText::excerpt(&self.text, limits::REFERENCE_BYTES).to_string()
            }
            _ => redact_reference(&self.text),
        }
    }
}

/// How a name finds its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// It names the registry.
    Oci,
    /// It is joined to the base of repositories, unless it names the registry.
    Repo,
    /// It is joined to the base of stores, unless it names the registry.
    Store,
}

impl CatalogRef {
    /// Reads a reference. `None` for a blank one.
    ///
    /// A text without `://` is always a path: `ghcr.io/x/y:1` is a file here, and never asked of a registry.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, ProviderRegistryError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let Some((scheme, target)) = text.split_once("://") else { return Ok(Some(Self::Local(text.into()))) };
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        if is("file") {
            let path = target.trim();
            return Ok((!path.is_empty()).then(|| Self::Local(path.into())));
        }
        let scheme = match () {
            () if is("oci") => Scheme::Oci,
            () if is("repo") => Scheme::Repo,
            () if is("store") => Scheme::Store,
            () => return Err(ProviderRegistryError::UnsupportedScheme { reference: redact_reference(text) }),
        };
        if text.len() > limits::REFERENCE_BYTES {
            return Err(ProviderRegistryError::TooLong { reference: redact_reference(text) });
        }
        Ok(Some(Self::Remote(RemoteRef { text: text.to_owned(), scheme, target: target.to_owned() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<CatalogRef> {
        CatalogRef::parse(text).unwrap()
    }

    #[test]
    fn blank_texts_name_nothing_and_texts_without_a_scheme_are_paths() {
        for blank in ["", " ", "\n\t", "file://", "file://  "] {
            assert_eq!(parse(blank), None, "{blank:?}");
        }
        for (text, path) in [
            ("catalog.json", "catalog.json"),
            ("ghcr.io/x/y:1", "ghcr.io/x/y:1"),
            ("file:///srv/a%20b.json", "/srv/a%20b.json"),
            ("FILE://relative.json", "relative.json"),
        ] {
            assert_eq!(parse(text), Some(CatalogRef::Local(path.into())), "{text}");
        }
    }

    #[test]
    fn the_schemes_of_registries_are_known_in_any_case_and_others_are_refused() {
        for (text, scheme) in [("oci://a/b", Scheme::Oci), ("Repo://b", Scheme::Repo), ("STORE://b", Scheme::Store)] {
            let Some(CatalogRef::Remote(remote)) = parse(text) else { panic!("{text}") };
            assert_eq!((remote.text.as_str(), remote.scheme), (text, scheme));
        }
        for text in ["https://ann:canary@host/catalog.json", "ftp://x/y", "://x"] {
            let error = CatalogRef::parse(text).unwrap_err().to_string();
            assert!(error.contains("oci://") && error.contains("file://"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(CatalogRef::parse(&format!("oci://ghcr.io/{}", "a".repeat(2_000))).is_err());
    }

    #[test]
    fn names_are_shown_as_they_are_and_passwords_are_not() {
        let pin = format!("sha256:{}", "a".repeat(64));
        for text in
            ["repo://x@latest", "oci://localhost:5/x@1", &format!("repo://x:1@{pin}"), &format!("oci://g.io/x@{pin}")]
        {
            let Some(CatalogRef::Remote(remote)) = parse(text) else { panic!("{text}") };
            assert_eq!(remote.shown(), *text);
        }
        for text in ["oci://ann:canary@g.io/x", "repo://ann:canary@x", "repo://canary@x/y@latest", "oci://canary@x/y"] {
            let Some(CatalogRef::Remote(remote)) = parse(text) else { panic!("{text}") };
            assert!(!remote.shown().contains("canary"), "{}", remote.shown());
        }
    }
}
