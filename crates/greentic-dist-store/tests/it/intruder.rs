//! Things at names of the cache that it never put there: they make way, and what they lead to is untouched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use greentic_dist_store::{Proof, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::support::*;

fn part_of(cache: &Cache, content: &Digest) -> PathBuf {
    cache.root().join("partial").join(format!("sha256-{}.part", content.to_hex()))
}

fn lock_of(cache: &Cache, digest: &Digest) -> PathBuf {
    cache.root().join("locks").join(format!("sha256-{}.lock", digest.to_hex()))
}

/// A cache whose directories exist.
fn used() -> Cache {
    let cache = cache();
    artifact(b"makes the directories").publish_in(&cache);
    cache
}

fn victim_of(cache: &Cache) -> PathBuf {
    let victim = cache.dir.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    victim
}

fn assert_untouched(victim: &Path, what: &str) {
    assert_eq!(fs::read(victim).unwrap(), b"precious", "{what}");
    assert_eq!(fs::metadata(victim).unwrap().mode() & 0o7777, 0o640, "{what}");
}

/// Puts something odd at `path`.
type Put = fn(&Path, &Path);

const ODD: [(&str, Put); 5] = [
    ("a pipe", |path, _| make_fifo(path)),
    ("a symbolic link", |path, victim| symlink(victim, path).unwrap()),
    ("a symbolic link to nothing", |path, _| symlink("nothing here", path).unwrap()),
    ("an empty directory", |path, _| fs::create_dir(path).unwrap()),
    ("a directory with something in it", |path, _| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("something"), b"x").unwrap();
    }),
];

#[test]
fn row_63_a_lock_file_with_another_name_is_replaced_and_the_other_name_untouched() {
    let cache = used();
    let (digest, victim) = (Digest::sha256(b"x"), victim_of(&cache));
    fs::hard_link(&victim, lock_of(&cache, &digest)).unwrap();
    let lock = cache.try_lock(&digest).unwrap().unwrap();
    assert_untouched(&victim, "the lock");
    assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(lock_of(&cache, &digest)).unwrap().mode() & 0o7777, 0o600);
    assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_none(), "the new file is the lock");
    drop(lock);
    assert_tidy(&cache);
}

#[test]
fn a_lock_that_is_held_stays_held_when_somebody_gives_its_file_another_name() {
    let cache = used();
    let digest = Digest::sha256(b"x");
    let lock = cache.try_lock(&digest).unwrap().unwrap();
    // As a backup by hard links does.
    fs::hard_link(lock_of(&cache, &digest), cache.dir.path().join("backup")).unwrap();
    assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_none());
    drop(lock);
    assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_some());
}

#[test]
fn a_partial_file_with_another_name_is_replaced_and_the_other_name_untouched() {
    for own_part in [false, true] {
        let cache = used();
        let artifact = artifact(b"0123456789");
        let (victim, part) = (victim_of(&cache), part_of(&cache, &artifact.content));
        if own_part {
            fs::write(&victim, b"0123").unwrap();
        }
        let before = fs::read(&victim).unwrap();
        fs::hard_link(&victim, &part).unwrap();
        let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        assert_eq!(ingest.offset(), 0, "nothing of it is gone on with");
        ingest.write(&artifact.bytes).unwrap();
        cache.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
        drop(lock);
        assert_eq!(fs::read(&victim).unwrap(), before);
        assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
        assert!(!part.exists());
        assert_tidy(&cache);
    }
}

#[test]
fn a_file_of_somebody_else_is_not_adopted_unless_the_root_is_shared() {
    if !is_root() {
        return println!("SKIPPED: giving a file to another user needs root");
    }
    for allow_shared_root in [false, true] {
        let cache = used();
        let artifact = artifact(b"0123456789");
        let store = Store::with_options(cache.root(), StoreOptions { allow_shared_root, ..unsynced() });
        let (part, path) = (part_of(&cache, &artifact.content), lock_of(&cache, &artifact.content));
        for file in [&part, &path] {
            fs::write(file, b"0123").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
            chown(file, Some(65534), Some(65534)).unwrap();
        }
        let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
        let ingest = store.ingest(&lock, artifact.expected()).unwrap();
        let expected = if allow_shared_root { (4, 65534) } else { (0, rustix::process::geteuid().as_raw()) };
        for file in [&part, &path] {
            let meta = fs::metadata(file).unwrap();
            assert_eq!((ingest.offset(), meta.uid(), meta.mode() & 0o7777), (expected.0, expected.1, 0o600));
        }
    }
}

#[test]
fn row_66_something_odd_at_the_name_of_a_partial_file_makes_way() {
    for (what, put) in ODD {
        let cache = used();
        let artifact = artifact(b"0123456789");
        let victim = victim_of(&cache);
        put(&part_of(&cache, &artifact.content), &victim);
        artifact.publish_in(&cache);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes, "{what}");
        assert_untouched(&victim, what);
        assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new(), "{what}");
        assert_tidy(&cache);
    }
}

#[test]
fn something_odd_at_the_name_of_a_lock_makes_way() {
    for (what, put) in ODD {
        let cache = used();
        let (digest, victim) = (Digest::sha256(b"x"), victim_of(&cache));
        put(&lock_of(&cache, &digest), &victim);
        let lock = cache.try_lock(&digest).unwrap().unwrap();
        assert!(Store::new(cache.root()).try_lock(&digest).unwrap().is_none(), "{what}");
        assert_untouched(&victim, what);
        drop(lock);
        assert_tidy(&cache);
        put(&cache.root().join("locks/gc.lock"), &victim);
        cache.gc().unwrap();
        assert_tidy(&cache);
    }
}

#[test]
fn of_many_that_find_something_odd_at_a_lock_one_holds_it() {
    for (_, put) in ODD {
        for round in 0..20_u8 {
            let cache = used();
            let digest = Digest::sha256(&[round]);
            put(&lock_of(&cache, &digest), &victim_of(&cache));
            let start = std::sync::Barrier::new(6);
            let held = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..6)
                    .map(|_| {
                        scope.spawn(|| {
                            let store = Store::with_options(cache.root(), unsynced());
                            start.wait();
                            let lock = store.try_lock(&digest).unwrap();
                            start.wait();
                            lock.is_some()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|held| *held).count()
            });
            assert_eq!(held, 1);
        }
    }
}

#[test]
fn collection_clears_names_that_something_odd_has() {
    for (what, put) in ODD {
        let cache = used();
        let (digest, victim) = (Digest::sha256(b"x"), victim_of(&cache));
        put(&part_of(&cache, &digest), &victim);
        put(&lock_of(&cache, &digest), &victim);
        assert_eq!(cache.gc().unwrap().partials_removed, 1, "{what}");
        assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new(), "{what}");
        assert_untouched(&victim, what);
        assert_tidy(&cache);
    }
}

#[test]
fn a_name_that_cannot_be_cleared_is_named_with_what_to_do() {
    let cache = used();
    let artifact = artifact(b"0123456789");
    // Nothing can be moved to a trash that is no directory.
    fs::remove_dir_all(cache.root().join("trash")).ok();
    fs::write(cache.root().join("trash"), b"").unwrap();
    fs::create_dir(lock_of(&cache, &artifact.pin)).unwrap();
    let error = cache.try_lock(&artifact.pin).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::NotOurs);
    assert!(error.hints()[0].starts_with("remove `") && !error.hints()[0].contains("chmod"), "{:?}", error.hints());
    // The bytes need no partial file.
    fs::create_dir(part_of(&cache, &artifact.content)).unwrap();
    artifact.publish_in(&cache);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
}

#[test]
fn an_index_of_content_with_another_name_is_replaced_and_the_other_name_untouched() {
    let cache = used();
    let artifact = artifact(b"0123456789");
    let victim = victim_of(&cache);
    let index = cache.root().join("refs/by-content").join(format!("sha256-{}", artifact.content.to_hex()));
    fs::hard_link(&victim, &index).unwrap();
    artifact.publish_in(&cache);
    assert_untouched(&victim, "the index");
    assert_eq!(bytes_of(&cache, &artifact.content, Proof::Full), artifact.bytes);
}
