//! A random wait before the first request, so that a fleet that is told something at once does not ask for it at once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::Observer;
use crate::observer::Event;

/// Longest time within which a first request is made: what may wait longer is better started later.
const LONGEST: Duration = Duration::from_hours(1);

/// When the first request may be made. Clones share it: there is one wait, whoever asks first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Splay(Option<Arc<Start>>);

#[derive(Debug)]
struct Start {
    within: Duration,
    at: OnceLock<Instant>,
}

impl Splay {
    pub(crate) fn within(time: Duration) -> Self {
        let start = Start { within: time.min(LONGEST), at: OnceLock::new() };
        Self((!time.is_zero()).then(|| Arc::new(start)))
    }

    /// Waits until the first request may be made; the time is drawn when this is called first. Cancel-safe: whoever waits the next
    /// time waits for what is left.
    pub(crate) async fn wait(&self, observer: &dyn Observer) {
        let Some(start) = &self.0 else { return };
        let mut drawn = None;
        let at = *start.at.get_or_init(|| {
            let delay = start.within.mul_f64(fastrand::f64());
            drawn = Some(delay);
            Instant::now() + delay
        });
        if let Some(delay) = drawn {
            tracing::debug!(?delay, "waiting before the first request");
            observer.event(&Event::Splay { delay });
        }
        if Instant::now() < at {
            sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Delays(Mutex<Vec<Duration>>);

    impl Observer for Delays {
        fn event(&self, event: &Event<'_>) {
            if let Event::Splay { delay } = event {
                self.0.lock().unwrap().push(*delay);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_waits_a_random_time_below_the_splay_and_everybody_waits_for_the_same() {
        let told = Delays::default();
        for _ in 0..64 {
            let splay = Splay::within(Duration::from_secs(30));
            let began = Instant::now();
            let shared = splay.clone();
            tokio::join!(splay.wait(&told), shared.wait(&told));
            let waited = began.elapsed();
            let delay = *told.0.lock().unwrap().last().unwrap();
            // The timer counts in milliseconds.
            assert!(waited >= delay && waited < delay + Duration::from_millis(2), "{waited:?} {delay:?}");
            let began = Instant::now();
            splay.wait(&told).await;
            assert_eq!(began.elapsed(), Duration::ZERO, "once");
        }
        let mut delays = told.0.lock().unwrap().clone();
        assert_eq!(delays.len(), 64, "each wait is told once");
        assert!(delays.iter().all(|delay| *delay < Duration::from_secs(30)));
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 1, "they differ");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_the_rest_of_the_wait_to_the_next_one() {
        let (told, splay) = (Delays::default(), Splay::within(Duration::from_mins(1)));
        let began = Instant::now();
        tokio::select! {
            biased;
            () = splay.wait(&told) => {}
            () = std::future::ready(()) => {}
        }
        splay.wait(&told).await;
        let delays = told.0.lock().unwrap();
        assert_eq!(delays.len(), 1);
        assert!(began.elapsed() < delays[0] + Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_splay_is_no_wait_and_no_more_than_an_hour_is_one() {
        let (told, began) = (Delays::default(), Instant::now());
        Splay::default().wait(&told).await;
        Splay::within(Duration::ZERO).wait(&told).await;
        assert!(told.0.lock().unwrap().is_empty() && began.elapsed().is_zero());
        Splay::within(Duration::MAX).wait(&told).await;
        assert!(told.0.lock().unwrap()[0] < LONGEST);
    }
}
