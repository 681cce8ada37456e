//! The index of a layout: what was added is found under its name, what is written is read the same, and reasons are clean.
#![no_main]

use greentic_dist_types::Digest;
use greentic_distributor_client::fuzzing::layout_index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&[u8], &str)| {
    let (document, name) = data;
    let added = Digest::sha256(b"added");
    match layout_index(document, added, name) {
        Ok(after) => {
            assert_eq!(after.named, Some(added));
            if let Err(reason) = &after.only {
                assert!(!reason.chars().any(char::is_control), "{reason:?}");
            }
            // Added once more nothing changes.
            let again = layout_index(&after.document, added, name).expect("what was written is an index");
            assert_eq!(again, after);
        }
        Err(reason) => assert!(!reason.chars().any(char::is_control), "{reason:?}"),
    }
});
