//! References: what is accepted is written back as it was understood, and is made of safe parts.
#![no_main]

use greentic_dist_types::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for parsed in [Reference::parse(text), Reference::parse_with_docker_hub(text)].into_iter().flatten() {
        let written = parsed.to_string();
        assert_eq!(Reference::parse(&written).as_ref(), Ok(&parsed), "{text:?} was written as {written:?}");
        assert!(!parsed.registry().is_empty() && !parsed.registry().contains(['/', '@', ' ']), "{text:?}");
        let segments = parsed.repository().split('/');
        assert!(
            segments.clone().all(|segment| !segment.is_empty()
                && segment.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
                && segment.starts_with(|first: char| first.is_ascii_alphanumeric())),
            "{text:?}"
        );
        if let Some(tag) = parsed.tag() {
            assert!(tag.len() <= 128 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        }
    }
});
