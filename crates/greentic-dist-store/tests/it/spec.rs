//! The specification in `docs/cache-layout.md` and the code say the same.

use std::time::Duration;

use greentic_dist_store::{BundleRecord, Clock, EntryRecord, StoreOptions};

use crate::support::*;

#[test]
fn the_record_of_the_specification_is_read_and_written_as_it_stands_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cache-layout.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: the specification is not part of the package");
        return;
    };
    let example = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let record: EntryRecord = serde_json::from_str(example).unwrap();
    assert!(record.extra.is_empty(), "the specification has fields that the code does not know: {:?}", record.extra);
    assert_eq!(format!("{}\n", serde_json::to_string_pretty(&record).unwrap()), example);
}

#[test]
fn the_bundle_record_of_the_specification_is_read_and_written_as_it_stands_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cache-layout.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: the specification is not part of the package");
        return;
    };
    let example = text.split("```json\n").nth(2).unwrap().split("```").next().unwrap();
    let record: BundleRecord = serde_json::from_str(example).unwrap();
    assert!(record.extra.is_empty(), "the specification has fields that the code does not know: {:?}", record.extra);
    assert_eq!(format!("{}\n", serde_json::to_string_pretty(&record).unwrap()), example);
}

#[test]
fn the_endpoints_of_the_specification_are_read_and_written_as_they_stand_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cache-layout.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: the specification is not part of the package");
        return;
    };
    let example = text.split("```json\n").nth(3).unwrap().split("```").next().unwrap();
    let now = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let cache = cache_with(StoreOptions { clock: Clock::fixed(now), ..unsynced() });
    cache.quarantine_endpoint("http://rack7.mirror.example:5000", Duration::from_mins(10)).unwrap();
    assert_eq!(std::fs::read_to_string(cache.root().join("state/endpoints.json")).unwrap(), example);
}

#[test]
fn the_tree_of_the_specification_is_the_tree_that_is_written() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cache-layout.md");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("SKIPPED: the specification is not part of the package");
        return;
    };
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    cache.remember(&greentic_dist_store::RefRecord::new("tag", artifact.pin, 1)).unwrap();
    cache.quarantine_endpoint("https://m.example", Duration::from_mins(10)).unwrap();
    cache.gc().unwrap();
    for (path, _) in tree(cache.root()) {
        let Some(name) = path.components().next() else { continue };
        let name = name.as_os_str().to_str().unwrap();
        let name = if name == artifact.pin.to_hex() { "<hex>/" } else { name };
        assert!(text.contains(&format!("      {name}")), "{name} is not in the specification");
    }
}
