//! `Warning` fields: few, short, clean, and without the login that was sent.
#![no_main]

use greentic_dist_net::fuzzing::warning;
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "canary-0123456789";

fuzz_target!(|data: (&[u8], &[u8])| {
    let (one, other) = data;
    let echo = [b"299 - \"".as_slice(), one, CANARY.as_bytes(), other, b"\""].concat();
    for fields in [&[one, other][..], &[&echo]] {
        let Some(told) = warning(fields, CANARY) else { continue };
        assert!(told.len() <= 4);
        for text in told {
            assert!(!text.is_empty() && !text.contains(CANARY), "{text:?}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
});
