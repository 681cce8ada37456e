//! The trust stamp: a proof remembered for as long as nobody touched the file and the machine did not restart.
//!
//! The file `verified` of an entry holds the boot, the identity and the times of the artifact as they were when its bytes
//! were proven. Any edit changes the inode's change time, a copy changes the inode, a crash or a power cut changes the
//! boot; then the bytes are hashed again. On systems that do not number their boots, proofs are remembered for the life of
//! the process, and small artifacts are always hashed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use greentic_dist_types::Digest;

use crate::Store;
use crate::layout::STAMP;
use crate::os::{self, Dir, FileState};

/// Largest stamp file that is read.
const STAMP_BYTES: u64 = 1 << 10;
/// Below this size an artifact is always hashed where there is no boot id.
const SMALL_BYTES: u64 = 1 << 20;
/// Most proofs remembered in a process.
const PROCESS_STAMPS: usize = 4096;

/// Proofs remembered in this process, for systems without a boot id.
#[derive(Debug, Default)]
pub(crate) struct ProcessStamps(Mutex<HashMap<Digest, FileState>>);

/// Whether the device of the cache has time stamps that show every change, found out once.
#[derive(Debug, Default)]
pub(crate) struct FineTimes(Mutex<Option<(u64, bool)>>);

fn text(boot: &str, state: &FileState, digest: &Digest) -> String {
    let FileState { dev, ino, size, mtime_ns, ctime_ns } = state;
    format!("1 {boot} {dev} {ino} {size} {mtime_ns} {ctime_ns} {digest}\n")
}

impl Store {
    /// Whether the stamp says that the file in `state` was proven to have one of `digests`; which one it is.
    pub(crate) fn stamped(&self, dir: &Dir, state: &FileState, digests: &[Digest]) -> Option<Digest> {
        let Some(boot) = os::boot_id() else {
            if state.size < SMALL_BYTES {
                return None;
            }
            let stamps = self.0.stamps.0.lock().unwrap_or_else(PoisonError::into_inner);
            return digests.iter().copied().find(|digest| stamps.get(digest) == Some(state));
        };
        let stamp = dir.read_small(STAMP, STAMP_BYTES).ok().flatten()?;
        digests.iter().copied().find(|digest| stamp == text(boot, state, digest).into_bytes())
    }

    /// Whether every change of the open artifact, which is in `state` and has mode `mode`, shows in its change time from
    /// the next look at it on. Tried out once on each device: a trial changes the file.
    pub(crate) fn shows_every_change(&self, artifact: &File, state: &FileState, mode: u32) -> bool {
        let known = *self.0.fine_times.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((dev, fine)) = known
            && dev == state.dev
        {
            return fine;
        }
        let Ok(fine) = os::has_fine_times(artifact, mode) else { return false };
        *self.0.fine_times.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((state.dev, fine));
        fine
    }

    /// Remembers that the open artifact was just proven to have `digest`. `before` is its state from before its bytes were
    /// read, and the caller made sure that a change since then shows; where there was one, nothing is remembered.
    ///
    /// Best effort: on a read-only cache every open proves again.
    pub(crate) fn stamp(&self, dir: &Dir, artifact: &File, before: &FileState, digest: &Digest) {
        let unchanged = artifact.metadata().is_ok_and(|meta| FileState::of(&meta) == *before);
        if !unchanged {
            return;
        }
        let Some(boot) = os::boot_id() else {
            let mut stamps = self.0.stamps.0.lock().unwrap_or_else(PoisonError::into_inner);
            if stamps.len() >= PROCESS_STAMPS {
                stamps.clear();
            }
            stamps.insert(*digest, *before);
            return;
        };
        let written = dir
            .rewrite_file(STAMP, self.owners())
            .and_then(|mut file| file.write_all(text(boot, before, digest).as_bytes()));
        if let Err(error) = written {
            tracing::debug!(dir = %dir.path().display(), %error, "the proof could not be noted");
        }
    }
}
