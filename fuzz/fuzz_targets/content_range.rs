//! `Content-Range`: a range that is accepted is one, and is read again from its plain form.
#![no_main]

use greentic_dist_net::fuzzing::content_range;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((first, last, total)) = content_range(text) else { return };
    assert!(first <= last && total.is_none_or(|total| last < total));
    let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    assert!(content_range(&format!("bytes {first}-{last}/{total}")).is_some());
});
