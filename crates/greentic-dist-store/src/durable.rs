//! Promises: what must be there after a power cut, beyond what publication needs.
//!
//! An entry is published by a rename that nobody waits for, because an entry that is lost is fetched again. What a bundle
//! stands on is not: its files, their names and the name of its directory are forced to the disk.

use std::io::{self, Write};
use std::path::Path;

use crate::entry::Entry;
use crate::error::Context;
use crate::layout::{Layout, MANIFEST, RECORD, Sidecar};
use crate::os;
use crate::publish::sync_file;
use crate::temp::TempFile;
use crate::{Store, StoreError, StoreErrorKind};

impl Store {
    /// Forces an entry to the disk: its files, its directory, the root, and the root's own name.
    ///
    /// # Errors
    /// `Missing` when the entry is gone; otherwise as any write.
    pub fn make_durable(&self, entry: &Entry) -> Result<(), StoreError> {
        const OP: &str = "force the entry to the disk";
        if !self.syncs() {
            return Ok(());
        }
        let blob = entry.file_name();
        let kept = [MANIFEST, RECORD, Sidecar::ComponentManifest.name(), Sidecar::Metadata.name()];
        for (name, is_needed) in [(blob, true)].into_iter().chain(kept.map(|name| (name, false))) {
            let path = entry.dir.join(name);
            match os::open_read(&path).and_then(|file| sync_file(&file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_needed => {}
                other => other.at(OP, &path)?,
            }
        }
        let mut dir = entry.dir.as_path();
        sync_dir(dir).at(OP, dir)?;
        // Older layouts have directories between the entry and the root.
        while let Some(above) = dir.parent().filter(|_| dir != self.root()) {
            dir = above;
            sync_dir(dir).at(OP, dir)?;
            if entry.layout == Layout::Current {
                break;
            }
        }
        self.sync_above_root();
        Ok(())
    }

    /// The root was perhaps made a moment ago. Its parent may be a directory this process cannot read; then whoever made it
    /// did so long ago.
    fn sync_above_root(&self) {
        let above = self.root().parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = sync_dir(above) {
            tracing::debug!(path = %above.display(), %error, "the directory above the cache was not synced");
        }
    }

    /// Writes `bytes` to `path`, as a whole or not at all, and returns when both the bytes and the name survive a power cut.
    pub(crate) fn write_durable(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        const OP: &str = "write";
        let temp = TempFile::create(self)?;
        let mut file = temp.file()?;
        file.write_all(bytes).at(OP, temp.path())?;
        if self.syncs() {
            sync_file(file).at(OP, temp.path())?;
        }
        drop(temp.rename(path)?);
        self.sync_name(path)
    }

    /// Forces the name `path`, new or gone, to the disk.
    pub(crate) fn sync_name(&self, path: &Path) -> Result<(), StoreError> {
        const OP: &str = "force the name to the disk";
        if !self.syncs() {
            return Ok(());
        }
        let Some(dir) = path.parent() else {
            return Err(StoreError::new(StoreErrorKind::Io, OP, path).with_detail("it has no directory"));
        };
        sync_dir(dir).at(OP, dir)?;
        if dir != self.root() {
            // The directory itself may be new.
            sync_dir(self.root()).at(OP, self.root())?;
            self.sync_above_root();
        }
        Ok(())
    }
}

/// Forces the names in a directory to the disk. Nothing where directories cannot be opened, or have no such call.
fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    match os::open_dir(path)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
    #[cfg(not(unix))]
    {
        let _: &Path = path;
        Ok(())
    }
}
