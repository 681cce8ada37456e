//! Lock files: which artifacts belong together, and exactly which bytes each of them is.
//!
//! Two shapes are read: an array of entries, or an object with `schema_version` and `components`. An entry is a reference, or
//! an object with `reference` (or `ref`), `digest` and more; `docs/lockfile.md` is the specification. What is written is
//! always the object, with its keys in one fixed order.

mod error;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::Digest;
use crate::limits::LOCK_EXTRA_KEYS;

pub use error::{LockError, LockProblem};

/// The schema that is written, and the only one that is read where a file names one.
pub const LOCK_SCHEMA_VERSION: u64 = 1;

/// A lock file whose every entry was checked.
#[derive(Clone, Debug, Default)]
pub struct Lockfile {
    /// The entries, in file order.
    pub entries: Vec<LockEntry>,
    /// Keys of the file that mean nothing to this client and are written back as they were.
    pub extra: Extra,
}

/// One artifact of a lock file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LockEntry {
    /// A name for people and for `lock update`. Not unique by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is asked for. A relative path is meant from the directory of the lock file. `None` for an entry that is only a
    /// digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What it must be: the pin, the digest of the bytes, or that of the image index a tag names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What its bytes must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<Digest>,
    /// Size of the artifact in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Media type of the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Keys that mean nothing to this client and are written back as they were.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Unknown keys with their JSON text, sorted by key.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Extra(BTreeMap<String, Box<RawValue>>);

impl Extra {
    /// The JSON text of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.get())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a key, once and within bounds; else says why not.
    fn keep(&mut self, key: &str, value: &RawValue) -> Result<(), String> {
        if self.0.contains_key(key) {
            return Err("the key stands there twice".to_owned());
        }
        if self.0.len() >= LOCK_EXTRA_KEYS {
            return Err(format!("there are more than {LOCK_EXTRA_KEYS} unknown keys"));
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|(key, value)| (key, value.get())).eq(other.0.iter().map(|(key, value)| (key, value.get())))
    }
}

impl LockEntry {
    /// What to ask for: the reference, or the digest where there is nothing else.
    pub fn subject(&self) -> String {
        self.reference.clone().or_else(|| self.digest.map(|digest| digest.to_string())).unwrap_or_default()
    }
}

impl Lockfile {
    /// Reads a lock file. The whole file is checked before any of it is believed.
    ///
    /// # Errors
    /// [`LockError`] with every problem found, each with its place: too large, not UTF-8, no JSON, nested too deeply, duplicate
    /// keys, a schema nobody knows, entries that name nothing, name it wrongly, or contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        read::parse(bytes)
    }

    /// The text of the file: pretty JSON with a line end, the same for the same entries.
    ///
    /// # Errors
    /// None that a lock file made by this type can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            schema_version: u64,
            components: &'a [LockEntry],
            #[serde(flatten)]
            extra: &'a Extra,
        }
        let document = Document { schema_version: LOCK_SCHEMA_VERSION, components: &self.entries, extra: &self.extra };
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        Ok(text)
    }
}
