//! Image manifests and image indexes: a strict model of what a registry may answer.
//!
//! Fields and rules: image-spec 1.1, `manifest.md` and `image-index.md`, and `artifact.md` of its candidates for the withdrawn
//! artifact manifest, which is read as the image manifest it would be today. Everything the rest of the client relies on is
//! checked here once: one unambiguous kind, valid digests, sane sizes, bounded counts. Unknown fields are allowed and
//! ignored; the raw bytes stay the truth and are never written anew.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use crate::limits;
use crate::media_type::{self, ManifestType, OCI_ARTIFACT};
use crate::{Digest, Platform, SafeText};

/// A pointer to content: media type, digest and exact size (image-spec, `descriptor.md`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Exact size of the content in bytes.
    pub size_bytes: u64,
    /// Annotations of the descriptor, sorted by key.
    pub annotations: BTreeMap<String, String>,
    /// Platform, only on entries of an index.
    pub platform: Option<Platform>,
    /// What kind of artifact the content is, when the publisher says so; only on entries of an index.
    pub artifact_type: Option<String>,
    /// Where else the publisher says the content is, as it stands there (`urls`). Kept, and never followed.
    pub urls: Vec<String>,
    /// The content itself, where the descriptor carries it (`data`). Kept only when its size and digest are the descriptor's.
    pub data: Option<Box<[u8]>>,
}

impl Descriptor {
    /// A descriptor of media type, digest and size in bytes alone.
    pub fn new(media_type: impl Into<String>, digest: Digest, size_bytes: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size_bytes,
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            urls: Vec::new(),
            data: None,
        }
    }
}

/// An image manifest, or an artifact manifest of the withdrawn type: one artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What kind of artifact this is, when the publisher says so.
    pub artifact_type: Option<String>,
    /// The config descriptor; `None` for an artifact manifest, which has no config.
    pub config: Option<Descriptor>,
    /// The layers, in manifest order; of an artifact manifest its `blobs`.
    pub layers: Vec<Descriptor>,
    /// The manifest this one refers to.
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest, sorted by key.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// A manifest of a config and layers alone.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { artifact_type: None, config: Some(config), layers, subject: None, annotations: BTreeMap::new() }
    }
}

/// An image index: a list of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// What kind of artifact this is, when the publisher says so.
    pub artifact_type: Option<String>,
    /// The manifests, in index order.
    pub manifests: Vec<Descriptor>,
    /// The manifest this one refers to.
    pub subject: Option<Box<Descriptor>>,
    /// Annotations of the index, sorted by key.
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An index of manifests alone.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { artifact_type: None, manifests, subject: None, annotations: BTreeMap::new() }
    }
}

/// A parsed manifest body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image manifest, or an artifact manifest.
    Image(Box<Manifest>),
    /// An image index.
    Index(Index),
}

impl ManifestKind {
    /// The manifest this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_deref(),
        }
    }

    /// What kind of artifact this is, when the publisher says so.
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Image(image) => image.artifact_type.as_deref(),
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }

    /// Refuses a manifest that the index which led to it calls by another type than it has, or by one that is no type of a manifest.
    ///
    /// `called` is the descriptor's media type, `said` what the server or the body calls the manifest; where neither does, its
    /// shape decides.
    ///
    /// # Errors
    /// [`ManifestError::Miscalled`].
    pub fn check_called(&self, called: &str, said: Option<&str>) -> Result<(), ManifestError> {
        let called = media_type::essence(called);
        let (shape, usual) = match self {
            Self::Image(_) => (ManifestType::Image, media_type::OCI_MANIFEST),
            Self::Index(_) => (ManifestType::Index, media_type::OCI_INDEX),
        };
        if media_type::manifest_type(&called) == shape && said.is_none_or(|said| said == called) {
            return Ok(());
        }
        let is = SafeText::excerpt(said.unwrap_or(usual), 100);
        Err(ManifestError::Miscalled { called: SafeText::excerpt(&called, 100), is })
    }
}

/// Why a body is no manifest this client accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Larger than [`ManifestLimits::bytes`].
    #[error("the manifest is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Not JSON, or JSON of another shape: duplicate keys, negative sizes, wrong types, trailing bytes.
    #[error("the manifest is malformed: {0}")]
    Malformed(SafeText),
    /// A web page answered, e.g. a login page or a captive portal.
    #[error("the answer is a web page ({0}), not a manifest: is there a proxy or a login page in between?")]
    WebPage(SafeText),
    /// `schemaVersion` is not 2, or the type is one that is refused by name.
    #[error("{0} is not supported; push the artifact again as an OCI image manifest")]
    Unsupported(SafeText),
    /// The manifest could be read as two different things.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(SafeText),
    /// The index that led to it calls it something else.
    #[error("an index calls it {called}, and it is {is}")]
    Miscalled {
        /// What the index calls it.
        called: SafeText,
        /// What it is.
        is: SafeText,
    },
    /// Too many layers, index entries or bytes of annotations.
    #[error("the manifest has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: Counted,
        /// The limit.
        limit: usize,
    },
}

/// What a manifest may have too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counted {
    /// Layers of an image manifest.
    Layers,
    /// Blobs of an artifact manifest, which are its layers.
    Blobs,
    /// Entries of an index.
    Manifests,
    /// Bytes of annotations, keys and values together.
    AnnotationBytes,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layers => "layers",
            Self::Blobs => "blobs",
            Self::Manifests => "manifests",
            Self::AnnotationBytes => "bytes of annotations",
        })
    }
}

/// The caps on a manifest or index that is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestLimits {
    /// Largest body in bytes. Default 4 MiB.
    pub bytes: u64,
    /// Most layers of an image manifest, or blobs of an artifact manifest. Default 1000.
    pub layers: usize,
    /// Most entries of an index. Default 1000.
    pub index_entries: usize,
    /// Most bytes of annotations of the manifest itself, keys and values together. Default 32 KiB.
    pub annotation_bytes: usize,
}

impl ManifestLimits {
    /// The most a client may allow: 64 MiB, 10 000 layers or entries, and of annotations what is allowed anyway.
    pub const MOST: Self = Self {
        bytes: limits::MOST_MANIFEST_BYTES,
        layers: limits::MOST_LAYERS,
        index_entries: limits::MOST_INDEX_ENTRIES,
        annotation_bytes: limits::ANNOTATION_BYTES,
    };
}

impl Default for ManifestLimits {
    fn default() -> Self {
        Self {
            bytes: limits::MANIFEST_BYTES,
            layers: limits::LAYERS,
            index_entries: limits::INDEX_ENTRIES,
            annotation_bytes: limits::ANNOTATION_BYTES,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default, deserialize_with = "present")]
    schema_version: Option<serde_json::Value>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    blobs: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    subject: Option<RawDescriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// What stands there, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

impl RawManifest {
    /// Whether the body calls itself an artifact manifest, which it must to be one.
    fn is_artifact(&self) -> bool {
        self.media_type.as_deref().is_some_and(|name| media_type::essence(name) == OCI_ARTIFACT)
    }
}

impl From<RawDescriptor> for Descriptor {
    fn from(raw: RawDescriptor) -> Self {
        let data = raw.data.and_then(|text| proven_data(&text, raw.digest, raw.size));
        Self {
            media_type: raw.media_type,
            digest: raw.digest,
            size_bytes: raw.size,
            annotations: raw.annotations.unwrap_or_default(),
            platform: raw.platform,
            artifact_type: raw.artifact_type,
            urls: raw.urls.unwrap_or_default(),
            data,
        }
    }
}

/// The content a descriptor carries, when it really is that content. The size of the text is capped by the manifest's.
fn proven_data(text: &str, digest: Digest, size_bytes: u64) -> Option<Box<[u8]>> {
    // Padding and all, base64 is four characters for three bytes; anything else need not be decoded to be refused.
    if u64::try_from(text.len()).ok()? != size_bytes.div_ceil(3).checked_mul(4)? {
        return None;
    }
    let data = STANDARD.decode(text).ok()?;
    let proven = u64::try_from(data.len()) == Ok(size_bytes) && Digest::of(digest.algorithm(), &data) == digest;
    proven.then(|| data.into_boxed_slice())
}

/// Parses a manifest or index body, within the default limits.
///
/// `content_type` is what the server called it, parameters and all; a generic one (`application/json`, `text/plain`,
/// nothing) leaves the decision to the body. Where both name a type they must agree (image-spec, `mediaType`), and a body
/// that has the fields of both kinds is refused (CVE-2021-41190).
///
/// # Errors
/// [`ManifestError`] by cause.
pub fn parse_manifest(bytes: &[u8], content_type: Option<&str>) -> Result<ManifestKind, ManifestError> {
    parse_manifest_within(bytes, content_type, &ManifestLimits::default())
}

/// Parses the `index.json` of an OCI image layout: an image index that lists what a directory or an archive holds, and may be
/// larger than one that anybody sends ([`limits::LAYOUT_INDEX_BYTES`], [`limits::LAYOUT_INDEX_ENTRIES`]).
///
/// # Errors
/// [`ManifestError`] by cause.
pub fn parse_layout_index(bytes: &[u8]) -> Result<Index, ManifestError> {
    let limits = ManifestLimits {
        bytes: limits::LAYOUT_INDEX_BYTES,
        index_entries: limits::LAYOUT_INDEX_ENTRIES,
        ..ManifestLimits::default()
    };
    match parse_manifest_within(bytes, None, &limits)? {
        ManifestKind::Index(index) => Ok(index),
        ManifestKind::Image(_) => Err(ManifestError::Malformed("it is no image index".into())),
    }
}

/// Parses the body of a manifest that was accepted before, by a client with whatever limits.
///
/// # Errors
/// As [`parse_manifest`].
pub fn parse_kept_manifest(bytes: &[u8]) -> Result<ManifestKind, ManifestError> {
    parse_manifest_within(bytes, None, &ManifestLimits::MOST)
}

/// As [`parse_manifest`], within other limits.
///
/// # Errors
/// As [`parse_manifest`].
pub fn parse_manifest_within(
    bytes: &[u8],
    content_type: Option<&str>,
    limits: &ManifestLimits,
) -> Result<ManifestKind, ManifestError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limits.bytes {
        return Err(ManifestError::TooLarge { limit: limits.bytes });
    }
    let declared = content_type.map(media_type::essence).unwrap_or_default();
    if declared == "text/html" || bytes.trim_ascii_start().starts_with(b"<") {
        return Err(ManifestError::WebPage(SafeText::excerpt(&declared, 64)));
    }
    if let ManifestType::Refused(what) = media_type::manifest_type(&declared) {
        return Err(ManifestError::Unsupported(SafeText::new(what)));
    }
    // JSON is UTF-8 (RFC 8259, section 8.1); serde_json does not look into the texts of fields that nobody reads.
    let text =
        std::str::from_utf8(bytes).map_err(|error| ManifestError::Malformed(SafeText::new(&error.to_string())))?;
    // The depth of JSON is bounded by serde_json itself (128).
    let raw: RawManifest =
        serde_json::from_str(text).map_err(|error| ManifestError::Malformed(SafeText::new(&error.to_string())))?;
    let kind = kind_of(&raw, &declared)?;
    build(raw, kind, limits)
}

fn kind_of(raw: &RawManifest, declared: &str) -> Result<ManifestType, ManifestError> {
    match &raw.schema_version {
        Some(version) if version.as_u64() == Some(2) => {}
        Some(version) => {
            let version = SafeText::excerpt(&version.to_string(), 16);
            return Err(ManifestError::Unsupported(SafeText::new(&format!("a manifest of schema version {version}"))));
        }
        // An artifact manifest is told by its type alone.
        None if raw.is_artifact() => {}
        None if declared == OCI_ARTIFACT => return Err(ManifestError::Malformed("missing field `mediaType`".into())),
        None => return Err(ManifestError::Malformed("missing field `schemaVersion`".into())),
    }
    let is_image = raw.layers.is_some() || raw.config.is_some();
    if raw.manifests.is_some() && is_image {
        return Err(ManifestError::Ambiguous("it has both `manifests` and `layers` or `config`".into()));
    }
    if raw.blobs.is_some() && (raw.manifests.is_some() || is_image) {
        return Err(ManifestError::Ambiguous("it has both `blobs` and `layers`, `config` or `manifests`".into()));
    }
    if raw.is_artifact() && is_image {
        return Err(ManifestError::Ambiguous(
            "it is called an artifact manifest and has `layers` or a `config`".into(),
        ));
    }
    let by_header = media_type::manifest_type(declared);
    let by_body = raw.media_type.as_deref().map(|name| media_type::manifest_type(&media_type::essence(name)));
    if let Some(ManifestType::Refused(what)) = by_body {
        return Err(ManifestError::Unsupported(SafeText::new(what)));
    }
    if let (Some(name), Some(ManifestType::Unknown)) = (&raw.media_type, by_body) {
        return Err(ManifestError::Unsupported(SafeText::excerpt(&format!("a manifest of type {name}"), 120)));
    }
    let by_shape = if raw.manifests.is_some() { ManifestType::Index } else { ManifestType::Image };
    for (name, kind) in
        [(declared, by_header), (raw.media_type.as_deref().unwrap_or_default(), by_body.unwrap_or(by_shape))]
    {
        if kind != ManifestType::Unknown && kind != by_shape {
            return Err(ManifestError::Ambiguous(SafeText::new(&format!(
                "it is called {name} and has the fields of another kind"
            ))));
        }
    }
    if let (true, Some(body)) = (by_header != ManifestType::Unknown, &raw.media_type)
        && media_type::essence(body) != declared
    {
        return Err(ManifestError::Ambiguous(SafeText::new(&format!(
            "the server calls it {declared}, the body {body}"
        ))));
    }
    Ok(by_shape)
}

fn build(raw: RawManifest, kind: ManifestType, limits: &ManifestLimits) -> Result<ManifestKind, ManifestError> {
    let at_most = |count: usize, limit: usize, what: Counted| {
        if count > limit { Err(ManifestError::TooMany { what, limit }) } else { Ok(()) }
    };
    let is_artifact = raw.is_artifact();
    let annotations = raw.annotations.unwrap_or_default();
    let annotation_bytes = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    at_most(annotation_bytes, limits.annotation_bytes, Counted::AnnotationBytes)?;
    if kind == ManifestType::Index {
        let manifests = raw.manifests.unwrap_or_default();
        at_most(manifests.len(), limits.index_entries, Counted::Manifests)?;
        return Ok(ManifestKind::Index(Index {
            artifact_type: raw.artifact_type,
            manifests: manifests.into_iter().map(Into::into).collect(),
            subject: raw.subject.map(|subject| Box::new(subject.into())),
            annotations,
        }));
    }
    let missing = |field: &str| ManifestError::Malformed(SafeText::new(&format!("missing field `{field}`")));
    let (what, config, layers) = if is_artifact {
        (Counted::Blobs, None, raw.blobs.unwrap_or_default())
    } else {
        let config = raw.config.ok_or_else(|| missing("config"))?;
        (Counted::Layers, Some(config.into()), raw.layers.ok_or_else(|| missing("layers"))?)
    };
    at_most(layers.len(), limits.layers, what)?;
    let layers: Vec<Descriptor> = layers.into_iter().map(Into::into).collect();
    if layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size_bytes)).is_none() {
        return Err(ManifestError::Malformed("the sizes of the layers overflow".into()));
    }
    Ok(ManifestKind::Image(Box::new(Manifest {
        artifact_type: raw.artifact_type,
        config,
        layers,
        subject: raw.subject.map(Into::into),
        annotations,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        ANNOTATION_BYTES, INDEX_ENTRIES, LAYERS, LAYOUT_INDEX_BYTES, LAYOUT_INDEX_ENTRIES, MANIFEST_BYTES,
    };
    use crate::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

    fn descriptor(size: &str) -> String {
        format!(r#"{{"mediaType":"application/wasm","digest":"sha256:{}","size":{size}}}"#, "a".repeat(64))
    }

    fn image(extra: &str, size: &str) -> String {
        let one = descriptor(size);
        format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}]{extra}}}"#)
    }

    fn parse(body: &str, content_type: Option<&str>) -> Result<ManifestKind, ManifestError> {
        parse_manifest(body.as_bytes(), content_type)
    }

    #[test]
    fn a_manifest_is_utf_8_also_where_nobody_reads_it() {
        let manifest =
            br#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:aa","size":1},"layers":[],"x":"?"}"#;
        let wrong: Vec<u8> = manifest.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
        let error = parse_manifest(&wrong, Some(OCI_MANIFEST)).unwrap_err();
        assert!(matches!(&error, ManifestError::Malformed(why) if why.as_str().contains("utf-8")), "{error:?}");
    }

    #[test]
    fn images_and_indexes_of_both_families_are_read() {
        let typed = image(&format!(r#","mediaType":"{OCI_MANIFEST}""#), "3");
        assert!(matches!(parse(&typed, Some(OCI_MANIFEST)), Ok(ManifestKind::Image(_))));
        assert!(matches!(parse(&typed, Some(&format!("{OCI_MANIFEST}; charset=utf-8"))), Ok(ManifestKind::Image(_))));
        for generic in [None, Some("application/json"), Some("text/plain"), Some("application/octet-stream")] {
            assert!(matches!(parse(&typed, generic), Ok(ManifestKind::Image(_))), "{generic:?}");
        }
        assert!(matches!(parse(&image("", "3"), Some(DOCKER_MANIFEST)), Ok(ManifestKind::Image(_))));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("3"));
        for content_type in [None, Some(OCI_INDEX), Some(DOCKER_INDEX)] {
            assert!(matches!(parse(&index, content_type), Ok(ManifestKind::Index(_))), "{content_type:?}");
        }
    }

    fn artifact(extra: &str) -> String {
        format!(r#"{{"mediaType":"{OCI_ARTIFACT}","artifactType":"application/vnd.acme.sbom"{extra}}}"#)
    }

    #[test]
    fn the_blobs_of_an_artifact_manifest_are_its_layers_and_it_has_no_config() {
        let (one, two) = (descriptor("1"), descriptor("2"));
        let body = artifact(&format!(r#","blobs":[{one},{two}],"subject":{two},"annotations":{{"a":"b"}}"#));
        for content_type in [None, Some(OCI_ARTIFACT), Some("application/json"), Some("text/plain")] {
            let kind = parse(&body, content_type).unwrap();
            assert_eq!(kind.subject().map(|subject| subject.size_bytes), Some(2), "{content_type:?}");
            assert_eq!(kind.artifact_type(), Some("application/vnd.acme.sbom"));
            let ManifestKind::Image(manifest) = kind else { panic!("an index") };
            assert_eq!(manifest.layers.iter().map(|blob| blob.size_bytes).collect::<Vec<_>>(), [1, 2]);
            assert_eq!((manifest.config, manifest.annotations["a"].as_str()), (None, "b"));
        }
        // Without blobs it says something about its subject, and holds nothing. A version is not needed.
        let Ok(ManifestKind::Image(bare)) = parse(&artifact(r#","schemaVersion":2"#), None) else { panic!("refused") };
        assert!(bare.layers.is_empty() && bare.subject.is_none());
    }

    #[test]
    fn an_artifact_manifest_that_could_be_something_else_or_is_too_large_is_refused() {
        let one = descriptor("1");
        for extra in [
            format!(r#","blobs":[{one}],"layers":[{one}]"#),
            format!(r#","blobs":[{one}],"config":{one}"#),
            format!(r#","blobs":[{one}],"manifests":[{one}]"#),
            format!(r#","config":{one},"layers":[{one}]"#),
            format!(r#","manifests":[{one}]"#),
        ] {
            assert!(matches!(parse(&artifact(&extra), None), Err(ManifestError::Ambiguous(_))), "{extra}");
        }
        let typed = artifact(&format!(r#","blobs":[{one}]"#));
        for other in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST] {
            assert!(matches!(parse(&typed, Some(other)), Err(ManifestError::Ambiguous(_))), "{other}");
        }
        // An image with `blobs` beside its layers, and a body that does not say what it is.
        assert!(matches!(parse(&image(r#","blobs":[]"#, "1"), None), Err(ManifestError::Ambiguous(_))));
        let untyped = format!(r#"{{"blobs":[{one}]}}"#);
        for content_type in [None, Some(OCI_ARTIFACT)] {
            assert!(matches!(parse(&untyped, content_type), Err(ManifestError::Malformed(_))), "{content_type:?}");
        }
        let version = artifact(r#","schemaVersion":1"#);
        assert!(matches!(parse(&version, None), Err(ManifestError::Unsupported(_))));
        let many = artifact(&format!(r#","blobs":[{}]"#, vec![one.as_str(); LAYERS + 1].join(",")));
        assert!(matches!(parse(&many, None), Err(ManifestError::TooMany { what: Counted::Blobs, .. })));
        let huge = descriptor("18446744073709551615");
        let overflow = artifact(&format!(r#","blobs":[{huge},{huge}]"#));
        assert!(matches!(parse(&overflow, None), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn a_body_that_could_be_two_things_is_refused() {
        let one = descriptor("1");
        let both = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}],"manifests":[{one}]}}"#);
        assert!(matches!(parse(&both, None), Err(ManifestError::Ambiguous(_))));
        let typed = image(&format!(r#","mediaType":"{OCI_MANIFEST}""#), "3");
        for other in [OCI_INDEX, DOCKER_MANIFEST] {
            assert!(matches!(parse(&typed, Some(other)), Err(ManifestError::Ambiguous(_))), "{other}");
        }
        let duplicate = image(&format!(r#","layers":[{one}]"#), "3");
        assert!(matches!(parse(&duplicate, None), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn sizes_versions_and_shapes_that_lie_are_refused() {
        for size in ["-1", "1e3", "\"5\"", "18446744073709551616", "1.5", "null"] {
            assert!(matches!(parse(&image("", size), None), Err(ManifestError::Malformed(_))), "{size}");
        }
        let one = descriptor("18446744073709551615");
        let overflow = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one},{one}]}}"#);
        assert!(matches!(parse(&overflow, None), Err(ManifestError::Malformed(_))));
        for version in ["1", "3", "\"2\"", "null"] {
            let body = image("", "3").replace("\"schemaVersion\":2", &format!("\"schemaVersion\":{version}"));
            assert!(matches!(parse(&body, None), Err(ManifestError::Unsupported(_))), "{version}");
        }
        for body in ["", "{}", "[]", "null", "{\"schemaVersion\":2}", "{\"schemaVersion\":2,\"layers\":[]}"] {
            assert!(parse(body, None).is_err(), "{body}");
        }
        let trailing = format!("{}x", image("", "3"));
        assert!(matches!(parse(&trailing, None), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn pages_schema_one_and_oversized_bodies_are_named_for_what_they_are() {
        assert!(matches!(parse("<html>", Some("text/html; charset=utf-8")), Err(ManifestError::WebPage(_))));
        assert!(matches!(parse("{}", Some(media_type::DOCKER_SCHEMA1_SIGNED)), Err(ManifestError::Unsupported(_))));
        let big = vec![b' '; (MANIFEST_BYTES + 1).try_into().unwrap()];
        assert!(matches!(parse_manifest(&big, None), Err(ManifestError::TooLarge { .. })));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(parse(&deep, None), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn content_inside_a_descriptor_counts_only_when_it_is_the_promised_content() {
        let config = |data: &str, size: usize| {
            let digest = Digest::sha256(b"{}");
            let one = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size},"data":"{data}"}}"#);
            let body = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[]}}"#);
            let Ok(ManifestKind::Image(image)) = parse(&body, None) else { panic!("an image") };
            image.config.unwrap().data
        };
        assert_eq!(config("e30=", 2).as_deref(), Some(&b"{}"[..]));
        // Another size, other bytes, no base64, nothing, far too much.
        for (data, size) in [("e30=", 3), ("e31=", 2), ("{}==", 2), ("", 2), (&*"e30=".repeat(100), 2)] {
            assert_eq!(config(data, size), None, "{data} {size}");
        }
    }

    #[test]
    fn too_many_layers_are_refused() {
        let one = descriptor("1");
        let many =
            format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{}]}}"#, vec![one.as_str(); LAYERS + 1].join(","));
        assert!(matches!(parse(&many, None), Err(ManifestError::TooMany { what: Counted::Layers, .. })));
    }

    #[test]
    fn limits_may_be_lowered_and_raised_and_a_kept_manifest_is_read_within_the_widest() {
        let one = descriptor("1");
        let layers = |count: usize| {
            let layers = vec![one.as_str(); count].join(",");
            format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{layers}]}}"#)
        };
        let few = ManifestLimits { layers: 2, ..ManifestLimits::default() };
        assert!(parse_manifest_within(layers(2).as_bytes(), None, &few).is_ok());
        let error = parse_manifest_within(layers(3).as_bytes(), None, &few).unwrap_err();
        assert_eq!(error, ManifestError::TooMany { what: Counted::Layers, limit: 2 });
        assert_eq!(error.to_string(), "the manifest has more than 2 layers");
        let many = layers(LAYERS + 1);
        assert!(parse(&many, None).is_err() && parse_kept_manifest(many.as_bytes()).is_ok());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{one},{one}]}}"#);
        let single = ManifestLimits { index_entries: 1, ..ManifestLimits::default() };
        let error = parse_manifest_within(index.as_bytes(), None, &single).unwrap_err();
        assert_eq!(error, ManifestError::TooMany { what: Counted::Manifests, limit: 1 });
        let short = ManifestLimits { bytes: 10, ..ManifestLimits::default() };
        let error = parse_manifest_within(index.as_bytes(), None, &short).unwrap_err();
        assert_eq!(error, ManifestError::TooLarge { limit: 10 });
    }

    #[test]
    fn annotations_that_no_record_could_hold_are_refused() {
        let annotated = |bytes: usize| image(&format!(r#","annotations":{{"a":"{}"}}"#, "x".repeat(bytes)), "3");
        assert!(parse(&annotated(ANNOTATION_BYTES - 1), None).is_ok());
        assert!(matches!(parse(&annotated(ANNOTATION_BYTES), None), Err(ManifestError::TooMany { .. })));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            drop(parse_manifest(&bytes, None));
        }
    }

    #[test]
    fn the_index_of_a_layout_may_be_larger_than_a_manifest_and_not_of_any_size() {
        let index = |entries: usize| {
            let entries = vec![descriptor("3"); entries];
            format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
        };
        let many = index(INDEX_ENTRIES + 1);
        assert!(matches!(parse(&many, None), Err(ManifestError::TooMany { what: Counted::Manifests, .. })));
        assert_eq!(parse_layout_index(many.as_bytes()).unwrap().manifests.len(), INDEX_ENTRIES + 1);
        let too_many = parse_layout_index(index(LAYOUT_INDEX_ENTRIES + 1).as_bytes());
        assert!(matches!(too_many, Err(ManifestError::TooMany { limit: LAYOUT_INDEX_ENTRIES, .. })));
        let large = vec![b' '; usize::try_from(LAYOUT_INDEX_BYTES).unwrap() + 1];
        assert!(matches!(parse_layout_index(&large), Err(ManifestError::TooLarge { limit: LAYOUT_INDEX_BYTES })));
        let image = parse_layout_index(image("", "3").as_bytes());
        assert!(image.unwrap_err().to_string().contains("no image index"));
    }
}
