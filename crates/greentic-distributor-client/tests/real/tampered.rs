//! Somebody changed what the registry stores.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::real::ready;

use crate::machine::{Machine, names};
use crate::{pin_in, registry_with, tag_in};

/// Flips one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_tampered_blob_is_refused_and_leaves_no_entry() {
    if !ready("a_tampered_blob_is_refused_and_leaves_no_entry", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let (tag, pin) = (tag_in(&registry.host()), pin_in(&registry.host(), &artifact));
    let earlier = Machine::new();
    earlier.pull(&tag);
    let entry = earlier.entry_of(&artifact);
    flip(&registry.blob_path(artifact.layer_digest()));

    for reference in [&tag, &pin] {
        let machine = Machine::new();
        let outcome = machine.dist(["pull", reference]);
        outcome.expect_code(8);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains(reference.as_str()), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&artifact.layer_digest().to_string()), "{}", outcome.stderr);
        assert_eq!(machine.entries(), [""; 0]);
        // Nothing of the wrong bytes is kept for a later attempt either.
        for dir in ["partial", "tmp"] {
            assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{dir}");
        }
        machine.dist(["--offline", "pull", reference]).expect_code(4);
    }

    // Who had it before still has it, untouched.
    for reference in [&pin, &tag] {
        assert_eq!(earlier.pull(reference), artifact.layer_bytes());
        assert_eq!(earlier.entry_of(&artifact), entry);
    }
    assert_eq!(names(&earlier.cache().join("quarantine")), [""; 0]);
}

#[test]
fn a_truncated_blob_is_refused_and_leaves_no_entry() {
    if !ready("a_truncated_blob_is_refused_and_leaves_no_entry", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let blob = registry.blob_path(artifact.layer_digest());
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
    let machine = Machine::new();
    let outcome = machine.dist(["pull", &tag_in(&registry.host())]);
    outcome.expect_code(8);
    assert_eq!(machine.entries(), [""; 0]);
    // Right again, the next pull works, whatever was kept.
    fs::write(&blob, &bytes).unwrap();
    assert_eq!(machine.pull(&tag_in(&registry.host())), artifact.layer_bytes());
}

#[test]
fn a_tampered_manifest_is_refused_under_its_pin() {
    if !ready("a_tampered_manifest_is_refused_under_its_pin", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let path = registry.blob_path(artifact.manifest_digest);
    let text = fs::read_to_string(&path).unwrap();
    // Still a manifest, of the same length.
    fs::write(&path, text.replace("\"schemaVersion\":2", "\"schemaVersioN\":2")).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), text);
    let machine = Machine::new();
    let outcome = machine.dist(["pull", &pin_in(&registry.host(), &artifact)]);
    outcome.expect_code(8);
    assert_eq!(machine.entries(), [""; 0]);
}
