//! The extension of a pack manifest that names the components the pack needs.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The key of the extension in the `extensions` of a pack manifest.
const KEY: &str = "greentic.components";
/// Largest pack manifest that is read, in bytes.
const MANIFEST_BYTES: usize = 4 << 20;
/// Most references of one extension.
const REFS: usize = 10_000;

/// `extensions."greentic.components"` of a pack manifest: the components a pack needs, and when they are brought.
///
/// Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentsExtension {
    /// OCI references, `host/name@sha256:…`, or `host/name:tag` where tags are allowed.
    pub refs: Vec<String>,
    /// When they are brought. Default: [`ComponentsMode::Eager`].
    #[serde(default)]
    pub mode: ComponentsMode,
}

/// When the components of a pack are brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentsMode {
    /// All at once, when the extension is resolved.
    #[default]
    Eager,
    /// One by one, when somebody asks for one. Resolving the extension finds out what the references mean and moves no layer.
    Lazy,
}

/// Why a text is no pack manifest whose components can be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentsExtensionError {
    /// More than 4 MiB.
    #[error("the pack manifest is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// No JSON object, or an extension of another shape.
    #[error("the pack manifest cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// More than 10 000 references.
    #[error("the extension `greentic.components` has more than {limit} references")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl ComponentsExtension {
    /// Reads the extension of a pack manifest in JSON, at most 4 MiB of it with 10 000 references. `None` when the manifest has
    /// no such extension: the pack needs no components.
    ///
    /// The extension is `{ "refs": […], "mode": "eager" | "lazy" }`, or an object that has this one as `inline`, which is how
    /// extensions with a version of their own carry their content.
    ///
    /// # Errors
    /// [`ComponentsExtensionError`] by cause.
    pub fn from_pack_manifest(json: &[u8]) -> Result<Option<Self>, ComponentsExtensionError> {
        if json.len() > MANIFEST_BYTES {
            return Err(ComponentsExtensionError::TooLarge { limit_bytes: MANIFEST_BYTES });
        }
        // A list would be read as the values of the fields.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde_json::Error::custom("it is no JSON object").into());
        }
        let manifest: PackManifest = serde_json::from_slice(json)?;
        let Some(mut found) = manifest.extensions.and_then(|extensions| extensions.0) else { return Ok(None) };
        let content = match found.remove("inline") {
            Some(Value::Object(inline)) if !found.contains_key("refs") => inline,
            _ => found,
        };
        let extension: Self = serde_json::from_value(Value::Object(content))?;
        if extension.refs.len() > REFS {
            return Err(ComponentsExtensionError::TooMany { limit: REFS });
        }
        Ok(Some(extension))
    }
}

/// What of a pack manifest is looked at.
#[derive(Deserialize)]
struct PackManifest {
    #[serde(default)]
    extensions: Option<Extensions>,
}

/// The one extension of many; the others are passed over without being kept.
struct Extensions(Option<Map<String, Value>>);

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Looking;

        impl<'de> Visitor<'de> for Looking {
            type Value = Extensions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of extensions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extensions, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != KEY {
                        map.next_value::<IgnoredAny>()?;
                    } else if found.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("`greentic.components` is there twice"));
                    }
                }
                Ok(Extensions(found))
            }
        }

        deserializer.deserialize_map(Looking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<ComponentsExtension>, ComponentsExtensionError> {
        ComponentsExtension::from_pack_manifest(json.as_bytes())
    }

    #[test]
    fn the_extension_is_found_among_others_in_both_shapes() {
        let lazy = ComponentsExtension { refs: vec!["ghcr.io/a/b:1".into()], mode: ComponentsMode::Lazy };
        for json in [
            r#"{"id":"p","extensions":{"x":[1,{"refs":2}],"greentic.components":{"refs":["ghcr.io/a/b:1"],"mode":"lazy","n":1}}}"#,
            r#"{"extensions":{"greentic.components":{"kind":"greentic.components","version":"v1","inline":{"refs":["ghcr.io/a/b:1"],"mode":"lazy"}}}}"#,
        ] {
            assert_eq!(read(json).unwrap().as_ref(), Some(&lazy), "{json}");
        }
        let eager = read(r#"{"extensions":{"greentic.components":{"refs":[]}}}"#).unwrap().unwrap();
        assert_eq!((eager.mode, eager.refs.len()), (ComponentsMode::Eager, 0));
        for none in ["{}", r#"{"extensions":null}"#, r#"{"extensions":{}}"#, r#"{"extensions":{"greentic.flows":{}}}"#]
        {
            assert!(read(none).unwrap().is_none(), "{none}");
        }
    }

    #[test]
    fn an_extension_survives_being_written() {
        let extension = ComponentsExtension { refs: vec!["ghcr.io/a/b:1".into()], mode: ComponentsMode::Lazy };
        let json = serde_json::to_string(&extension).unwrap();
        assert_eq!(json, r#"{"refs":["ghcr.io/a/b:1"],"mode":"lazy"}"#);
        assert_eq!(serde_json::from_str::<ComponentsExtension>(&json).unwrap(), extension);
    }

    #[test]
    fn what_is_no_such_extension_is_refused() {
        for json in [
            "",
            "[]",
            "\u{0}",
            r#"{"extensions":[]}"#,
            r#"{"extensions":{"greentic.components":null}}"#,
            r#"{"extensions":{"greentic.components":{}}}"#,
            r#"{"extensions":{"greentic.components":{"refs":"ghcr.io/a/b:1"}}}"#,
            r#"{"extensions":{"greentic.components":{"refs":[1]}}}"#,
            r#"{"extensions":{"greentic.components":{"refs":[],"mode":"Lazy"}}}"#,
            r#"{"extensions":{"greentic.components":{"refs":[]},"greentic.components":{"refs":[]}}}"#,
            r#"{"extensions":{"greentic.components":{"refs":[]}}} x"#,
        ] {
            assert!(matches!(read(json), Err(ComponentsExtensionError::Malformed(_))), "{json}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(
            read(&format!(r#"{{"extensions":{{"x":{deep}}}}}"#)).unwrap().is_none(),
            "what is passed over costs no stack"
        );
        assert!(read(&format!(r#"{{"extensions":{{"greentic.components":{{"refs":[],"x":{deep}}}}}}}"#)).is_err());
        let many = vec!["x"; REFS + 1];
        let json = serde_json::json!({ "extensions": { KEY: { "refs": many } } }).to_string();
        assert!(matches!(read(&json), Err(ComponentsExtensionError::TooMany { .. })));
        let large = vec![b' '; MANIFEST_BYTES + 1];
        let error = ComponentsExtension::from_pack_manifest(&large).unwrap_err();
        assert!(matches!(error, ComponentsExtensionError::TooLarge { .. }));
    }
}
