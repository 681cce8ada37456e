//! A new pin for bytes that are in the cache already: no download, and where the file system allows no second copy.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use greentic_dist_types::{Digest, Mismatch, Verifier};

use crate::entry::Entry;
use crate::error::Context;
use crate::layout::{ARTIFACT_MODE, Layout};
use crate::lock::DigestLock;
use crate::open::{OpenEntry, Proof};
use crate::os::{self, Dir, FileState};
use crate::stage::EntryDraft;
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "adopt the content";

impl Store {
    /// Publishes an entry whose bytes another entry has: proves the other one, links its artifact, and copies it where it
    /// cannot be linked or lies in an older layout. The caller holds the lock of the content's digest.
    ///
    /// # Errors
    /// `Corrupt` or `Missing` when the other entry does not prove itself or is gone: fetch instead. Otherwise as
    /// [`VerifiedBlob::stage`](crate::VerifiedBlob::stage) and [`Store::publish`].
    pub fn adopt(&self, lock: &DigestLock, content: &Entry, draft: EntryDraft) -> Result<Entry, StoreError> {
        self.adopt_from(lock, self, content, draft)
    }

    /// As [`Store::adopt`], with an entry of another store of the same user. Where the two lie on different file systems, the
    /// artifact is copied, and hashed while it is.
    ///
    /// # Errors
    /// As [`Store::adopt`].
    pub fn adopt_from(
        &self,
        lock: &DigestLock,
        from: &Self,
        content: &Entry,
        draft: EntryDraft,
    ) -> Result<Entry, StoreError> {
        tracing::trace!(lock = %lock.digest(), from = %content.pin, "adopt");
        let Some(OpenEntry { entry: source, mut file }) = from.open_pin(&content.pin, Proof::Stamped)? else {
            return Err(StoreError::new(StoreErrorKind::Missing, OP, &content.dir).with_digest(&content.pin));
        };
        if source.content_digest != content.content_digest {
            return Err(StoreError::corrupt(OP, &source.dir, &source.pin, "it holds other content by now"));
        }
        let before = FileState::of(&file.metadata().at(OP, &source.path)?);
        let content = (source.content_digest, before.size);
        let staged = self.stage(content, draft, |to| place(&mut file, &source, to))?;
        let published = self.publish(staged)?;
        // A new name changes the inode's change time and makes the source's stamp void, though its bytes are as they were.
        if let (Ok(dir), Ok(meta)) = (Dir::open(&source.dir), file.metadata()) {
            let after = FileState::of(&meta);
            let as_it_was = FileState { ctime_ns: before.ctime_ns, ..after } == before;
            if as_it_was && after != before && after.is_settled(SystemTime::now()) {
                from.stamp(&dir, &file, &after, &source.content_digest);
            }
        }
        Ok(published.entry)
    }
}

fn place(file: &mut File, source: &Entry, to: &Path) -> Result<(), StoreError> {
    if source.layout == Layout::Current {
        match os::link_open_file(file, &source.path, to) {
            Ok(()) => return os::set_mode(file, ARTIFACT_MODE).at(OP, to),
            Err(error) => tracing::debug!(path = %to.display(), %error, "the artifact is copied, not linked"),
        }
    }
    copy(file, source.content_digest, source.record.size_bytes, to)
}

/// Copies the open artifact, hashing what is copied.
fn copy(from: &mut File, digest: Digest, size_bytes: u64, to: &Path) -> Result<(), StoreError> {
    let mut target = os::create_new(to).at(OP, to)?;
    let mut verifier = Verifier::for_content(digest, size_bytes);
    let refused = |mismatch: Mismatch| StoreError::corrupt(OP, to, &digest, "the copy is wrong").with_source(mismatch);
    if os::reflink(from, &target).is_ok() {
        verifier.read_all_of(&mut target).at(OP, to)?.map_err(refused)?;
    } else {
        let mut buffer = vec![0_u8; 256 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StoreError::io(OP, to, error)),
            };
            let chunk = buffer.get(..count).unwrap_or_default();
            verifier.update(chunk).map_err(refused)?;
            target.write_all(chunk).at(OP, to)?;
        }
    }
    verifier.finish().map_err(refused)?;
    os::set_mode(&target, ARTIFACT_MODE).at(OP, to)
}
