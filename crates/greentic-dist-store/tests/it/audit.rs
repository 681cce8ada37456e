//! Hashing everything again, and counting.

use std::fs;

use greentic_dist_store::Store;

use crate::support::*;

#[test]
fn damage_is_found_named_and_put_aside_and_the_rest_is_counted() {
    let cache = cache();
    let good: Vec<_> = (0..20_u8).map(|number| artifact(&[number; 100]).publish_in(&cache).entry).collect();
    let bad = artifact(b"bad").publish_in(&cache).entry;
    let newer = artifact(b"newer").publish_in(&cache).entry;
    fs::remove_file(&bad.path).unwrap();
    fs::write(&bad.path, b"BAD").unwrap();
    let record = fs::read_to_string(newer.dir.join("entry.json")).unwrap();
    fs::write(newer.dir.join("entry.json"), record.replacen("\"format_version\": 1", "\"format_version\": 2", 1))
        .unwrap();
    let pins = cache.list().unwrap();
    let audit = cache.audit(&pins, false).unwrap();
    assert_eq!((audit.good, audit.bytes), (20, 2000));
    assert_eq!(
        audit.damaged.iter().map(|damage| (damage.pin, damage.put_aside)).collect::<Vec<_>>(),
        [(bad.pin, false)]
    );
    assert_eq!(audit.unknown.iter().map(|(pin, _)| *pin).collect::<Vec<_>>(), [newer.pin]);
    // Somebody is at it, or has a lease of it.
    let lock = cache.try_lock(&bad.content_digest).unwrap().unwrap();
    assert!(!cache.audit(&pins, true).unwrap().damaged[0].put_aside);
    drop(lock);
    let lease = cache.lease(&bad.pin).unwrap();
    assert!(!cache.audit(&pins, true).unwrap().damaged[0].put_aside);
    drop(lease);
    assert!(cache.audit(&pins, true).unwrap().damaged[0].put_aside);
    assert_eq!(cache.audit(&cache.list().unwrap(), true).unwrap().good, good.len());
    assert!(newer.dir.exists() && !bad.dir.exists());
    assert_eq!(names(&cache.root().join("quarantine")).len(), 1);
    assert_tidy(&cache);
}

#[test]
fn sizes_are_those_of_the_files() {
    let cache = cache();
    assert_eq!(cache.sizes().unwrap().entries, 0);
    assert!(!cache.root().exists());
    artifact(&[1; 1000]).publish_in(&cache);
    let cut = artifact(&[2; 1000]);
    let lock = cache.lock(&cut.content, &mut |_| ()).unwrap();
    cache.ingest(&lock, cut.expected()).unwrap().write(&[2; 300]).unwrap();
    drop(lock);
    let sizes = cache.sizes().unwrap();
    assert_eq!((sizes.entries, sizes.artifact_bytes, sizes.partial_bytes), (1, 1000, 300));
    assert_eq!((sizes.temp_bytes, sizes.quarantine_bytes, sizes.trash_bytes), (0, 0, 0));
    assert_eq!(Store::new(cache.root()).known_total().unwrap(), 1000);
}
