//! Hashing everything again, whatever was proven before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use greentic_dist_types::Digest;

use crate::open::{Names, Proof};
use crate::retention::Obstacle;
use crate::{Store, StoreError, StoreErrorKind};

/// Most threads that hash. Each has a buffer of its own, and that is all the memory there is to it.
const THREADS: usize = 8;

/// What [`Store::audit`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Audit {
    /// Entries that were hashed and are right.
    pub good: usize,
    /// Bytes of their artifacts.
    pub bytes: u64,
    /// Entries that do not prove themselves, sorted by pin.
    pub damaged: Vec<Damage>,
    /// Entries that could not be read, or were written by a newer version: nothing is known about their bytes.
    pub unknown: Vec<(Digest, StoreError)>,
}

/// An entry that does not prove itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Damage {
    /// The digest the entry is named by.
    pub pin: Digest,
    /// Where it lies, or lay.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: StoreError,
    /// Whether it was put into quarantine.
    pub put_aside: bool,
}

enum Finding {
    Good(u64),
    Damaged(Damage),
    Unknown(Digest, StoreError),
}

impl Store {
    /// Hashes the entries of `pins` from their first to their last byte, on a few threads, and with `repair` puts those that
    /// are wrong into quarantine, so that they are fetched again when somebody asks for them. Those that are gone meanwhile
    /// are left out. Somebody who works on a damaged entry, or has a lease of it, keeps it from being put aside, and older
    /// layouts are left as they are.
    ///
    /// Memory does not grow with sizes. Blocks, for about a second per GiB and processor.
    ///
    /// # Errors
    /// As any write, when a damaged entry cannot be put aside.
    pub fn audit(&self, pins: &[Digest], repair: bool) -> Result<Audit, StoreError> {
        let findings = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(pin) = pins.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(finding) = self.look_at(pin) {
                    findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(THREADS).min(pins.len()) {
                // A thread that cannot be had is a thread less.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        let mut audit = Audit::default();
        for finding in findings.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match finding {
                Finding::Good(bytes) => {
                    audit.good += 1;
                    audit.bytes += bytes;
                }
                Finding::Damaged(damage) => audit.damaged.push(damage),
                Finding::Unknown(pin, error) => audit.unknown.push((pin, error)),
            }
        }
        audit.damaged.sort_unstable_by_key(|damage| damage.pin);
        audit.unknown.sort_unstable_by_key(|(pin, _)| *pin);
        if repair {
            for damage in &mut audit.damaged {
                damage.put_aside = self.put_aside(&damage.pin)?;
            }
        }
        Ok(audit)
    }

    fn look_at(&self, pin: &Digest) -> Option<Finding> {
        match self.open_named(pin, Proof::Full, Names::Vouched) {
            Ok(Some(open)) => Some(Finding::Good(open.entry.record.size_bytes)),
            Ok(None) => None,
            Err(error) if *error.kind() == StoreErrorKind::Corrupt => {
                Some(Finding::Damaged(Damage { pin: *pin, path: error.path().to_owned(), error, put_aside: false }))
            }
            Err(error) => Some(Finding::Unknown(*pin, error)),
        }
    }

    /// Puts a damaged entry into quarantine, if it is still damaged and nobody is at it.
    fn put_aside(&self, pin: &Digest) -> Result<bool, StoreError> {
        let _held = match self.hold(pin)? {
            Ok(held) => held,
            Err(Obstacle::Working(_) | Obstacle::Leased) => return Ok(false),
        };
        if !matches!(self.look_at(pin), Some(Finding::Damaged(_))) {
            // It was healed meanwhile.
            return Ok(true);
        }
        self.quarantine(pin, "found damaged")?;
        Ok(self.places(pin).iter().all(|(_, path)| path.symlink_metadata().is_err()))
    }
}
