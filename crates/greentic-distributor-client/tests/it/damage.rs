//! Somebody was in the cache: damaged entries are found out, said exactly, and healed online.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::DistErrorKind::{Integrity, Internal, NotFound, Offline};
use greentic_distributor_client::dist::{DistClient, DistErrorKind};

use crate::support::{Home, assert_delivers, assert_fails, other, registry};

/// A cache with one pulled artifact.
struct Kept {
    home: Home,
    registry: LyingRegistry,
    dir: PathBuf,
}

impl Kept {
    async fn new() -> Self {
        Self::of(registry()).await
    }

    /// An artifact small enough to be read a thousand times.
    async fn small() -> Self {
        Self::of(Scenario::new(other(1)).start()).await
    }

    async fn of(registry: LyingRegistry) -> Self {
        let home = Home::new();
        home.client().resolve_ref(&registry.reference()).await.unwrap();
        let dir = home.entry(registry.artifact().manifest_digest);
        registry.journal().clear();
        Self { home, registry, dir }
    }

    fn artifact(&self) -> &Artifact {
        self.registry.artifact()
    }

    fn pin(&self) -> String {
        self.artifact().manifest_digest.to_string()
    }

    fn reference(&self) -> String {
        format!("oci://{}", self.registry.reference())
    }

    fn blob(&self) -> PathBuf {
        self.dir.join("component.wasm")
    }

    /// Puts other bytes where a file of the entry is, as an editor does: the old file is gone.
    fn replace(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.join(name);
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The damage is an exact error offline by every way, and nobody is asked.
    async fn is_refused_offline(&self, kind: DistErrorKind, exit: i32, reasons: &[&str]) {
        let offline = self.home.offline();
        let pin = self.pin();
        let texts = [
            assert_fails(offline.open_cached(&pin), kind, exit),
            assert_fails(offline.fetch_digest(&pin).await, kind, exit),
            assert_fails(offline.resolve_ref(&self.reference()).await, kind, exit),
            assert_fails(offline.resolve_ref(&format!("oci://{}", self.registry.pinned())).await, kind, exit),
            // The last: what is hashed again and found to be wrong is marked.
            assert_fails(offline.verify_cached(&pin), kind, exit),
        ];
        for text in texts {
            for reason in reasons {
                assert!(text.contains(reason), "`{reason}` is not said: {text}");
            }
        }
        assert!(self.registry.journal().is_empty());
    }

    /// A pull by tag and one by pin, each with a client that knows nothing, bring the artifact back.
    async fn heals(&self) {
        let pulled = self.home.client().resolve_ref(&self.reference()).await.unwrap();
        assert_delivers(&pulled, self.artifact());
        assert!(pulled.fetched);
        assert!(fs::symlink_metadata(self.blob()).unwrap().is_file());
        let offline = self.home.offline();
        assert_delivers(&offline.resolve_ref(&self.reference()).await.unwrap(), self.artifact());
        offline.verify_cached(&self.pin()).unwrap();
        assert_eq!(offline.list_cache(), [self.pin()]);
        self.home.assert_nothing_outside_changed();
        self.registry.journal().clear();
    }
}

fn flipped(path: &Path, at: usize) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    bytes
}

#[tokio::test]
async fn row_61_a_truncated_blob_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    for length in [0, 1, 100_000, 199_999] {
        kept.replace("component.wasm", &kept.artifact().layer_bytes()[..length]);
        kept.is_refused_offline(Integrity, 8, &["corrupt artifact", "200000"]).await;
        kept.heals().await;
    }
}

#[tokio::test]
async fn row_61_a_blob_with_more_bytes_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    kept.replace("component.wasm", &[kept.artifact().layer_bytes(), b"x"].concat());
    kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
    kept.heals().await;
}

#[tokio::test]
async fn row_61_a_blob_with_one_bit_flipped_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    let digest = kept.artifact().layer_digest().to_string();
    for at in [0, 77_777, 199_999] {
        kept.replace("component.wasm", &flipped(&kept.blob(), at));
        kept.is_refused_offline(Integrity, 8, &["corrupt artifact", &digest]).await;
        kept.heals().await;
    }
}

#[tokio::test]
async fn a_bit_flipped_in_place_under_a_fresh_stamp_is_found_out() {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let kept = Kept::new().await;
    kept.home.client().open_cached(&kept.pin()).unwrap();
    fs::set_permissions(kept.blob(), fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::metadata(kept.blob()).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(kept.blob()).unwrap();
    file.write_all_at(&[kept.artifact().layer_bytes()[5] ^ 1], 5).unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
    kept.heals().await;
}

#[tokio::test]
async fn row_61_a_blob_replaced_by_a_symlink_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    let right = kept.home.cache().join("right.wasm");
    fs::write(&right, kept.artifact().layer_bytes()).unwrap();
    let own = PathBuf::from("component.wasm");
    for target in [right, kept.home.sentinel(), PathBuf::from("/etc/passwd"), own] {
        let before = fs::read(&target).ok();
        fs::remove_file(kept.blob()).unwrap();
        std::os::unix::fs::symlink(&target, kept.blob()).unwrap();
        // Not even right bytes are taken from where the link leads, and nothing is written there.
        kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
        kept.heals().await;
        assert_eq!(fs::read(&target).ok(), before);
    }
}

#[tokio::test]
async fn row_61_a_blob_that_is_a_directory_or_a_pipe_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    fs::remove_file(kept.blob()).unwrap();
    fs::create_dir(kept.blob()).unwrap();
    kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
    kept.heals().await;
    if std::process::Command::new("mkfifo").arg(kept.dir.join("pipe")).status().is_ok_and(|status| status.success()) {
        fs::rename(kept.dir.join("pipe"), kept.blob()).unwrap();
        kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
        kept.heals().await;
    }
}

#[tokio::test]
async fn an_entry_that_is_a_symlink_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    let moved = kept.home.cache().join("elsewhere");
    fs::rename(&kept.dir, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &kept.dir).unwrap();
    kept.is_refused_offline(Integrity, 8, &["corrupt artifact"]).await;
    let moved_before = greentic_dist_testkit::TreeSnapshot::of(&moved);
    kept.heals().await;
    moved_before.assert_unchanged(&moved);
}

#[tokio::test]
async fn a_missing_blob_is_said_offline_and_healed_online() {
    let kept = Kept::new().await;
    fs::remove_file(kept.blob()).unwrap();
    kept.is_refused_offline(Integrity, 8, &["cached blob is missing"]).await;
    assert!(kept.home.client().stat_cache(&kept.pin()).is_ok());
    kept.heals().await;
}

#[tokio::test]
async fn an_entry_that_was_deleted_is_no_entry() {
    let kept = Kept::new().await;
    fs::remove_dir_all(&kept.dir).unwrap();
    let offline = kept.home.offline();
    assert_fails(offline.open_cached(&kept.pin()), NotFound, 3);
    assert_fails(offline.stat_cache(&kept.pin()), NotFound, 3);
    assert_fails(offline.resolve_ref(&kept.reference()).await, Offline, 4);
    assert!(offline.list_cache().is_empty());
    kept.heals().await;
}

#[tokio::test]
async fn row_62_a_record_cut_at_every_byte_is_rebuilt_from_manifest_and_blob() {
    let kept = Kept::small().await;
    let record = fs::read(kept.dir.join("entry.json")).unwrap();
    let offline = kept.home.offline();
    for length in 0..record.len() {
        kept.replace("entry.json", &record[..length]);
        assert_delivers(&offline.open_cached(&kept.pin()).unwrap(), kept.artifact());
        let entry = offline.stat_cache(&kept.pin()).unwrap();
        assert_eq!((entry.digest, entry.size_bytes), (kept.pin(), 3_000), "cut at {length}");
    }
    assert_delivers(&offline.resolve_ref(&kept.reference()).await.unwrap(), kept.artifact());
}

#[tokio::test]
async fn a_torn_record_is_written_again_online_without_a_byte_of_transfer() {
    let kept = Kept::new().await;
    let path = kept.dir.join("entry.json");
    let record = fs::read(&path).unwrap();
    let fields = |bytes: &[u8]| {
        let mut record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        for time in ["fetched_at", "last_accessed_at"] {
            record.as_object_mut().unwrap().remove(time);
        }
        record
    };
    for reference in [kept.reference(), format!("oci://{}", kept.registry.pinned())] {
        for length in [0, record.len() / 2, record.len() - 2] {
            kept.replace("entry.json", &record[..length]);
            let healed = kept.home.client().resolve_ref(&reference).await.unwrap();
            assert_delivers(&healed, kept.artifact());
            let canonical = format!("oci://{}/acme/hello@{}", kept.registry.host(), kept.pin());
            assert_eq!((healed.descriptor.canonical_ref, healed.descriptor.raw_ref), (canonical, reference.clone()));
            let mut expected = fields(&record);
            expected["raw_ref"] = reference.clone().into();
            let now = fields(&fs::read(&path).unwrap());
            assert_eq!(now["canonical_ref"], expected["canonical_ref"]);
            assert_eq!((&now["raw_ref"], &now["content_digest"]), (&expected["raw_ref"], &expected["content_digest"]));
        }
    }
    assert_eq!(kept.registry.journal().count_containing("/blobs/"), 0);
}

#[tokio::test]
async fn a_record_cut_at_every_byte_without_its_blob_is_an_exact_error_offline() {
    let kept = Kept::new().await;
    let record = fs::read(kept.dir.join("entry.json")).unwrap();
    fs::remove_file(kept.blob()).unwrap();
    let offline = kept.home.offline();
    for length in 0..record.len() {
        kept.replace("entry.json", &record[..length]);
        let text = assert_fails(offline.open_cached(&kept.pin()), Integrity, 8);
        assert!(text.contains(&kept.pin()) && text.contains("cached blob is missing"), "cut at {length}: {text}");
    }
    kept.heals().await;
}

#[tokio::test]
async fn a_file_of_a_local_source_survives_a_torn_record_too() {
    let home = Home::new();
    let pulled = home.client().resolve_ref(&home.sentinel().display().to_string()).await.unwrap();
    let record = pulled.local_path.with_file_name("entry.json");
    let whole = fs::read(&record).unwrap();
    for length in (0..whole.len()).step_by(17) {
        fs::write(&record, &whole[..length]).unwrap();
        let again = home.offline().open_cached(&pulled.digest).unwrap();
        assert_eq!(again.wasm_bytes().unwrap(), b"do not touch\n");
    }
}

#[tokio::test]
async fn row_62_a_record_of_another_entry_or_of_the_future_is_not_believed() {
    let kept = Kept::new().await;
    let record = fs::read_to_string(kept.dir.join("entry.json")).unwrap();
    let foreign = record.replace(&kept.artifact().manifest_digest.to_hex(), &"b".repeat(64));
    kept.replace("entry.json", foreign.as_bytes());
    kept.is_refused_offline(Integrity, 8, &["it is the record of"]).await;
    kept.heals().await;

    let record = fs::read_to_string(kept.dir.join("entry.json")).unwrap();
    let newer = record.replacen("\"format_version\": 1", "\"format_version\": 2", 1);
    assert_ne!(newer, record);
    kept.replace("entry.json", newer.as_bytes());
    kept.is_refused_offline(Internal, 10, &["format version 2"]).await;
    // Left alone online too: a newer program's entry is not ours to replace.
    assert_fails(kept.home.client().resolve_ref(&kept.reference()).await, Internal, 10);
    assert_eq!(fs::read_to_string(kept.dir.join("entry.json")).unwrap(), newer);
}

#[tokio::test]
async fn a_manifest_cut_or_flipped_is_refused_offline_and_healed_online() {
    let kept = Kept::small().await;
    let manifest = fs::read(kept.dir.join("manifest.json")).unwrap();
    for length in (0..manifest.len()).step_by(29) {
        kept.replace("manifest.json", &manifest[..length]);
        kept.is_refused_offline(Integrity, 8, &["manifest"]).await;
        kept.heals().await;
    }
    kept.replace("manifest.json", &flipped(&kept.dir.join("manifest.json"), manifest.len() / 2));
    kept.is_refused_offline(Integrity, 8, &["manifest"]).await;
    kept.heals().await;
}

#[tokio::test]
async fn a_missing_manifest_is_refused_offline_and_healed_online() {
    let kept = Kept::new().await;
    fs::remove_file(kept.dir.join("manifest.json")).unwrap();
    kept.is_refused_offline(Integrity, 8, &["manifest"]).await;
    kept.heals().await;
}

#[tokio::test]
async fn garbage_beside_the_artifact_is_never_believed() {
    let kept = Kept::small().await;
    let (pin, offline) = (kept.pin(), kept.home.offline());
    for name in ["verified", "last_used", "component.manifest.json", "metadata.json"] {
        for garbage in [b"".as_slice(), b"1 boot 0 0 0 0 0 sha256:00\n", &[0xff; 4096]] {
            fs::write(kept.dir.join(name), garbage).unwrap();
            assert_delivers(&offline.open_cached(&pin).unwrap(), kept.artifact());
        }
    }
    // A stamp copied from a good moment does not vouch for later bytes.
    let stamp = fs::read(kept.dir.join("verified")).unwrap();
    kept.replace("component.wasm", &flipped(&kept.blob(), 3));
    fs::write(kept.dir.join("verified"), stamp).unwrap();
    kept.is_refused_offline(Integrity, 8, &[]).await;
    kept.heals().await;
}

#[tokio::test]
async fn a_memory_of_tags_full_of_garbage_costs_a_question_and_nothing_else() {
    let kept = Kept::new().await;
    for garbage in ["", "{", "null", "{\"format_version\":1,\"reference\":\"x\",\"pin\":\"sha256:../../x\"}", "\u{0}"] {
        for entry in fs::read_dir(kept.home.cache().join("refs")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::write(path, garbage).unwrap();
            }
        }
        assert_fails(kept.home.offline().resolve_ref(&kept.reference()).await, Offline, 4);
        assert_delivers(&kept.home.client().resolve_ref(&kept.reference()).await.unwrap(), kept.artifact());
    }
    assert_eq!(kept.registry.journal().count_containing("/blobs/"), 0);
    kept.home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn a_partial_download_of_wrong_bytes_costs_a_second_transfer_and_nothing_else() {
    let kept = Kept::new().await;
    let part = format!("sha256-{}.part", kept.artifact().layer_digest().to_hex());
    let part = kept.home.cache().join("partial").join(part);
    for wrong in [vec![0_u8; 1_000], vec![0_u8; 200_000], vec![0_u8; 300_000]] {
        fs::remove_dir_all(&kept.dir).unwrap();
        fs::write(&part, &wrong).unwrap();
        let pulled = kept.home.client().resolve_ref(&kept.reference()).await.unwrap();
        assert_delivers(&pulled, kept.artifact());
        assert!(!part.exists());
    }
}

#[tokio::test]
async fn strange_things_in_the_cache_directory_are_no_entries() {
    let kept = Kept::new().await;
    let cache = kept.home.cache();
    fs::create_dir(cache.join("x".repeat(64))).unwrap();
    fs::create_dir(cache.join("A".repeat(64))).unwrap();
    fs::write(cache.join("b".repeat(64)), "a file").unwrap();
    fs::create_dir(cache.join("c".repeat(64))).unwrap();
    std::os::unix::fs::symlink(kept.home.outside(), cache.join("d".repeat(64))).unwrap();
    fs::write(cache.join(".DS_Store"), "x").unwrap();
    let client: DistClient = kept.home.client();
    assert_eq!(client.list_cache(), [kept.pin()]);
    assert_eq!(client.list_cache_entries().len(), 1);
    client.gc().unwrap();
    kept.home.assert_nothing_outside_changed();
    assert_delivers(&client.open_cached(&kept.pin()).unwrap(), kept.artifact());
}
