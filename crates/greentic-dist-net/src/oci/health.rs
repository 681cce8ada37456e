//! Which mirrors are worth asking now: a circuit for those that do not answer, a quarantine for those that lie.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failed connections in a row that open the circuit.
const FAILURES: u32 = 3;
/// How long an open circuit keeps a mirror from being asked, give or take a tenth.
const OPEN: Duration = Duration::from_secs(30);
/// How long a mirror that sent wrong bytes is not asked, by no client of this process, and of others where it is written down.
pub(crate) const QUARANTINE: Duration = Duration::from_mins(10);
/// Most endpoints in quarantine; beyond it the table starts anew.
const QUARANTINED: usize = 1_024;

/// Until when endpoints, by their base URL without its scheme, are not asked.
static LIARS: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);

/// Why an endpoint is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It could not be reached several times in a row.
    Unreachable,
    /// It sent wrong bytes.
    Lied,
}

/// The circuit of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Circuit(Mutex<Count>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    failures: u32,
    open_until: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Circuit {
    /// Whether the endpoint may be asked. When the circuit has been open for long enough, one question is let through
    /// and the circuit stays open for the others until it is known what came of it.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut count = lock(&self.0);
        match count.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                count.open_until = Some(now + jittered(OPEN));
                true
            }
            None => true,
        }
    }

    /// The endpoint answered, whatever it said.
    pub(crate) fn answered(&self) {
        *lock(&self.0) = Count::default();
    }

    /// The endpoint could not be reached.
    pub(crate) fn failed(&self, now: Instant) {
        let mut count = lock(&self.0);
        count.failures = count.failures.saturating_add(1);
        if count.failures >= FAILURES {
            count.open_until = Some(now + jittered(OPEN));
        }
    }
}

/// Keeps every client of this process from an endpoint for a while.
pub(crate) fn quarantine(base: &str, now: Instant) {
    keep_until(base, now + QUARANTINE);
}

/// Keeps every client of this process from an endpoint that lied to another one: for so long, and not longer than from one that lied
/// to this one.
pub(crate) fn leave_alone(base: &str, time: Duration) {
    keep_until(base, Instant::now() + time.min(QUARANTINE));
}

fn keep_until(base: &str, until: Instant) {
    let mut liars = lock(&LIARS);
    if liars.len() >= QUARANTINED {
        liars.clear();
    }
    let known = liars.entry(place(base).to_owned()).or_insert(until);
    *known = until.max(*known);
}

/// The endpoint without the scheme it was asked over, which may be found out anew by another process.
fn place(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, place)| place)
}

/// Whether an endpoint sent wrong bytes a short while ago.
pub(crate) fn is_quarantined(base: &str, now: Instant) -> bool {
    let (mut liars, base) = (lock(&LIARS), place(base));
    match liars.get(base) {
        Some(until) if now < *until => true,
        Some(_) => {
            liars.remove(base);
            false
        }
        None => false,
    }
}

fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_the_circuit_and_one_question_probes_it() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        for _ in 0..2 {
            circuit.failed(start);
        }
        circuit.answered();
        for _ in 0..2 {
            circuit.failed(start);
            assert!(circuit.admits(start), "two in a row are not three");
        }
        circuit.failed(start);
        assert!(!circuit.admits(start) && !circuit.admits(start + OPEN.mul_f64(0.8)));
        let later = start + OPEN.mul_f64(1.2);
        assert!(circuit.admits(later), "the probe");
        assert!(!circuit.admits(later), "and nobody beside it");
        circuit.failed(later);
        assert!(!circuit.admits(later + OPEN.mul_f64(0.8)));
        let much_later = later + OPEN.mul_f64(1.2);
        assert!(circuit.admits(much_later));
        circuit.answered();
        assert!(circuit.admits(much_later) && circuit.admits(much_later));
    }

    #[test]
    fn a_quarantine_ends_by_itself() {
        let (base, now) = ("http://quarantine.of.this.test:1", Instant::now());
        assert!(!is_quarantined(base, now));
        quarantine(base, now);
        assert!(is_quarantined(base, now) && is_quarantined(base, now + QUARANTINE.mul_f64(0.99)));
        assert!(!is_quarantined("http://another.of.this.test:1", now));
        assert!(!is_quarantined(base, now + QUARANTINE));
    }

    #[test]
    fn what_another_process_found_counts_over_any_scheme_and_for_no_longer_than_ten_minutes() {
        let (base, now) = ("https://recalled.of.this.test:2/v2/x", Instant::now());
        leave_alone(base, Duration::from_secs(u64::MAX));
        assert!(is_quarantined("http://recalled.of.this.test:2/v2/x", now));
        assert!(!is_quarantined("http://recalled.of.this.test:2", now), "another endpoint");
        assert!(!is_quarantined(base, now + QUARANTINE + Duration::from_mins(1)));
        quarantine(base, now);
        leave_alone(base, Duration::ZERO);
        assert!(is_quarantined(base, now), "what this process knows is not shortened");
    }
}
