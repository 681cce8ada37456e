//! Publications that meet, and removals that meet a fetch.

use std::sync::Barrier;

use greentic_dist_store::{Proof, Store, StoreErrorKind};

use crate::support::{artifact, bytes_of, kind};

#[test]
fn publications_that_meet_all_end_in_their_own_entry() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("cache"));
    let threads = 48;
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                let artifact = artifact(format!("artifact {number}").as_bytes());
                let staged = artifact.stage_in(store);
                barrier.wait();
                let published = store.publish(staged).unwrap();
                assert!(published.fresh);
                assert_eq!(published.entry.pin, artifact.pin);
                assert_eq!(bytes_of(store, &artifact.pin, Proof::Full), artifact.bytes);
            });
        }
    });
    assert_eq!(store.list().unwrap().len(), threads);
}

#[test]
fn a_batch_larger_than_one_group_is_synced_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("cache"));
    let artifacts: Vec<_> = (0..70).map(|number| artifact(format!("artifact {number}").as_bytes())).collect();
    let mut staged: Vec<_> = artifacts.iter().map(|artifact| artifact.stage_in(&store)).collect();
    // One whose file is gone fails at the sync, and alone.
    let lost = staged[40].pin();
    for item in std::fs::read_dir(store.root().join("tmp")).unwrap() {
        let path = item.unwrap().path();
        let manifest = std::fs::read(path.join("manifest.json")).unwrap();
        if manifest == artifacts[40].manifest {
            std::fs::remove_file(path.join("manifest.json")).unwrap();
        }
    }
    let published = store.publish_all(std::mem::take(&mut staged));
    for (number, (published, artifact)) in published.into_iter().zip(&artifacts).enumerate() {
        if number == 40 {
            assert_eq!(kind(published), StoreErrorKind::Missing);
        } else {
            assert_eq!(published.unwrap().entry.pin, artifact.pin);
            assert_eq!(bytes_of(&store, &artifact.pin, Proof::Full), artifact.bytes);
        }
    }
    assert!(store.open(&lost, Proof::Full).unwrap().is_none());
}

#[test]
fn a_publication_that_fails_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("cache"));
    let threads = 8;
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                let artifact = artifact(format!("artifact {number}").as_bytes());
                let staged = artifact.stage_in(store);
                if number == 0 {
                    // Something that is no entry, and that no rename replaces, has the name.
                    let newer = dir_of(store, &artifact.pin.to_hex());
                    std::fs::create_dir(&newer).unwrap();
                    std::fs::write(newer.join("entry.json"), r#"{"format_version":2}"#).unwrap();
                    std::fs::write(newer.join("component.wasm"), "newer").unwrap();
                }
                barrier.wait();
                let published = store.publish(staged);
                match number {
                    0 => assert_eq!(kind(published), StoreErrorKind::NewerFormat),
                    _ => assert!(published.unwrap().fresh),
                }
            });
        }
    });
}

fn dir_of(store: &Store, hex: &str) -> std::path::PathBuf {
    store.root().join(hex)
}

#[test]
fn an_entry_whose_bytes_are_being_fetched_for_another_pin_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("cache"));
    let artifact = artifact(b"shared bytes");
    artifact.publish_in(&store);
    let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
    assert_eq!(kind(store.remove(&artifact.pin)), StoreErrorKind::Locked);
    assert_eq!(bytes_of(&store, &artifact.pin, Proof::Full), artifact.bytes);
    drop(lock);
    assert!(store.remove(&artifact.pin).unwrap().existed);
}
