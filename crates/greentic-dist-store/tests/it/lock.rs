//! One at a time, in this process and between processes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greentic_dist_store::{Proof, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::child::Child;
use crate::support::*;

#[test]
fn a_lock_is_held_by_one_and_leaves_no_file() {
    let cache = cache();
    let digest = Digest::sha256(b"x");
    let lock = cache.try_lock(&digest).unwrap().unwrap();
    assert_eq!(lock.digest(), digest);
    assert!(cache.try_lock(&digest).unwrap().is_none());
    // Another handle in the same process is another holder.
    assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_none());
    let other = cache.try_lock(&Digest::sha256(b"y")).unwrap();
    assert!(other.is_some());
    drop(lock);
    assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_some());
    drop(other);
    assert_tidy(&cache);
}

#[test]
fn a_wait_ends_and_names_the_holder() {
    let options = StoreOptions { lock_timeout: Duration::from_millis(1300), ..unsynced() };
    let cache = cache_with(options.clone());
    let digest = Digest::sha256(b"x");
    let _held = cache.lock(&digest, &mut |_| ()).unwrap();
    // Within one handle threads wait for each other without polling the file.
    for waiting in [cache.store.clone(), Store::with_options(cache.root(), options)] {
        let mut waits = Vec::new();
        let error = waiting.lock(&digest, &mut |wait| waits.push(wait.clone())).unwrap_err();
        assert_eq!(*error.kind(), StoreErrorKind::Locked);
        assert!(error.is_transient());
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        assert_eq!(waits.len(), 1);
        let holder = waits[0].holder.clone().unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(holder.command.as_str().starts_with("it-"), "{holder}");
    }
}

#[test]
fn a_wait_can_be_given_up() {
    let cache = cache();
    let digest = Digest::sha256(b"x");
    let held = cache.lock(&digest, &mut |_| ()).unwrap();
    for store in [cache.store.clone(), Store::new(cache.root())] {
        let polls = AtomicUsize::new(0);
        let stop = || polls.fetch_add(1, Ordering::Relaxed) >= 3;
        assert_eq!(kind(store.lock_unless(&digest, &mut |_| (), &stop)), StoreErrorKind::Locked);
    }
    // What gave up did not keep the next one out.
    drop(held);
    assert!(cache.try_lock(&digest).unwrap().is_some());
}

#[test]
fn keys_are_locks_of_their_own() {
    let cache = cache();
    let key = cache.lock_key("https://example.com/a.wasm?token=secret", &mut |_| ()).unwrap();
    let digest = key.digest();
    assert!(cache.try_lock(&digest).unwrap().is_some(), "a key is not a digest");
    let shown = names(&cache.root().join("locks")).join(" ");
    assert!(!shown.contains("secret") && shown.contains("key-"), "{shown}");
    let body = std::fs::read_to_string(cache.root().join("locks").join(names(&cache.root().join("locks")).remove(0)));
    assert!(!body.unwrap().contains("secret"));
    drop(key);
    assert_tidy(&cache);
}

#[test]
fn a_panic_lets_go() {
    let cache = cache();
    let digest = Digest::sha256(b"x");
    let store = cache.store.clone();
    let thread = std::thread::spawn(move || {
        let _lock = store.lock(&digest, &mut |_| ()).unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    assert!(cache.try_lock(&digest).unwrap().is_some());
}

#[test]
fn of_eight_threads_one_brings_the_artifact_and_all_have_it() {
    let cache = cache();
    let artifact = artifact(&vec![7; 300_000]);
    let downloads = AtomicUsize::new(0);
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (cache, artifact, downloads, inside) = (&cache, &artifact, &downloads, &inside);
            scope.spawn(move || {
                // Half of them through a handle of their own.
                let store =
                    if thread % 2 == 0 { cache.store.clone() } else { Store::with_options(cache.root(), unsynced()) };
                let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                if store.open(&artifact.pin, Proof::Stamped).unwrap().is_none() {
                    downloads.fetch_add(1, Ordering::SeqCst);
                    let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
                    for chunk in artifact.bytes.chunks(10_000) {
                        ingest.write(chunk).unwrap();
                    }
                    store.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(lock);
                assert_eq!(bytes_of(&store, &artifact.pin, Proof::Stamped), artifact.bytes);
            });
        }
    });
    assert_eq!(downloads.load(Ordering::SeqCst), 1);
    assert_tidy(&cache);
}

#[test]
fn publishers_without_any_lock_leave_one_good_entry() {
    let cache = cache();
    let artifact = artifact(&vec![9; 50_000]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (cache, artifact) = (&cache, &artifact);
            scope.spawn(move || {
                for _ in 0..10 {
                    let mut ingest = cache.ingest_measured(1 << 20).unwrap();
                    ingest.write(&artifact.bytes).unwrap();
                    let staged = ingest.finish().unwrap().stage(artifact.draft()).unwrap();
                    cache.publish(staged).unwrap();
                    assert_eq!(bytes_of(cache, &artifact.pin, Proof::Stamped), artifact.bytes);
                }
            });
        }
    });
    assert_eq!(cache.list().unwrap(), [artifact.pin]);
    assert_eq!(names(&cache.root().join("quarantine")), Vec::<String>::new());
    assert_tidy(&cache);
}

#[test]
fn row_72_readers_writers_removers_and_collectors_never_see_a_wrong_byte() {
    let cache = cache();
    let artifacts: Vec<Artifact> = (0..4_u8).map(|number| artifact(&vec![number; 20_000])).collect();
    let until = Instant::now() + Duration::from_millis(1500);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6_usize {
            let (cache, artifacts, opened) = (&cache, &artifacts, &opened);
            scope.spawn(move || {
                let mut turn = thread;
                while Instant::now() < until {
                    turn += 1;
                    let artifact = &artifacts[turn % artifacts.len()];
                    match thread {
                        0 | 1 => drop(artifact.publish_in(cache)),
                        2 => drop(cache.remove(&artifact.pin)),
                        3 => drop(cache.gc()),
                        _ => match try_bytes_of(cache, &artifact.pin, Proof::Stamped) {
                            Ok(Some(bytes)) => {
                                assert_eq!(bytes, artifact.bytes);
                                opened.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(None) => {}
                            Err(error) => panic!("an entry that comes and goes is there or it is not: {error}"),
                        },
                    }
                }
            });
        }
    });
    assert!(opened.load(Ordering::Relaxed) > 0);
    for artifact in &artifacts {
        artifact.publish_in(&cache);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    }
}

#[test]
fn of_four_processes_one_brings_the_artifact() {
    let cache = cache();
    let mut children: Vec<Child> = (0..4).map(|_| Child::start("bring", cache.root(), &[])).collect();
    let outcomes: Vec<String> = children.iter_mut().map(Child::finish).collect();
    assert_eq!(outcomes.iter().filter(|line| line.contains("brought")).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|line| line.contains("found")).count(), 3, "{outcomes:?}");
    assert_eq!(cache.list().unwrap().len(), 1);
    assert_tidy(&cache);
}

#[test]
fn a_killed_holder_hands_over() {
    let cache = cache();
    let digest = crate::child::big().content;
    let mut child = Child::start("hold", cache.root(), &[]);
    child.wait_for_line("holding");
    assert!(cache.try_lock(&digest).unwrap().is_none());
    child.kill();
    let lock = cache.lock(&digest, &mut |_| ()).unwrap();
    drop(lock);
    assert_tidy(&cache);
}
