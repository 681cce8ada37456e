//! Small files that are replaced as a whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::error::Context;
use crate::temp::TempFile;
use crate::{Store, StoreError};

impl Store {
    /// Writes `bytes` to a temporary file and renames it to `path`. With `sync`, the bytes are on the disk before the name
    /// is; without, a power cut may leave an empty file, which every reader takes for none.
    pub(crate) fn write_atomic(&self, path: &Path, bytes: &[u8], sync: bool) -> Result<(), StoreError> {
        const OP: &str = "write";
        let temp = TempFile::create(self)?;
        let mut file = temp.file()?;
        file.write_all(bytes).at(OP, temp.path())?;
        if sync && self.syncs() {
            file.sync_data().at(OP, temp.path())?;
        }
        drop(temp.rename(path)?);
        Ok(())
    }
}
