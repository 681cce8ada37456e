//! A body over several connections at a time, where that is faster.
//!
//! It begins as any other, with one GET. Only when that is slow for what a local disk and hash can take are segments asked
//! for beside it, and when they bring too little more the host is remembered as one where they do not help. Everything runs
//! inside [`Pieces::next`]: no task is spawned, and dropping it ends all requests. What another connection does not bring comes
//! over the first (`front.rs`), so that the body fails only where it would have failed over one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::areas::{Area, Areas};
use super::resume::Transfer;
use super::start::Start;
use crate::config::RangePolicy;
use crate::deadline::done_by;
use crate::exchange::{Ask, Handed, Shared, Target};
use crate::fallback::Blame;
use crate::limit::{Gain, HostLimit, Lane};
use crate::target_policy::Reach;
use crate::transport::Reply;
use crate::{NetError, NetErrorKind};

/// Pieces that wait for the consumer, over all connections.
const QUEUE: usize = 4;
/// How long a connection beside the first may bring nothing. Then what it was to bring is left to the first.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether a busy host has room for another connection.
const ROOM_WAIT: Duration = Duration::from_millis(250);

/// Bytes of a body, and where in it they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The position of the first byte.
    pub offset: u64,
    /// The bytes as they came from the socket.
    pub bytes: Bytes,
}

/// A running transfer over one or more connections.
pub(crate) struct Pieces {
    split: Arc<Split>,
    queue: mpsc::Receiver<Piece>,
    works: VecDeque<(Role, Work)>,
    segments: usize,
    left: u64,
    /// When all of it is to be there.
    until: Option<Instant>,
}

type Work = Pin<Box<dyn Future<Output = Result<(), NetError>> + Send>>;

#[derive(Clone, Copy, Debug)]
enum Role {
    First,
    Segments(usize),
    Watch,
}

/// What the connections of one body share.
pub(super) struct Split {
    pub(super) transport: Shared,
    /// What the first connection asked; it finds the body again when a redirect has expired.
    pub(super) ask: Ask,
    /// The first byte that is wanted.
    pub(super) from: u64,
    pub(super) size: u64,
    policy: RangePolicy,
    host: Arc<HostLimit>,
    pub(super) blame: Blame,
    state: Mutex<State>,
    pub(super) changed: Notify,
    /// How many connections beside the first there are to be.
    pub(super) wanted: AtomicUsize,
    given_up: AtomicBool,
    /// Whether one of them was not asked for, because the host had no room for it.
    was_full: AtomicBool,
    /// Bytes that came, each once.
    pub(super) received: AtomicU64,
    /// Those of them that connections beside the first brought.
    pub(super) ranged: AtomicU64,
    /// How many of these had come when one of them failed last.
    pub(super) failed_at: AtomicU64,
    pub(super) queue: mpsc::Sender<Piece>,
}

pub(super) struct State {
    pub(super) areas: Areas,
    /// Where the redirects of the last answer led.
    resolved: Option<Handed>,
}

/// Whether the body of this answer may be worth more than one connection.
fn may_split(policy: &RangePolicy, reply: &Reply, left: u64) -> bool {
    let told = || reply.header(header::ACCEPT_RANGES).map(str::trim);
    let has_ranges = reply.status() == StatusCode::PARTIAL_CONTENT
        || told().map_or(reply.left_origin, |told| told.eq_ignore_ascii_case("bytes"));
    let is_far = policy.loopback || reply.reach != Reach::Loopback;
    policy.connections > 1 && left >= policy.from_bytes.max(1) && has_ranges && is_far
}

impl Pieces {
    /// Takes over a transfer that was just opened, of a body of `size` bytes that are named by their digest; gives it back
    /// when it is not worth more than one connection, whatever its speed. With `ahead`, at most about so many bytes come before
    /// their turn.
    pub(crate) fn new(
        transport: &Shared,
        ask: &Ask,
        transfer: Box<Transfer>,
        size: u64,
        ahead: Option<u64>,
    ) -> Result<Self, Box<Transfer>> {
        let from = transfer.offset();
        let left = size.saturating_sub(from);
        let is_let = |reply: &&Reply| {
            let access = reply.elsewhere.as_ref().or(ask.registry());
            access.is_none_or(|access| access.registry.may_split())
        };
        let reply = transfer.reply().filter(|reply| may_split(&transport.ranges, reply, left)).filter(is_let);
        let Some(reply) = reply else {
            return Err(transfer);
        };
        let (host, resolved) = (transport.hosts.of(&reply.url), resolved_at(ask, reply));
        if host.has_no_ranges() {
            return Err(transfer);
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let (policy, until) = (transport.ranges, transfer.deadline());
        let areas = Areas::new(from, size, policy.segment_bytes);
        let areas = match ahead {
            Some(bytes) => areas.within(bytes),
            None => areas,
        };
        let split = Arc::new(Split {
            transport: Arc::clone(transport),
            ask: ask.clone(),
            from,
            size,
            policy,
            host,
            blame: transfer.blame(),
            state: Mutex::new(State { areas, resolved }),
            changed: Notify::new(),
            wanted: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
            received: AtomicU64::new(0),
            ranged: AtomicU64::new(0),
            failed_at: AtomicU64::new(0),
            queue: sender,
        });
        let mut works: VecDeque<(Role, Work)> = VecDeque::new();
        works.push_back((Role::First, Box::pin(Arc::clone(&split).first(transfer))));
        works.push_back((Role::Watch, Box::pin(Arc::clone(&split).watch())));
        Ok(Self { split, queue, works, segments: 0, left, until })
    }

    pub(crate) fn transport(&self) -> &Shared {
        &self.split.transport
    }

    /// How many connections there were at a time, at most.
    pub(crate) const fn connections(&self) -> usize {
        self.segments + 1
    }

    /// Takes note that the bytes were not those that were asked for, as [`Transfer::refute`] does.
    pub(crate) fn refute(&self, error: NetError) -> NetError {
        let Split { transport, blame, .. } = &*self.split;
        blame.refute(transport, self.about(error))
    }

    /// The next piece, wherever it belongs; `None` when all bytes came. Cancel-safe: no byte is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, NetError>> {
        let until = self.until;
        let next = std::future::poll_fn(|context| self.poll_next(context));
        if until.is_none() {
            return next.await;
        }
        let next = done_by(until, async { next.await.transpose() }).await.transpose()?;
        Some(next.map_err(|error| {
            self.end();
            self.about(error)
        }))
    }

    /// Hands out nothing more, and gives up what is under way.
    fn end(&mut self) {
        self.left = 0;
        self.works.clear();
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
    }

    fn about(&self, error: NetError) -> NetError {
        self.split.ask.about(error)
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Piece, NetError>>> {
        loop {
            // What is in the queue was put there by `go_on`, and whoever puts more there wakes this task by itself. Waiting for
            // the queue would do harm: a task that has used up its turn is told that nothing is there, and would ask for ever.
            if let Ok(piece) = self.queue.try_recv() {
                self.left = self.left.saturating_sub(length(&piece.bytes));
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.left == 0 {
                self.works.clear();
                return Poll::Ready(None);
            }
            match self.go_on(context) {
                Ok(false) if self.queue.is_empty() => return Poll::Pending,
                Ok(_) => {}
                Err(error) => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Polls everything once. Whether anything began or ended, so that it is worth another time.
    fn go_on(&mut self, context: &mut Context<'_>) -> Result<bool, NetError> {
        let mut changes = self.begin_wanted();
        for _ in 0..self.works.len() {
            let Some((role, mut work)) = self.works.pop_front() else { break };
            match (role, work.as_mut().poll(context)) {
                (_, Poll::Pending) => {
                    self.works.push_back((role, work));
                    continue;
                }
                (Role::First, Poll::Ready(Err(error))) => return Err(error),
                (Role::Segments(number), Poll::Ready(Err(error))) => self.split.failed(number, &error),
                (_, Poll::Ready(_)) => {}
            }
            changes = true;
        }
        Ok(changes)
    }

    fn begin_wanted(&mut self) -> bool {
        let wanted = self.split.wanted.load(Ordering::Relaxed);
        let begins = self.segments < wanted;
        while self.segments < wanted {
            self.segments += 1;
            let number = self.segments;
            self.works.push_back((Role::Segments(number), Box::pin(Arc::clone(&self.split).segments(number))));
        }
        begins
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").field("left", &self.left).field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Split {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a connection has still before it.
    fn area_of(&self, number: usize) -> Option<Area> {
        self.state().areas.of(number)
    }

    /// Whether the first connection works alone.
    pub(super) fn is_alone(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 0 || self.given_up.load(Ordering::Relaxed)
    }

    /// Another connection: brings one segment after the other.
    async fn segments(self: Arc<Self>, number: usize) -> Result<(), NetError> {
        while self.next_area(number).await.is_some() {
            let mut expired = None;
            while let Err((error, used)) = self.segment(number, expired.as_ref()).await {
                let has_expired = matches!(error.status(), Some(400 | 401 | 403 | 404 | 410));
                match used.filter(|_| has_expired && expired.is_none()) {
                    Some(used) => expired = Some(used),
                    None => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reads what is left of the present segment from the resolved address, or by asking the registry where there is none but the
    /// `expired` one. Says of a failure which resolved address it came from.
    async fn segment(&self, number: usize, expired: Option<&Url>) -> Result<(), (NetError, Option<Url>)> {
        let (area, resolved) = {
            let state = self.state();
            let resolved = state.resolved.clone().filter(|handed| Some(&handed.url) != expired);
            (state.areas.of(number), resolved)
        };
        let Some(Area { at, end }) = area else { return Ok(()) };
        let used = resolved.as_ref().map(|handed| handed.url.clone());
        let mut ask = self.ask.clone();
        ask.lane = Lane::Segment;
        if let Some(handed) = resolved {
            ask.target = Target::Handed(Box::new(handed));
        }
        let (size, range_end) = (self.size, Some(end));
        let start = Start { offset: at, size: Some(size), limit: size, content_addressed: true, range_end };
        let brought = async {
            let (transport, detour) = (Arc::clone(&self.transport), self.blame.detour.clone());
            let opening = Transfer::open_as_part(transport, ask, start, detour);
            let mut transfer = timeout(SEGMENT_PATIENCE, opening).await.unwrap_or_else(|_| Err(stands_still()))?;
            let found = transfer.reply().and_then(|reply| resolved_at(&self.ask, reply));
            if let (None, Some(found)) = (&used, found) {
                self.state().resolved = Some(found);
            }
            self.read(&mut transfer, number).await
        };
        brought.await.map_err(|error| (error, used.clone()))
    }

    /// Hands on what comes until the connection's area is over.
    pub(super) async fn read(&self, transfer: &mut Transfer, number: usize) -> Result<(), NetError> {
        while let Some(before) = self.area_of(number) {
            let offset = transfer.offset();
            let next = match number {
                0 => transfer.next().await,
                _ => timeout(SEGMENT_PATIENCE, transfer.next()).await.unwrap_or_else(|_| Some(Err(stands_still()))),
            };
            let Some(piece) = next else {
                let error = NetError::new(NetErrorKind::Interrupted, "the body ended too early");
                return Err(transfer.about(error));
            };
            let bytes = piece?;
            let upto = offset.saturating_add(length(&bytes));
            let (own, after) = {
                let mut state = self.state();
                let own = state.areas.receive(number, offset, upto);
                (own, state.areas.of(number))
            };
            // What lies behind is another's, or what this connection reads next.
            let end = own.or(after).unwrap_or(before).end;
            transfer.give_back(Area { at: end.max(offset), end: upto }.of(&bytes, offset));
            let Some(own) = own else { continue };
            self.received.fetch_add(own.left(), Ordering::Relaxed);
            if number > 0 {
                self.ranged.fetch_add(own.left(), Ordering::Relaxed);
            }
            if self.queue.send(Piece { offset: own.at, bytes: own.of(&bytes, offset) }).await.is_err() {
                return Ok(());
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// What a connection reads next; waits while others may still give something back. `None` when it is not needed.
    pub(super) async fn next_area(&self, number: usize) -> Option<Area> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                let alone = self.is_alone();
                let taken = match number {
                    0 => state.areas.of(0).or_else(|| state.areas.take_front(alone)),
                    _ if alone => return None,
                    _ => state.areas.take_segment(number),
                };
                if taken.is_some() || state.areas.is_complete() {
                    return taken;
                }
            }
            changed.await;
        }
    }

    /// A connection beside the first is gone.
    fn failed(&self, number: usize, error: &NetError) {
        tracing::debug!(number, %error, "a segment is left to the others");
        match error.kind() {
            // Nothing was sent: that says nothing about the host's ranges.
            NetErrorKind::RateLimited if error.status().is_none() => self.was_full.store(true, Ordering::Relaxed),
            kind => {
                self.failed_at.store(self.ranged.load(Ordering::Relaxed), Ordering::Relaxed);
                if matches!(kind, NetErrorKind::Protocol | NetErrorKind::Integrity) {
                    self.give_up();
                }
            }
        }
        self.state().areas.release(number);
        self.changed.notify_waiters();
    }

    /// Decides whether more connections are worth it, and then whether they were.
    async fn watch(self: Arc<Self>) -> Result<(), NetError> {
        let policy = self.policy;
        match self.host.gain() {
            Gain::None => {}
            Gain::Some => self.begin().await,
            Gain::Unknown => {
                // The first half is for the connection to get up to its speed.
                sleep(policy.look / 2).await;
                let alone = self.rate_during(policy.look / 2).await;
                if alone >= policy.fast_bytes_per_second {
                    return Ok(());
                }
                self.begin().await;
                let together = self.rate_during(policy.trial).await;
                let enough = u128::from(alone) * (100 + u128::from(policy.gain_percent));
                if self.was_full.load(Ordering::Relaxed) {
                    tracing::debug!(alone, together, "too few connections to say whether several are faster than one");
                } else if u128::from(together) * 100 >= enough {
                    self.host.set_gain(Gain::Some);
                } else {
                    tracing::debug!(alone, together, "several connections are no faster than one");
                    self.give_up();
                }
            }
        }
        Ok(())
    }

    /// Asks for as many more connections as the host has room for, once it has any.
    async fn begin(&self) {
        loop {
            let count = self.policy.connections.saturating_sub(1).min(self.host.room());
            if count > 0 {
                self.wanted.store(count, Ordering::Relaxed);
                // `Pieces` begins them when it is polled next.
                return tokio::task::yield_now().await;
            }
            sleep(ROOM_WAIT).await;
        }
    }

    pub(super) fn give_up(&self) {
        self.host.set_gain(Gain::None);
        self.given_up.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// How many bytes a second come for so long; 0 for no time.
    async fn rate_during(&self, time: Duration) -> u64 {
        if time.is_zero() {
            return 0;
        }
        let before = self.received.load(Ordering::Relaxed);
        sleep(time).await;
        let bytes = self.received.load(Ordering::Relaxed).saturating_sub(before);
        let rate = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// Where redirects led, when they left the server that was asked.
fn resolved_at(ask: &Ask, reply: &Reply) -> Option<Handed> {
    let access = reply.elsewhere.as_ref().or(ask.registry()).filter(|_| reply.left_origin)?.clone();
    Some(Handed { access, url: reply.url.clone(), guard: reply.guard, is_own: false })
}

/// A connection that was asked for a range brings nothing.
fn stands_still() -> NetError {
    NetError::new(NetErrorKind::Timeout, "no bytes came in time")
}

pub(super) fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
