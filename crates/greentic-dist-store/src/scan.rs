//! Looking at many entries at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most threads that look at entries.
const THREADS: usize = 4;
/// How many entries a thread takes at a time.
const BATCH: usize = 256;

/// Calls `look` for each of `items`, on a few threads when there are many, and gives what it found in the order of the items.
pub(crate) fn scan<T: Sync, R: Send>(items: &[T], look: impl Fn(&T) -> Option<R> + Sync) -> Vec<R> {
    let batches: Vec<&[T]> = items.chunks(BATCH).collect();
    let found = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(batch) = batches.get(index) else { break };
        let results: Vec<R> = batch.iter().filter_map(&look).collect();
        if !results.is_empty() {
            found.lock().unwrap_or_else(PoisonError::into_inner).push((index, results));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(THREADS).min(batches.len()) {
            // A thread that cannot be had is a thread less.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(index, _)| *index);
    found.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<usize> = (0..BATCH * 5 + 3).collect();
        let even = scan(&items, |item| (item % 2 == 0).then_some(*item));
        assert_eq!(even, items.into_iter().filter(|item| item % 2 == 0).collect::<Vec<_>>());
        assert!(scan(&[0_u8; 0], |_| Some(())).is_empty());
    }
}
