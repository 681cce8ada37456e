//! Questions that are asked once, however many want to know the answer at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Mutex as AsyncMutex;

use crate::NetError;

/// Abandoned questions that are kept before they are swept.
const SWEEP_AT: usize = 256;

/// The answer, once it is there. Whoever asks has it locked.
type Answer<T> = AsyncMutex<Option<Result<T, NetError>>>;
type Asked<K, T> = HashMap<K, Weak<Answer<T>>>;

/// The questions that are being asked right now. An answer is for those who waited for it, and for nobody after them.
#[derive(Debug)]
pub(crate) struct Flights<K, T>(Mutex<Asked<K, T>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// The answer to a question that somebody asks already, failures included; `ask`ed when nobody does.
    ///
    /// Cancel-safe: when the future that asks is dropped, the next one that waits asks. What failed because the time of the one who
    /// asked was up is asked again by the next one, whose own time counts.
    pub(crate) async fn join(&self, key: &K, ask: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
        let shared = self.find(key);
        let mut answer = shared.lock().await;
        if let Some(answer) = answer.as_ref() {
            return answer.clone();
        }
        let own = ask.await;
        if own.as_ref().err().is_none_or(|error| !error.is_past_deadline()) {
            // Whoever comes from now on asks anew: things may have changed.
            let mut asked = self.asked();
            if asked.get(key).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&shared))) {
                asked.remove(key);
            }
            *answer = Some(own.clone());
        }
        own
    }

    fn asked(&self) -> MutexGuard<'_, Asked<K, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &K) -> Arc<Answer<T>> {
        let mut asked = self.asked();
        if asked.len() >= SWEEP_AT {
            asked.retain(|_, known| known.strong_count() > 0);
        }
        let known = asked.get(key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let answer = Arc::<Answer<T>>::default();
            asked.insert(key.clone(), Arc::downgrade(&answer));
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::NetErrorKind;

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_answer_and_later_ones_get_a_new_one() {
        let (flights, asked) = (Flights::<&str, usize>::default(), AtomicUsize::new(0));
        let ask = || async {
            tokio::task::yield_now().await;
            Ok(asked.fetch_add(1, Ordering::Relaxed))
        };
        let (one, other, third) =
            tokio::join!(flights.join(&"a", ask()), flights.join(&"a", ask()), flights.join(&"b", ask()));
        assert_eq!(one.unwrap(), other.unwrap());
        assert!(third.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(flights.join(&"a", ask()).await.unwrap(), 2);
        assert!(flights.asked().is_empty());
    }

    #[tokio::test]
    async fn when_the_one_who_asks_goes_away_the_next_one_asks_and_failures_are_shared() {
        let flights = Flights::<&str, usize>::default();
        let mut first = Box::pin(flights.join(&"a", std::future::pending()));
        let second = flights.join(&"a", async { Err(NetError::new(NetErrorKind::NotFound, "")) });
        let third = flights.join(&"a", async { Ok(3) });
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(first.as_mut().poll(&mut context).is_pending());
        let both = async { tokio::join!(second, third) };
        let mut both = Box::pin(both);
        assert!(both.as_mut().poll(&mut context).is_pending());
        drop(first);
        let (second, third) = both.await;
        assert_eq!(second.unwrap_err().kind(), NetErrorKind::NotFound);
        assert_eq!(third.unwrap_err().kind(), NetErrorKind::NotFound);
    }
}
