//! A reference as a fetcher was given it.

use greentic_dist_types::{Digest, Reference, SafeText, redact_reference};

use super::FetchError;
use crate::dist::resolve::oci::Target;
use crate::dist::{ArtifactSourceKind, ResolvedVia};

/// A reference that was parsed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// As given.
    pub(super) text: String,
    pub(super) reference: Reference,
}

impl Asked {
    /// Parses a reference that names its registry. It has no scheme; its digest may be written in capitals.
    pub(super) fn parse(text: &str) -> Result<Self, FetchError> {
        let invalid = |reason: String| FetchError::InvalidReference { reason };
        if let Some((scheme, _)) = text.split_once("://") {
            let scheme = SafeText::excerpt(&redact_reference(scheme), 32);
            return Err(invalid(format!("a reference to a registry has no scheme: leave `{scheme}://` away")));
        }
        let reference = Reference::parse_any_case(text);
        let reference = reference.map_err(|error| invalid(error.problem().to_string()))?;
        Ok(Self { text: text.to_owned(), reference })
    }

    /// The reference as given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same, pinned to what it meant earlier.
    pub(crate) fn pinned(self, pin: Digest) -> Self {
        match self.pin() {
            Some(_) => self,
            None => Self { reference: self.reference.pinned(pin), ..self },
        }
    }

    /// What a client is asked for.
    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The pin, where there is one.
    pub(super) fn pin(&self) -> Option<Digest> {
        self.reference.digest()
    }

    /// As the flow of the client has it.
    pub(super) fn target(&self) -> Target {
        let via = if self.pin().is_some() { ResolvedVia::Direct } else { ResolvedVia::TagResolution };
        Target {
            reference: self.reference.clone(),
            raw_ref: self.text.clone(),
            kind: ArtifactSourceKind::Oci,
            via,
            tenant: None,
        }
    }
}

/// A digest as a client of the host reports it, in capitals or not.
pub(super) fn reported_digest(text: &str) -> Result<Digest, FetchError> {
    Digest::parse_any_case(text).map_err(|error| FetchError::Corrupt {
        reason: format!("the registry client reported a digest that is none: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_in_capitals_too_and_what_names_no_registry_is_refused() {
        let (upper, lower) = ("AB".repeat(32), "ab".repeat(32));
        let asked = Asked::parse(&format!("ghcr.io/acme/pack:1@sha256:{upper}")).unwrap();
        assert_eq!(asked.reference.whole(), format!("ghcr.io/acme/pack:1@sha256:{lower}"));
        assert!(asked.text.contains(&upper));
        let long = format!("ghcr.io/acme/pack@sha512:{}", "CD".repeat(64));
        assert_eq!(Asked::parse(&long).unwrap().pin().unwrap().to_hex(), "cd".repeat(64));
        for wrong in [
            "",
            "not a ref",
            "foo",
            "acme/pack:1",
            "oci://ghcr.io/acme/pack:1",
            "https://ghcr.io/acme/pack",
            "ghcr.io/Acme/pack:1",
            "ghcr.io/acme/pack@sha256:abc",
            "ghcr.io/acme/pack@sha1:abcd",
            "ghcr.io/acme/../pack:1",
            "me:secret@ghcr.io/acme/pack:1",
        ] {
            let error = Asked::parse(wrong).unwrap_err();
            assert!(
                matches!(&error, FetchError::InvalidReference { reason } if !reason.contains("secret")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn reported_digests_that_could_be_paths_are_refused() {
        let hex = "ab".repeat(32);
        for wrong in [
            "../../x",
            "/abs/x",
            "sha256:../x",
            "sha256:",
            "",
            &hex,
            &format!("md5:{hex}"),
            &format!("sha256:{hex}/.."),
        ] {
            assert!(matches!(reported_digest(wrong), Err(FetchError::Corrupt { .. })), "{wrong}");
        }
        assert_eq!(reported_digest(&format!("sha256:{}", hex.to_uppercase())).unwrap().to_hex(), hex);
    }
}
