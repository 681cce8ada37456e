//! Which layer is the pack, what the cache is worth, and where a login goes: each rule by the attack or the defect behind it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::content::sha512_blob;
use greentic_dist_testkit::fixture::{self, Artifact, Blob, artifact_of, index};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario, bystander};
use greentic_dist_types::{Algorithm, Digest};
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci_packs::{
    DefaultRegistryClient, OciPackError, OciPackFetcher, PackFetchOptions, ResolvedPack,
};

use crate::packs::{GTPACK, assert_refused, fetcher, options};
use crate::support::{CANARY, Home};

fn pack_of(layers: Vec<Blob>) -> Artifact {
    artifact_of(layers, &[])
}

fn pack(seed: u64) -> Artifact {
    pack_of(vec![Blob::new(GTPACK, fixture::random_bytes(seed, 20_000))])
}

fn serve(artifact: &Artifact) -> LyingRegistry {
    Scenario::new(artifact.clone()).start()
}

async fn fetch(home: &Home, reference: &str) -> Result<ResolvedPack, OciPackError> {
    fetcher(home, options(home)).fetch_pack_to_cache(reference).await
}

async fn fetch_offline(home: &Home, reference: &str) -> Result<ResolvedPack, OciPackError> {
    fetcher(home, PackFetchOptions { offline: true, ..options(home) }).fetch_pack_to_cache(reference).await
}

/// A cache with one good pack in it: what is refused must leave it as it is.
struct Before {
    home: Home,
    tree: TreeSnapshot,
}

impl Before {
    async fn new() -> Self {
        let (home, good) = (Home::new(), pack(900));
        fetch(&home, &serve(&good).reference()).await.unwrap();
        let tree = TreeSnapshot::of(&home.cache());
        Self { home, tree }
    }

    #[track_caller]
    fn refused(
        &self,
        result: Result<ResolvedPack, OciPackError>,
        reference: &str,
        kind: DistErrorKind,
        reasons: &[&str],
    ) -> OciPackError {
        let error = result.expect_err("a pack came");
        assert_refused(&error, reference, kind, reasons);
        let diff = self.tree.diff(&TreeSnapshot::of(&self.home.cache()));
        assert!(diff.is_empty(), "the cache changed:\n{}", diff.join("\n"));
        self.home.assert_nothing_outside_changed();
        error
    }
}

#[tokio::test]
async fn row_30_without_a_usable_layer_the_types_are_listed_and_among_equals_the_first_is_taken() {
    let before = Before::new().await;
    let none = serve(&pack_of(Vec::new()));
    let reference = none.reference();
    let error =
        before.refused(fetch(&before.home, &reference).await, &reference, DistErrorKind::Internal, &["no layers"]);
    assert!(matches!(error, OciPackError::MissingLayers { .. }));

    let foreign = serve(&pack_of(vec![Blob::new("text/html", "<p>"), Blob::new("application/spdx+json", "{}")]));
    let reference = foreign.reference();
    let reasons = ["text/html", "application/spdx+json", GTPACK];
    let error = before.refused(fetch(&before.home, &reference).await, &reference, DistErrorKind::Internal, &reasons);
    assert!(matches!(error, OciPackError::NoUsableLayer { .. }));
    assert_eq!(foreign.journal().count_containing("/blobs/"), 0);

    let (first, second) = (Blob::new(GTPACK, "first"), Blob::new(GTPACK, "second"));
    for layers in [[first.clone(), second.clone()], [second, first]] {
        let (home, registry) = (Home::new(), serve(&pack_of(layers.to_vec())));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        assert_eq!(fs::read(taken.path).unwrap(), layers[0].bytes);
        assert_eq!(registry.journal().count_containing("/blobs/"), 1);
    }
}

#[tokio::test]
async fn the_best_preferred_layer_is_taken_in_whatever_order_they_stand_and_no_other_is_downloaded() {
    let layers = [
        Blob::new("application/spdx+json", "{\"sbom\":1}"),
        Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", "tarball"),
        Blob::new("text/markdown", "# read me"),
        Blob::new(GTPACK, "the pack"),
        Blob::new("application/wasm", "\0asm"),
    ];
    for turn in 0..layers.len() {
        let mut turned = layers.to_vec();
        turned.rotate_left(turn);
        let (home, registry) = (Home::new(), serve(&pack_of(turned)));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        assert_eq!((taken.media_type.as_str(), fs::read(&taken.path).unwrap()), (GTPACK, b"the pack".to_vec()));
        let blob = format!("GET /v2/acme/hello/blobs/{}", layers[3].digest);
        assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1", &blob]);
    }
    // Without a preferred one, the first that is accepted.
    let (home, registry) =
        (Home::new(), serve(&pack_of(vec![layers[0].clone(), layers[4].clone(), layers[1].clone()])));
    let taken = fetch(&home, &registry.reference()).await.unwrap();
    assert_eq!(fs::read(taken.path).unwrap(), layers[1].bytes);
}

#[tokio::test]
async fn types_of_a_host_are_accepted_and_preferred_as_it_says() {
    let layers = vec![Blob::new("text/html", "<p>"), Blob::new("application/vnd.acme.kit", "kit")];
    let (home, registry) = (Home::new(), serve(&pack_of(layers)));
    let accepting = options(&home).add_accepted_layer_media_types(["text/html", "application/vnd.acme.kit"]);
    let taken = fetcher(&home, accepting.clone()).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!(taken.media_type, "text/html");
    let elsewhere = Home::new();
    let preferring = PackFetchOptions {
        preferred_layer_media_types: vec!["application/vnd.acme.kit".to_owned()],
        cache_dir: elsewhere.cache(),
        ..accepting
    };
    let taken = fetcher(&elsewhere, preferring).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!(taken.media_type, "application/vnd.acme.kit");
    // What another fetcher took is not handed to one that does not accept it.
    let error = fetch(&home, &registry.pinned()).await.unwrap_err();
    assert!(matches!(&error, OciPackError::NoUsableLayer { .. }) && error.to_string().contains("text/html"), "{error}");
    assert_eq!(options(&home).add_accepted_layer_media_type("a/b").accepted_layer_media_types.last().unwrap(), "a/b");
}

#[tokio::test]
async fn row_34_a_component_manifest_beside_a_pack_names_no_file() {
    for name in ["..", ".", "/", "C:", "entry.json", "metadata.json", "../../outside/sentinel", "con", "a\\u0000b"] {
        let manifest = format!(r#"{{"artifacts":{{"component_wasm":"{name}"}}}}"#);
        let layers =
            vec![Blob::new("application/vnd.greentic.component.manifest+json", manifest), Blob::new(GTPACK, "pack")];
        let (home, registry) = (Home::new(), serve(&pack_of(layers)));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        let dir = taken.path.parent().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.retain(|name| !["last_used", "verified"].contains(&name.as_str()));
        assert_eq!(names, ["entry.json", "manifest.json", "metadata.json", "pack.gtpack"], "{name}");
        assert_eq!(registry.journal().count_containing("/blobs/"), 1);
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn d03_a_name_in_a_manifest_takes_the_place_of_no_document() {
    for name in ["metadata.json", "manifest.json", "entry.json", "pack.gtpack"] {
        let title = [("org.opencontainers.image.title", name), ("artifacts.component_wasm", name)];
        let artifact = artifact_of(vec![Blob::new(GTPACK, "pack")], &title);
        let (home, registry) = (Home::new(), serve(&artifact));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        let read = |name: &str| fs::read_to_string(taken.path.with_file_name(name)).unwrap();
        assert_eq!(read("pack.gtpack"), "pack");
        assert_eq!(read("manifest.json").into_bytes(), artifact.manifest_bytes);
        for document in ["metadata.json", "entry.json"] {
            assert!(read(document).contains(&artifact.manifest_digest.to_string()), "{document}");
        }
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn row_35_a_title_is_never_a_path() {
    for title in ["../../outside/sentinel", "/etc/passwd", "pack.gtpack/../../x", "\u{1b}[2Jx", "entry.json"] {
        let artifact = artifact_of(vec![Blob::new(GTPACK, "pack")], &[("org.opencontainers.image.title", title)]);
        let (home, registry) = (Home::new(), serve(&artifact));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        assert_eq!(taken.path, home.entry(artifact.manifest_digest).join("pack.gtpack"));
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn d01_bytes_that_are_not_those_of_the_pin_or_of_the_manifest_are_refused() {
    let before = Before::new().await;
    let registry = serve(&pack(1));
    let (tag, pinned) = (registry.reference(), registry.pinned());
    registry.lie(Lie::WrongManifestEchoed);
    let pin = registry.artifact().manifest_digest.to_string();
    let error = before.refused(fetch(&before.home, &pinned).await, &pinned, DistErrorKind::Integrity, &[&pin]);
    assert!(matches!(&error, OciPackError::DigestMismatch { expected, .. } if *expected == pin), "{error:?}");
    registry.be_honest();
    registry.lie(Lie::WrongBlob);
    for reference in [&tag, &pinned] {
        let layer = registry.artifact().layer_digest().to_string();
        before.refused(fetch(&before.home, reference).await, reference, DistErrorKind::Integrity, &[&layer]);
    }
    registry.be_honest();
    fetch(&before.home, &pinned).await.unwrap();
}

#[tokio::test]
async fn d02_a_digest_in_a_header_is_never_a_path() {
    for header in ["../../outside/x", "/abs/x", "sha256:../../x", "sha256:", "\u{fc}"] {
        let (home, registry) = (Home::new(), serve(&pack(2)));
        registry.lie(Lie::DigestHeader(header.to_owned()));
        let taken = fetch(&home, &registry.reference()).await.unwrap();
        assert_eq!(taken.path, home.entry(registry.artifact().manifest_digest).join("pack.gtpack"), "{header}");
        home.assert_nothing_outside_changed();
    }
}

/// A cached pack, the registry that has it, and where it is.
async fn kept(seed: u64) -> (Home, LyingRegistry, PathBuf) {
    let (home, registry) = (Home::new(), serve(&pack(seed)));
    let path = fetch(&home, &registry.reference()).await.unwrap().path;
    registry.journal().clear();
    (home, registry, path)
}

#[tokio::test]
async fn d04_a_damaged_cached_pack_is_refused_offline_and_healed_online() {
    for bytes in [&b""[..], b"evil", &fixture::random_bytes(77, 20_000)] {
        let (home, registry, path) = kept(3).await;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        for reference in [registry.reference(), registry.pinned()] {
            let error = fetch_offline(&home, &reference).await.unwrap_err();
            assert!(matches!(error, OciPackError::Corrupt { .. }), "{error:?}");
            assert_refused(&error, &reference, DistErrorKind::Integrity, &["pack.gtpack"]);
            assert!(!error.hints().is_empty());
        }
        assert!(registry.journal().is_empty());
        let healed = fetch(&home, &registry.pinned()).await.unwrap();
        assert!(healed.fetched_from_network);
        assert_eq!(fs::read(&healed.path).unwrap(), registry.artifact().layer_bytes());
        assert!(!fetch_offline(&home, &registry.reference()).await.unwrap().fetched_from_network);
        home.assert_nothing_outside_changed();
    }
}

#[tokio::test]
async fn d04_a_pack_without_its_documents_is_found_out_or_proven_without_them() {
    for lost in ["metadata.json", "entry.json", "verified"] {
        let (home, registry, path) = kept(4).await;
        drop(fs::remove_file(path.with_file_name(lost)));
        assert_eq!(fetch_offline(&home, &registry.pinned()).await.unwrap().path, path, "{lost}");
    }
    let (home, registry, path) = kept(4).await;
    fs::remove_file(path.with_file_name("manifest.json")).unwrap();
    let error = fetch_offline(&home, &registry.pinned()).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity, "{error}");
    fetch(&home, &registry.pinned()).await.unwrap();
}

#[tokio::test]
async fn files_that_hosts_put_beside_a_pack_stay_and_are_not_believed() {
    let (home, registry, path) = kept(5).await;
    let beside = path.with_file_name("pack.gtpack.describe.cbor");
    fs::write(&beside, "mine").unwrap();
    assert_eq!(fetch(&home, &registry.pinned()).await.unwrap().path, path);
    assert_eq!(fs::read_to_string(beside).unwrap(), "mine");
}

#[tokio::test]
async fn d08_a_login_goes_to_the_registry_of_the_reference_and_to_no_other_host() {
    let client = || DefaultRegistryClient::with_basic_auth("alice", CANARY);
    assert!(!format!("{:?}", client()).contains(CANARY));
    for auth in [Auth::basic("alice", CANARY), Auth::bearer("alice", CANARY)] {
        let (home, registry) = (Home::new(), Scenario::new(pack(6)).auth(auth).start());
        let fetcher = OciPackFetcher::with_client(client(), options(&home));
        assert!(!format!("{fetcher:?}").contains(CANARY));
        fetcher.fetch_pack_to_cache(&registry.reference()).await.unwrap();
        home.assert_in_no_file(CANARY);
    }
    // A realm on another host is told nothing, and the failure says why.
    let elsewhere = bystander(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let registry = Scenario::new(pack(6))
        .auth(Auth::bearer("alice", CANARY))
        .lie(Lie::Realm(format!("{}/token", elsewhere.url())))
        .start();
    let before = Before::new().await;
    let reference = registry.reference();
    let result = OciPackFetcher::with_client(client(), options(&before.home)).fetch_pack_to_cache(&reference).await;
    let error = before.refused(result, &reference, DistErrorKind::Policy, &[]);
    assert!(!error.to_string().contains(CANARY) && !format!("{error:?}").contains(CANARY));
    assert!(!elsewhere.journal().contains(CANARY) && !elsewhere.journal().contains("YWxpY2U6"));
    // Nor is a registry that blobs are redirected to.
    let cdn = greentic_dist_testkit::scenario::blob_host(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), &pack(6));
    let registry = Scenario::new(pack(6)).auth(Auth::basic("alice", CANARY)).start();
    registry.lie(Lie::RedirectBlob { status: 307, base: cdn.url() });
    let home = Home::new();
    OciPackFetcher::with_client(client(), options(&home)).fetch_pack_to_cache(&registry.reference()).await.unwrap();
    assert_eq!(cdn.journal().len(), 1);
    assert!(!cdn.journal().contains(CANARY) && !cdn.journal().any_header_contains("YWxpY2U6"));
}

#[tokio::test]
async fn d08_a_login_for_one_registry_is_not_told_to_another_that_a_reference_names() {
    let mine = Scenario::new(pack(6)).auth(Auth::basic("alice", CANARY)).start();
    let theirs = Scenario::new(pack(6)).auth(Auth::basic("alice", CANARY)).start();
    let (home, other) = (Home::new(), Before::new().await);
    let client = DefaultRegistryClient::with_registry_login(mine.host(), "alice", CANARY);
    OciPackFetcher::with_client(client.clone(), options(&home)).fetch_pack_to_cache(&mine.reference()).await.unwrap();
    let reference = theirs.reference();
    let result = OciPackFetcher::with_client(client, options(&other.home)).fetch_pack_to_cache(&reference).await;
    other.refused(result, &reference, DistErrorKind::Auth, &["401"]);
    assert!(!theirs.journal().contains(CANARY) && !theirs.journal().any_header_contains("Basic"));
}

#[tokio::test]
async fn d09_an_index_is_held_against_its_pin_and_its_only_entry_is_taken() {
    let (home, only) = (Home::new(), pack(7));
    let registry = serve(&only);
    let document = index(&[(only.descriptor(), None), (pack(8).descriptor(), Some(("unknown", "unknown")))]);
    registry.publish_document(&document, None);
    let reference = registry.pinned_to(document.digest);
    let taken = fetch(&home, &reference).await.unwrap();
    assert_eq!(
        (taken.resolved_digest, taken.manifest_digest),
        (document.digest.to_string(), Some(only.manifest_digest.to_string()))
    );
    let before = Before::new().await;
    registry.lie(Lie::WrongManifestEchoed);
    let pin = document.digest.to_string();
    before.refused(fetch(&before.home, &reference).await, &reference, DistErrorKind::Integrity, &[&pin]);
}

#[tokio::test]
async fn d10_pins_are_good_in_capitals_and_in_sha512() {
    let (home, artifact) = (Home::new(), pack(9));
    let registry = serve(&artifact);
    let (name, hex) = (format!("{}/acme/hello", registry.host()), artifact.manifest_digest.to_hex());
    let taken = fetch(&home, &format!("{name}@sha256:{}", hex.to_uppercase())).await.unwrap();
    assert_eq!(taken.resolved_digest, artifact.manifest_digest.to_string());

    let long = Digest::of(Algorithm::Sha512, &artifact.manifest_bytes);
    registry.publish_document(&sha512_document(&artifact), None);
    for (reference, offline) in
        [(format!("{name}@{long}"), false), (format!("{name}@sha512:{}", long.to_hex().to_uppercase()), true)]
    {
        let taken = if offline {
            fetch_offline(&home, &reference).await.unwrap()
        } else {
            fetch(&home, &reference).await.unwrap()
        };
        assert_eq!(taken.resolved_digest, long.to_string());
        assert_eq!(taken.path, home.entry(long).join("pack.gtpack"));
        assert_eq!(fs::read(taken.path).unwrap(), artifact.layer_bytes());
    }
}

/// The manifest of an artifact under its SHA-512.
fn sha512_document(artifact: &Artifact) -> Blob {
    sha512_blob(&artifact.media_type, artifact.manifest_bytes.clone())
}

#[tokio::test]
async fn d11_manifests_and_indexes_of_other_types_are_refused() {
    let before = Before::new().await;
    let artifact = pack(10);
    let registry = serve(&artifact);
    let document = index(&[(artifact.descriptor(), None)]);
    registry.publish_document(&document, Some("index"));
    let only = |types: &[&str]| PackFetchOptions {
        accepted_manifest_types: types.iter().map(|&name| name.to_owned()).collect(),
        ..options(&before.home)
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    for (types, reference, refused) in [
        (&["application/vnd.docker.distribution.manifest.v2+json"][..], registry.reference(), manifest),
        (&[manifest], registry.reference_to("index"), "application/vnd.oci.image.index.v1+json"),
        (&[], registry.pinned(), manifest),
    ] {
        let result = fetcher(&before.home, only(types)).fetch_pack_to_cache(&reference).await;
        before.refused(result, &reference, DistErrorKind::Policy, &[refused]);
    }
    let taken = fetcher(&before.home, only(&["Application/VND.oci.image.manifest.v1+json"]));
    taken.fetch_pack_to_cache(&registry.reference()).await.unwrap();
}

#[tokio::test]
async fn d14_a_manifest_is_asked_for_once_and_a_config_never() {
    let (home, artifact) = (Home::new(), pack(11));
    let registry = serve(&artifact);
    fetch(&home, &registry.reference()).await.unwrap();
    assert_eq!(registry.journal().len(), 2, "{:?}", registry.journal().lines());
    assert_eq!(registry.journal().count_containing(&artifact.config.digest.to_string()), 0);
}

#[tokio::test]
async fn d15_a_tag_that_was_asked_for_once_opens_offline_and_an_unknown_one_says_so() {
    let (home, registry, path) = kept(12).await;
    let found = fetch_offline(&home, &registry.reference()).await.unwrap();
    assert_eq!((found.path, found.fetched_from_network), (path, false));
    for (reference, missing) in [
        (registry.reference_to("never"), None),
        (registry.pinned_to(Digest::sha256(b"never")), Some(Digest::sha256(b"never").to_string())),
    ] {
        let error = fetch_offline(&home, &reference).await.unwrap_err();
        assert_refused(&error, &reference, DistErrorKind::Offline, &[]);
        match (&error, missing) {
            (OciPackError::OfflineTaggedReference { .. }, None) => {}
            (OciPackError::OfflineMissing { digest, .. }, Some(missing)) => assert_eq!(*digest, missing),
            other => panic!("{other:?}"),
        }
    }
    // What the tag stands for is known, and it is gone.
    home.client().remove_cached(&[registry.artifact().manifest_digest.to_string()]).unwrap();
    let error = fetch_offline(&home, &registry.reference()).await.unwrap_err();
    let pin = registry.artifact().manifest_digest.to_string();
    assert!(matches!(&error, OciPackError::OfflineMissing { digest, .. } if *digest == pin), "{error:?}");
    assert!(registry.journal().is_empty());
}

#[test]
fn d29_one_fetcher_serves_several_runtimes_and_tasks_and_downloads_once() {
    let (home, registry) = (Home::new(), serve(&pack(13)));
    let shared = std::sync::Arc::new(fetcher(&home, options(&home)));
    let current = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current().block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (shared, reference) = (std::sync::Arc::clone(&shared), registry.reference());
            tasks.spawn(async move { shared.fetch_pack_to_cache(&reference).await.unwrap().path });
        }
        let paths = tasks.join_all().await;
        assert!(paths.iter().all(|path| *path == paths[0]));
    });
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
    // The connections of that runtime are gone with it.
    let other = pack(14);
    registry.publish(&other, "other");
    for _ in 0..2 {
        let taken = current().block_on(shared.fetch_pack(&registry.reference_to("other"))).unwrap();
        assert_eq!(taken, other.layer_bytes());
    }
}

#[tokio::test]
async fn d31_a_fetcher_remembers_nothing_that_the_directory_does_not_hold() {
    let (home, registry) = (Home::new(), serve(&pack(15)));
    let fetcher = fetcher(&home, options(&home));
    let first = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    fs::remove_dir_all(first.path.parent().unwrap()).unwrap();
    let again = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    assert!(again.fetched_from_network);
    fs::write(first.path.with_file_name("metadata.json"), r#"{"media_type":"x/evil","resolved_digest":"sha256:x"}"#)
        .unwrap();
    let found = fetcher.fetch_pack_to_cache(&registry.pinned()).await.unwrap();
    assert_eq!((found.media_type.as_str(), found.fetched_from_network), (GTPACK, false));
}

#[tokio::test]
async fn a_registry_that_is_down_is_temporary_and_a_cached_pin_opens_all_the_same() {
    let (home, registry, path) = kept(16).await;
    registry.lie(Lie::status(Part::All, 503));
    assert_eq!(fetch(&home, &registry.pinned()).await.unwrap().path, path);
    let before = Before::new().await;
    let reference = registry.pinned();
    let error = before.refused(fetch(&before.home, &reference).await, &reference, DistErrorKind::Temporary, &["503"]);
    assert!(error.is_transient());
    registry.be_honest();
    registry.lie(Lie::status(Part::Manifest, 404));
    let reference = registry.reference_to("gone");
    before.refused(fetch(&before.home, &reference).await, &reference, DistErrorKind::NotFound, &["404"]);
}

#[tokio::test]
async fn what_a_registry_says_of_a_missing_manifest_is_in_the_text() {
    let (home, registry) = (Home::new(), serve(&pack(17)));
    let reference = registry.reference_to("missing");
    let error = fetch(&home, &reference).await.unwrap_err();
    assert_refused(&error, &reference, DistErrorKind::NotFound, &["manifest unknown"]);
    assert!(matches!(&error, OciPackError::PullFailed { .. }));
    // As hosts take it: in a box that crosses threads.
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert!(boxed.source().is_some());
}

#[tokio::test]
async fn a_pack_is_saved_to_a_file_whole_or_not_at_all() {
    let (home, registry) = (Home::new(), serve(&pack(18)));
    let (fetcher, target) = (fetcher(&home, options(&home)), home.path().join("out.gtpack"));
    let saved = fetcher.fetch_pack_to_file(&registry.reference(), &target, false).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), registry.artifact().layer_bytes());
    assert!(saved.path.is_file());
    fs::write(&target, "mine").unwrap();
    registry.journal().clear();
    let reference = registry.reference();
    let error = fetcher.fetch_pack_to_file(&reference, &target, false).await.unwrap_err();
    assert_refused(&error, &reference, DistErrorKind::InvalidInput, &["there already"]);
    assert!(registry.journal().is_empty(), "what cannot be written is not asked for");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    fetcher.fetch_pack_to_file(&reference, &target, true).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), registry.artifact().layer_bytes());
}
