//! When an entry was last used, to the order of two uses.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greentic_dist_store::{Clock, Entry, Store, StoreOptions};

use crate::support::*;

fn set_modified(path: &Path, to: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(to).unwrap();
}

/// Changes a field of the record as an editor does.
fn edit_last_access(entry: &Entry, to: u64) {
    let path = entry.dir.join("entry.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["last_accessed_at"] = to.into();
    fs::write(path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
}

fn used_at(store: &Store, entry: &Entry) -> SystemTime {
    store.last_used(&store.stat(&entry.pin).unwrap().unwrap())
}

#[test]
fn uses_that_follow_each_other_at_once_are_told_apart() {
    let cache = cache();
    let entries: Vec<Entry> = (0..8_u8).map(|number| publish_content(&cache, &[number])).collect();
    let order = |entries: &[Entry]| {
        let times: Vec<SystemTime> = entries.iter().map(|entry| used_at(&cache, entry)).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    };
    order(&entries);
    let again: Vec<Entry> = [5, 0, 7, 2].map(|index: usize| entries[index].clone()).into();
    for entry in &again {
        assert!(cache.touch(entry));
    }
    order(&again);
    assert!(used_at(&cache, &again[0]) > used_at(&cache, &entries[6]));
}

#[test]
fn a_record_that_is_edited_after_the_last_use_counts_again() {
    let cache = cache();
    let entry = publish_content(&cache, b"one");
    assert!(cache.touch(&entry));
    let used = used_at(&cache, &entry);
    edit_last_access(&entry, 1);
    assert_eq!(used_at(&cache, &entry), UNIX_EPOCH + Duration::from_secs(1));
    assert!(cache.touch(&entry));
    assert!(used_at(&cache, &entry) > used, "and a use after that counts more");
}

#[test]
fn a_change_of_the_record_by_the_program_loses_no_use() {
    let cache = cache();
    let entry = publish_content(&cache, b"one");
    edit_last_access(&entry, 1);
    assert!(cache.touch(&entry));
    let used = used_at(&cache, &entry);
    let updated = cache.update(&entry.pin, &mut |record| record.last_verified_at = Some(7)).unwrap().unwrap();
    assert!(used_at(&cache, &updated) >= used - Duration::from_secs(1));
    assert!(updated.record.last_accessed_at > 1);
}

#[test]
fn row_71_a_time_in_the_future_is_now_and_one_that_is_lost_is_long_ago() {
    let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let cache = cache_with(StoreOptions { clock: Clock::fixed(now), ..unsynced() });
    let entry = publish_content(&cache, b"one");
    assert!(cache.touch(&entry));
    set_modified(&entry.dir.join("last_used"), now + Duration::from_secs(1 << 30));
    assert_eq!(used_at(&cache, &entry), now);
    edit_last_access(&entry, u64::MAX);
    assert_eq!(used_at(&cache, &entry), now);
    edit_last_access(&entry, 0);
    assert_eq!(used_at(&cache, &entry), UNIX_EPOCH);
}

#[test]
fn the_use_of_an_entry_that_is_gone_is_refused() {
    let cache = cache();
    let entry = publish_content(&cache, b"one");
    cache.remove(&entry.pin).unwrap();
    assert!(!cache.touch(&entry));
    assert!(!entry.dir.exists());
}
