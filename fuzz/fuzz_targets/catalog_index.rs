//! The index of a catalog cache: it takes a reference, is written and read the same, and what others wrote stays.
#![no_main]

use greentic_dist_types::Digest;
use greentic_distributor_client::fuzzing::catalog_index;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: (&[u8], &str, &[u8])| {
    let (document, reference, file) = data;
    let Some(added) = catalog_index(document, reference, file) else { return };
    assert_eq!(added.after, Some(Digest::sha256(file)));
    // Added once more nothing changes.
    let again = catalog_index(&added.document, reference, file).expect("what was written is an index");
    assert_eq!((&again.document, again.before, again.after), (&added.document, added.after, added.after));
    let (Ok(before), Ok(after)) = (parsed(document), parsed(&added.document)) else { return };
    for (key, value) in before.as_object().into_iter().flatten() {
        let (Some(map), true) = (value.as_object(), ["refs", "entries"].contains(&key.as_str())) else {
            assert_eq!(after.get(key), Some(value));
            continue;
        };
        for (name, value) in map.iter().filter(|(name, _)| *name != reference) {
            assert_eq!(after[key].get(name), Some(value));
        }
    }
});

fn parsed(document: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(document)
}
