//! Where tests kill the process, to see that a death between any two steps leaves nothing wrong behind.

/// Kills the process here when a test asks for it.
#[cfg(test)]
pub(crate) fn crash_point(name: &str) {
    if std::env::var(tests::POINT).is_ok_and(|wanted| wanted == name) {
        #[cfg(unix)]
        {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).ok();
        }
        std::process::abort();
    }
}

/// Nothing outside tests.
#[cfg(not(test))]
pub(crate) const fn crash_point(_name: &str) {}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use greentic_dist_types::{ArtifactSourceKind, ArtifactType, Digest};

    use crate::{EntryDraft, EntryRecord, Expected, Proof, Published, SourceSnapshot, Store, StoreError};

    pub(super) const POINT: &str = "STORE_TEST_CRASH_AT";
    const ROOT: &str = "STORE_TEST_CRASH_ROOT";
    const BYTES: &[u8] = b"the component";

    fn manifest() -> Vec<u8> {
        let (config, layer) = (Digest::sha256(b"{}"), Digest::sha256(BYTES));
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/wasm","digest":"{layer}","size":13}}]}}"#
        )
        .into_bytes()
    }

    fn bring(store: &Store) -> Result<Published, StoreError> {
        let source = SourceSnapshot {
            raw_ref: "oci://registry.example/acme/tool:1".into(),
            canonical_ref: String::new(),
            source_kind: ArtifactSourceKind::Oci,
            authoritative: false,
        };
        let record = EntryRecord::new(ArtifactType::Component, source, "application/wasm");
        let digest = Digest::sha256(BYTES);
        let lock = store.lock(&digest, &mut |_| ())?;
        let mut ingest = store.ingest(&lock, Expected { digest, size_bytes: 13 })?;
        let offset = usize::try_from(ingest.offset()).unwrap();
        ingest.write(&BYTES[offset..])?;
        let draft = EntryDraft::of_manifest(Digest::sha256(&manifest()), manifest(), record);
        store.publish(ingest.finish()?.stage(draft)?)
    }

    /// Does nothing in an ordinary run.
    #[test]
    fn the_part_of_the_process_that_dies() {
        if let Some(root) = std::env::var_os(ROOT) {
            bring(&Store::new(root)).unwrap();
        }
    }

    fn die(root: &Path, point: &str) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["crash::tests::the_part_of_the_process_that_dies", "--exact"])
            .env(ROOT, root)
            .env(POINT, point)
            .status()
            .unwrap();
        assert!(!status.success(), "the process did not pass {point}");
    }

    #[test]
    fn a_death_between_any_two_steps_leaves_all_or_nothing() {
        let points = [
            ("staging directory made", false),
            ("artifact placed", false),
            ("manifest written", false),
            ("record written", false),
            ("synced", false),
            ("indexed", false),
            ("exchanged", true),
            ("published", true),
        ];
        for (point, is_there) in points {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path().join("cache"));
            let pin = Digest::sha256(&manifest());
            if point == "exchanged" {
                // A corrupt entry is in the way.
                std::fs::write(bring(&store).unwrap().entry.dir.join("manifest.json"), b"{}").unwrap();
            }
            die(store.root(), point);
            assert_eq!(store.open(&pin, Proof::Stamped).unwrap().is_some(), is_there, "{point}");
            assert_eq!(store.entries().unwrap().iter().filter(|entry| !entry.rebuilt).count(), usize::from(is_there));
            // What died is collected, and the next one gets through.
            let before = store.gc().unwrap();
            assert_eq!(before.temp_removed, usize::from(point != "published"), "{point}: {before:?}");
            assert_eq!(bring(&store).unwrap().fresh, !is_there, "{point}");
            assert!(store.open(&pin, Proof::Full).unwrap().is_some());
            let left = |sub: &str| std::fs::read_dir(store.root().join(sub)).unwrap().count();
            assert_eq!((left("tmp"), left("locks"), left("partial")), (0, 0, 0), "{point}");
        }
    }
}
