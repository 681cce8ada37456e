//! The first connection of a body that others may bring parts of.
//!
//! It reads its answer from one byte to the next and hands on whatever is still missing of it, also where another connection was
//! to bring that: one that stands still holds up nothing. It leaves its answer only when ranges have proven themselves on this
//! body and the next missing byte is far ahead. Where that turns out wrong, it asks for the body as it did at first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::areas::Area;
use super::pieces::{Piece, Split, length};
use super::resume::{NEAR, Transfer};
use super::start::Start;
use crate::{NetError, NetErrorKind};

impl Split {
    pub(super) async fn first(self: Arc<Self>, mut transfer: Box<Transfer>) -> Result<(), NetError> {
        if self.forward(&mut transfer).await? {
            return Ok(());
        }
        let Err(error) = self.jump(&mut transfer).await else { return Ok(()) };
        tracing::debug!(%error, "ranges fail, and the body is asked for as at first");
        drop(transfer);
        self.give_up();
        let (from, size) = (self.from, self.size);
        let start = Start { offset: from, size: Some(size), limit: size, content_addressed: true, range_end: None };
        let (transport, detour) = (Arc::clone(&self.transport), self.blame.detour.clone());
        let mut transfer = Transfer::open_as_part(transport, self.ask.clone(), start, detour).await?;
        self.forward(&mut transfer).await?;
        Ok(())
    }

    /// Reads the open answer until nothing is missing. False when asking for ranges is better from here on.
    async fn forward(&self, transfer: &mut Transfer) -> Result<bool, NetError> {
        loop {
            let offset = transfer.offset();
            {
                let mut state = self.state();
                let Some(missing) = state.areas.first_missing() else { return Ok(true) };
                if missing.saturating_sub(offset) > NEAR && self.has_proven_ranges(state.areas.segment()) {
                    return Ok(false);
                }
                // The others take segments from the tail of what is its own.
                state.areas.claim_front(self.is_alone());
            }
            let Some(piece) = transfer.next().await else {
                let error = NetError::new(NetErrorKind::Interrupted, "the body ended too early");
                return Err(transfer.about(error));
            };
            let bytes = piece?;
            let parts = self.state().areas.receive_anywhere(offset, offset.saturating_add(length(&bytes)));
            for part in parts {
                self.received.fetch_add(part.left(), Ordering::Relaxed);
                let piece = Piece { offset: part.at, bytes: part.of(&bytes, offset) };
                if self.queue.send(piece).await.is_err() {
                    return Ok(true);
                }
            }
            self.changed.notify_waiters();
        }
    }

    /// Asks for ranges wherever something is missing.
    async fn jump(&self, transfer: &mut Transfer) -> Result<(), NetError> {
        while let Some(Area { at, end }) = self.next_area(0).await {
            transfer.seek(at, end);
            self.read(transfer, 0).await?;
        }
        Ok(())
    }

    /// Whether the connections beside the first have brought a segment each, on an average, since one of them failed last.
    fn has_proven_ranges(&self, segment: u64) -> bool {
        let wanted = u64::try_from(self.wanted.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        let ranged = self.ranged.load(Ordering::Relaxed).saturating_sub(self.failed_at.load(Ordering::Relaxed));
        !self.is_alone() && ranged >= wanted.saturating_mul(segment)
    }
}
