//! `store://greentic-biz/<tenant>/…`: the tenant's login, for one registry and nobody else.

use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Scenario, blob_host};
use greentic_distributor_client::dist::DistErrorKind::{Auth as NoAuth, Integrity, InvalidInput, Offline, Policy};
use greentic_distributor_client::dist::{
    ArtifactSourceKind, ArtifactType, DistClient, DistError, DistOptions, ResolvePolicy, ResolvedVia, Secret,
    StoreDownload,
};
use greentic_distributor_client::{IntegrationError, IntegrationErrorCode, store_auth};

use crate::support::{CANARY, Home, assert_delivers, assert_fails, chain, other, sample};

const KIT: &str = "store://greentic-biz/acme/kit:1";

async fn logged_in(home: &Home) {
    let path = home.options().store_auth_path;
    store_auth::save_login(&path, &path, "acme", CANARY).await.unwrap();
}

fn private(artifact: Artifact, auth: fn(&str, &str) -> Auth) -> LyingRegistry {
    Scenario::new(artifact).repository("greentic-biz/kit").auth(auth("acme", CANARY)).start()
}

/// A client that takes `registry` for the one with the packages of tenants.
fn client(home: &Home, registry: &LyingRegistry) -> DistClient {
    home.builder().tenant_registry_for_tests(registry.host()).build()
}

fn offline(home: &Home, registry: &LyingRegistry) -> DistClient {
    let options = DistOptions { offline: true, ..home.options() };
    home.builder().options(options).tenant_registry_for_tests(registry.host()).build()
}

fn pack(media_type: &str) -> Artifact {
    fixture::artifact(media_type, fixture::random_bytes(8, 40_000))
}

#[tokio::test]
async fn a_package_is_pulled_with_the_login_of_its_tenant_and_opened_offline_without_it() {
    for auth in [Auth::basic, Auth::bearer] {
        let (home, registry) = (Home::new(), private(sample(), auth));
        logged_in(&home).await;
        let client = client(&home, &registry);
        let descriptor = client.resolve(client.parse_source(KIT).unwrap(), ResolvePolicy).await.unwrap();
        let pin = sample().manifest_digest;
        assert_eq!(
            (descriptor.source_kind, descriptor.resolved_via),
            (ArtifactSourceKind::Store, ResolvedVia::StoreMapping)
        );
        assert_eq!(descriptor.canonical_ref, format!("oci://{}/greentic-biz/kit@{pin}", registry.host()));
        assert_eq!(descriptor.raw_ref, KIT);
        let artifact = client.resolve_ref(KIT).await.unwrap();
        assert_delivers(&artifact, &sample());
        assert_eq!(client.stat_cache(&artifact.digest).unwrap().canonical_ref, descriptor.canonical_ref);
        assert!(client.net_stats().requests > 0);
        // Nothing but the login file knows the token.
        std::fs::remove_file(home.options().store_auth_path).unwrap();
        home.assert_in_no_file(CANARY);
        assert_delivers(&offline(&home, &registry).resolve_ref(KIT).await.unwrap(), &sample());
    }
}

#[tokio::test]
async fn without_a_login_nobody_is_asked_and_the_error_says_how_to_log_in() {
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    for client in [client(&home, &registry), offline(&home, &registry)] {
        let error = client.resolve_ref(KIT).await.unwrap_err();
        assert!(matches!(&error, DistError::StoreAuth(_)), "{error:?}");
        assert_eq!((error.kind(), error.exit_code()), (NoAuth, 5));
        let text = chain(&error);
        assert!(text.contains(KIT) && text.contains("auth login acme"), "{text}");
        let told = IntegrationError::from(error);
        assert_eq!((told.code, told.retryable), (IntegrationErrorCode::ResolutionFailed, false));
    }
    // The login of somebody else is none.
    let path = home.options().store_auth_path;
    store_auth::save_login(&path, &path, "globex", CANARY).await.unwrap();
    assert_fails(client(&home, &registry).resolve_ref(KIT).await, NoAuth, 5);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_wrong_or_replaced_login_is_the_registrys_answer_and_a_new_one_is_used_at_once() {
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    let path = home.options().store_auth_path;
    let client = client(&home, &registry);
    store_auth::save_login(&path, &path, "acme", "an old token").await.unwrap();
    let text = assert_fails(client.resolve_ref(KIT).await, NoAuth, 5);
    assert!(!text.contains("an old token"), "{text}");
    logged_in(&home).await;
    assert_delivers(&client.resolve_ref(KIT).await.unwrap(), &sample());
}

#[tokio::test]
async fn the_login_is_sent_to_no_other_host() {
    // Where blobs are, where a redirect leads, where a realm would like it, and where other references point.
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    logged_in(&home).await;
    let elsewhere = blob_host("127.0.0.2".parse().unwrap(), &sample());
    registry.lie(Lie::RedirectBlob { status: 307, base: elsewhere.url() });
    assert_delivers(&client(&home, &registry).resolve_ref(KIT).await.unwrap(), &sample());
    assert!(!elsewhere.journal().is_empty());
    assert!(!elsewhere.journal().any_header_contains("authorization"), "a login went to the host of blobs");
    assert!(!elsewhere.journal().contains(CANARY));

    let stranger = Scenario::new(other(1)).repository("greentic-biz/kit").auth(Auth::basic("acme", CANARY)).start();
    let client = client(&home, &registry);
    let reference = format!("oci://{}/greentic-biz/kit:1", stranger.host());
    assert_fails(client.resolve_ref(&reference).await, NoAuth, 5);
    let reference = format!("store://{}/greentic-biz/kit:1", stranger.host());
    assert_fails(client.resolve_ref(&reference).await, NoAuth, 5);
    assert!(!stranger.journal().lines().is_empty());
    assert_eq!((0..stranger.journal().len()).find_map(|at| stranger.journal().authorization_of(at)), None);

    let (home, registry) = (Home::new(), private(sample(), Auth::bearer));
    logged_in(&home).await;
    registry.lie(Lie::Realm(format!("http://{}/token", stranger.host())));
    stranger.journal().clear();
    let client = home.builder().tenant_registry_for_tests(registry.host()).build();
    assert_fails(client.resolve_ref(KIT).await, Policy, 6);
    assert!(stranger.journal().is_empty());
}

#[tokio::test]
async fn what_a_package_is_comes_from_its_manifest() {
    for (artifact, kind) in [
        (sample(), ArtifactType::Component),
        (pack("application/octet-stream"), ArtifactType::Component),
        (pack("application/vnd.greentic.gtpack.v1+zip"), ArtifactType::Bundle),
        (pack("application/vnd.greentic.zain-x.bundle.v1+tar+gzip"), ArtifactType::Bundle),
        (pack("application/json"), ArtifactType::Bundle),
        (pack("application/vnd.oci.image.layer.v1.tar+gzip"), ArtifactType::Bundle),
    ] {
        let (home, registry) = (Home::new(), private(artifact.clone(), Auth::basic));
        logged_in(&home).await;
        let pulled = client(&home, &registry).resolve_ref(KIT).await.unwrap();
        assert_delivers(&pulled, &artifact);
        assert_eq!(pulled.descriptor.artifact_type, kind);
        // Reopened, and brought again after damage, it is the same.
        std::fs::remove_file(&pulled.local_path).unwrap();
        std::fs::write(&pulled.local_path, b"damage").unwrap();
        assert_delivers(&client(&home, &registry).resolve_ref(KIT).await.unwrap(), &artifact);
        let details = offline(&home, &registry).pull_oci_with_details(KIT).await.unwrap();
        assert_eq!((details.artifact_type, details.fetched), (kind, false));
        assert_eq!(details.cache_dir, details.artifact_path.parent().unwrap());
    }
    let readme = pack("text/html");
    let (home, registry) = (Home::new(), private(readme, Auth::basic));
    logged_in(&home).await;
    let error = client(&home, &registry).resolve_ref(KIT).await.unwrap_err();
    assert!(matches!(&error, DistError::Selection { .. }) && chain(&error).contains("text/html"), "{error:?}");
}

#[tokio::test]
async fn a_registry_of_no_tenant_gives_packs_that_say_so_and_nothing_vaguer() {
    for (media_type, found) in [
        ("application/vnd.greentic.gtpack.v1+zip", Some(ArtifactType::Pack)),
        ("application/vnd.greentic.kit.bundle.v1+tar+gzip", Some(ArtifactType::Pack)),
        ("application/json", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", None),
    ] {
        let (home, registry) = (Home::new(), Scenario::new(pack(media_type)).start());
        match (home.client().resolve_ref(&registry.reference()).await, found) {
            (Ok(artifact), Some(kind)) => {
                assert_delivers(&artifact, registry.artifact());
                assert_eq!(artifact.descriptor.artifact_type, kind);
            }
            (Err(error), None) => assert!(matches!(error, DistError::Selection { .. }), "{error:?}"),
            (other, _) => panic!("{media_type}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn row_14_malformed_tenants_are_wrong_input_before_anybody_is_asked() {
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    logged_in(&home).await;
    let client = client(&home, &registry);
    let long = format!("store://greentic-biz/{}/kit", "x".repeat(1_024));
    for reference in [
        "store://greentic-biz",
        "store://greentic-biz/acme",
        "store://greentic-biz//kit",
        "store://greentic-biz/ /kit",
        "store://greentic-biz/../kit",
        "store://greentic-biz/a/../b",
        "store://greentic-biz/a\r\nx/kit",
        "store://greentic-biz/a:b/kit",
        &long,
    ] {
        assert_fails(client.resolve_ref(reference).await, InvalidInput, 2);
        assert_fails(client.download_store_artifact(reference).await, InvalidInput, 2);
    }
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_download_is_the_first_document_of_the_artifact_and_is_not_cached() {
    let layers = vec![
        Blob::new("text/markdown", "# read me"),
        Blob::new(WASM_TYPE, "\0asm"),
        Blob::new("application/vnd.greentic.catalog.v1+json", r#"{"tools":[]}"#),
    ];
    let artifact = fixture::artifact_of(layers, &[]);
    let (home, registry) = (Home::new(), private(artifact.clone(), Auth::bearer));
    logged_in(&home).await;
    let client = client(&home, &registry);
    let downloaded = client.download_store_artifact(KIT).await.unwrap();
    assert_eq!(downloaded.bytes, br#"{"tools":[]}"#);
    assert_eq!((downloaded.size_bytes, downloaded.source_ref.as_str()), (12, KIT));
    assert_eq!(downloaded.media_type, "application/vnd.greentic.catalog.v1+json");
    assert_eq!(downloaded.mapped_reference, format!("oci://{}/greentic-biz/kit:1", registry.host()));
    assert_eq!(
        downloaded.canonical_ref,
        format!("oci://{}/greentic-biz/kit@{}", registry.host(), artifact.manifest_digest)
    );
    assert_eq!(downloaded.manifest_digest.as_deref(), Some(downloaded.digest.as_str()));
    assert!(client.list_cache().is_empty());
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
    assert_fails(offline(&home, &registry).download_store_artifact(KIT).await, Offline, 4);
    assert_fails(client.download_store_artifact("oci://a.b/c:1").await, InvalidInput, 2);
    assert_fails(client.download_store_artifact("x").await, InvalidInput, 2);
    assert_fails(client.download_store_artifact("store://unbased").await, NoAuth, 5);
}

#[tokio::test]
async fn wrong_bytes_are_asked_for_once_more_and_then_refused() {
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    logged_in(&home).await;
    let output = home.path().join("out").join("x.wasm");
    registry.lie(Lie::WrongBlob);
    assert_fails(client(&home, &registry).download_store_artifact(KIT).await, Integrity, 8);
    let download = StoreDownload { output: Some(output.clone()), ..StoreDownload::default() };
    assert_fails(client(&home, &registry).save_store_artifact(KIT, download).await, Integrity, 8);
    assert!(!output.exists());
    assert_eq!(std::fs::read_dir(output.parent().unwrap()).unwrap().count(), 0, "something is left beside the file");
    registry.be_honest();
    assert!(client(&home, &registry).download_store_artifact(KIT).await.unwrap().bytes == sample().layer_bytes());
}

#[tokio::test]
async fn a_saved_artifact_never_overwrites_unasked_and_a_token_for_once_is_saved_nowhere() {
    let (home, registry) = (Home::new(), private(sample(), Auth::basic));
    let output = home.path().join("new").join("dir").join("kit.wasm");
    let client = client(&home, &registry);
    let download = |replace, token: Option<&str>| StoreDownload {
        output: Some(output.clone()),
        replace,
        token: token.map(Secret::new),
    };
    assert_fails(client.save_store_artifact(KIT, download(false, None)).await, NoAuth, 5);
    assert!(!format!("{:?}", download(false, Some(CANARY))).contains(CANARY));
    let saved = client.save_store_artifact(KIT, download(false, Some(CANARY))).await.unwrap();
    assert!(std::fs::read(&output).unwrap() == sample().layer_bytes());
    assert_eq!((saved.content_digest, saved.output_path), (sample().layer_digest().to_string(), output.clone()));
    assert!(!home.options().store_auth_path.exists());
    home.assert_in_no_file(CANARY);

    std::fs::write(&output, "mine").unwrap();
    registry.journal().clear();
    let text = assert_fails(client.save_store_artifact(KIT, download(false, Some(CANARY))).await, InvalidInput, 2);
    assert!(text.contains("kit.wasm"), "{text}");
    assert!(registry.journal().is_empty() && std::fs::read(&output).unwrap() == b"mine");
    client.save_store_artifact(KIT, download(true, Some(CANARY))).await.unwrap();
    assert!(std::fs::read(&output).unwrap() == sample().layer_bytes());
    // A token is for a tenant.
    let based = DistOptions { store_registry_base: Some(registry.host()), ..home.options() };
    let client = home.builder().options(based).build();
    assert_fails(client.save_store_artifact("store://kit", download(true, Some(CANARY))).await, InvalidInput, 2);
}
