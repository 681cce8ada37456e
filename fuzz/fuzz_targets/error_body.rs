//! What a registry says about a failure: bounded, without control characters, and never the login that was sent.
#![no_main]

use greentic_dist_net::fuzzing::error_body;
use libfuzzer_sys::fuzz_target;

const SENT: &str = "canary-0123456789";

fuzz_target!(|data: &[u8]| {
    // A server that repeats the login, in the middle of whatever else it says.
    let (head, tail) = data.split_at(data.len() / 2);
    let echo = [head, SENT.as_bytes(), tail].concat();
    for (body, kind) in [(data, "application/json"), (&echo, "application/json"), (&echo, "text/plain"), (data, "")] {
        let shown = error_body(body, kind, SENT);
        assert!(shown.len() <= 17);
        for text in shown {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains(SENT), "{text:?}");
        }
    }
});
