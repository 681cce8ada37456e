//! A tag is what it was when it was resolved: what moves afterwards changes nothing.

use greentic_dist_testkit::scenario::Scenario;
use greentic_distributor_client::dist::{ArtifactDescriptor, CachePolicy, DistClient, DistOptions, ResolvePolicy};
use greentic_distributor_client::store_auth;

use crate::support::{CANARY, Home, assert_delivers, other, sample};

/// References of every scheme to `acme/hello:1` of a registry, and the client that knows its way.
async fn ways(home: &Home, host: &str) -> (DistClient, [String; 5]) {
    let path = home.options().store_auth_path;
    store_auth::save_login(&path, &path, "tenant", CANARY).await.unwrap();
    let base = Some(format!("{host}/acme"));
    let options = DistOptions { repo_registry_base: base.clone(), store_registry_base: base, ..home.options() };
    let client = home.builder().options(options).tenant_registry_for_tests(host).build();
    let references = [
        format!("oci://{host}/acme/hello:1"),
        format!("{host}/acme/hello:1"),
        "repo://hello:1".to_owned(),
        "store://hello:1".to_owned(),
        "store://greentic-biz/tenant/hello:1".to_owned(),
    ];
    (client, references)
}

async fn resolve(client: &DistClient, reference: &str) -> ArtifactDescriptor {
    client.resolve(client.parse_source(reference).unwrap(), ResolvePolicy).await.unwrap()
}

#[tokio::test]
async fn a_tag_that_moves_between_resolve_and_fetch_changes_nothing_for_any_scheme() {
    for way in 0..5 {
        let home = Home::new();
        let repository = if way == 4 { "greentic-biz/hello" } else { "acme/hello" };
        let registry = Scenario::new(sample()).repository(repository).start();
        let (client, references) = ways(&home, &registry.host()).await;
        let reference = &references[way];
        let descriptor = resolve(&client, reference).await;
        registry.publish(&other(9), "1");
        registry.journal().clear();
        let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
        assert_delivers(&artifact, &sample());
        assert_eq!(artifact.descriptor.canonical_ref, descriptor.canonical_ref);
        // A client that never saw the manifest asks for the pin, not for the tag.
        let elsewhere = Home::new();
        let (stranger, _) = ways(&elsewhere, &registry.host()).await;
        assert_delivers(&stranger.fetch(&descriptor, CachePolicy).await.unwrap(), &sample());
        let journal = registry.journal().lines();
        assert!(journal.iter().all(|line| !line.ends_with("/manifests/1")), "{reference}: {journal:#?}");
        // And asked again, the tag is what it is now.
        assert_eq!(resolve(&client, reference).await.digest, other(9).manifest_digest.to_string());
    }
}

#[tokio::test]
async fn a_descriptor_with_an_edited_pin_or_canonical_reference_never_leads_to_other_bytes() {
    let home = Home::new();
    let registry = Scenario::new(sample()).start();
    registry.publish(&other(9), "2");
    let client = home.client();
    let descriptor = resolve(&client, &registry.reference()).await;
    let pin = other(9).manifest_digest.to_string();
    // The pin of another artifact of the same repository: that artifact, or nothing.
    let edited = ArtifactDescriptor { digest: pin.clone(), ..descriptor.clone() };
    let fetched = home.client().fetch(&edited, CachePolicy).await.unwrap();
    assert_delivers(&fetched, &other(9));
    let unpinned = ArtifactDescriptor { canonical_ref: registry.reference(), ..descriptor };
    assert_eq!(Home::new().client().fetch(&unpinned, CachePolicy).await.unwrap_err().exit_code(), 2);
}
