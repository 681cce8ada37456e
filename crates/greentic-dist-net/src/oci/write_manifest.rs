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
    let Descriptor { media_type, digest, size_bytes, annotations, platform, artifact_type, urls, data } = descriptor;
    let mut entry = Map::new();
    entry.insert("mediaType".into(), media_type.as_str().into());
    entry.insert("digest".into(), digest.to_string().into());
    entry.insert("size".into(), (*size_bytes).into());
    annotate(&mut entry, annotations);
    if let Some(Platform { os, architecture, variant, os_version, os_features }) = platform {
        let mut platform = Map::new();
        platform.insert("os".into(), os.as_str().into());
        platform.insert("architecture".into(), architecture.as_str().into());
        if let Some(variant) = variant {
            platform.insert("variant".into(), variant.as_str().into());
        }
        if let Some(os_version) = os_version {
            platform.insert("os.version".into(), os_version.as_str().into());
        }
        if !os_features.is_empty() {
            platform.insert("os.features".into(), json!(os_features));
        }
        entry.insert("platform".into(), platform.into());
    }
    if let Some(artifact_type) = artifact_type {
        entry.insert("artifactType".into(), artifact_type.as_str().into());
    }
    if !urls.is_empty() {
        entry.insert("urls".into(), json!(urls));
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
        layer.urls = vec!["https://example.com/a".into(), "https://example.com/b".into()];
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
        child.platform = Some(Platform {
            variant: Some("v1".into()),
            os_version: Some("10.0.1".into()),
            os_features: vec!["win32k".into()],
            ..Platform::new("wasip2", "wasm")
        });
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
    fn an_index_that_is_read_and_written_keeps_what_its_entries_say() {
        let digest = Digest::sha256(b"child");
        let body = format!(
            r#"{{"manifests":[{{"artifactType":"a/b","digest":"{digest}","mediaType":"{OCI_MANIFEST}","platform":{{"architecture":"amd64","os":"windows","os.features":["win32k"],"os.version":"10.0.17763.1"}},"size":5,"urls":["https://example.com/x"]}},{{"digest":"{digest}","mediaType":"{OCI_MANIFEST}","platform":{{"architecture":"arm","os":"linux","variant":"v7"}},"size":5}}],"mediaType":"{OCI_INDEX}","schemaVersion":2}}"#
        );
        let raw = RawManifest::new(body.clone()).unwrap();
        let ManifestKind::Index(index) = raw.kind() else { panic!("an index") };
        assert_eq!(RawManifest::index(index).unwrap().bytes(), &body);
        // As Go writes lists without elements.
        let nulls = body.replace(r#"["win32k"]"#, "null").replace(r#"["https://example.com/x"]"#, "null");
        let raw = RawManifest::new(nulls).unwrap();
        let ManifestKind::Index(index) = raw.kind() else { panic!("an index") };
        assert_eq!(
            (&index.manifests[0].urls, &index.manifests[0].platform.as_ref().unwrap().os_features),
            (&vec![], &vec![])
        );
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
