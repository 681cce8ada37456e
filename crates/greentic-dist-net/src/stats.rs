//! Counters of what a [`Net`](crate::Net) did.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`Net`](crate::Net) and its clones did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStats {
    /// HTTP requests sent, every attempt, redirect hop and token request counted.
    pub requests: u64,
    /// Attempts after a first one that failed.
    pub retries: u64,
    /// Bodies continued after a cut or a stall.
    pub resumes: u64,
    /// Body bytes received, thrown-away ones included.
    pub bytes_received: u64,
    /// Body bytes sent, those of attempts that failed included.
    pub bytes_sent: u64,
    /// Requests to token servers (part of `requests`).
    pub token_requests: u64,
}

impl std::ops::Add for NetStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            retries: self.retries + other.retries,
            resumes: self.resumes + other.resumes,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            token_requests: self.token_requests + other.token_requests,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) resumes: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) token_requests: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> NetStats {
        NetStats {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            resumes: self.resumes.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            token_requests: self.token_requests.load(Ordering::Relaxed),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
