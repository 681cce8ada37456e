//! `Retry-After`: both forms, no overflow, and never longer than a year.
#![no_main]

use greentic_dist_net::fuzzing::retry_after;
use libfuzzer_sys::fuzz_target;

/// A leap year in seconds.
const LONGEST: u64 = 366 * 86_400;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (field, date) = data.split_at(at);
    let date = date.get(1..).unwrap_or_default();
    let wait = retry_after(field, date);
    assert!(wait.is_none_or(|wait| wait.as_secs() <= LONGEST), "{wait:?}");
    let is_header = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if !field.is_empty() && date.iter().all(is_header) && field.len() < 18 && field.iter().all(u8::is_ascii_digit) {
        let seconds: u64 = std::str::from_utf8(field).unwrap().parse().unwrap();
        assert_eq!(wait.map(|wait| wait.as_secs()), Some(seconds.min(LONGEST)));
    }
});
