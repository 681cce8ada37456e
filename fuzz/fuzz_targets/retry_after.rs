//! `Retry-After`: both forms, no overflow.
#![no_main]

use greentic_dist_net::fuzzing::retry_after;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (field, date) = data.split_at(at);
    let wait = retry_after(field, date.get(1..).unwrap_or_default());
    if !field.is_empty() && field.len() < 18 && field.iter().all(u8::is_ascii_digit) {
        let seconds: u64 = std::str::from_utf8(field).unwrap().parse().unwrap();
        assert_eq!(wait.map(|wait| wait.as_secs()), Some(seconds));
    }
});
