//! Stores of several kinds in one directory and beside each other, and entries that somebody only vouched for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use greentic_dist_store::{ArtifactFile, EntryDraft, Proof, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::support::*;

fn packs() -> StoreOptions {
    StoreOptions { artifact_file: ArtifactFile::Pack, ..unsynced() }
}

#[test]
fn an_entry_of_another_kind_of_store_is_opened_listed_kept_and_removed_as_ones_own() {
    let cache = cache();
    let other = Store::with_options(cache.root(), packs());
    let published = artifact(b"an artifact").publish_in(&cache).entry;
    let pin = published.pin;
    assert_eq!(bytes_of(&other, &pin, Proof::Full), b"an artifact");
    assert_eq!(bytes_of(&other, &published.content_digest, Proof::Stamped), b"an artifact");
    assert_eq!(other.list().unwrap(), [pin]);
    assert!(other.gc().unwrap().removed.is_empty());
    // Published again from the other kind, it stays the one entry.
    let again = artifact(b"an artifact").publish_in(&other);
    assert!(!again.fresh);
    assert_eq!(again.entry.path, published.path);

    let named = other.own_name(&other.stat(&pin).unwrap().unwrap()).unwrap();
    assert_eq!(named, published.dir.join("pack.gtpack"));
    assert_eq!(fs::read_link(&named).unwrap().to_str(), Some("component.wasm"));
    assert_eq!(cache.own_name(&cache.stat(&pin).unwrap().unwrap()).unwrap(), published.path);
    assert_eq!(bytes_of(&other, &pin, Proof::Full), b"an artifact");
    assert_eq!(other.sizes().unwrap().artifact_bytes, 11);

    fs::remove_file(&published.path).unwrap();
    fs::write(&published.path, b"an artifacT").unwrap();
    assert_eq!(kind(other.open(&pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    assert_eq!(other.audit(&[pin], true).unwrap().damaged.len(), 1);
    assert!(other.list().unwrap().is_empty());
}

#[test]
fn content_of_another_root_is_linked_after_it_was_proven() {
    let (from, to) = (cache_with(packs()), cache());
    let artifact = artifact(b"shared between roots");
    let there = artifact.publish_in(&from).entry;
    let lock = to.lock(&artifact.content, &mut |_| ()).unwrap();
    let found = from.find_content(&artifact.content).unwrap().unwrap();
    let here = to.adopt_from(&lock, &from, &found, artifact.draft()).unwrap();
    assert_eq!(here.path, to.root().join(artifact.pin.to_hex()).join("component.wasm"));
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&here.path), inode(&there.path));
    // Gone there, it is still here.
    from.remove(&there.pin).unwrap();
    assert_eq!(bytes_of(&to, &artifact.pin, Proof::Full), artifact.bytes);
}

#[test]
fn damaged_content_of_another_root_is_not_taken() {
    let (from, to) = (cache_with(packs()), cache());
    let artifact = artifact(b"shared between roots");
    let there = artifact.publish_in(&from).entry;
    fs::remove_file(&there.path).unwrap();
    fs::write(&there.path, b"Shared between roots").unwrap();
    let lock = to.lock(&artifact.content, &mut |_| ()).unwrap();
    let found = from.find_content(&artifact.content).unwrap().unwrap();
    assert_eq!(kind(to.adopt_from(&lock, &from, &found, artifact.draft())), StoreErrorKind::Corrupt);
    assert!(to.list().unwrap().is_empty());
}

#[test]
fn a_vouched_entry_opens_for_those_who_believe_and_makes_way_for_a_proven_one() {
    let cache = cache();
    let believing = Store::with_options(cache.root(), StoreOptions { believe_vouched: true, ..unsynced() });
    let artifact = artifact(b"only somebody's word");
    let unproven = |vouched: bool| {
        let mut record = record();
        record.vouched = vouched;
        EntryDraft { pin: Some(artifact.pin), manifest: None, record, sidecars: Vec::new() }
    };
    let blob = || {
        let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        ingest.restart().unwrap();
        ingest.write(&artifact.bytes).unwrap();
        ingest.finish().unwrap()
    };
    assert_eq!(kind(blob().stage(unproven(false)).map(|_| ())), StoreErrorKind::Corrupt);
    let entry = believing.publish(blob().stage(unproven(true)).unwrap()).unwrap().entry;
    assert_eq!(bytes_of(&believing, &artifact.pin, Proof::Full), artifact.bytes);
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    // It is no garbage, its bytes are sound, and nobody links to it.
    assert!(cache.gc().unwrap().removed.is_empty());
    assert!(cache.audit(&[artifact.pin], true).unwrap().damaged.is_empty());
    assert!(cache.find_content(&artifact.content).unwrap().is_none());
    // Its bytes are proven for believers, too.
    fs::remove_file(&entry.path).unwrap();
    fs::write(&entry.path, b"only somebody's worD").unwrap();
    assert_eq!(kind(believing.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);

    let proven = artifact.publish_in(&cache);
    assert!(proven.fresh);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    assert!(!cache.stat(&artifact.pin).unwrap().unwrap().record.vouched);
    assert_eq!(cache.stat(&Digest::sha256(b"nothing")).unwrap().map(|entry| entry.pin), None);
}
