//! The handle to one cache directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use greentic_dist_types::Digest;

use crate::Clock;
use crate::batch::Batch;
use crate::layout::{ArtifactFile, Paths};
use crate::lock::HeldKeys;
use crate::os::Owners;
use crate::stamp::{FineTimes, ProcessStamps};

/// Whether bytes are forced to the disk before they are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The artifact, its manifest and its record are synced before the entry gets its name.
    #[default]
    Synced,
    /// Nothing is synced. A power cut may leave entries that do not prove themselves; they are found out, because trust
    /// stamps hold for one boot only, and fetched again.
    Unsynced,
}

/// How a [`Store`] behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Which file of an entry is the artifact. Default `component.wasm`.
    pub artifact_file: ArtifactFile,
    /// How long to wait for a lock that somebody else holds. Default 300 seconds.
    pub lock_timeout: Duration,
    /// Default [`Durability::Synced`].
    pub durability: Durability,
    /// Whether to use a root that another user owns or can write to. Default false.
    pub allow_shared_root: bool,
    /// Whether to open entries whose name is not proven by a manifest but [vouched](crate::EntryRecord::vouched) for by a
    /// client that the host brought along. Their bytes are proven all the same. Default false.
    pub believe_vouched: bool,
    /// Where the time comes from. Default the system's clock.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            artifact_file: ArtifactFile::default(),
            lock_timeout: Duration::from_mins(5),
            durability: Durability::default(),
            allow_shared_root: false,
            believe_vouched: false,
            clock: Clock::system(),
        }
    }
}

/// One cache directory. A cheap clone of a shared handle; every method may be called from several threads and, on the same
/// directory, from several processes at once.
///
/// All methods block on the file system. The directory is the only truth: nothing about entries is remembered between two
/// calls, except trust stamps on systems that do not number their boots.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) paths: Paths,
    pub(crate) options: StoreOptions,
    pub(crate) held: HeldKeys,
    pub(crate) tagged: AtomicBool,
    pub(crate) stamps: ProcessStamps,
    pub(crate) fine_times: FineTimes,
    pub(crate) batch: Batch,
}

impl Store {
    /// A store over the directory `root` with default options. Does no I/O and never fails; the directory is created by
    /// the first call that writes.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_options(root, StoreOptions::default())
    }

    /// A store over the directory `root`. Does no I/O and never fails.
    pub fn with_options(root: impl Into<PathBuf>, options: StoreOptions) -> Self {
        Self(Arc::new(Inner {
            paths: Paths::new(root.into(), options.artifact_file),
            options,
            held: HeldKeys::default(),
            tagged: AtomicBool::new(false),
            stamps: ProcessStamps::default(),
            fine_times: FineTimes::default(),
            batch: Batch::default(),
        }))
    }

    /// The cache directory.
    pub fn root(&self) -> &Path {
        self.0.paths.root()
    }

    /// Where the artifact of an entry is, or will be when it is published. No I/O.
    pub fn artifact_path(&self, pin: &Digest) -> PathBuf {
        self.0.paths.entry_dir(pin).join(self.0.options.artifact_file.name())
    }

    /// The options in force.
    pub fn options(&self) -> &StoreOptions {
        &self.0.options
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.0.paths
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.options.clock
    }

    /// Whose files may be written to.
    pub(crate) fn owners(&self) -> Owners {
        if self.0.options.allow_shared_root { Owners::Anybody } else { Owners::Us }
    }

    pub(crate) fn syncs(&self) -> bool {
        self.0.options.durability == Durability::Synced
    }
}
