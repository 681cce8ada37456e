//! Lists that come in pages: where the next one is, and when it is enough.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use greentic_dist_types::Digest;
use http::StatusCode;
use url::Url;

use super::link::next_link;
use super::location::handed;
use crate::exchange::{Ask, Collected, Handed, Shared, Target};
use crate::{Limit, NetError, NetErrorKind};

/// Most entries of a page that are asked for: some registries refuse more (ECR).
const PAGE_ENTRIES: u32 = 1_000;
/// What an entry that is held costs beside its text, as [`Limits::list_bytes`](crate::Limits::list_bytes) counts.
const ENTRY_BYTES: u64 = 64;

type Read<T> = Box<dyn FnMut(&Collected) -> Result<Vec<T>, NetError> + Send>;
type Refuse = fn(NetError, &Ask) -> NetError;

/// A list of a registry, fetched page by page.
///
/// Only the registry's own `Link` says where the next page is; it must be of the registry's own origin. Capped by
/// [`Limits::pages`](crate::Limits) and [`Limits::page_bytes`](crate::Limits), of referrers by `manifest_bytes`; a page that was there before ends the list with
/// an error.
pub struct Paged<T> {
    transport: Shared,
    next: Next<T>,
    read: Read<T>,
    refuse: Refuse,
    /// How large a page may be.
    limit: Limit,
    page_size: Option<u32>,
    after: Option<String>,
    seen: HashSet<Digest>,
    /// Entries of a page that were not handed out one by one yet.
    waiting: VecDeque<T>,
    /// Bytes of the pages that were fetched.
    fetched_bytes: u64,
}

enum Next<T> {
    /// Nothing was asked yet.
    First(Ask),
    /// The first page is at hand, and the rest is asked for from here.
    Ready(Vec<T>, Option<Ask>),
    Page(Ask),
    End,
}

impl<T> fmt::Debug for Paged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paged").field("pages", &self.seen.len()).finish_non_exhaustive()
    }
}

impl<T> Paged<T> {
    /// The pages that begin with the answer to `ask`; `refuse` names what a refusal means.
    pub(super) fn new(
        transport: &Shared,
        ask: Ask,
        read: impl FnMut(&Collected) -> Result<Vec<T>, NetError> + Send + 'static,
        refuse: Refuse,
    ) -> Self {
        Self::from(transport, Next::First(ask), Box::new(read), refuse)
    }

    fn from(transport: &Shared, next: Next<T>, read: Read<T>, refuse: Refuse) -> Self {
        let transport = Shared::clone(transport);
        Self {
            transport,
            next,
            read,
            refuse,
            limit: Limit::PageBytes,
            page_size: None,
            after: None,
            seen: HashSet::new(),
            waiting: VecDeque::new(),
            fetched_bytes: 0,
        }
    }

    /// A list of one page that is at hand.
    pub(super) fn of(transport: &Shared, entries: Vec<T>) -> Self {
        Self::from(transport, Next::Ready(entries, None), Box::new(|_| Ok(Vec::new())), |error, _| error)
    }

    /// The pages that go on after a first one that was fetched otherwise.
    pub(super) fn starting_with(mut self, ask: &Ask, answer: &Collected) -> Result<Self, NetError> {
        let entries = (self.read)(answer)?;
        self.seen.insert(of(&ask.url()?));
        let rest = self.after_page(ask, answer)?;
        self.next = Next::Ready(entries, rest);
        Ok(self)
    }

    /// The same with another limit for the size of its pages.
    pub(super) fn limited_by(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Asks for pages of so many entries: at least 1, at most 1000. Default: what the registry likes. Registries may send fewer
    /// or more. Only before the first page.
    #[must_use]
    pub fn page_size(mut self, entries: u32) -> Self {
        self.page_size = Some(entries.clamp(1, PAGE_ENTRIES));
        self
    }

    /// Begins after this entry, which need not exist, in the registry's order. Registries may ignore it. Only before the first
    /// page.
    #[must_use]
    pub fn after(mut self, entry: impl Into<String>) -> Self {
        self.after = Some(entry.into());
        self
    }

    /// The next entry; `None` after the last one. After an error the list is over.
    ///
    /// One request when a page is used up. Cancel-safe: no entry is lost.
    ///
    /// # Errors
    /// As [`Paged::next_page`].
    pub async fn next(&mut self) -> Option<Result<T, NetError>> {
        loop {
            if let Some(entry) = self.waiting.pop_front() {
                return Some(Ok(entry));
            }
            match self.fetch_next().await? {
                Ok(page) => self.waiting.extend(page),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next page, or what [`Paged::next`] has left of one; `None` after the last one. A page may be empty. After an error the
    /// list is over.
    ///
    /// One request. Cancel-safe: a dropped call asks for the same page again.
    ///
    /// # Errors
    /// `TooLarge` for too many pages or too large a one; `Refused` for a page on another host; `Protocol` for what is no such
    /// list and for pages that go in a circle; otherwise by cause.
    pub async fn next_page(&mut self) -> Option<Result<Vec<T>, NetError>> {
        if !self.waiting.is_empty() {
            return Some(Ok(std::mem::take(&mut self.waiting).into()));
        }
        self.fetch_next().await
    }

    async fn fetch_next(&mut self) -> Option<Result<Vec<T>, NetError>> {
        let ask = match &mut self.next {
            Next::End => return None,
            Next::Ready(entries, rest) => {
                let entries = std::mem::take(entries);
                self.next = rest.take().map_or(Next::End, Next::Page);
                return Some(Ok(entries));
            }
            Next::First(ask) | Next::Page(ask) => ask.clone(),
        };
        let page = self.fetch(ask).await;
        if page.is_err() {
            self.next = Next::End;
        }
        Some(page)
    }

    /// Whether there is a page after the ones that were handed out, as far as the registry said.
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty() || !matches!(self.next, Next::End)
    }

    /// The whole list, of at most `limit` entries.
    ///
    /// # Errors
    /// `TooLarge` when there are more, or more than [`Limits::list_bytes`](crate::Limits::list_bytes) allows; otherwise as
    /// [`Paged::next_page`].
    pub async fn collect(self, limit: usize) -> Result<Vec<T>, NetError>
    where
        T: Send,
    {
        let transport = Shared::clone(&self.transport);
        let all = transport.within(self.collect_all(limit)).await?;
        all.ok_or_else(|| NetError::new(NetErrorKind::TooLarge, format!("the list has more than {limit} entries")))
    }

    /// The whole list, of at most as many entries as a limit of the client allows.
    pub(super) async fn collect_within(self, limit: Limit) -> Result<Vec<T>, NetError>
    where
        T: Send,
    {
        let transport = Shared::clone(&self.transport);
        let most = usize::try_from(transport.limits.get(limit)).unwrap_or(usize::MAX);
        let all = transport.within(self.collect_all(most)).await?;
        all.ok_or_else(|| transport.limits.exceeded(limit))
    }

    /// `None` for more entries than `limit`.
    async fn collect_all(mut self, limit: usize) -> Result<Option<Vec<T>>, NetError> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await {
            let page = page?;
            if all.len().saturating_add(page.len()) > limit {
                return Ok(None);
            }
            all.extend(page);
            self.check_held(all.len())?;
        }
        Ok(Some(all))
    }

    /// The first entries of the list, at most `most`, and whether there are more of them. Asks for no page beyond those.
    ///
    /// # Errors
    /// `TooLarge` for more than [`Limits::list_bytes`](crate::Limits::list_bytes) allows; otherwise as [`Paged::next_page`].
    pub async fn first(self, most: usize) -> Result<(Vec<T>, bool), NetError>
    where
        T: Send,
    {
        let transport = Shared::clone(&self.transport);
        transport.within(self.first_of_all(most)).await
    }

    async fn first_of_all(mut self, most: usize) -> Result<(Vec<T>, bool), NetError> {
        let mut first = Vec::new();
        while let Some(page) = self.next_page().await {
            first.extend(page?);
            if first.len() >= most {
                let more = first.len() > most || self.has_more();
                first.truncate(most);
                return Ok((first, more));
            }
            self.check_held(first.len())?;
        }
        Ok((first, false))
    }

    /// Refuses to gather more than is allowed.
    fn check_held(&self, entries: usize) -> Result<(), NetError> {
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        let held = entries.saturating_mul(ENTRY_BYTES).saturating_add(self.fetched_bytes);
        let limits = &self.transport.limits;
        if held > limits.list_bytes { Err(limits.exceeded(Limit::ListBytes)) } else { Ok(()) }
    }

    async fn fetch(&mut self, mut ask: Ask) -> Result<Vec<T>, NetError> {
        if let Next::First(_) = self.next {
            self.put_parameters(&mut ask);
        }
        let limits = &self.transport.limits;
        let answer = self.transport.collect(&ask, limits.get(self.limit)).await;
        let answer = answer.map_err(|error| (self.refuse)(limits.name(self.limit, error), &ask))?;
        self.seen.insert(of(&ask.url()?));
        let size_bytes = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
        self.fetched_bytes = self.fetched_bytes.saturating_add(size_bytes);
        let entries = (self.read)(&answer)?;
        self.next = self.after_page(&ask, &answer)?.map_or(Next::End, Next::Page);
        Ok(entries)
    }

    fn put_parameters(&self, ask: &mut Ask) {
        let Target::Registry(_, path) = &mut ask.target else { return };
        let mut separator = if path.contains('?') { '&' } else { '?' };
        let mut put = |name: &str, value: &str| {
            path.push(separator);
            separator = '&';
            path.push_str(name);
            path.push('=');
            path.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
        };
        if let Some(entries) = self.page_size {
            put("n", &entries.to_string());
        }
        if let Some(after) = &self.after {
            put("last", after);
        }
    }

    /// The question for the page after this one, when there is one.
    fn after_page(&self, ask: &Ask, answer: &Collected) -> Result<Option<Ask>, NetError> {
        let about = |error: NetError| error.for_request(&ask.method, &answer.url);
        let link = next_link(&answer.headers).map_err(|error| {
            about(
                NetError::new(NetErrorKind::Protocol, "where the list goes on cannot be understood").with_source(error),
            )
        })?;
        let Some(link) = link else { return Ok(None) };
        // A list that a mirror began goes on there.
        let Some(access) = answer.elsewhere.as_ref().or(ask.registry()) else { return Ok(None) };
        let next: Handed = handed(&self.transport, access, answer, &link, "next page").map_err(about)?;
        if !next.is_own {
            let host = next.url.host_str().unwrap_or_default().to_owned();
            let detail = format!("the next page of the list is on another server, {host}");
            return Err(about(NetError::new(NetErrorKind::Refused, detail)));
        }
        if self.seen.len() >= self.transport.limits.pages {
            return Err(about(self.transport.limits.exceeded(Limit::Pages)));
        }
        if self.seen.contains(&of(&next.url)) {
            return Err(about(NetError::new(NetErrorKind::Protocol, "the pages of the list go in a circle")));
        }
        let mut ask = ask.clone();
        ask.target = Target::Handed(Box::new(next));
        Ok(Some(ask))
    }
}

fn of(url: &Url) -> Digest {
    Digest::sha256(url.as_str().as_bytes())
}

/// Statuses of a page.
pub(super) const PAGE: &[StatusCode] = &[StatusCode::OK];
