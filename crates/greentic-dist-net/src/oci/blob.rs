//! Blobs: content named by its digest, proven while it flows.

use bytes::Bytes;
use greentic_dist_types::{Digest, Verifier};

use crate::body::{Start, Transfer};
use crate::exchange::{Ask, Shared};
use crate::{NetError, NetErrorKind};

/// A blob about to be fetched; made by [`Repository::blob`](super::Repository::blob).
#[derive(Clone, Debug)]
#[must_use]
pub struct BlobRequest {
    transport: Shared,
    ask: Ask,
    digest: Digest,
    size_bytes: u64,
    offset: u64,
}

/// A blob on its way, over as many connections as it takes.
///
/// A cut, reset or stalled body is continued with `Range` at the right byte; a server without ranges is read again from
/// the start and what was handed out is thrown away. The size is exact: not a byte beyond it is taken. The last piece is
/// handed out only when the size, and unless the stream is unverified the digest, are proven.
#[derive(Debug)]
pub struct BlobStream {
    transfer: Box<Transfer>,
    digest: Digest,
    size_bytes: u64,
    verifier: Option<Verifier>,
    seen: u64,
}

impl BlobRequest {
    pub(crate) fn new(transport: Shared, ask: Ask, digest: Digest, size_bytes: u64) -> Self {
        Self { transport, ask, digest, size_bytes, offset: 0 }
    }

    /// Starts at this byte: the ones before are already there. Only for [`BlobRequest::open_unverified`].
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Opens the blob as a stream that is hashed while it flows.
    ///
    /// Cancel-safe: dropping the future gives up the request.
    ///
    /// # Errors
    /// `InvalidInput` with an offset, since bytes that are not seen cannot be proven; `Integrity` when the announced size is
    /// another; otherwise by cause.
    pub async fn open(self) -> Result<BlobStream, NetError> {
        if self.offset > 0 {
            let detail = "a blob cannot be verified from its middle";
            return Err(NetError::new(NetErrorKind::InvalidInput, detail));
        }
        let verifier = Verifier::for_content(self.digest, self.size_bytes);
        let mut stream = self.open_unverified().await?;
        stream.verifier = Some(verifier);
        Ok(stream)
    }

    /// Opens the blob without hashing it: the size is exact, the bytes may be anything. For a consumer that hashes itself,
    /// before it hands out or publishes anything.
    ///
    /// With an offset equal to the size no request is made and the stream is at its end.
    ///
    /// # Errors
    /// `InvalidInput` for an offset beyond the size; otherwise as [`BlobRequest::open`].
    pub async fn open_unverified(self) -> Result<BlobStream, NetError> {
        let Self { transport, ask, digest, size_bytes, offset } = self;
        if offset > size_bytes {
            let detail = format!("the offset {offset} is beyond the blob's {size_bytes} bytes");
            return Err(NetError::new(NetErrorKind::InvalidInput, detail));
        }
        let start = Start { offset, size: Some(size_bytes), limit: size_bytes, content_addressed: true };
        let transfer = Transfer::open(transport, ask, start).await?;
        Ok(BlobStream { transfer: Box::new(transfer), digest, size_bytes, verifier: None, seen: offset })
    }
}

impl BlobStream {
    /// The next piece as it came from the socket; `None` at the proven end.
    ///
    /// After an error the stream is over, and nothing it handed out may be used. Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// `Integrity` for wrong, missing and excess bytes; `Timeout`, `Interrupted` and the errors of a new request when the
    /// body could not be continued.
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        let piece = match self.transfer.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => {
                self.verifier = None;
                return Some(Err(error));
            }
            None => {
                // Only an empty blob ends without a last piece.
                let verifier = self.verifier.take_if(|_| self.size_bytes == 0)?;
                return verifier.finish().err().map(|mismatch| Err(NetError::integrity(mismatch)));
            }
        };
        self.seen = self.seen.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let Some(verifier) = &mut self.verifier else { return Some(Ok(piece)) };
        if let Err(mismatch) = verifier.update(&piece) {
            self.verifier = None;
            return Some(Err(NetError::integrity(mismatch)));
        }
        if self.seen == self.size_bytes
            && let Some(Err(mismatch)) = self.verifier.take().map(Verifier::finish)
        {
            return Some(Err(NetError::integrity(mismatch)));
        }
        Some(Ok(piece))
    }

    /// The same stream without the hash from here on; see [`BlobRequest::open_unverified`].
    #[must_use]
    pub fn into_unverified(mut self) -> Self {
        self.verifier = None;
        self
    }

    /// The digest the blob is named by.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the whole blob in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The position of the next byte handed out.
    pub const fn offset(&self) -> u64 {
        self.seen
    }
}
