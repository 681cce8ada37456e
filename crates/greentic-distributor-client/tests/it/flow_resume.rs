//! Transfers that stop in the middle, and who goes on with them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Part, Scenario};
use greentic_distributor_client::dist::{DistErrorKind, NetEvent, Observer};
use greentic_distributor_client::oci_components::{
    ComponentResolveOptions, DefaultRegistryClient, OciComponentResolver,
};

use crate::cap::Warnings;
use crate::support::{Home, assert_delivers, assert_fails, sample};

fn part(home: &Home, registry: &LyingRegistry) -> PathBuf {
    let name = format!("sha256-{}.part", registry.artifact().layer_digest().to_hex());
    home.cache().join("partial").join(name)
}

/// Pulls until `enough` bytes are in the partial file, then drops the pull.
async fn drop_midway(home: &Home, registry: &LyingRegistry, enough: u64) {
    let client = home.client();
    let reference = registry.reference();
    let pull = client.resolve_ref(&reference);
    let part = part(home, registry);
    let enough_is_here = async {
        while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < enough {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        result = pull => panic!("it ended: {result:?}"),
        () = enough_is_here => {}
    }
}

#[tokio::test]
async fn a_dropped_fetch_keeps_its_part_and_the_next_one_goes_on_from_there() {
    let home = Home::new();
    // The body stops at 120 000 bytes and the client is patient: it hangs there until it is dropped.
    let registry = Scenario::new(sample()).lie(Lie::StallBlob { after: 120_000, times: 1 }).start();
    drop_midway(&home, &registry, 120_000).await;
    assert!(home.client().list_cache().is_empty());
    assert_fails(home.offline().resolve_ref(&registry.reference()).await, DistErrorKind::Offline, 4);

    registry.be_honest();
    registry.journal().clear();
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    assert_delivers(&pulled, registry.artifact());
    assert_eq!(registry.journal().len(), 2);
    assert_eq!(registry.journal().header_of(1, "range").as_deref(), Some("bytes=120000-"));
    assert_eq!(registry.journal().body_bytes_sent("/blobs/"), 80_000);
    assert!(!part(&home, &registry).exists());
}

#[tokio::test]
async fn a_dropped_fetch_leaves_no_entry_and_no_temporary() {
    let home = Home::new();
    let registry = Scenario::new(sample()).lie(Lie::StallBlob { after: 50_000, times: Lie::ALWAYS }).start();
    drop_midway(&home, &registry, 50_000).await;
    let part = part(&home, &registry);
    let part = part.strip_prefix(home.cache()).unwrap().to_str().unwrap().to_owned();
    let snapshot = TreeSnapshot::of(&home.cache());
    assert_eq!(snapshot.files(), ["CACHEDIR.TAG", part.as_str()]);
}

#[tokio::test]
async fn a_part_that_is_already_whole_needs_no_transfer() {
    let home = Home::new();
    let registry = Scenario::new(sample()).start();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    std::fs::remove_dir_all(home.entry(registry.artifact().manifest_digest)).unwrap();
    std::fs::write(part(&home, &registry), registry.artifact().layer_bytes()).unwrap();
    registry.journal().clear();
    assert_delivers(&home.client().resolve_ref(&registry.reference()).await.unwrap(), registry.artifact());
    assert_eq!(registry.journal().count_containing("/blobs/"), 0, "{:?}", registry.journal().lines());
}

#[tokio::test]
async fn bytes_are_transferred_once_however_often_the_connection_is_cut() {
    let home = Home::new();
    let registry = Scenario::new(sample()).lie(Lie::cut_every(30_000)).start();
    assert_delivers(&home.client().resolve_ref(&registry.reference()).await.unwrap(), registry.artifact());
    assert_eq!(registry.journal().body_bytes_sent("/blobs/"), 200_000);
    assert_eq!(registry.journal().count_containing("/blobs/"), 7);
}

/// Returns once the registry was asked something.
async fn asked_once(registry: &LyingRegistry) {
    while registry.journal().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_dropped_resolve_leaves_nothing() {
    let home = Home::new();
    let registry = Scenario::new(sample()).lie(Lie::StallManifest(10)).start();
    let client = home.client();
    let reference = registry.reference();
    tokio::select! {
        result = client.resolve_ref(&reference) => panic!("it ended: {result:?}"),
        () = asked_once(&registry) => {}
    }
    assert!(TreeSnapshot::of(&home.cache()).files().is_empty());
    registry.be_honest();
    assert_delivers(&client.resolve_ref(&reference).await.unwrap(), registry.artifact());
}

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn event(&self, event: &NetEvent<'_>) {
        let line = match event {
            NetEvent::Retry { attempt, error, .. } => format!("retry {attempt} after {:?}", error.status()),
            NetEvent::Resume { offset, .. } => format!("resume at {offset}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn who_observes_a_client_is_told_of_retries_and_cuts_and_the_reporter_still_in_words() {
    let busy = Lie::Status { on: Part::Manifest, status: 503, times: 1, retry_after: None };
    let registry = Scenario::new(sample()).lie(busy).lie(Lie::CutBlob { after: 120_000, times: 1 }).start();
    let (home, seen, words) = (Home::new(), Arc::<Seen>::default(), Arc::<Warnings>::default());
    let client = home.builder().observer(Arc::clone(&seen) as _).reporter(Arc::clone(&words) as _).build();
    assert_delivers(&client.resolve_ref(&registry.reference()).await.unwrap(), registry.artifact());
    let told = std::mem::take(&mut *seen.0.lock().unwrap());
    assert_eq!(told, ["retry 1 after Some(503)", "resume at 120000"]);
    let words = words.0.lock().unwrap().clone();
    assert!(words[0].contains("attempt 1 failed") && words[1].contains("stopped at byte 120000"), "{words:?}");
    assert_eq!(words.len(), 2);

    // So is who watches a client that is made like it, for packs and components.
    let registry = Scenario::new(sample()).lie(Lie::CutBlob { after: 90_000, times: 1 }).start();
    let options = ComponentResolveOptions {
        allow_tags: true,
        cache_dir: home.path().join("components"),
        ..ComponentResolveOptions::default()
    };
    let resolver = OciComponentResolver::with_client(DefaultRegistryClient::like(&client), options);
    resolver.resolve_ref(&registry.reference()).await.unwrap();
    assert_eq!(*seen.0.lock().unwrap(), ["resume at 90000"]);
}
