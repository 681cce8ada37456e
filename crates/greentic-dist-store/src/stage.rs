//! Staging: everything an entry consists of, side by side in a directory nobody reads yet.

use std::io::Write;
use std::path::{Path, PathBuf};

use greentic_dist_types::limits::{MOST_MANIFEST_BYTES, RECORD_BYTES, SIDECAR_BYTES};
use greentic_dist_types::{Digest, ManifestKind, Mismatch, parse_kept_manifest};

use crate::crash::crash_point;
use crate::entry::Entry;
use crate::error::Context;
use crate::ingest::VerifiedBlob;
use crate::layout::{Layout, MANIFEST, RECORD, Sidecar};
use crate::record::EntryRecord;
use crate::temp::TempDir;
use crate::{Store, StoreError, StoreErrorKind, os};

const OP: &str = "stage the entry";

/// What an entry will consist of besides its bytes.
#[derive(Clone, Debug)]
pub struct EntryDraft {
    /// The digest the entry is named by. `None`: the digest of its content.
    pub pin: Option<Digest>,
    /// The raw manifest. Needed, and must hash to the pin and name the content, when the pin is not the content's digest and
    /// the record does not say that somebody [vouched](EntryRecord::vouched) for it.
    pub manifest: Option<Vec<u8>>,
    /// The record. The store sets its version, digests, size, path, and those of its times that are 0.
    pub record: EntryRecord,
    /// Documents to keep beside the artifact, at most [`SIDECAR_BYTES`] each.
    pub sidecars: Vec<(Sidecar, Vec<u8>)>,
}

impl EntryDraft {
    /// An entry named by the digest of its content.
    pub fn of_content(record: EntryRecord) -> Self {
        Self { pin: None, manifest: None, record, sidecars: Vec::new() }
    }

    /// An entry named by the digest of its manifest.
    pub fn of_manifest(pin: Digest, manifest: Vec<u8>, record: EntryRecord) -> Self {
        Self { pin: Some(pin), manifest: Some(manifest), record, sidecars: Vec::new() }
    }
}

/// A complete entry that has no name yet. Dropped, it is gone.
#[derive(Debug)]
#[must_use = "an entry exists only once it is published"]
pub struct Staged {
    pub(crate) dir: TempDir,
    pub(crate) entry: Entry,
    /// The files to sync, the artifact first.
    pub(crate) files: Vec<PathBuf>,
}

impl Staged {
    /// The digest the entry will be named by.
    pub fn pin(&self) -> Digest {
        self.entry.pin
    }
}

impl VerifiedBlob {
    /// Puts the bytes, the manifest, the record and the sidecars into a staging directory.
    ///
    /// # Errors
    /// `Integrity` when the manifest does not hash to the pin; `Corrupt` when the entry could never prove itself: a
    /// manifest that does not name this content with this size, or no manifest and a pin that is not the content's digest;
    /// `Io` for documents larger than they may be; otherwise as any write.
    pub fn stage(self, draft: EntryDraft) -> Result<Staged, StoreError> {
        let store = self.store().clone();
        let content = (self.verified().digest(), self.verified().size_bytes());
        store.stage(content, draft, |to| self.move_to(to))
    }
}

/// An entry must be able to prove itself from its name alone.
fn check(draft: &EntryDraft, (content, size_bytes): (Digest, u64), root: &Path) -> Result<Digest, StoreError> {
    let pin = draft.pin.unwrap_or(content);
    let refuse = |detail: &str| Err(StoreError::corrupt(OP, root, &pin, detail));
    let Some(bytes) = &draft.manifest else {
        if pin == content || draft.record.vouched {
            return Ok(pin);
        }
        return refuse("it is not named by its content, and there is no manifest");
    };
    let actual = Digest::of(pin.algorithm(), bytes);
    if actual != pin {
        let mismatch = Mismatch::Digest { expected: pin, actual };
        return Err(StoreError::new(StoreErrorKind::Integrity(mismatch), OP, root).with_digest(&pin));
    }
    match parse_kept_manifest(bytes) {
        Ok(ManifestKind::Image(manifest)) => {
            if manifest.layers.iter().any(|layer| layer.digest == content && layer.size_bytes == size_bytes) {
                return Ok(pin);
            }
            refuse(&format!("its manifest names no layer {content} of {size_bytes} bytes"))
        }
        Ok(ManifestKind::Index(_)) => refuse("its manifest is an index"),
        Err(error) => {
            Err(StoreError::corrupt(OP, root, &pin, "its manifest is not one that can be read").with_source(error))
        }
    }
}

impl Store {
    /// Stages an entry whose artifact `place` puts where it is told. The digest and the size of `content` are proven.
    pub(crate) fn stage(
        &self,
        content: (Digest, u64),
        draft: EntryDraft,
        place: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<Staged, StoreError> {
        let pin = check(&draft, content, self.root())?;
        let (content, size_bytes) = content;
        let final_dir = self.paths().entry_dir(&pin);
        let blob_name = self.paths().blob_name(Layout::Current);
        let EntryDraft { manifest, mut record, sidecars, .. } = draft;
        let now = self.clock().unix_seconds();
        for time in [&mut record.fetched_at, &mut record.last_accessed_at] {
            if *time == 0 {
                *time = now;
            }
        }
        if manifest.is_some() {
            record.manifest_digest = Some(pin);
        }
        record.bind(&pin, &content, size_bytes, &final_dir.join(blob_name));

        let dir = TempDir::create(self)?;
        crash_point("staging directory made");
        let artifact = dir.path().join(blob_name);
        place(&artifact)?;
        crash_point("artifact placed");
        let mut files = vec![artifact];
        if let Some(bytes) = &manifest {
            files.push(write_part(&dir, MANIFEST, bytes, MOST_MANIFEST_BYTES)?);
            crash_point("manifest written");
        }
        for (sidecar, bytes) in &sidecars {
            files.push(write_part(&dir, sidecar.name(), bytes, SIDECAR_BYTES)?);
        }
        let json = record.to_json().map_err(|error| StoreError::io(OP, dir.path(), error.into()))?;
        let path = write_part(&dir, RECORD, &json, RECORD_BYTES)?;
        // Finer than what the kernel notes: which of two entries came first shows in it. Not needed to be right.
        let _coarse = os::set_times(&path, self.clock().now(), self.clock().now()).is_err();
        files.push(path);
        crash_point("record written");
        let entry = Entry {
            pin,
            content_digest: content,
            path: final_dir.join(blob_name),
            dir: final_dir,
            record,
            layout: Layout::Current,
            rebuilt: false,
        };
        Ok(Staged { dir, entry, files })
    }
}

fn write_part(dir: &TempDir, name: &str, bytes: &[u8], limit: u64) -> Result<PathBuf, StoreError> {
    let path = dir.path().join(name);
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let detail = format!("it has {} bytes, and {limit} are allowed", bytes.len());
        return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_detail(&detail));
    }
    let mut file = os::create_new(&path).at(OP, &path)?;
    file.write_all(bytes).at(OP, &path)?;
    Ok(path)
}
