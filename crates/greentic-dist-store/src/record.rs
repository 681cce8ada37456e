//! `entry.json`: what is known about an artifact besides its bytes, read tolerantly and written strictly.

use std::path::{Path, PathBuf};

use greentic_dist_types::{ArtifactSourceKind, ArtifactType, CacheEntryState, Digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of `entry.json` and of the other records this code writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Where an artifact was asked from, as it was when it was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// The reference as given.
    pub raw_ref: String,
    /// The reference with its digest.
    pub canonical_ref: String,
    /// The kind of source.
    pub source_kind: ArtifactSourceKind,
    /// Whether both references are the same.
    pub authoritative: bool,
}

/// The record of an entry, version 1.
///
/// The first seventeen fields are the published format; programs that know only those read and rewrite the file, so every
/// other field may be absent. Fields nobody here knows survive a rewrite. Times are unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// 1. Set when the entry is published.
    pub format_version: u32,
    /// The pin, as text. Set when the entry is published.
    pub cache_key: String,
    /// The pin, as text. Set when the entry is published.
    pub digest: String,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes. Set when the entry is published.
    pub size_bytes: u64,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// The kind of source it came from.
    pub source_kind: ArtifactSourceKind,
    /// The reference as given.
    pub raw_ref: String,
    /// The reference with its digest.
    pub canonical_ref: String,
    /// When it was fetched. Set when the entry is published, unless given.
    pub fetched_at: u64,
    /// When it was last used, as of the last write of this file. Set when the entry is published, unless given.
    pub last_accessed_at: u64,
    /// When it was last verified, if ever.
    pub last_verified_at: Option<u64>,
    /// The state of the entry.
    pub state: CacheEntryState,
    /// The epoch of the advisories it was last checked against.
    pub advisory_epoch: Option<u64>,
    /// What is known about its signatures.
    pub signature_summary: Option<Value>,
    /// Where the artifact is. Informational: readers compute it anew, writers set it.
    pub local_path: PathBuf,
    /// Where it was asked from.
    pub source_snapshot: SourceSnapshot,

    /// Digest of the artifact's bytes. Set when the entry is published.
    #[serde(default)]
    pub content_digest: Option<Digest>,
    /// Digest of the OCI manifest; equals the pin.
    #[serde(default)]
    pub manifest_digest: Option<Digest>,
    /// Digest of the OCI index that led to the manifest.
    #[serde(default)]
    pub index_digest: Option<Digest>,
    /// Digests of other OCI indexes that led to it since, oldest first. Not written when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_index_digests: Vec<Digest>,
    /// The component's identity.
    #[serde(default)]
    pub component_id: Option<String>,
    /// The ABI version the component states.
    #[serde(default)]
    pub abi_version: Option<String>,
    /// Reference of the component's description.
    #[serde(default)]
    pub describe_artifact_ref: Option<String>,
    /// Content type as the source stated it.
    #[serde(default)]
    pub content_type: Option<String>,
    /// When the artifact was made.
    #[serde(default)]
    pub created_at: Option<u64>,
    /// How the reference was resolved.
    #[serde(default)]
    pub resolved_via: Option<String>,
    /// Annotations of the manifest.
    #[serde(default)]
    pub annotations: Map<String, Value>,
    /// References of signatures.
    #[serde(default)]
    pub signature_refs: Vec<String>,
    /// References of software bills of materials.
    #[serde(default)]
    pub sbom_refs: Vec<String>,
    /// Whether a client that the host brought along said that the pin stands for this content. No manifest is here that
    /// proves it, so that only stores that [believe](crate::StoreOptions::believe_vouched) such clients hand it out. Not
    /// written when it is false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub vouched: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl EntryRecord {
    /// A record with nothing in it but its kinds and its references; the store fills the rest in when it publishes.
    pub fn new(artifact_type: ArtifactType, source: SourceSnapshot, media_type: impl Into<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            cache_key: String::new(),
            digest: String::new(),
            media_type: media_type.into(),
            size_bytes: 0,
            artifact_type,
            source_kind: source.source_kind,
            raw_ref: source.raw_ref.clone(),
            canonical_ref: source.canonical_ref.clone(),
            fetched_at: 0,
            last_accessed_at: 0,
            last_verified_at: None,
            state: CacheEntryState::Ready,
            advisory_epoch: None,
            signature_summary: None,
            local_path: PathBuf::new(),
            source_snapshot: source,
            content_digest: None,
            manifest_digest: None,
            index_digest: None,
            other_index_digests: Vec::new(),
            component_id: None,
            abi_version: None,
            describe_artifact_ref: None,
            content_type: None,
            created_at: None,
            resolved_via: None,
            annotations: Map::new(),
            signature_refs: Vec::new(),
            sbom_refs: Vec::new(),
            vouched: false,
            extra: Map::new(),
        }
    }

    /// Binds the record to the entry it belongs to.
    pub(crate) fn bind(&mut self, pin: &Digest, content: &Digest, size_bytes: u64, path: &Path) {
        let text = pin.to_string();
        self.format_version = FORMAT_VERSION;
        self.cache_key.clone_from(&text);
        self.digest = text;
        self.content_digest = Some(*content);
        self.size_bytes = size_bytes;
        // JSON is Unicode and paths need not be; nobody opens what is written here.
        self.local_path = PathBuf::from(path.to_string_lossy().into_owned());
    }

    /// The file's text: pretty JSON with a line break at its end.
    pub(crate) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What the bytes of an `entry.json` are.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A record of this pin.
    Record(Box<EntryRecord>),
    /// A record of another pin: somebody moved or edited it. Says what it claims.
    OfAnother(String),
    /// Written by a newer version.
    Newer(u64),
    /// No record: torn, edited to pieces, or something else. Says why.
    Garbage(String),
}

/// Which version a record was written in; every other field may mean anything.
#[derive(Deserialize)]
struct Version {
    format_version: u64,
}

/// The version a record states, if it states one.
pub(crate) fn version_of(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Version>(bytes).ok().map(|version| version.format_version)
}

/// Reads a record that should be that of `pin`.
pub(crate) fn read(bytes: &[u8], pin: &Digest) -> Reading {
    match serde_json::from_slice::<EntryRecord>(bytes) {
        Ok(record) if record.format_version > FORMAT_VERSION => Reading::Newer(record.format_version.into()),
        Ok(record) if record.format_version == 0 => Reading::Garbage("format version 0".to_owned()),
        Ok(record) => {
            let text = pin.to_string();
            if record.digest != text {
                Reading::OfAnother(record.digest)
            } else if record.cache_key != text {
                Reading::OfAnother(record.cache_key)
            } else {
                Reading::Record(Box::new(record))
            }
        }
        // A newer version may have another shape.
        Err(error) => match version_of(bytes) {
            Some(version) if version > u64::from(FORMAT_VERSION) => Reading::Newer(version),
            _ => Reading::Garbage(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pin: &Digest) -> EntryRecord {
        let source = SourceSnapshot {
            raw_ref: "oci://registry.example/acme/tool:1".into(),
            canonical_ref: format!("oci://registry.example/acme/tool@{pin}"),
            source_kind: ArtifactSourceKind::Oci,
            authoritative: false,
        };
        let mut record = EntryRecord::new(ArtifactType::Component, source, "application/wasm");
        record.bind(pin, &Digest::sha256(b"content"), 7, Path::new("/c/x/component.wasm"));
        record
    }

    #[test]
    fn the_published_fields_are_written_verbatim_and_absent_options_as_null() {
        let pin = Digest::sha256(b"manifest");
        let json: Value = serde_json::from_slice(&record(&pin).to_json().unwrap()).unwrap();
        assert_eq!(json["format_version"], 1);
        assert_eq!(json["cache_key"], json["digest"]);
        assert_eq!(json["artifact_type"], "Component");
        assert_eq!(json["source_snapshot"]["source_kind"], "Oci");
        assert_eq!(json["state"], "Ready");
        for null in ["last_verified_at", "advisory_epoch", "signature_summary"] {
            assert!(json[null].is_null() && json.as_object().unwrap().contains_key(null), "{null}");
        }
    }

    #[test]
    fn unknown_fields_survive_and_missing_additions_are_defaults() {
        let pin = Digest::sha256(b"manifest");
        let mut json: Value = serde_json::from_slice(&record(&pin).to_json().unwrap()).unwrap();
        let object = json.as_object_mut().unwrap();
        for addition in ["content_digest", "manifest_digest", "annotations", "signature_refs", "resolved_via"] {
            object.remove(addition).unwrap();
        }
        object.insert("future".into(), serde_json::json!({"a": [1]}));
        let Reading::Record(read) = read(&serde_json::to_vec(&json).unwrap(), &pin) else { panic!("not a record") };
        assert_eq!(read.content_digest, None);
        let again: Value = serde_json::from_slice(&read.to_json().unwrap()).unwrap();
        assert_eq!(again["future"], serde_json::json!({"a": [1]}));
    }

    #[test]
    fn newer_foreign_and_broken_records_are_told_apart() {
        let pin = Digest::sha256(b"manifest");
        let text = String::from_utf8(record(&pin).to_json().unwrap()).unwrap();
        let with = |from: &str, to: &str| read(text.replacen(from, to, 1).as_bytes(), &pin);
        assert!(matches!(with("\"format_version\": 1", "\"format_version\": 2"), Reading::Newer(2)));
        assert!(matches!(
            with("\"format_version\": 1", "\"format_version\": 4294967296"),
            Reading::Newer(4_294_967_296)
        ));
        assert!(matches!(with("\"format_version\": 1", "\"format_version\": 0"), Reading::Garbage(_)));
        assert!(matches!(with("\"size_bytes\"", "\"digest\""), Reading::Garbage(_)), "a duplicate key is garbage");
        let other = read(text.as_bytes(), &Digest::sha256(b"other"));
        assert!(matches!(other, Reading::OfAnother(claimed) if claimed == pin.to_string()));
        assert!(matches!(read(br#"{"format_version": 9, "all": "new"}"#, &pin), Reading::Newer(9)));
    }

    #[test]
    fn a_record_cut_at_any_byte_is_garbage() {
        let pin = Digest::sha256(b"manifest");
        let json = record(&pin).to_json().unwrap();
        for end in 0..json.len() - 2 {
            assert!(matches!(read(&json[..end], &pin), Reading::Garbage(_)), "cut at {end}");
        }
    }
}
