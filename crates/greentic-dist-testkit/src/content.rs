//! Every shape of OCI content that a client has to carry unchanged: an image, indexes, artifacts, odd blobs, large manifests.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greentic_dist_types::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::fixture::{Blob, INDEX_TYPE, MANIFEST_TYPE, WASM_CONFIG_TYPE, WASM_TYPE, random_bytes};

/// Media type of the empty JSON object that stands where an artifact has no config.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// A manifest or index with everything below it, and what refers to it.
#[derive(Clone, Debug)]
pub struct Content {
    /// What a tag names.
    pub root: Blob,
    /// The other manifests: children, and what refers to others.
    pub manifests: Vec<Blob>,
    /// Configs and layers.
    pub blobs: Vec<Blob>,
}

impl Content {
    /// Everything, the root included.
    pub fn all(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.root).chain(&self.manifests).chain(&self.blobs)
    }

    /// Writes an OCI image layout in which `tag` names the root, and the other entries of the index are the manifests that
    /// have a subject.
    pub fn write_layout(&self, dir: &Path, tag: &str) {
        for blob in self.all() {
            let folder = dir.join("blobs").join(blob.digest.algorithm().name());
            fs::create_dir_all(&folder).expect("create the layout");
            fs::write(folder.join(blob.digest.to_hex()), &blob.bytes).expect("write a blob of the layout");
        }
        let mut top = self.root.descriptor();
        top["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let refers = |blob: &&Blob| {
            serde_json::from_slice::<Value>(&blob.bytes).is_ok_and(|manifest| manifest.get("subject").is_some())
        };
        let mut entries = vec![top];
        entries.extend(self.manifests.iter().filter(refers).map(Blob::descriptor));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries });
        fs::write(dir.join("index.json"), index.to_string()).expect("write index.json");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write oci-layout");
    }
}

/// A blob under its SHA-512.
pub fn sha512_blob(media_type: &str, bytes: impl Into<Vec<u8>>) -> Blob {
    named_by(Algorithm::Sha512, media_type, bytes)
}

fn named_by(algorithm: Algorithm, media_type: &str, bytes: impl Into<Vec<u8>>) -> Blob {
    let bytes = bytes.into();
    Blob { media_type: media_type.to_owned(), digest: Digest::of(algorithm, &bytes), bytes }
}

/// Every kind, by its name.
pub fn kinds() -> [(&'static str, Content); 17] {
    [
        ("image", image()),
        ("index", index()),
        ("nested index", nested_index()),
        ("artifact", artifact()),
        ("artifact manifest", artifact_manifest()),
        ("artifact list", artifact_list()),
        ("subject", with_subject()),
        ("subject list", subject_list()),
        ("missing subject", missing_subject()),
        ("no layers", no_layers()),
        ("empty blob", empty_blob()),
        ("inline data", inline_data()),
        ("non-distributable layer", non_distributable()),
        ("custom fields", custom_fields()),
        ("sha512", sha512()),
        ("sha384", sha384()),
        ("4 MiB manifest", large_manifest()),
    ]
}

fn config() -> Blob {
    Blob::new(
        WASM_CONFIG_TYPE,
        r#"{"architecture":"wasm","created":"2026-01-01T00:00:00Z","layerDigests":[],"os":"wasip2"}"#,
    )
}

fn manifest(config: &Value, layers: &[Value], extra: &Value) -> Blob {
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers });
    for (key, value) in extra.as_object().into_iter().flatten() {
        manifest[key] = value.clone();
    }
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

fn image_of(layers: Vec<Blob>, extra: &Value) -> Content {
    let config = config();
    let descriptors: Vec<Value> = layers.iter().map(Blob::descriptor).collect();
    let root = manifest(&config.descriptor(), &descriptors, extra);
    Content { root, manifests: Vec::new(), blobs: [vec![config], layers].concat() }
}

fn index_over(children: Vec<(Content, Option<(&str, &str)>)>) -> Content {
    let entries: Vec<_> = children.iter().map(|(child, platform)| (child.root.descriptor(), *platform)).collect();
    let mut index = Content { root: crate::fixture::index(&entries), manifests: Vec::new(), blobs: Vec::new() };
    for (child, _) in children {
        index.manifests.push(child.root);
        index.manifests.extend(child.manifests);
        index.blobs.extend(child.blobs);
    }
    index
}

/// An image of three layers, one of them twice.
pub fn image() -> Content {
    let layers = [Blob::new(WASM_TYPE, random_bytes(1, 70_000)), Blob::new("application/json", "{\"b\":1}")];
    image_of(
        vec![layers[0].clone(), layers[1].clone(), layers[0].clone()],
        &json!({ "annotations": { "b": "2", "a": "1" } }),
    )
}

/// An index over two platforms.
pub fn index() -> Content {
    let child = |seed| image_of(vec![Blob::new(WASM_TYPE, random_bytes(seed, 9_000))], &Value::Null);
    index_over(vec![(child(2), Some(("linux", "amd64"))), (child(3), Some(("wasip2", "wasm")))])
}

/// An index over one image for each variant of an architecture, all for `linux`.
pub fn variants(platforms: &[(&str, &str)]) -> Content {
    let child = |variant: &str| image_of(vec![Blob::new(WASM_TYPE, variant)], &Value::Null);
    let children = platforms
        .iter()
        .map(|(architecture, variant)| (child(&format!("{architecture}{variant}")), Some(("linux", *architecture))));
    let mut content = index_over(children.collect());
    let mut index: Value = serde_json::from_slice(&content.root.bytes).expect("an index");
    for (entry, (_, variant)) in index["manifests"].as_array_mut().into_iter().flatten().zip(platforms) {
        entry["platform"]["variant"] = json!(variant);
    }
    content.root = Blob::new(INDEX_TYPE, index.to_string());
    content
}

/// An index over an index and an image.
pub fn nested_index() -> Content {
    let image = image_of(vec![Blob::new(WASM_TYPE, random_bytes(4, 5_000))], &Value::Null);
    index_over(vec![(index(), None), (image, Some(("wasip1", "wasm")))])
}

/// An artifact by its `artifactType`, with the empty config.
pub fn artifact() -> Content {
    let (empty, layer) = (Blob::new(EMPTY_TYPE, "{}"), Blob::new("text/plain", "notes"));
    let extra = json!({ "artifactType": "application/vnd.example.notes" });
    let root = manifest(&empty.descriptor(), &[layer.descriptor()], &extra);
    Content { root, manifests: Vec::new(), blobs: vec![empty, layer] }
}

/// A component in an artifact manifest of the withdrawn type, with a note beside it.
pub fn artifact_manifest() -> Content {
    let blobs = vec![Blob::new(WASM_TYPE, random_bytes(10, 3_000)), Blob::new("text/plain", "notes")];
    let root = crate::fixture::artifact_manifest("application/vnd.example.component", &blobs, None);
    Content { root, manifests: Vec::new(), blobs }
}

/// An image, and an artifact that refers to it.
pub fn with_subject() -> Content {
    let mut content = image_of(vec![Blob::new(WASM_TYPE, random_bytes(5, 3_000))], &Value::Null);
    let (empty, layer) = (Blob::new(EMPTY_TYPE, "{}"), Blob::new("application/spdx+json", "{\"spdx\":1}"));
    let extra = json!({ "artifactType": "application/spdx+json", "subject": content.root.descriptor() });
    content.manifests.push(manifest(&empty.descriptor(), &[layer.descriptor()], &extra));
    content.blobs.extend([empty, layer]);
    content
}

/// An artifact that is a list of artifacts, by the `artifactType` of its index.
pub fn artifact_list() -> Content {
    let mut content = index_over(vec![(artifact(), None)]);
    content.root = extended(&content.root, &json!({ "artifactType": "application/vnd.example.notes.list" }));
    content
}

/// An image, and a list of artifacts that refers to it.
pub fn subject_list() -> Content {
    let mut content = image_of(vec![Blob::new(WASM_TYPE, random_bytes(11, 3_000))], &Value::Null);
    let list = artifact_list();
    content.manifests.push(extended(&list.root, &json!({ "subject": content.root.descriptor() })));
    content.manifests.extend(list.manifests);
    content.blobs.extend(list.blobs);
    content
}

/// An artifact that refers to an image nobody has.
pub fn missing_subject() -> Content {
    let mut content = artifact();
    content.root = extended(&content.root, &json!({ "subject": image().root.descriptor() }));
    content
}

/// An index over two images, one of which nobody has.
pub fn sparse_index() -> Content {
    let mut content = index();
    let absent = content.manifests.remove(1);
    let named: Value = serde_json::from_slice(&absent.bytes).expect("a manifest");
    let layer = named["layers"][0]["digest"].clone();
    content.blobs.retain(|blob| layer != blob.digest.to_string());
    content
}

/// An image with a layer that stays where its publisher has it.
pub fn non_distributable() -> Content {
    let layer = Blob::new("application/vnd.oci.image.layer.nondistributable.v1.tar", random_bytes(13, 1_000));
    let mut content = image_of(vec![Blob::new(WASM_TYPE, random_bytes(12, 1_000)), layer.clone()], &Value::Null);
    content.blobs.retain(|blob| blob.digest != layer.digest);
    content
}

/// An image with fields that no specification knows, in its manifest and in a descriptor.
pub fn custom_fields() -> Content {
    let (config, layer) = (config(), Blob::new(WASM_TYPE, random_bytes(14, 1_000)));
    let mut described = layer.descriptor();
    described["org.example.custom"] = json!("of a layer");
    let extra = json!({ "org.example.custom": { "b": [1, null, 0.5], "a": "of the manifest" } });
    let root = manifest(&config.descriptor(), &[described], &extra);
    Content { root, manifests: Vec::new(), blobs: vec![config, layer] }
}

/// The same document with more fields.
fn extended(document: &Blob, extra: &Value) -> Blob {
    let mut value: Value = serde_json::from_slice(&document.bytes).expect("a document");
    for (key, field) in extra.as_object().into_iter().flatten() {
        value[key] = field.clone();
    }
    Blob::new(&document.media_type, value.to_string())
}

/// A manifest without layers.
pub fn no_layers() -> Content {
    image_of(Vec::new(), &Value::Null)
}

/// An image with a layer of no bytes.
pub fn empty_blob() -> Content {
    image_of(vec![Blob::new(WASM_TYPE, Vec::new()), Blob::new(WASM_TYPE, random_bytes(6, 100))], &Value::Null)
}

/// An image whose config stands in its descriptor, too.
pub fn inline_data() -> Content {
    let (config, layer) = (config(), Blob::new(WASM_TYPE, random_bytes(7, 2_000)));
    let mut inlined = config.descriptor();
    inlined["data"] = json!(STANDARD.encode(&config.bytes));
    let root = manifest(&inlined, &[layer.descriptor()], &Value::Null);
    Content { root, manifests: Vec::new(), blobs: vec![config, layer] }
}

/// An image whose layer is named by its SHA-512.
pub fn sha512() -> Content {
    image_of(vec![sha512_blob(WASM_TYPE, random_bytes(8, 4_000))], &Value::Null)
}

/// An image whose layer is named by its SHA-384.
pub fn sha384() -> Content {
    image_of(vec![named_by(Algorithm::Sha384, WASM_TYPE, random_bytes(8, 4_000))], &Value::Null)
}

/// An image whose manifest has exactly 4 MiB, the most that registries must take.
pub fn large_manifest() -> Content {
    const SIZE: usize = 4 << 20;
    let layer = Blob::new(WASM_TYPE, random_bytes(9, 1_000));
    let padded = |padding: usize| {
        let mut descriptor = layer.descriptor();
        descriptor["annotations"] = json!({ "padding": "x".repeat(padding) });
        manifest(&config().descriptor(), &[descriptor], &Value::Null)
    };
    let root = padded(SIZE - padded(0).bytes.len());
    assert_eq!(root.bytes.len(), SIZE);
    Content { root, manifests: Vec::new(), blobs: vec![config(), layer] }
}
