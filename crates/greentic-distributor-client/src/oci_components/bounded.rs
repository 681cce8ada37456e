//! Many references at once, in the task that asks, as if they were one after the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// References in flight at once: as many as requests to one host.
const IN_FLIGHT: usize = 32;

/// What becomes of one item.
pub(super) type Work<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Whether a failure ends what stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// What stands behind it is not begun, and given up where it was. What stands before it is brought to its end, so that the
    /// first failure in the order of the items is the one that is told.
    Stop,
    GoOn,
}

/// Does all the work, up to 32 pieces at once, and returns its results in order: of all, or up to the first failure and with it.
///
/// Cancel-safe as its pieces are: dropping it drops them.
pub(super) async fn in_order<'a, T, E>(
    works: impl Iterator<Item = Work<'a, T, E>>,
    on_failure: OnFailure,
) -> Vec<Result<T, E>> {
    let mut running =
        Running { works: works.enumerate(), flying: Vec::new(), results: Vec::new(), end: usize::MAX, on_failure };
    poll_fn(|context| running.poll(context)).await;
    running.results.truncate(running.end);
    running.results.into_iter().flatten().collect()
}

struct Running<'a, I, T, E> {
    works: std::iter::Enumerate<I>,
    flying: Vec<(usize, Work<'a, T, E>)>,
    results: Vec<Option<Result<T, E>>>,
    /// How many results are wanted: those up to the first failure.
    end: usize,
    on_failure: OnFailure,
}

impl<'a, I: Iterator<Item = Work<'a, T, E>>, T, E> Running<'a, I, T, E> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.flying.len() < IN_FLIGHT
                && self.results.len() < self.end
                && let Some((position, work)) = self.works.next()
            {
                self.results.push(None);
                self.flying.push((position, work));
            }
            let mut is_done = false;
            for (position, mut work) in std::mem::take(&mut self.flying) {
                // Behind a failure that was noticed just now.
                if position >= self.end {
                    continue;
                }
                let Poll::Ready(result) = work.as_mut().poll(context) else {
                    self.flying.push((position, work));
                    continue;
                };
                is_done = true;
                if result.is_err() && self.on_failure == OnFailure::Stop {
                    self.end = self.end.min(position.saturating_add(1));
                }
                if let Some(slot) = self.results.get_mut(position) {
                    *slot = Some(result);
                }
            }
            let end = self.end;
            self.flying.retain(|(position, _)| *position < end);
            if !is_done {
                return if self.flying.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_and_a_bounded_number_of_pieces_runs_at_once() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (running, most) = (&running, &most);
        let works = (0..200_usize).map(|number| {
            Box::pin(async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..=number % 7 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(number)
            }) as Work<'_, usize, usize>
        });
        let results = in_order(works, OnFailure::Stop).await;
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), (0..200_usize).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), IN_FLIGHT);
        assert!(in_order(std::iter::empty::<Work<'_, (), ()>>(), OnFailure::Stop).await.is_empty());
    }

    #[tokio::test]
    async fn the_first_failure_in_order_is_told_and_what_stands_behind_it_is_not_begun() {
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let works = (0..100_usize).map(|number| {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            Box::pin(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                match number {
                    // Fails last, and stands first.
                    3 => {
                        let _permit = gate.acquire().await;
                        Err(number)
                    }
                    5 => {
                        gate.add_permits(1);
                        Err(number)
                    }
                    0..=2 | 4 => Ok(number),
                    _ => std::future::pending().await,
                }
            }) as Work<'_, usize, usize>
        });
        let results = in_order(works, OnFailure::Stop).await;
        assert_eq!(results, [Ok(0), Ok(1), Ok(2), Err(3)]);
        assert!(begun.load(Ordering::SeqCst) <= IN_FLIGHT, "{begun:?}");
    }

    #[tokio::test]
    async fn all_failures_are_told_to_who_wants_to_go_on() {
        let works = (0..50_usize).map(|number| {
            Box::pin(async move { if number % 2 == 0 { Ok(number) } else { Err(number) } }) as Work<'_, usize, usize>
        });
        let results = in_order(works, OnFailure::GoOn).await;
        assert_eq!(results.len(), 50);
        assert!(results.iter().enumerate().all(|(at, result)| *result == if at % 2 == 0 { Ok(at) } else { Err(at) }));
    }
}
