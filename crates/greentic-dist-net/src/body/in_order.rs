//! A body over several connections, for somebody who takes one byte after the other.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::pieces::Pieces;
use crate::NetError;
use crate::exchange::Shared;

/// Pieces in their order. What comes before its turn waits in memory, as far as its [`Pieces`] let it come.
#[derive(Debug)]
pub(crate) struct InOrder {
    pieces: Pieces,
    /// The position of the next byte handed out.
    at: u64,
    waiting: BTreeMap<u64, Bytes>,
}

impl InOrder {
    pub(crate) const fn new(pieces: Pieces, at: u64) -> Self {
        Self { pieces, at, waiting: BTreeMap::new() }
    }

    /// The position of the next byte handed out.
    pub(crate) const fn offset(&self) -> u64 {
        self.at
    }

    pub(crate) fn transport(&self) -> &Shared {
        self.pieces.transport()
    }

    /// As [`Pieces::refute`].
    pub(crate) fn refute(&self, error: NetError) -> NetError {
        self.pieces.refute(error)
    }

    /// The next bytes; `None` when all came. Cancel-safe: no byte is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        loop {
            // Pieces neither overlap nor leave a gap: the next one begins where the last one ended.
            if let Some(bytes) = self.waiting.remove(&self.at) {
                self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                return Some(Ok(bytes));
            }
            match self.pieces.next().await? {
                Ok(piece) => drop(self.waiting.insert(piece.offset, piece.bytes)),
                Err(error) => {
                    self.waiting.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
