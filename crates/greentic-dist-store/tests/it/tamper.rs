//! Everything that can be done to an entry behind its back, and that it never hands out other bytes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use greentic_dist_store::{Proof, StoreErrorKind};
use greentic_dist_types::{CacheEntryState, Digest, Mismatch};

use crate::support::*;

/// A way to damage a file.
type Damage = (&'static str, fn(&Path));

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    // In place, through the same inode.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

const DAMAGES: &[Damage] = &[
    ("two bytes cut off", |path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 2))),
    ("one bit flipped", |path| rewrite(path, |bytes| bytes[4] ^= 0x10)),
    ("one byte added", |path| rewrite(path, |bytes| bytes.push(b'}'))),
    ("emptied", |path| rewrite(path, Vec::clear)),
    ("zeros", |path| rewrite(path, |bytes| bytes.fill(0))),
    ("replaced by a copy of other bytes", |path| {
        let length = fs::read(path).unwrap().len();
        fs::remove_file(path).unwrap();
        fs::write(path, vec![b'x'; length]).unwrap();
    }),
    ("replaced by a link to the right bytes", |path| {
        let away = path.with_extension("moved");
        fs::rename(path, &away).unwrap();
        symlink(&away, path).unwrap();
    }),
    ("replaced by a link to /etc/passwd", |path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    }),
    ("replaced by a link to nothing", |path| {
        fs::remove_file(path).unwrap();
        symlink("nothing", path).unwrap();
    }),
    ("replaced by a pipe", |path| {
        fs::remove_file(path).unwrap();
        make_fifo(path);
    }),
    ("replaced by a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
    }),
    ("replaced by a device", |path| {
        fs::remove_file(path).unwrap();
        symlink("/dev/zero", path).unwrap();
    }),
    ("removed", |path| fs::remove_file(path).unwrap()),
];

#[test]
fn a_damaged_artifact_or_manifest_is_never_opened_and_heals() {
    for file in ["component.wasm", "manifest.json"] {
        for (damage, apply) in DAMAGES {
            let cache = cache();
            let artifact = artifact(b"the right component");
            let entry = artifact.publish_in(&cache).entry;
            let before = bytes_of(&cache, &artifact.pin, Proof::Stamped);
            assert_eq!(before, artifact.bytes);
            let_the_clock_tick();
            apply(&entry.dir.join(file));
            for proof in [Proof::Stamped, Proof::Full] {
                let error = cache.open(&artifact.pin, proof).expect_err(&format!("{file}: {damage}"));
                assert_eq!(*error.kind(), StoreErrorKind::Corrupt, "{file}: {damage}: {error}");
                assert_eq!(error.digest(), Some(&artifact.pin));
                assert!(error.hints()[0].contains("fetch it again"));
            }
            assert!(artifact.publish_in(&cache).fresh, "{file}: {damage}");
            assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
            assert_eq!(names(&cache.root().join("quarantine")).len(), 1, "{file}: {damage}");
            assert_eq!(cache.list().unwrap(), [artifact.pin]);
            assert_tidy(&cache);
        }
    }
}

#[test]
fn a_damaged_record_is_rebuilt_from_what_proves_itself() {
    for (damage, apply) in DAMAGES {
        let cache = cache();
        let artifact = artifact(b"the right component");
        let entry = artifact.publish_in(&cache).entry;
        apply(&entry.dir.join("entry.json"));
        let read = cache.stat(&artifact.pin).unwrap().unwrap();
        assert!(read.rebuilt, "{damage}");
        assert_eq!(read.record.source_snapshot.raw_ref, "", "{damage}");
        assert_eq!((read.content_digest, read.record.size_bytes), (artifact.content, 19), "{damage}");
        assert_eq!(read.record.state, CacheEntryState::Ready);
        for proof in [Proof::Stamped, Proof::Full] {
            assert_eq!(bytes_of(&cache, &artifact.pin, proof), artifact.bytes, "{damage}");
        }
        // And is written anew when the artifact is fetched again.
        assert!(artifact.publish_in(&cache).fresh, "{damage}");
        assert!(!cache.stat(&artifact.pin).unwrap().unwrap().rebuilt, "{damage}");
    }
}

#[test]
fn a_record_cut_at_any_byte_still_opens() {
    let cache = cache();
    let artifact = artifact(b"the right component");
    let entry = artifact.publish_in(&cache).entry;
    let path = entry.dir.join("entry.json");
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes, "cut at {end}");
        // The last two bytes are the closing brace and a line break.
        assert_eq!(cache.stat(&artifact.pin).unwrap().unwrap().rebuilt, end < whole.len() - 1, "cut at {end}");
    }
}

#[test]
fn a_manifest_cut_at_any_byte_never_opens() {
    let cache = cache();
    let artifact = artifact(b"the right component");
    let entry = artifact.publish_in(&cache).entry;
    let whole = fs::read(entry.dir.join("manifest.json")).unwrap();
    for end in 0..whole.len() {
        fs::write(entry.dir.join("manifest.json"), &whole[..end]).unwrap();
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "cut at {end}");
    }
}

#[test]
fn an_artifact_cut_at_any_byte_never_opens() {
    let cache = cache();
    let artifact = artifact(b"the right component");
    let entry = artifact.publish_in(&cache).entry;
    fs::set_permissions(&entry.path, fs::Permissions::from_mode(0o600)).unwrap();
    for end in 0..artifact.bytes.len() {
        fs::write(&entry.path, &artifact.bytes[..end]).unwrap();
        let error = cache.open(&artifact.pin, Proof::Full).unwrap_err();
        assert_eq!(error.mismatch(), Some(&Mismatch::Short { expected: 19, actual: end as u64 }));
    }
}

#[test]
fn a_record_that_claims_to_be_of_another_entry_is_corrupt_and_nothing_it_names_is_touched() {
    for claim in ["sha256:../../victim", "/abs/victim", "", &Digest::sha256(b"other").to_string()] {
        let cache = cache();
        let victim = cache.dir.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("component.wasm"), b"precious").unwrap();
        let artifact = artifact(b"component");
        let entry = artifact.publish_in(&cache).entry;
        let path = entry.dir.join("entry.json");
        let text = fs::read_to_string(&path).unwrap();
        let claimed =
            text.replacen(&format!("\"cache_key\": \"{}\"", artifact.pin), &format!("\"cache_key\": \"{claim}\""), 1);
        fs::write(&path, claimed).unwrap();
        assert_eq!(kind(cache.stat(&artifact.pin)), StoreErrorKind::Corrupt, "{claim}");
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "{claim}");
        assert!(cache.remove(&artifact.pin).unwrap().existed);
        assert_eq!(fs::read(victim.join("component.wasm")).unwrap(), b"precious");
    }
}

#[test]
fn the_path_in_a_record_is_not_believed() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let path = entry.dir.join("entry.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&entry.path.display().to_string(), "/etc/passwd")).unwrap();
    let open = cache.open(&artifact.pin, Proof::Stamped).unwrap().unwrap();
    assert_eq!(open.entry.path, entry.path);
    assert_eq!(open.entry.record.local_path, entry.path);
}

#[test]
fn a_record_with_another_content_digest_or_size_changes_no_proof() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let path = entry.dir.join("entry.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"size_bytes\": 9", "\"size_bytes\": 9999")).unwrap();
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
    let other = Digest::sha256(b"unrelated").to_string();
    fs::write(&path, text.replace(&artifact.content.to_string(), &other)).unwrap();
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    // Content in its own name, with a record that says otherwise.
    let plain = publish_content(&cache, b"plain");
    let path = plain.dir.join("entry.json");
    let text = fs::read_to_string(&path).unwrap();
    let field = format!("\"content_digest\": \"{}\"", plain.pin);
    fs::write(&path, text.replace(&field, &format!("\"content_digest\": \"{other}\""))).unwrap();
    assert_eq!(kind(cache.open(&plain.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
}

#[test]
fn a_program_that_knows_only_the_published_fields_may_rewrite_the_record() {
    let cache = cache();
    // The artifact is the second of three Wasm layers, so that the choice is not the first one.
    let layers: [&[u8]; 3] = [b"decoy, but longer", b"the component", b"another decoy here"];
    let manifest = manifest_of(&layers);
    let pin = Digest::sha256(&manifest);
    let mut ingest = cache.ingest_measured(100).unwrap();
    ingest.write(layers[1]).unwrap();
    let draft = greentic_dist_store::EntryDraft::of_manifest(pin, manifest, record());
    let entry = cache.publish(ingest.finish().unwrap().stage(draft).unwrap()).unwrap().entry;
    let path = entry.dir.join("entry.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let published = [
        "format_version",
        "cache_key",
        "digest",
        "media_type",
        "size_bytes",
        "artifact_type",
        "source_kind",
        "raw_ref",
        "canonical_ref",
        "fetched_at",
        "last_accessed_at",
        "last_verified_at",
        "state",
        "advisory_epoch",
        "signature_summary",
        "local_path",
        "source_snapshot",
    ];
    json.as_object_mut().unwrap().retain(|key, _| published.contains(&key.as_str()));
    fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    for proof in [Proof::Stamped, Proof::Full] {
        assert_eq!(bytes_of(&cache, &pin, proof), layers[1]);
    }
    let read = cache.stat(&pin).unwrap().unwrap();
    assert!(!read.rebuilt);
    assert_eq!(read.content_digest, Digest::sha256(layers[1]));
    assert_eq!(read.record.raw_ref, "oci://registry.example/acme/tool:1");
}

#[test]
fn row_62_an_entry_of_a_newer_version_is_reported_and_left_alone() {
    for version in ["2", "4294967296"] {
        let cache = cache();
        let artifact = artifact(b"component");
        let entry = artifact.publish_in(&cache).entry;
        let path = entry.dir.join("entry.json");
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replace("\"format_version\": 1", &format!("\"format_version\": {version}"));
        fs::write(&path, newer).unwrap();
        let before = tree(&entry.dir);
        assert_eq!(kind(cache.stat(&artifact.pin)), StoreErrorKind::NewerFormat);
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Full)), StoreErrorKind::NewerFormat);
        let staged = artifact.stage_in(&cache);
        assert_eq!(kind(cache.publish(staged)), StoreErrorKind::NewerFormat);
        age(&entry.dir);
        assert!(cache.gc().unwrap().removed.is_empty());
        assert_eq!(tree(&entry.dir), before);
        assert!(cache.entries().unwrap().is_empty());
        assert_eq!(cache.list().unwrap(), [artifact.pin]);
        // A person who asks for it may remove it.
        assert!(cache.remove(&artifact.pin).unwrap().existed);
    }
}

/// Moves the last change of a directory an hour back.
fn age(path: &Path) {
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    fs::File::open(path).unwrap().set_modified(hour_ago).unwrap();
}

#[test]
fn an_entry_directory_that_is_something_else_heals() {
    let replacements: [fn(&Path, &Path); 3] = [
        |entry, away| symlink(away, entry).unwrap(),
        |entry, _| fs::write(entry, b"a file").unwrap(),
        |entry, _| make_fifo(entry),
    ];
    for replace in replacements {
        let cache = cache();
        let artifact = artifact(b"component");
        let entry = artifact.publish_in(&cache).entry;
        let away = cache.dir.path().join("away");
        fs::rename(&entry.dir, &away).unwrap();
        replace(&entry.dir, &away);
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
        assert_eq!(cache.list().unwrap(), []);
        assert!(artifact.publish_in(&cache).fresh);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
        assert!(away.join("component.wasm").exists(), "what the link pointed to is untouched");
    }
}

#[test]
fn removing_an_entry_that_is_a_link_removes_the_link() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let away = cache.dir.path().join("away");
    fs::rename(&entry.dir, &away).unwrap();
    symlink(&away, &entry.dir).unwrap();
    assert!(cache.remove(&artifact.pin).unwrap().existed);
    assert!(entry.dir.symlink_metadata().is_err());
    assert_eq!(fs::read(away.join("component.wasm")).unwrap(), artifact.bytes);
}

#[test]
fn a_missing_artifact_is_named() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    fs::remove_file(&entry.path).unwrap();
    // What the record says can still be read.
    assert_eq!(cache.stat(&artifact.pin).unwrap().unwrap().record.size_bytes, 9);
    let error = cache.open(&artifact.pin, Proof::Stamped).unwrap_err();
    assert!(error.to_string().contains("cached blob is missing"), "{error}");
    assert!(cache.find_content(&artifact.content).unwrap().is_none());
    assert!(cache.list().unwrap().is_empty());
}

#[test]
fn row_62_oversized_records_and_manifests_are_not_read() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let huge = fs::File::create(entry.dir.join("entry.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(cache.stat(&artifact.pin).unwrap().unwrap().rebuilt);
    let huge = fs::File::create(entry.dir.join("manifest.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Full)), StoreErrorKind::Corrupt);
}

#[test]
fn an_entry_that_is_marked_as_anything_but_ready_is_not_opened_and_heals() {
    for state in [CacheEntryState::Partial, CacheEntryState::Corrupt, CacheEntryState::Evicted] {
        let cache = cache();
        let artifact = artifact(b"component");
        artifact.publish_in(&cache);
        cache.update(&artifact.pin, &mut |record| record.state = state).unwrap();
        let error = cache.open(&artifact.pin, Proof::Stamped).unwrap_err();
        assert_eq!(*error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("{state:?}")), "{error}");
        assert!(artifact.publish_in(&cache).fresh);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
    }
}
