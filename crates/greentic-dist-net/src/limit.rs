//! How many requests one host gets at a time, and what else is known about a host. The turn of a request lives in the answer
//! and ends with its body.
//!
//! A host that answers 429 or 503 gets half as many from then on, at least one; for every 20 other answers it gets one more,
//! up to what is configured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::RetryPolicy;
use crate::budget::Budget;
use crate::stats::{ClientStats, Counters, Tally};

/// Most hosts remembered; beyond it the table starts anew.
const HOSTS: usize = 1_024;
/// Most requests at a time that are set for one host.
const MOST_SET: usize = 1_024;
/// Answers in a row, none of them 429 or 503, after which a host gets one request more at a time.
const SUCCESSES: u32 = 20;
/// Errors in its HTTP/2 after which a host is spoken to with HTTP/1.1.
const HTTP2_ERRORS: u8 = 2;
/// The number for a host that speaks nothing but HTTP/2.
const HTTP2_ONLY: u8 = u8::MAX;
/// Blobs and files read at a time from one host up to which segments are asked for beside them, however many requests it gets
/// otherwise: many do not like more connections. The first connection of a blob is one of them.
const READS_WITH_SEGMENTS: usize = 8;
/// Queues of a host.
const QUEUES: usize = 3;

/// Separate queues, so that a manifest never waits behind the blobs of other artifacts, nor for a stream its own caller holds,
/// and a push never waits for the pull it copies from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Manifests, tokens: short.
    Metadata,
    /// Blobs and files, read.
    Body,
    /// A part of a blob, beside others of it: as [`Lane::Body`], over a connection of its own. Never waits, since what it would
    /// wait for may be the blob's other parts.
    Segment,
    /// Blobs, written.
    Upload,
}

impl Lane {
    const fn queue(self) -> usize {
        match self {
            Self::Metadata => 0,
            Self::Body | Self::Segment => 1,
            Self::Upload => 2,
        }
    }
}

/// What several connections for one body are good for at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gain {
    Unknown,
    Some,
    None,
}

/// What is known of a host and requests for a part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    Unknown,
    /// It has answered one as it was asked: an odd answer later is that of one transfer.
    Some,
    None,
}

#[derive(Debug)]
pub(crate) struct HostLimit {
    queues: [Arc<Semaphore>; QUEUES],
    /// Blobs and files that are read now, and segments of them.
    reads: AtomicUsize,
    flow: Mutex<Flow>,
    budget: Budget,
    tally: Arc<Tally>,
    answered: AtomicBool,
    gain: AtomicU8,
    ranges: Mutex<Ranges>,
    http2_errors: AtomicU8,
}

/// How many requests each queue lets through at a time.
#[derive(Debug)]
struct Flow {
    most: usize,
    allowed: usize,
    successes: u32,
    /// Counts the times it was lowered. Requests of an earlier round say nothing about the present one.
    round: u64,
    /// Turns of each queue that were taken before it was lowered and are one too many now.
    excess: [usize; QUEUES],
}

/// The turn of one request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    host: Arc<HostLimit>,
    queue: usize,
    round: u64,
    permit: Option<OwnedSemaphorePermit>,
    /// Held beside its place among the bodies.
    _read: Option<Read>,
}

/// A place among the reads of a host, until it is dropped.
#[derive(Debug)]
struct Read(Arc<HostLimit>);

impl Read {
    fn begin(host: &Arc<HostLimit>) -> Self {
        host.reads.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(host))
    }

    /// `None` when the host has as many as it gets with segments.
    fn begin_segment(host: &Arc<HostLimit>) -> Option<Self> {
        let more = |reads| (reads < READS_WITH_SEGMENTS).then_some(reads + 1);
        host.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(host)))
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.0.reads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    pub(crate) fn host(&self) -> &HostLimit {
        &self.host
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        if let Some(excess @ 1..) = self.host.flow().excess.get_mut(self.queue) {
            *excess -= 1;
            permit.forget();
        }
    }
}

impl HostLimit {
    fn new(per_lane: usize, retry: &RetryPolicy, tally: Arc<Tally>) -> Self {
        Self {
            queues: std::array::from_fn(|_| Arc::new(Semaphore::new(per_lane))),
            reads: AtomicUsize::new(0),
            flow: Mutex::new(Flow { most: per_lane, allowed: per_lane, successes: 0, round: 0, excess: [0; QUEUES] }),
            budget: Budget::new(retry),
            tally,
            answered: AtomicBool::new(false),
            gain: AtomicU8::new(0),
            ranges: Mutex::new(Ranges::Unknown),
            http2_errors: AtomicU8::new(0),
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. `None` for a segment that would have to wait. Cancel-safe.
    pub(crate) async fn acquire(self: &Arc<Self>, lane: Lane) -> Option<Turn> {
        let queue = lane.queue();
        let semaphore = Arc::clone(self.queues.get(queue)?);
        let (permit, read) = match lane {
            Lane::Segment => {
                let read = Read::begin_segment(self)?;
                (semaphore.try_acquire_owned().ok()?, Some(read))
            }
            // The semaphores are never closed.
            Lane::Body => (semaphore.acquire_owned().await.ok()?, Some(Read::begin(self))),
            Lane::Metadata | Lane::Upload => (semaphore.acquire_owned().await.ok()?, None),
        };
        let round = self.flow().round;
        Some(Turn { host: Arc::clone(self), queue, round, permit: Some(permit), _read: read })
    }

    /// Takes note of an answer: that there was one, and whether the host has too much to do.
    pub(crate) fn note(&self, status: StatusCode, turn: &Turn) {
        // Later requests may meet a connection it has closed meanwhile.
        self.answered.store(true, Ordering::Relaxed);
        let mut flow = self.flow();
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            flow.successes = flow.successes.saturating_add(1);
            if flow.successes >= SUCCESSES {
                flow.successes = 0;
                self.raise(&mut flow);
            }
            return;
        }
        flow.successes = 0;
        // The others of a burst have been answered for with the first of them.
        if turn.round == flow.round {
            flow.round = flow.round.wrapping_add(1);
            self.halve(&mut flow);
        }
    }

    fn halve(&self, flow: &mut Flow) {
        let allowed = (flow.allowed / 2).max(1);
        self.lower(flow, allowed);
        tracing::debug!(allowed, "the host is busy and gets fewer requests at a time");
    }

    /// Sets how many requests it gets at a time when it is not busy.
    fn set_most(&self, most: usize) {
        let mut flow = self.flow();
        let was_lowered = flow.allowed < flow.most;
        flow.most = most;
        if flow.allowed > most {
            self.lower(&mut flow, most);
        }
        while !was_lowered && flow.allowed < most {
            self.raise(&mut flow);
        }
    }

    fn lower(&self, flow: &mut Flow, allowed: usize) {
        let less = flow.allowed.saturating_sub(allowed);
        flow.allowed = allowed;
        for (queue, excess) in self.queues.iter().zip(&mut flow.excess) {
            *excess += less.saturating_sub(queue.forget_permits(less));
        }
    }

    fn raise(&self, flow: &mut Flow) {
        if flow.allowed >= flow.most {
            return;
        }
        flow.allowed += 1;
        for (queue, excess) in self.queues.iter().zip(&mut flow.excess) {
            if *excess > 0 {
                *excess -= 1;
            } else {
                queue.add_permits(1);
            }
        }
    }

    /// What may be tried again.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What was done with it.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// How many more segments of a blob may be transferred right now.
    pub(crate) fn room(&self) -> usize {
        let bodies = self.queues.get(Lane::Body.queue()).map_or(0, |bodies| bodies.available_permits());
        bodies.min(READS_WITH_SEGMENTS.saturating_sub(self.reads.load(Ordering::Relaxed)))
    }

    pub(crate) fn gain(&self) -> Gain {
        match self.gain.load(Ordering::Relaxed) {
            0 => Gain::Unknown,
            1 => Gain::Some,
            _ => Gain::None,
        }
    }

    pub(crate) fn set_gain(&self, gain: Gain) {
        let number = match gain {
            Gain::Unknown => 0,
            Gain::Some => 1,
            Gain::None => 2,
        };
        self.gain.store(number, Ordering::Relaxed);
    }

    /// Takes note of what became of a request for a part: whether the part was sent.
    pub(crate) fn note_range(&self, sent: bool) {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if *ranges == Ranges::Unknown {
            *ranges = if sent { Ranges::Some } else { Ranges::None };
            tracing::debug!(sent, "the host was asked for a part of a body for the first time");
        }
    }

    /// Whether it is not asked for parts any more, because it sends whole bodies or something else instead.
    pub(crate) fn has_no_ranges(&self) -> bool {
        *self.ranges.lock().unwrap_or_else(PoisonError::into_inner) == Ranges::None
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes note that its HTTP/2 broke; `for_good` when it said itself that it wants HTTP/1.1.
    pub(crate) fn note_http2_error(&self, for_good: bool) {
        let errors = self.http2_errors.load(Ordering::Relaxed);
        if errors == HTTP2_ONLY {
            return;
        }
        let errors = if for_good { HTTP2_ERRORS } else { errors.saturating_add(1).min(HTTP2_ERRORS) };
        self.http2_errors.store(errors, Ordering::Relaxed);
        if errors >= HTTP2_ERRORS {
            tracing::debug!("the host is spoken to with HTTP/1.1 from now on: its HTTP/2 does not work");
        }
    }

    /// Takes note that it speaks no HTTP/1.1. Whether that was tried because its HTTP/2 had broken.
    pub(crate) fn note_no_http1(&self) -> bool {
        self.http2_errors.swap(HTTP2_ONLY, Ordering::Relaxed) == HTTP2_ERRORS
    }

    /// Whether it is spoken to with HTTP/1.1, because its HTTP/2 does not work.
    pub(crate) fn wants_http1(&self) -> bool {
        self.http2_errors.load(Ordering::Relaxed) == HTTP2_ERRORS
    }
}

/// `host:port`.
fn key_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// The limits of all hosts.
#[derive(Debug)]
pub(crate) struct HostLimits {
    per_lane: usize,
    retry: RetryPolicy,
    counters: Counters,
    hosts: Mutex<HashMap<String, Arc<HostLimit>>>,
    /// Requests at a time of hosts for which that was said.
    set: Mutex<HashMap<String, usize>>,
}

impl HostLimits {
    pub(crate) fn new(per_lane: usize, retry: RetryPolicy) -> Self {
        let per_lane = per_lane.clamp(1, Semaphore::MAX_PERMITS);
        Self { per_lane, retry, counters: Counters::default(), hosts: Mutex::default(), set: Mutex::default() }
    }

    /// Sets how many requests one host gets at a time, at least one.
    pub(crate) fn set(&self, url: &Url, per_lane: usize) {
        let (key, per_lane) = (key_of(url), per_lane.clamp(1, MOST_SET));
        let known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).map(Arc::clone);
        if let Some(host) = known {
            host.set_most(per_lane);
        }
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if set.len() < HOSTS {
            set.insert(key, per_lane);
        }
    }

    /// What was done with all of them.
    pub(crate) fn stats(&self) -> ClientStats {
        self.counters.read()
    }

    pub(crate) fn of(&self, url: &Url) -> Arc<HostLimit> {
        let key = key_of(url);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS && !hosts.contains_key(&key) {
            hosts.clear();
        }
        let host = hosts.entry(key).or_insert_with_key(|key| {
            let set = self.set.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
            Arc::new(HostLimit::new(set.unwrap_or(self.per_lane), &self.retry, self.counters.tally(key)))
        });
        Arc::clone(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(per_lane: usize) -> Arc<HostLimit> {
        Arc::new(HostLimit::new(per_lane, &RetryPolicy::default(), Arc::default()))
    }

    fn free(host: &HostLimit) -> Vec<usize> {
        host.queues.iter().map(|queue| queue.available_permits()).collect()
    }

    async fn turns(host: &Arc<HostLimit>, lane: Lane, count: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for _ in 0..count {
            turns.push(host.acquire(lane).await.unwrap());
        }
        turns
    }

    fn go_well(host: &HostLimit, turn: &Turn, times: u32) {
        for _ in 0..times {
            host.note(StatusCode::NOT_FOUND, turn);
        }
    }

    #[tokio::test]
    async fn a_busy_host_gets_half_as_many_requests_at_a_time_and_never_none() {
        let host = host(8);
        for allowed in [4, 2, 1, 1] {
            let turn = host.acquire(Lane::Metadata).await.unwrap();
            host.note(StatusCode::TOO_MANY_REQUESTS, &turn);
            drop(turn);
            assert_eq!(free(&host), [allowed; 3]);
        }
    }

    #[tokio::test]
    async fn a_host_gets_segments_up_to_eight_reads_in_all_however_many_requests_it_is_good_for() {
        let host = host(32);
        let mut held = turns(&host, Lane::Body, 2).await;
        assert_eq!(host.room(), 6);
        held.extend(turns(&host, Lane::Segment, 6).await);
        assert!(host.acquire(Lane::Segment).await.is_none());
        assert_eq!((host.room(), free(&host)), (0, vec![32, 24, 32]));
        held.pop();
        assert_eq!(host.room(), 1);
        held.extend(turns(&host, Lane::Segment, 1).await);
        // Whole bodies wait for nothing but their own places, and what is no read is none of them.
        held.extend(turns(&host, Lane::Body, 24).await);
        let others = (turns(&host, Lane::Upload, 2).await, turns(&host, Lane::Metadata, 2).await);
        assert_eq!((host.room(), free(&host)), (0, vec![30, 0, 30]));
        drop(held);
        assert_eq!(host.room(), 8);
        drop(others);
        assert_eq!(host.room(), 8);
    }

    #[tokio::test]
    async fn a_burst_of_refusals_counts_once() {
        let host = host(8);
        let turns = turns(&host, Lane::Body, 8).await;
        for turn in &turns {
            host.note(StatusCode::SERVICE_UNAVAILABLE, turn);
        }
        drop(turns);
        assert_eq!(free(&host), [4; 3]);
    }

    #[tokio::test]
    async fn turns_that_were_taken_before_are_given_back_only_as_far_as_they_are_allowed() {
        let host = host(8);
        let mut held = turns(&host, Lane::Body, 6).await;
        host.note(StatusCode::TOO_MANY_REQUESTS, &held[0]);
        assert_eq!(free(&host), [4, 0, 4], "two free ones are gone, two of the six are too many");
        held.truncate(4);
        assert_eq!(free(&host), [4, 0, 4]);
        held.truncate(3);
        assert_eq!(free(&host), [4, 1, 4]);
        drop(held);
        assert_eq!(free(&host), [4; 3]);
    }

    #[tokio::test]
    async fn twenty_other_answers_allow_one_more_up_to_what_is_configured() {
        let host = host(3);
        let turn = host.acquire(Lane::Upload).await.unwrap();
        host.note(StatusCode::TOO_MANY_REQUESTS, &turn);
        go_well(&host, &turn, 19);
        assert_eq!(free(&host), [1, 1, 0]);
        go_well(&host, &turn, 1);
        assert_eq!(free(&host), [2, 2, 1]);
        go_well(&host, &turn, 19);
        // Nineteen are forgotten by the next refusal.
        host.note(StatusCode::TOO_MANY_REQUESTS, &host.acquire(Lane::Upload).await.unwrap());
        go_well(&host, &turn, 19);
        assert_eq!(free(&host), [1, 1, 0]);
        go_well(&host, &turn, 100);
        drop(turn);
        assert_eq!(free(&host), [3; 3]);
    }

    #[tokio::test]
    async fn a_segment_never_waits() {
        let host = host(1);
        let first = host.acquire(Lane::Body).await.unwrap();
        assert!(host.acquire(Lane::Segment).await.is_none());
        drop(first);
        assert!(host.acquire(Lane::Segment).await.is_some());
    }

    #[test]
    fn two_errors_of_its_http_2_or_its_own_word_turn_a_host_to_http_1() {
        let (one, other) = (host(1), host(1));
        one.note_http2_error(false);
        assert!(!one.wants_http1());
        one.note_http2_error(false);
        other.note_http2_error(true);
        assert!(one.wants_http1() && other.wants_http1());
        // It has none: there is nothing better than its HTTP/2.
        assert!(one.note_no_http1());
        one.note_http2_error(true);
        assert!(!one.wants_http1() && !one.note_no_http1());
    }
}
