//! Manifests and indexes written from their parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST};
use greentic_dist_types::{Descriptor, Index, Manifest, ManifestError, Platform};
use serde_json::{Map, Value, json};

use super::put_manifest::RawManifest;

impl RawManifest {
    /// Writes an OCI image manifest. Keys are sorted and nothing is indented: equal parts give equal bytes and one digest.
    ///
    /// # Errors
    /// [`ManifestError`] for what this client would refuse to pull: no config, too many layers, too large annotations.
    pub fn image(manifest: &Manifest) -> Result<Self, ManifestError> {
        let Manifest { artifact_type, config, layers, subject, annotations } = manifest;
        let mut document = start(OCI_MANIFEST, artifact_type.as_deref(), subject.as_ref());
        if let Some(config) = config {
            document.insert("config".into(), described(config));
        }
        document.insert("layers".into(), layers.iter().map(described).collect());
        annotate(&mut document, annotations);
        Self::new(Value::from(document).to_string())
    }

    /// Writes an OCI image index. Keys are sorted and nothing is indented: equal parts give equal bytes and one digest.
    ///
    /// # Errors
    /// [`ManifestError`] for what this client would refuse to pull: too many entries, too large annotations.
    pub fn index(index: &Index) -> Result<Self, ManifestError> {
        let Index { artifact_type, manifests, subject, annotations } = index;
        let mut document = start(OCI_INDEX, artifact_type.as_deref(), subject.as_deref());
        document.insert("manifests".into(), manifests.iter().map(described).collect());
        annotate(&mut document, annotations);
        Self::new(Value::from(document).to_string())
    }
}

fn start(media_type: &str, artifact_type: Option<&str>, subject: Option<&Descriptor>) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("schemaVersion".into(), 2.into());
    document.insert("mediaType".into(), media_type.into());
    if let Some(artifact_type) = artifact_type {
        document.insert("artifactType".into(), artifact_type.into());
    }
    if let Some(subject) = subject {
        document.insert("subject".into(), described(subject));
    }
    document
}

fn annotate(document: &mut Map<String, Value>, annotations: &std::collections::BTreeMap<String, String>) {
    if !annotations.is_empty() {
        document.insert("annotations".into(), json!(annotations));
    }
}

fn described(descriptor: &Descriptor) -> Value {
    let Descriptor { media_type, digest, size_bytes, annotations, platform, artifact_type, data } = descriptor;
    let mut entry = Map::new();
    entry.insert("mediaType".into(), media_type.as_str().into());
    entry.insert("digest".into(), digest.to_string().into());
    entry.insert("size".into(), (*size_bytes).into());
    annotate(&mut entry, annotations);
    if let Some(Platform { os, architecture, variant }) = platform {
        let mut platform = Map::new();
        platform.insert("os".into(), os.as_str().into());
        platform.insert("architecture".into(), architecture.as_str().into());
        if let Some(variant) = variant {
            platform.insert("variant".into(), variant.as_str().into());
        }
        entry.insert("platform".into(), platform.into());
    }
    if let Some(artifact_type) = artifact_type {
        entry.insert("artifactType".into(), artifact_type.as_str().into());
    }
    if let Some(data) = data {
        entry.insert("data".into(), STANDARD.encode(data).into());
    }
    entry.into()
}

#[cfg(test)]
mod tests {
    use greentic_dist_types::{Digest, ManifestKind};

    use super::*;

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor::new("application/wasm", Digest::sha256(bytes), u64::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn what_is_written_is_read_back_with_all_its_parts() {
        let mut layer = descriptor(b"inline");
        layer.data = Some(Box::from(&b"inline"[..]));
        layer.annotations.insert("b".into(), "2".into());
        layer.annotations.insert("a".into(), "1".into());
        let mut manifest = Manifest::new(descriptor(b"{}"), vec![layer, descriptor(b"other")]);
        manifest.artifact_type = Some("application/vnd.acme".into());
        manifest.subject = Some(descriptor(b"subject"));
        manifest.annotations.insert("title".into(), "x\"y".into());
        let raw = RawManifest::image(&manifest).unwrap();
        assert_eq!(raw.kind(), &ManifestKind::Image(Box::new(manifest.clone())));
        assert_eq!(raw.media_type(), OCI_MANIFEST);
        assert_eq!(raw.digest(), RawManifest::image(&manifest).unwrap().digest());

        let mut child = raw.descriptor();
        child.platform =
            Some(Platform { os: "wasip2".into(), architecture: "wasm".into(), variant: Some("v1".into()) });
        let index = Index::new(vec![child]);
        let raw = RawManifest::index(&index).unwrap();
        assert_eq!(raw.kind(), &ManifestKind::Index(index));
        assert_eq!(raw.media_type(), OCI_INDEX);
    }

    #[test]
    fn an_image_without_a_config_is_not_written() {
        let manifest = Manifest { config: None, ..Manifest::new(descriptor(b"{}"), Vec::new()) };
        assert!(matches!(RawManifest::image(&manifest), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn equal_parts_give_these_bytes() {
        let raw = RawManifest::image(&Manifest::new(descriptor(b"{}"), Vec::new())).unwrap();
        assert_eq!(
            raw.bytes(),
            &br#"{"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/wasm","size":2},"layers":[],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}"#[..]
        );
    }
}
