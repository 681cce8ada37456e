//! What is going on, for whoever wants to show it.
//!
//! The client calls a [`Reporter`] from its own tasks; implementations must return quickly and never block. Byte counts
//! are sampled (at most one event for each chunk of the network), not promised to be complete until [`Event::Finished`].

use std::time::Duration;

/// Receives progress. The default methods do nothing.
pub trait Reporter: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Something that happened while an artifact was resolved, fetched, copied or pushed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A transfer begins.
    Started {
        /// The reference as shown to people; also the key of the later events.
        reference: &'a str,
        /// Bytes in all, where known.
        total_bytes: Option<u64>,
        /// Bytes that an earlier, interrupted transfer already brought.
        resumed_at: u64,
    },
    /// Bytes arrived.
    Progress {
        /// The reference of the transfer.
        reference: &'a str,
        /// Bytes that are there now, resumed ones included.
        bytes: u64,
    },
    /// Bytes were sent. The first event of a transfer to a registry; where nothing has to be sent there is none.
    Sent {
        /// The name of the transfer.
        reference: &'a str,
        /// Bytes that the connection has taken. Goes back when an attempt starts anew.
        bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// The artifact is verified and in the cache, or the bytes are where they were to go.
    Finished {
        /// The reference of the transfer.
        reference: &'a str,
        /// Size of the artifact in bytes.
        bytes: u64,
    },
    /// A transfer that had begun failed; it may begin again.
    Failed {
        /// The reference of the transfer.
        reference: &'a str,
    },
    /// The first request waits so long, see [`DistClientBuilder::splay`](crate::dist::DistClientBuilder::splay).
    Splay {
        /// The wait.
        delay: Duration,
    },
    /// A blob that is copied or pushed is not transferred. The only event about it.
    Skipped {
        /// The name of the blob.
        reference: &'a str,
        /// Why not.
        reason: SkipReason,
    },
    /// The registry took a blob over from another of its repositories: nothing was transferred. The only event about it.
    Mounted {
        /// The name of the blob.
        reference: &'a str,
        /// The repository it was taken from, without the registry.
        from: &'a str,
    },
    /// Another process is fetching the same bytes; this one waits for it.
    Waiting {
        /// The reference of the transfer.
        reference: &'a str,
        /// Process id of the other, where it said so.
        holder: Option<u32>,
        /// For how long the wait lasts already.
        waited: Duration,
    },
    /// Something that a person should read once: a retry, a healed entry, an ignored header.
    Warning {
        /// One line, safe to print.
        message: &'a str,
    },
}

/// Why a blob is not transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The destination has it: a registry said so, or in a directory it was hashed.
    Present,
    /// The registry has a manifest that names it, and was not asked for the blob.
    ManifestPresent,
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
