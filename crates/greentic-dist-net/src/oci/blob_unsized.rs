//! A blob of which only the digest is known: no manifest told its size.

use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_types::{Descriptor, Digest, media_type};

use super::blob::not_the_blob;
use super::repository::Repository;
use crate::NetError;
use crate::body::{Start, Transfer};

/// A blob on its way whose size is the server's word, where it gave one, and whose bytes may be anything.
///
/// A cut, reset or stalled body is continued with `Range`, as that of every blob. For a consumer that hashes itself before it
/// publishes anything.
#[derive(Debug)]
pub struct UnsizedBlobStream {
    transfer: Box<Transfer>,
    digest: Digest,
}

impl Repository {
    /// Opens the blob of a digest, at most `max_bytes` of it, and returns at the end of the answer's header.
    ///
    /// One request. Where a manifest names the blob, [`Repository::blob`] with its descriptor is the better question: the size
    /// is then known beforehand. Cancel-safe: dropping the future gives up the request.
    ///
    /// # Errors
    /// `NotFound` when the repository has no such blob; `TooLarge` when the announced size is over `max_bytes`; otherwise by
    /// cause.
    pub async fn open_unsized_unverified(&self, digest: Digest, max_bytes: u64) -> Result<UnsizedBlobStream, NetError> {
        let request = self.blob(&Descriptor::new(media_type::OCTET_STREAM, digest, 0));
        let limits = self.transport().limits;
        let limit = max_bytes.min(limits.blob_bytes);
        let start = Start { offset: 0, size: None, limit, content_addressed: true, range_end: None };
        let transfer = Transfer::open(Arc::clone(&request.transport), request.ask, start).await?;
        Ok(UnsizedBlobStream { transfer: Box::new(transfer), digest })
    }
}

impl UnsizedBlobStream {
    /// The next piece as it came from the socket; `None` at the end, which is exactly the announced size where there is one.
    ///
    /// After an error the stream is over. Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// `TooLarge`; `Integrity` for bytes beyond the announced size; `Timeout`, `Interrupted` and the errors of a new request
    /// when the body could not be continued.
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        self.transfer.next().await
    }

    /// Takes note that the bytes are not those of the digest, as
    /// [`UnverifiedBlobStream::refute`](super::UnverifiedBlobStream::refute) does.
    pub fn refute(&self) -> NetError {
        self.transfer.refute(self.transfer.about(not_the_blob()))
    }

    /// The digest the bytes must have, and nobody has proven.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The announced size in bytes. A server may announce none, or a wrong one.
    pub const fn size_bytes(&self) -> Option<u64> {
        self.transfer.size()
    }
}
