//! Records of bundles: written durably, read strictly, changed by one at a time.

use std::fs;
use std::path::PathBuf;

use greentic_dist_store::{BundleChange, BundleRecord, StoreErrorKind, StoreOptions};
use greentic_dist_types::{ArtifactSourceKind, BundleId, BundleLifecycleState as State, Digest};
use serde_json::{Map, Value, json};

use crate::support::*;

fn bundle(seed: &[u8], state: State) -> BundleRecord {
    bundle_of(Digest::sha256(seed), state)
}

pub(crate) fn bundle_of(pin: Digest, state: State) -> BundleRecord {
    BundleRecord {
        format_version: 0,
        bundle_id: BundleId::of(pin),
        cache_key: pin,
        canonical_ref: format!("oci://registry.example/acme/tool@{pin}"),
        source_kind: ArtifactSourceKind::Oci,
        fetched_at: 1_790_000_000,
        lifecycle_state: state,
        extra: Map::new(),
    }
}

fn put(cache: &Cache, record: &BundleRecord) {
    let lock = cache.lock_bundles(&mut |_| ()).unwrap();
    cache.put_bundle(&lock, record).unwrap();
}

fn path_of(cache: &Cache, record: &BundleRecord) -> PathBuf {
    cache.root().join("bundles").join(format!("bundle__sha256__{}.json", record.cache_key.to_hex()))
}

#[test]
fn a_record_is_a_file_named_after_its_bundle_with_the_published_fields() {
    let cache = cache();
    let record = bundle(b"a", State::Staged);
    put(&cache, &record);
    let json: Value = serde_json::from_slice(&fs::read(path_of(&cache, &record)).unwrap()).unwrap();
    let pin = record.cache_key.to_string();
    assert_eq!(
        json,
        json!({
            "format_version": 1, "bundle_id": format!("bundle:{pin}"), "cache_key": pin,
            "canonical_ref": record.canonical_ref, "source_kind": "Oci", "fetched_at": 1_790_000_000,
            "lifecycle_state": "Staged",
        })
    );
    let read = cache.bundle(&record.bundle_id).unwrap().unwrap();
    assert_eq!(read, BundleRecord { format_version: 1, ..record });
    assert_tidy(&cache);
}

#[test]
fn a_cache_without_records_has_none_and_gets_no_directory() {
    let cache = cache();
    assert_eq!(cache.bundles().unwrap(), []);
    let id = BundleId::of(Digest::sha256(b"a"));
    assert_eq!(cache.bundle(&id).unwrap(), None);
    assert_eq!(cache.change_bundle(&id, None, State::Ready).unwrap(), BundleChange::Missing);
    assert!(!cache.root().exists());
}

#[test]
fn records_of_earlier_programs_are_read_and_fields_of_others_are_kept() {
    let cache = cache();
    let record = bundle(b"a", State::Staged);
    put(&cache, &record);
    let path = path_of(&cache, &record);
    let published = json!({
        "bundle_id": record.bundle_id.to_string(), "cache_key": record.cache_key.to_string(), "canonical_ref": "x",
        "source_kind": "Https", "fetched_at": 7, "lifecycle_state": "Warming", "operator": {"note": 1},
    });
    fs::write(&path, published.to_string()).unwrap();
    let read = cache.bundle(&record.bundle_id).unwrap().unwrap();
    assert_eq!((read.format_version, read.fetched_at, read.lifecycle_state), (1, 7, State::Warming));
    let changed = cache.change_bundle(&record.bundle_id, Some(State::Warming), State::Ready).unwrap();
    assert!(matches!(changed, BundleChange::Made(made) if made.lifecycle_state == State::Ready));
    let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&json["operator"], &json["lifecycle_state"]), (&json!({"note": 1}), &json!("Ready")));
}

#[test]
fn a_malformed_record_is_an_error_that_names_the_file_and_is_left_alone() {
    let record = bundle(b"a", State::Staged);
    let other = bundle(b"b", State::Staged);
    let good = serde_json::to_value(&record).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = good.clone();
        json[key] = value;
        json.to_string()
    };
    let pin = record.cache_key.to_string();
    for bad in [
        String::new(),
        "junk".into(),
        "[]".into(),
        "{}".into(),
        with("bundle_id", json!(other.bundle_id.to_string())),
        with("bundle_id", json!("bundle:sha256:zz")),
        with("cache_key", json!(other.cache_key.to_string())),
        with("cache_key", json!("sha256:../../../../etc/passwd")),
        with("cache_key", json!("/abs/victim")),
        with("cache_key", json!(pin.to_uppercase())),
        with("lifecycle_state", json!("Archived")),
        with("fetched_at", json!("yesterday")),
        with("format_version", json!(-1)),
        " ".repeat(300 << 10),
    ] {
        let cache = cache();
        put(&cache, &other);
        put(&cache, &record);
        let path = path_of(&cache, &record);
        fs::write(&path, &bad).unwrap();
        for error in [
            cache.bundle(&record.bundle_id).unwrap_err(),
            cache.bundles().unwrap_err(),
            cache.change_bundle(&record.bundle_id, None, State::Ready).unwrap_err(),
        ] {
            assert_eq!((*error.kind(), error.path()), (StoreErrorKind::MalformedRecord, path.as_path()), "{bad:.80}");
            assert!(error.hints()[0].contains(path.to_str().unwrap()));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        assert_eq!(cache.bundle(&other.bundle_id).unwrap().unwrap().bundle_id, other.bundle_id);
    }
}

#[test]
fn what_is_no_plain_file_at_the_name_of_a_record_is_malformed() {
    let record = bundle(b"a", State::Staged);
    for odd in ["directory", "link", "pipe"] {
        let cache = cache();
        put(&cache, &record);
        let path = path_of(&cache, &record);
        fs::rename(&path, cache.dir.path().join("outside.json")).unwrap();
        match odd {
            "directory" => fs::create_dir(&path).unwrap(),
            "link" => std::os::unix::fs::symlink(cache.dir.path().join("outside.json"), &path).unwrap(),
            _ => make_fifo(&path),
        }
        assert_eq!(kind(cache.bundles()), StoreErrorKind::MalformedRecord, "{odd}");
        assert_eq!(kind(cache.bundle(&record.bundle_id)), StoreErrorKind::MalformedRecord, "{odd}");
    }
}

#[test]
fn files_that_are_no_records_disturb_nobody_and_foreign_json_does() {
    let cache = cache();
    let record = bundle(b"a", State::Ready);
    put(&cache, &record);
    let dir = cache.root().join("bundles");
    let hex = record.cache_key.to_hex();
    for stray in
        [".DS_Store", "._.json", &format!("bundle__sha256__{hex}.json~"), "notes.txt", &format!(".{hex}.json.swp")]
    {
        fs::write(dir.join(stray), b"junk").unwrap();
    }
    fs::create_dir(dir.join("old")).unwrap();
    assert_eq!(cache.bundles().unwrap().len(), 1);
    for foreign in ["index.json", &format!("bundle__{hex}.json"), "bundle__sha256__zz.json"] {
        fs::write(dir.join(foreign), b"{}").unwrap();
        let error = cache.bundles().unwrap_err();
        assert_eq!((*error.kind(), error.path()), (StoreErrorKind::MalformedRecord, dir.join(foreign).as_path()));
        fs::remove_file(dir.join(foreign)).unwrap();
    }
}

#[test]
fn a_directory_of_records_that_cannot_be_opened_is_not_an_empty_one() {
    let cache = cache();
    put(&cache, &bundle(b"a", State::Ready));
    let dir = cache.root().join("bundles");
    fs::rename(&dir, cache.dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(cache.dir.path().join("elsewhere"), &dir).unwrap();
    assert_eq!(kind(cache.bundles()), StoreErrorKind::NotOurs);
    fs::remove_file(&dir).unwrap();
    fs::write(&dir, b"").unwrap();
    assert_eq!(kind(cache.bundles()), StoreErrorKind::NotOurs);
}

#[test]
fn a_record_of_a_newer_version_is_reported_and_not_replaced() {
    let cache = cache();
    let record = bundle(b"a", State::Staged);
    put(&cache, &record);
    let path = path_of(&cache, &record);
    let newer = r#"{"format_version":2,"shape":"unknown"}"#;
    fs::write(&path, newer).unwrap();
    assert_eq!(kind(cache.bundle(&record.bundle_id)), StoreErrorKind::NewerFormat);
    assert_eq!(kind(cache.bundles()), StoreErrorKind::NewerFormat);
    let lock = cache.lock_bundles(&mut |_| ()).unwrap();
    assert_eq!(kind(cache.put_bundle(&lock, &record)), StoreErrorKind::NewerFormat);
    drop(lock);
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn of_many_changes_from_one_state_one_is_made() {
    let cache = cache();
    let record = bundle(b"a", State::Staged);
    put(&cache, &record);
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    match cache.change_bundle(&record.bundle_id, Some(State::Staged), State::Warming).unwrap() {
                        BundleChange::Made(_) => 1,
                        BundleChange::Elsewhere(now) => {
                            assert_eq!(now.lifecycle_state, State::Warming);
                            0
                        }
                        BundleChange::Missing => panic!("it is gone"),
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>()
    });
    assert_eq!(made, 1);
    assert_tidy(&cache);
}

#[test]
fn records_are_sorted_and_a_removed_one_is_gone() {
    let cache = cache();
    let records: Vec<BundleRecord> = (0..300_u32).map(|n| bundle(&n.to_le_bytes(), State::Inactive)).collect();
    for record in &records {
        put(&cache, record);
    }
    let listed: Vec<BundleId> = cache.bundles().unwrap().into_iter().map(|record| record.bundle_id).collect();
    let mut expected: Vec<BundleId> = records.iter().map(|record| record.bundle_id).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let lock = cache.lock_bundles(&mut |_| ()).unwrap();
    assert!(cache.remove_bundle(&lock, &records[7].bundle_id).unwrap());
    assert!(!cache.remove_bundle(&lock, &records[7].bundle_id).unwrap());
    drop(lock);
    assert_eq!(cache.bundles().unwrap().len(), 299);
}

#[test]
fn an_entry_is_made_durable_in_any_layout_and_one_that_is_gone_is_missing() {
    let cache = cache_with(StoreOptions::default());
    let entry = artifact(b"component").publish_in(&cache).entry;
    cache.make_durable(&entry).unwrap();
    let old = Digest::sha256(b"old");
    let hex = old.to_hex();
    let shard = cache.root().join("artifacts/sha256").join(&hex[..2]).join(&hex[2..]);
    fs::create_dir_all(&shard).unwrap();
    fs::write(shard.join("blob"), b"old").unwrap();
    cache.make_durable(&cache.stat(&old).unwrap().unwrap()).unwrap();
    cache.remove(&entry.pin).unwrap();
    assert_eq!(kind(cache.make_durable(&entry)), StoreErrorKind::Missing);
}
