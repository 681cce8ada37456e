//! One body over as many connections as it takes: every byte once, in order, from the right place.

use bytes::{Buf as _, Bytes};
use greentic_dist_types::Mismatch;
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::content_range::ContentRange;
use super::host_ranges;
use super::odd::Odd;
use super::start::Start;
use crate::deadline::done_by;
use crate::exchange::{Ask, Shared};
use crate::fallback::{Blame, Detour};
use crate::observer::Event;
use crate::oci::BlobEvent;
use crate::retry::Retry;
use crate::stats::count;
use crate::transport::Reply;
use crate::{NetError, NetErrorKind};

/// Bytes that are read and thrown away rather than asked around: another request costs more.
pub(super) const NEAR: u64 = 1 << 20;

/// Progress since the last connection that makes the next one come without a wait, in bytes.
const GOOD_PROGRESS: u64 = 64 << 10;

/// A running transfer.
///
/// The last piece is held back until the body has proven to end there, so that whoever got all pieces got all bytes and
/// not one too many.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) transport: Shared,
    ask: Ask,
    start: Start,
    reply: Option<Reply>,
    retry: Retry,
    /// The next byte to hand out; those of `held` are counted already.
    offset: u64,
    /// Bytes to throw away: the answer began before `offset`.
    skip: u64,
    size: Option<u64>,
    /// Up to where bytes are wanted now; the rest is asked for by others.
    bound: Option<u64>,
    /// Up to where the present answer goes, when that is not the end of the body.
    until: Option<u64>,
    held: Option<Bytes>,
    /// Read from the connection and not wanted then.
    returned: Option<Bytes>,
    validator: Option<HeaderValue>,
    ranges: bool,
    done: bool,
    progress: u64,
    stuck: u32,
    resumes: u32,
    restarts: u32,
    /// Whether a request for a part has failed where one for the whole did not.
    fails_on_ranges: bool,
    /// Whether there is a wait before the next connection.
    pausing: bool,
    detour: Detour,
    /// When all of it is to be there.
    deadline: Option<Instant>,
    /// What the answers said that would explain wrong bytes.
    odd: Odd,
}

impl Transfer {
    /// Opens the body. `ask` is a GET without `Range`.
    pub(crate) async fn open(transport: Shared, ask: Ask, start: Start) -> Result<Self, NetError> {
        Self::open_as_part(transport, ask, start, Detour::default()).await
    }

    /// As [`Transfer::open`], for a part of a body whose other parts have met `detour`.
    pub(crate) async fn open_as_part(
        transport: Shared,
        ask: Ask,
        start: Start,
        detour: Detour,
    ) -> Result<Self, NetError> {
        let mut transfer = Self { detour, ..Self::new(transport, ask, start)? };
        if start.size == Some(start.offset) && start.offset > 0 {
            transfer.done = true;
        } else {
            transfer.connect().await?;
        }
        Ok(transfer)
    }

    /// The rest of a body, from `offset` on, that needs no request.
    pub(crate) fn at_hand(transport: Shared, ask: Ask, offset: u64, rest: Bytes) -> Result<Self, NetError> {
        let size = offset.saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX));
        let start = Start { offset, size: Some(size), limit: size, content_addressed: true, range_end: None };
        let mut transfer = Self::new(transport, ask, start)?;
        transfer.done = true;
        transfer.offset = size;
        transfer.held = Some(rest).filter(|rest| !rest.is_empty());
        Ok(transfer)
    }

    fn new(transport: Shared, ask: Ask, start: Start) -> Result<Self, NetError> {
        let (retry, deadline) = (transport.retry_for(&ask)?, transport.until());
        Ok(Self {
            transport,
            ask: Ask { is_proven: start.content_addressed, ..ask },
            start,
            reply: None,
            retry,
            offset: start.offset,
            skip: 0,
            size: start.size,
            bound: start.range_end,
            until: None,
            held: None,
            returned: None,
            validator: None,
            ranges: true,
            done: false,
            progress: 0,
            stuck: 0,
            resumes: 0,
            restarts: 0,
            fails_on_ranges: false,
            pausing: false,
            detour: Detour::default(),
            deadline,
            odd: Odd::default(),
        })
    }

    /// Whether the server has answered a conditional request with "not modified".
    pub(crate) fn is_not_modified(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status() == StatusCode::NOT_MODIFIED)
    }

    /// Later requests of this transfer continue a body that is already coming: they must not be answered with "not modified".
    pub(crate) fn unconditional(&mut self) {
        self.ask.set(header::IF_NONE_MATCH, None);
        self.ask.accept = &[StatusCode::OK, StatusCode::PARTIAL_CONTENT];
    }

    pub(crate) const fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }

    /// When all of it is to be there.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) const fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next byte that [`Transfer::next`] hands out.
    pub(crate) fn offset(&self) -> u64 {
        let waiting = [&self.held, &self.returned].into_iter().flatten().map(Bytes::len).sum::<usize>();
        self.offset.saturating_sub(u64::try_from(waiting).unwrap_or(u64::MAX))
    }

    /// Gives back the end of the last piece.
    pub(crate) fn give_back(&mut self, rest: Bytes) {
        self.returned = Some(rest).filter(|rest| !rest.is_empty());
    }

    /// Goes on at `offset`, up to `end`: over the connection that is open when it gets there soon, else over another.
    pub(crate) fn seek(&mut self, offset: u64, end: u64) {
        self.bound = self.size.filter(|size| end < *size).map(|_| end);
        let is_open = self.reply.is_some() || self.done;
        let reaches = is_open && self.wanted().is_none_or(|wanted| wanted >= end);
        let ahead = offset.checked_sub(self.offset()).filter(|ahead| *ahead <= NEAR || !self.ranges);
        if !ahead.is_some_and(|ahead| reaches && self.pass_over(ahead)) {
            (self.reply, self.held, self.returned) = (None, None, None);
            (self.skip, self.done, self.offset) = (0, false, offset);
        }
    }

    /// Throws away the next bytes. False when the present answer is over before.
    fn pass_over(&mut self, bytes: u64) -> bool {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        for waiting in [&mut self.returned, &mut self.held] {
            if let Some(mut piece) = waiting.take() {
                let count = left.min(piece.len());
                piece.advance(count);
                left -= count;
                *waiting = Some(piece).filter(|piece| !piece.is_empty());
            }
        }
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        self.skip = self.skip.saturating_add(left);
        self.offset = self.offset.saturating_add(left);
        left == 0 || !self.done
    }

    /// Where the present answer ends.
    fn wanted(&self) -> Option<u64> {
        self.until.or(self.size)
    }

    /// The next piece; `None` at the proven end. After an error the transfer is over.
    ///
    /// Cancel-safe: no byte is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        loop {
            if let Some(returned) = self.returned.take() {
                return Some(Ok(returned));
            }
            if self.done {
                return self.held.take().map(Ok);
            }
            let step = match self.deadline {
                None => self.step().await,
                deadline => done_by(deadline, self.step()).await,
            };
            match step {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) => {}
                Err(error) => {
                    (self.done, self.held, self.reply) = (true, None, None);
                    return Some(Err(self.about(error)));
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, NetError> {
        if self.pausing {
            self.pause().await;
            self.pausing = false;
        }
        let wanted = self.wanted();
        let Some(reply) = &mut self.reply else {
            Box::pin(self.connect()).await?;
            return Ok(None);
        };
        match reply.chunk(&self.transport).await {
            Ok(Some(piece)) => self.take(piece),
            Ok(None) => {
                if self.skip == 0 && wanted.is_none_or(|end| end == self.offset) {
                    self.done = true;
                    self.reply = None;
                    return Ok(None);
                }
                let error = NetError::new(NetErrorKind::Interrupted, "the body ended too early");
                let error = error.for_request(&reply.method, &reply.url);
                self.interrupted(error)
            }
            // All bytes are there; how the connection ended does not matter.
            Err(_) if wanted == Some(self.offset) && self.skip == 0 => {
                self.done = true;
                self.reply = None;
                Ok(None)
            }
            Err(error) => self.interrupted(error),
        }
    }

    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, NetError> {
        if self.skip > 0 {
            let known = self.skip.min(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            piece.advance(usize::try_from(known).unwrap_or(usize::MAX));
            self.skip -= known;
        }
        if piece.is_empty() {
            return Ok(None);
        }
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let end = self.offset.saturating_add(length);
        let wrong = match (self.wanted(), self.until) {
            (Some(expected), None) if end > expected => Some(Mismatch::Long { expected }),
            (Some(expected), Some(_)) if end > expected => return self.cut(&piece, expected),
            (None, _) if end > self.start.limit => Some(Mismatch::TooLarge { limit: self.start.limit }),
            _ => None,
        };
        if let Some(mismatch) = wrong {
            let error = self.about(NetError::integrity(mismatch));
            return Err(self.refute(error));
        }
        self.offset = end;
        self.progress = self.progress.saturating_add(length);
        self.stuck = 0;
        if self.wanted() == Some(end) {
            self.held = Some(piece);
            return Ok(None);
        }
        Ok(Some(piece))
    }

    /// A range that goes on behind its end.
    fn cut(&mut self, piece: &Bytes, end: u64) -> Result<Option<Bytes>, NetError> {
        if self.start.range_end.is_some() {
            return Err(self.not_the_range());
        }
        let own = usize::try_from(end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        (self.offset, self.reply, self.done) = (end, None, true);
        self.returned = Some(piece.slice(..own.min(piece.len()))).filter(|piece| !piece.is_empty());
        Ok(None)
    }

    /// The body stopped before its end: goes on with the next connection, or gives up.
    fn interrupted(&mut self, error: NetError) -> Result<Option<Bytes>, NetError> {
        let policy = &self.transport.retry;
        let mirror = self.reply.take().and_then(|reply| reply.mirror);
        self.skip = 0;
        if let Some(mirror) = mirror.filter(|_| self.progress < GOOD_PROGRESS || !error.is_worth_repeating()) {
            // Another endpoint has the same bytes.
            count(&self.retry.host().tally().resumes);
            self.detour.leave(&self.transport, &mirror, error);
            return Ok(None);
        }
        self.stuck = self.stuck.saturating_add(1);
        self.resumes = self.resumes.saturating_add(1);
        let can_resume = self.offset == 0 || self.start.content_addressed || self.validator.is_some();
        if !error.is_worth_repeating()
            || !can_resume
            || self.stuck > policy.stuck_resumes
            || self.resumes > policy.resumes
        {
            let error = self.odd.explain(error.with_effort(self.resumes, self.retry.elapsed()));
            return Err(self.detour.conclude(error));
        }
        count(&self.retry.host().tally().resumes);
        tracing::debug!(offset = self.offset, %error, "going on with the body");
        self.transport.observer.event(&Event::Resume { offset: self.offset, error: &error });
        self.ask.tell(&BlobEvent::Resume { offset: self.offset, error: &error });
        self.pausing = true;
        Ok(None)
    }

    /// Waits before the next connection, unless the last one brought a good piece.
    async fn pause(&mut self) {
        if self.progress < GOOD_PROGRESS {
            tokio::time::sleep(self.transport.retry.jitter(self.stuck.max(1))).await;
        }
        self.progress = 0;
    }

    /// Connects until there is an answer that goes on at `offset`.
    async fn connect(&mut self) -> Result<(), NetError> {
        loop {
            let asked = self.ranges && (self.offset > 0 || self.bound.is_some());
            let last = self.bound.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
            let range = asked.then(|| HeaderValue::from_str(&format!("bytes={}-{last}", self.offset)).ok()).flatten();
            // Of bytes that are named by their digest there is one version, whatever each replica calls it.
            let validator = self.validator.clone().filter(|_| range.is_some() && !self.start.content_addressed);
            self.ask.set(header::IF_RANGE, validator);
            self.ask.set(header::RANGE, range);
            let reply = match self.transport.open(&self.ask, &self.detour).await {
                Ok(reply) => reply,
                // Some servers fail on a range instead of ignoring it.
                Err(error) if asked && self.start.range_end.is_none() && matches!(error.status(), Some(400 | 416)) => {
                    self.fails_on_ranges = true;
                    self.give_up_ranges(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.until = None;
            self.odd.look_at(&reply, &self.transport.secrets);
            match reply.status() {
                StatusCode::NOT_MODIFIED => {}
                StatusCode::PARTIAL_CONTENT if asked && !self.is_of_the_same_version(&reply) => {
                    return Err(self.changed(&reply));
                }
                StatusCode::PARTIAL_CONTENT if asked && self.goes_on(&reply) => {
                    host_ranges::note(&self.transport, &self.ask, &reply, true);
                    self.skip = 0;
                    self.until = self.bound;
                }
                _ if self.start.range_end.is_some() => {
                    host_ranges::note_odd(&self.transport, &self.ask, &reply, self.offset);
                    return Err(self.not_the_range());
                }
                StatusCode::PARTIAL_CONTENT => {
                    host_ranges::note_odd(&self.transport, &self.ask, &reply, self.offset);
                    let detail = "a partial answer holds other bytes than the wanted ones";
                    let error = NetError::new(NetErrorKind::Protocol, detail).for_request(&self.ask.method, &reply.url);
                    if let Some(mirror) = &reply.mirror {
                        self.detour.leave(&self.transport, mirror, error);
                        continue;
                    }
                    if !asked {
                        return Err(error);
                    }
                    self.give_up_ranges(error)?;
                    continue;
                }
                _ => match (self.begins_anew(&reply, asked), &reply.mirror) {
                    (Err(error), Some(mirror)) => {
                        self.detour.leave(&self.transport, mirror, error);
                        continue;
                    }
                    (result, _) => result?,
                },
            }
            self.reply = Some(reply);
            return Ok(());
        }
    }

    /// Whether a partial answer has the validator that `If-Range` was sent with (RFC 9110, 15.3.7.3).
    ///
    /// Without that, parts of two versions would be put together: some servers do not look at `If-Range`.
    fn is_of_the_same_version(&self, reply: &Reply) -> bool {
        let mut told = reply.headers().get_all(header::ETAG).iter().peekable();
        self.start.content_addressed
            || (told.peek().is_some() && told.all(|etag| self.validator.as_ref() == Some(etag)))
    }

    fn changed(&self, reply: &Reply) -> NetError {
        let detail = if reply.headers().contains_key(header::ETAG) {
            "the file changed while it was read"
        } else {
            "the file may have changed while it was read: the server does not say which version it goes on with"
        };
        NetError::new(NetErrorKind::Interrupted, detail).for_request(&self.ask.method, &reply.url)
    }

    /// Whether a partial answer starts at `offset` and is of the same whole.
    fn goes_on(&self, reply: &Reply) -> bool {
        ContentRange::of(reply).is_some_and(|range| range.goes_on(self.offset, self.size, self.bound))
    }

    fn not_the_range(&self) -> NetError {
        self.about(NetError::new(
            NetErrorKind::Protocol,
            "the answer holds other bytes than the range that was asked for",
        ))
    }

    /// An answer with the whole body: what was handed out already is thrown away.
    fn begins_anew(&mut self, reply: &Reply, asked: bool) -> Result<(), NetError> {
        let length = reply.content_length();
        if let (Some(expected), Some(actual)) = (self.size, length)
            && actual != expected
        {
            let mismatch =
                if actual > expected { Mismatch::Long { expected } } else { Mismatch::Short { expected, actual } };
            let error = NetError::integrity(mismatch).for_request(&self.ask.method, &reply.url);
            return Err(self.odd.explain(error));
        }
        if self.size.is_none() {
            if length.is_some_and(|length| length > self.start.limit) {
                let mismatch = Mismatch::TooLarge { limit: self.start.limit };
                return Err(NetError::integrity(mismatch).for_request(&self.ask.method, &reply.url));
            }
            self.size = length;
        }
        let validator = reply.headers().get(header::ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        if self.offset > 0 && !self.start.content_addressed && self.validator != validator {
            return Err(self.changed(reply));
        }
        self.validator = validator;
        self.skip = self.offset;
        if reply.asked_range || self.fails_on_ranges {
            host_ranges::note(&self.transport, &self.ask, reply, false);
        }
        if asked {
            let error = NetError::new(NetErrorKind::Interrupted, "the server cannot go on in the middle of a body");
            self.give_up_ranges(error.for_request(&self.ask.method, &reply.url))?;
        } else if self.offset > 0 {
            self.restarted()?;
        }
        Ok(())
    }

    /// The server has no ranges for us: from now on the body is asked for from its start.
    fn give_up_ranges(&mut self, error: NetError) -> Result<(), NetError> {
        self.ranges = false;
        self.restarts = self.restarts.saturating_add(1);
        if self.restarts > self.transport.retry.stuck_resumes {
            return Err(error.with_effort(self.restarts, self.retry.elapsed()));
        }
        Ok(())
    }

    /// Every restart costs all bytes again: there are only so many.
    fn restarted(&mut self) -> Result<(), NetError> {
        let error = NetError::new(NetErrorKind::Interrupted, "the server cannot go on in the middle of a body");
        let error = self.about(error);
        self.give_up_ranges(error)
    }

    /// Takes note that the bytes were not those that were asked for. Mirrors that sent some of them are not asked for a while.
    pub(crate) fn refute(&self, error: NetError) -> NetError {
        self.blame().refute(&self.transport, error)
    }

    /// Who is to blame should the bytes turn out wrong.
    pub(crate) fn blame(&self) -> Blame {
        // What was there before this transfer may be what is wrong.
        Blame::new(&self.detour, self.start.offset == 0, &self.odd)
    }

    /// Names the request in an error about its body.
    pub(crate) fn about(&self, error: NetError) -> NetError {
        self.ask.about(error)
    }
}
