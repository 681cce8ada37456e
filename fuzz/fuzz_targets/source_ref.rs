//! What a person types: every text is one kind of source or an error, and shown without control characters.
#![no_main]

use greentic_dist_types::{SourceRef, redact_reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match SourceRef::parse(text) {
        Ok(source) => drop(format!("{source:?}")),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{text:?}"),
    }
    drop(redact_reference(text));
});
