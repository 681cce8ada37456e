//! From bytes to an entry and back.

use greentic_dist_store::{EntryDraft, Layout, Proof, Sidecar, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::limits::{MOST_MANIFEST_BYTES, SIDECAR_BYTES};
use greentic_dist_types::{Algorithm, Digest};

use crate::support::*;

#[test]
fn a_published_entry_opens_with_its_bytes_by_pin_and_by_content() {
    let cache = cache_with(StoreOptions::default());
    let artifact = artifact(b"component");
    let published = artifact.publish_in(&cache);
    assert!(published.fresh);
    assert_eq!((published.entry.pin, published.entry.content_digest), (artifact.pin, artifact.content));
    for key in [artifact.pin, artifact.content] {
        for proof in [Proof::Stamped, Proof::Full] {
            assert_eq!(bytes_of(&cache, &key, proof), artifact.bytes);
        }
        assert_eq!(cache.stat(&key).unwrap().unwrap().pin, artifact.pin);
    }
    assert_eq!(cache.list().unwrap(), [artifact.pin]);
    assert_eq!(cache.manifest(&published.entry).unwrap().unwrap(), artifact.manifest);
    assert_tidy(&cache);
}

#[test]
fn the_record_is_bound_to_its_entry_whatever_the_draft_says() {
    let cache = cache();
    let artifact = artifact(b"component");
    let mut draft = artifact.draft();
    draft.record.digest = "sha256:../../x".into();
    draft.record.cache_key = "/abs".into();
    draft.record.size_bytes = 99;
    draft.record.format_version = 7;
    draft.record.local_path = "/elsewhere".into();
    let mut ingest = cache.ingest_measured(100).unwrap();
    ingest.write(&artifact.bytes).unwrap();
    let entry = cache.publish(ingest.finish().unwrap().stage(draft).unwrap()).unwrap().entry;
    let read = cache.stat(&artifact.pin).unwrap().unwrap();
    assert_eq!(read.record, entry.record);
    assert_eq!(read.record.format_version, 1);
    assert_eq!((read.record.digest.as_str(), read.record.size_bytes), (artifact.pin.to_string().as_str(), 9));
    assert_eq!(read.record.local_path, cache.root().join(artifact.pin.to_hex()).join("component.wasm"));
    assert!(read.record.fetched_at > 0 && read.record.last_accessed_at > 0);
    assert_eq!(read.record.manifest_digest, Some(artifact.pin));
}

#[test]
fn content_without_a_manifest_is_named_by_its_digest() {
    let cache = cache();
    let entry = publish_content(&cache, b"from a file");
    assert_eq!(entry.pin, Digest::sha256(b"from a file"));
    assert_eq!(entry.layout, Layout::Current);
    assert_eq!(bytes_of(&cache, &entry.pin, Proof::Full), b"from a file");
    assert!(cache.manifest(&entry).unwrap().is_none());
    assert_eq!(names(&entry.dir), ["component.wasm", "entry.json"].map(str::to_owned).to_vec().stamped(&entry.dir));
}

/// The trust stamp is there on kernels with fine time stamps and comes later on others.
trait Stamped {
    fn stamped(self, dir: &std::path::Path) -> Self;
}

impl Stamped for Vec<String> {
    fn stamped(mut self, dir: &std::path::Path) -> Self {
        if dir.join("verified").exists() {
            self.push("verified".into());
        }
        self
    }
}

#[test]
fn a_pin_of_sha512_works_like_any_other() {
    let cache = cache();
    let artifact = artifact(b"wide");
    let pin = Digest::of(Algorithm::Sha512, &artifact.manifest);
    let mut ingest = cache.ingest_measured(100).unwrap();
    ingest.write(b"wide").unwrap();
    let draft = EntryDraft::of_manifest(pin, artifact.manifest, record());
    cache.publish(ingest.finish().unwrap().stage(draft).unwrap()).unwrap();
    assert_eq!(bytes_of(&cache, &pin, Proof::Full), b"wide");
    assert_eq!(cache.list().unwrap(), [pin]);
    assert!(cache.remove(&pin).unwrap().existed);
}

#[test]
fn reading_creates_nothing() {
    let cache = cache();
    let digest = Digest::sha256(b"x");
    assert!(cache.stat(&digest).unwrap().is_none());
    assert!(cache.open(&digest, Proof::Full).unwrap().is_none());
    assert!(cache.find_content(&digest).unwrap().is_none());
    assert!(cache.recall("oci://registry.example/a:1").unwrap().is_none());
    assert!(cache.list().unwrap().is_empty() && cache.entries().unwrap().is_empty());
    assert!(!cache.remove(&digest).unwrap().existed);
    cache.quarantine(&digest, "nothing").unwrap();
    cache.gc().unwrap();
    assert!(!cache.root().exists());
}

#[test]
fn an_entry_that_could_never_prove_itself_is_not_staged() {
    let cache = cache();
    let artifact = artifact(b"component");
    let other = super::support::artifact(b"something else");
    let stage = |draft| {
        let mut ingest = cache.ingest_measured(100).unwrap();
        ingest.write(&artifact.bytes).unwrap();
        ingest.finish().unwrap().stage(draft)
    };
    // A manifest that is not the pin's.
    let mut draft = artifact.draft();
    draft.manifest = Some(other.manifest.clone());
    assert!(matches!(kind(stage(draft)), StoreErrorKind::Integrity(_)));
    // A manifest that names other bytes.
    assert_eq!(kind(stage(other.draft())), StoreErrorKind::Corrupt);
    // A manifest that names these bytes with another size.
    let text = String::from_utf8(artifact.manifest.clone()).unwrap().replace("\"size\":9", "\"size\":8");
    let draft = EntryDraft::of_manifest(Digest::sha256(text.as_bytes()), text.into_bytes(), record());
    assert_eq!(kind(stage(draft)), StoreErrorKind::Corrupt);
    // No manifest, and a name that is not the content's.
    let mut draft = artifact.draft();
    draft.manifest = None;
    assert_eq!(kind(stage(draft)), StoreErrorKind::Corrupt);
    // No manifest at all in the manifest.
    let draft = EntryDraft::of_manifest(Digest::sha256(b"<html>"), b"<html>".to_vec(), record());
    assert_eq!(kind(stage(draft)), StoreErrorKind::Corrupt);
    assert!(cache.list().unwrap().is_empty());
    assert_tidy(&cache);
}

#[test]
fn documents_beside_the_artifact_are_kept_and_capped() {
    let cache = cache();
    let artifact = artifact(b"component");
    let stage = |sidecars| {
        let mut ingest = cache.ingest_measured(100).unwrap();
        ingest.write(&artifact.bytes).unwrap();
        ingest.finish().unwrap().stage(EntryDraft { sidecars, ..artifact.draft() })
    };
    let large = vec![b' '; usize::try_from(SIDECAR_BYTES).unwrap() + 1];
    assert_eq!(kind(stage(vec![(Sidecar::Metadata, large)])), StoreErrorKind::Io);
    let staged = stage(vec![(Sidecar::ComponentManifest, b"{\"a\":1}".to_vec())]).unwrap();
    let entry = cache.publish(staged).unwrap().entry;
    assert_eq!(cache.sidecar(&entry, Sidecar::ComponentManifest).unwrap().unwrap(), b"{\"a\":1}");
    assert!(cache.sidecar(&entry, Sidecar::Metadata).unwrap().is_none());
    for sidecar in [Sidecar::ComponentManifest, Sidecar::Metadata] {
        cache.put_sidecar(&entry, sidecar, b"{\"a\":2}").unwrap();
        assert_eq!(cache.sidecar(&entry, sidecar).unwrap().unwrap(), b"{\"a\":2}");
        assert_eq!(kind(cache.put_sidecar(&entry, sidecar, &vec![0; (1 << 20) + 1])), StoreErrorKind::Io);
        assert_eq!(cache.sidecar(&entry, sidecar).unwrap().unwrap(), b"{\"a\":2}");
    }
    assert_tidy(&cache);
}

#[test]
fn a_manifest_over_the_limit_is_refused() {
    let cache = cache();
    let mut manifest = manifest_of(&[b"component"]);
    manifest.resize(usize::try_from(MOST_MANIFEST_BYTES).unwrap() + 1, b' ');
    let mut ingest = cache.ingest_measured(100).unwrap();
    ingest.write(b"component").unwrap();
    let draft = EntryDraft::of_manifest(Digest::sha256(&manifest), manifest, record());
    assert_eq!(kind(ingest.finish().unwrap().stage(draft)), StoreErrorKind::Corrupt);
}

#[test]
fn the_second_of_two_publishers_uses_the_entry_of_the_first() {
    let cache = cache();
    let artifact = artifact(b"component");
    let (first, second) = (artifact.stage_in(&cache), artifact.stage_in(&cache));
    assert!(cache.publish(first).unwrap().fresh);
    let lost = cache.publish(second).unwrap();
    assert!(!lost.fresh);
    assert_eq!(lost.entry.pin, artifact.pin);
    assert_tidy(&cache);
    assert_eq!(names(&cache.root().join("quarantine")), Vec::<String>::new());
}

#[test]
fn many_entries_are_published_at_once_and_fail_one_by_one() {
    let cache = cache_with(StoreOptions::default());
    let artifacts: Vec<_> = (0..40_u32).map(|number| artifact(&number.to_le_bytes())).collect();
    let staged: Vec<_> = artifacts.iter().map(|artifact| artifact.stage_in(&cache)).collect();
    // The tenth loses its staging directory to somebody.
    let victim = names(&cache.root().join("tmp"));
    let victim = victim.iter().map(|name| cache.root().join("tmp").join(name));
    let doomed = victim.clone().find(|dir| std::fs::read(dir.join("manifest.json")).unwrap() == artifacts[10].manifest);
    std::fs::remove_dir_all(doomed.unwrap()).unwrap();
    let results = cache.publish_all(staged);
    for (index, (result, artifact)) in results.into_iter().zip(&artifacts).enumerate() {
        assert_eq!(result.is_ok(), index != 10);
        assert_eq!(cache.open(&artifact.pin, Proof::Full).unwrap().is_some(), index != 10);
    }
    assert_eq!(cache.list().unwrap().len(), 39);
    assert_eq!(cache.entries().unwrap().len(), 39);
    assert_tidy(&cache);
}

#[test]
fn content_of_another_entry_is_linked_not_copied() {
    use std::os::unix::fs::MetadataExt;
    let cache = cache();
    let first = artifact(b"shared bytes");
    first.publish_in(&cache);
    let found = cache.find_content(&first.content).unwrap().unwrap();
    assert_eq!(found.pin, first.pin);
    // The same bytes under another manifest.
    let manifest = manifest_of(&[b"another layer", b"shared bytes"]);
    let pin = Digest::sha256(&manifest);
    let lock = cache.lock(&first.content, &mut |_| ()).unwrap();
    let entry = cache.adopt(&lock, &found, EntryDraft::of_manifest(pin, manifest, record())).unwrap();
    drop(lock);
    let inode = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&entry.path), inode(&found.path));
    for proof in [Proof::Stamped, Proof::Full] {
        assert_eq!(bytes_of(&cache, &pin, proof), b"shared bytes");
        assert_eq!(bytes_of(&cache, &first.pin, proof), b"shared bytes");
    }
    // Removing the one gives no bytes of the artifact back and leaves the other.
    let removed = cache.remove(&first.pin).unwrap();
    assert!(removed.existed && removed.bytes > 0);
    assert_eq!(bytes_of(&cache, &pin, Proof::Stamped), b"shared bytes");
    assert_eq!(cache.find_content(&first.content).unwrap().unwrap().pin, pin);
    assert_tidy(&cache);
}

#[test]
fn tampered_content_is_not_adopted() {
    let cache = cache();
    let first = artifact(b"shared bytes");
    let entry = first.publish_in(&cache).entry;
    let_the_clock_tick();
    std::fs::remove_file(&entry.path).unwrap();
    std::fs::write(&entry.path, b"SHARED bytes").unwrap();
    let manifest = manifest_of(&[b"another layer", b"shared bytes"]);
    let lock = cache.lock(&first.content, &mut |_| ()).unwrap();
    let draft = EntryDraft::of_manifest(Digest::sha256(&manifest), manifest, record());
    assert_eq!(kind(cache.adopt(&lock, &entry, draft)), StoreErrorKind::Corrupt);
    assert_eq!(cache.list().unwrap(), [first.pin]);
}

#[test]
fn a_removed_entry_goes_on_being_readable_by_whoever_has_it_open() {
    use std::io::Read;
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    let mut open = cache.open(&artifact.pin, Proof::Stamped).unwrap().unwrap();
    assert!(cache.remove(&artifact.pin).unwrap().existed);
    assert!(cache.open(&artifact.pin, Proof::Stamped).unwrap().is_none());
    assert!(cache.stat(&artifact.content).unwrap().is_none());
    let mut bytes = Vec::new();
    open.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, artifact.bytes);
    assert!(!cache.remove(&artifact.pin).unwrap().existed);
    assert_tidy(&cache);
}

#[test]
fn fields_nobody_knows_survive_a_rewrite_of_the_record() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let path = entry.dir.join("entry.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen('{', "{ \"future\": {\"a\": [1, null]},", 1)).unwrap();
    let updated = cache
        .update(&artifact.pin, &mut |record| {
            record.last_verified_at = Some(77);
            record.digest = "sha256:../x".into();
        })
        .unwrap()
        .unwrap();
    assert_eq!(updated.record.last_verified_at, Some(77));
    let read = cache.stat(&artifact.pin).unwrap().unwrap();
    assert_eq!(read.record.extra["future"], serde_json::json!({"a": [1, null]}));
    assert_eq!(read.record.digest, artifact.pin.to_string());
    assert!(cache.update(&Digest::sha256(b"none"), &mut |_| ()).unwrap().is_none());
    assert_tidy(&cache);
}

#[test]
fn edits_behind_the_back_are_seen_by_the_next_call() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    let path = entry.dir.join("entry.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"Ready\"", "\"Corrupt\"")).unwrap();
    let state = cache.stat(&artifact.pin).unwrap().unwrap().record.state;
    assert_eq!(state, greentic_dist_types::CacheEntryState::Corrupt);
    // What somebody marked corrupt is replaced by a new copy.
    assert!(artifact.publish_in(&cache).fresh);
    let state = cache.stat(&artifact.pin).unwrap().unwrap().record.state;
    assert_eq!(state, greentic_dist_types::CacheEntryState::Ready);
    std::fs::remove_dir_all(&entry.dir).unwrap();
    assert!(cache.stat(&artifact.pin).unwrap().is_none() && cache.list().unwrap().is_empty());
}

#[test]
fn two_handles_on_one_directory_see_the_same() {
    let cache = cache();
    let artifact = artifact(b"component");
    let other = Store::new(cache.root());
    artifact.publish_in(&cache);
    assert_eq!(bytes_of(&other, &artifact.pin, Proof::Stamped), artifact.bytes);
    assert!(other.remove(&artifact.pin).unwrap().existed);
    assert!(cache.open(&artifact.pin, Proof::Stamped).unwrap().is_none());
}

#[test]
fn the_handle_goes_to_any_thread() {
    fn is_shared<T: Send + Sync + Clone>() {}
    fn is_sent<T: Send>() {}
    is_shared::<Store>();
    is_sent::<greentic_dist_store::Ingest>();
    is_sent::<greentic_dist_store::DigestLock>();
    is_sent::<greentic_dist_store::Staged>();
    is_sent::<greentic_dist_store::StoreError>();
}
