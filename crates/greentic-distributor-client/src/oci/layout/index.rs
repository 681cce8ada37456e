//! `index.json`: what a layout holds, by name. Entries this client does not know are written back as they were.

use std::path::Path;

use greentic_dist_types::media_type::OCI_INDEX;
use greentic_dist_types::{Descriptor, Digest, ManifestKind, SafeText, parse_manifest};
use serde_json::{Map, Value, json};

use crate::oci::{LayoutError, LayoutProblem};

/// The annotation that names an entry (image-spec, "image-layout").
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Most characters of names shown in an error.
const NAMES_CHARS: usize = 300;

/// The entries of a layout's index, understood and as they are.
#[derive(Clone, Debug)]
pub(super) struct IndexDocument {
    document: Map<String, Value>,
    entries: Vec<Value>,
    parsed: Vec<Descriptor>,
}

impl IndexDocument {
    pub(super) fn empty() -> Self {
        let document = [("schemaVersion", json!(2)), ("mediaType", json!(OCI_INDEX))];
        Self {
            document: document.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            entries: Vec::new(),
            parsed: Vec::new(),
        }
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, LayoutError> {
        let fail = |why: &str| LayoutError::new(path, LayoutProblem::NotALayout(SafeText::new(why)));
        let index = match parse_manifest(bytes, None) {
            Ok(ManifestKind::Index(index)) => index,
            Ok(ManifestKind::Image(_)) => return Err(fail("its `index.json` is no image index")),
            Err(error) => return Err(fail(&format!("its `index.json`: {error}"))),
        };
        let Ok(Value::Object(mut document)) = serde_json::from_slice(bytes) else {
            return Err(fail("its `index.json` is no object"));
        };
        let entries = match document.remove("manifests") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        Ok(Self { document, entries, parsed: index.manifests })
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
        let mut images: Vec<&Descriptor> = Vec::new();
        for entry in self.parsed.iter().filter(|entry| !is_attached(name_of(entry))) {
            if images.iter().all(|image| image.digest != entry.digest) {
                images.push(entry);
            }
        }
        if images.len() > 1 {
            images.retain(|image| name_of(image).is_some() || !refers(image));
        }
        match images.as_slice() {
            &[only] => Ok(only),
            [] => Err(self.not_named(path, "any image")),
            _ => Err(LayoutError::new(path, LayoutProblem::Several { names: self.names() })),
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Descriptor> {
        self.parsed.iter().rfind(|entry| name_of(entry) == Some(name))
    }

    pub(super) fn find(&self, digest: Digest) -> Option<&Descriptor> {
        self.parsed.iter().find(|entry| entry.digest == digest)
    }

    pub(super) fn entries(&self) -> &[Descriptor] {
        &self.parsed
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

    /// Adds a manifest, under a name where there is one. Whatever had the name loses it; an entry that is there stays as
    /// it is.
    pub(super) fn add(&mut self, manifest: &Descriptor, name: Option<&str>) {
        let keeps = |entry: &Descriptor| name.is_none() || name_of(entry) != name || entry.digest == manifest.digest;
        let kept: Vec<bool> = self.parsed.iter().map(keeps).collect();
        let mut kept_too = kept.iter().copied();
        self.entries.retain(|_| kept_too.next().unwrap_or(true));
        let mut kept = kept.into_iter();
        self.parsed.retain(|_| kept.next().unwrap_or(true));
        let there = self
            .parsed
            .iter()
            .any(|entry| entry.digest == manifest.digest && (name.is_none() || name_of(entry) == name));
        if there {
            return;
        }
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
        self.entries.push(entry);
        self.parsed.push(parsed);
    }

    /// The document: keys sorted, entries in their order.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut document = self.document.clone();
        document.insert("manifests".to_owned(), Value::Array(self.entries.clone()));
        Value::Object(document).to_string().into_bytes()
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
        index.add(&entry(b"1"), Some("one"));
        index.add(&entry(b"2"), Some("one"));
        index.add(&entry(b"2"), None);
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
    fn without_a_name_the_only_image_is_meant_signatures_and_referrers_aside() {
        let only = |index: &IndexDocument| {
            let refers = |entry: &Descriptor| entry.digest == Digest::sha256(b"referrer");
            index.only(path(), refers).map(|entry| entry.digest)
        };
        let mut index = IndexDocument::empty();
        assert!(matches!(only(&index).unwrap_err().problem(), LayoutProblem::NotNamed { .. }));
        index.add(&entry(b"1"), Some("1.0"));
        index.add(&entry(b"sig"), Some(&format!("sha256-{}.sig", Digest::sha256(b"1").to_hex())));
        index.add(&entry(b"referrer"), None);
        assert_eq!(only(&index).unwrap(), Digest::sha256(b"1"));
        index.add(&entry(b"1"), Some("latest"));
        assert_eq!(only(&index).unwrap(), Digest::sha256(b"1"));
        index.add(&entry(b"2"), None);
        assert!(matches!(only(&index).unwrap_err().problem(), LayoutProblem::Several { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_an_error_and_any_name_is_found_again(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            name in "\\PC{0,40}",
        ) {
            drop(IndexDocument::parse(path(), &bytes));
            let mut index = IndexDocument::empty();
            index.add(&entry(b"1"), Some(&name));
            let again = IndexDocument::parse(path(), &index.to_bytes()).unwrap();
            prop_assert_eq!(again.named(&name).map(|found| found.digest), Some(Digest::sha256(b"1")));
        }
    }
}
