//! Platforms: what the entries of an index are for, and which one is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::SafeText;

/// The platform of an index entry, as the publisher wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Operating system in Go's naming: `linux`, `wasip2`, `unknown`.
    pub os: String,
    /// Architecture in Go's naming: `amd64`, `arm64`, `wasm`, `unknown`.
    pub architecture: String,
    /// Variant, e.g. `v8`.
    pub variant: Option<String>,
    /// Version of the operating system (`os.version`); nothing is chosen by it.
    #[serde(rename = "os.version")]
    pub os_version: Option<String>,
    /// What the operating system must have (`os.features`); nothing is chosen by it.
    #[serde(rename = "os.features", deserialize_with = "null_is_none")]
    pub os_features: Vec<String>,
}

/// Go writes a list without elements as `null`.
fn null_is_none<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

impl Platform {
    /// A platform of an operating system and an architecture alone.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// As text, with the variant in its one spelling: two entries that mean the same give the same text.
    pub(crate) fn normalized(&self) -> String {
        match &*normal_variant(&self.architecture, self.variant.as_deref()) {
            "" => format!("{}/{}", self.os, self.architecture),
            variant => format!("{}/{}/{variant}", self.os, self.architecture),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// How an index is narrowed to one manifest. `"linux/arm/v7".parse()` makes one for a single platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformChoice {
    /// Operating systems, best first. Compared exactly.
    pub os: Vec<String>,
    /// Architectures, best first. Compared exactly.
    pub architecture: Vec<String>,
    /// The variant of the architecture, and no other; compared in one spelling (`v8` and nothing are one variant of `arm64`, `v1`
    /// and nothing one of `amd64`, `v7`, `7` and nothing one of `arm`). Default: the usual variant, which is the one that may be left
    /// out. Where an index has no manifest for that, of `arm` the newest older one (`v6`, then `v5`); else the only one that there
    /// is, and several are refused.
    pub variant: Option<String>,
}

impl Default for PlatformChoice {
    /// Wasm first: `wasip2`, `wasip1`, `wasi` on `wasm`.
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { os: list(&["wasip2", "wasip1", "wasi"]), architecture: list(&["wasm", "wasm32"]), variant: None }
    }
}

/// How good a platform is, the least being best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    os: usize,
    architecture: usize,
    variant: VariantRank,
}

impl Rank {
    /// Whether the variant was neither named nor one that is taken when none is.
    pub(crate) fn is_unusual(self) -> bool {
        self.variant == VariantRank::Unusual
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum VariantRank {
    /// The one that was named, or the usual one.
    Meant,
    /// An older one, by how much.
    Older(u8),
    Unusual,
}

impl PlatformChoice {
    /// The platforms as errors name them: [`PlatformChoice`]'s `Display` as text that may be shown.
    pub fn in_words(&self) -> SafeText {
        SafeText::new(&self.to_string())
    }

    /// Whether a platform is one of those that are wanted.
    pub fn accepts(&self, platform: &Platform) -> bool {
        self.rank(platform).is_some()
    }

    pub(crate) fn rank(&self, platform: &Platform) -> Option<Rank> {
        let os = self.os.iter().position(|os| *os == platform.os)?;
        let architecture = self.architecture.iter().position(|name| *name == platform.architecture)?;
        let name = platform.architecture.as_str();
        let found = normal_variant(name, platform.variant.as_deref());
        let meant = normal_variant(name, self.variant.as_deref());
        let variant = match (name, &*found) {
            _ if found == meant => VariantRank::Meant,
            _ if self.variant.is_some() => return None,
            ("arm", "v6") => VariantRank::Older(1),
            ("arm", "v5") => VariantRank::Older(2),
            _ => VariantRank::Unusual,
        };
        Some(Rank { os, architecture, variant })
    }
}

/// The one spelling of a variant: that of containerd, which runs images, and with the usual variant always written.
fn normal_variant(architecture: &str, variant: Option<&str>) -> String {
    let variant = variant.unwrap_or_default().to_ascii_lowercase();
    match (architecture, variant.as_str()) {
        ("arm", "" | "7") => "v7",
        ("arm64", "" | "8") | ("arm", "8") => "v8",
        ("amd64", "") => "v1",
        ("arm", "5") => "v5",
        ("arm", "6") => "v6",
        _ => return variant,
    }
    .to_owned()
}

impl fmt::Display for PlatformChoice {
    /// `linux on arm64`, `wasip2 or wasip1 on wasm`, `linux on arm, variant v6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.os.join(" or "), self.architecture.join(" or "))?;
        match &self.variant {
            Some(variant) => write!(f, ", variant {variant}"),
            None => Ok(()),
        }
    }
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no platform: write it OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, e.g. `linux/arm64`, `linux/arm/v7` or `wasip2/wasm`"
)]
pub struct ParsePlatformError(SafeText);

impl FromStr for PlatformChoice {
    type Err = ParsePlatformError;

    /// Reads `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`.
    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        let is_part = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_part) {
            return Err(ParsePlatformError(SafeText::excerpt(text, 100)));
        }
        let (os, architecture, variant) = match *parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(ParsePlatformError(SafeText::excerpt(text, 100))),
        };
        Ok(Self { os: vec![os.to_owned()], architecture: vec![architecture.to_owned()], variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_or_three_parts() {
        let parsed: PlatformChoice = "linux/arm/v7".parse().unwrap();
        assert_eq!((parsed.os, parsed.architecture), (vec!["linux".to_owned()], vec!["arm".to_owned()]));
        assert_eq!(parsed.variant.as_deref(), Some("v7"));
        assert_eq!("wasip2/wasm".parse::<PlatformChoice>().unwrap().variant, None);
        for wrong in ["", "linux", "linux/", "/arm", "linux/arm/", "linux/arm/v7/x", "linux /arm", "linux/a\u{1b}rm"] {
            let error = wrong.parse::<PlatformChoice>().unwrap_err().to_string();
            assert!(error.contains("OS/ARCHITECTURE/VARIANT") && !error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn a_choice_says_what_is_wanted() {
        assert_eq!(PlatformChoice::default().to_string(), "wasip2 or wasip1 or wasi on wasm or wasm32");
        assert_eq!("linux/arm/v6".parse::<PlatformChoice>().unwrap().to_string(), "linux on arm, variant v6");
    }
}
