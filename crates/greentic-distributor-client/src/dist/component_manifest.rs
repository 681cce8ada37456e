//! What a publisher's component manifest says about the component it travels with.

use greentic_dist_types::SafeText;
use serde_json::{Map, Value};

/// Why the component manifest that travels with a component cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentManifestError {
    /// It is not the JSON it should be.
    #[error("it cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// It names the file of the component, and no file of the cache may have that name.
    #[error("it names its component `{}`, which is no plain file name", SafeText::excerpt(.0, 80))]
    Name(String),
}

/// Longest name taken from a component manifest, in bytes.
const NAME_BYTES: usize = 512;

/// The facts an entry keeps. Only top-level keys count: what stands deeper describes something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) component_id: Option<String>,
    pub(super) abi_version: Option<String>,
    pub(super) describe_artifact_ref: Option<String>,
}

impl Facts {
    /// Reads a component manifest. One that is no JSON object has nothing to say.
    pub(super) fn read(component_manifest: &[u8]) -> Self {
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(component_manifest) else {
            return Self::default();
        };
        let text = |keys: &[&str]| {
            keys.iter()
                .find_map(|key| object.get(*key)?.as_str())
                .filter(|text| !text.is_empty() && text.len() <= NAME_BYTES && !text.contains(char::is_control))
                .map(ToOwned::to_owned)
        };
        Self {
            component_id: text(&["component_id", "componentId", "canonical_component_id"]),
            abi_version: text(&["abi_version", "abiVersion", "abi"])
                .and_then(|version| semver::Version::parse(&version).ok())
                .map(|version| version.to_string()),
            describe_artifact_ref: text(&[
                "describe_artifact_ref",
                "describeArtifactRef",
                "describe_ref",
                "describeRef",
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_level_facts_are_read_and_nested_or_malformed_ones_are_not() {
        let facts = Facts::read(br#"{"componentId":"acme.tool","abi":"0.6.0-rc.1","describeRef":"oci://x/y"}"#);
        assert_eq!(facts.component_id.as_deref(), Some("acme.tool"));
        assert_eq!(facts.abi_version.as_deref(), Some("0.6.0-rc.1"));
        assert_eq!(facts.describe_artifact_ref.as_deref(), Some("oci://x/y"));
        for nothing in [&br#"{"nested":{"component_id":"spoofed"}}"#[..], br#"{"component_id":7}"#, b"[]", b"", b"\xff"]
        {
            assert_eq!(Facts::read(nothing), Facts::default());
        }
        assert_eq!(Facts::read(br#"{"abi_version":"00.1.2"}"#).abi_version, None);
        assert_eq!(Facts::read(b"{\"component_id\":\"a\\u001bb\"}").component_id, None);
    }
}
