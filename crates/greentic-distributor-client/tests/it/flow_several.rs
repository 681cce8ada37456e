//! Large artifacts over several connections at a time.

use std::path::PathBuf;
use std::time::Duration;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_dist_testkit::serve::Registry;
use greentic_dist_testkit::{Proxy, TreeSnapshot};
use greentic_distributor_client::dist::DistErrorKind;

use crate::child::{Role, child, eager};
use crate::support::{Home, assert_delivers, assert_fails};

const SIZE: u64 = 24 << 20;

fn large() -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(24, SIZE.try_into().unwrap()))
}

fn part(home: &Home, artifact: &Artifact) -> PathBuf {
    home.cache().join("partial").join(format!("sha256-{}.part", artifact.layer_digest().to_hex()))
}

/// An honest registry with this artifact, and a proxy before it.
fn serve(artifact: &Artifact) -> (greentic_dist_testkit::serve::RunningRegistry, Proxy) {
    let registry = Registry::in_memory();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    registry.put_manifest("acme/hello", &["1"], &artifact.media_type, &artifact.manifest_bytes).unwrap();
    let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
    let proxy = Proxy::start(running.addr());
    (running, proxy)
}

fn reference(proxy: &Proxy) -> String {
    format!("oci://{}/acme/hello:1", proxy.host())
}

#[tokio::test]
async fn what_came_over_several_connections_is_the_artifact() {
    let (home, artifact) = (Home::new(), large());
    let (registry, proxy) = serve(&artifact);
    proxy.set_rate(Some(64 << 20));
    let client = home.builder().ranges(eager()).build();
    assert_delivers(&client.resolve_ref(&reference(&proxy)).await.unwrap(), &artifact);
    let asked = registry.journal();
    assert!(asked.iter().filter(|request| request.status == 206).count() >= 3, "{asked:?}");
    assert!(proxy.connections() >= 4);
    let names = TreeSnapshot::of(&home.cache().join("partial"));
    assert!(names.files().is_empty(), "{names:?}");
    registry.stop();
}

#[tokio::test]
async fn what_was_killed_with_holes_in_it_is_gone_on_with_at_the_first() {
    let (home, artifact) = (Home::new(), large());
    let (registry, proxy) = serve(&artifact);
    proxy.set_rate(Some(16 << 20));
    let references = [reference(&proxy)];
    let part = part(&home, &artifact);
    let noted = || {
        let note = std::fs::read_to_string(part.with_extension("upto")).unwrap_or_default();
        note.trim().parse::<u64>().unwrap_or(0)
    };
    let run = child(Role::Several, &home.cache(), &references);
    run.spawn().kill_when(|| noted() >= 4 << 20);
    let kept = noted();
    assert!(std::fs::metadata(&part).unwrap().len() > kept, "there is something behind the first hole");
    assert_fails(home.offline().resolve_ref(&references[0]).await, DistErrorKind::Offline, 4);

    proxy.set_rate(None);
    let already = registry.journal().len();
    assert_delivers(&home.client().resolve_ref(&references[0]).await.unwrap(), &artifact);
    let asked: Vec<_> = registry.journal().split_off(already);
    let blob = asked.last().unwrap();
    assert_eq!((blob.status, blob.bytes), (206, SIZE - kept), "{asked:?}");
    assert!(!part.exists() && !part.with_extension("upto").exists());
    registry.stop();
}

#[tokio::test]
async fn a_pull_dropped_with_holes_in_it_keeps_what_is_before_the_first() {
    let (home, artifact) = (Home::new(), large());
    let (registry, proxy) = serve(&artifact);
    proxy.set_rate(Some(16 << 20));
    let client = home.builder().ranges(eager()).build();
    let reference = reference(&proxy);
    let part = part(&home, &artifact);
    let has_holes = async {
        while !part.with_extension("upto").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        result = client.resolve_ref(&reference) => panic!("it ended: {result:?}"),
        () = has_holes => {}
    }
    // The worker notices that nobody waits any more, and settles what it has.
    while part.with_extension("upto").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let kept = std::fs::metadata(&part).map_or(0, |meta| meta.len());
    proxy.set_rate(None);
    let already = registry.journal().len();
    assert_delivers(&home.client().resolve_ref(&reference).await.unwrap(), &artifact);
    let blob = registry.journal().split_off(already).pop().unwrap();
    assert_eq!(blob.bytes, SIZE - kept);
    registry.stop();
}

#[tokio::test]
async fn parts_that_lie_are_found_out_and_the_whole_is_asked_for_in_one() {
    let home = Home::new();
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(5, 5 << 20));
    let registry = Scenario::new(artifact).lie(Lie::WrongRangeBytes).start();
    let proxy = Proxy::start(registry.host().parse().unwrap());
    proxy.set_rate(Some(16 << 20));
    let client = home.builder().ranges(eager()).build();
    assert_delivers(&client.resolve_ref(&reference(&proxy)).await.unwrap(), registry.artifact());
    let blobs: Vec<_> =
        registry.journal().entries().into_iter().filter(|entry| entry.path.contains("/blobs/")).collect();
    assert!(blobs.iter().any(|entry| entry.headers.get("range").is_some()));
    assert_eq!(blobs.last().unwrap().headers.get("range"), None, "the last one is for the whole");

    // And where the whole is wrong, too, there is nothing.
    let home = Home::new();
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(6, 5 << 20));
    let registry = Scenario::new(artifact).lie(Lie::WrongBlob).start();
    let client = home.builder().ranges(eager()).build();
    let error = client.resolve_ref(&registry.reference()).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity);
    home.assert_cache_empty();
}
