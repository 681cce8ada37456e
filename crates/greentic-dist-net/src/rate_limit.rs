//! What a server says about how much it may be asked.

use std::time::Duration;

use http::HeaderMap;

/// Longest header value that is looked at, in bytes.
const VALUE_BYTES: usize = 256;
/// Longest window or wait that is believed.
pub(crate) const LONGEST: Duration = Duration::from_hours(24 * 366);

/// A server's limit of requests, as far as its answer tells: in `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`
/// (Docker Hub writes `100;w=21600`), or in `RateLimit`. The server's word, strictly parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Requests of a window.
    pub limit: Option<u64>,
    /// Requests that are left of them.
    pub remaining: Option<u64>,
    /// The window.
    pub window: Option<Duration>,
    /// How long until there are new ones.
    pub reset: Option<Duration>,
}

impl RateLimit {
    /// `None` when the answer tells nothing that can be understood.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = |name: &str| headers.get(name)?.to_str().ok().filter(|value| value.len() <= VALUE_BYTES);
        let first = |name: &str| value(name).and_then(|list| list.split(',').next());
        let mut found = Self::default();
        if let Some(item) = first("ratelimit-limit") {
            found.limit = number(item.split(';').next().unwrap_or_default());
            found.window = parameter(item, "w").and_then(seconds);
        }
        if let Some(item) = first("ratelimit-remaining") {
            found.remaining = number(item.split(';').next().unwrap_or_default());
        }
        found.reset = first("ratelimit-reset").and_then(seconds);
        if let Some(fields) = value("ratelimit") {
            let one_of = |names: [&str; 2]| names.iter().find_map(|name| parameter(fields, name));
            found.limit = found.limit.or_else(|| parameter(fields, "limit").and_then(number));
            found.remaining = found.remaining.or_else(|| one_of(["remaining", "r"]).and_then(number));
            found.reset = found.reset.or_else(|| one_of(["reset", "t"]).and_then(seconds));
        }
        (found != Self::default()).then_some(found)
    }

    /// How long to wait before the next request: as long as there is none left.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.reset.filter(|_| self.remaining == Some(0))
    }

    /// In words, when there is something to say.
    pub(crate) fn in_words(&self) -> Option<String> {
        let limit = self.limit?;
        let window = match self.window.map(|window| window.as_secs()) {
            Some(seconds) if seconds > 0 && seconds % 3_600 == 0 => format!(" in {} h", seconds / 3_600),
            Some(seconds) => format!(" in {seconds} s"),
            None => String::new(),
        };
        Some(format!("the server allows {limit} requests{window}"))
    }
}

/// The value of `name=value` in a list of such.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = text.split([',', ';']).filter_map(|part| part.split_once('='));
    parts.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn seconds(text: &str) -> Option<Duration> {
    number(text).map(Duration::from_secs).filter(|duration| *duration <= LONGEST)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn told(fields: &[(&'static str, &str)]) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        RateLimit::of(&headers)
    }

    #[test]
    fn the_forms_servers_tell_their_limit_in_are_read() {
        let six_hours = Some(Duration::from_hours(6));
        let hub = told(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")]).unwrap();
        assert_eq!(hub, RateLimit { limit: Some(100), remaining: Some(0), window: six_hours, reset: None });
        assert_eq!(hub.in_words().as_deref(), Some("the server allows 100 requests in 6 h"));
        assert_eq!(hub.wait(), None);
        let fields =
            [("ratelimit-limit", "10, 10;w=1, 50;w=60"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "7")];
        let draft = told(&fields).unwrap();
        assert_eq!((draft.limit, draft.wait()), (Some(10), Some(Duration::from_secs(7))));
        for field in ["limit=100, remaining=0, reset=5", "\"default\";r=0;t=5"] {
            assert_eq!(told(&[("ratelimit", field)]).unwrap().wait(), Some(Duration::from_secs(5)), "{field}");
        }
        let left = told(&[("ratelimit-remaining", "3"), ("ratelimit-reset", "7")]).unwrap();
        assert_eq!((left.wait(), left.in_words()), (None, None), "there are some left");
    }

    #[test]
    fn what_is_no_limit_is_none() {
        for garbage in ["", "-1", "1.5", "ten", "0x10", "1 2", "99999999999999999999"] {
            assert_eq!(told(&[("ratelimit-limit", garbage), ("ratelimit-reset", garbage)]), None, "{garbage}");
        }
        // A point in time, or a wait of centuries.
        assert_eq!(told(&[("ratelimit-reset", "1795248000")]), None);
        let long = format!("1{}", " ".repeat(VALUE_BYTES));
        assert_eq!(told(&[("ratelimit-limit", &long)]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(value in "[ -~]{0,80}") {
            for name in ["ratelimit", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
                if let Some(found) = told(&[(name, &value)]) {
                    prop_assert!(found.reset.is_none_or(|reset| reset <= LONGEST));
                    prop_assert_eq!(found.in_words().is_some(), found.limit.is_some());
                }
            }
        }
    }
}
