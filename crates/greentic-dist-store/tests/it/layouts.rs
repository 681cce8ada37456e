//! Caches of earlier versions, and caches of packs.

use std::fs;
use std::path::PathBuf;

use greentic_dist_store::{ArtifactFile, EntryDraft, Layout, Proof, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::support::*;

fn sharded_dir(cache: &Cache, pin: &Digest) -> PathBuf {
    let hex = pin.to_hex();
    cache.root().join("artifacts/sha256").join(&hex[..2]).join(&hex[2..])
}

/// Puts an entry there as an earlier version wrote it.
fn write_sharded(cache: &Cache, pin: &Digest, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).recursive(true).create(cache.root()).unwrap();
    let dir = sharded_dir(cache, pin);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("blob"), bytes).unwrap();
    fs::write(dir.join("last_used"), "1").unwrap();
    let record = serde_json::json!({
        "format_version": 1, "cache_key": pin, "digest": pin, "media_type": "application/wasm",
        "size_bytes": bytes.len(), "artifact_type": "Component", "source_kind": "File", "raw_ref": "./x.wasm",
        "canonical_ref": format!("file://./x.wasm@{pin}"), "fetched_at": 1_790_000_000, "last_accessed_at": 1_790_000_000,
        "last_verified_at": null, "state": "Ready", "advisory_epoch": null, "signature_summary": null,
        "local_path": dir.join("blob"),
        "source_snapshot": {"raw_ref": "./x.wasm", "canonical_ref": "y", "source_kind": "File", "authoritative": false},
    });
    fs::write(dir.join("entry.json"), serde_json::to_vec_pretty(&record).unwrap()).unwrap();
    dir
}

#[test]
fn an_entry_of_the_sharded_layout_is_read_listed_and_removed() {
    let cache = cache();
    let pin = Digest::sha256(b"older");
    let dir = write_sharded(&cache, &pin, b"older");
    let entry = cache.stat(&pin).unwrap().unwrap();
    assert_eq!((entry.layout, entry.rebuilt, entry.record.raw_ref.as_str()), (Layout::Sharded, false, "./x.wasm"));
    assert_eq!(entry.path, dir.join("blob"));
    assert_eq!(bytes_of(&cache, &pin, Proof::Stamped), b"older");
    assert_eq!(cache.list().unwrap(), [pin]);
    cache.touch(&entry);
    assert_eq!(fs::read_to_string(dir.join("last_used")).unwrap(), "1");
    assert!(cache.update(&pin, &mut |_| ()).unwrap().is_none());
    let removed = cache.remove(&pin).unwrap();
    assert!(removed.existed && removed.bytes >= 5);
    assert!(!dir.parent().unwrap().exists(), "the empty shard is left");
    assert!(cache.list().unwrap().is_empty());
}

#[test]
fn an_older_entry_that_its_name_does_not_prove_is_a_miss_that_heals() {
    let cache = cache();
    let artifact = artifact(b"component");
    // Earlier versions named OCI artifacts by the manifest and kept no manifest.
    let dir = write_sharded(&cache, &artifact.pin, &artifact.bytes);
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    artifact.publish_in(&cache);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
    assert_eq!(cache.stat(&artifact.pin).unwrap().unwrap().layout, Layout::Current);
    assert!(dir.join("blob").exists(), "the older layout is not written");
    assert_eq!(cache.list().unwrap(), [artifact.pin]);
    cache.remove(&artifact.pin).unwrap();
    assert!(!dir.exists() && cache.stat(&artifact.pin).unwrap().is_none());
}

#[test]
fn a_bare_artifact_in_a_directory_of_its_digest_is_an_entry() {
    let cache = cache();
    let pin = Digest::sha256(b"flat");
    publish_content(&cache, b"something that makes the root");
    let dir = cache.root().join(pin.to_hex());
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("component.wasm"), b"flat").unwrap();
    let entry = cache.stat(&pin).unwrap().unwrap();
    assert_eq!((entry.layout, entry.rebuilt), (Layout::Flat, true));
    assert_eq!(bytes_of(&cache, &pin, Proof::Full), b"flat");
    assert!(cache.list().unwrap().contains(&pin));
    fs::write(dir.join("component.wasm"), b"FLAT").unwrap();
    assert_eq!(kind(cache.open(&pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    assert!(cache.remove(&pin).unwrap().existed && !dir.exists());
}

#[test]
fn content_in_an_older_layout_is_copied_not_linked() {
    use std::os::unix::fs::MetadataExt;
    let cache = cache();
    let content = Digest::sha256(b"older");
    let dir = write_sharded(&cache, &content, b"older");
    let found = cache.find_content(&content).unwrap().unwrap();
    let artifact = artifact(b"older");
    let lock = cache.lock(&content, &mut |_| ()).unwrap();
    let entry = cache.adopt(&lock, &found, artifact.draft()).unwrap();
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), b"older");
    let meta = fs::metadata(&entry.path).unwrap();
    assert_ne!(meta.ino(), fs::metadata(dir.join("blob")).unwrap().ino());
    assert_eq!(meta.mode() & 0o777, 0o444);
}

#[test]
fn directories_that_only_look_like_entries_are_not_listed() {
    let cache = cache();
    let entry = publish_content(&cache, b"real");
    let hex = entry.pin.to_hex();
    let root = cache.root();
    for name in [&hex[1..], &hex.to_uppercase().replace(char::is_numeric, "A"), "aa", "bundles", "not-hex"] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("component.wasm"), b"x").unwrap();
    }
    // Below an entry, beside the shards, as a link, as a file.
    fs::create_dir_all(entry.dir.join(Digest::sha256(b"inner").to_hex())).unwrap();
    fs::write(entry.dir.join(Digest::sha256(b"inner").to_hex()).join("component.wasm"), b"inner").unwrap();
    fs::create_dir_all(root.join("artifacts/sha256/zz").join(&hex[2..])).unwrap();
    fs::write(root.join("artifacts/sha256/zz").join(&hex[2..]).join("blob"), b"x").unwrap();
    std::os::unix::fs::symlink(&entry.dir, root.join(Digest::sha256(b"link").to_hex())).unwrap();
    std::os::unix::fs::symlink(root, root.join("artifacts/sha256/aa")).unwrap();
    fs::write(root.join(Digest::sha256(b"file").to_hex()), b"x").unwrap();
    let linked_blob = root.join(Digest::sha256(b"linked blob").to_hex());
    fs::create_dir(&linked_blob).unwrap();
    std::os::unix::fs::symlink(&entry.path, linked_blob.join("component.wasm")).unwrap();
    assert_eq!(cache.list().unwrap(), [entry.pin]);
}

#[test]
fn older_shards_behind_a_link_are_not_removed() {
    let cache = cache();
    let pin = Digest::sha256(b"older");
    publish_content(&cache, b"something that makes the root");
    let elsewhere = cache.dir.path().join("elsewhere");
    let hex = pin.to_hex();
    let outside = elsewhere.join("sha256").join(&hex[..2]).join(&hex[2..]);
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("blob"), b"older").unwrap();
    std::os::unix::fs::symlink(&elsewhere, cache.root().join("artifacts")).unwrap();
    cache.remove(&pin).unwrap();
    cache.gc().unwrap();
    assert_eq!(fs::read(outside.join("blob")).unwrap(), b"older");
    assert!(!cache.list().unwrap().contains(&pin));
}

#[test]
fn a_pack_cache_keeps_packs() {
    let cache = cache_with(StoreOptions { artifact_file: ArtifactFile::Pack, ..unsynced() });
    let mut ingest = cache.ingest_measured(100).unwrap();
    ingest.write(b"pack").unwrap();
    let staged = ingest.finish().unwrap().stage(EntryDraft::of_content(record())).unwrap();
    let entry = cache.publish(staged).unwrap().entry;
    assert_eq!(entry.path, cache.root().join(entry.pin.to_hex()).join("pack.gtpack"));
    assert_eq!(bytes_of(&cache, &entry.pin, Proof::Full), b"pack");
    assert_eq!(cache.list().unwrap(), [entry.pin]);
}
