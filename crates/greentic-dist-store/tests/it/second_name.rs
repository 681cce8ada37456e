//! The name a publisher gave to an artifact, beside the fixed one.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use greentic_dist_store::{ArtifactFile, Proof, SecondName, StoreErrorKind, StoreOptions};

use crate::support::*;

fn name(text: &str) -> SecondName {
    SecondName::parse(text).unwrap()
}

#[test]
fn a_second_name_is_a_relative_link_that_moves_with_the_cache_and_goes_with_the_entry() {
    let cache = cache();
    let published = artifact(b"a component").publish_in(&cache);
    let before = fs::metadata(&published.entry.path).unwrap();
    let path = cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap();
    assert_eq!(path, published.entry.dir.join("tool.wasm"));
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("component.wasm"));
    assert_eq!(fs::read(&path).unwrap(), b"a component");
    assert_eq!(cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap(), path, "again");
    let after = fs::metadata(&published.entry.path).unwrap();
    assert_eq!((before.nlink(), before.ctime_nsec()), (after.nlink(), after.ctime_nsec()), "the artifact is as it was");

    let moved = cache.dir.path().join("moved");
    fs::rename(cache.root(), &moved).unwrap();
    let at = moved.join(published.entry.pin.to_hex()).join("tool.wasm");
    assert_eq!(fs::read(at).unwrap(), b"a component");
    fs::rename(&moved, cache.root()).unwrap();

    assert!(cache.remove(&published.entry.pin).is_ok());
    assert!(!published.entry.dir.exists());
}

#[test]
fn what_has_the_name_makes_way_and_nothing_behind_it_is_touched() {
    let cache = cache();
    let published = artifact(b"a component").publish_in(&cache);
    let outside = cache.dir.path().join("outside");
    fs::write(&outside, "do not touch").unwrap();
    let path = published.entry.dir.join("tool.wasm");
    symlink(&outside, &path).unwrap();
    cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"a component");
    assert_eq!(fs::read(&outside).unwrap(), b"do not touch");

    fs::remove_file(&path).unwrap();
    fs::write(&path, "other bytes").unwrap();
    cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"a component");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::Io, "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    let strays = fs::read_dir(&published.entry.dir)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(strays.count(), 0, "what was begun is cleaned up");
}

#[test]
fn an_entry_that_is_gone_is_not_named() {
    let cache = cache();
    let published = artifact(b"a component").publish_in(&cache);
    fs::remove_dir_all(&published.entry.dir).unwrap();
    let error = cache.name_artifact(&published.entry, &name("tool.wasm")).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::Missing);
    assert!(!published.entry.dir.exists());
}

#[test]
fn a_store_of_blobs_has_them_as_blob_bin_and_opens_bare_ones_of_earlier_versions() {
    let cache = cache_with(StoreOptions { artifact_file: ArtifactFile::Blob, ..unsynced() });
    let entry = publish_content(&cache, b"a blob");
    assert_eq!(entry.path, cache.root().join(entry.pin.to_hex()).join("blob.bin"));
    assert_eq!(bytes_of(&cache, &entry.pin, Proof::Full), b"a blob");
    for name in ["entry.json", "verified"] {
        drop(fs::remove_file(entry.dir.join(name)));
    }
    assert_eq!(bytes_of(&cache, &entry.pin, Proof::Full), b"a blob");
    assert_eq!(cache.list().unwrap(), [entry.pin]);
}
