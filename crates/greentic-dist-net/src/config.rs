//! Timeouts, retry numbers and caps. Defaults are the project's; a builder may change them, a peer never can.

use std::time::Duration;

use greentic_dist_types::limits;
use url::{Host, Url};

/// How long each phase of a request may take, and where that is wanted, all of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect and TLS handshake together. Default 10 s.
    pub connect: Duration,
    /// From sending a request to the end of the answer's header, connecting included. Default 30 s.
    pub headers: Duration,
    /// The same for a token server. Default 15 s.
    pub token: Duration,
    /// Longest silence in the middle of a body. Default 30 s.
    pub idle_body: Duration,
    /// How long an unused connection is kept. Default 15 s.
    pub pool_idle: Duration,
    /// The slowest body that is put up with. `None` for any. Default 1 KiB/s over 60 s.
    pub slowest_body: Option<SlowestBody>,
    /// One call of this client in all: every request of it with its attempts, the waits between them, and a stream from its opening
    /// to its end. `None`, the default, for as long as something moves. At the deadline the call fails with a transient
    /// [`Timeout`](crate::NetErrorKind::Timeout), and what came of a download is kept by whoever keeps it otherwise.
    pub operation: Option<Duration>,
}

/// The slowest body that is put up with: fewer than `bytes` within `window` of waiting for the peer is a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowestBody {
    /// Bytes that must arrive.
    pub bytes: u64,
    /// Time spent waiting for the peer; time the consumer takes does not count.
    pub window: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            token: Duration::from_secs(15),
            idle_body: Duration::from_secs(30),
            pool_idle: Duration::from_secs(15),
            slowest_body: Some(SlowestBody { bytes: 60 << 10, window: Duration::from_mins(1) }),
            operation: None,
        }
    }
}

/// How often and after which waits a failed request is made again.
///
/// The wait before attempt `n + 1` is random between zero and `min(cap, base * 2^(n-1))` ("full jitter"). A
/// `Retry-After` replaces it. All questions to one host share a budget of retries, so that a host that is down is not
/// hammered by many tasks at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts of one request, the first included. Default 5.
    pub attempts: u32,
    /// Attempts when a loopback address refuses the connection: nobody is listening. Default 2.
    pub loopback_connect_attempts: u32,
    /// Attempts when a name does not resolve. Default 2: the system's resolver says "no such name" and "ask later" in one way, and the
    /// second lookup asks no server of the registry's. With 1 neither is tried again.
    pub dns_attempts: u32,
    /// Upper bound of the first wait. Default 200 ms.
    pub base: Duration,
    /// Upper bound of every wait. Default 10 s.
    pub cap: Duration,
    /// Longest `Retry-After` that is obeyed; a longer one fails the request as rate limited. Default 60 s.
    pub retry_after_cap: Duration,
    /// Resumes of a body in a row that bring not a byte. Default 5. Also bounds restarts on servers without ranges.
    pub stuck_resumes: u32,
    /// Resumes of one body in all. Default 1000.
    pub resumes: u32,
    /// How many retries a host is good for, in percent of the questions it is asked. Default 20. A retry that the server itself
    /// asked for with a `Retry-After` is not counted.
    pub budget_percent: u32,
    /// How many retries a host is good for at once beside those. Default 10; they come back one a second.
    pub budget_burst: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: limits::ATTEMPTS,
            loopback_connect_attempts: 2,
            dns_attempts: 2,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            retry_after_cap: limits::RETRY_AFTER,
            stuck_resumes: limits::STUCK_RESUMES,
            resumes: limits::RESUMES,
            budget_percent: 20,
            budget_burst: 10,
        }
    }
}

/// When a large blob comes over several connections at a time.
///
/// It begins with one. When that turns out slow, segments of the blob are asked for over others, with HTTP/1.1 each, and
/// given up again when all of them together are hardly faster. What was found out about a host is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangePolicy {
    /// Connections of one blob, the first included. Default 4; with 1 there is never another.
    pub connections: usize,
    /// The smallest rest of a blob in bytes that is worth it. Default 32 MiB.
    pub from_bytes: u64,
    /// Bytes of one segment. Default 8 MiB. Bytes come at most 16 segments before their turn.
    pub segment_bytes: u64,
    /// How long the first connection is watched before others are opened. Default 200 ms.
    pub look: Duration,
    /// The speed from which on one connection is enough, in bytes a second over the second half of `look`. Default
    /// 256 MiB/s.
    pub fast_bytes_per_second: u64,
    /// How long they are then watched together. Default 2 s.
    pub trial: Duration,
    /// By how much they must be faster than the first was alone, in percent. Default 15.
    pub gain_percent: u32,
    /// Whether servers on loopback addresses are asked over several connections, too. Default no: behind such an address is
    /// this machine, whose cores are better spent on hashing, or a tunnel, which is one connection whatever goes through it.
    pub loopback: bool,
}

impl RangePolicy {
    /// The least bytes that must have room before their turn: segments of less than a 32nd of the usual ones bring less than their
    /// requests cost.
    pub(crate) const fn least_ahead(&self) -> u64 {
        self.segment_bytes / 4
    }
}

impl Default for RangePolicy {
    fn default() -> Self {
        Self {
            connections: 4,
            from_bytes: 32 << 20,
            segment_bytes: 8 << 20,
            look: Duration::from_millis(200),
            fast_bytes_per_second: 256 << 20,
            trial: Duration::from_secs(2),
            gain_percent: 15,
            loopback: false,
        }
    }
}

/// Which registries may be asked over plain HTTP. Everything else is HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HttpRule {
    /// Registries on 127.0.0.0/8, `::1` and `localhost`: HTTP is tried first, and HTTPS when TLS answers there.
    #[default]
    Loopback,
    /// Loopback, and these hosts (`host` for every port, or `host:port`), always over HTTP.
    Also(Vec<String>),
    /// No registry at all.
    Never,
}

impl HttpRule {
    /// Whether `registry` (`host[:port]`) is asked over HTTP first.
    pub(crate) fn allows_registry(&self, registry: &str) -> bool {
        Url::parse(&format!("http://{registry}/")).is_ok_and(|url| self.allows(&url))
    }

    /// Whether plain HTTP may be spoken to the host of `url`.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        match self {
            Self::Never => false,
            Self::Loopback => is_loopback(url) && url.port() != Some(443),
            Self::Also(hosts) => {
                let Some(host) = url.host_str() else { return false };
                let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
                (is_loopback(url) && url.port() != Some(443))
                    || hosts.iter().any(|named| {
                        named.eq_ignore_ascii_case(host)
                            || with_port.as_deref().is_some_and(|with_port| named.eq_ignore_ascii_case(with_port))
                    })
            }
        }
    }
}

/// Whether the URL's host is this machine by name or literal: 127.0.0.0/8, `::1`, `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_named_hosts_only() {
        for local in ["localhost:5000", "localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(HttpRule::Loopback.allows_registry(local), "{local}");
            assert!(!HttpRule::Never.allows_registry(local), "{local}");
        }
        for remote in ["ghcr.io", "localhost.example", "10.0.0.1:5000", "[::2]:5000", "localhost:443", "128.0.0.1"] {
            assert!(!HttpRule::Loopback.allows_registry(remote), "{remote}");
        }
        let also = HttpRule::Also(vec!["lab.example".into(), "nas.example:5000".into()]);
        for (registry, allowed) in [
            ("lab.example", true),
            ("LAB.example:8080", true),
            ("nas.example:5000", true),
            ("nas.example:5001", false),
            ("xlab.example", false),
            ("localhost:1", true),
        ] {
            assert_eq!(also.allows_registry(registry), allowed, "{registry}");
        }
    }
}
