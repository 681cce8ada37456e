//! The one door from synchronous code to async code.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::block_in_place;

use crate::dist::DistError;

/// Most threads the shared runtime moves bytes on. They only wait for sockets; hashing and writing has threads of its own.
const WORKERS: usize = 4;

/// Started by the first call that needs it, and never stopped: connections outlive the call that opened them.
static SHARED: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Waits for a future on the calling thread, whatever runs there: nothing, a runtime of the caller, or a task of the shared
/// runtime. The future finds the shared runtime around it.
///
/// The thread does nothing else meanwhile, so the future must not need a task of the caller's own runtime to go on.
///
/// # Errors
/// [`DistError::NoRuntime`] when the system has no thread to spare.
pub(crate) fn wait<F>(future: F) -> Result<F::Output, DistError>
where
    F: Future + Send,
    F::Output: Send,
{
    wait_or(future, DistError::NoRuntime)
}

/// As [`wait`], with an error of the caller's for a system without a thread to spare.
pub(super) fn wait_or<F, E>(future: F, no_runtime: impl FnOnce(io::Error) -> E) -> Result<F::Output, E>
where
    F: Future + Send,
    F::Output: Send,
{
    let shared = match shared() {
        Ok(shared) => shared,
        Err(error) => return Err(no_runtime(error)),
    };
    match Handle::try_current() {
        Err(_nothing_runs_here) => Ok(shared.block_on(future)),
        // A callback of this client that uses this client: another thread takes over what this one is needed for.
        Ok(here) if here.id() == shared.handle().id() => Ok(block_in_place(|| shared.block_on(future))),
        // A thread of a runtime may not enter another one.
        Ok(_another) => thread::scope(|scope| {
            let waiting = thread::Builder::new().name("greentic-wait".to_owned());
            let waiting = waiting.spawn_scoped(scope, || shared.block_on(future)).map_err(no_runtime)?;
            Ok(waiting.join().unwrap_or_else(|panic| resume_unwind(panic)))
        }),
    }
}

fn shared() -> io::Result<&'static Runtime> {
    if let Some(shared) = SHARED.get() {
        return Ok(shared);
    }
    // One at a time: a runtime too many could not be dropped where another one runs.
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = SHARED.get() {
        return Ok(shared);
    }
    // At least two: one may be held up by a callback that uses the client.
    let workers = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, WORKERS));
    let started =
        Builder::new_multi_thread().worker_threads(workers).thread_name("greentic-blocking").enable_all().build()?;
    Ok(SHARED.get_or_init(|| started))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Needs timers and other tasks, so that it ends only when a runtime works around it.
    async fn work(number: u32) -> u32 {
        let spawned = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            number
        });
        tokio::task::yield_now().await;
        spawned.await.unwrap()
    }

    fn current_thread() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn a_future_is_waited_for_where_no_runtime_runs() {
        assert_eq!(wait(work(1)).unwrap(), 1);
    }

    #[test]
    fn a_future_is_waited_for_inside_a_current_thread_runtime_without_timers() {
        // `work` needs timers; the runtime around the call has none.
        assert_eq!(current_thread().block_on(async { wait(work(2)) }).unwrap(), 2);
        let local = tokio::task::LocalSet::new();
        assert_eq!(local.block_on(&current_thread(), async { wait(work(3)) }).unwrap(), 3);
    }

    #[test]
    fn a_future_is_waited_for_inside_a_multi_thread_runtime_on_every_kind_of_its_threads() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert_eq!(runtime.block_on(async { wait(work(4)) }).unwrap(), 4);
        let on_worker = runtime.block_on(async { tokio::spawn(async { wait(work(5)) }).await });
        assert_eq!(on_worker.unwrap().unwrap(), 5);
        let on_blocking = runtime.block_on(async { tokio::task::spawn_blocking(|| wait(work(6))).await });
        assert_eq!(on_blocking.unwrap().unwrap(), 6);
        let entered = runtime.enter();
        assert_eq!(wait(work(7)).unwrap(), 7);
        drop(entered);
    }

    #[test]
    fn a_future_may_wait_for_futures_itself() {
        let nested = wait(async { wait(async { wait(work(8)) }) });
        assert_eq!(nested.unwrap().unwrap().unwrap(), 8);
        let on_worker = wait(async { tokio::spawn(async { wait(work(9)) }).await });
        assert_eq!(on_worker.unwrap().unwrap().unwrap(), 9);
    }

    #[test]
    fn many_threads_wait_at_the_same_time() {
        thread::scope(|scope| {
            let inside = |number| current_thread().block_on(async move { wait(work(number)) });
            let threads: Vec<_> = (0..32)
                .map(|number| scope.spawn(move || if number % 2 == 0 { wait(work(number)) } else { inside(number) }))
                .collect();
            for (number, thread) in threads.into_iter().enumerate() {
                assert_eq!(thread.join().unwrap().unwrap() as usize, number);
            }
        });
    }

    #[test]
    fn what_is_borrowed_may_be_waited_for_and_a_panic_is_passed_on() {
        let text = String::from("borrowed");
        assert_eq!(current_thread().block_on(async { wait(async { text.len() }) }).unwrap(), 8);
        let panicked = std::panic::catch_unwind(|| {
            current_thread().block_on(async { wait(async { panic!("the panic of the work") }) })
        });
        let panic = panicked.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the panic of the work"));
    }
}
