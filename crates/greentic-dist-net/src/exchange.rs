//! One request with everything around it: login, redirects, retries, and the verdict on the status.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use greentic_dist_types::{SafeText, redact_url};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::error::Question;
use crate::fallback::Detour;
use crate::host::Profile;
use crate::limit::Lane;
use crate::observer::Event;
use crate::oci::auth::{Access, Refusal, Round, Used};
use crate::oci::{BlobEvent, Registry, Watcher};
use crate::payload::Payload;
use crate::retry::Retry;
use crate::sent::GivenSecrets;
use crate::stats::count;
use crate::target_policy::{Guard, Reach};
use crate::trace::{Errand, authority, op_of};
use crate::transport::{Reply, Transport};
use crate::verdict::refusal;
use crate::warning::warnings;
use crate::{NetError, NetErrorKind};

/// The advice where a failure is not tried again because too much has failed before it.
const OUT_OF_BUDGET: &str =
    "it was not tried again, because many requests to this host have failed just now; try again in a minute";

/// What to ask, of whom. Stays the same over all attempts.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) lane: Lane,
    /// How much longer than usual the answer may take.
    pub(crate) patience: Duration,
    /// Statuses that mean success.
    pub(crate) accept: &'static [StatusCode],
    /// Whether the body is named by its digest, which then decides whatever the header says about it.
    pub(crate) is_proven: bool,
    /// Whether only the server that is asked may answer.
    pub(crate) stays: bool,
    /// Who is told about the blob that is asked for.
    pub(crate) watcher: Option<Watcher>,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A URL as it stands, without a login.
    Url(Url),
    /// A path of a registry, below its base URL.
    Registry(Access, String),
    /// A URL a registry handed out, checked already.
    Handed(Box<Handed>),
}

/// A URL a registry handed out for what comes next: the location of an upload, the next page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    pub(crate) access: Access,
    pub(crate) url: Url,
    pub(crate) guard: Guard,
    /// Whether it is of the registry's own origin, where its login may go.
    pub(crate) is_own: bool,
}

/// The header of a successful answer and its whole body.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) headers: HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) url: Url,
    pub(crate) reach: Reach,
    /// Where it was asked, when that is not where the question says.
    pub(crate) elsewhere: Option<Access>,
    pub(crate) body: Bytes,
}

/// What was already tried for one question, over all its attempts.
#[derive(Default)]
pub(crate) struct Tried {
    auth: Round,
    asked_again: bool,
    stale: bool,
    /// Attempts that failed.
    failed: u32,
}

impl Ask {
    /// A question without headers and body, in the lane of short answers.
    pub(crate) fn new(method: Method, target: Target, accept: &'static [StatusCode]) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: Payload::NONE,
            lane: Lane::Metadata,
            patience: Duration::ZERO,
            accept,
            is_proven: false,
            stays: false,
            watcher: None,
        }
    }

    /// Tells whoever watches the blob that is asked for.
    pub(crate) fn tell(&self, event: &BlobEvent<'_>) {
        if let Some(watcher) = &self.watcher {
            watcher.tell(event);
        }
    }

    /// Tells whoever watches the blob that is asked for which endpoint answers.
    pub(crate) fn tell_of(&self, reply: &Reply) {
        let Some(access) = reply.elsewhere.as_ref().or(self.registry()) else { return };
        if let Some(watcher) = &self.watcher {
            watcher.tell(&BlobEvent::Endpoint { endpoint: &access.registry.address() });
        }
    }

    pub(crate) fn url(&self) -> Result<Url, NetError> {
        match &self.target {
            Target::Url(url) => Ok(url.clone()),
            Target::Registry(access, path) => access.registry.url(path),
            Target::Handed(handed) => Ok(handed.url.clone()),
        }
    }

    fn who(&self) -> &'static str {
        match self.target {
            Target::Url(_) => "server",
            Target::Registry(..) | Target::Handed(_) => "registry",
        }
    }

    /// What is asked for, for those who watch.
    fn op(&self) -> &'static str {
        match &self.target {
            Target::Url(_) => "url",
            Target::Registry(_, path) => op_of(&self.method, path),
            // Where a redirect led while a blob came over one connection, others of it ask too.
            Target::Handed(_) if matches!(self.lane, Lane::Body | Lane::Segment) => "blob",
            Target::Handed(handed) => op_of(&self.method, handed.url.path()),
        }
    }

    /// The access whose login goes with it.
    fn access(&self) -> Option<&Access> {
        match &self.target {
            Target::Url(_) => None,
            Target::Registry(access, _) => Some(access),
            Target::Handed(handed) => handed.is_own.then_some(&handed.access),
        }
    }

    /// The access to the registry that is asked, wherever it sent us.
    pub(crate) fn registry(&self) -> Option<&Access> {
        match &self.target {
            Target::Url(_) => None,
            Target::Registry(access, _) => Some(access),
            Target::Handed(handed) => Some(&handed.access),
        }
    }

    /// How connections for it are made; `None` for a URL that belongs to no registry.
    fn profile(&self) -> Option<Arc<Profile>> {
        match &self.target {
            Target::Url(_) => None,
            Target::Registry(access, _) => Some(Arc::clone(access.registry.profile())),
            Target::Handed(handed) if handed.is_own => Some(Arc::clone(handed.access.registry.profile())),
            Target::Handed(handed) => Some(handed.access.registry.profile().elsewhere()),
        }
    }

    fn guard(&self) -> Guard {
        match &self.target {
            Target::Url(_) | Target::Registry(..) => Guard::Own,
            Target::Handed(handed) => handed.guard,
        }
    }

    /// The same question at another endpoint, with the name the repository has there; `None` when it can have none.
    pub(crate) fn at(&self, registry: &Arc<Registry>) -> Option<Self> {
        let Target::Registry(access, path) = &self.target else { return None };
        let repository = registry.renamed(&access.repository)?;
        // This crate has made the path of the repository's name.
        let named = path.strip_prefix("/v2/").and_then(|rest| rest.strip_prefix(&*access.repository));
        let path = match named {
            Some(rest) if !repository.is_empty() => format!("/v2/{repository}{rest}"),
            _ => path.clone(),
        };
        let access = Access { registry: Arc::clone(registry), repository: repository.into(), ..access.clone() };
        Some(Self { target: Target::Registry(access, path), ..self.clone() })
    }

    fn is_for_a_mirror(&self) -> bool {
        matches!(&self.target, Target::Registry(access, _) if access.registry.capabilities().is_some())
    }

    /// The error with the request it is about, and what was asked for by it.
    pub(crate) fn about(&self, error: NetError) -> NetError {
        match self.url() {
            Ok(url) => self.name(error).for_request(&self.method, &url),
            Err(_) => self.name(error),
        }
    }

    /// The error with what was asked for.
    pub(crate) fn name(&self, error: NetError) -> NetError {
        let (host, repository) = match (self.registry(), &self.target) {
            (Some(access), _) => (access.registry.name().to_owned(), Arc::clone(&access.repository)),
            (None, Target::Url(url)) => (authority(url), Arc::default()),
            (None, _) => return error,
        };
        error.for_question(Question { host, repository, op: self.op() })
    }

    /// The error with what is known about the login.
    fn explain(&self, error: NetError) -> NetError {
        match self.access() {
            Some(access) => access.explain(error),
            None => error,
        }
    }

    pub(crate) fn set(&mut self, name: header::HeaderName, value: Option<HeaderValue>) {
        match value {
            Some(value) => drop(self.headers.insert(name, value)),
            None => drop(self.headers.remove(name)),
        }
    }
}

impl Collected {
    fn of(reply: &Reply, body: Bytes) -> Self {
        let (headers, status) = (reply.headers().clone(), reply.status());
        let elsewhere = reply.elsewhere.clone();
        Self { headers, status, url: reply.url.clone(), reach: reply.reach, elsewhere, body }
    }

    /// A header's value, when it is readable text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Transport {
    /// Sends to one endpoint until an accepted status answers; the body is still to come.
    ///
    /// Cancel-safe: dropping the future gives up the request and its retries.
    ///
    /// # Errors
    /// By cause; see [`NetErrorKind`].
    pub(crate) async fn open_at(&self, ask: &Ask) -> Result<Reply, NetError> {
        let mut retry = self.retry_for(ask)?;
        retry.host().budget().earn();
        let mut tried = Tried::default();
        loop {
            match self.attempt(ask, &mut tried).await {
                Ok(reply) => return Ok(reply),
                Err(error) => self.pause_telling(&mut retry, ask.name(error), |event| ask.tell(event)).await?,
            }
            tried.failed = retry.attempts();
        }
    }

    /// Sends to one endpoint until an accepted status answers with a whole body of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Transport::open_at`], and `TooLarge`.
    pub(crate) async fn collect_at(&self, ask: &Ask, limit: u64) -> Result<Collected, NetError> {
        let mut retry = self.retry_for(ask)?;
        retry.host().budget().earn();
        let mut tried = Tried::default();
        loop {
            let attempt = async {
                let mut reply = self.attempt(ask, &mut tried).await?;
                let body = if ask.method == Method::HEAD { Bytes::new() } else { reply.read(self, limit).await? };
                Ok(Collected::of(&reply, body))
            };
            match attempt.await {
                Ok(collected) => return Ok(collected),
                Err(error) => self.pause(&mut retry, ask.name(error)).await?,
            }
            tried.failed = retry.attempts();
        }
    }

    /// Sends until an accepted status answers; its body is of no interest.
    ///
    /// # Errors
    /// As [`Transport::open`].
    pub(crate) async fn tell(&self, ask: &Ask) -> Result<Collected, NetError> {
        let reply = self.open(ask, &Detour::default()).await?;
        Ok(self.close(reply).await)
    }

    /// As [`Transport::tell`], with one attempt: a new login is tried, a failure is not.
    pub(crate) async fn tell_once(&self, ask: &Ask) -> Result<Collected, NetError> {
        let attempt = self.attempt(ask, &mut Tried::default()).await;
        let reply = attempt.map_err(|error| ask.name(error).blanked(&self.secrets.no_words()))?;
        Ok(self.close(reply).await)
    }

    async fn close(&self, reply: Reply) -> Collected {
        let collected = Collected::of(&reply, Bytes::new());
        reply.drain(self).await;
        collected
    }

    pub(crate) fn retry_for(&self, ask: &Ask) -> Result<Retry, NetError> {
        let retry = self.retry_at(&ask.url()?);
        Ok(if ask.is_for_a_mirror() { retry.with_others_to_ask() } else { retry })
    }

    /// The attempts of a question to the host of a URL.
    pub(crate) fn retry_at(&self, url: &Url) -> Retry {
        Retry::new(self.retry, crate::config::is_loopback(url), self.hosts.of(url))
    }

    /// Waits before the next attempt, or returns the error when there is none.
    pub(crate) async fn pause(&self, retry: &mut Retry, error: NetError) -> Result<(), NetError> {
        self.pause_telling(retry, error, |_| {}).await
    }

    async fn pause_telling(
        &self,
        retry: &mut Retry,
        error: NetError,
        tell: impl FnOnce(&BlobEvent<'_>) + Send,
    ) -> Result<(), NetError> {
        let error = error.blanked(&self.secrets.no_words());
        let Some(delay) = retry.after(&error) else {
            let attempts = if error.kind() == NetErrorKind::Offline { 0 } else { retry.attempts() };
            let error = error.with_effort(attempts, retry.elapsed());
            return Err(if retry.is_out_of_budget() { error.with_hint(OUT_OF_BUDGET) } else { error });
        };
        count(&retry.host().tally().retries);
        tracing::debug!(attempt = retry.attempts(), ?delay, %error, "trying again");
        let attempt = retry.attempts();
        self.observer.event(&Event::Retry { attempt, delay, error: &error });
        tell(&BlobEvent::Retry { attempt, delay, error: &error });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// One counted attempt: logs in when asked to, follows redirects, judges the status.
    pub(crate) async fn attempt(&self, ask: &Ask, tried: &mut Tried) -> Result<Reply, NetError> {
        if let Some(access) = ask.access() {
            access.registry.mirrors(self).await?;
        }
        loop {
            let url = ask.url()?;
            let mut headers = ask.headers.clone();
            if headers.contains_key(header::RANGE) && self.hosts.of(&url).has_no_ranges() {
                headers.remove(header::RANGE);
                headers.remove(header::IF_RANGE);
            }
            let used = match ask.access() {
                Some(access) => Box::pin(access.authorize(self, &mut headers, tried.auth))
                    .await
                    // The token server was asked as often as a failure of it is worth.
                    .map_err(|error| access.explain(error).not_repeatable())?,
                None => Used::Nothing,
            };
            let mut hop = self.hop(ask.method.clone(), url.clone(), headers, ask.lane);
            hop.body = ask.body.clone();
            hop.errand = Errand {
                repository: ask.registry().map(|access| Arc::clone(&access.repository)),
                op: ask.op(),
                attempt: tried.failed + 1,
            };
            hop.guard = ask.guard();
            hop.stays = ask.stays;
            hop.header_timeout = hop.header_timeout.saturating_add(ask.patience);
            hop.profile = ask.profile().unwrap_or(hop.profile);
            let reply = match Box::pin(self.follow(hop)).await {
                Ok(reply) => reply,
                Err(error) if ask.body.is_in_memory() && self.was_stale(&error, &url, tried) => {
                    tried.stale = true;
                    continue;
                }
                Err(error) if !ask.body.can_be_sent_again() => return Err(error.not_repeatable()),
                Err(error) if ask.may_speak_tls(&error) => return self.attempt_over_tls(ask, error).await,
                Err(error) if ask.may_speak_http(&error, &url) => return self.attempt_over_http(ask, error).await,
                Err(error) => return Err(error),
            };
            if let Some(access) = ask.access() {
                access.registry.answered_over(url.scheme());
            }
            self.show_warnings(&reply);
            if ask.accept.contains(&reply.status()) {
                return accept(ask, reply, &self.secrets);
            }
            let (left_origin, headers, reach) = (reply.left_origin, reply.headers().clone(), reply.reach);
            let asked = reply.url.clone();
            let error = self.refusal(ask, reply).await;
            if !ask.body.can_be_sent_again() {
                return Err(ask.explain(error).not_repeatable());
            }
            match (ask.access(), error.status()) {
                (Some(access), Some(401)) if !left_origin => {
                    let refusal = Refusal { url: asked, headers, reach, error };
                    let answered = Box::pin(access.answer(self, refusal, &used, tried.auth)).await;
                    tried.auth = answered.map_err(|error| access.explain(error))?;
                }
                (Some(access), Some(403))
                    if !left_origin && Box::pin(access.renew(self, &used, &mut tried.auth)).await => {}
                (Some(access), Some(403 | 404))
                    if !left_origin && Box::pin(access.seek_challenge(self, &used, &mut tried.auth)).await => {}
                // A signed URL behind the redirect has expired: the registry hands out a new one.
                (_, Some(400 | 403)) if left_origin && !tried.asked_again => tried.asked_again = true,
                (_, Some(400)) if ask.may_speak_tls(&error) => return self.attempt_over_tls(ask, error).await,
                _ if left_origin => return Err(error),
                _ => return Err(ask.explain(error)),
            }
        }
    }

    /// Whether a failure looks like a kept connection that the host had closed meanwhile. Tried again at once, uncounted.
    fn was_stale(&self, error: &NetError, url: &Url, tried: &Tried) -> bool {
        !tried.stale && error.kind() == NetErrorKind::Interrupted && self.hosts.of(url).has_answered()
    }

    /// The error for an answer whose status was not asked for. Reads the small body such answers have.
    async fn refusal(&self, ask: &Ask, reply: Reply) -> NetError {
        let mut sent = self.secrets.known();
        for (_, value) in ask.profile().iter().flat_map(|profile| profile.headers()) {
            sent.add_header(value);
        }
        refusal(self, reply, ask.who(), &sent).await
    }

    fn show_warnings(&self, reply: &Reply) {
        let host = reply.url.host_str().unwrap_or_default();
        for text in warnings(reply.headers(), &self.secrets) {
            self.warn(host, text);
        }
    }

    /// Tells the observer, unless it was told the same before.
    pub(crate) fn warn(&self, host: &str, text: SafeText) {
        if self.told.is_new(host, &text) {
            tracing::debug!(host, %text, "warning");
            self.observer.event(&Event::Warning { host, text });
        }
    }
}

/// Takes an answer that has the right status, unless its body is encoded in a way nobody asked for.
///
/// Of content that is named by its digest the digest decides: object stores call archives that were pushed as such `gzip`.
fn accept(ask: &Ask, reply: Reply, secrets: &GivenSecrets) -> Result<Reply, NetError> {
    match reply.encoding(secrets).filter(|_| !ask.is_proven) {
        None => Ok(reply),
        Some(name) => {
            let detail = format!("the answer has the content encoding `{name}`, which was not asked for");
            let error = NetError::from_status(NetErrorKind::Protocol, ask.who(), reply.status().as_u16());
            Err(error.for_request(&reply.method, &reply.url).with_detail(detail))
        }
    }
}

impl NetError {
    /// A failure of kind `InvalidInput`, for what a caller wrote and how it should be. `detail` is shown as it is.
    pub fn invalid_input(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(NetErrorKind::InvalidInput, detail)
    }
}

/// A header value for text that came from a caller or a server.
///
/// # Errors
/// `InvalidInput` for control characters.
pub(crate) fn header_value(text: &str, what: &'static str) -> Result<HeaderValue, NetError> {
    HeaderValue::from_str(text).map_err(|error| {
        NetError::new(NetErrorKind::InvalidInput, format!("{what} cannot be sent in a header")).with_source(error)
    })
}

/// Parses a URL of ours.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn parse_url(text: &str) -> Result<Url, NetError> {
    Url::parse(text).map_err(|error| {
        NetError::new(NetErrorKind::InvalidInput, format!("`{}` is not a URL", redact_url(text))).with_source(error)
    })
}

/// Shared access to the transport.
pub(crate) type Shared = Arc<Transport>;
