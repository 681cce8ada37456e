//! What a request carries: nothing, bytes, or a part of a blob's source that is opened anew for every attempt.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use greentic_dist_types::Mismatch;
use http::Method;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::NetError;
use crate::config::Timeouts;
use crate::oci::{BlobRead, BlobSource, BoxFuture, SourceError, unreadable};
use crate::stats::Tally;

/// Most bytes handed to a connection at a time.
const FRAME_BYTES: usize = 256 << 10;

/// Told how far into its blob a push has come: the position, in bytes, up to which the connection has taken it. Goes back
/// when an attempt starts anew.
pub(crate) type OnSent = Arc<dyn Fn(u64) + Send + Sync>;

/// The body of a request. `Debug` shows no bytes: they may be a login on its way to a token server.
#[derive(Clone)]
pub(crate) enum Payload {
    /// These bytes. None of them is no body; methods that usually have one then say `Content-Length: 0`.
    Bytes(Bytes),
    /// A part of a blob.
    Part(Part),
}

/// A part of a blob's source.
#[derive(Clone)]
pub(crate) struct Part {
    source: Arc<dyn BlobSource>,
    first: u64,
    len: u64,
    on_sent: Option<OnSent>,
    opened: Arc<AtomicBool>,
}

/// The opened body of one attempt.
pub(crate) enum Opened {
    Bytes(Bytes),
    Feed(Feed, Arc<Watch>),
}

/// Reads a source while the connection takes its bytes.
pub(crate) struct Feed {
    // A body must be `Sync`, readers are not: nobody ever waits for this lock.
    state: Mutex<State>,
    /// Read from the source and not handed out yet.
    rest: Bytes,
    /// Bytes of the part that are not handed out yet, those of `rest` included.
    left: u64,
    len: u64,
    position: u64,
    on_sent: Option<OnSent>,
    watch: Arc<Watch>,
}

type Piece = Result<Bytes, SourceError>;

enum State {
    Idle(Box<dyn BlobRead>),
    Reading(BoxFuture<'static, (Box<dyn BlobRead>, Option<Piece>)>),
    Over,
}

/// What is seen of a body on its way.
#[derive(Debug)]
pub(crate) struct Watch(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    moved_at: Instant,
    is_reading: bool,
    is_over: bool,
    sent: u64,
    failure: Option<NetError>,
}

/// The body ended because its content could not be read; [`Watch::failure`] says why.
#[derive(Debug, thiserror::Error)]
#[error("the content could not be read")]
pub(crate) struct FeedError;

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Part(part) => part.fmt(f),
        }
    }
}

impl Payload {
    /// No body.
    pub(crate) const NONE: Self = Self::Bytes(Bytes::new());

    /// `len` bytes of `source` from byte `first` on.
    pub(crate) fn part(source: &Arc<dyn BlobSource>, first: u64, len: u64, on_sent: Option<&OnSent>) -> Self {
        let on_sent = on_sent.map(Arc::clone);
        Self::Part(Part { source: Arc::clone(source), first, len, on_sent, opened: Arc::default() })
    }

    /// The size in bytes, when the request must state it.
    pub(crate) fn content_length(&self, method: &Method) -> Option<u64> {
        let length = match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Part(part) => part.len,
        };
        let usual = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        (length > 0 || usual).then_some(length)
    }

    /// Whether the same body can be sent once more.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::Part(part) => part.source.is_replayable() || !part.opened.load(Ordering::Relaxed),
        }
    }

    /// Whether it is so small that sending it twice costs nothing.
    pub(crate) const fn is_in_memory(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    /// Opens the body for one attempt.
    ///
    /// # Errors
    /// `Source`, or the error of the network the source comes from.
    pub(crate) async fn open(&self) -> Result<Opened, NetError> {
        let part = match self {
            Self::Bytes(bytes) => return Ok(Opened::Bytes(bytes.clone())),
            Self::Part(part) => part,
        };
        part.opened.store(true, Ordering::Relaxed);
        let reader = part.source.open(part.first).await.map_err(unreadable)?;
        let watch = Arc::new(Watch(Mutex::new(Seen {
            moved_at: Instant::now(),
            is_reading: false,
            is_over: part.len == 0,
            sent: 0,
            failure: None,
        })));
        let feed = Feed {
            state: Mutex::new(State::Idle(reader)),
            rest: Bytes::new(),
            left: part.len,
            len: part.len,
            position: part.first,
            on_sent: part.on_sent.clone(),
            watch: Arc::clone(&watch),
        };
        Ok(Opened::Feed(feed, watch))
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("first", &self.first).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = FeedError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, FeedError>>> {
        let feed = &mut *self;
        loop {
            if feed.left == 0 {
                return Poll::Ready(None);
            }
            if !feed.rest.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(feed.hand_out()))));
            }
            let state = feed.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(state, State::Over) {
                State::Idle(mut reader) => {
                    feed.watch.seen().is_reading = true;
                    *state = State::Reading(Box::pin(async move {
                        let piece = reader.next().await;
                        (reader, piece)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((reader, piece)) = reading.as_mut().poll(cx) else {
                        *state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    *state = State::Idle(reader);
                    if let Err(error) = feed.take(piece) {
                        feed.left = 0;
                        let mut seen = feed.watch.seen();
                        seen.is_over = true;
                        seen.failure.get_or_insert(error);
                        return Poll::Ready(Some(Err(FeedError)));
                    }
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Feed {
    /// Takes what the source yielded: not one byte more and not one less than the part has.
    fn take(&mut self, piece: Option<Piece>) -> Result<(), NetError> {
        let Some(piece) = piece else {
            let mismatch = Mismatch::Short { expected: self.len, actual: self.len.saturating_sub(self.left) };
            return Err(NetError::integrity(mismatch).with_detail("the content is shorter than its descriptor says"));
        };
        let mut piece = piece.map_err(unreadable)?;
        // A part may end in the middle of a piece.
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.rest = piece;
        let mut seen = self.watch.seen();
        seen.is_reading = false;
        seen.moved_at = Instant::now();
        Ok(())
    }

    /// The next bytes for the connection: so few that its taking them is a sign of life.
    fn hand_out(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(FRAME_BYTES));
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(length);
        self.position = self.position.saturating_add(length);
        {
            let mut seen = self.watch.seen();
            seen.moved_at = Instant::now();
            seen.sent = seen.sent.saturating_add(length);
            seen.is_over = self.left == 0;
        }
        if let Some(on_sent) = &self.on_sent {
            on_sent(self.position);
        }
        piece
    }
}

impl Watch {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the peer has been silent for too long: with the body still going, since it last took a piece; afterwards, since the
    /// end of the body. The time the source takes does not count.
    pub(crate) fn deadline(&self, timeouts: &Timeouts, header_timeout: std::time::Duration) -> Instant {
        let seen = self.seen();
        let (since, limit) = match (seen.is_over, seen.is_reading) {
            (true, _) => (seen.moved_at, header_timeout),
            (false, true) => (Instant::now(), timeouts.idle_body),
            (false, false) => (seen.moved_at, timeouts.idle_body),
        };
        since + limit
    }

    /// Why the content could not be read, when that ended the body.
    pub(crate) fn failure(&self) -> Option<NetError> {
        self.seen().failure.take()
    }

    /// Adds what was sent to the counters.
    pub(crate) fn count(&self, tally: &Tally) {
        tally.bytes_sent.fetch_add(self.seen().sent, Ordering::Relaxed);
    }
}
