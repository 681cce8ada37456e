//! A body over several connections at a time, where that is faster.
//!
//! It begins as any other, with one GET. Only when that is slow for what a local disk and hash can take are segments asked
//! for beside it, and when they bring too little more the host is remembered as one where they do not help. Everything runs
//! inside [`Pieces::next`]: no task is spawned, and dropping it ends all requests. A segment that fails is given back to the
//! first connection, so that the body fails only where it would have failed over one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
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
struct Split {
    transport: Shared,
    /// What the first connection asked; it finds the body again when a redirect has expired.
    ask: Ask,
    size: u64,
    policy: RangePolicy,
    host: Arc<HostLimit>,
    blame: Blame,
    state: Mutex<State>,
    changed: Notify,
    /// How many connections beside the first there are to be.
    wanted: AtomicUsize,
    given_up: AtomicBool,
    received: AtomicU64,
    queue: mpsc::Sender<Piece>,
}

struct State {
    areas: Areas,
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
            size,
            policy,
            host,
            blame: transfer.blame(),
            state: Mutex::new(State { areas, resolved }),
            changed: Notify::new(),
            wanted: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            received: AtomicU64::new(0),
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
            (self.left, self.works) = (0, VecDeque::new());
            self.about(error)
        }))
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
                    self.left = 0;
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the first connection works alone.
    fn is_alone(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 0 || self.given_up.load(Ordering::Relaxed)
    }

    /// The first connection: reads from the front until nothing is missing.
    async fn first(self: Arc<Self>, mut transfer: Box<Transfer>) -> Result<(), NetError> {
        while let Some(area) = self.next_area(0).await {
            transfer.seek(area.at, area.end);
            self.read(&mut transfer, 0).await?;
        }
        Ok(())
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
            let mut transfer = Transfer::open_as_part(transport, ask, start, detour).await?;
            let found = transfer.reply().and_then(|reply| resolved_at(&self.ask, reply));
            if let (None, Some(found)) = (&used, found) {
                self.state().resolved = Some(found);
            }
            self.read(&mut transfer, number).await
        };
        brought.await.map_err(|error| (error, used.clone()))
    }

    /// Hands on what comes until the connection's area is over.
    async fn read(&self, transfer: &mut Transfer, number: usize) -> Result<(), NetError> {
        while self.state().areas.of(number).is_some() {
            let offset = transfer.offset();
            let Some(piece) = transfer.next().await else {
                let error = NetError::new(NetErrorKind::Interrupted, "the body ended too early");
                return Err(transfer.about(error));
            };
            let mut bytes = piece?;
            let own = self.state().areas.receive(number, length(&bytes));
            self.received.fetch_add(own, Ordering::Relaxed);
            transfer.give_back(bytes.split_off(usize::try_from(own).unwrap_or(usize::MAX).min(bytes.len())));
            if !bytes.is_empty() && self.queue.send(Piece { offset, bytes }).await.is_err() {
                return Ok(());
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// What a connection reads next; waits while others may still give something back. `None` when it is not needed.
    async fn next_area(&self, number: usize) -> Option<Area> {
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
        if matches!(error.kind(), NetErrorKind::Protocol | NetErrorKind::Integrity) {
            self.give_up();
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
                if u128::from(together) * 100 >= enough {
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

    fn give_up(&self) {
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

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
