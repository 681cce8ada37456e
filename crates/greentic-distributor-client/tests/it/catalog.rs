//! The provider catalog of a bundle: what is asked of whom, and what is handed out.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, Blob};
use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, bystander};
use greentic_distributor_client::dist::DistErrorKind::{
    Auth as Unauthorized, Integrity, Internal, InvalidInput, NotFound, Offline, Temporary,
};
use greentic_distributor_client::provider_registry::{
    CatalogError, CatalogOrigin, CatalogSource, ProviderRegistry, RegistryBases, cache_registry_file,
    resolve_catalog_path,
};
use serde_json::json;

use crate::catalog_support::{JSON, Shop, artifact, assert_refused, document, ids, resolve};
use crate::support::{CANARY, Home, login};

#[tokio::test]
async fn a_catalog_file_is_returned_as_it_is_and_nothing_is_cached_for_it() {
    let shop = Shop::new();
    let registry = shop.builder().refresh(true).build();
    for path in ["nowhere.json", "/", ""] {
        let found = registry.resolve(Some(path.into()), Some(&shop.reference())).await.unwrap().unwrap();
        assert_eq!((found.path.as_path(), found.source), (Path::new(path), CatalogSource::File));
        assert!(found.requested_reference.is_none());
        let error = found.catalog().unwrap_err();
        assert!(matches!(error, CatalogError::Unreadable { .. }), "{path:?}: {error:?}");
        let path =
            resolve_catalog_path(Some(path.into()), Some(&shop.reference()), false, true, shop.bundle()).unwrap();
        assert_eq!(path, Some(found.path));
    }
    assert!(shop.asked().is_empty() && !shop.bundle().join(".greentic").exists());
}

#[tokio::test]
async fn no_reference_or_a_blank_one_is_no_catalog() {
    let shop = Shop::new();
    for reference in [None, Some(""), Some(" \t"), Some("file://"), Some("file:// ")] {
        assert!(shop.builder().build().resolve(None, reference).await.unwrap().is_none());
        assert_eq!(resolve_catalog_path(None, reference, false, true, shop.bundle()).unwrap(), None);
    }
}

#[tokio::test]
async fn a_local_reference_is_that_very_path_and_must_be_a_regular_file() {
    let shop = Shop::new();
    let file = shop.home.path().join("catalog.json");
    fs::write(&file, document(&["x"])).unwrap();
    let registry = shop.builder().offline(true).refresh(true).build();
    for reference in [file.display().to_string(), format!("file://{}", file.display())] {
        let found = resolve(&registry, &reference).await.unwrap();
        assert_eq!((&found.path, found.source, ids(&found)), (&file, CatalogSource::File, vec!["x"]));
        assert_eq!(found.size_bytes, Some(fs::metadata(&file).unwrap().len()));
        assert!(!found.is_stale && found.age.is_none());
    }
    let missing = shop.home.path().join("missing.json").display().to_string();
    for reference in [missing.clone(), format!("file://{missing}")] {
        let said = ["provider registry path", "does not exist", missing.as_str()];
        assert_refused(resolve(&registry, &reference).await, NotFound, 3, &said);
    }
    let odd = shop.home.path().join("cat?a=log#1.json").display().to_string();
    assert_refused(resolve(&registry, &odd).await, NotFound, 3, &[&odd]);
    let dir = shop.home.path().display().to_string();
    assert_refused(resolve(&registry, &dir).await, InvalidInput, 2, &["not a regular file", &dir]);
    // A bare name of a registry is a path, and asked of nobody.
    let bare = shop.registry.reference();
    assert_refused(resolve(&shop.builder().build(), &bare).await, NotFound, 3, &["does not exist", &bare]);
    assert!(shop.asked().is_empty() && !shop.bundle().join(".greentic").exists());
}

#[tokio::test]
async fn an_unknown_scheme_is_refused_with_the_accepted_ones() {
    let shop = Shop::new();
    let accepted = ["oci://", "repo://", "store://", "file://", "local path"];
    for reference in ["https://ghcr.io/x/y", "ftp://x", "://x", "docker://x/y"] {
        let said: Vec<&str> = accepted.iter().copied().chain([reference]).collect();
        assert_refused(resolve(&shop.builder().build(), reference).await, InvalidInput, 2, &said);
    }
    let secret = format!("https://ann:{CANARY}@host/catalog.json");
    assert_refused(resolve(&shop.builder().build(), &secret).await, InvalidInput, 2, &["https://host/catalog.json"]);
}

#[tokio::test]
async fn a_catalog_is_fetched_with_two_requests_and_then_with_none() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    assert_eq!(fs::read(&found.path).unwrap(), document(&["a", "b"]));
    let blob = format!("GET /v2/acme/providers/blobs/{}", shop.registry.artifact().layer_digest());
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest".to_owned(), blob]);
    assert_eq!((found.source, found.origin), (CatalogSource::Network, Some(CatalogOrigin::Registry)));

    let again = shop.get().await.unwrap();
    assert_eq!((again.source, &again.path), (CatalogSource::Cache, &found.path));
    assert_eq!(shop.offline().await.unwrap().path, found.path);
    assert!(shop.asked().is_empty());
    // A name that a person recognises, below the bundle, and nowhere else.
    let name = found.path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("oci-127-0-0-1-") && name.contains("-acme-providers-latest-"), "{name}");
    assert_eq!(found.path.parent().unwrap(), shop.cache());
    assert!(!shop.home.cache().exists());
}

#[tokio::test]
async fn the_record_says_what_was_asked_what_came_and_when() {
    let shop = Shop::new();
    let found = shop.get().await.unwrap();
    let published = shop.registry.artifact();
    assert_eq!(found.requested_reference, Some(shop.reference()));
    assert_eq!(found.resolved_reference, Some(shop.registry.reference()));
    assert_eq!(found.manifest_digest, Some(published.manifest_digest.to_string()));
    assert_eq!(found.layer_digest, Some(published.layer_digest().to_string()));
    assert_eq!(found.size_bytes, Some(published.layer_bytes().len() as u64));
    assert_eq!(found.media_type.as_deref(), Some(JSON));
    assert!(!found.is_stale && found.refresh_failure.is_none());
    assert!(found.checked_at.is_some() && found.fetched_at == found.checked_at && found.age.is_some());
    assert_eq!((found.item_count(), ids(&found)), (Some(2), vec!["a", "b"]));
    // From the cache the same, but for the source.
    let cached = shop.offline().await.unwrap();
    assert_eq!((&cached.manifest_digest, &cached.layer_digest), (&found.manifest_digest, &found.layer_digest));
    assert_eq!((cached.checked_at, &cached.resolved_reference), (found.checked_at, &found.resolved_reference));
    // And so for readers of the index: the map of earlier versions, and one with the facts.
    let (index, reference) = (shop.index(), shop.reference());
    assert_eq!(index["refs"], json!({ &reference: published.manifest_digest.to_string() }));
    let facts = &index["entries"][&reference];
    assert_eq!(facts["content_digest"], published.layer_digest().to_string());
    assert_eq!((&facts["media_type"], &facts["origin"]), (&json!(JSON), &json!("registry")));
    let text = fs::read_to_string(shop.cache().join("index.json")).unwrap();
    assert!(text.starts_with("{\n  \"") && text.ends_with("}\n"), "{text}");
}

#[tokio::test]
async fn a_refresh_that_finds_nothing_new_is_one_conditional_request_and_writes_no_copy() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    shop.asked();
    let copies = ["index.json", "records", "locks"];
    let before = TreeSnapshot::ignoring(&shop.cache(), &copies);
    for _ in 0..3 {
        let journal = shop.registry.journal();
        let found = shop.refreshed().await.unwrap();
        assert!(journal.header_of(0, "If-None-Match").is_some());
        assert_eq!(journal.entries()[0].status, 304);
        assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
        assert_eq!(found.path, shop.by_digest(shop.registry.artifact()));
        assert_eq!((found.source, found.is_stale), (CatalogSource::Cache, false));
        assert!(found.checked_at >= first.checked_at && found.fetched_at == first.fetched_at);
    }
    let diff = before.diff(&TreeSnapshot::ignoring(&shop.cache(), &copies));
    assert!(diff.is_empty(), "{diff:?}");
    // Without the copy by digest, the one by reference.
    fs::remove_file(shop.by_digest(shop.registry.artifact())).unwrap();
    assert_eq!(shop.refreshed().await.unwrap().path, first.path);
}

#[tokio::test]
async fn a_registry_without_etags_is_told_the_digest_and_a_full_answer_that_is_the_same_fetches_no_layer() {
    let shop = Shop::with(Scenario::new(artifact(&["a"])).lie(Lie::NoEtag));
    shop.get().await.unwrap();
    shop.asked();
    let found = shop.refreshed().await.unwrap();
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
    assert_eq!((found.source, found.is_stale), (CatalogSource::Cache, false));
}

#[tokio::test]
async fn a_refresh_that_finds_another_catalog_takes_it_over() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    shop.publish(&["a", "b", "c"]);
    // Only a refresh asks.
    assert_eq!(ids(&shop.get().await.unwrap()), ["a", "b"]);
    shop.asked();
    let found = shop.refreshed().await.unwrap();
    assert_eq!((found.source, ids(&found)), (CatalogSource::Network, vec!["a", "b", "c"]));
    assert_eq!(shop.asked().len(), 2);
    assert_eq!((&found.path, ids(&shop.offline().await.unwrap())), (&first.path, vec!["a", "b", "c"]));
    // Whoever was handed the path of the old copy by digest still has it.
    assert_eq!(fs::read(shop.by_digest(shop.registry.artifact())).unwrap(), document(&["a", "b"]));
}

#[tokio::test]
async fn another_manifest_around_the_same_bytes_downloads_no_layer() {
    let shop = Shop::new();
    shop.get().await.unwrap();
    let same = fixture::artifact_of(vec![Blob::new(JSON, document(&["a", "b"]))], &[("built", "again")]);
    shop.registry.publish(&same, "latest");
    shop.asked();
    let found = shop.refreshed().await.unwrap();
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
    assert_eq!(found.manifest_digest, Some(same.manifest_digest.to_string()));
    assert_eq!(shop.offline().await.unwrap().manifest_digest, found.manifest_digest);
}

#[tokio::test]
async fn a_refresh_that_fails_hands_out_the_copy_and_says_why_and_how_old_it_is() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    let before = TreeSnapshot::of(&shop.cache());
    for (lie, kind, said) in [
        (Lie::status(Part::Manifest, 404), NotFound, "404"),
        (Lie::status(Part::Manifest, 500), Temporary, "500"),
        (Lie::status(Part::All, 403), Unauthorized, "403"),
    ] {
        shop.registry.be_honest();
        shop.registry.lie(lie);
        let found = shop.refreshed().await.unwrap();
        assert_eq!((&found.path, found.source, found.is_stale), (&first.path, CatalogSource::Cache, true));
        let failure = found.refresh_failure.clone().unwrap();
        assert!(failure.kind == kind && failure.message.contains(said), "{failure:?}");
        assert!(found.age.is_some() && found.checked_at == first.checked_at);
        before.assert_unchanged(&shop.cache());
    }
}

#[tokio::test]
async fn a_refresh_that_fails_hands_out_the_copy_by_digest_where_that_is_the_good_one() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    shop.registry.lie(Lie::status(Part::All, 500));
    let by_digest = shop.by_digest(shop.registry.artifact());
    for damaged in [Some(&b"{}"[..]), None] {
        match damaged {
            Some(bytes) => fs::write(&first.path, bytes).unwrap(),
            None => fs::remove_file(&first.path).unwrap(),
        }
        let found = shop.refreshed().await.unwrap();
        assert_eq!((&found.path, ids(&found), found.is_stale), (&by_digest, vec!["a", "b"], true));
    }
    fs::remove_file(by_digest).unwrap();
    assert_refused(shop.refreshed().await, Temporary, 7, &["no cached copy was found", "500"]);
}

#[tokio::test]
async fn bytes_that_are_no_json_never_take_the_place_of_a_good_copy() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    let before = TreeSnapshot::of(&shop.cache());
    let page = b"<!doctype html><title>Log in</title>".to_vec();
    for (bytes, said) in [
        (page.clone(), "<!doctype html>"),
        (b"\0asm\x0d\0\x01\0\xff\xfe".to_vec(), "no text"),
        (b"\"a text\"".to_vec(), "neither a list nor an object"),
        (b"{\"items\": [".to_vec(), "no JSON"),
        (b" \n".to_vec(), "empty"),
        (Vec::new(), "empty"),
    ] {
        shop.registry.publish(&fixture::artifact(JSON, bytes), "latest");
        let found = shop.refreshed().await.unwrap();
        assert_eq!((&found.path, found.is_stale), (&first.path, true));
        let message = found.refresh_failure.unwrap().message;
        assert!(message.contains(said) && message.contains("no catalog"), "{message}");
        before.assert_unchanged(&shop.cache());
    }
    // With nothing cached it is an error, and nothing is cached then either.
    let shop = Shop::of_layers(vec![Blob::new(JSON, page)]);
    assert_refused(shop.get().await, Internal, 10, &["no catalog", &shop.reference(), "<!doctype html>"]);
    assert_eq!(TreeSnapshot::of(&shop.cache()).files(), [""; 0]);
}

#[tokio::test]
async fn json_that_is_no_catalog_never_takes_the_place_of_one() {
    let errors = br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec();
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    let before = TreeSnapshot::of(&shop.cache());
    // Neither what is a catalog for nobody, nor what this client cannot read while it holds something better.
    for (bytes, said) in [
        (errors.clone(), "no `items`"),
        (b"{}".to_vec(), "no `items`"),
        (br#"["a"]"#.to_vec(), "a text instead of an object"),
        (br#"{"registry_version":"providers@9","items":[]}"#.to_vec(), "providers@9"),
        (br#"[{"id":"a","ref":"r"},{"id":"a","ref":"r"}]"#.to_vec(), "stands there twice"),
    ] {
        shop.registry.publish(&fixture::artifact(JSON, bytes), "latest");
        let found = shop.refreshed().await.unwrap();
        assert_eq!((&found.path, ids(&found), found.is_stale), (&first.path, vec!["a", "b"], true));
        let failure = found.refresh_failure.unwrap();
        assert!(failure.kind == Internal && failure.message.contains(said), "{failure:?}");
        assert!(failure.causes.len() == 2 && failure.causes[1].contains(said), "{failure:?}");
        before.assert_unchanged(&shop.cache());
    }
    // Where nothing is held, what lists nothing is nothing, and what another version may know is handed out.
    let shop = Shop::of_layers(vec![Blob::new(JSON, errors)]);
    assert_refused(shop.get().await, Internal, 10, &["no catalog", "no `items`", &shop.reference()]);
    assert!(!shop.bundle().join(".greentic").exists());
    shop.registry.publish(&fixture::artifact(JSON, br#"{"registry_version":"providers@9"}"#.to_vec()), "latest");
    assert!(shop.get().await.unwrap().catalog().is_err());
    // Held like that, it makes way for the next one as for any.
    shop.registry.publish(&fixture::artifact(JSON, br#"{"registry_version":"providers@8"}"#.to_vec()), "latest");
    assert!(!shop.refreshed().await.unwrap().is_stale);
    shop.publish(&["readable"]);
    assert_eq!(ids(&shop.refreshed().await.unwrap()), ["readable"]);
}

#[tokio::test]
async fn a_failed_first_fetch_makes_nothing_on_the_disk() {
    let shop = Shop::new();
    let bundle = shop.home.path().join("typo/deeper");
    let registry = ProviderRegistry::builder(&bundle).client(shop.home.client()).build();
    let missing = format!("oci://{}", shop.registry.reference_to("none"));
    assert_refused(resolve(&registry, &missing).await, NotFound, 3, &["404"]);
    shop.registry.lie(Lie::WrongBlob);
    assert_refused(resolve(&registry, &shop.reference()).await, Integrity, 8, &["sha256:"]);
    assert!(!shop.home.path().join("typo").exists());
    // Nor beside what is kept.
    shop.registry.be_honest();
    assert_eq!(ids(&resolve(&registry, &shop.reference()).await.unwrap()), ["a", "b"]);
    let before = TreeSnapshot::of(&bundle);
    for _ in 0..2 {
        assert_refused(resolve(&registry, &missing).await, NotFound, 3, &["404"]);
    }
    before.assert_unchanged(&bundle);
}

#[tokio::test]
async fn wrong_short_and_lying_bytes_never_take_the_place_of_a_good_copy() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    shop.publish(&["evil"]);
    let before = TreeSnapshot::of(&shop.cache());
    for (lie, kind) in [(Lie::WrongBlob, Integrity), (Lie::OverLongBlob(10), Integrity)] {
        shop.registry.be_honest();
        shop.registry.lie(lie);
        let found = shop.refreshed().await.unwrap();
        let failure = found.refresh_failure.clone().unwrap();
        assert_eq!((&found.path, found.is_stale, failure.kind), (&first.path, true, kind), "{failure:?}");
        before.assert_unchanged(&shop.cache());
    }
    shop.registry.be_honest();
    assert_eq!(ids(&shop.refreshed().await.unwrap()), ["evil"]);
}

#[tokio::test]
async fn a_registry_that_is_gone_and_nothing_cached_is_an_error_that_says_how_to_go_on() {
    let shop = Shop::new();
    let reference = shop.reference();
    let (bundle, home) = (tempfile::tempdir().unwrap(), Home::new());
    drop(shop);
    let registry = ProviderRegistry::builder(bundle.path()).client(home.client()).build();
    let slot = ".greentic/cache/provider-registry/oci-127-0-0-1-";
    let said = [&*reference, slot, "refused", "--provider-registry file://<path>", "local path"];
    let text = assert_refused(resolve(&registry, &reference).await, Temporary, 7, &said);
    assert_eq!(text.matches("file://<path>").count(), 1, "{text}");
    let sync = resolve_catalog_path(None, Some(&reference), true, false, bundle.path()).unwrap_err();
    let text = sync.to_string();
    for said in [
        "is unavailable",
        "no cached copy was found",
        "without `--offline`",
        "`GTC_PROVIDER_REGISTRY_REF` at a local file",
    ] {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!((sync.kind(), sync.hints().len()), (Offline, 1));
}

#[tokio::test]
async fn offline_opens_no_socket_and_wins_over_a_refresh_and_says_so() {
    let shop = Shop::new();
    let client = shop.home.client();
    let registry =
        |bundle: &Path| ProviderRegistry::builder(bundle).client(client.clone()).offline(true).refresh(true).build();
    let said = ["is unavailable", "no cached copy was found", &shop.reference()];
    assert_refused(resolve(&registry(shop.bundle()), &shop.reference()).await, Offline, 4, &said);
    // The client's own switch counts as much.
    let offline = ProviderRegistry::builder(shop.bundle()).client(shop.home.offline()).build();
    assert_refused(resolve(&offline, &shop.reference()).await, Offline, 4, &said);
    assert!(!shop.bundle().join(".greentic").exists(), "a miss writes nothing");

    shop.get().await.unwrap();
    shop.publish(&["new"]);
    shop.asked();
    let found = resolve(&registry(shop.bundle()), &shop.reference()).await.unwrap();
    assert_eq!((ids(&found), found.is_stale), (vec!["a", "b"], true));
    let failure = found.refresh_failure.unwrap();
    assert!(failure.kind == Offline && failure.message.contains("offline mode wins"), "{failure:?}");
    assert_eq!((client.net_stats().requests, shop.asked().len()), (0, 0));
}

#[tokio::test]
async fn names_are_mapped_to_the_bases_and_cached_under_what_was_written() {
    let shop = Shop::new();
    let host = shop.registry.host();
    for scheme in ["repo", "store"] {
        for base in [format!("{host}/acme"), format!("oci://{host}/acme//")] {
            let bundle = tempfile::tempdir().unwrap();
            let bases = RegistryBases { repo: Some(base.clone()), store: Some(base) };
            let builder = ProviderRegistry::builder(bundle.path()).client(shop.home.client());
            let registry = builder.clone().bases(bases).build();
            // What is no digest behind an at sign is a tag.
            for name in ["providers", "providers:latest", "providers@latest", "/providers"] {
                let reference = format!("{scheme}://{name}");
                let found = resolve(&registry, &reference).await.unwrap();
                assert_eq!(found.requested_reference.as_ref(), Some(&reference));
                assert!(found.resolved_reference.unwrap().starts_with(&shop.registry.reference()[..host.len() + 15]));
                assert!(shop.asked().contains(&"GET /v2/acme/providers/manifests/latest".to_owned()));
                // What is cached needs no base, and nobody is asked.
                let offline = builder.clone().bases(RegistryBases::default()).offline(true).build();
                assert_eq!(resolve(&offline, &reference).await.unwrap().path, found.path);
            }
            let explicit = format!("{scheme}://{}", shop.registry.reference());
            resolve(&builder.bases(RegistryBases::default()).build(), &explicit).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_name_that_another_base_gives_another_meaning_is_asked_there() {
    let (here, there) = (Shop::new(), Shop::with(Scenario::new(artifact(&["there"]))));
    let registry = |shop: &Shop| {
        let bases = RegistryBases { repo: Some(format!("{}/acme", shop.registry.host())), store: None };
        here.builder().bases(bases)
    };
    let reference = "repo://providers:latest";
    assert_eq!(ids(&resolve(&registry(&here).build(), reference).await.unwrap()), ["a", "b"]);
    // Offline the copy is all there is, and it says what it is.
    let old = resolve(&registry(&there).offline(true).build(), reference).await.unwrap();
    assert!(ids(&old) == ["a", "b"] && old.is_stale, "{:?}", old.refresh_failure);
    assert!(old.refresh_failure.unwrap().message.contains("another registry"));
    here.asked();
    let found = resolve(&registry(&there).build(), reference).await.unwrap();
    assert_eq!((ids(&found), here.asked().len()), (vec!["there"], 0));
    // What the one registry told about the other's catalog was no condition.
    assert_eq!(there.registry.journal().header_of(0, "If-None-Match"), None);
    assert_eq!(resolve(&registry(&there).build(), reference).await.unwrap().source, CatalogSource::Cache);
    assert_eq!(there.asked().len(), 2);
}

#[tokio::test]
async fn a_name_without_a_registry_never_leaves_for_a_default_one() {
    let (home, bundle) = (Home::new(), tempfile::tempdir().unwrap());
    let client = home.client();
    let registry = ProviderRegistry::builder(bundle.path()).client(client.clone()).refresh(true).build();
    for (reference, kind, exit, said) in [
        ("repo://providers:latest", Unauthorized, 5, "GREENTIC_REPO_REGISTRY_BASE"),
        ("repo://acme/providers:latest", Unauthorized, 5, "GREENTIC_REPO_REGISTRY_BASE"),
        ("store://library/providers", Unauthorized, 5, "GREENTIC_STORE_REGISTRY_BASE"),
        ("oci://providers:latest", InvalidInput, 2, "names no registry"),
        ("oci://acme/providers:latest", InvalidInput, 2, "names no registry"),
        ("oci://library/providers", InvalidInput, 2, "names no registry"),
        ("repo://../../v2/x", Unauthorized, 5, "GREENTIC_REPO_REGISTRY_BASE"),
    ] {
        assert_refused(resolve(&registry, reference).await, kind, exit, &[reference, said]);
    }
    assert_eq!(client.net_stats().requests, 0);
    assert!(!bundle.path().join(".greentic").exists());
}

#[tokio::test]
async fn row_35_what_a_publisher_calls_a_layer_never_becomes_a_path() {
    for title in ["../../../../evil.json", "/tmp/evil.json", "index.json", "a\u{1b}[2J\nb"] {
        let annotations = [("org.opencontainers.image.title", title), ("org.opencontainers.image.ref.name", title)];
        let layers = vec![Blob::new(JSON, document(&["a"]))];
        let shop = Shop::with(Scenario::new(fixture::artifact_of(layers, &annotations)));
        let found = shop.get().await.unwrap();
        let stem = found.path.file_stem().unwrap().to_str().unwrap().to_owned();
        let by_digest = format!("by-digest/sha256-{}.json", shop.registry.artifact().manifest_digest.to_hex());
        let files = [by_digest, "index.json".to_owned(), format!("{stem}.json"), format!("records/{stem}.json")];
        assert_eq!(TreeSnapshot::of(&shop.cache()).files(), files);
    }
}

#[tokio::test]
async fn row_30_no_layers_are_refused_and_of_equal_ones_the_first_is_taken() {
    let none = Shop::of_layers(Vec::new());
    assert_refused(none.get().await, Internal, 10, &["nothing that could be a catalog", "no layers"]);
    let equal = ["first", "second"].map(|id| Blob::new(JSON, document(&[id]))).to_vec();
    assert_eq!(ids(&Shop::of_layers(equal).get().await.unwrap()), ["first"]);
}

#[tokio::test]
async fn only_the_chosen_layer_is_downloaded() {
    let big = Blob::new("text/plain", fixture::random_bytes(3, 2 << 20));
    let json = Blob::new(JSON, document(&["a"]));
    let shop = Shop::of_layers(vec![big.clone(), Blob::new("application/wasm", b"\0asm".to_vec()), json.clone(), big]);
    assert_eq!(ids(&shop.get().await.unwrap()), ["a"]);
    let blob = format!("GET /v2/acme/providers/blobs/{}", json.digest);
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest".to_owned(), blob]);
}

#[tokio::test]
async fn every_layer_type_that_was_accepted_still_is() {
    for media_type in [
        JSON,
        "application/octet-stream",
        "application/vnd.greentic.pack+json",
        "application/vnd.greentic.gtpack.v1+zip",
        "application/vnd.greentic.gtpack+zip",
        "application/vnd.greentic.pack+zip",
        "text/markdown",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.acme.anything",
        "text/html",
    ] {
        let shop = Shop::of_layers(vec![Blob::new(media_type, document(&["a"]))]);
        let found = shop.get().await.unwrap();
        assert_eq!((ids(&found), found.media_type.as_deref()), (vec!["a"], Some(media_type)));
    }
}

#[tokio::test]
async fn an_image_index_leads_to_a_catalog_and_is_revalidated_with_one_request() {
    let shop = Shop::new();
    let inner = artifact(&["inner"]);
    shop.registry.publish(&inner, "inner");
    let index = fixture::index(&[(inner.descriptor(), Some(("wasip2", "wasm")))]);
    shop.registry.publish_document(&index, Some("latest"));
    let found = shop.get().await.unwrap();
    assert_eq!((ids(&found), shop.asked().len()), (vec!["inner"], 3));
    assert_eq!(found.manifest_digest, Some(inner.manifest_digest.to_string()));
    assert!(!shop.refreshed().await.unwrap().is_stale);
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
    // A pin that names the index is proven through it.
    let pinned = format!("oci://{}", shop.registry.pinned_to(index.digest));
    let first = resolve(&shop.builder().build(), &pinned).await.unwrap();
    assert_eq!(resolve(&shop.builder().offline(true).build(), &pinned).await.unwrap().path, first.path);
}

#[tokio::test]
async fn manifests_and_lists_of_docker_lead_to_a_catalog() {
    const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    let shop = Shop::new();
    let inner = artifact(&["docker"]);
    shop.registry.publish(&inner, "inner");
    let of_docker =
        |document: &[u8], from: &str, to: &str| Blob::new(to, std::str::from_utf8(document).unwrap().replace(from, to));
    let manifest = of_docker(&inner.manifest_bytes, fixture::MANIFEST_TYPE, MANIFEST);
    let list = fixture::index(&[(manifest.descriptor(), Some(("linux", "amd64")))]);
    let list = of_docker(&list.bytes, fixture::INDEX_TYPE, LIST);
    shop.registry.publish_document(&manifest, Some("manifest"));
    shop.registry.publish_document(&list, Some("list"));
    for (tag, requests) in [("manifest", 2), ("list", 3)] {
        let reference = format!("oci://{}", shop.registry.reference_to(tag));
        let bundle = tempfile::tempdir().unwrap();
        let registry = ProviderRegistry::builder(bundle.path()).client(shop.home.client());
        let found = resolve(&registry.clone().build(), &reference).await.unwrap();
        assert_eq!((ids(&found), found.manifest_digest.clone()), (vec!["docker"], Some(manifest.digest.to_string())));
        assert_eq!(shop.asked().len(), requests);
        assert!(!resolve(&registry.refresh(true).build(), &reference).await.unwrap().is_stale);
        assert_eq!(shop.asked().len(), 1);
    }
}

#[tokio::test]
async fn an_artifact_manifest_of_the_withdrawn_type_leads_to_a_catalog() {
    let shop = Shop::new();
    let inner = artifact(&["inner"]);
    shop.registry.publish(&inner, "inner");
    let note = Blob::new("text/plain", "notes");
    let manifest = fixture::artifact_manifest("application/vnd.acme.catalog", &[note, inner.layers[0].clone()], None);
    shop.registry.publish_document(&manifest, Some("latest"));
    let found = shop.get().await.unwrap();
    assert_eq!((ids(&found), found.manifest_digest.clone()), (vec!["inner"], Some(manifest.digest.to_string())));
    let blob = format!("GET /v2/acme/providers/blobs/{}", inner.layer_digest());
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest".to_owned(), blob]);
    assert!(!shop.refreshed().await.unwrap().is_stale);
    assert_eq!(shop.asked().len(), 1);
    assert_eq!(shop.offline().await.unwrap().path, found.path);
    // Through an index, and by pins, which prove it.
    let index = fixture::index(&[(manifest.descriptor(), Some(("linux", "amd64")))]);
    shop.registry.publish_document(&index, None);
    for pin in [manifest.digest, index.digest] {
        let pinned = format!("oci://{}", shop.registry.pinned_to(pin));
        let found = resolve(&shop.builder().build(), &pinned).await.unwrap();
        assert_eq!(found.manifest_digest, Some(manifest.digest.to_string()));
        let offline = shop.builder().offline(true).build();
        assert_eq!(resolve(&offline, &pinned).await.unwrap().path, found.path);
    }
}

#[tokio::test]
async fn a_layer_that_is_too_large_is_refused_before_it_is_asked_for() {
    let shop = Shop::new();
    let layer = json!({ "mediaType": JSON, "digest": shop.registry.artifact().layer_digest().to_string(), "size": (16 << 20) + 1 });
    let config = shop.registry.artifact().config.descriptor();
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": fixture::MANIFEST_TYPE, "config": config, "layers": [layer] });
    let manifest = Blob::new(fixture::MANIFEST_TYPE, manifest.to_string());
    shop.registry.publish_document(&manifest, Some("latest"));
    assert_refused(shop.get().await, Internal, 10, &["16777217 bytes", "16777216"]);
    assert_eq!(shop.asked(), ["GET /v2/acme/providers/manifests/latest"]);
}

#[tokio::test]
async fn a_pin_is_asked_for_once_and_proven_by_itself_ever_after() {
    let shop = Shop::new();
    let pinned = format!("oci://{}", shop.registry.pinned());
    let found = resolve(&shop.builder().build(), &pinned).await.unwrap();
    shop.asked();
    // What a pin names never changes: a refresh has nothing to ask.
    let again = resolve(&shop.builder().refresh(true).build(), &pinned).await.unwrap();
    assert_eq!((again.path, again.is_stale, shop.asked().len()), (found.path.clone(), false, 0));
    // Somebody who edits copy and record alike cannot make it another catalog.
    let forged = document(&["forged"]);
    for name in ["records", ""] {
        let dir = shop.cache().join(name);
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = fs::read_to_string(&path).unwrap();
                let old = shop.registry.artifact().layer_digest().to_string();
                let text = text.replace(&old, &fixture::artifact(JSON, forged.clone()).layer_digest().to_string());
                let size = format!("\"size_bytes\": {}", shop.registry.artifact().layer_bytes().len());
                fs::write(&path, text.replace(&size, &format!("\"size_bytes\": {}", forged.len()))).unwrap();
            }
        }
    }
    fs::write(&found.path, &forged).unwrap();
    fs::write(shop.by_digest(shop.registry.artifact()), &forged).unwrap();
    let offline = shop.builder().offline(true).build();
    assert_refused(resolve(&offline, &pinned).await, Offline, 4, &["not what was recorded"]);
    assert_eq!(ids(&resolve(&shop.builder().build(), &pinned).await.unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn a_pin_in_capitals_is_the_pin_and_proves_as_much() {
    let shop = Shop::new();
    let capitals = shop.registry.artifact().manifest_digest.to_hex().to_uppercase();
    let pinned = format!("oci://{}/acme/providers@sha256:{capitals}", shop.registry.host());
    let found = resolve(&shop.builder().build(), &pinned).await.unwrap();
    assert_eq!((found.requested_reference.as_ref(), ids(&found)), (Some(&pinned), vec!["a", "b"]));
    assert_eq!(found.resolved_reference, Some(shop.registry.pinned()));
    assert_eq!(shop.asked()[0], format!("GET /v2/acme/providers/manifests/sha256:{}", capitals.to_lowercase()));
    assert_eq!(resolve(&shop.builder().refresh(true).build(), &pinned).await.unwrap().path, found.path);
    assert!(shop.asked().is_empty(), "what a pin names cannot change");
    // Nothing but what it names is served for it, whatever a record says.
    let mine = shop.home.path().join("mine.json");
    fs::write(&mine, document(&["mine"])).unwrap();
    assert_refused(cache_registry_file(shop.bundle(), &pinned, &mine), Integrity, 8, &["nothing proves", &pinned]);
    let algorithm = pinned.replace("sha256", "SHA256");
    let said = ["invalid provider registry reference", "written in lower case"];
    assert_refused(resolve(&shop.builder().build(), &algorithm).await, InvalidInput, 2, &said);
    assert!(shop.asked().is_empty());
}

#[tokio::test]
async fn logins_of_the_client_are_used_and_stored_nowhere() {
    for auth in [Auth::basic("alice", CANARY), Auth::bearer("alice", CANARY)] {
        let shop = Shop::with(Scenario::new(artifact(&["a"])).auth(auth));
        assert_refused(shop.get().await, Unauthorized, 5, &["401"]);
        let client = shop.home.builder().credentials(login(&shop.registry.host(), CANARY)).build();
        let registry = ProviderRegistry::builder(shop.bundle()).client(client).build();
        assert_eq!(ids(&resolve(&registry, &shop.reference()).await.unwrap()), ["a"]);
        for path in TreeSnapshot::of(shop.bundle()).files() {
            assert!(!fs::read_to_string(shop.bundle().join(path)).unwrap().contains(CANARY), "{path}");
        }
    }
}

#[tokio::test]
async fn a_login_is_shown_to_its_own_registry_alone() {
    let shop = Shop::with(Scenario::new(artifact(&["a"])).auth(Auth::basic("alice", CANARY)));
    let elsewhere = bystander(std::net::IpAddr::from([127, 0, 0, 2]));
    let client = shop.home.builder().credentials(login(&shop.registry.host(), CANARY)).build();
    let registry = ProviderRegistry::builder(shop.bundle()).client(client).build();
    resolve(&registry, &shop.reference()).await.unwrap();
    let foreign = format!("oci://{}/acme/providers:latest", elsewhere.host());
    assert_refused(resolve(&registry, &foreign).await, NotFound, 3, &["404"]);
    assert!(!elsewhere.journal().is_empty() && !elsewhere.journal().contains(CANARY));
}

#[tokio::test]
async fn an_index_without_a_wasm_platform_leads_to_the_common_one() {
    let shop = Shop::new();
    let (common, other) = (artifact(&["common"]), artifact(&["other"]));
    for one in [&common, &other] {
        shop.registry.publish(one, "inner");
    }
    let entries = [(other.descriptor(), Some(("windows", "amd64"))), (common.descriptor(), Some(("linux", "amd64")))];
    shop.registry.publish_document(&fixture::index(&entries), Some("latest"));
    assert_eq!(ids(&shop.get().await.unwrap()), ["common"]);
    // Two that differ stand for no catalog.
    let entries = [(other.descriptor(), Some(("linux", "arm64"))), (common.descriptor(), Some(("linux", "amd64")))];
    shop.registry.publish_document(&fixture::index(&entries), Some("latest"));
    let fresh = Shop::with(Scenario::new(artifact(&["x"])));
    let registry = fresh.builder().build();
    assert_refused(resolve(&registry, &shop.reference()).await, NotFound, 3, &["different content"]);
}

#[tokio::test]
async fn a_registry_that_stalls_does_not_hold_up_whoever_has_a_copy() {
    let shop = Shop::new();
    let first = shop.get().await.unwrap();
    shop.publish(&["new"]);
    shop.registry.lie(Lie::StallManifest(10));
    let registry = shop.builder().refresh(true).refresh_timeout(std::time::Duration::from_millis(50)).build();
    let found = resolve(&registry, &shop.reference()).await.unwrap();
    let failure = found.refresh_failure.clone().unwrap();
    assert_eq!((found.path, found.is_stale, failure.kind), (first.path, true, Temporary));
    assert!(failure.message.contains("did not answer within"), "{failure:?}");
}

#[tokio::test]
async fn a_resolve_that_is_given_up_holds_nobody_up_and_leaves_nothing() {
    let shop = Shop::with(Scenario::new(artifact(&["a"])).lie(Lie::StallManifest(10)));
    let (registry, reference) = (shop.builder().build(), shop.reference());
    let asking = tokio::spawn(async move { resolve(&registry, &reference).await });
    while shop.registry.journal().is_empty() {
        tokio::task::yield_now().await;
    }
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    shop.registry.be_honest();
    assert_eq!(TreeSnapshot::of(&shop.cache()).files(), [""; 0]);
    assert_eq!(ids(&shop.get().await.unwrap()), ["a"]);
}

#[tokio::test]
async fn eight_that_want_one_catalog_at_once_fetch_it_once() {
    let shop = Shop::new();
    let registry = shop.builder().build();
    let running: Vec<_> = (0..8)
        .map(|_| {
            let (registry, reference) = (registry.clone(), shop.reference());
            tokio::spawn(async move { resolve(&registry, &reference).await })
        })
        .collect();
    for one in running {
        assert_eq!(ids(&one.await.unwrap().unwrap()), ["a", "b"]);
    }
    assert_eq!(shop.asked().len(), 2);
}

/// Everything the synchronous calls do, against a registry.
fn use_the_synchronous_calls(shop: &Shop) {
    let (bundle, reference) = (shop.bundle(), shop.reference());
    let path = resolve_catalog_path(None, Some(&reference), false, false, bundle).unwrap().unwrap();
    assert_eq!(fs::read(&path).unwrap(), document(&["a", "b"]));
    shop.asked();
    assert_eq!(resolve_catalog_path(None, Some(&reference), true, false, bundle).unwrap(), Some(path.clone()));
    assert_eq!(shop.asked().len(), 0);
    let unchanged = resolve_catalog_path(None, Some(&reference), false, true, bundle).unwrap().unwrap();
    assert_eq!((unchanged, shop.asked().len()), (shop.by_digest(shop.registry.artifact()), 1));
    assert_eq!(cache_registry_file(bundle, &reference, &path).unwrap(), path);
}

#[test]
fn the_synchronous_calls_work_without_a_runtime() {
    use_the_synchronous_calls(&Shop::new());
}

#[tokio::test]
async fn the_synchronous_calls_work_inside_a_current_thread_runtime() {
    use_the_synchronous_calls(&Shop::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_synchronous_calls_work_inside_a_multi_thread_runtime() {
    use_the_synchronous_calls(&Shop::new());
    tokio::task::spawn_blocking(|| use_the_synchronous_calls(&Shop::new())).await.unwrap();
}

#[tokio::test]
async fn one_resolver_serves_several_runtimes_one_after_another() {
    let shop = Shop::new();
    let registry = shop.builder().refresh(true).build();
    for _ in 0..3 {
        let (registry, reference) = (registry.clone(), shop.reference());
        let one = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let found = runtime.block_on(resolve(&registry, &reference)).unwrap();
            assert!(!found.is_stale, "{:?}", found.refresh_failure);
            assert!(!registry.resolve_blocking(None, Some(&reference)).unwrap().unwrap().is_stale);
        });
        tokio::task::spawn_blocking(|| one.join().unwrap()).await.unwrap();
    }
}
