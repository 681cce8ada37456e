//! `registries.conf`: a file or a reason without control characters; what is a file answers for any registry, and once more merged
//! with itself the same.
#![no_main]

use greentic_dist_net::fuzzing::registries_conf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (text, registry) = input;
    match registries_conf(text, registry) {
        Ok([once, merged]) => assert_eq!(once, merged),
        Err(told) => assert!(!told.chars().any(char::is_control), "{told:?}"),
    }
});
