//! `metadata.json`: what hosts read beside a fetched artifact. Written for them; nothing here believes it.

use serde::Serialize;
use serde_json::Value;

use crate::dist::{Beside, DistError};

/// The document, compact JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Metadata<'a> {
    original_reference: &'a str,
    resolved_digest: String,
    media_type: &'a str,
    fetched_at_unix_seconds: u64,
    size_bytes: u64,
    manifest_digest: Option<String>,
    /// The file name in the component manifest; packs have no such field.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_wasm_name: Option<Value>,
}

impl<'a> Metadata<'a> {
    /// About an artifact whose manifest was seen.
    pub(crate) fn new(beside: &Beside<'a>) -> Self {
        Self {
            original_reference: beside.reference,
            resolved_digest: beside.named.to_string(),
            media_type: beside.media_type,
            fetched_at_unix_seconds: beside.now,
            size_bytes: beside.size_bytes,
            manifest_digest: beside.manifest.map(|digest| digest.to_string()),
            manifest_wasm_name: None,
        }
    }

    /// With the file name in the component manifest, or the word that there is none.
    #[must_use]
    pub(crate) fn with_wasm_name(mut self, name: Option<&str>) -> Self {
        self.manifest_wasm_name = Some(name.map_or(Value::Null, |name| Value::String(name.to_owned())));
        self
    }

    /// The file's bytes.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, DistError> {
        Ok(serde_json::to_vec(self)?)
    }
}
