//! What tells, without reading it, that a file is still the one that was hashed.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long two writes can carry the same time: two ticks of the slowest clock a kernel stamps files with.
const TICK: Duration = Duration::from_millis(20);
/// The same for file systems that keep whole seconds, or every second one.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// Which file it is, how long, and when it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    size_bytes: u64,
    modified_at: Option<SystemTime>,
    /// Device and number.
    #[cfg(unix)]
    file: (u64, u64),
    /// Seconds and nanoseconds of the last change, which unlike that of the last modification nobody can set.
    #[cfg(unix)]
    changed_at: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            size_bytes: meta.len(),
            modified_at: meta.modified().ok(),
            #[cfg(unix)]
            file: (meta.dev(), meta.ino()),
            #[cfg(unix)]
            changed_at: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// When the file was modified, where the system tells.
    pub(crate) const fn modified_at(&self) -> Option<SystemTime> {
        self.modified_at
    }

    /// How long after `now` a further write could still leave the stamp as it is; at most two seconds, unless the file was
    /// changed in the future.
    pub(crate) fn settles_in(&self, now: SystemTime) -> Duration {
        let changed_at = self.changed_since_epoch();
        let tick = if changed_at.subsec_nanos() == 0 { COARSE_TICK } else { TICK };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        (changed_at + tick).saturating_sub(now)
    }

    #[cfg(unix)]
    fn changed_since_epoch(&self) -> Duration {
        let (seconds, nanos) = self.changed_at;
        Duration::new(u64::try_from(seconds).unwrap_or_default(), u32::try_from(nanos).unwrap_or_default())
    }

    #[cfg(not(unix))]
    fn changed_since_epoch(&self) -> Duration {
        self.modified_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
    }

    /// The longest wait for a stamp to settle.
    pub(crate) const fn patience() -> Duration {
        COARSE_TICK
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn changed(seconds: i64, nanos: i64) -> Stamp {
        Stamp { size_bytes: 0, modified_at: None, file: (1, 1), changed_at: (seconds, nanos) }
    }

    #[test]
    fn a_file_settles_when_its_clock_has_ticked() {
        let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(changed(10, 1_000_000).settles_in(at(10_001)), TICK);
        assert_eq!(changed(10, 1_000_000).settles_in(at(10_021)), Duration::ZERO);
        assert_eq!(changed(10, 0).settles_in(at(11_000)), Duration::from_secs(1));
        assert_eq!(changed(10, 0).settles_in(at(12_000)), Duration::ZERO);
        // A clock that was set back.
        assert!(changed(100, 1).settles_in(at(10_000)) > Stamp::patience());
    }
}
