//! Lock files: a refusal names its problems, and what is accepted is written in a form that reads back the same.
#![no_main]

use greentic_dist_types::Lockfile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Lockfile::parse(bytes) {
        Ok(lock) => {
            let written = lock.to_json().expect("a lock file is written");
            let again = Lockfile::parse(written.as_bytes()).expect("what was written is read");
            assert_eq!(again.to_json().ok(), Some(written));
            assert!(again.entries.iter().all(|entry| !entry.subject().is_empty()));
        }
        Err(error) => assert!(!error.to_string().chars().any(|ch| ch.is_control() && ch != '\n')),
    }
});
