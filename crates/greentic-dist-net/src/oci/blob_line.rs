//! The way a blob comes that is read from one byte to the next.

use bytes::Bytes;

use crate::NetError;
use crate::body::{InOrder, Transfer};

/// Over one connection at a time, or over several whose bytes are put in their order.
#[derive(Debug)]
pub(super) enum Line {
    One(Box<Transfer>),
    Several(Box<InOrder>),
}

impl Line {
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        match self {
            Self::One(transfer) => transfer.next().await,
            Self::Several(in_order) => in_order.next().await,
        }
    }

    /// The position of the next byte handed out.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::One(transfer) => transfer.offset(),
            Self::Several(in_order) => in_order.offset(),
        }
    }

    /// Writes down who was found to lie, where there is a memory of that.
    pub(super) async fn write_down(&mut self) {
        let transport = match self {
            Self::One(transfer) => &transfer.transport,
            Self::Several(in_order) => in_order.transport(),
        };
        transport.liars.write_down().await;
    }

    /// Takes note that the bytes were not those that were asked for, as [`Transfer::refute`] does.
    pub(super) fn refute(&self, error: NetError) -> NetError {
        match self {
            Self::One(transfer) => transfer.refute(transfer.about(error)),
            Self::Several(in_order) => in_order.refute(error),
        }
    }
}
