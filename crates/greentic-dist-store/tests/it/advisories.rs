//! The youngest advisory of a source is never forgotten and never set back.

use std::fs;
use std::path::PathBuf;

use greentic_dist_store::StoreErrorKind;
use greentic_dist_types::Digest;
use proptest::prelude::*;

use crate::support::*;

fn path_of(cache: &Cache, source: &str) -> PathBuf {
    cache.root().join("advisories").join(format!("{}.json", Digest::sha256(source.as_bytes()).to_hex()))
}

#[test]
fn a_source_is_remembered_by_its_youngest_advisory_alone() {
    let cache = cache();
    assert_eq!(cache.advisory_mark("a").unwrap(), None);
    assert!(!cache.root().exists());
    for (version, issued_at, kept) in [("1", 10, "1"), ("2", 20, "2"), ("0", 5, "2"), ("2b", 20, "2"), ("3", 21, "3")] {
        cache.mark_advisory("a", version, issued_at).unwrap();
        assert_eq!(cache.advisory_mark("a").unwrap().unwrap().version, kept);
    }
    assert_eq!(cache.advisory_mark("b").unwrap(), None);
    assert_tidy(&cache);
}

#[test]
fn a_memory_that_cannot_be_read_is_no_empty_one() {
    let cache = cache();
    cache.mark_advisory("b", "1", 1).unwrap();
    let of_another = fs::read(path_of(&cache, "b")).unwrap();
    for (bytes, expected) in [
        (b"".to_vec(), StoreErrorKind::MalformedRecord),
        (b"{}".to_vec(), StoreErrorKind::MalformedRecord),
        (of_another, StoreErrorKind::MalformedRecord),
        (b"{\"format_version\":2}".to_vec(), StoreErrorKind::NewerFormat),
    ] {
        let path = path_of(&cache, "a");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(kind(cache.advisory_mark("a")), expected);
        assert_eq!(kind(cache.mark_advisory("a", "9", 9)), expected);
        assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it is");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_39_the_memory_is_the_maximum_of_what_was_seen(seen in proptest::collection::vec((0..3_u8, 0..50_u64), 1..30)) {
        let cache = cache();
        let mut model = [None; 3];
        for (source, issued_at) in seen {
            cache.mark_advisory(&source.to_string(), "v", issued_at).unwrap();
            let known = &mut model[usize::from(source)];
            *known = (*known).max(Some(issued_at));
            for (number, known) in model.iter().enumerate() {
                let mark = cache.advisory_mark(&number.to_string()).unwrap().map(|mark| mark.issued_at);
                prop_assert_eq!(mark, *known);
            }
        }
    }
}
