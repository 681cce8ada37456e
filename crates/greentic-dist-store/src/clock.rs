//! Where the store gets the time from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock, or a fixed one in tests. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock that stands still.
    pub fn fixed(now: SystemTime) -> Self {
        Self(Arc::new(move || now))
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// The time now in unix seconds; 0 before 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// How long ago `then` was; zero when it is in the future.
    pub fn age(&self, then: SystemTime) -> Duration {
        self.now().duration_since(then).unwrap_or_default()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_future_has_no_age() {
        let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(100));
        assert_eq!(clock.age(UNIX_EPOCH + Duration::from_secs(500)), Duration::ZERO);
        assert_eq!(clock.age(UNIX_EPOCH + Duration::from_secs(40)), Duration::from_mins(1));
        assert_eq!(clock.unix_seconds(), 100);
    }
}
