//! Lists and blobs as streams, for code that works with [`Stream`]s of any origin.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use super::auth::BoxFuture;
use super::{BlobRange, BlobStream, Paged, UnsizedBlobStream, UnverifiedBlobStream};
use crate::NetError;

/// A list or a blob as a [`Stream`] of what its `next` returns, one after the other; made by `into_stream`.
///
/// Nothing is sent before it is polled, and nothing but what the next item needs. It ends after an error, and may be polled after its
/// end. Dropping it gives up what is under way.
#[must_use = "streams do nothing unless polled"]
pub struct ItemStream<T>(State<T>);

enum State<T> {
    Idle(Box<dyn Advance<T>>),
    Busy(Step<T>),
    Over,
}

/// A step under way, which brings the source back with what it found.
type Step<T> = BoxFuture<'static, (Box<dyn Advance<T>>, Option<Result<T, NetError>>)>;

trait Advance<T>: Send {
    fn advance(self: Box<Self>) -> Step<T>;
}

impl<T> fmt::Debug for ItemStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Idle(_) => "idle",
            State::Busy(_) => "busy",
            State::Over => "over",
        };
        f.debug_tuple("ItemStream").field(&state).finish()
    }
}

impl<T> Stream for ItemStream<T> {
    type Item = Result<T, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let state = &mut self.0;
        let mut step = match std::mem::replace(state, State::Over) {
            State::Over => return Poll::Ready(None),
            State::Idle(source) => source.advance(),
            State::Busy(step) => step,
        };
        match step.as_mut().poll(cx) {
            Poll::Pending => {
                *state = State::Busy(step);
                Poll::Pending
            }
            Poll::Ready((source, item)) => {
                if matches!(item, Some(Ok(_))) {
                    *state = State::Idle(source);
                }
                Poll::Ready(item)
            }
        }
    }
}

impl<T: Send + 'static> Advance<T> for Paged<T> {
    fn advance(mut self: Box<Self>) -> Step<T> {
        Box::pin(async move {
            let item = self.next().await;
            (self as Box<dyn Advance<T>>, item)
        })
    }
}

impl<T: Send + 'static> Paged<T> {
    /// The list as a [`Stream`] of its entries.
    pub fn into_stream(self) -> ItemStream<T> {
        ItemStream(State::Idle(Box::new(self)))
    }
}

/// Every stream of bytes is made one of these in the same way.
macro_rules! streams_of_bytes {
    ($($blob:ident),+) => {$(
        impl Advance<Bytes> for $blob {
            fn advance(mut self: Box<Self>) -> Step<Bytes> {
                Box::pin(async move {
                    let item = self.next().await;
                    (self as Box<dyn Advance<Bytes>>, item)
                })
            }
        }

        impl $blob {
            /// The blob as a [`Stream`] of its pieces, with the same promises as its `next`.
            pub fn into_stream(self) -> ItemStream<Bytes> {
                ItemStream(State::Idle(Box::new(self)))
            }
        }
    )+};
}

streams_of_bytes!(BlobStream, UnverifiedBlobStream, UnsizedBlobStream, BlobRange);
