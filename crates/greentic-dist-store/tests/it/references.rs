//! What tags meant, and where content is.

use std::fs;

use greentic_dist_store::{RefRecord, StoreErrorKind};
use greentic_dist_types::Digest;

use crate::support::*;

const TAG: &str = "oci://registry.example/acme/tool:1";

fn file_of(cache: &Cache, reference: &str) -> std::path::PathBuf {
    cache.root().join("refs").join(format!("{}.json", Digest::sha256(reference.as_bytes()).to_hex()))
}

#[test]
fn a_reference_is_recalled_as_it_was_remembered() {
    let cache = cache();
    let pin = Digest::sha256(b"manifest");
    let mut record = RefRecord::new(TAG, pin, 1_790_000_000);
    record.etag = Some("\"abc\"".into());
    record.size_bytes = Some(7);
    record.extra.insert("mirror".into(), "a.example".into());
    cache.remember(&record).unwrap();
    assert_eq!(cache.recall(TAG).unwrap().unwrap(), record);
    let newer = RefRecord::new(TAG, Digest::sha256(b"moved"), 1_790_000_001);
    cache.remember(&newer).unwrap();
    assert_eq!(cache.recall(TAG).unwrap().unwrap(), newer);
    assert!(cache.recall("oci://registry.example/acme/tool:2").unwrap().is_none());
    assert_tidy(&cache);
}

#[test]
fn a_broken_memory_is_no_memory() {
    let cache = cache();
    let record = RefRecord::new(TAG, Digest::sha256(b"manifest"), 1);
    cache.remember(&record).unwrap();
    let path = file_of(&cache, TAG);
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() - 2 {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(cache.recall(TAG).unwrap().is_none(), "cut at {end}");
    }
    // Of another reference: somebody renamed the file.
    cache.remember(&record).unwrap();
    fs::rename(&path, file_of(&cache, "oci://evil.example/x:1")).unwrap();
    assert!(cache.recall("oci://evil.example/x:1").unwrap().is_none());
    let replacements: [fn(&std::path::Path); 2] =
        [|path| make_fifo(path), |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()];
    for replace in replacements {
        fs::remove_file(&path).ok();
        replace(&path);
        assert!(cache.recall(TAG).unwrap().is_none());
        cache.remember(&record).unwrap();
        assert_eq!(cache.recall(TAG).unwrap().unwrap(), record);
    }
}

#[test]
fn a_memory_of_a_newer_version_is_not_overwritten() {
    let cache = cache();
    let record = RefRecord::new(TAG, Digest::sha256(b"manifest"), 1);
    cache.remember(&record).unwrap();
    let path = file_of(&cache, TAG);
    fs::write(&path, r#"{"format_version": 2, "new": true}"#).unwrap();
    assert!(cache.recall(TAG).unwrap().is_none());
    assert_eq!(kind(cache.remember(&record)), StoreErrorKind::NewerFormat);
    assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"format_version": 2, "new": true}"#);
}

#[test]
fn hostile_references_are_only_text() {
    let cache = cache();
    for reference in ["../../x", "/abs", "", "\0", "a\nb", &"x".repeat(10_000)] {
        cache.remember(&RefRecord::new(reference, Digest::sha256(b"m"), 1)).unwrap();
        assert_eq!(cache.recall(reference).unwrap().unwrap().reference, reference);
    }
    let huge = RefRecord::new("x".repeat(300 << 10), Digest::sha256(b"m"), 1);
    assert_eq!(kind(cache.remember(&huge)), StoreErrorKind::Io);
    assert_eq!(names(&cache.root().join("refs")).len(), 6);
    assert_eq!(names(cache.dir.path()), ["cache"]);
}

#[test]
fn the_index_of_contents_is_a_hint_that_is_looked_at() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let index = cache.root().join("refs/by-content").join(format!("sha256-{}", artifact.content.to_hex()));
    assert_eq!(fs::read_to_string(&index).unwrap(), format!("{}\n", artifact.pin));
    // Published again after a removal, it is not noted twice.
    cache.remove(&artifact.pin).unwrap();
    assert!(cache.find_content(&artifact.content).unwrap().is_none());
    artifact.publish_in(&cache);
    assert_eq!(fs::read_to_string(&index).unwrap(), format!("{}\n", artifact.pin));
    // Lies, torn lines and rubbish.
    let other = super::support::artifact(b"other").publish_in(&cache).entry;
    let lies = format!("garbage\n{}\n../../x\n{}\nsha256:12", other.pin, artifact.pin);
    fs::write(&index, lies).unwrap();
    assert_eq!(cache.find_content(&artifact.content).unwrap().unwrap().pin, artifact.pin);
    fs::write(&index, format!("{}\n", other.pin)).unwrap();
    assert!(cache.find_content(&artifact.content).unwrap().is_none());
    assert!(cache.stat(&artifact.content).unwrap().is_none());
    // Without it the entry is as good as before.
    fs::remove_dir_all(cache.root().join("refs")).unwrap();
    assert_eq!(cache.stat(&artifact.pin).unwrap().unwrap().path, entry.path);
    // A full one is begun anew.
    fs::create_dir_all(index.parent().unwrap()).unwrap();
    fs::write(&index, format!("{}\n", other.pin).repeat(910)).unwrap();
    cache.remove(&artifact.pin).unwrap();
    artifact.publish_in(&cache);
    assert_eq!(fs::read_to_string(&index).unwrap(), format!("{}\n", artifact.pin));
}
