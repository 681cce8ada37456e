//! `Link`: a next page is something that stood between angle brackets, and is read again from a plain field.
#![no_main]

use greentic_dist_net::fuzzing::link;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let fields: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let Some(next) = link(&fields) else { return };
    assert!(!next.is_empty() && !next.contains('>'));
    let stands = data.windows(next.len()).any(|window| window == next.as_bytes());
    assert!(stands, "{next:?}");
    assert_eq!(link(&[format!("<{next}>; rel=\"next\"").as_bytes()]), Some(next));
});
