//! `index.json`: what a layout holds, by name. Entries this client does not know are written back as they were.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::OnceLock;

use greentic_dist_types::limits::{LAYOUT_INDEX_BYTES, LAYOUT_INDEX_ENTRIES};
use greentic_dist_types::media_type::OCI_INDEX;
use greentic_dist_types::{Descriptor, Digest, SafeText, parse_layout_index};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::oci::graph::Named;
use crate::oci::{LayoutError, LayoutProblem};

/// The annotation that names an entry (image-spec, "image-layout").
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Most characters of names shown in an error.
const NAMES_CHARS: usize = 300;
/// The field of the entries.
const MANIFESTS: &str = "manifests";
/// Most manifests that are read to find out which one is the only image.
const LOOKED_AT: usize = 10_000;

/// The entries of a layout's index, understood and as they are.
#[derive(Clone, Debug)]
pub(super) struct IndexDocument {
    /// Every field but the entries, as it was written.
    document: BTreeMap<String, String>,
    /// The entries as they were written.
    entries: Vec<String>,
    parsed: Vec<Descriptor>,
    lookup: OnceLock<Lookup>,
}

/// Where the entries of a name or digest stand.
#[derive(Clone, Debug, Default)]
struct Lookup {
    /// The last one that has the name.
    names: HashMap<String, usize>,
    /// The first one of the digest.
    digests: HashMap<Digest, usize>,
}

impl IndexDocument {
    pub(super) fn empty() -> Self {
        let document = [("schemaVersion", json!(2)), ("mediaType", json!(OCI_INDEX))];
        Self {
            document: document.into_iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect(),
            entries: Vec::new(),
            parsed: Vec::new(),
            lookup: OnceLock::new(),
        }
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LayoutError> {
        let fail = |why: &dyn std::fmt::Display| {
            let why = SafeText::new(&format!("its `index.json`: {why}"));
            LayoutError::new(path, LayoutProblem::NotALayout(why))
        };
        let index = parse_layout_index(bytes).map_err(|error| fail(&error))?;
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(|error| fail(&error))?;
        let entries: Vec<&RawValue> = match fields.remove(MANIFESTS) {
            Some(entries) => serde_json::from_str(entries.get()).map_err(|error| fail(&error))?,
            None => Vec::new(),
        };
        Ok(Self {
            document: fields.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect(),
            entries: entries.into_iter().map(|entry| entry.get().to_owned()).collect(),
            parsed: index.manifests,
            lookup: OnceLock::new(),
        })
    }

    /// The entry with a name.
    pub(super) fn resolve(&self, path: &Path, name: &str) -> Result<&Descriptor, LayoutError> {
        self.named(name).ok_or_else(|| self.not_named(path, name))
    }

    /// The only image of the layout. Entries that carry another's digest in their name (signatures) are none, nor are those
    /// that `refers` knows to refer to another entry.
    pub(super) fn only(
        &self,
        path: &Path,
        mut refers: impl FnMut(&Descriptor) -> bool,
    ) -> Result<&Descriptor, LayoutError> {
        let mut seen: HashSet<Digest> = HashSet::new();
        let (mut images, unnamed): (Vec<&Descriptor>, Vec<&Descriptor>) = self
            .parsed
            .iter()
            .filter(|entry| !is_attached(name_of(entry)) && seen.insert(entry.digest))
            .partition(|entry| name_of(entry).is_some());
        let is_several = images.len() + unnamed.len() > 1;
        for (looked_at, image) in unnamed.into_iter().enumerate() {
            if images.len() > 1 {
                break;
            }
            if !is_several || looked_at >= LOOKED_AT || !refers(image) {
                images.push(image);
            }
        }
        match images.as_slice() {
            &[only] => Ok(only),
            [] => Err(self.not_named(path, "any image")),
            _ => Err(LayoutError::new(path, LayoutProblem::Several { names: self.names() })),
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Descriptor> {
        self.parsed.get(*self.lookup().names.get(name)?)
    }

    pub(super) fn find(&self, digest: Digest) -> Option<&Descriptor> {
        self.parsed.get(*self.lookup().digests.get(&digest)?)
    }

    fn lookup(&self) -> &Lookup {
        self.lookup.get_or_init(|| {
            let mut lookup = Lookup::default();
            for (position, entry) in self.parsed.iter().enumerate() {
                lookup.digests.entry(entry.digest).or_insert(position);
                if let Some(name) = name_of(entry) {
                    lookup.names.insert(name.to_owned(), position);
                }
            }
            lookup
        })
    }

    pub(super) fn entries(&self) -> &[Descriptor] {
        &self.parsed
    }

    /// The names, each once, in the order of the entries.
    pub(super) fn all_names(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.parsed.iter().filter_map(name_of).filter(|name| seen.insert(*name)).collect()
    }

    /// Takes a name away. The manifest stays: an entry that is the only one of its manifest loses its name alone.
    pub(super) fn unname(&mut self, path: &Path, name: &str) -> Result<(), LayoutError> {
        if self.named(name).is_none() {
            return Err(self.not_named(path, name));
        }
        let digests: HashSet<Digest> =
            self.parsed.iter().filter(|entry| name_of(entry) != Some(name)).map(|entry| entry.digest).collect();
        // A manifest that has the name twice keeps one entry.
        let mut seen = HashSet::new();
        let keeps: Vec<bool> = self
            .parsed
            .iter()
            .map(|entry| {
                name_of(entry) != Some(name) || (!digests.contains(&entry.digest) && seen.insert(entry.digest))
            })
            .collect();
        self.retain_those(&keeps);
        for (raw, entry) in self.entries.iter_mut().zip(&mut self.parsed) {
            if name_of(entry) != Some(name) {
                continue;
            }
            let mut unnamed: Value = serde_json::from_str(raw).map_err(|error| LayoutError::io(path, error.into()))?;
            if let Some(annotations) = unnamed.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(REF_NAME);
            }
            entry.annotations.remove(REF_NAME);
            *raw = unnamed.to_string();
        }
        Ok(())
    }

    /// Takes every entry of a manifest away.
    pub(super) fn forget(&mut self, path: &Path, digest: Digest) -> Result<(), LayoutError> {
        if self.find(digest).is_none() {
            return Err(self.not_named(path, &digest.to_string()));
        }
        self.retain(|entry| entry.digest != digest);
        Ok(())
    }

    fn retain(&mut self, keeps: impl Fn(&Descriptor) -> bool) {
        let keeps: Vec<bool> = self.parsed.iter().map(keeps).collect();
        self.retain_those(&keeps);
    }

    fn retain_those(&mut self, keeps: &[bool]) {
        self.lookup = OnceLock::new();
        let mut kept = keeps.iter();
        self.entries.retain(|_| kept.next().is_none_or(|keep| *keep));
        let mut kept = keeps.iter();
        self.parsed.retain(|_| kept.next().is_none_or(|keep| *keep));
    }

    fn not_named(&self, path: &Path, wanted: &str) -> LayoutError {
        LayoutError::new(path, LayoutProblem::NotNamed { wanted: SafeText::excerpt(wanted, 160), names: self.names() })
    }

    fn names(&self) -> SafeText {
        let names: Vec<&str> = self.parsed.iter().filter_map(name_of).collect();
        match names.as_slice() {
            [] => SafeText::new(&format!("{} entries without a name", self.parsed.len())),
            names => SafeText::excerpt(&names.join(", "), NAMES_CHARS),
        }
    }

    /// Adds manifests, under a name where they have one. Whatever had the name loses it; an entry that is there stays as it
    /// is. Of two manifests with one name the last has it.
    pub(super) fn add(&mut self, manifests: &[Named]) {
        let named = manifests.iter().filter_map(|one| Some((one.name.as_deref()?, one.descriptor.digest)));
        let owners: HashMap<&str, Digest> = named.collect();
        let loses = |name: Option<&str>, digest: Digest| {
            name.and_then(|name| owners.get(name)).is_some_and(|owner| *owner != digest)
        };
        self.retain(|entry| !loses(name_of(entry), entry.digest));
        let mut there: HashSet<Digest> = self.parsed.iter().map(|entry| entry.digest).collect();
        let of_owners = |entry: &&Descriptor| name_of(entry).is_some_and(|name| owners.contains_key(name));
        let mut named: HashSet<String> =
            self.parsed.iter().filter(of_owners).filter_map(name_of).map(ToOwned::to_owned).collect();
        for Named { descriptor, name } in manifests {
            let name = name.as_deref();
            let is_there = name.map_or(there.contains(&descriptor.digest), |name| named.contains(name));
            if !is_there && !loses(name, descriptor.digest) {
                self.push(descriptor, name);
                there.insert(descriptor.digest);
                named.extend(name.map(ToOwned::to_owned));
            }
        }
    }

    fn push(&mut self, manifest: &Descriptor, name: Option<&str>) {
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest.to_string(),
            "size": manifest.size_bytes,
        });
        if let Some(artifact_type) = &manifest.artifact_type {
            entry["artifactType"] = json!(artifact_type);
        }
        let mut parsed = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size_bytes);
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name });
            parsed.annotations.insert(REF_NAME.to_owned(), name.to_owned());
        }
        self.entries.push(entry.to_string());
        self.parsed.push(parsed);
    }

    /// The document: keys sorted, entries in their order.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let entries = format!("[{}]", self.entries.join(","));
        let mut fields: Vec<(&str, &str)> = vec![(MANIFESTS, &entries)];
        fields.extend(self.document.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        fields.sort_unstable();
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}:{value}", Value::from(*key))).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    }

    /// The document as it is written.
    ///
    /// # Errors
    /// [`LayoutProblem::Full`] for one that nobody would read again.
    pub(super) fn written(&self, path: &Path) -> Result<Vec<u8>, LayoutError> {
        let full = |what, limit| Err(LayoutError::new(path, LayoutProblem::Full { what, limit }));
        if self.entries.len() > LAYOUT_INDEX_ENTRIES {
            return full("entries in its `index.json`", LAYOUT_INDEX_ENTRIES as u64);
        }
        let bytes = self.to_bytes();
        if bytes.len() as u64 > LAYOUT_INDEX_BYTES {
            return full("bytes in its `index.json`", LAYOUT_INDEX_BYTES);
        }
        Ok(bytes)
    }
}

/// The name of an entry.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

/// Whether a name is one that cosign and its peers derive from another manifest's digest, or the referrers tag of one.
fn is_attached(name: Option<&str>) -> bool {
    let Some(rest) = name.and_then(|name| name.strip_prefix("sha256-")) else { return false };
    let hex = rest.split('.').next().unwrap_or_default();
    Digest::from_hex(hex).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(content: &[u8]) -> Descriptor {
        Descriptor::new(OCI_INDEX, Digest::sha256(content), content.len() as u64)
    }

    fn add(index: &mut IndexDocument, content: &[u8], name: Option<&str>) {
        index.add(&[Named { descriptor: entry(content), name: name.map(ToOwned::to_owned) }]);
    }

    fn path() -> &'static Path {
        Path::new("layout")
    }

    #[test]
    fn a_name_moves_and_what_others_wrote_stays() {
        let foreign = format!(
            r#"{{"schemaVersion":2,"annotations":{{"a":"b"}},"manifests":[{{"mediaType":"{OCI_INDEX}","digest":"{}","size":1,"x-new":[1],"annotations":{{"{REF_NAME}":"old"}}}}]}}"#,
            Digest::sha256(b"o")
        );
        let mut index = IndexDocument::parse(path(), foreign.as_bytes()).unwrap();
        add(&mut index, b"1", Some("one"));
        add(&mut index, b"2", Some("one"));
        add(&mut index, b"2", None);
        let bytes = index.to_bytes();
        let again = IndexDocument::parse(path(), &bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(r#""x-new":[1]"#) && text.contains(r#""annotations":{"a":"b"}"#), "{text}");
        assert_eq!(again.entries().len(), 2);
        assert_eq!(again.resolve(path(), "one").unwrap().digest, Digest::sha256(b"2"));
        assert_eq!(again.resolve(path(), "old").unwrap().digest, Digest::sha256(b"o"));
        let several = again.only(path(), |_| false).unwrap_err();
        assert!(matches!(several.problem(), LayoutProblem::Several { .. }), "{several}");
        assert!(several.to_string().contains("old, one"), "{several}");
    }

    #[test]
    fn a_name_that_is_taken_away_leaves_its_manifest_and_a_manifest_takes_its_names_along() {
        let mut index = IndexDocument::empty();
        for name in ["a", "b"] {
            add(&mut index, b"1", Some(name));
        }
        add(&mut index, b"2", Some("c"));
        assert_eq!(index.all_names(), ["a", "b", "c"]);
        index.unname(path(), "a").unwrap();
        index.unname(path(), "c").unwrap();
        let mut again = IndexDocument::parse(path(), &index.to_bytes()).unwrap();
        assert_eq!(again.entries(), index.entries());
        assert_eq!((again.all_names(), again.entries().len()), (vec!["b"], 2), "the last entry of a manifest stays");
        assert!(matches!(again.unname(path(), "a").unwrap_err().problem(), LayoutProblem::NotNamed { .. }));
        again.forget(path(), Digest::sha256(b"1")).unwrap();
        assert_eq!(again.entries().iter().map(|entry| entry.digest).collect::<Vec<_>>(), [Digest::sha256(b"2")]);
        assert!(again.forget(path(), Digest::sha256(b"1")).is_err());
    }

    #[test]
    fn without_a_name_the_only_image_is_meant_signatures_and_referrers_aside() {
        let only = |index: &IndexDocument| {
            let refers = |entry: &Descriptor| entry.digest == Digest::sha256(b"referrer");
            index.only(path(), refers).map(|entry| entry.digest)
        };
        let mut index = IndexDocument::empty();
        assert!(matches!(only(&index).unwrap_err().problem(), LayoutProblem::NotNamed { .. }));
        add(&mut index, b"1", Some("1.0"));
        add(&mut index, b"sig", Some(&format!("sha256-{}.sig", Digest::sha256(b"1").to_hex())));
        add(&mut index, b"referrer", None);
        assert_eq!(only(&index).unwrap(), Digest::sha256(b"1"));
        add(&mut index, b"1", Some("latest"));
        assert_eq!(only(&index).unwrap(), Digest::sha256(b"1"));
        add(&mut index, b"2", None);
        assert!(matches!(only(&index).unwrap_err().problem(), LayoutProblem::Several { .. }));
    }

    #[test]
    fn an_index_of_many_entries_is_added_to_at_once() {
        let mut index = IndexDocument::empty();
        let many = |from: u32, to: u32| -> Vec<Named> {
            let one =
                |number: u32| Named { descriptor: entry(&number.to_be_bytes()), name: Some(format!("t{number}")) };
            (from..to).map(one).collect()
        };
        index.add(&many(0, 3_000));
        let moved = Named { descriptor: entry(b"moved"), name: Some("t7".to_owned()) };
        index.add(&[many(7, 8), vec![moved.clone(), Named { name: None, ..moved.clone() }, moved]].concat());
        assert_eq!((index.entries().len(), index.entries.len()), (3_000, 3_000));
        let again = IndexDocument::parse(path(), &index.written(path()).unwrap()).unwrap();
        assert_eq!(again.named("t7").unwrap().digest, Digest::sha256(b"moved"));
        assert_eq!(again.named("t2999").unwrap().digest, Digest::sha256(&2_999_u32.to_be_bytes()));
        assert_eq!(again.find(Digest::sha256(&7_u32.to_be_bytes())), None);
    }

    #[test]
    fn the_only_image_of_a_large_layout_is_looked_for_with_an_end() {
        let mut index = IndexDocument::empty();
        add(&mut index, b"image", Some("1"));
        let unnamed = |number: u32| Named { descriptor: entry(&number.to_be_bytes()), name: None };
        index.add(&(0..20_000).map(unnamed).collect::<Vec<_>>());
        let mut asked = 0;
        let several = index.only(path(), |_| {
            asked += 1;
            true
        });
        assert!(matches!(several.unwrap_err().problem(), LayoutProblem::Several { .. }));
        assert_eq!(asked, LOOKED_AT);
        let mut asked = 0;
        let several = index.only(path(), |_| {
            asked += 1;
            false
        });
        assert!(several.is_err() && asked == 1, "{asked}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_an_error_and_any_name_is_found_again(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            name in "\\PC{0,40}",
        ) {
            drop(IndexDocument::parse(path(), &bytes));
            let mut index = IndexDocument::empty();
            add(&mut index, b"1", Some(&name));
            let again = IndexDocument::parse(path(), &index.to_bytes()).unwrap();
            prop_assert_eq!(again.named(&name).map(|found| found.digest), Some(Digest::sha256(b"1")));
        }
    }
}
