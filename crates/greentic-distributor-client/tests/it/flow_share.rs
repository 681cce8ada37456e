//! The same bytes wanted by many: moved once, kept once.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use greentic_dist_testkit::fixture::{Blob, WASM_TYPE, artifact_of};
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_distributor_client::dist::{DistError, DistErrorKind};

use crate::support::{Home, assert_delivers, assert_fails, registry, sample};

#[tokio::test]
async fn eight_fetches_of_one_digest_at_once_move_its_bytes_once() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let reference = registry.pinned();
    let results = client.pull_all(&vec![reference; 8]).await;
    for result in results {
        assert_delivers(&result.unwrap(), registry.artifact());
    }
    assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
    assert_eq!(client.list_cache().len(), 1);
}

#[test]
fn eight_clients_in_eight_threads_move_the_bytes_once() {
    let (home, registry) = (Home::new(), registry());
    let barrier = Arc::new(Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (client, reference, barrier) = (home.client(), registry.reference(), Arc::clone(&barrier));
            let expected = registry.artifact();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                barrier.wait();
                let pulled = runtime.block_on(client.resolve_ref(&reference)).unwrap();
                assert_delivers(&pulled, expected);
            });
        }
    });
    assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
    assert_eq!(home.client().list_cache().len(), 1);
}

#[tokio::test]
async fn when_the_first_of_many_fails_the_others_do_not() {
    let home = Home::new();
    let registry = Scenario::new(sample()).lie(Lie::burst(greentic_dist_testkit::scenario::Part::Blob, 404, 1)).start();
    let results = home.client().pull_all(&vec![registry.pinned(); 4]).await;
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).map(DistError::kind).collect();
    assert_eq!(failed, [DistErrorKind::NotFound]);
    assert_eq!(registry.journal().count_containing("/blobs/"), 2);
}

#[tokio::test]
async fn two_pins_of_the_same_layer_share_one_file_and_one_transfer() {
    let layer = Blob::new(WASM_TYPE, sample().layer_bytes());
    let one = artifact_of(vec![layer.clone()], &[("build", "1")]);
    let two = artifact_of(vec![layer], &[("build", "2")]);
    assert_ne!(one.manifest_digest, two.manifest_digest);
    let (home, registry) = (Home::new(), Scenario::new(one.clone()).start());
    registry.publish(&two, "2");
    let client = home.client();
    let first = client.resolve_ref(&registry.reference()).await.unwrap();
    let second = client.resolve_ref(&registry.reference_to("2")).await.unwrap();
    assert_delivers(&first, &one);
    assert_delivers(&second, &two);
    assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
    assert_ne!(first.local_path, second.local_path);
    let (first_meta, second_meta) = (first.local_path.metadata().unwrap(), second.local_path.metadata().unwrap());
    assert_eq!(first_meta.ino(), second_meta.ino());
    assert_eq!(second_meta.nlink(), 2);
    // Each stands for itself.
    client.remove(std::slice::from_ref(&first.digest)).unwrap();
    assert_delivers(&home.offline().open_cached(&second.digest).unwrap(), &two);
}

#[tokio::test]
async fn damage_in_one_of_two_that_share_a_file_is_healed_in_both() {
    let layer = Blob::new(WASM_TYPE, sample().layer_bytes());
    let one = artifact_of(vec![layer.clone()], &[("build", "1")]);
    let two = artifact_of(vec![layer], &[("build", "2")]);
    let (home, registry) = (Home::new(), Scenario::new(one.clone()).start());
    registry.publish(&two, "2");
    let client = home.client();
    let first = client.resolve_ref(&registry.reference()).await.unwrap();
    client.resolve_ref(&registry.reference_to("2")).await.unwrap();
    // In place, so that both names lead to the wrong bytes.
    std::fs::set_permissions(&first.local_path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&first.local_path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"wrong", 10).unwrap();
    drop(file);
    assert_delivers(&home.client().resolve_ref(&registry.reference()).await.unwrap(), &one);
    assert_delivers(&home.client().resolve_ref(&registry.reference_to("2")).await.unwrap(), &two);
    home.offline().verify_cached(&one.manifest_digest.to_string()).unwrap();
    home.offline().verify_cached(&two.manifest_digest.to_string()).unwrap();
}

#[tokio::test]
async fn many_references_come_back_in_order_and_one_failure_stops_no_other() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&crate::support::other(7), "7");
    let references = [
        registry.reference(),
        registry.reference_to("nothing"),
        registry.reference_to("7"),
        "not a reference".to_owned(),
    ];
    let results = home.client().pull_all(&references).await;
    assert_delivers(results[0].as_ref().unwrap(), registry.artifact());
    assert_eq!(results[1].as_ref().unwrap_err().exit_code(), 3);
    assert_delivers(results[2].as_ref().unwrap(), &crate::support::other(7));
    assert_eq!(results[3].as_ref().unwrap_err().exit_code(), 2);
}

#[test]
fn many_more_tasks_than_threads_all_get_the_bytes_of_one_transfer() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    for threads in [1, 2] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().max_blocking_threads(threads).enable_all().build().unwrap();
        drop(std::fs::remove_dir_all(home.cache()));
        registry.journal().clear();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64)
                .map(|_| {
                    let (client, reference) = (client.clone(), registry.pinned());
                    tokio::spawn(async move { client.resolve_ref(&reference).await })
                })
                .collect();
            for task in tasks {
                assert_delivers(&task.await.unwrap().unwrap(), registry.artifact());
            }
        });
        assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
    }
}

#[tokio::test]
async fn a_tag_that_is_asked_for_four_times_at_once_is_resolved_once() {
    let (home, artifact) = (Home::new(), sample());
    let copy = artifact.clone();
    let server = LyingServer::start(move |request, _| {
        if request.path.contains("/manifests/") {
            // Long enough for all four to ask.
            let answer = Response::ok(copy.manifest_bytes.clone()).header("Content-Type", copy.media_type.clone());
            return answer.delay(Duration::from_secs(1));
        }
        Response::ranged(request, "", copy.layer_bytes().to_vec())
    });
    let client = home.client();
    for result in client.pull_all(&vec![format!("{}/acme/hello:1", server.host()); 4]).await {
        assert_delivers(&result.unwrap(), &artifact);
    }
    assert_eq!(server.journal().len(), 2, "{:?}", server.journal().lines());
}

#[tokio::test]
async fn what_the_cache_spared_is_counted_and_every_request_says_who_asks() {
    let (home, registry) = (Home::new(), registry());
    let client = home.builder().user_agent("acme-operator/1.2").build();
    assert_eq!(client.stats().cache_hits, 0);
    let pulled = client.resolve_ref(&registry.pinned()).await.unwrap();
    assert_eq!((client.stats().cache_hits, client.net_stats().requests), (0, 2));
    client.resolve_ref(&registry.pinned()).await.unwrap();
    client.open_cached(&pulled.digest).unwrap();
    client.open_cached("sha256:00").unwrap_err();
    assert_eq!((client.stats().cache_hits, client.net_stats().requests), (2, 2));
    for request in 0..2 {
        assert_eq!(registry.journal().header_of(request, "user-agent").as_deref(), Some("acme-operator/1.2"));
    }
    let nobody = home.builder().user_agent(" ").build();
    let other = crate::support::registry();
    assert_fails(nobody.resolve_ref(&other.reference()).await, DistErrorKind::InvalidInput, 2);
    assert!(other.journal().is_empty());
}
