//! The documents of an artifact that is made of a file: its config and its manifest, always the same for the same input.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use greentic_dist_types::limits::ANNOTATION_BYTES;
use greentic_dist_types::{Algorithm, Descriptor, Digest, SafeText, Verifier, media_type, parse_manifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::created;
use super::graph::ProvenManifest;
use super::wasm::{self, Interface, Wasm};
use crate::dist::DistError;
use crate::dist::resolve::file::open_regular;

/// Bytes looked at to tell what a file is.
const HEAD_BYTES: u64 = 512;
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;
/// Largest catalog in bytes: readers take it whole.
const CATALOG_BYTES: u64 = 16 << 20;
/// Longest key of an annotation, in bytes.
const KEY_BYTES: usize = 256;
/// The annotation that says when something was made (image-spec, "annotations").
const CREATED: &str = "org.opencontainers.image.created";

/// What a file is pushed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PushKind {
    /// A WebAssembly component.
    Component,
    /// A WebAssembly core module.
    Module,
    /// A Greentic pack.
    Pack,
    /// A catalog of providers, one JSON document.
    Catalog,
}

/// What is made of a file.
#[derive(Clone, Debug)]
pub(super) struct Artifact {
    pub(super) kind: PushKind,
    pub(super) path: PathBuf,
    pub(super) layer: Descriptor,
    pub(super) config: Bytes,
    pub(super) manifest: ProvenManifest,
}

/// What goes into the documents beside the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) kind: Option<PushKind>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) author: Option<String>,
    pub(super) created: Option<u64>,
}

/// A file, looked at: hashed from the first to the last byte.
struct Looked {
    head: Vec<u8>,
    wasm: Option<Wasm>,
    digest: Digest,
    size_bytes: u64,
}

impl Artifact {
    /// Reads the file and makes the documents. Blocking.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] for a file that is not what it is to be pushed as, or that nothing can be made of, and for
    /// annotations that cannot be used; [`DistError::CacheError`] for a file that cannot be read.
    pub(super) fn of(path: &Path, said: &Said) -> Result<Self, DistError> {
        check_annotations(said)?;
        let looked = look(open_regular(path)?).map_err(|error| DistError::io(path, error))?;
        let kind = kind_of(path, &looked, said.kind)?;
        let layer_type = layer_type(path, kind, &looked)?;
        let layer = Descriptor::new(layer_type, looked.digest, looked.size_bytes);
        let (config_type, config) = match kind {
            PushKind::Component | PushKind::Module => (media_type::WASM_CONFIG, wasm_config(&layer, &looked, said)),
            PushKind::Pack | PushKind::Catalog => (media_type::EMPTY, json!({})),
        };
        // Keys are sorted and nothing is indented: equal input gives equal bytes.
        let config = Bytes::from(config.to_string());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": described(config_type, Digest::sha256(&config), config.len() as u64),
            "layers": [described(&layer.media_type, layer.digest, layer.size_bytes)],
        });
        if config_type == media_type::EMPTY {
            manifest["artifactType"] = json!(layer.media_type);
        }
        let mut annotations = said.annotations.clone();
        if let Some(created) = said.created {
            annotations.insert(CREATED.to_owned(), created::to_text(created));
        }
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        let raw = Bytes::from(manifest.to_string());
        let kind_of_manifest = parse_manifest(&raw, Some(media_type::OCI_MANIFEST))
            .map_err(|error| DistError::InvalidInput(format!("no usable manifest comes of it: {error}")))?;
        let manifest = ProvenManifest {
            digest: Digest::sha256(&raw),
            raw,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            kind: kind_of_manifest,
        };
        Ok(Self { kind, path: path.to_owned(), layer, config, manifest })
    }
}

fn described(media_type: &str, digest: Digest, size_bytes: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size_bytes })
}

fn look(mut file: File) -> io::Result<Looked> {
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
    let wasm = wasm::read(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let mut verifier = Verifier::measuring(Algorithm::Sha256, u64::MAX);
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        verifier.update(buffer.get(..count).unwrap_or_default()).map_err(io::Error::other)?;
    }
    let verified = verifier.finish().map_err(io::Error::other)?;
    Ok(Looked { head, wasm, digest: verified.digest(), size_bytes: verified.size_bytes() })
}

/// What the file is pushed as: what was said, unless it plainly is something else; else what its bytes or its name say.
fn kind_of(path: &Path, looked: &Looked, said: Option<PushKind>) -> Result<PushKind, DistError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let by_content = match looked.wasm {
        Some(Wasm::Component(_)) => Some(PushKind::Component),
        Some(Wasm::Module) => Some(PushKind::Module),
        None if extension == "gtpack" || looked.head.starts_with(b"PK\x03\x04") => Some(PushKind::Pack),
        None => None,
    };
    let shown = SafeText::excerpt(&path.display().to_string(), 200);
    let fail = |why: &str| Err(DistError::InvalidInput(format!("`{shown}` {why}")));
    if looked.size_bytes == 0 {
        return fail("is empty");
    }
    match (said, by_content) {
        (Some(PushKind::Component), Some(PushKind::Module)) => fail(
            "is a core module, not a component: push it as a module, or make a component of it (`wasm-tools component new`)",
        ),
        (Some(PushKind::Module), Some(PushKind::Component)) => fail("is a component, not a core module"),
        (Some(PushKind::Component | PushKind::Module), None) => fail("does not begin as a WebAssembly file"),
        (Some(PushKind::Component | PushKind::Module), Some(PushKind::Pack)) => fail("is a pack, not WebAssembly"),
        (Some(said), _) => Ok(said),
        (None, Some(found)) => Ok(found),
        (None, None) => {
            fail("is neither WebAssembly nor a pack: say what it is pushed as (component, module, pack, catalog)")
        }
    }
}

fn layer_type(path: &Path, kind: PushKind, looked: &Looked) -> Result<String, DistError> {
    let head = looked.head.as_slice();
    Ok(match kind {
        PushKind::Component | PushKind::Module => media_type::WASM.to_owned(),
        PushKind::Catalog => {
            check_catalog(path, looked)?;
            media_type::JSON.to_owned()
        }
        PushKind::Pack if head.starts_with(b"PK\x03\x04") => media_type::GTPACK.to_owned(),
        PushKind::Pack if head.starts_with(&[0x1f, 0x8b]) => format!("{}+gzip", media_type::TAR_LAYER),
        PushKind::Pack if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => format!("{}+zstd", media_type::TAR_LAYER),
        PushKind::Pack if head.get(257..262) == Some(b"ustar") => media_type::TAR_LAYER.to_owned(),
        PushKind::Pack if head.trim_ascii_start().starts_with(b"{") => media_type::PACK_JSON.to_owned(),
        PushKind::Pack => media_type::OCTET_STREAM.to_owned(),
    })
}

/// A catalog is one JSON document, an object or an array: that is what its readers take.
fn check_catalog(path: &Path, looked: &Looked) -> Result<(), DistError> {
    let shown = SafeText::excerpt(&path.display().to_string(), 200);
    if looked.size_bytes > CATALOG_BYTES {
        return Err(DistError::InvalidInput(format!(
            "`{shown}` is larger than the {CATALOG_BYTES} bytes of a catalog"
        )));
    }
    let mut bytes = Vec::new();
    let read = open_regular(path)?.take(CATALOG_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| DistError::io(path, error))?;
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Array(_)) => Ok(()),
        Ok(_) => Err(DistError::InvalidInput(format!("`{shown}` is no catalog: it is neither an object nor an array"))),
        Err(error) => Err(DistError::InvalidInput(format!("`{shown}` is no catalog: {error}"))),
    }
}

/// The config of a Wasm artifact, with every field its readers demand. `created` is one of them: without an instant it is
/// that of the epoch, so that the same file gives the same artifact.
fn wasm_config(layer: &Descriptor, looked: &Looked, said: &Said) -> Value {
    let is_component = matches!(looked.wasm, Some(Wasm::Component(_)));
    let mut config = json!({
        "created": created::to_text(said.created.unwrap_or(0)),
        "architecture": "wasm",
        "os": if is_component { "wasip2" } else { "wasip1" },
        "layerDigests": [layer.digest.to_string()],
    });
    if let Some(author) = &said.author {
        config["author"] = json!(author);
    }
    if let Some(Wasm::Component(Some(Interface { imports, exports }))) = &looked.wasm {
        config["component"] = json!({ "exports": exports, "imports": imports, "target": null });
    }
    config
}

/// Refuses annotations that readers could not use, or that would say two things.
fn check_annotations(said: &Said) -> Result<(), DistError> {
    let fail = |key: &str, why: &str| {
        Err(DistError::InvalidInput(format!("the annotation `{}` {why}", SafeText::excerpt(key, 80))))
    };
    for (key, value) in &said.annotations {
        if key.is_empty() || key.len() > KEY_BYTES || key.chars().any(|ch| ch.is_control() || ch.is_whitespace()) {
            return fail(key, "has no usable key: 1 to 256 bytes without white space");
        }
        if value.chars().any(|ch| ch.is_control() && !matches!(ch, '\n' | '\t')) {
            return fail(key, "has control characters in its value");
        }
        if key == CREATED && said.created.is_some() {
            return fail(key, "is given twice: it is also what the instant of creation sets");
        }
    }
    if said.annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > ANNOTATION_BYTES {
        return Err(DistError::InvalidInput(format!("the annotations have more than {ANNOTATION_BYTES} bytes")));
    }
    match &said.author {
        Some(author) if author.chars().any(char::is_control) => {
            Err(DistError::InvalidInput("the author has control characters in it".to_owned()))
        }
        _ => Ok(()),
    }
}
