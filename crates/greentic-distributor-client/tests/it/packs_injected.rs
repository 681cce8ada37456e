//! Packs from a client that the host brought along: its word counts for what nobody else can know, and for nothing else.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{CachePolicy, ResolvePolicy};
use greentic_distributor_client::oci_packs::{
    DefaultRegistryClient, OciPackError, OciPackFetcher, PackFetchOptions, PulledImage, PulledLayer, Reference,
    RegistryClient, RegistryClientError,
};

use crate::packs::options;
use crate::support::Home;

/// Answers from a table by the whole reference, and counts how often it is asked.
#[derive(Clone, Default)]
pub(crate) struct Mock {
    images: HashMap<String, PulledImage>,
    pulls: Arc<AtomicUsize>,
}

impl Mock {
    pub(crate) fn with(reference: &str, image: PulledImage) -> Self {
        Self { images: HashMap::from([(reference.to_owned(), image)]), pulls: Arc::default() }
    }

    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl RegistryClient for Mock {
    fn default_client() -> Self {
        panic!("a client that was given is used")
    }

    async fn pull(&self, reference: &Reference, _accepted: &[&str]) -> Result<PulledImage, RegistryClientError> {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let known = self.images.get(&reference.whole()).cloned();
        known.ok_or_else(|| RegistryClientError::GenericError(Some("manifest unknown".into())))
    }
}

pub(crate) fn layer(media_type: &str, data: &[u8]) -> PulledLayer {
    let digest = Some(Digest::sha256(data).to_string());
    PulledLayer { media_type: media_type.to_owned(), data: data.to_vec(), digest }
}

fn digest(text: &str) -> String {
    Digest::sha256(text.as_bytes()).to_string()
}

fn fetcher(mock: &Mock, home: &Home) -> OciPackFetcher<Mock> {
    OciPackFetcher::with_client(mock.clone(), options(home))
}

const BYTES: &[u8] = b"the pack";

#[tokio::test]
async fn a_pinned_pack_is_asked_for_once_and_then_found() {
    for reported in [None, Some(digest("the pack")), Some(digest("a manifest that only the client saw"))] {
        let home = Home::new();
        let pin = reported.clone().unwrap_or_else(|| digest("the pack"));
        let reference = format!("ghcr.io/acme/pack@{pin}");
        let image = PulledImage { digest: reported.clone(), layers: vec![layer("application/json", BYTES)] };
        let mock = Mock::with(&reference, image);
        for fetched in [true, false, false] {
            let resolved = fetcher(&mock, &home).fetch_pack_to_cache(&reference).await.unwrap();
            assert_eq!(resolved.fetched_from_network, fetched);
            assert_eq!(
                (resolved.resolved_digest.as_str(), resolved.manifest_digest.as_ref()),
                (&*pin, reported.as_ref())
            );
            assert_eq!(resolved.media_type, "application/json");
            assert_eq!(resolved.path, home.entry(&pin).join("pack.gtpack"));
            assert!(resolved.path.with_file_name("metadata.json").is_file());
            assert_eq!(fs::read(&resolved.path).unwrap(), BYTES);
        }
        assert_eq!(fetcher(&mock, &home).fetch_pack(&reference).await.unwrap(), BYTES);
        assert_eq!(mock.pulls(), 1);
    }
}

#[tokio::test]
async fn a_tag_is_asked_for_each_time_online_and_known_offline_afterwards() {
    let (home, reference) = (Home::new(), "ghcr.io/acme/pack:1");
    let offline =
        |mock: &Mock| OciPackFetcher::with_client(mock.clone(), PackFetchOptions { offline: true, ..options(&home) });
    let image = PulledImage { digest: Some(digest("manifest")), layers: vec![layer("text/markdown", BYTES)] };
    let mock = Mock::with(reference, image);
    let error = offline(&mock).fetch_pack_to_cache(reference).await.unwrap_err();
    assert!(matches!(error, OciPackError::OfflineTaggedReference { .. }), "{error}");
    for _ in 0..2 {
        fetcher(&mock, &home).fetch_pack_to_cache(reference).await.unwrap();
    }
    assert_eq!(mock.pulls(), 2);
    let found = offline(&mock).fetch_pack_to_cache(reference).await.unwrap();
    assert_eq!(found.resolved_digest, digest("manifest"));
    let pinned = format!("ghcr.io/acme/pack@{}", digest("never seen"));
    let error = offline(&mock).fetch_pack_to_cache(&pinned).await.unwrap_err();
    assert!(matches!(&error, OciPackError::OfflineMissing { digest: missing, .. } if *missing == digest("never seen")));
    assert_eq!((mock.pulls(), error.exit_code()), (2, 4));
}

#[tokio::test]
async fn what_the_client_says_of_a_failure_is_in_the_text() {
    let home = Home::new();
    let error = fetcher(&Mock::default(), &home).fetch_pack_to_cache("ghcr.io/acme/pack:1").await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown") && error.to_string().contains("ghcr.io/acme/pack:1"));
    assert!(std::error::Error::source(&error).is_some());
    home.assert_nothing_outside_changed();
}

fn image(digest: Option<String>, layers: Vec<PulledLayer>) -> PulledImage {
    PulledImage { digest, layers }
}

/// Fetches what a client returns for a pin or a tag, which must be refused: nothing is written anywhere.
async fn refused(reference: &str, image: PulledImage) -> OciPackError {
    let home = Home::new();
    let error = fetcher(&Mock::with(reference, image), &home).fetch_pack_to_cache(reference).await.unwrap_err();
    assert!(error.to_string().contains(reference), "{error}");
    home.assert_cache_empty();
    home.assert_nothing_outside_changed();
    error
}

#[tokio::test]
async fn d02_a_digest_that_a_client_reports_is_parsed_before_a_path_is_made_from_it() {
    let hex = "a".repeat(64);
    for hostile in [
        "../../outside/x",
        "/abs/x",
        "sha256:../../x",
        "sha256:",
        "",
        "latest",
        &hex,
        &format!("md5:{hex}"),
        "sha256:\u{0}",
    ] {
        let reported = image(Some(hostile.to_owned()), vec![layer("application/json", BYTES)]);
        let error = refused("ghcr.io/acme/pack:1", reported).await;
        assert!(matches!(error, OciPackError::Corrupt { .. }) && error.exit_code() == 8, "{hostile:?}: {error:?}");
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
        let named = PulledLayer { digest: Some(hostile.to_owned()), ..layer("application/json", BYTES) };
        assert_eq!(refused("ghcr.io/acme/pack:1", image(None, vec![named])).await.exit_code(), 8, "{hostile:?}");
    }
}

#[tokio::test]
async fn d01_bytes_that_are_not_those_of_their_layer_or_of_the_pin_are_refused() {
    let lying = PulledLayer { digest: Some(digest("something else")), ..layer("application/json", BYTES) };
    let error = refused("ghcr.io/acme/pack:1", image(Some(digest("manifest")), vec![lying])).await;
    let OciPackError::DigestMismatch { expected, actual, .. } = &error else { panic!("{error:?}") };
    assert_eq!((expected, actual), (&digest("something else"), &digest("the pack")));
    let pinned = format!("ghcr.io/acme/pack@{}", digest("manifest"));
    for reported in [Some(digest("another manifest")), None] {
        let error = refused(&pinned, image(reported, vec![layer("application/json", BYTES)])).await;
        assert!(matches!(&error, OciPackError::DigestMismatch { expected, .. } if *expected == digest("manifest")));
        assert_eq!(error.exit_code(), 8);
    }
}

#[tokio::test]
async fn d10_a_pin_in_sha512_is_held_against_the_bytes_or_the_manifest() {
    let long = |text: &str| Digest::of(greentic_dist_types::Algorithm::Sha512, text.as_bytes()).to_string();
    let unnamed = || PulledLayer { digest: None, ..layer("application/json", BYTES) };
    for (reported, layer) in [
        (None, unnamed()),
        (None, layer("application/json", BYTES)),
        (None, PulledLayer { digest: Some(long("the pack")), ..unnamed() }),
        (Some(long("the pack")), unnamed()),
    ] {
        let (home, reference) = (Home::new(), format!("ghcr.io/acme/pack@{}", long("the pack")));
        let mock = Mock::with(&reference, image(reported, vec![layer]));
        for _ in 0..2 {
            let fetched = fetcher(&mock, &home).fetch_pack_to_cache(&reference).await.unwrap();
            assert_eq!(fetched.resolved_digest, long("the pack"));
            assert_eq!(fetched.path, home.entry(long("the pack")).join("pack.gtpack"));
        }
        assert_eq!(mock.pulls(), 1);
    }
    let pinned = format!("ghcr.io/acme/pack@{}", long("another"));
    assert_eq!(refused(&pinned, image(None, vec![unnamed()])).await.exit_code(), 8);
}

#[tokio::test]
async fn an_image_without_layers_is_none() {
    let error = refused("ghcr.io/acme/pack:1", image(Some(digest("manifest")), Vec::new())).await;
    assert!(matches!(error, OciPackError::MissingLayers { .. }), "{error:?}");
}

#[tokio::test]
async fn whatever_a_client_returns_is_accepted_the_best_preferred_type_or_the_first_layer_is_taken() {
    for (types, taken) in [
        (&["application/vnd.acme.zain-x.bundle.v1+tar+gzip"][..], 0),
        (&["text/html"], 0),
        (&["application/spdx+json", "application/wasm"], 0),
        (&["application/json", "text/markdown", "application/vnd.greentic.pack+json"], 2),
        (&["a/b", "application/vnd.greentic.gtpack.v1+zip", "application/vnd.greentic.gtpack.v1+zip"], 1),
    ] {
        let (home, reference) = (Home::new(), "ghcr.io/acme/pack:1");
        let layers: Vec<_> = types
            .iter()
            .enumerate()
            .map(|(number, media_type)| layer(media_type, format!("layer {number}").as_bytes()))
            .collect();
        let mock = Mock::with(reference, image(Some(digest("manifest")), layers));
        let fetched = fetcher(&mock, &home).fetch_pack_to_cache(reference).await.unwrap();
        assert_eq!(fetched.media_type, types[taken]);
        assert_eq!(fs::read(fetched.path).unwrap(), format!("layer {taken}").into_bytes());
    }
}

/// A reference and the types that are accepted for it.
type Question = (String, Vec<String>);

/// Remembers what it was asked for.
#[derive(Clone, Default)]
struct Curious(Arc<Mutex<Vec<Question>>>);

#[async_trait]
impl RegistryClient for Curious {
    fn default_client() -> Self {
        Self::default()
    }

    async fn pull(&self, reference: &Reference, accepted: &[&str]) -> Result<PulledImage, RegistryClientError> {
        let accepted = accepted.iter().map(|&name| name.to_owned()).collect();
        self.0.lock().unwrap().push((reference.whole(), accepted));
        Ok(image(None, vec![PulledLayer { digest: None, ..layer("a/b", BYTES) }]))
    }
}

#[tokio::test]
async fn a_client_is_told_the_whole_reference_and_the_accepted_layer_types() {
    let (home, curious) = (Home::new(), Curious::default());
    let options = PackFetchOptions { accepted_layer_media_types: vec!["x/y".into()], ..options(&home) };
    let fetcher = OciPackFetcher::with_client(curious.clone(), options.add_accepted_layer_media_type("a/b"));
    let pin = digest("the pack");
    for (reference, whole) in [
        ("ghcr.io/acme/pack:1".to_owned(), "ghcr.io/acme/pack:1".to_owned()),
        ("ghcr.io/acme/pack".to_owned(), "ghcr.io/acme/pack:latest".to_owned()),
        (
            format!("ghcr.io/acme/pack@{}", pin.to_uppercase().replace("SHA256", "sha256")),
            format!("ghcr.io/acme/pack@{pin}"),
        ),
    ] {
        let before = curious.0.lock().unwrap().len();
        // The pin is here by then.
        let is_pin = reference.contains('@');
        if is_pin {
            fs::remove_dir_all(home.entry(&pin)).unwrap();
        }
        assert_eq!(fetcher.fetch_pack(&reference).await.unwrap(), BYTES);
        let asked = curious.0.lock().unwrap()[before..].to_vec();
        assert_eq!(asked, [(whole, vec!["x/y".to_owned(), "a/b".to_owned()])]);
    }
}

/// A client of a host that stands before that of this crate.
struct Wrapped(DefaultRegistryClient, AtomicUsize);

#[async_trait]
impl RegistryClient for Wrapped {
    fn default_client() -> Self {
        Self(DefaultRegistryClient::default_client(), AtomicUsize::new(0))
    }

    async fn pull(&self, reference: &Reference, accepted: &[&str]) -> Result<PulledImage, RegistryClientError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        RegistryClient::pull(&self.0, reference, accepted).await
    }
}

#[tokio::test]
async fn the_client_of_this_crate_can_stand_behind_one_of_a_host() {
    use greentic_dist_testkit::fixture::{Blob, artifact_of, index};
    use greentic_dist_testkit::scenario::{Lie, Scenario};
    let layers = vec![
        Blob::new("application/spdx+json", "{}"),
        Blob::new("application/vnd.acme+tar", "tarball"),
        Blob::new(crate::packs::GTPACK, BYTES),
    ];
    let artifact = artifact_of(layers, &[]);
    let (home, registry) = (Home::new(), Scenario::new(artifact.clone()).start());
    let document = index(&[(artifact.descriptor(), None)]);
    registry.publish_document(&document, None);
    for (reference, named) in [
        (registry.reference(), artifact.manifest_digest),
        (registry.pinned(), artifact.manifest_digest),
        (registry.pinned_to(document.digest), document.digest),
    ] {
        let client = DefaultRegistryClient::like(&home.client());
        let asked = Reference::try_from(reference.as_str()).unwrap();
        let pulled = RegistryClient::pull(&client, &asked, &[crate::packs::GTPACK]).await.unwrap();
        assert_eq!(pulled.digest, Some(named.to_string()));
        let types: Vec<_> = pulled.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        assert_eq!(types, ["application/vnd.acme+tar", crate::packs::GTPACK], "in the order of the manifest");

        let (home, wrapped) = (Home::new(), Wrapped(client, AtomicUsize::new(0)));
        let fetcher = OciPackFetcher::with_client(wrapped, options(&home));
        let fetched = fetcher.fetch_pack_to_cache(&reference).await.unwrap();
        assert_eq!((fetched.resolved_digest, fs::read(fetched.path).unwrap()), (named.to_string(), BYTES.to_vec()));
    }
    registry.lie(Lie::WrongBlob);
    let error = OciPackFetcher::with_client(
        Wrapped(DefaultRegistryClient::like(&home.client()), AtomicUsize::new(0)),
        options(&home),
    )
    .fetch_pack_to_cache(&registry.reference())
    .await
    .unwrap_err();
    assert_eq!(error.exit_code(), 8, "{error}");
    home.assert_cache_empty();
}

#[tokio::test]
async fn a_pack_of_no_bytes_is_one() {
    let (home, reference) = (Home::new(), "ghcr.io/acme/pack:1");
    let mock = Mock::with(reference, image(Some(digest("manifest")), vec![layer("text/markdown", b"")]));
    assert_eq!(fetcher(&mock, &home).fetch_pack(reference).await.unwrap(), b"");
    let pinned = format!("ghcr.io/acme/pack@{}", digest("manifest"));
    assert_eq!(fetcher(&mock, &home).fetch_pack(&pinned).await.unwrap(), b"");
    assert_eq!(mock.pulls(), 1);
}

#[tokio::test]
async fn a_damaged_pack_of_a_client_is_refused_offline_and_asked_for_anew_online() {
    for reported in [None, Some(digest("manifest"))] {
        let home = Home::new();
        let pin = reported.clone().unwrap_or_else(|| digest("the pack"));
        let reference = format!("ghcr.io/acme/pack@{pin}");
        let mock = Mock::with(&reference, image(reported, vec![layer("application/json", BYTES)]));
        let path = fetcher(&mock, &home).fetch_pack_to_cache(&reference).await.unwrap().path;
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"THE PACK").unwrap();
        let offline = PackFetchOptions { offline: true, ..options(&home) };
        let error =
            OciPackFetcher::with_client(mock.clone(), offline).fetch_pack_to_cache(&reference).await.unwrap_err();
        assert_eq!((error.exit_code(), mock.pulls()), (8, 1), "{error:?}");
        assert_eq!(fetcher(&mock, &home).fetch_pack(&reference).await.unwrap(), BYTES);
        assert_eq!(mock.pulls(), 2);
    }
}

#[tokio::test]
async fn what_rests_on_the_word_of_a_client_is_fetched_again_by_the_client_of_this_crate() {
    use greentic_dist_testkit::fixture::{Blob, artifact_of};
    use greentic_dist_testkit::scenario::Scenario;
    let artifact = artifact_of(vec![Blob::new(crate::packs::GTPACK, BYTES)], &[]);
    let (home, registry) = (Home::new(), Scenario::new(artifact.clone()).start());
    let reference = registry.pinned();
    // The host's client says that other bytes belong to the manifest, and only it gets them back.
    let lie = image(Some(artifact.manifest_digest.to_string()), vec![layer(crate::packs::GTPACK, b"other bytes")]);
    let mock = Mock::with(&reference, lie);
    assert_eq!(fetcher(&mock, &home).fetch_pack(&reference).await.unwrap(), b"other bytes");
    let offline = PackFetchOptions { offline: true, ..options(&home) };
    let error = crate::packs::fetcher(&home, offline).fetch_pack_to_cache(&reference).await.unwrap_err();
    assert!(error.to_string().contains("vouched") && error.exit_code() == 8, "{error}");
    let proven = crate::packs::fetcher(&home, options(&home)).fetch_pack(&reference).await.unwrap();
    assert_eq!(proven, BYTES);
    // From now on there is a proof, which outweighs the word.
    assert_eq!(fetcher(&mock, &home).fetch_pack(&reference).await.unwrap(), BYTES);
    assert_eq!(mock.pulls(), 1);
    let tagged = Mock::with(&registry.reference(), mock.images[&reference].clone());
    let told = fetcher(&tagged, &home).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!(fs::read(told.path).unwrap(), BYTES);
    assert_eq!(fetcher(&tagged, &home).fetch_pack(&registry.reference()).await.unwrap(), BYTES);
}

#[test]
fn many_threads_with_runtimes_of_their_own_share_one_fetcher() {
    let home = Home::new();
    let reference = format!("ghcr.io/acme/pack@{}", digest("the pack"));
    let mock = Mock::with(&reference, image(None, vec![layer("application/json", BYTES)]));
    let shared = fetcher(&mock, &home);
    let current = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    current().block_on(shared.fetch_pack_to_cache(&reference)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = current();
                for _ in 0..20 {
                    assert!(!runtime.block_on(shared.fetch_pack_to_cache(&reference)).unwrap().fetched_from_network);
                }
            });
        }
    });
    assert_eq!(mock.pulls(), 1);
}

#[tokio::test]
async fn concurrent_fetches_of_one_pack_end_with_one_whole_entry() {
    let (home, reference) = (Home::new(), "ghcr.io/acme/pack:1");
    let mock = Mock::with(reference, image(Some(digest("manifest")), vec![layer("application/json", BYTES)]));
    let shared = Arc::new(fetcher(&mock, &home));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move { shared.fetch_pack(reference).await.unwrap() });
    }
    assert!(tasks.join_all().await.iter().all(|bytes| bytes == BYTES));
    assert_eq!(fs::read_dir(home.cache().join("tmp")).unwrap().count(), 0);
}

#[cfg(feature = "dist-cli")]
#[tokio::test]
async fn the_command_line_fetches_as_the_library_does() {
    use greentic_distributor_client::dist_cli::fetch_pack_for_cli;
    let reference = "ghcr.io/acme/pack:1";
    let mock = || {
        let layers = vec![layer("application/vnd.acme.zain-x.bundle.v1+tar+gzip", BYTES)];
        Mock::with(reference, image(Some(digest("manifest")), layers))
    };
    let (one, two) = (Home::new(), Home::new());
    let library = fetcher(&mock(), &one).fetch_pack_to_cache(reference).await.unwrap();
    let told = fetch_pack_for_cli(reference, true, Some(two.cache()), false, mock()).await.unwrap();
    assert_eq!(
        (told.resolved_digest, told.media_type, told.fetched_from_network),
        (library.resolved_digest, library.media_type, library.fetched_from_network)
    );
    assert_eq!(fs::read(told.path).unwrap(), fs::read(library.path).unwrap());
    let error = fetch_pack_for_cli(reference, false, Some(two.cache()), false, mock()).await.unwrap_err();
    assert_eq!(error.code, 2);
}

#[tokio::test]
async fn what_a_client_says_about_a_tag_does_not_replace_what_a_registry_proved() {
    let (home, registry) = (Home::new(), crate::support::registry());
    let reference = registry.reference();
    let client = home.client();
    let source = client.parse_source(&format!("oci://{reference}")).unwrap();
    let proven = client.fetch(&client.resolve(source, ResolvePolicy).await.unwrap(), CachePolicy).await.unwrap();

    let mock = Mock::with(&reference, image(Some(digest("its word")), vec![layer("application/json", BYTES)]));
    fetcher(&mock, &home).fetch_pack_to_cache(&reference).await.unwrap();

    let offline = home.offline();
    let source = offline.parse_source(&format!("oci://{reference}")).unwrap();
    let again = offline.fetch(&offline.resolve(source, ResolvePolicy).await.unwrap(), CachePolicy).await.unwrap();
    assert_eq!(again.digest, proven.digest);
    // Whoever believes the client finds what it said.
    let options = PackFetchOptions { offline: true, ..options(&home) };
    let told =
        OciPackFetcher::with_client(mock.clone(), options.clone()).fetch_pack_to_cache(&reference).await.unwrap();
    assert_eq!((told.resolved_digest, mock.pulls()), (digest("its word"), 1));
    // Once that is gone, what the registry proved is still here.
    home.client().remove_cached(&[digest("its word")]).unwrap();
    let told =
        OciPackFetcher::with_client(mock.clone(), options.clone()).fetch_pack_to_cache(&reference).await.unwrap();
    assert_eq!(told.resolved_digest, proven.digest);
    home.client().remove_cached(std::slice::from_ref(&proven.digest)).unwrap();
    let error = OciPackFetcher::with_client(mock, options).fetch_pack_to_cache(&reference).await.unwrap_err();
    assert!(
        matches!(&error, OciPackError::OfflineMissing { digest: gone, .. } if *gone == digest("its word")),
        "{error:?}"
    );
}
