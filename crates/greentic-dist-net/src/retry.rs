//! When to try again, and after which wait.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use tokio::time::Instant;

use crate::host::parse_duration;
use crate::limit::HostLimit;
use crate::rate_limit::LONGEST;
use crate::{NetError, NetErrorKind, RetryPolicy};

/// Counts the attempts of one request and decides about the next.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    loopback: bool,
    others_to_ask: bool,
    attempts: u32,
    started: Instant,
    host: Arc<HostLimit>,
    is_out_of_budget: bool,
}

/// Longest `Retry-After` of a mirror that is obeyed; beyond it the next endpoint is quicker.
const MIRROR_RETRY_AFTER: Duration = Duration::from_secs(2);
/// Attempts at a mirror.
const MIRROR_ATTEMPTS: u32 = 2;

impl Retry {
    /// The attempts of one question to `host`, or of several that belong together.
    pub(crate) fn new(policy: RetryPolicy, loopback: bool, host: Arc<HostLimit>) -> Self {
        let started = Instant::now();
        Self { policy, loopback, others_to_ask: false, attempts: 0, started, host, is_out_of_budget: false }
    }

    /// The same for an endpoint behind which there are others: only a short wait that it asks for itself is worth it.
    pub(crate) fn with_others_to_ask(mut self) -> Self {
        self.others_to_ask = true;
        self.policy.attempts = self.policy.attempts.min(MIRROR_ATTEMPTS);
        self.policy.retry_after_cap = self.policy.retry_after_cap.min(MIRROR_RETRY_AFTER);
        self
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a failed attempt. The wait before the next one, or `None` when there is none.
    pub(crate) fn after(&mut self, error: &NetError) -> Option<Duration> {
        self.attempts = self.attempts.saturating_add(1);
        if !error.is_worth_repeating() || self.attempts >= self.allowed(error) {
            return None;
        }
        match error.retry_after() {
            Some(wait) if wait > self.policy.retry_after_cap => None,
            // The host wants to be asked again, and says when.
            Some(wait) => Some(wait),
            None if self.others_to_ask => None,
            None => {
                self.is_out_of_budget = !self.host.budget().spend();
                (!self.is_out_of_budget).then(|| self.policy.jitter(self.attempts))
            }
        }
    }

    /// Whether there is no next attempt because too many of other questions to the host had one.
    pub(crate) const fn is_out_of_budget(&self) -> bool {
        self.is_out_of_budget
    }

    /// What is known about the host that is asked.
    pub(crate) const fn host(&self) -> &Arc<HostLimit> {
        &self.host
    }

    fn allowed(&self, error: &NetError) -> u32 {
        let cap = match error.kind() {
            NetErrorKind::Connect if self.loopback => self.policy.loopback_connect_attempts,
            NetErrorKind::Dns => self.policy.dns_attempts,
            _ => self.policy.attempts,
        };
        cap.min(self.policy.attempts)
    }
}

impl RetryPolicy {
    /// A random wait after `failures` failures in a row: full jitter below a doubling, capped bound.
    pub(crate) fn jitter(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(factor).min(self.cap);
        Duration::from_micros(fastrand::u64(0..=u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// The wait a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date seen from the answer's own `Date`.
///
/// `None` when there is no such header or it is neither. A date in the past is no wait, and none is longer than a year.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let seen_from = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(until.duration_since(seen_from).unwrap_or_default().min(LONGEST))
}

/// The wait a registry asks for in its words: `toomanyrequests: retry-after: 1.16676ms, allowed: 44000/minute`.
pub(crate) fn retry_after_said(text: &str) -> Option<Duration> {
    const NAME: &str = "retry-after:";
    let at = text.to_ascii_lowercase().find(NAME)?;
    let rest = text.get(at.checked_add(NAME.len())?..)?.trim_start();
    parse_duration(rest.split([',', ';', ' ', ')']).next()?).map(|wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::HostLimits;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn retry(loopback: bool) -> Retry {
        let policy = RetryPolicy::default();
        let host = HostLimits::new(1, policy).of(&url::Url::parse("https://host.example").unwrap());
        Retry::new(policy, loopback, host)
    }

    fn asked(value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, HeaderValue::from_str(date).unwrap());
        }
        retry_after(&headers, httpdate::parse_http_date("Fri, 20 Nov 2026 10:00:00 GMT").unwrap())
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        assert_eq!(asked("2", None), Some(Duration::from_secs(2)));
        assert_eq!(asked("99999999999999999999999", None), Some(LONGEST));
        assert_eq!(asked("Fri, 01 Jan 9999 00:00:00 GMT", None), Some(LONGEST));
        assert_eq!(asked("Fri, 20 Nov 2026 10:00:05 GMT", None), Some(Duration::from_secs(5)));
        assert_eq!(asked("Fri, 20 Nov 2026 09:00:00 GMT", None), Some(Duration::ZERO));
        // The server's own clock counts where it tells it.
        let skewed = asked("Fri, 20 Nov 2026 12:00:07 GMT", Some("Fri, 20 Nov 2026 12:00:00 GMT"));
        assert_eq!(skewed, Some(Duration::from_secs(7)));
        for garbage in ["-1", "soon", "", "1.5", "2 s"] {
            assert_eq!(asked(garbage, None), None, "{garbage}");
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again_and_only_so_often() {
        let tries = |kind, loopback| {
            let mut retry = retry(loopback);
            while retry.after(&NetError::new(kind, "")).is_some() {}
            retry.attempts()
        };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            assert_eq!(tries(NetErrorKind::Server, false), 5);
            assert_eq!(tries(NetErrorKind::Connect, false), 5);
            assert_eq!(tries(NetErrorKind::Connect, true), 2);
            assert_eq!(tries(NetErrorKind::Dns, false), 2);
            for kind in [NetErrorKind::Tls, NetErrorKind::NotFound, NetErrorKind::Refused, NetErrorKind::Integrity] {
                assert_eq!(tries(kind, false), 1, "{kind:?}");
            }
        });
    }

    #[test]
    fn a_wait_over_the_cap_ends_the_request_at_once() {
        let mut retry = retry(false);
        let error = NetError::new(NetErrorKind::RateLimited, "");
        assert_eq!(
            retry.after(&error.clone().with_retry_after(Some(Duration::from_mins(1)))),
            Some(Duration::from_mins(1))
        );
        assert_eq!(retry.after(&error.with_retry_after(Some(Duration::from_secs(61)))), None);
    }

    #[test]
    fn a_mirror_is_waited_for_only_when_it_asks_for_a_short_wait_itself() {
        let wait = |asked: Option<u64>| {
            let mut retry = retry(false).with_others_to_ask();
            let error = NetError::new(NetErrorKind::RateLimited, "").with_retry_after(asked.map(Duration::from_secs));
            (retry.after(&error), retry.after(&error))
        };
        assert_eq!(wait(None), (None, None));
        assert_eq!(wait(Some(3)), (None, None));
        assert_eq!(wait(Some(2)), (Some(Duration::from_secs(2)), None), "once");
    }

    #[test]
    fn a_wait_in_the_words_of_a_registry_is_read() {
        for (text, nanos) in [
            ("retry-after: 1.16676ms, allowed: 44000/minute", Some(1_166_760)),
            ("toomanyrequests: Retry-After: 880µs", Some(880_000)),
            ("retry-after:2s", Some(2_000_000_000)),
            ("retry-after: soon", None),
            ("slow down", None),
            ("retry-after:", None),
        ] {
            assert_eq!(retry_after_said(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_in_words_never_panics(text in "\\PC{0,60}") {
            let _ = retry_after_said(&format!("é retry-after: {text}"));
            let _ = retry_after_said(&text);
        }

        #[test]
        fn waits_stay_below_the_doubling_bound_and_the_cap(failures in 1_u32..200) {
            let policy = RetryPolicy::default();
            let wait = policy.jitter(failures);
            prop_assert!(wait <= policy.cap);
            prop_assert!(wait <= policy.base.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)));
        }

        #[test]
        fn retry_after_never_panics(bytes in proptest::collection::vec(0x20_u8..0x7f, 0..60)) {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_bytes(&bytes).unwrap());
            let _ = retry_after(&headers, SystemTime::UNIX_EPOCH);
        }
    }
}
