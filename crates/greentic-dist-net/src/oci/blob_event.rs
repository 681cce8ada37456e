//! What is told about one blob on its way to a consumer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::NetError;

/// Something that happened to one blob that is read, for whoever asked with
/// [`BlobRequest::progress`](super::BlobRequest::progress).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum BlobEvent<'a> {
    /// A server answered, and bytes are about to come.
    Started {
        /// Bytes that were there before.
        offset: u64,
        /// The size of the whole blob in bytes.
        size_bytes: u64,
    },
    /// An endpoint has answered, and sends the next bytes. Told before [`BlobEvent::Started`], and again for every further request.
    Endpoint {
        /// The endpoint that was asked, as `scheme://host[:port][/path]`, wherever it redirected.
        endpoint: &'a str,
    },
    /// Bytes came; they may be anything until [`BlobEvent::Verified`].
    Bytes {
        /// Bytes that are there now, those from before included.
        bytes: u64,
    },
    /// A request failed and is made again after `delay`.
    Retry {
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The wait before the next one.
        delay: Duration,
        /// Why it failed.
        error: &'a NetError,
    },
    /// A connection was cut or stalled, and the blob goes on over another.
    Resume {
        /// The position in the blob where it goes on.
        offset: u64,
        /// Why it stopped.
        error: &'a NetError,
    },
    /// Size and digest are proven.
    Verified,
    /// The consumer has everything. Nothing more is told.
    Done,
    /// It failed for good. Nothing more is told.
    Failed {
        /// Why.
        error: &'a NetError,
    },
}

/// Who is told about a blob.
#[derive(Clone)]
pub(crate) struct Watcher(Arc<dyn Fn(&BlobEvent<'_>) + Send + Sync>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl Watcher {
    pub(super) fn new(watcher: impl Fn(&BlobEvent<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(watcher))
    }

    pub(crate) fn tell(&self, event: &BlobEvent<'_>) {
        (self.0)(event);
    }
}

/// The end of what is told about one blob comes once.
#[derive(Debug, Default)]
pub(super) struct Telling {
    watcher: Option<Watcher>,
    is_verified: AtomicBool,
    is_over: AtomicBool,
}

impl Telling {
    pub(super) fn to(watcher: Option<&Watcher>) -> Self {
        Self { watcher: watcher.cloned(), ..Self::default() }
    }

    pub(super) fn bytes(&self, bytes: u64) {
        self.tell(&BlobEvent::Bytes { bytes });
    }

    pub(super) fn verified(&self) {
        if !self.is_verified.swap(true, Ordering::Relaxed) {
            self.tell(&BlobEvent::Verified);
        }
    }

    pub(super) fn done(&self) {
        self.verified();
        self.end(&BlobEvent::Done);
    }

    pub(super) fn failed(&self, error: &NetError) {
        self.end(&BlobEvent::Failed { error });
    }

    fn end(&self, event: &BlobEvent<'_>) {
        self.tell(event);
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn tell(&self, event: &BlobEvent<'_>) {
        if let Some(watcher) = self.watcher.as_ref().filter(|_| !self.is_over.load(Ordering::Relaxed)) {
            watcher.tell(event);
        }
    }
}
