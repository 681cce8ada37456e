//! A whole blob: in memory, or in a writer of the caller.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use greentic_dist_types::Mismatch;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::auth::Action;
use super::blob::{BlobRequest, not_taken};
use super::blob_event::{BlobEvent, Telling};
use crate::NetError;
use crate::exchange::Target;
use crate::transport::BlobQuestion;

/// Most bytes reserved before they have come.
const RESERVED_BYTES: u64 = 8 << 20;

impl BlobRequest {
    /// The whole blob in memory, proven, when it has at most `limit` bytes.
    ///
    /// One request, more after a cut. It is shared with everybody who asks this client for the same bytes at the same time, and so are
    /// the bytes and a failure; nothing is kept beyond that. Streams and writers are each their own request. Who shares the request of
    /// another is told of [progress](BlobRequest::progress) when all bytes are there.
    ///
    /// Cancel-safe: when the future that reads for others is dropped, one of them reads from the start. One that is neither polled nor
    /// dropped holds them up.
    ///
    /// # Errors
    /// `TooLarge` for a larger one, before anything is sent; otherwise as [`BlobRequest::open`] and
    /// [`BlobStream::next`](super::BlobStream::next).
    pub async fn bytes(self, limit: u64) -> Result<Bytes, NetError> {
        let asked = if self.size_bytes > limit {
            Err(NetError::integrity(Mismatch::TooLarge { limit }))
        } else {
            self.check_size().and_then(|()| self.question())
        };
        let asked = asked.inspect_err(|error| self.ask.tell(&BlobEvent::Failed { error }))?;
        let Some(question) = asked else { return self.read_whole().await };
        let reads = AtomicBool::new(false);
        let read = Box::pin(async {
            reads.store(true, Ordering::Relaxed);
            self.read_whole().await
        });
        let shared = self.transport.within(self.transport.blobs.join(&question, read)).await;
        if !reads.into_inner() {
            self.tell_shared(&shared);
        }
        shared
    }

    async fn read_whole(&self) -> Result<Bytes, NetError> {
        let mut all = BytesMut::with_capacity(usize::try_from(self.size_bytes.min(RESERVED_BYTES)).unwrap_or_default());
        let mut stream = self.clone().open().await?;
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }

    /// What is asked; `None` for what nobody else may answer, or nobody has to.
    fn question(&self) -> Result<Option<BlobQuestion>, NetError> {
        let Target::Registry(access, path) = &self.ask.target else { return Ok(None) };
        // Whoever is about to write asks for itself.
        if access.action != Action::Pull || self.inline.is_some() || self.offset > 0 {
            return Ok(None);
        }
        let url = access.registry.known_answering(&access.repository, &access.action).url(path)?.to_string();
        let (registry, size_bytes) = (access.registry.reference_name().to_owned(), self.size_bytes);
        Ok(Some(BlobQuestion { registry, url, size_bytes, writes: self.transport.writes.load(Ordering::Relaxed) }))
    }

    /// Tells of a blob that somebody else has read.
    fn tell_shared(&self, shared: &Result<Bytes, NetError>) {
        let telling = Telling::to(self.ask.watcher.as_ref());
        match shared {
            Ok(_) => {
                self.ask.tell(&BlobEvent::Started { offset: 0, size_bytes: self.size_bytes });
                telling.bytes(self.size_bytes);
                telling.done();
            }
            Err(error) => telling.failed(error),
        }
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
