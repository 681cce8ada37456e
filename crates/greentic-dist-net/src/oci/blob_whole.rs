//! A whole blob: in memory, or in a writer of the caller.

use bytes::{Bytes, BytesMut};
use greentic_dist_types::Mismatch;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::blob::{BlobRequest, not_taken};
use crate::NetError;

/// Most bytes reserved before they have come.
const RESERVED_BYTES: u64 = 8 << 20;

impl BlobRequest {
    /// The whole blob in memory, proven, when it has at most `limit` bytes.
    ///
    /// One request, more after a cut. Cancel-safe.
    ///
    /// # Errors
    /// `TooLarge` for a larger one, before anything is sent; otherwise as [`BlobRequest::open`] and
    /// [`BlobStream::next`](super::BlobStream::next).
    pub async fn bytes(self, limit: u64) -> Result<Bytes, NetError> {
        if self.size_bytes > limit {
            return Err(NetError::integrity(Mismatch::TooLarge { limit }));
        }
        let mut all = BytesMut::with_capacity(usize::try_from(self.size_bytes.min(RESERVED_BYTES)).unwrap_or_default());
        let mut stream = self.open().await?;
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }

    /// Writes the whole blob into `writer`, flushes it, and returns the size in bytes.
    ///
    /// What was written is proven when this returns `Ok`; after an error, what the writer has may not be used. The last piece is
    /// written only when size and digest are proven. One request, more after a cut. Dropping the future leaves a part in the
    /// writer.
    ///
    /// # Errors
    /// `Output` when the writer fails; otherwise as [`BlobRequest::open`] and [`BlobStream::next`](super::BlobStream::next).
    pub async fn to_writer(self, mut writer: impl AsyncWrite + Unpin + Send) -> Result<u64, NetError> {
        let mut stream = self.open().await?;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let mut written = writer.write_all(&piece).await;
            // Before the end is asked for: who listens is then told that the writer has everything.
            if written.is_ok() && stream.offset() == stream.size_bytes() {
                written = writer.flush().await;
            }
            if let Err(error) = written {
                let error = not_taken(error);
                stream.abandon(&error);
                return Err(error);
            }
        }
        Ok(stream.size_bytes())
    }
}
