//! Content of the checks, and the short way to bring it into a registry.

use greentic_dist_types::{Algorithm, Digest};
use serde_json::{Value, json};

use super::{Problem, Target, expect, location, with};
use crate::fixture::{INDEX_TYPE, MANIFEST_TYPE};
use crate::raw_client::Answer;

/// The media type of the config `{}`.
pub(super) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// A manifest or index of a check.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

impl Manifest {
    pub(super) fn of(value: &Value) -> Self {
        let media_type = value["mediaType"].as_str().unwrap_or(MANIFEST_TYPE).to_owned();
        Self { media_type, bytes: value.to_string().into_bytes() }
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest().to_string(), "size": self.bytes.len() })
    }
}

/// A descriptor of a blob.
pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() })
}

/// An image manifest over the config `{}` and one layer, to be extended.
pub(super) fn image(layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(EMPTY_TYPE, b"{}"),
        "layers": [descriptor("application/wasm", layer)],
    })
}

/// An index of these manifests.
pub(super) fn index(manifests: &[&Manifest]) -> Value {
    let manifests: Vec<Value> = manifests.iter().map(|manifest| manifest.descriptor()).collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests })
}

impl Target {
    /// Opens an upload, and where it goes on.
    pub(super) fn begin(&self) -> Result<String, Problem> {
        let answer = self.ask("POST", &self.path("blobs/uploads/"), &[], b"")?;
        expect(&answer, &[202], "POST")?;
        location(&answer)
    }

    /// Brings a blob in, by `POST` and `PUT`.
    pub(super) fn push_blob(&self, bytes: &[u8]) -> Result<Digest, Problem> {
        self.push_blob_as(Digest::sha256(bytes), bytes)
    }

    pub(super) fn push_blob_as(&self, digest: Digest, bytes: &[u8]) -> Result<Digest, Problem> {
        let target = with(&self.begin()?, &format!("digest={digest}"));
        let answer = self.ask("PUT", &target, &[("Content-Type", "application/octet-stream")], bytes)?;
        expect(&answer, &[201], "PUT of a blob")?;
        Ok(digest)
    }

    /// Brings a manifest in, under a tag or its digest.
    pub(super) fn put_manifest(&self, reference: &str, manifest: &Manifest) -> Result<Answer, Problem> {
        let headers = [("Content-Type", &*manifest.media_type)];
        self.ask("PUT", &self.path(&format!("manifests/{reference}")), &headers, &manifest.bytes)
    }

    /// Brings an image with its blobs in.
    pub(super) fn push_image(&self, tag: &str, layer: &[u8]) -> Result<Manifest, Problem> {
        let manifest = Manifest::of(&image(layer));
        self.push_blobs(layer)?;
        expect(&self.put_manifest(tag, &manifest)?, &[201], "PUT of a manifest")?;
        Ok(manifest)
    }

    /// Brings the blobs of [`image`] in.
    pub(super) fn push_blobs(&self, layer: &[u8]) -> Result<(), Problem> {
        self.push_blob(b"{}")?;
        self.push_blob(layer).map(drop)
    }

    /// Fetches a manifest with its own type accepted.
    pub(super) fn manifest(&self, method: &str, reference: &str, media_type: &str) -> Result<Answer, Problem> {
        self.ask(method, &self.path(&format!("manifests/{reference}")), &[("Accept", media_type)], b"")
    }

    /// Whether a manifest comes back as it was pushed.
    pub(super) fn has_manifest(&self, reference: &str, manifest: &Manifest) -> Result<(), Problem> {
        let answer = self.manifest("GET", reference, &manifest.media_type)?;
        expect(&answer, &[200], "GET of the manifest")?;
        if answer.body == manifest.bytes { Ok(()) } else { Err("the manifest came back changed".to_owned()) }
    }

    /// Whether a blob comes back as it was pushed.
    pub(super) fn has_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Problem> {
        let answer = self.get(&self.path(&format!("blobs/{digest}")))?;
        expect(&answer, &[200], "GET of the blob")?;
        if answer.body == bytes { Ok(()) } else { Err("the blob came back changed".to_owned()) }
    }
}

/// The digest of the longer algorithm.
pub(super) fn sha512(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, bytes)
}
