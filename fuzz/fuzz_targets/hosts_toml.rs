//! `hosts.toml`: a file or a reason; and the reason holds no value of a header.
#![no_main]

use greentic_dist_net::HostsFile;
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "canary-0123456789";

fuzz_target!(|text: &str| {
    // Names may be told, and a name may be anything.
    if text.contains(CANARY) {
        return;
    }
    for text in [text.to_owned(), format!("{text}\n[host.\"https://m.example\".header]\nx-key = \"{CANARY}\"\n")] {
        if let Err(error) = HostsFile::parse(&text) {
            let told = error.to_string();
            assert!(!told.contains(CANARY) && !told.chars().any(char::is_control), "{told:?}");
        }
    }
});
