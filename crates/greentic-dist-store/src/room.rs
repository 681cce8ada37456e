//! Whether bytes fit where they are to be written, asked before the first of them.

use std::path::Path;

use crate::os;
use crate::{StoreError, StoreErrorKind};

/// Refuses bytes that the file system of `dir` has no room for. One that does not say how much it has refuses nothing.
///
/// `op` is what the bytes are for, as a verb phrase. One system call.
///
/// # Errors
/// `NoSpace`.
pub(crate) fn check_room_for(op: &'static str, dir: &Path, bytes: u64) -> Result<(), StoreError> {
    match os::free_bytes(dir) {
        Some(free) if free < bytes => {
            let detail = format!("{bytes} bytes are needed and {free} are free");
            Err(StoreError::new(StoreErrorKind::NoSpace, op, dir).with_detail(&detail))
        }
        _ => Ok(()),
    }
}

/// As the cache does before it takes bytes in, for a directory that is no cache: refuses bytes that its file system has no room
/// for. Where it does not say how much it has, and where there is no such directory, nothing is refused.
///
/// One system call. Blocks.
///
/// # Errors
/// `NoSpace`.
pub fn check_room(dir: &Path, bytes: u64) -> Result<(), StoreError> {
    check_room_for("write to", dir, bytes).map_err(StoreError::outside)
}
