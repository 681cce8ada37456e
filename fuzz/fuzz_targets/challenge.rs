//! `WWW-Authenticate`: bounded, lower-case names, and written back in full it is read again as the same.
#![no_main]

use greentic_dist_net::fuzzing::www_authenticate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let fields: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let Some(found) = www_authenticate(&fields) else { return };
    assert!(found.len() <= 16);
    for (scheme, parameters) in &found {
        assert!(parameters.len() <= 32);
        assert_eq!(*scheme, scheme.to_ascii_lowercase());
        assert!(parameters.iter().all(|(name, _)| *name == name.to_ascii_lowercase()));
        let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
        let written: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
        let written = format!("{scheme} {}", written.join(","));
        if parameters.is_empty() || written.len() > 8 << 10 || !written.is_ascii() {
            continue;
        }
        let again = www_authenticate(&[written.as_bytes()]).unwrap_or_default();
        assert_eq!(again.as_slice(), [(scheme.clone(), parameters.clone())], "{written:?}");
    }
});
