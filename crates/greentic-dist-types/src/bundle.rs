//! Bundles: how one is named, and which states it passes through. The flow around them is in `docs/bundles.md`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, SafeText, redact_reference};

/// What stands before the digest in the id of a bundle.
const PREFIX: &str = "bundle:";

/// The name of a bundle: `bundle:` and the pin of the artifact it was staged from.
///
/// Like a [`Digest`] it is no text, so that it can be made into a file name without leaving the directory of the records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleId(Digest);

/// Why a text is not a [`BundleId`]. Carries a sanitised excerpt of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid bundle id `{input}`: expected `bundle:sha256:` and 64 lower-case hex characters")]
pub struct ParseBundleIdError {
    input: SafeText,
}

impl BundleId {
    /// The bundle of the artifact with this pin.
    pub const fn of(pin: Digest) -> Self {
        Self(pin)
    }

    /// The pin of the artifact.
    pub const fn pin(&self) -> Digest {
        self.0
    }
}

impl FromStr for BundleId {
    type Err = ParseBundleIdError;

    /// Parses `bundle:<digest>`; the algorithm of the digest may be left out, as in `bundle:<64 hex>`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseBundleIdError { input: SafeText::excerpt(&redact_reference(text), 96) };
        let digest = text.strip_prefix(PREFIX).ok_or_else(invalid)?;
        let parsed = if digest.contains(':') { digest.parse() } else { Digest::from_hex(digest) };
        parsed.map(Self).map_err(|_unparsable| invalid())
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BundleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BundleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a bundle is in its life. The variant names are the JSON of bundle records, verbatim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BundleLifecycleState {
    /// Out of use. Its artifact may be evicted.
    Inactive,
    /// In the cache and verified, not in use yet.
    Staged,
    /// Being made ready.
    Warming,
    /// Ready for traffic, or serving it.
    Ready,
    /// Finishing what it began.
    Draining,
}

impl BundleLifecycleState {
    /// All states, in the order of a bundle's life.
    pub const ALL: [Self; 5] = [Self::Inactive, Self::Staged, Self::Warming, Self::Ready, Self::Draining];

    /// Whether a bundle in this state keeps its artifact from being evicted: all but [`Self::Inactive`].
    pub const fn protects(self) -> bool {
        !matches!(self, Self::Inactive)
    }

    /// Whether the life cycle leads from this state to `next` in one step: Inactive, Staged, Warming, Ready, Draining,
    /// Inactive. A state does not follow itself.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Inactive, Self::Staged)
                | (Self::Staged, Self::Warming)
                | (Self::Warming, Self::Ready)
                | (Self::Ready, Self::Draining)
                | (Self::Draining, Self::Inactive)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::BundleLifecycleState as S;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_the_word_bundle_and_a_strict_digest() {
        let pin = Digest::sha256(b"x");
        let id = BundleId::of(pin);
        assert_eq!(id.to_string(), format!("bundle:{pin}"));
        assert_eq!(id.to_string().parse::<BundleId>().unwrap(), id);
        assert_eq!(format!("bundle:{}", pin.to_hex()).parse::<BundleId>().unwrap(), id);
        for bad in [
            "",
            "bundle:",
            "sha256:",
            "bundle:sha256:zz",
            "bundle:../../x",
            "../../x",
            &pin.to_string(),
            &format!("BUNDLE:{pin}"),
            &format!("bundle:bundle:{pin}"),
            &format!("bundle:sha256:{}", pin.to_hex().to_uppercase()),
            &format!("bundle:{pin}/.."),
            &format!(" bundle:{pin}"),
        ] {
            assert!(bad.parse::<BundleId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_life_cycle_has_five_edges_and_no_state_follows_itself() {
        let all = S::ALL;
        let pairs = all.iter().flat_map(|from| all.iter().map(|to| (*from, *to)));
        let edges: Vec<_> = pairs.filter(|(from, to)| from.may_become(*to)).collect();
        assert_eq!(
            edges,
            [
                (S::Inactive, S::Staged),
                (S::Staged, S::Warming),
                (S::Warming, S::Ready),
                (S::Ready, S::Draining),
                (S::Draining, S::Inactive)
            ]
        );
        assert_eq!(all.map(S::protects), [false, true, true, true, true]);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            drop(text.parse::<BundleId>());
        }
    }
}
