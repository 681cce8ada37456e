//! Moves bytes from the network into the store: a network task, a bounded channel, one worker that hashes and writes.
//!
//! Memory is the channel's depth times the size of a network chunk, whatever the artifact's size. Cancel-safe by
//! construction: when the async side is dropped the channel closes without [`Message::End`], and the worker keeps the
//! partial file and publishes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use greentic_dist_net::{NetError, NetErrorKind};
use greentic_dist_store::{DigestLock, EntryDraft, Ingest, LockWait, Published, Store, StoreError};
use greentic_dist_types::{Digest, Verified};
use tokio::sync::mpsc;

use super::client::Inner;
use super::turns::Turn;
use super::{DistError, DistErrorKind};
use crate::blocking;
use crate::progress::Event;

/// Parcels on their way from the network to the disk, a few MiB in all.
const CHANNEL_DEPTH: usize = 4;
/// Bytes that make a parcel. Chunks of the network are smaller; every parcel wakes a thread.
const PARCEL_BYTES: usize = 1 << 20;

enum Message {
    Data(Vec<Chunk>),
    /// All bytes came; only this publishes.
    End,
    /// The bytes are wrong for certain; do not keep them for a resume.
    Discard,
}

/// Chunks until they make a parcel.
#[derive(Default)]
struct Parcel {
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Parcel {
    fn add(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        self.chunks.push(chunk);
    }

    fn take(&mut self) -> Message {
        self.bytes = 0;
        Message::Data(std::mem::take(&mut self.chunks))
    }
}

/// Bytes as they came from the network.
pub(super) struct Chunk {
    /// Where they belong; `None` behind the ones before.
    offset: Option<u64>,
    bytes: Bytes,
}

/// Where chunks come from: the body of a blob or of a URL.
pub(super) trait ChunkSource: Send {
    /// The next chunk; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Result<Chunk, NetError>>> + Send;

    /// The chunks made no proven whole. The error that names who sent them, where several may have, or what may explain it.
    fn refute(&mut self) -> Option<NetError> {
        None
    }
}

/// Whether the wire knows more about wrong bytes than that they are.
fn says_more(error: &NetError) -> bool {
    !error.endpoints().is_empty() || error.has_own_hints()
}

impl ChunkSource for greentic_dist_net::BlobPieces {
    async fn next(&mut self) -> Option<Result<Chunk, NetError>> {
        let piece = Self::next(self).await?;
        Some(piece.map(|piece| Chunk { offset: Some(piece.offset), bytes: piece.bytes }))
    }

    fn refute(&mut self) -> Option<NetError> {
        Some(Self::refute(self)).filter(says_more)
    }
}

impl ChunkSource for greentic_dist_net::UnverifiedBlobStream {
    async fn next(&mut self) -> Option<Result<Chunk, NetError>> {
        let bytes = Self::next(self).await?;
        Some(bytes.map(|bytes| Chunk { offset: None, bytes }))
    }

    fn refute(&mut self) -> Option<NetError> {
        Some(Self::refute(self)).filter(says_more)
    }
}

impl ChunkSource for greentic_dist_net::UnsizedBlobStream {
    async fn next(&mut self) -> Option<Result<Chunk, NetError>> {
        let bytes = Self::next(self).await?;
        Some(bytes.map(|bytes| Chunk { offset: None, bytes }))
    }

    fn refute(&mut self) -> Option<NetError> {
        Some(Self::refute(self)).filter(|error| !error.endpoints().is_empty())
    }
}

impl ChunkSource for greentic_dist_net::BodyStream {
    async fn next(&mut self) -> Option<Result<Chunk, NetError>> {
        let bytes = Self::next(self).await?;
        Some(bytes.map(|bytes| Chunk { offset: None, bytes }))
    }
}

/// Streams `source` into `ingest` and publishes what came, under the record that `draft` makes of the proven bytes.
///
/// # Errors
/// The network's, or the store's: whichever failed. Wrong bytes are [`DistError::CorruptArtifact`], or
/// [`DistError::Network`] of kind integrity when the wire itself broke the promise.
pub(super) async fn stream_into_store<S, D>(
    inner: &Arc<Inner>,
    shown: &str,
    mut source: S,
    mut ingest: Ingest,
    lock: Held,
    draft: D,
) -> Result<Published, DistError>
where
    S: ChunkSource,
    D: FnOnce(Verified) -> EntryDraft + Send + 'static,
{
    let Ok(_permit) = inner.transfers.acquire().await else { return Err(DistError::Cancelled) };
    let (sender, mut receiver) = mpsc::channel::<Message>(CHANNEL_DEPTH);
    let store = inner.store.clone();
    let mut bytes = ingest.offset();
    let worker = blocking::run({
        let shown = shown.to_owned();
        move || {
            let work = || -> Result<Option<Published>, StoreError> {
                while let Some(message) = receiver.blocking_recv() {
                    match message {
                        Message::Data(parcel) => write(&mut ingest, &parcel)?,
                        Message::Discard => {
                            ingest.discard();
                            return Ok(None);
                        }
                        Message::End => return publish(&store, ingest, draft).map(Some),
                    }
                }
                Ok(None)
            };
            let result = work().map_err(|error| DistError::from_store(&shown, error));
            drop(lock);
            result
        }
    });
    let pumped = async {
        let mut parcel = Parcel::default();
        let outcome = loop {
            let mut next = std::pin::pin!(source.next());
            let ready = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
            let came = match ready {
                Poll::Ready(came) => came,
                // Nothing more right now: what is there goes on its way, so that a stall or a kill loses none of it.
                Poll::Pending => {
                    if parcel.bytes > 0 && sender.send(parcel.take()).await.is_err() {
                        return Ok(());
                    }
                    next.await
                }
            };
            match came {
                Some(Ok(chunk)) => {
                    bytes += chunk.bytes.len() as u64;
                    parcel.add(chunk);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
            if parcel.bytes >= PARCEL_BYTES && sender.send(parcel.take()).await.is_err() {
                return Ok(());
            }
            inner.reporter.event(&Event::Progress { reference: shown, bytes });
        };
        // What came before a cut is worth keeping, too.
        drop(sender.send(parcel.take()).await);
        outcome
    }
    .await;
    // A closed channel means that the worker failed; its own error says why.
    let last = match &pumped {
        Ok(()) => Some(Message::End),
        Err(error) if error.kind() == NetErrorKind::Integrity => Some(Message::Discard),
        Err(_) => None,
    };
    if let Some(message) = last {
        let _closed = sender.send(message).await;
    }
    drop(sender);
    let published = worker.await.map_err(|error| name_liars(shown, &mut source, error))?;
    pumped.map_err(|error| DistError::from_net(shown, error))?;
    published.ok_or(DistError::Cancelled)
}

fn write(ingest: &mut Ingest, parcel: &[Chunk]) -> Result<(), StoreError> {
    for Chunk { offset, bytes } in parcel {
        match offset {
            Some(offset) => ingest.write_shared_at(*offset, bytes)?,
            None => ingest.write_shared(bytes)?,
        }
    }
    Ok(())
}

/// Tells the source of wrong bytes, so that nobody asks mirrors that sent some, and names those in the error.
fn name_liars(shown: &str, source: &mut impl ChunkSource, error: DistError) -> DistError {
    if error.kind() != DistErrorKind::Integrity {
        return error;
    }
    match source.refute() {
        Some(refuted) => DistError::from_net(shown, refuted.with_source(error)),
        None => error,
    }
}

fn publish<D>(store: &Store, ingest: Ingest, draft: D) -> Result<Published, StoreError>
where
    D: FnOnce(Verified) -> EntryDraft,
{
    let blob = ingest.finish()?;
    let draft = draft(blob.verified());
    store.publish(blob.stage(draft)?)
}

/// Takes the lock of some bytes (or, where no digest is known yet, of the digest of their name), waiting for whoever has it.
///
/// Cancel-safe: dropping the future ends the wait within 100 ms, and a lock taken in that moment is let go.
///
/// # Errors
/// The store's, of kind locked when the wait exceeds the store's lock timeout.
pub(super) async fn lock(inner: &Arc<Inner>, shown: &str, digest: Digest) -> Result<Held, DistError> {
    lock_then(inner, shown, digest, Ok).await
}

/// As [`lock`], and goes on with `then` at once, on the blocking thread it is on: a step on another thread costs more than a
/// look into the cache. Once it began, `then` is not cancelled with the future.
///
/// # Errors
/// As [`lock`], and those of `then`.
pub(super) async fn lock_then<T, F>(inner: &Arc<Inner>, shown: &str, digest: Digest, then: F) -> Result<T, DistError>
where
    T: Send + 'static,
    F: FnOnce(Held) -> Result<T, DistError> + Send + 'static,
{
    let turn = inner.turns.take(digest).await;
    let gone = Gone(Arc::new(AtomicBool::new(false)));
    let (inner, shown, stop) = (Arc::clone(inner), shown.to_owned(), Arc::clone(&gone.0));
    let done = blocking::run(move || {
        // The common case: nobody else is at it.
        if let Some(lock) = inner.store.try_lock(&digest).map_err(|error| DistError::from_store(&shown, error))? {
            return then(Held { lock, _turn: turn });
        }
        let mut said = false;
        let mut on_wait = |wait: &LockWait| {
            if !said {
                said = true;
                let holder = wait.holder.as_ref().map(|holder| holder.pid);
                inner.reporter.event(&Event::Waiting { reference: &shown, holder, waited: wait.waited });
            }
        };
        let lock = inner
            .store
            .lock_unless(&digest, &mut on_wait, &|| stop.load(Ordering::Relaxed))
            .map_err(|error| DistError::from_store(&shown, error))?;
        then(Held { lock, _turn: turn })
    })
    .await;
    drop(gone);
    done
}

/// A lock among processes, and the turn among the tasks of this client that led to it.
pub(super) struct Held {
    lock: DigestLock,
    // After the lock: the next task finds it free.
    _turn: Turn,
}

impl Held {
    pub(super) const fn lock(&self) -> &DigestLock {
        &self.lock
    }
}

/// Tells a blocking wait that nobody waits for its outcome any more.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
