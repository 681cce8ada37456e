//! A repository and the digest of one of its blobs.

use greentic_dist_types::{Digest, Reference, redact_reference};

use super::RunnerApiError;

/// The scheme that may stand in front of a reference, as often as it was put there.
const SCHEME: &str = "oci://";

/// A reference that names its registry, its repository and a digest: `ghcr.io/acme/hello@sha256:…`. A tag beside the digest is
/// kept for display and asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRef {
    reference: Reference,
    pin: Digest,
    digest: String,
}

impl DigestRef {
    /// The digest, `sha256:`, `sha384:` or `sha512:` and lower-case hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The whole reference.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    pub(super) const fn pin(&self) -> Digest {
        self.pin
    }
}

impl TryFrom<&str> for DigestRef {
    type Error = RunnerApiError;

    /// Reads `host/name@sha256:…`, with or without `oci://` in front. Upper-case hex is read as lower-case.
    ///
    /// # Errors
    /// [`RunnerApiError::MissingRepositoryContext`] for a digest alone, [`RunnerApiError::DigestRequired`] for a reference
    /// without one, [`RunnerApiError::InvalidReference`] for anything else.
    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let mut bare = text.trim();
        while let Some(rest) = bare.strip_prefix(SCHEME) {
            bare = rest;
        }
        if let Ok(digest) = Digest::parse_any_case(bare) {
            return Err(RunnerApiError::MissingRepositoryContext { digest: digest.to_string() });
        }
        let reference = Reference::parse_any_case(bare).map_err(|error| RunnerApiError::InvalidReference {
            reference: redact_reference(bare),
            reason: error.problem().to_string(),
        })?;
        match reference.digest() {
            Some(pin) => Ok(Self { digest: pin.to_string(), pin, reference }),
            None => Err(RunnerApiError::DigestRequired { reference: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for DigestRef {
    type Error = RunnerApiError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::try_from(text.as_str())
    }
}

/// What can be asked for: a [`DigestRef`], or a text that is one.
pub trait DigestRefInput {
    /// The reference.
    ///
    /// # Errors
    /// As `DigestRef::try_from`.
    fn to_digest_ref(&self) -> Result<DigestRef, RunnerApiError>;
}

impl DigestRefInput for DigestRef {
    fn to_digest_ref(&self) -> Result<DigestRef, RunnerApiError> {
        Ok(self.clone())
    }
}

impl DigestRefInput for &DigestRef {
    fn to_digest_ref(&self) -> Result<DigestRef, RunnerApiError> {
        Ok((*self).clone())
    }
}

impl DigestRefInput for &str {
    fn to_digest_ref(&self) -> Result<DigestRef, RunnerApiError> {
        DigestRef::try_from(*self)
    }
}

impl DigestRefInput for String {
    fn to_digest_ref(&self) -> Result<DigestRef, RunnerApiError> {
        DigestRef::try_from(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6d2b0a2e1c8f4a35b7e9d0c1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5";

    #[test]
    fn a_reference_with_a_digest_is_one_however_often_its_scheme_was_written() {
        for text in [
            format!("ghcr.io/acme/hello@sha256:{HEX}"),
            format!("oci://ghcr.io/acme/hello@sha256:{HEX}"),
            format!("oci://oci://ghcr.io/acme/hello@sha256:{}", HEX.to_uppercase()),
        ] {
            let digest_ref = text.to_digest_ref().unwrap();
            assert_eq!(digest_ref.digest(), format!("sha256:{HEX}"), "{text}");
            assert_eq!(digest_ref.reference().to_string(), format!("ghcr.io/acme/hello@sha256:{HEX}"), "{text}");
            assert_eq!(DigestRefInput::to_digest_ref(&&digest_ref).unwrap(), digest_ref);
        }
        let tagged = DigestRef::try_from(format!("localhost:5000/a/b:1@sha512:{HEX}{HEX}")).unwrap();
        assert_eq!(tagged.digest(), format!("sha512:{HEX}{HEX}"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for text in [format!("sha256:{HEX}"), format!("oci://sha256:{}", HEX.to_uppercase())] {
            let error = DigestRef::try_from(text.as_str()).unwrap_err();
            let RunnerApiError::MissingRepositoryContext { digest } = error else { panic!("{text}: {error}") };
            assert_eq!(digest, format!("sha256:{HEX}"));
        }
        for text in ["ghcr.io/acme/hello:1", "oci://ghcr.io/acme/hello", "localhost:5000/acme/hello"] {
            let error = DigestRef::try_from(text).unwrap_err();
            assert!(matches!(error, RunnerApiError::DigestRequired { .. }), "{text}: {error}");
        }
        let short = format!("ghcr.io/acme/hello@sha256:{}", &HEX[1..]);
        let nowhere = format!("hello@sha256:{HEX}");
        let password = format!("alice:secret@ghcr.io/acme/hello@sha256:{HEX}");
        for text in ["", "not a ref", "oci://", &short, &nowhere, "ghcr.io/acme/hello@md5:00", &password] {
            let error = DigestRef::try_from(text).unwrap_err();
            assert!(matches!(error, RunnerApiError::InvalidReference { .. }), "{text}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
