//! What is demanded of an artifact.

use serde::{Deserialize, Serialize};

/// How strict a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VerificationEnvironment {
    /// Development: what is missing is a warning.
    #[default]
    Dev,
    /// Like production.
    Staging,
    /// Production: what is missing, unknown or out of date and is demanded fails.
    Prod,
}

impl VerificationEnvironment {
    /// Whether what is demanded and not known fails, instead of being warned about.
    pub(crate) const fn is_strict(self) -> bool {
        !matches!(self, Self::Dev)
    }

    /// The name in the payloads of checks.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }
}

/// A policy. The default demands nothing, in development.
///
/// Usually built with `..VerificationPolicy::default()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationPolicy {
    /// Whether a verified signature is demanded. No version so far verifies one: outside of development nothing passes.
    pub require_signature: bool,
    /// Issuers that are accepted, exactly as the publisher writes them; empty for all. Outside of development an artifact
    /// of another issuer, or of none, fails.
    pub trusted_issuers: Vec<String>,
    /// Issuers that are refused; letter case, blanks around and a slash at the end make no difference.
    pub deny_issuers: Vec<String>,
    /// Digests that are refused, `sha256:…`, `sha384:…` or `sha512:…`: of a manifest, an index or of bytes. An entry that is no digest fails
    /// every artifact.
    pub deny_digests: Vec<String>,
    /// Media types that are accepted; empty for all.
    pub allowed_media_types: Vec<String>,
    /// Whether a software bill of materials is demanded.
    pub require_sbom: bool,
    /// Lowest version of the operator, as semantic version. The highest of this, the advisory's and the artifact's counts.
    pub minimum_operator_version: Option<String>,
    /// How strict the checks are.
    pub environment: VerificationEnvironment,
}

impl VerificationPolicy {
    /// The digest of the policy as compact JSON: equal for equal policies.
    pub fn fingerprint(&self) -> String {
        super::fingerprint(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_has_the_published_fingerprint() {
        assert_eq!(
            VerificationPolicy::default().fingerprint(),
            "sha256:7dc5aaf3d86c4578ad5f5526cee94041ebe67af5e4a34251ba15ae484c48af53"
        );
        let other = VerificationPolicy { require_sbom: true, ..VerificationPolicy::default() };
        assert_ne!(other.fingerprint(), VerificationPolicy::default().fingerprint());
    }
}
