//! A second name for the artifact of an entry: the one its publisher gave it.
//!
//! The artifact always lies under its fixed name, which is the one that is proven. The second name is a link to it, so that a
//! publisher's text never decides where bytes go.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::entry::{Entry, open_dir};
use crate::layout::{self, ArtifactFile, Layout, Sidecar};
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "name the artifact";
/// Longest second name, in bytes.
const NAME_BYTES: usize = 128;
/// Names that Windows gives to devices, whatever stands behind their first dot.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The name of a file in the directory of an entry that no file of the cache has.
///
/// ASCII letters, digits, `.`, `_`, `-` and `+`, at most 128 of them, neither hidden nor the name of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecondName(String);

impl SecondName {
    /// Checks a name.
    ///
    /// # Errors
    /// Why it cannot be the name of an artifact, in a few words.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+');
        if name.is_empty() {
            return Err("it is empty");
        }
        if name.len() > NAME_BYTES {
            return Err("it is longer than 128 bytes");
        }
        if !name.bytes().all(is_allowed) {
            return Err("only ASCII letters, digits, `.`, `_`, `-` and `+` are allowed");
        }
        if name.starts_with(['.', '-']) || name.ends_with('.') {
            return Err("it begins with a dot or a hyphen, or ends with a dot");
        }
        let lower = name.to_ascii_lowercase();
        let stem = lower.split('.').next().unwrap_or_default();
        let numbered = |device: &str| {
            stem.strip_prefix(device)
                .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if DEVICES.contains(&stem) || numbered("com") || numbered("lpt") {
            return Err("it is the name of a device");
        }
        if own_names().any(|own| own.eq_ignore_ascii_case(&lower)) {
            return Err("it is a name of the cache's own files");
        }
        // Programs put files of their own beside an artifact and name them after it.
        let is_beside =
            |artifact: ArtifactFile| lower.strip_prefix(artifact.name()).is_some_and(|rest| rest.starts_with('.'));
        if ArtifactFile::ALL.into_iter().any(is_beside) {
            return Err("it is a name for a file beside the artifact");
        }
        Ok(Self(name.to_owned()))
    }

    /// `component.manifest.json`, for an artifact that is the component manifest itself. What the entry has under that name is
    /// then a copy of it.
    pub fn component_manifest() -> Self {
        Self(Sidecar::ComponentManifest.name().to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecondName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the cache itself has in the directories of entries.
fn own_names() -> impl Iterator<Item = &'static str> {
    let artifacts = ArtifactFile::ALL.into_iter().map(ArtifactFile::name);
    let sidecars = Sidecar::ALL.into_iter().map(Sidecar::name);
    artifacts.chain(sidecars).chain([layout::RECORD, layout::MANIFEST, layout::STAMP, layout::LAST_USED])
}

impl Store {
    /// Makes `name` a second name of the entry's artifact, and returns its path: a relative link, which moves with the cache.
    ///
    /// What has the name already makes way, unless it is that link. Goes with the entry. Not synced: a power cut may lose it.
    ///
    /// # Errors
    /// `Missing` when the entry is gone, or lies in an older layout, which is not written to; otherwise as any write.
    pub fn name_artifact(&self, entry: &Entry, name: &SecondName) -> Result<PathBuf, StoreError> {
        link_artifact(entry, name.as_str())
    }

    /// The artifact of an entry under the name that this store has for artifacts: a link, where a store of another kind that
    /// shares the directory made the entry.
    ///
    /// # Errors
    /// As [`Store::name_artifact`].
    pub fn own_name(&self, entry: &Entry) -> Result<PathBuf, StoreError> {
        let own = self.paths().artifact().name();
        if entry.layout == Layout::Sharded || entry.file_name() == own {
            return Ok(entry.path.clone());
        }
        link_artifact(entry, own)
    }
}

fn link_artifact(entry: &Entry, name: &str) -> Result<PathBuf, StoreError> {
    let missing = || StoreError::new(StoreErrorKind::Missing, OP, &entry.dir).with_digest(&entry.pin);
    if entry.layout == Layout::Sharded {
        return Err(missing());
    }
    let dir = open_dir(&entry.dir, &entry.pin)?.ok_or_else(missing)?;
    let path = dir.path().join(name);
    let blob = entry.file_name();
    let at = |error: io::Error| StoreError::io(OP, &path, error).with_digest(&entry.pin);
    if dir.is_link_to(name, blob) {
        return Ok(path);
    }
    let temp = format!(".{}", layout::random_name());
    dir.link(blob, &temp).map_err(at)?;
    if let Err(error) = dir.rename(&temp, name) {
        dir.unlink(&temp);
        return Err(at(error));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_that_is_accepted_is_one_plain_part_of_a_path(name in "\\PC{0,12}|[A-Za-z0-9._+/\\\\:-]{0,12}") {
            if let Ok(accepted) = SecondName::parse(&name) {
                let parts: Vec<_> = Path::new(accepted.as_str()).components().collect();
                prop_assert_eq!(parts, [Component::Normal(name.as_ref())]);
                prop_assert!(!own_names().any(|own| own.eq_ignore_ascii_case(&name)));
            }
        }
    }

    #[test]
    fn names_of_files_are_accepted_as_they_are() {
        let longest = "a".repeat(NAME_BYTES);
        for name in [
            "hello.wasm",
            "component_templates.wasm",
            "Hello-1.2.3+4.wasm",
            "a",
            "con1.wasm",
            "common.wasm",
            "verified.wasm",
            &longest,
        ] {
            assert_eq!(SecondName::parse(name).map(|name| name.to_string()), Ok(name.to_owned()), "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_taken_are_refused() {
        let too_long = "a".repeat(300);
        let refused = [
            "",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "a/b.wasm",
            "a\\b.wasm",
            "C:",
            "C:x.wasm",
            "x.wasm.",
            ".hidden",
            "-rf",
            "a b.wasm",
            "a\0b",
            "a\nb",
            "ä.wasm",
            "x\u{202e}msaw.x",
            "~",
            "*",
            "con",
            "CON.wasm",
            "aux.x.wasm",
            "com1.wasm",
            "LPT9",
            "entry.json",
            "ENTRY.JSON",
            "metadata.json",
            "manifest.json",
            "component.manifest.json",
            "verified",
            "last_used",
            "pack.gtpack",
            "blob.bin",
            "component.wasm",
            "Component.WASM",
            "component.wasm.describe.cbor",
            &too_long,
        ];
        for name in refused {
            assert!(SecondName::parse(name).is_err(), "{name:?}");
        }
    }
}
