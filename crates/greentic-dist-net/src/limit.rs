//! How many requests one host gets at a time. The permit lives in the answer and ends with its body.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// Most hosts remembered; beyond it the table starts anew.
const HOSTS: usize = 1_024;

/// Separate queues, so that a manifest never waits behind the blobs of other artifacts, nor for a stream its own caller holds,
/// and a push never waits for the pull it copies from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Manifests, tokens: short.
    Metadata,
    /// Blobs and files, read.
    Body,
    /// A part of a blob, beside others of it: as [`Lane::Body`], over a connection of its own.
    Segment,
    /// Blobs, written.
    Upload,
}

/// What several connections for one body are good for at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gain {
    Unknown,
    Some,
    None,
}

#[derive(Debug)]
pub(crate) struct HostLimit {
    metadata: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    answered: AtomicBool,
    gain: AtomicU8,
}

impl HostLimit {
    fn new(per_lane: usize) -> Self {
        Self {
            metadata: Arc::new(Semaphore::new(per_lane)),
            bodies: Arc::new(Semaphore::new(per_lane)),
            uploads: Arc::new(Semaphore::new(per_lane)),
            answered: AtomicBool::new(false),
            gain: AtomicU8::new(0),
        }
    }

    /// Waits for a turn. Cancel-safe. `None` never happens: the semaphores are not closed.
    pub(crate) async fn acquire(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        let queue = match lane {
            Lane::Metadata => &self.metadata,
            Lane::Body | Lane::Segment => &self.bodies,
            Lane::Upload => &self.uploads,
        };
        Arc::clone(queue).acquire_owned().await.ok()
    }

    /// How many more bodies may be transferred right now.
    pub(crate) fn room(&self) -> usize {
        self.bodies.available_permits()
    }

    pub(crate) fn gain(&self) -> Gain {
        match self.gain.load(Ordering::Relaxed) {
            0 => Gain::Unknown,
            1 => Gain::Some,
            _ => Gain::None,
        }
    }

    pub(crate) fn set_gain(&self, gain: Gain) {
        let number = match gain {
            Gain::Unknown => 0,
            Gain::Some => 1,
            Gain::None => 2,
        };
        self.gain.store(number, Ordering::Relaxed);
    }

    /// Remembers that the host answered: later requests may meet a connection it has closed meanwhile.
    pub(crate) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The limits of all hosts.
#[derive(Debug)]
pub(crate) struct HostLimits {
    per_lane: usize,
    hosts: Mutex<HashMap<String, Arc<HostLimit>>>,
}

impl HostLimits {
    pub(crate) fn new(per_lane: usize) -> Self {
        Self { per_lane: per_lane.clamp(1, Semaphore::MAX_PERMITS), hosts: Mutex::default() }
    }

    pub(crate) fn of(&self, url: &Url) -> Arc<HostLimit> {
        let host = url.host_str().unwrap_or_default();
        let key = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS && !hosts.contains_key(&key) {
            hosts.clear();
        }
        Arc::clone(hosts.entry(key).or_insert_with(|| Arc::new(HostLimit::new(self.per_lane))))
    }
}
