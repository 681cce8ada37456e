//! Answer bodies: nothing, bytes, or a part of a blob streamed with a fixed amount of memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::journal::Ticket;
use crate::store::Content;

/// Bytes per piece of a streamed blob.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 2;

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

    /// The body, counted into `ticket`. Starts the reader of a file; call it on the runtime.
    pub(crate) fn into_body(self, ticket: Ticket) -> CountedBody {
        let left = self.len();
        let source = match self {
            Self::Empty => Source::Bytes(Bytes::new()),
            Self::Bytes(bytes) => Source::Bytes(bytes),
            Self::Blob { content: Content::Memory(bytes), first, len } => {
                let from = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
                let upto = usize::try_from(first.saturating_add(len)).unwrap_or(usize::MAX).min(bytes.len());
                Source::Bytes(bytes.slice(from..upto.max(from)))
            }
            Self::Blob { content: Content::File(file, _), first, len } => {
                let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = read_pieces(file, first, len, &sender) {
                        // A receiver that is gone has hung up and needs no reason.
                        let _hung_up = sender.blocking_send(Err(error));
                    }
                });
                Source::Pieces(receiver)
            }
        };
        CountedBody { source, left, ticket }
    }
}

#[derive(Debug)]
enum Source {
    Bytes(Bytes),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// A body that tells the journal how far it came.
#[derive(Debug)]
pub(crate) struct CountedBody {
    source: Source,
    left: u64,
    ticket: Ticket,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.source {
            Source::Bytes(bytes) if bytes.is_empty() => None,
            Source::Bytes(bytes) => Some(Ok(bytes.split_to(bytes.len().min(PIECE_BYTES)))),
            Source::Pieces(receiver) => match receiver.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece,
            },
        };
        Poll::Ready(piece.map(|piece| {
            piece.map(|bytes| {
                self.ticket.sent(bytes.len());
                self.left = self.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
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

fn read_pieces(mut file: File, first: u64, len: u64, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    file.seek(SeekFrom::Start(first))?;
    let mut left = len;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = vec![0; wanted];
        match file.read(&mut piece)? {
            0 => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the blob's file became shorter")),
            read => piece.truncate(read),
        }
        left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if sender.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
