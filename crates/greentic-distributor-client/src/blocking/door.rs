//! The one door from async code to the synchronous store.
//!
//! Nothing else calls `spawn_blocking`: here a panic of the work is passed on as a panic, and a runtime that shuts down
//! is a typed error instead of a panic.

use std::future::Future;

use crate::dist::DistError;

/// Starts `work` on a blocking thread of the current runtime, at once; the future waits for it.
///
/// Dropping the future does not stop the work; work that should stop watches a channel.
///
/// # Errors
/// Those of `work`; [`DistError::Cancelled`] when the runtime is shutting down.
pub(crate) fn run<T, F>(work: F) -> impl Future<Output = Result<T, DistError>> + Send
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, DistError> + Send + 'static,
{
    let running = tokio::task::spawn_blocking(work);
    async move {
        match running.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => Err(DistError::Cancelled),
            },
        }
    }
}
