//! Counters of what a [`Net`](crate::Net) did, host by host.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

use crate::RateLimit;

/// Most hosts with counters of their own; what further ones do is counted together.
const HOSTS: usize = 1_024;
/// The name of all further ones.
const OTHERS: &str = "others";

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStats {
    /// HTTP requests sent, every attempt, redirect hop and token request counted.
    pub requests: u64,
    /// Attempts after a first one that failed.
    pub retries: u64,
    /// Bodies continued after a cut or a stall.
    pub resumes: u64,
    /// Body bytes received, thrown-away ones included.
    pub bytes_received: u64,
    /// Body bytes sent, those of attempts that failed included.
    pub bytes_sent: u64,
    /// Requests to token servers (part of `requests`).
    pub token_requests: u64,
    /// Connections made, TLS handshakes included, to the host or to the proxy before it.
    pub connections_opened: u64,
    /// Requests that were answered over a connection that was open already.
    pub connections_reused: u64,
}

impl std::ops::Add for NetStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            retries: self.retries + other.retries,
            resumes: self.resumes + other.resumes,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            token_requests: self.token_requests + other.token_requests,
            connections_opened: self.connections_opened + other.connections_opened,
            connections_reused: self.connections_reused + other.connections_reused,
        }
    }
}

/// What was done so far, in all and with each host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// All hosts together.
    pub total: NetStats,
    /// By `host:port`: registries, mirrors, token servers, where redirects led. Beyond 1024 hosts the further ones are `others`.
    pub hosts: BTreeMap<String, NetStats>,
    /// What each host said last about its limit of requests, on any answer. Hosts that say nothing are not in it.
    pub rate_limits: BTreeMap<String, RateLimit>,
    /// Artifacts that were opened from the cache instead of being fetched. 0 for a client without a cache.
    pub cache_hits: u64,
}

impl std::ops::Add for ClientStats {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (host, stats) in other.hosts {
            let known = self.hosts.entry(host).or_default();
            *known = *known + stats;
        }
        self.rate_limits.extend(other.rate_limits);
        Self {
            total: self.total + other.total,
            hosts: self.hosts,
            rate_limits: self.rate_limits,
            cache_hits: self.cache_hits + other.cache_hits,
        }
    }
}

/// The counters of one host.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) resumes: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) token_requests: AtomicU64,
    pub(crate) connections_opened: AtomicU64,
    pub(crate) connections_reused: AtomicU64,
    rate_limit: Mutex<Option<RateLimit>>,
}

impl Tally {
    /// What the host said last about its limit of requests.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        *self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what an answer says about a limit, where it says anything.
    pub(crate) fn note_rate_limit(&self, headers: &HeaderMap) {
        if let Some(told) = RateLimit::of(headers) {
            *self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        }
    }

    fn read(&self) -> NetStats {
        NetStats {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            resumes: self.resumes.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            token_requests: self.token_requests.load(Ordering::Relaxed),
            connections_opened: self.connections_opened.load(Ordering::Relaxed),
            connections_reused: self.connections_reused.load(Ordering::Relaxed),
        }
    }
}

/// The counters of all hosts.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<HashMap<String, Arc<Tally>>>);

impl Counters {
    /// The counters of a host, `host:port`.
    pub(crate) fn tally(&self, host: &str) -> Arc<Tally> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if hosts.len() >= HOSTS && !hosts.contains_key(host) { OTHERS } else { host };
        Arc::clone(hosts.entry(key.to_owned()).or_default())
    }

    pub(crate) fn read(&self) -> ClientStats {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = hosts.iter().filter_map(|(host, tally)| Some((host.clone(), tally.rate_limit()?)));
        let rate_limits = told.collect();
        let hosts = hosts.iter().map(|(host, tally)| (host.clone(), tally.read()));
        // Nothing was sent to a host that is only known by name.
        let hosts: BTreeMap<_, _> = hosts.filter(|(_, stats)| *stats != NetStats::default()).collect();
        let total = hosts.values().copied().fold(NetStats::default(), std::ops::Add::add);
        ClientStats { total, hosts, rate_limits, cache_hits: 0 }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_number_are_counted_together() {
        let counters = Counters::default();
        for number in 0..2_000 {
            count(&counters.tally(&format!("host{number}:443")).requests);
        }
        count(&counters.tally("host0:443").requests);
        let stats = counters.read();
        assert_eq!((stats.total.requests, stats.hosts.len()), (2_001, HOSTS + 1));
        assert_eq!(stats.hosts.get("host0:443").map(|host| host.requests), Some(2));
        assert_eq!(stats.hosts.get(OTHERS).map(|host| host.requests), Some(976));
        let doubled = stats.clone() + stats;
        assert_eq!((doubled.total.requests, doubled.hosts.len()), (4_002, HOSTS + 1));
    }
}
