//! The name that a component manifest gives to the component.

use greentic_dist_store::SecondName;
use serde_json::{Map, Value};

use crate::dist::ComponentManifestError;

/// The fixed name of every component; who names it so wants no other.
const FIXED: &str = "component.wasm";

/// Reads `artifacts.component_wasm`. `None` when there is no name to give: none is written, it is the one every component has
/// anyway, or it is the path of a file in the publisher's build (`target/wasm32-wasip2/release/x.wasm`), of which no part is used.
///
/// A name never becomes a path outside the directory of its component; one that tries to is refused, also as part of a path.
pub(super) fn read(component_manifest: &[u8]) -> Result<Option<SecondName>, ComponentManifestError> {
    let Some(written) = written(component_manifest).map_err(ComponentManifestError::Malformed)? else {
        return Ok(None);
    };
    let name = written.trim();
    if name.is_empty() || name == FIXED {
        return Ok(None);
    }
    let refused = || ComponentManifestError::Name(written.clone());
    if name.contains('/') {
        let is_plain = |part: &str| part == FIXED || SecondName::parse(part).is_ok();
        return if name.len() <= PATH_BYTES && name.split('/').all(is_plain) { Ok(None) } else { Err(refused()) };
    }
    SecondName::parse(name).map(Some).map_err(|_why| refused())
}

/// `artifacts.component_wasm` as it stands there.
fn written(component_manifest: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let mut manifest: Map<String, Value> = serde_json::from_slice(component_manifest)?;
    let artifacts: Option<Map<String, Value>> =
        serde_json::from_value(manifest.remove("artifacts").unwrap_or_default())?;
    let name = artifacts.and_then(|mut artifacts| artifacts.remove("component_wasm"));
    serde_json::from_value(name.unwrap_or_default())
}

/// Longest path of a publisher's build that is passed over, in bytes.
const PATH_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Result<Option<String>, ComponentManifestError> {
        let json = serde_json::json!({ "id": "x", "artifacts": { "component_wasm": name, "other": 1 } }).to_string();
        read(json.as_bytes()).map(|name| name.map(|name| name.to_string()))
    }

    #[test]
    fn plain_names_are_names_and_the_rest_of_the_manifest_does_not_matter() {
        assert_eq!(named("component_templates.wasm").unwrap().as_deref(), Some("component_templates.wasm"));
        assert_eq!(named("  x.wasm ").unwrap().as_deref(), Some("x.wasm"));
        for none in ["", "  ", "component.wasm"] {
            assert_eq!(named(none).unwrap(), None, "{none:?}");
        }
        for none in
            [&b"{}"[..], br#"{"artifacts":null}"#, br#"{"artifacts":{}}"#, br#"{"artifacts":{"component_wasm":null}}"#]
        {
            assert!(read(none).unwrap().is_none());
        }
    }

    #[test]
    fn the_path_of_a_build_is_no_name() {
        for path in ["target/wasm32-wasip2/release/hello.wasm", "dist/component.wasm", "a/b.wasm"] {
            assert_eq!(named(path).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_taken_are_refused() {
        let long = "a".repeat(300);
        for name in [
            "..",
            ".",
            "/",
            "C:",
            "C:\\x.wasm",
            "\\\\host\\x",
            "/etc/passwd",
            "../x.wasm",
            "a/../x.wasm",
            "a//x.wasm",
            "a/",
            "./x.wasm",
            "a\\b.wasm",
            "entry.json",
            "metadata.json",
            "component.manifest.json",
            "manifest.json",
            "verified",
            "a/metadata.json",
            "con",
            "aux.wasm",
            "a\0b",
            "a\u{202e}b.wasm",
            "ü.wasm",
            "x.wasm.",
            ".hidden",
            &long,
        ] {
            assert!(matches!(named(name), Err(ComponentManifestError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_manifest_of_another_shape_is_malformed() {
        for json in [&b""[..], b"[]", b"\xff", br#"{"artifacts":[]}"#, br#"{"artifacts":{"component_wasm":7}}"#] {
            assert!(matches!(read(json), Err(ComponentManifestError::Malformed(_))));
        }
    }
}
