//! `registries.conf`: a file or a reason without control characters; what is a file answers for any registry, and the same when it is
//! read once more over itself.
#![no_main]

use greentic_dist_net::fuzzing::registries_conf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for registry in ["example.com", "b.a.example.com:5000", "docker.io", "ghcr.io", "[::1]:5000", "registry.com:443"] {
        match registries_conf(text, registry) {
            Ok([once, merged]) => assert_eq!(once, merged),
            Err(told) => assert!(!told.chars().any(char::is_control), "{told:?}"),
        }
    }
});
