//! Docker's `config.json`: a login is for the host of its key, and nothing of the file is repeated in what is told about it.
#![no_main]

use greentic_distributor_client::fuzzing::docker_config;
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "canary-0123456789";

fuzz_target!(|data: (&str, &str)| {
    let (text, key) = data;
    let (_found, told) = docker_config(text, "registry.example:5000", "acme/hello");
    assert!(told.iter().all(|told| !told.chars().any(|ch| ch.is_control() && ch != '\n')), "{told:?}");

    // A login under this key is for its host only.
    let Ok(quoted) = serde_json::to_string(key) else { return };
    let file = format!("{{\"auths\":{{{quoted}:{{\"username\":\"ann\",\"password\":\"{CANARY}\"}}}}}}");
    let (found, told) = docker_config(&file, "registry.example:5000", "acme/hello");
    assert!(!found || key.to_ascii_lowercase().contains("registry.example:5000"), "{key:?}");
    // The same, cut: what is told says where it is wrong and not what stands there.
    let half = file.get(..file.len() - 3).unwrap_or_default();
    let (_found, told_of_half) = docker_config(half, "registry.example:5000", "acme/hello");
    assert!(told.iter().chain(&told_of_half).all(|told| !told.contains(CANARY)));
});
