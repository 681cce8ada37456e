//! Any call with any digest and any text leaves everything outside the cache as it is.

use std::fs;

use greentic_dist_store::{EntryDraft, Expected, Proof, RefRecord};
use greentic_dist_types::Digest;
use proptest::prelude::*;

use crate::support::*;

/// A call of the public surface, by number, with arbitrary arguments.
fn call(cache: &Cache, number: u8, digest: &Digest, text: &str, bytes: &[u8]) {
    let lock = cache.try_lock(digest).unwrap().unwrap();
    match number {
        0 => drop(cache.stat(digest)),
        1 => drop(cache.open(digest, Proof::Full)),
        2 => drop(cache.find_content(digest)),
        3 => {
            drop(lock);
            drop(cache.remove(digest));
        }
        4 => drop(cache.quarantine(digest, text)),
        5 => drop(cache.lock_key(text, &mut |_| ())),
        6 => drop(cache.recall(text)),
        7 => drop(cache.remember(&RefRecord::new(text, *digest, 1))),
        8 => {
            let expected = Expected { digest: *digest, size_bytes: bytes.len() as u64 };
            if let Ok(mut ingest) = cache.ingest(&lock, expected) {
                drop(ingest.write(bytes));
                drop(ingest.finish());
            }
        }
        9 => {
            let mut record = record();
            record.digest = text.into();
            record.cache_key = text.into();
            record.local_path = text.into();
            record.raw_ref = text.into();
            let mut ingest = cache.ingest_measured(1 << 20).unwrap();
            ingest.write(bytes).unwrap();
            let draft = EntryDraft { manifest: None, pin: None, record, sidecars: Vec::new() };
            drop(cache.publish(ingest.finish().unwrap().stage(draft).unwrap()));
        }
        10 => drop(cache.update(digest, &mut |record| {
            record.digest = text.into();
            record.local_path = text.into();
        })),
        11 => drop(cache.gc()),
        _ => drop(cache.entries()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_call_touches_anything_outside_the_cache(
        calls in proptest::collection::vec(
            (0..13_u8, 0..6_u8, "(\\.\\./|/|[a-z]|\\PC|\0){0,12}", proptest::collection::vec(any::<u8>(), 0..64)),
            1..20,
        ),
    ) {
        let cache = cache();
        let outside = cache.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), b"precious").unwrap();
        let before = tree(&outside);
        for (number, key, text, bytes) in &calls {
            // Few digests, so that calls meet.
            call(&cache, *number, &Digest::sha256(&[*key]), text, bytes);
        }
        prop_assert_eq!(tree(&outside), before);
        prop_assert_eq!(names(cache.dir.path()), vec!["cache".to_owned(), "outside".to_owned()]);
        for entry in cache.entries().unwrap() {
            prop_assert!(entry.dir.starts_with(cache.root()));
            prop_assert!(cache.open(&entry.pin, Proof::Full).unwrap().is_some());
        }
    }
}
