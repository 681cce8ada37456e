//! Documents no honest tool publishes, each under its right digest.

use serde_json::{Value, json};

use crate::fixture::{Artifact, Blob, Document, INDEX_TYPE, MANIFEST_TYPE, index};

fn parsed(artifact: &Artifact) -> Value {
    serde_json::from_slice(&artifact.manifest_bytes).expect("a manifest of the fixtures")
}

/// A valid manifest of more than `bytes` bytes, by way of one long annotation.
pub fn huge_manifest(artifact: &Artifact, bytes: usize) -> Document {
    let mut manifest = parsed(artifact);
    manifest["annotations"] = json!({ "filler": "x".repeat(bytes) });
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// A valid manifest of more than `bytes` bytes, by way of a field that means nothing.
pub fn padded_manifest(artifact: &Artifact, bytes: usize) -> Document {
    let mut manifest = parsed(artifact);
    manifest["padding"] = Value::from("x".repeat(bytes));
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// A Docker schema 1 manifest.
pub fn schema1() -> Document {
    let manifest = json!({
        "schemaVersion": 1,
        "name": "acme/hello",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{ "blobSum": "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4" }],
        "history": [{ "v1Compatibility": "{}" }],
        "signatures": [],
    });
    Blob::new("application/vnd.docker.distribution.manifest.v1+prettyjws", manifest.to_string())
}

/// A manifest in which `layers` stands twice: readers that take the first and readers that take the last disagree.
pub fn duplicate_keys(artifact: &Artifact) -> Document {
    let text = String::from_utf8(artifact.manifest_bytes.clone()).expect("a manifest of the fixtures");
    let other = Blob::new("application/wasm", "the other layer").descriptor();
    let body = text.strip_suffix('}').expect("a JSON object");
    Blob::new(MANIFEST_TYPE, format!("{body},\"layers\":[{other}]}}"))
}

/// A document with `layers` and `manifests`: an image to one reader, an index to the next.
pub fn layers_and_manifests(artifact: &Artifact) -> Document {
    let mut manifest = parsed(artifact);
    manifest["manifests"] = json!([artifact.descriptor()]);
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// An index that says it is a manifest in its `mediaType`.
pub fn mislabelled_index(artifact: &Artifact) -> Document {
    let index = json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "manifests": [artifact.descriptor()] });
    Blob::new(INDEX_TYPE, index.to_string())
}

/// `depth` indexes in each other around the artifact, the outermost last.
pub fn index_chain(artifact: &Artifact, depth: usize) -> Vec<Document> {
    let mut chain = Vec::new();
    let mut inner = artifact.descriptor();
    for _ in 0..depth {
        let document = index(&[(inner, None)]);
        inner = document.descriptor();
        chain.push(document);
    }
    chain
}

/// A manifest whose one layer declares `size` instead of its size.
pub fn wrong_layer_size(artifact: &Artifact, size: i64) -> Document {
    let mut manifest = parsed(artifact);
    manifest["layers"][0]["size"] = size.into();
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// A manifest whose one layer has this text for its digest, e.g. `sha256:../../x`.
pub fn wrong_layer_digest(artifact: &Artifact, digest: &str) -> Document {
    let mut manifest = parsed(artifact);
    manifest["layers"][0]["digest"] = digest.into();
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// A manifest of `count` layers, all the same.
pub fn many_layers(artifact: &Artifact, count: usize) -> Document {
    let mut manifest = parsed(artifact);
    let layer = manifest["layers"][0].clone();
    manifest["layers"] = Value::Array(vec![layer; count]);
    Blob::new(MANIFEST_TYPE, manifest.to_string())
}

/// A manifest of JSON nested `depth` arrays deep.
pub fn deeply_nested(depth: usize) -> Document {
    let body = format!("{{\"schemaVersion\":2,\"layers\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    Blob::new(MANIFEST_TYPE, body)
}
