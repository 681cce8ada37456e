//! Blobs: content named by its digest, proven while it flows.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_types::{Descriptor, Digest, Mismatch, Verifier};

use super::blob_event::{BlobEvent, Telling, Watcher};
use super::blob_line::Line;
use crate::body::{InOrder, Piece, Pieces, Start, Transfer};
use crate::exchange::{Ask, Shared};
use crate::{Limit, NetError, NetErrorKind};

/// A blob about to be fetched; made by [`Repository::blob`](super::Repository::blob).
#[derive(Clone, Debug)]
#[must_use]
pub struct BlobRequest {
    pub(super) transport: Shared,
    pub(super) ask: Ask,
    digest: Digest,
    pub(super) size_bytes: u64,
    pub(super) offset: u64,
    max_bytes: Option<u64>,
    /// Bytes that may wait in memory for their turn.
    ahead: u64,
    /// The proven content, where its descriptor carries it.
    pub(super) inline: Option<Bytes>,
}

/// A blob on its way, over as many connections as it takes, hashed while it flows.
///
/// A cut, reset or stalled body is continued with `Range` at the right byte; a server without ranges is read again from
/// the start and what was handed out is thrown away. The size is exact: not a byte beyond it is taken. The last piece is
/// handed out only when size and digest are proven, so that nobody can read to the end of wrong bytes.
#[derive(Debug)]
pub struct BlobStream {
    inner: UnverifiedBlobStream,
    /// Until all bytes are proven, or something failed.
    verifier: Option<Verifier>,
    /// What ended it, if not the proof.
    failure: Option<NetError>,
}

/// A blob on its way whose size is exact and whose bytes may be anything.
///
/// Everything [`BlobStream`] does but the hash: for a consumer that hashes itself before it publishes anything.
#[derive(Debug)]
pub struct UnverifiedBlobStream {
    line: Line,
    digest: Digest,
    size_bytes: u64,
    telling: Telling,
}

/// A blob on its way in pieces that say where they belong, over as many connections at a time as make it faster.
///
/// The bytes are exact in number and each comes once; they may be anything until the consumer has hashed them.
#[derive(Debug)]
pub struct BlobPieces {
    way: Way,
    digest: Digest,
    size_bytes: u64,
    /// Bytes that are there.
    bytes: u64,
    telling: Telling,
}

#[derive(Debug)]
enum Way {
    One(Box<Transfer>),
    Several(Box<Pieces>),
}

impl BlobRequest {
    pub(crate) fn new(transport: Shared, ask: Ask, descriptor: &Descriptor) -> Self {
        let Descriptor { digest, size_bytes, ref data, .. } = *descriptor;
        let inline = data.as_deref().map(Bytes::copy_from_slice);
        let inline = inline.filter(|data| {
            u64::try_from(data.len()) == Ok(size_bytes) && Digest::of(digest.algorithm(), data) == digest
        });
        Self { transport, ask, digest, size_bytes, offset: 0, max_bytes: None, ahead: 0, inline }
    }

    /// Starts at this byte: the ones before are already there. Only for [`BlobRequest::open_unverified`].
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Refuses a blob of more bytes than this, before anything is sent. Default: what
    /// [`Limits::blob_bytes`](crate::Limits::blob_bytes) says, which holds beside it.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How many bytes may wait in memory for their turn, for [`BlobRequest::open`] and [`BlobRequest::open_unverified`], and for
    /// [`BlobRequest::bytes`] and [`BlobRequest::to_writer`], which read so: a large blob whose server has ranges may then come over
    /// several connections, see [`RangePolicy`](crate::RangePolicy), in segments of at most an eighth of it. Default 0: over one, as
    /// with less than a quarter of [`segment_bytes`](crate::RangePolicy::segment_bytes), 2 MiB by default.
    /// [`BlobRequest::open_pieces_unverified`] holds nothing back and needs none.
    pub const fn read_ahead(mut self, bytes: u64) -> Self {
        self.ahead = bytes;
        self
    }

    /// Who is told what happens to this blob. Called on the async threads: must not block. [`BlobEvent::Bytes`] comes for each
    /// piece of the network. A stream that is hashed by its consumer tells how it ends when the consumer says so
    /// ([`UnverifiedBlobStream::confirm`], `refute`, `abandon`); of one that is dropped no end is told.
    pub fn progress(mut self, watcher: impl Fn(&BlobEvent<'_>) + Send + Sync + 'static) -> Self {
        self.ask.watcher = Some(Watcher::new(watcher));
        self
    }

    /// Takes note that the request is not made, since its consumer could not take a byte: what asked for
    /// [progress](BlobRequest::progress) is told [`BlobEvent::Failed`], an error of kind `Output` with this cause.
    pub fn abandon(&self, cause: impl Error + Send + Sync + 'static) {
        self.ask.tell(&BlobEvent::Failed { error: &not_taken(cause) });
    }

    /// The digest the blob is named by.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the whole blob in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The largest blob, in bytes, that whoever writes one to a disk is to take: what [`BlobRequest::max_bytes`] said, else
    /// [`Limits::artifact_bytes`](crate::Limits::artifact_bytes) of the client. The latter is not held by the request itself.
    pub fn most_bytes(&self) -> u64 {
        self.max_bytes.unwrap_or_else(|| self.transport.limits.get(Limit::ArtifactBytes))
    }

    /// The blob as messages name it: `registry/repository@digest`.
    pub fn name(&self) -> String {
        let access = self.ask.registry();
        let place = access.map(|access| format!("{}/{}", access.registry.reference_name(), access.repository));
        format!("{}@{}", place.unwrap_or_default(), self.digest)
    }

    /// Opens the blob as a stream that is hashed while it flows.
    ///
    /// Cancel-safe: dropping the future gives up the request.
    ///
    /// # Errors
    /// `InvalidInput` with an offset, since bytes that are not seen cannot be proven; `TooLarge` for a blob over
    /// [`max_bytes`](BlobRequest::max_bytes), before anything is sent; `Integrity` when the announced size is
    /// another; otherwise by cause.
    pub async fn open(self) -> Result<BlobStream, NetError> {
        if self.offset > 0 {
            let detail = "a blob cannot be verified from its middle";
            return Err(NetError::new(NetErrorKind::InvalidInput, detail));
        }
        let verifier = Verifier::for_content(self.digest, self.size_bytes);
        Ok(BlobStream { inner: self.open_unverified().await?, verifier: Some(verifier), failure: None })
    }

    /// Opens the blob without hashing it.
    ///
    /// With an offset equal to the size no request is made and the stream is at its end.
    ///
    /// # Errors
    /// `InvalidInput` for an offset beyond the size; otherwise as [`BlobRequest::open`].
    pub async fn open_unverified(self) -> Result<UnverifiedBlobStream, NetError> {
        let transfer = Box::new(self.transfer().await?);
        let Self { transport, ask, digest, size_bytes, offset, ahead, .. } = self;
        let split = match ahead {
            ahead if ahead < transport.ranges.least_ahead() => Err(transfer),
            ahead => Pieces::new(&transport, &ask, transfer, size_bytes, Some(ahead)),
        };
        let line = match split {
            Ok(pieces) => Line::Several(Box::new(InOrder::new(pieces, offset))),
            Err(transfer) => Line::One(transfer),
        };
        Ok(UnverifiedBlobStream { line, digest, size_bytes, telling: Telling::to(ask.watcher.as_ref()) })
    }

    /// Opens the blob without hashing it, for a consumer that takes its pieces in any order.
    ///
    /// The first request is the same as that of [`BlobRequest::open_unverified`]. A large blob whose server has ranges may then
    /// come over several connections, see [`RangePolicy`](crate::RangePolicy).
    ///
    /// # Errors
    /// As [`BlobRequest::open_unverified`].
    pub async fn open_pieces_unverified(self) -> Result<BlobPieces, NetError> {
        let transfer = Box::new(self.transfer().await?);
        let Self { transport, ask, digest, size_bytes, offset, .. } = self;
        let telling = Telling::to(ask.watcher.as_ref());
        let way = match Pieces::new(&transport, &ask, transfer, size_bytes, None) {
            Ok(pieces) => Way::Several(Box::new(pieces)),
            Err(transfer) => Way::One(transfer),
        };
        Ok(BlobPieces { way, digest, size_bytes, bytes: offset, telling })
    }

    pub(super) async fn transfer(&self) -> Result<Transfer, NetError> {
        let opened = self.begin().await;
        self.ask.tell(&match &opened {
            Ok(_) => BlobEvent::Started { offset: self.offset, size_bytes: self.size_bytes },
            Err(error) => BlobEvent::Failed { error },
        });
        opened
    }

    /// Refuses a blob that has more bytes than the caller takes.
    pub(super) fn check_size(&self) -> Result<(), NetError> {
        let limits = &self.transport.limits;
        let error = match self.max_bytes {
            Some(limit) if self.size_bytes > limit => NetError::integrity(Mismatch::TooLarge { limit }),
            _ if self.size_bytes > limits.blob_bytes => limits.exceeded(Limit::BlobBytes),
            _ => return Ok(()),
        };
        Err(self.ask.about(error))
    }

    async fn begin(&self) -> Result<Transfer, NetError> {
        let (offset, size) = (self.offset, self.size_bytes);
        self.check_size()?;
        if offset > size {
            let detail = format!("the offset {offset} is beyond the blob's {size} bytes");
            return Err(NetError::new(NetErrorKind::InvalidInput, detail));
        }
        if let Some(inline) = &self.inline {
            let from = inline.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(inline.len())..);
            return Transfer::at_hand(Arc::clone(&self.transport), self.ask.clone(), offset, from);
        }
        let start = Start { offset, size: Some(size), limit: size, content_addressed: true, range_end: None };
        Transfer::open(Arc::clone(&self.transport), self.ask.clone(), start).await
    }
}

impl BlobPieces {
    /// The next piece as it came from a socket; `None` when exactly the blob's size has come.
    ///
    /// After an error the stream is over. Cancel-safe: no byte is lost. Nothing is sent or received but in here.
    ///
    /// # Errors
    /// `Integrity` for missing and excess bytes; `Timeout`, `Interrupted` and the errors of a new request when the body could
    /// not be continued over its first connection. A failure of another one is none.
    pub async fn next(&mut self) -> Option<Result<Piece, NetError>> {
        let next = match &mut self.way {
            Way::One(transfer) => {
                let offset = transfer.offset();
                let piece = transfer.next().await?;
                Some(piece.map(|bytes| Piece { offset, bytes }))
            }
            Way::Several(pieces) => pieces.next().await,
        };
        match &next {
            Some(Ok(piece)) => {
                self.bytes = self.bytes.saturating_add(u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX));
                self.telling.bytes(self.bytes);
            }
            Some(Err(error)) => self.telling.failed(error),
            None => {}
        }
        next
    }

    /// Takes note that all bytes are those of the digest: what asked for [progress](BlobRequest::progress) is told.
    pub fn confirm(&self) {
        self.telling.done();
    }

    /// Takes note that the bytes are not those of the digest, as [`UnverifiedBlobStream::refute`] does.
    pub fn refute(&self) -> NetError {
        let error = self.doubt();
        self.telling.failed(&error);
        error
    }

    /// As [`BlobPieces::refute`], for a consumer that asks once more: nobody is told that it failed.
    pub fn doubt(&self) -> NetError {
        match &self.way {
            Way::One(transfer) => transfer.refute(transfer.about(not_the_blob())),
            Way::Several(pieces) => pieces.refute(not_the_blob()),
        }
    }

    /// Writes down who was found to lie, where the client has an [`EndpointMemory`](crate::EndpointMemory): after
    /// [`BlobPieces::refute`], when nothing else is asked. Cancel-safe.
    pub async fn write_down(&mut self) {
        let transport = match &self.way {
            Way::One(transfer) => &transfer.transport,
            Way::Several(pieces) => pieces.transport(),
        };
        transport.liars.write_down().await;
    }

    /// How many connections were asked for it at a time, at most.
    pub const fn connections(&self) -> usize {
        match &self.way {
            Way::One(_) => 1,
            Way::Several(pieces) => pieces.connections(),
        }
    }

    /// Takes note that the consumer failed, as [`UnverifiedBlobStream::abandon`] does.
    pub fn abandon(&self, cause: impl Error + Send + Sync + 'static) {
        self.telling.failed(&not_taken(cause));
    }

    /// The digest the bytes must have, and nobody has proven.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the whole blob in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

pub(super) fn not_the_blob() -> NetError {
    NetError::new(NetErrorKind::Integrity, "the blob is not the one its digest names")
}

pub(super) fn not_taken(cause: impl Error + Send + Sync + 'static) -> NetError {
    NetError::new(NetErrorKind::Output, "").with_source(cause)
}

impl BlobStream {
    /// The next piece as it came from the socket; `None` at the proven end.
    ///
    /// After an error nothing it handed out may be used, and every further call returns that error again. Cancel-safe: neither a byte
    /// nor an error is lost.
    ///
    /// # Errors
    /// `Integrity` for wrong, missing and excess bytes; `Timeout`, `Interrupted` and the errors of a new request when the
    /// body could not be continued.
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        if self.failure.is_none() {
            let next = self.proven().await;
            let telling = &self.inner.telling;
            match next {
                Some(Ok(piece)) => {
                    // Nothing is left to be hashed.
                    if self.verifier.is_none() {
                        telling.verified();
                    }
                    return Some(Ok(piece));
                }
                None => {
                    telling.done();
                    return None;
                }
                // Kept before anything is waited for: whoever drops this future is told the next time.
                Some(Err(error)) => {
                    telling.failed(&error);
                    self.verifier = None;
                    self.failure = Some(error);
                }
            }
        }
        self.inner.line.write_down().await;
        self.failure.clone().map(Err)
    }

    async fn proven(&mut self) -> Option<Result<Bytes, NetError>> {
        let piece = match self.inner.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Some(Err(error)),
            // An empty blob ends without a last piece; of any other the proof was made with its last piece.
            None => {
                let wrong = self.verifier.take().and_then(|verifier| verifier.finish().err());
                return wrong.map(|wrong| self.refuse(wrong));
            }
        };
        let Some(mut verifier) = self.verifier.take() else {
            return Some(Err(NetError::new(NetErrorKind::Integrity, "the blob goes on behind its proven end")));
        };
        if let Err(wrong) = verifier.update(&piece) {
            return Some(self.refuse(wrong));
        }
        if verifier.seen() < self.inner.size_bytes {
            self.verifier = Some(verifier);
        } else if let Err(wrong) = verifier.finish() {
            return Some(self.refuse(wrong));
        }
        Some(Ok(piece))
    }

    fn refuse(&self, mismatch: Mismatch) -> Result<Bytes, NetError> {
        Err(self.inner.line.refute(NetError::integrity(mismatch)))
    }

    /// Tells of a consumer that failed.
    pub(super) fn abandon(&self, error: &NetError) {
        self.inner.telling.failed(error);
    }

    /// The same stream without the hash from here on.
    pub fn into_unverified(self) -> UnverifiedBlobStream {
        self.inner
    }

    /// The digest the blob is named by.
    pub const fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The size of the whole blob in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.inner.size_bytes
    }

    /// The position of the next byte handed out.
    pub fn offset(&self) -> u64 {
        self.inner.offset()
    }
}

impl UnverifiedBlobStream {
    /// The next piece as it came from the socket; `None` when exactly the blob's size has come.
    ///
    /// After an error the stream is over. Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// `Integrity` for missing and excess bytes; `Timeout`, `Interrupted` and the errors of a new request when the body could
    /// not be continued.
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        let next = self.line.next().await;
        match &next {
            Some(Ok(_)) => self.telling.bytes(self.offset()),
            Some(Err(error)) => self.telling.failed(error),
            None => {}
        }
        next
    }

    /// Takes note that all bytes are those of the digest: what asked for [progress](BlobRequest::progress) is told.
    pub fn confirm(&self) {
        self.telling.done();
    }

    /// Takes note that the bytes are not those of the digest: mirrors that sent some of them are not asked for 10 minutes, by
    /// no client of this process. Returns the error that says so.
    ///
    /// Of a stream that began in the middle nobody is blamed: what was there before may be wrong.
    pub fn refute(&self) -> NetError {
        let error = self.line.refute(not_the_blob());
        self.telling.failed(&error);
        error
    }

    /// Writes down who was found to lie, as [`BlobPieces::write_down`] does.
    pub async fn write_down(&mut self) {
        self.line.write_down().await;
    }

    /// Takes note that the consumer failed, whatever the bytes are: what asked for [progress](BlobRequest::progress) is told
    /// [`BlobEvent::Failed`], an error of kind `Output` with this cause. After an end that was told it does nothing.
    pub fn abandon(&self, cause: impl Error + Send + Sync + 'static) {
        self.telling.failed(&not_taken(cause));
    }

    /// The digest the bytes must have, and nobody has proven.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the whole blob in bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The position of the next byte handed out.
    pub fn offset(&self) -> u64 {
        self.line.offset()
    }
}
