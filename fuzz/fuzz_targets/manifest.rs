//! Manifests and indexes: what is accepted is chosen from in one way, and only what stands in it.
#![no_main]

use greentic_dist_types::{ManifestKind, PlatformChoice, parse_manifest, select_layer, select_platform};
use libfuzzer_sys::fuzz_target;

const TYPES: [Option<&str>; 5] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v2+json"),
    Some("application/vnd.oci.artifact.manifest.v1+json"),
];

fuzz_target!(|data: (u8, &[u8])| {
    let (kind, bytes) = data;
    match parse_manifest(bytes, TYPES[usize::from(kind) % TYPES.len()]) {
        Ok(ManifestKind::Image(manifest)) => {
            for preferred in [&[][..], &["application/wasm"]] {
                if let Ok(choice) = select_layer(&manifest, preferred) {
                    assert_eq!(manifest.layers.get(choice.position), Some(choice.layer));
                    let again = select_layer(&manifest, preferred).map(|choice| choice.position);
                    assert_eq!(again.ok(), Some(choice.position));
                }
            }
            if let Ok(choice) = manifest.component_layer() {
                assert_eq!(manifest.layers.get(choice.position), Some(choice.layer));
            }
            let (_sidecar, _subject) = (manifest.component_manifest_layer(), &manifest.subject);
        }
        Ok(ManifestKind::Index(index)) => {
            if let Ok(chosen) = select_platform(&index, &PlatformChoice::default()) {
                assert!(index.manifests.contains(chosen));
            }
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});
