//! One client, many runtimes, and none.

use greentic_distributor_client::dist::{CachePolicy, DistClient, DistError, DistOptions, ResolvePolicy};

use crate::support::{Home, assert_delivers, other, registry};

fn short_lived<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn one_client_serves_several_short_lived_runtimes_one_after_another() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    for number in 0..6 {
        let artifact = other(number);
        registry.publish(&artifact, &format!("t{number}"));
        let reference = registry.reference_to(&format!("t{number}"));
        // The connections of the runtime before are dead by now.
        let pulled = short_lived(client.resolve_ref(&reference)).unwrap();
        assert_delivers(&pulled, &artifact);
    }
    assert_eq!(registry.journal().len(), 12, "{:?}", registry.journal().lines());
}

#[test]
fn one_client_serves_several_runtimes_at_once() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let artifact = other(number);
            registry.publish(&artifact, &format!("t{number}"));
            let (client, reference) = (client.clone(), registry.reference_to(&format!("t{number}")));
            scope.spawn(move || assert_delivers(&short_lived(client.resolve_ref(&reference)).unwrap(), &artifact));
        }
    });
}

#[test]
fn sync_methods_need_no_runtime() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    assert!(client.list_cache().is_empty() && client.list_cache_entries().is_empty());
    let digest = short_lived(client.resolve_ref(&registry.reference())).unwrap().digest;
    assert_eq!(client.parse_source(&registry.reference()).unwrap().raw_ref, registry.reference());
    assert_delivers(&client.open_cached(&digest).unwrap(), registry.artifact());
    assert_eq!(client.stat_cache(&digest).unwrap().digest, digest);
    assert_eq!(client.list_cache(), std::slice::from_ref(&digest));
    assert!(client.gc().unwrap().is_empty());
    client.verify_cached(&digest).unwrap();
    client.remove_cached(&[digest]).unwrap();
    assert!(client.list_cache().is_empty());
}

#[tokio::test]
async fn sync_methods_work_inside_a_current_thread_runtime() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let digest = client.resolve_ref(&registry.reference()).await.unwrap().digest;
    assert_delivers(&client.open_cached(&digest).unwrap(), registry.artifact());
    assert_eq!(client.list_cache_entries().len(), 1);
    client.gc().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multi_thread_runtime_is_fine_too() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pull = tokio::spawn(async move { client.resolve_ref(&registry.reference()).await.map(|it| it.digest) });
    pull.await.unwrap().unwrap();
}

#[test]
fn futures_are_send_and_the_client_is_send_and_sync() {
    fn send<T: Send>(_: T) {}
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    fn error<E: std::error::Error + Send + Sync + 'static>() {}
    error::<DistError>();
    let client = Home::new().client();
    shared(&client);
    let source = client.parse_source("ghcr.io/a/b:1").unwrap();
    let descriptor: greentic_distributor_client::dist::ArtifactDescriptor = serde_json::from_value(serde_json::json!({
        "artifact_type": "Component", "source_kind": "Oci", "raw_ref": "x", "canonical_ref": "x", "digest": "", "media_type": "x",
        "size_bytes": 0, "created_at": null, "annotations": {}, "manifest_digest": null, "resolved_via": "Direct",
        "signature_refs": [], "sbom_refs": [],
    }))
    .unwrap();
    send(client.resolve(source, ResolvePolicy));
    send(client.fetch(&descriptor, CachePolicy));
    send(client.fetch_digest("x"));
    send(client.resolve_ref("x"));
    send(client.ensure_cached("x"));
    send(client.inspect("x"));
    send(client.pull_all(&[]));
}

#[test]
fn making_a_client_touches_nothing_and_cannot_fail() {
    let options = DistOptions { cache_dir: "/proc/no/such/place".into(), ..DistOptions::default() };
    let client = DistClient::new(options);
    assert!(client.list_cache().is_empty());
    assert_eq!(client.net_stats().requests, 0);
}
