//! A part of a blob, for a caller that reads here and there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blob::BlobRequest;
use crate::body::{Start, Transfer};
use crate::{NetError, NetErrorKind};

/// A part of a blob on its way. Its bytes are exact in number and may be anything: a part cannot be proven by the digest of the
/// whole.
#[derive(Debug)]
pub struct BlobRange {
    transfer: Option<Box<Transfer>>,
    left: u64,
}

impl BlobRequest {
    /// Opens the bytes of `range` alone, without hashing them. [`BlobRequest::from_offset`] does not count here.
    ///
    /// One request with `Range`, none for an empty range; one more where the server refuses ranges or sends another one: the
    /// blob is then read from where its bytes begin, and given up where they end. A server that was seen to send whole blobs is asked for
    /// no other range by this client. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidInput` for a range that goes beyond the blob; `TooLarge` for a blob over [`max_bytes`](BlobRequest::max_bytes);
    /// otherwise by cause.
    pub async fn open_range(self, range: Range<u64>) -> Result<BlobRange, NetError> {
        let size = self.size_bytes;
        self.check_size()?;
        let left = range.end.checked_sub(range.start).filter(|_| range.end <= size).ok_or_else(|| {
            let detail = format!("{}..{} is no part of the blob's {size} bytes", range.start, range.end);
            NetError::new(NetErrorKind::InvalidInput, detail)
        })?;
        if left == 0 {
            return Ok(BlobRange { transfer: None, left });
        }
        let from = self.from_offset(range.start);
        let comes_whole = left == size || from.inline.is_some() || from.host_has_no_ranges();
        let transfer = if comes_whole {
            from.transfer().await?
        } else {
            let (offset, limit) = (range.start, size);
            let start = Start { offset, size: Some(size), limit, content_addressed: true, range_end: Some(range.end) };
            match Transfer::open(Arc::clone(&from.transport), from.ask.clone(), start).await {
                Ok(transfer) => transfer,
                Err(error) if error.kind() == NetErrorKind::Protocol || error.status() == Some(416) => {
                    from.transfer().await?
                }
                Err(error) => return Err(error),
            }
        };
        Ok(BlobRange { transfer: Some(Box::new(transfer)), left })
    }
}

impl BlobRequest {
    /// Whether the server is known to send whole blobs whatever part it is asked for.
    fn host_has_no_ranges(&self) -> bool {
        self.ask.url().is_ok_and(|url| self.transport.hosts.of(&url).has_no_ranges())
    }
}

impl BlobRange {
    /// The next piece; `None` when all bytes of the range have come.
    ///
    /// After an error the stream is over. Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// As [`UnverifiedBlobStream::next`](super::UnverifiedBlobStream::next).
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        let mut piece = match self.transfer.as_mut()?.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => {
                self.transfer = None;
                return Some(Err(error));
            }
            None => {
                self.transfer = None;
                return None;
            }
        };
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left = self.left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.left == 0 {
            self.transfer = None;
        }
        Some(Ok(piece))
    }

    /// Bytes of the range that are still to come.
    pub const fn remaining(&self) -> u64 {
        self.left
    }
}
