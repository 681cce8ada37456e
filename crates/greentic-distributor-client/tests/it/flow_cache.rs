//! Looking at the cache, and taking things out of it.

use std::fs;

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::NotFound;
use greentic_distributor_client::dist::{CacheEntryState, RetentionReport};

use crate::support::{Home, assert_delivers, assert_fails, other, registry};

#[tokio::test]
async fn an_artifact_is_found_by_its_pin_by_its_content_and_without_the_algorithm() {
    let (home, registry) = (Home::new(), registry());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let (pin, content) = (registry.artifact().manifest_digest, registry.artifact().layer_digest());
    let client = home.client();
    for key in [pin.to_string(), content.to_string(), pin.to_hex(), content.to_hex()] {
        assert_delivers(&client.open_cached(&key).unwrap(), registry.artifact());
        let entry = client.stat_cache(&key).unwrap();
        assert_eq!(entry.digest, pin.to_string());
        assert_eq!(client.fetch_digest(&key).await.unwrap(), pulled.local_path);
    }
    assert_eq!(registry.journal().len(), 2);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_named() {
    let client = Home::new().client();
    let digest = Digest::sha256(b"nothing").to_string();
    for text in [
        assert_fails(client.open_cached(&digest), NotFound, 3),
        assert_fails(client.stat_cache(&digest), NotFound, 3),
        assert_fails(client.fetch_digest(&digest).await, NotFound, 3),
        assert_fails(client.verify_cached(&digest), NotFound, 3),
        assert_fails(client.resolve_ref(&digest).await, NotFound, 3),
    ] {
        assert!(text.contains(&digest) && text.contains("not found"), "{text}");
    }
}

#[tokio::test]
async fn the_list_is_sorted_and_each_entry_says_where_it_came_from() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let mut expected = Vec::new();
    for number in 0..5 {
        registry.publish(&other(number), &format!("t{number}"));
        let reference = format!("oci://{}", registry.reference_to(&format!("t{number}")));
        expected.push((client.resolve_ref(&reference).await.unwrap().digest, reference));
    }
    expected.sort();
    let digests: Vec<_> = expected.iter().map(|(digest, _)| digest.clone()).collect();
    assert_eq!(client.list_cache(), digests);
    let entries = client.list_cache_entries();
    for (entry, (digest, reference)) in entries.iter().zip(&expected) {
        assert_eq!((&entry.digest, &entry.cache_key, &entry.raw_ref), (digest, digest, reference));
        assert_eq!((entry.format_version, entry.state), (1, CacheEntryState::Ready));
        assert_eq!(entry.local_path, home.entry(digest).join("component.wasm"));
        assert!(entry.last_verified_at.is_none() && entry.signature_summary.is_none());
    }
    assert_eq!(entries.len(), 5);
}

#[tokio::test]
async fn an_entry_on_disk_has_the_documented_fields_and_modes() {
    use std::os::unix::fs::PermissionsExt as _;
    let (home, registry) = (Home::new(), registry());
    let pulled = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let dir = pulled.local_path.parent().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("entry.json")).unwrap()).unwrap();
    for field in [
        "format_version",
        "cache_key",
        "digest",
        "media_type",
        "size_bytes",
        "artifact_type",
        "source_kind",
        "raw_ref",
        "canonical_ref",
        "fetched_at",
        "last_accessed_at",
        "last_verified_at",
        "state",
        "advisory_epoch",
        "signature_summary",
        "local_path",
        "source_snapshot",
        "content_digest",
    ] {
        assert!(record.get(field).is_some(), "{field} is missing");
    }
    assert_eq!(record["content_digest"], registry.artifact().layer_digest().to_string());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.cache()), mode(dir)), (0o700, 0o700));
    assert_eq!((mode(&pulled.local_path), mode(&dir.join("entry.json"))), (0o444, 0o600));
    assert!(home.cache().join("CACHEDIR.TAG").is_file());
}

#[tokio::test]
async fn edits_behind_the_clients_back_are_seen_by_the_next_call() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pulled = client.resolve_ref(&registry.reference()).await.unwrap();
    let path = pulled.local_path.with_file_name("entry.json");
    let mut entry = client.stat_cache(&pulled.digest).unwrap();
    entry.last_accessed_at = 7;
    entry.state = CacheEntryState::Corrupt;
    // As published code writes it: the documented fields alone.
    fs::write(&path, serde_json::to_vec_pretty(&entry).unwrap()).unwrap();
    let seen = client.stat_cache(&pulled.digest).unwrap();
    assert_eq!((seen.last_accessed_at, seen.state), (7, CacheEntryState::Corrupt));
    assert_eq!(client.list_cache_entries()[0], seen);
}

#[tokio::test]
async fn removing_reports_what_it_did() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let one = client.resolve_ref(&registry.reference()).await.unwrap().digest;
    registry.publish(&other(1), "2");
    let two = client.resolve_ref(&registry.reference_to("2")).await.unwrap().digest;
    let unknown = Digest::sha256(b"unknown").to_string();
    let report = client.remove(&[one.clone(), unknown]).unwrap();
    assert_eq!((report.scanned_entries, report.evicted, report.kept, report.refusals.len()), (2, 1, 0, 0));
    assert!(report.bytes_reclaimed >= 200_000);
    assert_eq!(client.list_cache(), std::slice::from_ref(&two));
    assert_fails(client.open_cached(&one), NotFound, 3);
    assert_eq!(client.remove(&[]).unwrap(), RetentionReport::default());
    client.remove_cached(&[two]).unwrap();
    assert!(client.list_cache().is_empty());
    home.assert_nothing_outside_changed();
    // And it comes back.
    assert_delivers(&client.resolve_ref(&registry.reference()).await.unwrap(), registry.artifact());
}

#[tokio::test]
async fn an_artifact_in_use_stays_readable_when_it_is_removed() {
    use std::io::Read as _;
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pulled = client.resolve_ref(&registry.reference()).await.unwrap();
    let mut file = fs::File::open(&pulled.local_path).unwrap();
    client.remove(std::slice::from_ref(&pulled.digest)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == registry.artifact().layer_bytes());
}

#[tokio::test]
async fn collecting_garbage_takes_what_is_dead_and_leaves_what_is_not() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pulled = client.resolve_ref(&registry.reference()).await.unwrap();
    let temp = home.cache().join("tmp");
    fs::create_dir_all(temp.join("dead")).unwrap();
    fs::write(temp.join("dead").join("component.wasm"), "x").unwrap();
    fs::write(temp.join("also-dead"), "x").unwrap();
    assert_eq!(client.gc().unwrap(), Vec::<String>::new());
    assert!(fs::read_dir(&temp).unwrap().next().is_none());
    assert_delivers(&client.open_cached(&pulled.digest).unwrap(), registry.artifact());
    let after = TreeSnapshot::of(&home.cache());
    client.gc().unwrap();
    after.assert_unchanged(&home.cache());
}

#[test]
fn collecting_in_an_empty_or_missing_cache_is_nothing() {
    let home = Home::new();
    assert!(home.client().gc().unwrap().is_empty());
    assert!(!home.cache().exists());
}

#[test]
fn older_layouts_are_listed_opened_and_removed_but_not_written() {
    let home = Home::new();
    let client = home.client();
    let (flat, sharded) = (b"\0asm flat".as_slice(), b"\0asm sharded".as_slice());
    let (flat_digest, sharded_digest) = (Digest::sha256(flat), Digest::sha256(sharded));
    let cache = home.cache();
    fs::create_dir_all(cache.join(flat_digest.to_hex())).unwrap();
    fs::write(cache.join(flat_digest.to_hex()).join("component.wasm"), flat).unwrap();
    let hex = sharded_digest.to_hex();
    let dir = cache.join("artifacts/sha256").join(&hex[..2]).join(&hex[2..]);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("blob"), sharded).unwrap();
    fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut expected = [flat_digest.to_string(), sharded_digest.to_string()];
    expected.sort();
    assert_eq!(client.list_cache(), expected);
    for (digest, bytes) in [(flat_digest, flat), (sharded_digest, sharded)] {
        assert_eq!(client.open_cached(&digest.to_string()).unwrap().wasm_bytes().unwrap(), bytes);
    }
    assert!(client.gc().unwrap().is_empty());
    let report = client.remove(&expected).unwrap();
    assert_eq!(report.evicted, 2);
    assert!(client.list_cache().is_empty());
}

#[tokio::test]
async fn ensure_cached_and_resolve_ref_are_the_flow_in_one_call() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let artifact = client.ensure_cached(&registry.reference()).await.unwrap();
    assert!(artifact.local_path.is_file());
    assert_eq!(client.resolve_ref(&artifact.digest).await.unwrap().local_path, artifact.local_path);
}
