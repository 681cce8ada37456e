//! `repo://` and `store://`: names that mean something only below a configured registry.

use greentic_dist_testkit::scenario::LyingRegistry;
use greentic_distributor_client::dist::DistErrorKind::{Auth, InvalidInput, NotFound};
use greentic_distributor_client::dist::{ArtifactSourceKind, DistClient, DistOptions, ResolvePolicy, ResolvedVia};

use crate::support::{Home, assert_delivers, assert_fails, registry};

fn based(home: &Home, base: &str) -> DistClient {
    let base = Some(base.to_owned());
    let options = DistOptions { repo_registry_base: base.clone(), store_registry_base: base, ..home.options() };
    home.builder().options(options).build()
}

/// What the registry was asked, without its answers.
fn manifests(registry: &LyingRegistry) -> Vec<String> {
    registry.journal().lines().into_iter().filter(|line| line.contains("/manifests/")).collect()
}

#[tokio::test]
async fn a_name_is_joined_to_the_base_and_asked_there() {
    for (scheme, kind, via) in [
        ("repo", ArtifactSourceKind::Repo, ResolvedVia::RepoMapping),
        ("store", ArtifactSourceKind::Store, ResolvedVia::StoreMapping),
    ] {
        for base in ["{}/acme", "{}/acme/", "oci://{}/acme"] {
            let (home, registry) = (Home::new(), registry());
            let client = based(&home, &base.replace("{}", &registry.host()));
            let reference = format!("{scheme}://hello:1");
            let descriptor = client.resolve(client.parse_source(&reference).unwrap(), ResolvePolicy).await.unwrap();
            let pin = registry.artifact().manifest_digest;
            assert_eq!((descriptor.source_kind, descriptor.resolved_via), (kind, via));
            assert_eq!(descriptor.raw_ref, reference);
            assert_eq!(descriptor.canonical_ref, format!("oci://{}/acme/hello@{pin}", registry.host()));
            let artifact = client.resolve_ref(&reference).await.unwrap();
            assert_delivers(&artifact, registry.artifact());
            // The entry says the same as the descriptor.
            let entry = client.stat_cache(&artifact.digest).unwrap();
            assert_eq!((entry.source_kind, entry.canonical_ref), (kind, descriptor.canonical_ref));
            assert_eq!(entry.raw_ref, reference);
        }
    }
}

#[tokio::test]
async fn a_name_that_looks_like_a_docker_hub_one_still_goes_to_the_base() {
    let (home, registry) = (Home::new(), registry());
    let client = based(&home, &registry.host());
    for (name, asked) in [
        ("comp", "GET /v2/comp/manifests/latest"),
        ("a/b/c:1.2", "GET /v2/a/b/c/manifests/1.2"),
        ("library/comp", "GET /v2/library/comp/manifests/latest"),
    ] {
        registry.journal().clear();
        let text = assert_fails(client.resolve_ref(&format!("repo://{name}")).await, NotFound, 3);
        assert!(text.contains(&format!("repo://{name}")) && text.contains(&registry.host()), "{text}");
        assert_eq!(manifests(&registry), [asked]);
    }
}

#[tokio::test]
async fn a_name_with_its_own_registry_is_asked_there_and_not_at_the_base() {
    let (home, registry, base) = (Home::new(), registry(), registry());
    let client = based(&home, &format!("{}/acme", base.host()));
    let artifact = client.resolve_ref(&format!("repo://{}", registry.reference())).await.unwrap();
    assert_delivers(&artifact, registry.artifact());
    assert!(base.journal().is_empty());
    // That needs no base at all.
    let elsewhere = Home::new();
    assert!(elsewhere.client().resolve_ref(&format!("store://{}", registry.reference())).await.is_ok());
}

#[tokio::test]
async fn a_name_without_a_base_is_unavailable_and_asks_nobody() {
    let home = Home::new();
    for (reference, variable) in
        [("repo://comp", "GREENTIC_REPO_REGISTRY_BASE"), ("store://a/b:1", "GREENTIC_STORE_REGISTRY_BASE")]
    {
        for client in [home.client(), based(&home, ""), based(&home, "  ")] {
            let error = client.resolve_ref(reference).await.unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (Auth, 5));
            let text = error.to_string();
            assert!(text.contains("resolution unavailable") && text.contains(reference), "{text}");
            assert!(error.hints()[0].contains(variable), "{:?}", error.hints());
            assert_eq!(client.net_stats().requests, 0);
        }
    }
    assert!(!home.cache().exists());
}

#[tokio::test]
async fn a_base_or_a_name_that_makes_no_reference_is_invalid_input() {
    let home = Home::new();
    for (base, reference) in [("acme/tools", "repo://x"), ("ghcr.io", "repo://../../x"), ("ghcr.io/acme", "repo://X")] {
        let client = based(&home, base);
        assert_fails(client.resolve_ref(reference).await, InvalidInput, 2);
        assert_eq!(client.net_stats().requests, 0);
    }
}

#[tokio::test]
async fn a_mapped_name_opens_offline_and_revalidates_with_one_request() {
    let (home, registry) = (Home::new(), registry());
    let base = format!("{}/acme", registry.host());
    based(&home, &base).resolve_ref("repo://hello:1").await.unwrap();
    registry.journal().clear();
    assert!(!based(&home, &base).resolve_ref("repo://hello:1").await.unwrap().fetched);
    assert_eq!(registry.journal().len(), 1);
    let options = DistOptions { offline: true, repo_registry_base: Some(base), ..home.options() };
    let offline = home.builder().options(options).build();
    drop(registry);
    assert!(offline.resolve_ref("repo://hello:1").await.is_ok());
}
