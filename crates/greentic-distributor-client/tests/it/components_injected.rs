//! `OciComponentResolver` with a client that the host brings along: when it is asked, and that nothing it says is believed.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{Blob, artifact_of};
use greentic_dist_testkit::scenario::Scenario;
use greentic_dist_types::{Algorithm, Digest};
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci_components::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, OciComponentError, OciComponentResolver, PulledImage,
    PulledLayer, Reference, RegistryClient, RegistryClientError,
};

use crate::components::{COMPONENT_MANIFEST, eager, options};
use crate::support::Home;

const WASM: &str = "application/wasm";

/// The reference that was asked for, and the layer types that were wanted.
type Pull = (String, Vec<String>);

/// Answers from a table, and counts.
#[derive(Clone, Default)]
struct Mock {
    images: Arc<Mutex<HashMap<String, PulledImage>>>,
    pulls: Arc<Mutex<Vec<Pull>>>,
}

impl Mock {
    fn with(self, reference: &str, image: PulledImage) -> Self {
        self.images.lock().unwrap().insert(reference.to_owned(), image);
        self
    }

    fn pulls(&self) -> usize {
        self.pulls.lock().unwrap().len()
    }
}

#[async_trait]
impl RegistryClient for Mock {
    fn default_client() -> Self {
        panic!("a client that was given is used")
    }

    async fn pull(&self, reference: &Reference, types: &[&str]) -> Result<PulledImage, RegistryClientError> {
        let types = types.iter().map(|&name| name.to_owned()).collect();
        self.pulls.lock().unwrap().push((reference.whole(), types));
        let image = self.images.lock().unwrap().get(&reference.whole()).cloned();
        image.ok_or_else(|| RegistryClientError::GenericError(Some(format!("no image for {}", reference.whole()))))
    }
}

fn layer(media_type: &str, bytes: &[u8]) -> PulledLayer {
    let digest = Some(Digest::sha256(bytes).to_string());
    PulledLayer { media_type: media_type.to_owned(), data: bytes.to_vec(), digest }
}

fn image(digest: Option<String>, layers: Vec<PulledLayer>) -> PulledImage {
    PulledImage { digest, layers }
}

fn resolver(home: &Home, mock: &Mock) -> OciComponentResolver<Mock> {
    OciComponentResolver::with_client(mock.clone(), options(home))
}

fn offline(home: &Home, mock: &Mock) -> OciComponentResolver<Mock> {
    OciComponentResolver::with_client(mock.clone(), ComponentResolveOptions { offline: true, ..options(home) })
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

#[tokio::test]
async fn a_client_is_asked_once_for_what_is_not_in_the_cache() {
    let (home, pin) = (Home::new(), digest("a manifest"));
    let reference = format!("registry.example/acme/tool@{pin}");
    let mock = Mock::default().with(&reference, image(Some(pin.to_string()), vec![layer(WASM, b"component")]));
    let first = resolver(&home, &mock).resolve_refs(&eager(std::slice::from_ref(&reference))).await.unwrap();
    assert!(first[0].fetched_from_network);
    assert_eq!(first[0].manifest_digest, Some(pin.to_string()));
    assert_eq!(first[0].path, home.entry(pin).join("component.wasm"));
    assert_eq!(fs::read(&first[0].path).unwrap(), b"component");
    let again = resolver(&home, &mock).resolve_refs(&eager(std::slice::from_ref(&reference))).await.unwrap();
    assert!(!again[0].fetched_from_network);
    assert_eq!((&again[0].path, &again[0].manifest_digest), (&first[0].path, &first[0].manifest_digest));
    let cached = offline(&home, &mock).resolve_descriptor(&reference).await.unwrap();
    assert_eq!((cached.size_bytes, cached.fetched_from_network), (9, false));
    let pulls = mock.pulls.lock().unwrap().clone();
    let types = ComponentResolveOptions::default().preferred_layer_media_types;
    assert_eq!(pulls, [(reference, types)], "once, and with the types that are looked for");
}

#[tokio::test]
async fn a_pin_may_be_the_digest_of_the_layer_where_no_manifest_is_told() {
    let (home, pin) = (Home::new(), digest("component"));
    let reference = format!("registry.example/acme/tool@{pin}");
    let mock = Mock::default().with(&reference, image(None, vec![layer(WASM, b"component")]));
    let component = resolver(&home, &mock).resolve_ref(&reference).await.unwrap();
    assert_eq!((component.resolved_digest, component.manifest_digest), (pin.to_string(), None));
    assert!(!resolver(&home, &mock).resolve_ref(&reference).await.unwrap().fetched_from_network);
    assert_eq!(mock.pulls(), 1);
}

#[tokio::test]
async fn a_descriptor_makes_no_entry() {
    let (home, pin) = (Home::new(), digest("a manifest"));
    let reference = format!("registry.example/acme/tool@{pin}");
    let mock = Mock::default().with(&reference, image(Some(pin.to_string()), vec![layer(WASM, b"component")]));
    let descriptor = resolver(&home, &mock).resolve_descriptor(&reference).await.unwrap();
    assert_eq!((descriptor.size_bytes, descriptor.media_type.as_str()), (9, WASM));
    assert!(descriptor.fetched_from_network && !home.entry(pin).exists());
    assert!(!home.cache().exists());
    let lazy = ComponentsExtension { refs: vec![reference], mode: ComponentsMode::Lazy };
    let resolver = resolver(&home, &mock);
    let component = resolver.resolve_refs(&lazy).await.unwrap().remove(0);
    assert!(!component.path.exists() && !component.fetched_from_network);
    let brought = resolver.fetch(&component).await.unwrap();
    assert_eq!(brought.path, component.path);
    assert_eq!(fs::read(&brought.path).unwrap(), b"component");
}

#[tokio::test]
async fn files_have_the_documented_names_and_the_original_bytes() {
    let home = Home::new();
    let manifest = br#"{ "artifacts": { "component_wasm": "component_templates.wasm" } , "extra": 1 }"#;
    let pins = ["both", "wasm", "manifest"].map(digest);
    let [both, wasm, alone] = pins.map(|pin| format!("registry.example/acme/tool@{pin}"));
    let told = |pin: Digest| Some(pin.to_string());
    let mock = Mock::default()
        .with(&both, image(told(pins[0]), vec![layer(COMPONENT_MANIFEST, manifest), layer(WASM, b"component")]))
        .with(&wasm, image(told(pins[1]), vec![layer(WASM, b"component")]))
        .with(&alone, image(told(pins[2]), vec![layer(COMPONENT_MANIFEST, b"{}")]));
    for _ in 0..2 {
        let found =
            resolver(&home, &mock).resolve_refs(&eager(&[both.clone(), wasm.clone(), alone.clone()])).await.unwrap();
        let names: Vec<_> =
            found.iter().map(|component| component.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["component_templates.wasm", "component.wasm", "component.manifest.json"]);
        let dir = found[0].path.parent().unwrap();
        assert_eq!(fs::read(&found[0].path).unwrap(), b"component");
        assert_eq!(fs::read(dir.join("component.wasm")).unwrap(), b"component");
        assert_eq!(fs::read(dir.join("component.manifest.json")).unwrap(), manifest);
        assert_eq!(fs::read(&found[2].path).unwrap(), b"{}");
    }
    assert_eq!(mock.pulls(), 3);
}

#[tokio::test]
async fn whatever_a_client_says_is_held_against_every_digest() {
    let (home, pin) = (Home::new(), digest("a manifest"));
    let pinned = format!("registry.example/acme/tool@{pin}");
    let tag = "registry.example/acme/tool:1".to_owned();
    let mut lying = layer(WASM, b"component");
    lying.data = b"something else".to_vec();
    let good = || vec![layer(WASM, b"component")];
    let wrong_digest = |text: &str| {
        let mut layer = layer(WASM, b"component");
        layer.digest = Some(text.to_owned());
        vec![layer]
    };
    let cases = [
        (&pinned, image(Some(pin.to_string()), vec![lying.clone()])),
        (&pinned, image(Some(digest("another").to_string()), good())),
        (&pinned, image(None, good())),
        (&tag, image(Some("../../escaped".into()), good())),
        (&tag, image(Some("/tmp/escaped".into()), good())),
        (&tag, image(Some(String::new()), good())),
        (&tag, image(None, wrong_digest("../escaped"))),
        (&tag, image(None, wrong_digest("md5:d41d8cd98f00b204e9800998ecf8427e"))),
        (&tag, image(None, vec![lying])),
    ];
    for (reference, image) in cases {
        let mock = Mock::default().with(reference, image.clone());
        let error = resolver(&home, &mock).resolve_ref(reference).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Integrity, "{image:?}: {error:?}");
        assert!(error.to_string().contains(reference.as_str()), "{error}");
        let described = resolver(&home, &mock).resolve_descriptor(reference).await.unwrap_err();
        assert_eq!(described.kind(), DistErrorKind::Integrity, "{described:?}");
        assert!(TreeSnapshot::of(&home.cache()).files().iter().all(|file| *file == "CACHEDIR.TAG"), "{image:?}");
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn d16_what_is_no_component_is_refused_with_the_types_there_were() {
    let (home, tag) = (Home::new(), "registry.example/acme/tool:1");
    let unknown = image(None, vec![layer("text/html", b"<p>"), layer("application/x-tar", b"tar")]);
    let mock = Mock::default().with(tag, unknown);
    let error = resolver(&home, &mock).resolve_ref(tag).await.unwrap_err();
    let OciComponentError::MissingComponent { media_types, .. } = &error else { panic!("{error:?}") };
    assert!(media_types.contains("text/html") && media_types.contains("application/x-tar"), "{media_types}");
    let mock = Mock::default().with(tag, image(None, Vec::new()));
    let error = resolver(&home, &mock).resolve_ref(tag).await.unwrap_err();
    assert!(matches!(error, OciComponentError::MissingLayers { .. }), "{error:?}");

    let listed = ComponentResolveOptions { preferred_layer_media_types: vec!["text/html".into()], ..options(&home) };
    let mock = Mock::default().with(tag, image(None, vec![layer(WASM, b"component"), layer("text/html", b"<p>")]));
    let component = OciComponentResolver::with_client(mock, listed).resolve_ref(tag).await.unwrap();
    assert_eq!((component.media_type.as_str(), fs::read(&component.path).unwrap()), ("text/html", b"<p>".to_vec()));
}

#[tokio::test]
async fn the_failure_of_a_client_is_the_source_of_the_error() {
    let (home, mock) = (Home::new(), Mock::default());
    let reference = "registry.example/acme/tool:1";
    let error = resolver(&home, &mock).resolve_ref(reference).await.unwrap_err();
    let OciComponentError::PullFailed { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("no image for registry.example/acme/tool:1"), "{source}");
    for wrong in ["not a ref", "", "oci://registry.example/acme/tool:1"] {
        let error = resolver(&home, &mock).resolve_ref(wrong).await.unwrap_err();
        assert!(matches!(error, OciComponentError::InvalidReference { .. }), "{error:?}");
    }
    assert_eq!(mock.pulls(), 1, "what is no reference is nobody's business");
}

#[tokio::test]
async fn tags_ask_every_time_online_and_are_known_offline() {
    let (home, tag) = (Home::new(), "registry.example/acme/tool:1");
    let mock = Mock::default().with(tag, image(None, vec![layer(WASM, b"component")]));
    let unknown = offline(&home, &mock).resolve_ref(tag).await.unwrap_err();
    assert!(matches!(unknown, OciComponentError::OfflineTaggedReference { .. }), "{unknown:?}");
    let pinned = format!("registry.example/acme/tool@{}", digest("component"));
    let missing = offline(&home, &mock).resolve_ref(&pinned).await.unwrap_err();
    assert!(matches!(missing, OciComponentError::OfflineMissing { .. }), "{missing:?}");
    assert_eq!(mock.pulls(), 0);
    for _ in 0..2 {
        resolver(&home, &mock).resolve_ref(tag).await.unwrap();
    }
    assert_eq!(mock.pulls(), 2);
    let known = offline(&home, &mock).resolve_ref(tag).await.unwrap();
    assert_eq!(fs::read(&known.path).unwrap(), b"component");
    assert_eq!(mock.pulls(), 2);
}

#[tokio::test]
async fn cached_bytes_that_were_changed_are_pulled_again() {
    let (home, pin) = (Home::new(), digest("a manifest"));
    let reference = format!("registry.example/acme/tool@{pin}");
    let mock = Mock::default().with(&reference, image(Some(pin.to_string()), vec![layer(WASM, b"component")]));
    let component = resolver(&home, &mock).resolve_ref(&reference).await.unwrap();
    fs::remove_file(&component.path).unwrap();
    fs::write(&component.path, b"tampered!").unwrap();
    let refused = offline(&home, &mock).resolve_ref(&reference).await.unwrap_err();
    assert_eq!(refused.kind(), DistErrorKind::Integrity, "{refused:?}");
    let healed = resolver(&home, &mock).resolve_ref(&reference).await.unwrap();
    assert!(healed.fetched_from_network);
    assert_eq!(fs::read(&healed.path).unwrap(), b"component");
}

#[tokio::test]
async fn a_name_that_a_clients_component_manifest_gives_is_confined() {
    for name in ["..", "/etc/passwd", "metadata.json", "component.manifest.json", "C:", "a/../b.wasm"] {
        let home = Home::new();
        let manifest = serde_json::json!({ "artifacts": { "component_wasm": name } }).to_string();
        let layers = vec![layer(WASM, b"component"), layer(COMPONENT_MANIFEST, manifest.as_bytes())];
        let mock = Mock::default().with("registry.example/acme/tool:1", image(None, layers));
        let error = resolver(&home, &mock).resolve_ref("registry.example/acme/tool:1").await.unwrap_err();
        assert!(matches!(error, OciComponentError::InvalidManifestWasmName { .. }), "{name}: {error:?}");
        assert!(TreeSnapshot::of(&home.cache()).files().iter().all(|file| *file == "CACHEDIR.TAG"), "{name}");
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn a_pin_in_sha512_is_the_digest_of_what_was_pulled() {
    let (home, pin) = (Home::new(), Digest::of(Algorithm::Sha512, b"component"));
    let reference = format!("registry.example/acme/tool@{pin}");
    let told = PulledLayer { media_type: WASM.into(), data: b"component".to_vec(), digest: Some(pin.to_string()) };
    let mock = Mock::default().with(&reference, image(None, vec![told]));
    let capitals = format!("registry.example/acme/tool@sha512:{}", pin.to_hex().to_uppercase());
    let component = resolver(&home, &mock).resolve_ref(&capitals).await.unwrap();
    assert_eq!(component.resolved_digest, pin.to_string());
    assert!(!resolver(&home, &mock).resolve_ref(&reference).await.unwrap().fetched_from_network);
}

#[tokio::test]
async fn sixty_four_references_are_pulled_once_each_and_told_in_order() {
    let home = Home::new();
    let mut mock = Mock::default();
    let refs: Vec<String> = (0..64).map(|number| format!("registry.example/acme/tool{number}:1")).collect();
    for reference in &refs {
        mock = mock.with(reference, image(None, vec![layer(WASM, reference.as_bytes())]));
    }
    let components = resolver(&home, &mock).resolve_refs(&eager(&refs)).await.unwrap();
    for (component, reference) in components.iter().zip(&refs) {
        assert_eq!(&component.original_reference, reference);
        assert_eq!(fs::read(&component.path).unwrap(), reference.as_bytes());
    }
    assert_eq!(mock.pulls(), 64);
}

#[tokio::test]
async fn a_damaged_component_manifest_is_healed_from_what_a_client_returns_when_it_is_the_published_one() {
    let manifest = br#"{ "artifacts": { "component_wasm": "hello.wasm" } }"#;
    let layers = vec![Blob::new(COMPONENT_MANIFEST, manifest.to_vec()), Blob::new(WASM, b"component".to_vec())];
    let registry = Scenario::new(artifact_of(layers, &[])).start();
    let (home, reference) = (Home::new(), registry.pinned());
    let brought: OciComponentResolver = OciComponentResolver::new(options(&home));
    let component = brought.resolve_ref(&reference).await.unwrap();
    fs::remove_file(component.path.with_file_name("component.manifest.json")).unwrap();
    let pin = Some(registry.artifact().manifest_digest.to_string());
    let with = |manifest: &[u8]| {
        let layers = vec![layer(COMPONENT_MANIFEST, manifest), layer(WASM, b"component")];
        Mock::default().with(&reference, image(pin.clone(), layers))
    };
    let refused = resolver(&home, &with(b"{}")).resolve_ref(&reference).await.unwrap_err();
    assert_eq!(refused.kind(), DistErrorKind::Integrity, "{refused:?}");
    let healed = resolver(&home, &with(manifest)).resolve_ref(&reference).await.unwrap();
    assert_eq!((healed.path.clone(), healed.fetched_from_network), (component.path, true));
    assert_eq!(fs::read(healed.path.with_file_name("component.manifest.json")).unwrap(), manifest);
}

#[tokio::test]
async fn a_reference_that_stands_there_several_times_is_pulled_once_and_told_each_time() {
    let (home, tag) = (Home::new(), "registry.example/acme/tool:1".to_owned());
    let mock = Mock::default().with(&tag, image(None, vec![layer(WASM, b"component")]));
    let refs = vec![tag.clone(); 8];
    let components = resolver(&home, &mock).resolve_refs(&eager(&refs)).await.unwrap();
    assert_eq!((components.len(), mock.pulls()), (8, 1));
    assert!(components.iter().all(|component| component == &components[0]));
    let descriptors = resolver(&home, &mock).resolve_descriptors(&eager(&refs)).await.unwrap();
    assert_eq!((descriptors.len(), mock.pulls()), (8, 2));
}
