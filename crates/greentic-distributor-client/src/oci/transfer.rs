//! A blob on its way into a file: one task reads, one blocking thread hashes and writes, and the file gets its name when all of
//! it is proven.

use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{
    BlobPieces, BlobRead, BlobRequest, BlobSource, NetError, NetErrorKind, Piece, SourceError, UnverifiedBlobStream,
};
use greentic_dist_types::Mismatch;
use tokio::sync::mpsc;

use super::layout::Partial;
use super::sink::Moved;
use super::{LayoutError, LayoutProblem};
use crate::blocking;
use crate::dist::DistError;

/// Pieces between the source and the disk.
pub(super) const PIECES: usize = 8;
/// Attempts at a blob: what an earlier transfer left may be wrong, and so may what was put together from the answers of several
/// connections. It is then fetched anew, over one.
const TRIES: u32 = 2;

/// Where a blob is read from.
pub(super) enum Content {
    /// A registry, over as many connections as make it faster.
    Registry(Box<BlobRequest>),
    /// Whatever is read from one byte to the next.
    Source(Arc<dyn BlobSource>),
}

/// Where a blob is put together, and what becomes of it. Blocks.
pub(super) trait End: Send + Sync + 'static {
    /// The file with what is there of the blob; `None` when the blob is in its place already.
    fn begin(&self) -> Result<Option<Partial>, DistError>;

    /// Proves the blob and puts it in its place.
    fn finish(&self, partial: Partial) -> Result<(), DistError>;

    /// What the file could not do. Wrong bytes stay [`LayoutProblem::Damaged`].
    fn explain(&self, error: LayoutError) -> DistError;
}

/// What happens to a blob.
pub(super) enum Step {
    /// It begins behind so many bytes that are there.
    Started(u64),
    /// So many bytes are there.
    Came(u64),
    /// It is in its place, or failed. It may begin again.
    Ended { well: bool },
}

/// Who is told.
pub(super) type Tell<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// How a registry is asked.
#[derive(Clone, Copy)]
enum Way {
    /// Over several connections, where that is faster.
    Fastest,
    /// From the first byte to the last.
    Simplest,
}

/// What is told to the thread that writes.
enum Message {
    Piece(Piece),
    /// All of it came.
    End,
    /// What came is wrong for certain.
    Discard,
}

impl From<Piece> for Message {
    fn from(piece: Piece) -> Self {
        Self::Piece(piece)
    }
}

/// What came of one attempt.
enum Brought {
    Now,
    Before,
    Wrong(Box<Wrong>),
}

/// Bytes that are not the promised ones.
struct Wrong {
    /// So many of them were there before.
    offset: u64,
    incoming: Incoming,
    error: LayoutError,
}

/// Brings a blob to its end. `name` is what errors call it.
///
/// Cancel-safe: what was written stays for the next time, as far as it is worth keeping.
pub(super) async fn bring(
    content: &Content,
    name: &str,
    end: &Arc<impl End>,
    tell: Tell<'_>,
) -> Result<Moved, DistError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let way = if tries == 1 { Way::Fastest } else { Way::Simplest };
        match once(content, name, end, tell, way).await? {
            Brought::Now => return Ok(Moved::Copied),
            Brought::Before => return Ok(Moved::Present),
            Brought::Wrong(wrong) if tries < TRIES && wrong.is_worth_another_try() => wrong.incoming.doubt(),
            Brought::Wrong(wrong) => return Err(wrong.refute(name).await),
        }
    }
}

async fn once(
    content: &Content,
    name: &str,
    end: &Arc<impl End>,
    tell: Tell<'_>,
    way: Way,
) -> Result<Brought, DistError> {
    let at = Arc::clone(end);
    let begun = blocking::run(move || at.begin()).await.inspect_err(|error| content.abandon(error))?;
    let Some(partial) = begun else { return Ok(Brought::Before) };
    let offset = partial.offset();
    tell(Step::Started(offset));
    let brought = async {
        let incoming = content.open(offset, way).await.map_err(|error| unreadable(name, error))?;
        carry(incoming, name, end, partial, tell).await
    };
    let brought = brought.await;
    tell(Step::Ended { well: matches!(brought, Ok(Brought::Now)) });
    brought
}

async fn carry(
    mut incoming: Incoming,
    name: &str,
    end: &Arc<impl End>,
    mut partial: Partial,
    tell: Tell<'_>,
) -> Result<Brought, DistError> {
    let offset = partial.offset();
    let (sender, mut receiver) = mpsc::channel::<Message>(PIECES);
    let at = Arc::clone(end);
    let worker = blocking::run(move || {
        while let Some(message) = receiver.blocking_recv() {
            match message {
                Message::Piece(piece) => {
                    partial.write_at(piece.offset, &piece.bytes).map_err(|error| at.explain(error))?;
                }
                Message::End => return at.finish(partial).map(|()| true),
                Message::Discard => {
                    partial.discard();
                    return Ok(false);
                }
            }
        }
        // Nobody is interested any more: what is there is for the next time.
        Ok(false)
    });
    let pumped = pump(&mut incoming, &sender, offset, tell).await;
    let last = match &pumped {
        Ok(()) => Some(Message::End),
        Err(error) if is_wrong(error) => Some(Message::Discard),
        Err(_) => None,
    };
    if let Some(last) = last {
        let _gone = sender.send(last).await.is_err();
    }
    drop(sender);
    // A thread that stopped taking pieces says why.
    match (worker.await, pumped) {
        (Ok(true), _) => {
            incoming.confirm();
            Ok(Brought::Now)
        }
        (Err(DistError::Layout(error)), _) if matches!(error.problem(), LayoutProblem::Damaged { .. }) => {
            Ok(Brought::Wrong(Box::new(Wrong { offset, incoming, error })))
        }
        (Err(error), _) => {
            incoming.abandon(&error);
            Err(error)
        }
        (Ok(false), Err(error)) => Err(unreadable(name, error)),
        (Ok(false), Ok(())) => Err(DistError::Cancelled),
    }
}

/// Reads content and sends it on, telling how far it came. A receiver that is gone has failed and says so itself.
pub(super) async fn pump<M: From<Piece>>(
    incoming: &mut Incoming,
    sender: &mpsc::Sender<M>,
    offset: u64,
    tell: Tell<'_>,
) -> Result<(), SourceError> {
    let mut bytes = offset;
    while let Some(piece) = incoming.next().await {
        let piece = piece?;
        bytes += piece.bytes.len() as u64;
        if sender.send(piece.into()).await.is_err() {
            return Ok(());
        }
        tell(Step::Came(bytes));
    }
    Ok(())
}

/// Content that is being read.
pub(super) enum Incoming {
    Pieces(BlobPieces),
    Stream(UnverifiedBlobStream),
    Source { read: Box<dyn BlobRead>, offset: u64 },
}

impl Content {
    async fn open(&self, offset: u64, way: Way) -> Result<Incoming, SourceError> {
        let request = match self {
            Self::Source(source) => return Incoming::of(source.as_ref(), offset).await,
            Self::Registry(request) => BlobRequest::clone(request).from_offset(offset),
        };
        Ok(match way {
            Way::Fastest => Incoming::Pieces(request.open_pieces_unverified().await?),
            Way::Simplest => Incoming::Stream(request.open_unverified().await?),
        })
    }

    /// Takes note that it is not read, since the file cannot be written.
    fn abandon(&self, error: &DistError) {
        if let Self::Registry(request) = self {
            request.abandon(cause(error));
        }
    }
}

impl Incoming {
    /// Opens a source that is read in order.
    pub(super) async fn of(source: &dyn BlobSource, offset: u64) -> Result<Self, SourceError> {
        Ok(Self::Source { read: source.open(offset).await?, offset })
    }

    async fn next(&mut self) -> Option<Result<Piece, SourceError>> {
        let in_turn = |offset: u64, bytes: Bytes| Piece { offset, bytes };
        match self {
            Self::Pieces(pieces) => Some(pieces.next().await?.map_err(SourceError::from)),
            Self::Stream(stream) => {
                let offset = stream.offset();
                Some(stream.next().await?.map(|bytes| in_turn(offset, bytes)).map_err(SourceError::from))
            }
            Self::Source { read, offset } => {
                let piece = read.next().await?.map(|bytes| in_turn(*offset, bytes));
                if let Ok(piece) = &piece {
                    *offset += piece.bytes.len() as u64;
                }
                Some(piece)
            }
        }
    }

    /// Takes note that the bytes are proven and in their place.
    fn confirm(&self) {
        match self {
            Self::Pieces(pieces) => pieces.confirm(),
            Self::Stream(stream) => stream.confirm(),
            Self::Source { .. } => {}
        }
    }

    /// Takes note that the bytes are wrong, and are asked for once more: whoever sent them is not asked, where others can be.
    fn doubt(&self) {
        if let Self::Pieces(pieces) = self {
            let _told_by_the_last_try = pieces.doubt();
        }
    }

    /// Takes note that the bytes are wrong. The error of the net, where they came from there.
    async fn refute(&mut self) -> Option<NetError> {
        match self {
            Self::Pieces(pieces) => {
                let error = pieces.refute();
                pieces.write_down().await;
                Some(error)
            }
            Self::Stream(stream) => {
                let error = stream.refute();
                stream.write_down().await;
                Some(error)
            }
            Self::Source { .. } => None,
        }
    }

    /// Takes note that the file could not take the bytes.
    fn abandon(&self, error: &DistError) {
        match self {
            Self::Pieces(pieces) => pieces.abandon(cause(error)),
            Self::Stream(stream) => stream.abandon(cause(error)),
            Self::Source { .. } => {}
        }
    }
}

impl Wrong {
    /// Whether something else than the content itself may be to blame.
    const fn is_worth_another_try(&self) -> bool {
        let is_put_together = matches!(&self.incoming, Incoming::Pieces(pieces) if pieces.connections() > 1);
        self.offset > 0 || is_put_together
    }

    async fn refute(mut self, name: &str) -> DistError {
        let mismatch: Option<Mismatch> = match self.error.problem() {
            LayoutProblem::Damaged { mismatch, .. } => Some(*mismatch),
            _ => None,
        };
        match (self.incoming.refute().await, mismatch) {
            (Some(error), Some(mismatch)) => DistError::from_net(name, error.with_source(mismatch)),
            (Some(error), None) => DistError::from_net(name, error),
            (None, _) => DistError::Layout(self.error),
        }
    }
}

/// An error that is returned, for whoever is told of it as well.
pub(super) fn cause(error: &DistError) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// Whether a source said that its bytes are not the promised ones.
fn is_wrong(error: &SourceError) -> bool {
    match (error.downcast_ref::<NetError>(), error.downcast_ref::<LayoutError>()) {
        (Some(error), _) => error.kind() == NetErrorKind::Integrity,
        (_, Some(error)) => matches!(error.problem(), LayoutProblem::Damaged { .. }),
        _ => false,
    }
}

/// What a source said, as an error of this crate.
pub(super) fn unreadable(name: &str, error: SourceError) -> DistError {
    let error = match error.downcast::<NetError>() {
        Ok(error) => return DistError::from_net(name, *error),
        Err(error) => error,
    };
    match error.downcast::<LayoutError>() {
        Ok(error) => DistError::Layout(*error),
        Err(error) => DistError::CorruptArtifact { reference: name.to_owned(), reason: error.to_string() },
    }
}
