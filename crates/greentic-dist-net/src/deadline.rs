//! The time one operation may take in all: its requests, their attempts, the waits between them, and a body until its end.
//!
//! The deadline goes with the task. What begins inside an operation is a part of it and ends with it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::transport::Transport;
use crate::{BoxFuture, NetError, NetErrorKind};

tokio::task_local! {
    /// When the present operation ends.
    static UNTIL: Instant;
}

/// The source of the error of an operation that was not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its deadline has passed")]
pub struct DeadlinePassed;

/// Makes one operation of all that `work` does over the network: it has `most` in all, or what is left of the operation it is a
/// part of. `None` is no limit. Only what the network does is ended; the error is of kind [`NetErrorKind::Timeout`].
pub async fn one_operation<F: Future>(most: Option<Duration>, work: F) -> F::Output {
    let until = most.and_then(|most| Instant::now().checked_add(most));
    match (present(), until) {
        (None, Some(until)) => UNTIL.scope(until, work).await,
        _ => work.await,
    }
}

/// Makes `work`, which is to run in a task of its own, a part of the operation this is called in.
pub fn same_operation<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let until = present();
    async move {
        match until {
            Some(until) => UNTIL.scope(until, work).await,
            None => work.await,
        }
    }
}

fn present() -> Option<Instant> {
    UNTIL.try_with(|until| *until).ok()
}

impl Transport {
    /// When what begins now is to be done: with the operation it is a part of, or with itself.
    pub(crate) fn until(&self) -> Option<Instant> {
        present().or_else(|| Instant::now().checked_add(self.timeouts.operation?))
    }

    /// Does something over the network within the time it has.
    ///
    /// # Errors
    /// `Timeout` at the deadline; otherwise its own.
    pub(crate) fn within<'a, T: Send + 'a>(
        &self,
        work: impl Future<Output = Result<T, NetError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, NetError>> {
        done_by(self.until(), work)
    }
}

/// Does something until then.
///
/// # Errors
/// As [`Transport::within`].
pub(crate) fn done_by<'a, T: Send + 'a>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, NetError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, NetError>> {
    // On the heap and without its type: it stands in many a future.
    Box::pin(async move {
        let Some(until) = until else { return work.await };
        if until <= Instant::now() {
            return Err(passed());
        }
        timeout_at(until, UNTIL.scope(until, work)).await.unwrap_or_else(|_elapsed| Err(passed()))
    })
}

impl NetError {
    /// Whether the time of an operation was up.
    pub(crate) fn is_past_deadline(&self) -> bool {
        std::error::Error::source(self).is_some_and(<dyn std::error::Error>::is::<DeadlinePassed>)
    }
}

fn passed() -> NetError {
    NetError::new(NetErrorKind::Timeout, "the operation was not done in time")
        .with_source(DeadlinePassed)
        .not_repeatable()
        .with_hint("ask for the same again, and a download goes on where it is; or allow more time (--deadline)")
}
