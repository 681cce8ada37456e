//! Which endpoint answered is said: for what a tag means, and for the bytes of a blob.

use std::sync::{Arc, Mutex};

use greentic_dist_net::{BlobEvent, BlobRequest, Capabilities, HostConfig, HostEndpoint, Net, Repository, Selector};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Part, Scenario};

use crate::mirrors::own_ip;
use crate::support::{layer_of, quick, read, read_unverified, repository};

fn artifact() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(79, 300_000))
}

fn origin() -> LyingRegistry {
    Scenario::new(artifact()).start()
}

fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    lies.into_iter().fold(Scenario::new(artifact()).on(own_ip()), Scenario::lie).start()
}

fn behind(origin: &LyingRegistry, mirror: &LyingRegistry, capabilities: Capabilities) -> Net {
    let endpoint = HostEndpoint::new(mirror.url()).capabilities(capabilities);
    quick().host(HostConfig::new(origin.host()).mirror(endpoint)).build().unwrap()
}

fn of(net: &Net, origin: &LyingRegistry) -> Repository {
    repository(net, &origin.reference())
}

/// The request, and the endpoints it will have told.
fn watched(request: BlobRequest) -> (BlobRequest, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&told);
    let request = request.progress(move |event| {
        if let BlobEvent::Endpoint { endpoint } = event {
            heard.lock().unwrap().push((*endpoint).to_owned());
        }
    });
    (request, told)
}

#[tokio::test]
async fn a_tag_is_answered_by_the_mirror_that_may_or_by_the_origin() {
    for (capabilities, by_mirror) in [(Capabilities::READ, true), (Capabilities::PULL, false)] {
        let (origin, near) = (origin(), mirror([]));
        let repository = of(&behind(&origin, &near, capabilities), &origin);
        let expected = if by_mirror { near.url() } else { origin.url() };
        let first = repository.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(first.served_by, expected);
        // "Not modified" is an answer, too.
        let same = repository.revalidate("1", first.etag.as_deref(), &first.digest).await.unwrap();
        assert!(same.changed.is_none());
        assert_eq!(same.served_by, expected);
        let pinned = repository.manifest(Selector::Digest(first.digest)).await.unwrap();
        assert_eq!(pinned.served_by, near.url());
    }
}

#[tokio::test]
async fn a_mirror_that_fails_is_not_the_one_that_answered() {
    for lie in [Lie::status(Part::All, 404), Lie::status(Part::All, 403), Lie::EndlessManifest] {
        let (origin, bad) = (origin(), mirror([lie.clone()]));
        let repository = of(&behind(&origin, &bad, Capabilities::READ), &origin);
        let found = repository.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!((found.served_by, bad.journal().len()), (origin.url(), 1), "{lie:?}");
        let changed = repository.revalidate("1", None, &fixture::artifact("a/b", vec![1]).manifest_digest).await;
        assert_eq!(changed.unwrap().changed.unwrap().served_by, origin.url(), "{lie:?}");
    }
}

#[tokio::test]
async fn everybody_who_sent_a_part_of_a_blob_is_told_in_order() {
    let (origin, cutting) = (origin(), mirror([Lie::CutBlob { after: 20_000, times: 1 }]));
    let net = behind(&origin, &cutting, Capabilities::PULL);
    let (request, told) = watched(of(&net, &origin).blob(&layer_of(origin.artifact())));
    read(request.open().await.unwrap()).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [cutting.url(), origin.url()]);
    let (request, told) = watched(of(&net, &origin).blob(&layer_of(origin.artifact())).from_offset(299_000));
    read_unverified(request.open_unverified().await.unwrap()).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [cutting.url()]);
    // Nobody is asked for nothing.
    let (request, told) = watched(of(&net, &origin).blob(&layer_of(origin.artifact())).from_offset(300_000));
    read_unverified(request.open_unverified().await.unwrap()).await.unwrap();
    assert!(told.lock().unwrap().is_empty());
}
