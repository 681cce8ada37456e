//! `index.json`: which reference has which digest, for readers of every version, and what else is known.
//!
//! It is a summary of the records. One that is torn or lost is written anew from them; nothing is believed for its sake alone,
//! since the bytes of a copy are held against a digest before they are used.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use greentic_dist_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk;
use super::record::CopyRecord;

/// Largest index that is read, in bytes: some ten thousand references.
const INDEX_BYTES: u64 = 16 << 20;

/// The index of a cache. What other versions wrote into it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    refs: BTreeMap<String, Value>,
    #[serde(default)]
    entries: BTreeMap<String, Value>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// How the index was found.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// There is none.
    Missing,
    /// It is whole.
    Whole(Index),
    /// It cannot be understood, for this reason.
    Torn(String),
}

impl Index {
    pub(super) fn load(path: &Path) -> Found {
        match disk::read(path, INDEX_BYTES) {
            Ok(None) => Found::Missing,
            Ok(Some(bytes)) => match Self::parse(&bytes) {
                Ok(index) => Found::Whole(index),
                Err(error) => Found::Torn(error.to_string()),
            },
            Err(error) => Found::Torn(error.to_string()),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// The digest of a reference, when it is one.
    pub(super) fn digest(&self, reference: &str) -> Option<Digest> {
        self.refs.get(reference)?.as_str()?.parse().ok()
    }

    /// What is known of a reference.
    pub(super) fn entry(&self, reference: &str) -> Option<CopyRecord> {
        CopyRecord::parse(self.entries.get(reference)?.to_string().as_bytes(), reference)
    }

    /// Every digest that is named, by whichever version of this client.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        let facts = self.entries.values().filter_map(|entry| entry.get("digest"));
        self.refs.values().chain(facts).filter_map(|digest| digest.as_str()?.parse().ok())
    }

    /// Whether anything is said to be known of a reference, readable or not.
    pub(super) fn has_entry(&self, reference: &str) -> bool {
        self.entries.contains_key(reference)
    }

    pub(super) fn put(&mut self, record: &CopyRecord) {
        self.refs.insert(record.reference.clone(), Value::String(record.digest.to_string()));
        // A record is an object of texts and numbers: it always is a value.
        if let Ok(facts) = serde_json::to_value(record.facts()) {
            self.entries.insert(record.reference.clone(), facts);
        }
    }

    /// Sorted and indented, with a line break at the end.
    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(text: &str) -> Found {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.json");
        std::fs::write(&path, text).unwrap();
        Index::load(&path)
    }

    #[test]
    fn an_index_of_an_earlier_version_is_read_and_what_is_no_digest_names_nothing() {
        let digest = Digest::sha256(b"x");
        let text = format!(
            r#"{{"refs":{{"oci://a":"{digest}","oci://b":"sha256:../../x","oci://c":"sha256:abc123","oci://d":7}},"more":1}}"#
        );
        let Found::Whole(mut index) = load(&text) else { panic!("{text}") };
        assert_eq!(index.digest("oci://a"), Some(digest));
        for none in ["oci://b", "oci://c", "oci://d", "oci://e"] {
            assert_eq!(index.digest(none), None, "{none}");
        }
        // What others wrote stays.
        index.put(&CopyRecord::of_file("oci://e", b"[]", 5));
        let Found::Whole(again) = load(std::str::from_utf8(&index.to_bytes().unwrap()).unwrap()) else { panic!() };
        assert_eq!(again, index);
        assert_eq!((again.extra["more"].as_u64(), again.refs.len()), (Some(1), 5));
        assert_eq!(again.entry("oci://e").unwrap().fetched_at, 5);
    }

    #[test]
    fn what_is_no_index_is_torn() {
        for text in ["", "{", "[]", "null", r#"{"refs":[]}"#, r#"{"refs":{"a":"#, "\0\0\0"] {
            assert!(matches!(load(text), Found::Torn(_)), "{text:?}");
        }
        assert_eq!(Index::load(Path::new("/nonexistent/index.json")), Found::Missing);
    }

    proptest! {
        #[test]
        fn any_index_is_read_or_torn_and_takes_a_reference_without_losing_what_others_wrote(
            key in "(oci|repo)://[a-z/:@]{0,8}", digest in prop_oneof![any::<[u8; 4]>().prop_map(|bytes| Digest::sha256(&bytes).to_string()), "\\PC{0,80}"],
            entry in "[\\[\\]{}\",:0-9a-z]{0,30}", extra in "[a-z]{1,6}"
        ) {
            let entry: Value = serde_json::from_str(&entry).unwrap_or(Value::String(entry));
            let document = serde_json::json!({ "refs": { &key: &digest }, "entries": { &key: &entry }, format!("x-{extra}"): &entry });
            let mut index = Index::parse(document.to_string().as_bytes()).unwrap();
            prop_assert_eq!(index.digest(&key).map(|digest| digest.to_string()), digest.parse::<Digest>().ok().map(|_| digest));
            prop_assert!(index.entry(&key).is_none_or(|record| record.reference == key));
            index.put(&CopyRecord::of_file("oci://ours", b"[]", 1));
            let again = Index::parse(&index.to_bytes().unwrap()).unwrap();
            prop_assert_eq!(&again, &index);
            prop_assert_eq!(&again.extra[&format!("x-{extra}")], &entry);
            prop_assert_eq!(&again.entries[&key], &entry);
            prop_assert_eq!(again.digest("oci://ours"), Some(Digest::sha256(b"[]")));
        }

        #[test]
        fn reading_an_index_is_total(text in "[\\[\\]{}\",:refsnti0-9 \n]{0,60}") {
            drop(Index::parse(text.as_bytes()));
        }

        #[test]
        fn what_was_put_in_is_read_again_with_sorted_keys(
            references in proptest::collection::btree_map("\\PC{1,40}", any::<Vec<u8>>(), 0..8)
        ) {
            let mut index = Index::default();
            for (reference, bytes) in &references {
                index.put(&CopyRecord::of_file(reference, bytes, 1));
            }
            let bytes = index.to_bytes().unwrap();
            let again: Index = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&again, &index);
            for (reference, bytes) in &references {
                prop_assert_eq!(again.digest(reference), Some(Digest::sha256(bytes)));
                prop_assert_eq!(again.entry(reference), Some(CopyRecord::of_file(reference, bytes, 1)));
            }
            prop_assert!(again.refs.keys().is_sorted());
        }
    }
}
