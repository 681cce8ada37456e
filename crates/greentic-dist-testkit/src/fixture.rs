//! Content for tests: a real Wasm component, OCI manifests and indexes around any bytes, OCI image layouts.

use std::fs;
use std::path::Path;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_types::Digest;
use serde_json::{Value, json};

/// Media type of an OCI image manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of the withdrawn OCI artifact manifest.
pub const ARTIFACT_MANIFEST_TYPE: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// Media type of the config of a Wasm artifact.
pub const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media type of a Wasm component layer.
pub const WASM_TYPE: &str = "application/wasm";

/// A valid Wasm component of a few hundred bytes: `greet: func() -> string`, `answer: func() -> u32`. Its text is
/// `fixtures/hello.wat`; a test holds the two together.
pub fn component_bytes() -> &'static [u8] {
    include_bytes!("../fixtures/hello.component.wasm")
}

/// `n` bytes that depend on `seed` alone and do not compress.
pub fn random_bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(n + 8);
    while out.len() < n {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(n);
    out
}

/// A blob with the media type its descriptor gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The media type in the descriptor.
    pub media_type: String,
    /// The content.
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
}

impl Blob {
    /// A blob of these bytes.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.to_owned(), digest: Digest::sha256(&bytes), bytes }
    }

    /// The descriptor of this blob.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len() })
    }
}

/// A manifest with everything it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Media type of the manifest.
    pub media_type: String,
    /// The manifest, exactly as a registry serves it.
    pub manifest_bytes: Vec<u8>,
    /// The digest of `manifest_bytes`: the pin.
    pub manifest_digest: Digest,
    /// The config blob.
    pub config: Blob,
    /// The layers in manifest order.
    pub layers: Vec<Blob>,
}

impl Artifact {
    /// The digest of the first layer.
    pub fn layer_digest(&self) -> Digest {
        self.layers[0].digest
    }

    /// The bytes of the first layer.
    pub fn layer_bytes(&self) -> &[u8] {
        &self.layers[0].bytes
    }

    /// Config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// The descriptor of the manifest.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.manifest_digest.to_string(),
            "size": self.manifest_bytes.len(),
        })
    }
}

/// The Wasm component of [`component_bytes`] as an artifact.
pub fn component() -> Artifact {
    artifact(WASM_TYPE, component_bytes())
}

/// An embedded registry on loopback that has an artifact as `acme/hello:1`.
pub fn served(artifact: &Artifact) -> RunningRegistry {
    let registry = Registry::in_memory();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).expect("a blob");
    }
    registry
        .put_manifest("acme/hello", &["1"], &artifact.media_type, &artifact.manifest_bytes)
        .expect("a manifest of a fixture");
    registry.start(([127, 0, 0, 1], 0).into()).expect("a free port")
}

/// An artifact of one layer, in the shape Wasm tools publish: an OCI image manifest with a Wasm config.
pub fn artifact(layer_media_type: &str, bytes: impl Into<Vec<u8>>) -> Artifact {
    artifact_of(vec![Blob::new(layer_media_type, bytes)], &[])
}

/// An artifact of these layers, in this order, with manifest annotations.
pub fn artifact_of(layers: Vec<Blob>, annotations: &[(&str, &str)]) -> Artifact {
    let digests: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": digests,
        "component": { "exports": ["greet", "answer"], "imports": [] },
    });
    let config = Blob::new(WASM_CONFIG_TYPE, config.to_string());
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(),
        "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
    });
    if !annotations.is_empty() {
        manifest["annotations"] = annotations.iter().map(|(key, value)| (*key, *value)).collect();
    }
    let manifest_bytes = manifest.to_string().into_bytes();
    let manifest_digest = Digest::sha256(&manifest_bytes);
    Artifact { media_type: MANIFEST_TYPE.to_owned(), manifest_bytes, manifest_digest, config, layers }
}

/// A document that stands where a manifest stands: its media type, bytes and digest.
pub type Document = Blob;

/// An image index over descriptors such as [`Artifact::descriptor`], each with an optional platform `(os, architecture)`.
pub fn index(children: &[(Value, Option<(&str, &str)>)]) -> Document {
    let manifests: Vec<Value> = children
        .iter()
        .map(|(descriptor, platform)| {
            let mut descriptor = descriptor.clone();
            if let Some((os, architecture)) = platform {
                descriptor["platform"] = json!({ "os": os, "architecture": architecture });
            }
            descriptor
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
    Blob::new(INDEX_TYPE, index.to_string())
}

/// An artifact manifest of the withdrawn type over these blobs, which refers to `subject` (such as [`Artifact::descriptor`]).
pub fn artifact_manifest(artifact_type: &str, blobs: &[Blob], subject: Option<Value>) -> Document {
    let blobs: Vec<Value> = blobs.iter().map(Blob::descriptor).collect();
    let mut manifest = json!({ "mediaType": ARTIFACT_MANIFEST_TYPE, "artifactType": artifact_type, "blobs": blobs });
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    Blob::new(ARTIFACT_MANIFEST_TYPE, manifest.to_string())
}

/// Writes an OCI image layout to `dir` (created when missing) in which `tag` names the artifact, or an index over all
/// of them when there are several. `skopeo copy oci:DIR:TAG ...` takes it.
pub fn oci_layout(dir: &Path, artifacts: &[Artifact], tag: &str) {
    let write = |blob: &[u8], digest: Digest| {
        fs::write(dir.join("blobs/sha256").join(digest.to_hex()), blob).expect("write a blob of the layout");
    };
    fs::create_dir_all(dir.join("blobs/sha256")).expect("create the layout");
    for artifact in artifacts {
        write(&artifact.manifest_bytes, artifact.manifest_digest);
        for blob in artifact.blobs() {
            write(&blob.bytes, blob.digest);
        }
    }
    let mut top = match artifacts {
        [one] => one.descriptor(),
        several => {
            let children: Vec<_> = several.iter().map(|artifact| (artifact.descriptor(), None)).collect();
            let index = index(&children);
            write(&index.bytes, index.digest);
            index.descriptor()
        }
    };
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let layout = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [top] });
    fs::write(dir.join("index.json"), layout.to_string()).expect("write index.json");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write oci-layout");
}
