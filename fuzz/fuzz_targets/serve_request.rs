//! What the server reads of a request: path, query, ranges, host and question, a line each. What is accepted is inside its
//! grammar, and no name leads out of the directory that is served.
#![no_main]

use std::net::IpAddr;
use std::path::Component;

use greentic_dist_serve::fuzzing::{chunk, component, encode, host, params, path, range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(6, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (asked, query, ranged, size, authority, question) = (line(), line(), line(), line(), line(), line());

    if let Some((repository, below)) = path(asked) {
        if let Some(repository) = &repository {
            let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
            assert!((1..=255).contains(&repository.len()), "{repository:?}");
            assert!(repository.split('/').all(|part| {
                part.bytes().all(allowed)
                    && part.starts_with(|first: char| first.is_ascii_alphanumeric())
                    && !part.contains("..")
            }));
        }
        // Written out plainly it is the same place.
        let plain = repository.map_or_else(|| format!("/v2/{below}"), |repository| format!("/v2/{repository}/{below}"));
        let encoded = encode(&plain);
        let again = path(&encoded).map(|(repository, below)| {
            repository.map_or_else(|| format!("/v2/{below}"), |repository| format!("/v2/{repository}/{below}"))
        });
        assert_eq!(again, Some(plain));
    }
    for value in query.split('&').filter_map(|pair| pair.split('=').next()).flat_map(|name| params(query, name)) {
        let encoded = encode(&value);
        assert!(encoded.is_ascii() && !encoded.contains(['&', '=', '#', ' ', '\r', '\n']), "{encoded:?}");
        assert_eq!(params(&format!("x={encoded}"), "x"), [value]);
    }
    let total = size.parse().unwrap_or(u64::MAX);
    if let Some(Some((first, last))) = range(ranged, total) {
        assert!(first <= last && last < total, "{first}-{last} of {total}");
    }
    if let Some((first, last)) = chunk(ranged) {
        assert!(first <= last);
    }
    if let Some((name, is_local)) = host(authority) {
        assert!(!name.contains(['@', '/', '\\', '?', '#', '%']) && name.is_ascii(), "{name:?}");
        let is_ours = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        assert_eq!(is_local, is_ours, "{authority:?}");
    }
    match component(question.as_bytes()) {
        Ok(files) => {
            for (file, parts) in files.iter().zip([2, 4]) {
                assert_eq!(file.components().count(), parts, "{file:?}");
                assert!(file.components().all(|part| matches!(part, Component::Normal(_))), "{file:?}");
                assert!(
                    file.starts_with("components") && !file.as_os_str().as_encoded_bytes().contains(&0),
                    "{file:?}"
                );
            }
        }
        Err(told) => assert!(!told.chars().any(char::is_control), "{told:?}"),
    }
});
