//! Answer bodies: nothing, bytes, or a part of a blob streamed with a fixed amount of memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::connection::InRequest;
use crate::log::Logged;
use crate::store::Content;
use crate::tree::Proof;

/// Bytes of the first piece of a streamed blob, and of every piece for a peer that takes its time.
pub(crate) const SMALL_PIECE_BYTES: usize = 64 << 10;
/// Bytes of a piece for a peer that takes them quickly.
const LARGE_PIECE_BYTES: usize = 512 << 10;
/// Bytes of all pieces on their way beyond which every new one is small: many peers that stopped taking cost a small piece each.
const LARGE_PIECES_BYTES: usize = 8 << 20;
/// A piece that was taken within this time is followed by one twice as large.
const QUICK: Duration = Duration::from_millis(20);

/// What an answer will carry. Nothing is read before [`Payload::into_body`].
#[derive(Debug)]
pub(crate) enum Payload {
    /// No body.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// `len` bytes of a blob from `first` on.
    Blob { content: Content, first: u64, len: u64 },
}

impl Payload {
    /// The size of the body.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Blob { len, .. } => *len,
        }
    }

    /// The body, counted and logged by `logged`, its pieces counted in `on_their_way`; `in_request` ends with it.
    pub(crate) fn into_body(self, logged: Logged, in_request: InRequest, on_their_way: &OnTheirWay) -> CountedBody {
        let left = self.len();
        let source = match self {
            Self::Empty => Source::Bytes(Bytes::new()),
            Self::Bytes(bytes) => Source::Bytes(bytes),
            Self::Blob { content: Content::Memory(bytes), first, len } => {
                let from = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
                let upto = usize::try_from(first.saturating_add(len)).unwrap_or(usize::MAX).min(bytes.len());
                Source::Bytes(bytes.slice(from..upto.max(from)))
            }
            Self::Blob { content: Content::File(file, _), first, .. } => {
                Source::File(Box::new(Pieces::new(file, None, first, on_their_way)))
            }
            Self::Blob { content: Content::Proven(file, _, proof), first, .. } => {
                Source::File(Box::new(Pieces::new(file, Some(proof), first, on_their_way)))
            }
        };
        CountedBody { source, left, handed_out: None, logged, _in_request: in_request }
    }
}

#[derive(Debug)]
enum Source {
    Bytes(Bytes),
    File(Box<Pieces>),
}

/// A file that is read piece by piece, each when the connection asks for it: a peer that takes nothing holds one piece in memory,
/// and no thread.
#[derive(Debug)]
struct Pieces {
    state: State,
    /// What must hold after each piece.
    proof: Option<Proof>,
    /// Where the next piece begins.
    next: u64,
    piece_bytes: usize,
    on_their_way: OnTheirWay,
}

/// How many bytes of files a server holds in pieces that no peer has taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnTheirWay(Arc<AtomicUsize>);

/// A piece that is counted until the connection has written it.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    on_their_way: OnTheirWay,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.on_their_way.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum State {
    Idle(File),
    Reading(JoinHandle<(File, Option<Proof>, io::Result<Bytes>)>, Instant),
    Over,
}

impl Pieces {
    fn new(file: File, proof: Option<Proof>, first: u64, on_their_way: &OnTheirWay) -> Self {
        let on_their_way = on_their_way.clone();
        Self { state: State::Idle(file), proof, next: first, piece_bytes: SMALL_PIECE_BYTES, on_their_way }
    }

    /// The next piece, of at most `left` bytes.
    fn poll_piece(&mut self, cx: &mut Context<'_>, left: u64) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Idle(file) => {
                    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.piece_bytes);
                    if wanted == 0 {
                        return Poll::Ready(None);
                    }
                    let (first, proof) = (self.next, self.proof.take());
                    let on_their_way = self.on_their_way.clone();
                    let reading =
                        tokio::task::spawn_blocking(move || read_piece(file, proof, first, wanted, on_their_way));
                    self.state = State::Reading(reading, Instant::now());
                }
                State::Reading(mut reading, asked) => {
                    let polled = Pin::new(&mut reading).poll(cx);
                    if polled.is_pending() {
                        self.state = State::Reading(reading, asked);
                    }
                    let Ok((file, proof, piece)) = ready!(polled) else {
                        return Poll::Ready(Some(Err(io::Error::other("the server is stopping"))));
                    };
                    if let Ok(piece) = &piece {
                        self.next += u64::try_from(piece.len()).unwrap_or_default();
                        (self.state, self.proof) = (State::Idle(file), proof);
                    }
                    return Poll::Ready(Some(piece));
                }
            }
        }
    }

    /// Makes the next piece larger when the last one was taken quickly, and small again when it was not.
    fn adapt(&mut self, taken: Duration) {
        let room = self.on_their_way.0.load(Ordering::Relaxed) < LARGE_PIECES_BYTES;
        self.piece_bytes =
            if room && taken <= QUICK { (self.piece_bytes * 2).min(LARGE_PIECE_BYTES) } else { SMALL_PIECE_BYTES };
    }
}

/// A body that tells the journal how far it came.
#[derive(Debug)]
pub(crate) struct CountedBody {
    source: Source,
    left: u64,
    handed_out: Option<Instant>,
    logged: Logged,
    _in_request: InRequest,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let piece = match &mut this.source {
            Source::Bytes(bytes) if bytes.is_empty() => None,
            Source::Bytes(bytes) => Some(Ok(bytes.split_to(bytes.len().min(LARGE_PIECE_BYTES)))),
            Source::File(pieces) => {
                if let Some(handed_out) = this.handed_out.take() {
                    pieces.adapt(handed_out.elapsed());
                }
                ready!(pieces.poll_piece(cx, this.left))
            }
        };
        this.handed_out = Some(Instant::now());
        Poll::Ready(piece.map(|piece| {
            piece.map(|bytes| {
                this.logged.ticket().sent(bytes.len());
                this.left = this.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                Frame::data(bytes)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn read_piece(
    mut file: File,
    mut proof: Option<Proof>,
    first: u64,
    wanted: usize,
    on_their_way: OnTheirWay,
) -> (File, Option<Proof>, io::Result<Bytes>) {
    let mut piece = vec![0; wanted];
    let piece = match read_proven(&mut file, proof.as_mut(), first, &mut piece) {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the blob's file became shorter")),
        Ok(read) => {
            piece.truncate(read);
            on_their_way.0.fetch_add(read, Ordering::Relaxed);
            Ok(Bytes::from_owner(Piece { bytes: piece, on_their_way }))
        }
        Err(error) => Err(error),
    };
    (file, proof, piece)
}

/// Reads a piece. The proof is looked at after it: what was written before it shows then.
fn read_proven(file: &mut File, proof: Option<&mut Proof>, first: u64, piece: &mut [u8]) -> io::Result<usize> {
    let mut read = |file: &mut File| file.seek(SeekFrom::Start(first)).and_then(|_| file.read(piece));
    let bytes = read(file)?;
    let Some(proof) = proof else { return Ok(bytes) };
    if proof.holds(file)? {
        return Ok(bytes);
    }
    if proof.renew(file)? {
        let bytes = read(file)?;
        if proof.holds(file)? {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("the blob's file changed"))
}
