//! What went wrong on the network: a kind to decide by, and the facts a person needs.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_types::{Digest, Mismatch, SafeText, redact_url};
use http::Method;
use url::Url;

use crate::error_kind::{NetErrorClass, NetErrorKind};
use crate::sent::SentSecrets;
use crate::{Limit, RateLimit};

/// One entry of a registry's error document (distribution-spec, "Error Codes"), sanitised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryError {
    /// The code, e.g. `MANIFEST_UNKNOWN`. Servers use codes the specification does not know.
    pub code: SafeText,
    /// The text for people; may be empty.
    pub message: SafeText,
}

/// An endpoint of a registry that was asked before the one whose failure an error is about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointFailure {
    /// The endpoint: scheme, host, and path where it has one.
    pub endpoint: String,
    /// Why it did not serve.
    pub error: NetError,
}

/// What was asked for, whichever requests that took.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// As references write it.
    pub(crate) host: String,
    /// Empty where it is about none.
    pub(crate) repository: Arc<str>,
    pub(crate) op: &'static str,
}

/// A failed request. Cheap to move; the facts live behind a pointer.
///
/// `Display` says what failed, for which request, after how many attempts; it never repeats [`Error::source`] and
/// never holds a secret: URLs are redacted and a peer's text is sanitised.
#[derive(Clone, Debug)]
pub struct NetError(Box<Facts>);

#[derive(Clone, Debug)]
struct Facts {
    kind: NetErrorKind,
    detail: Cow<'static, str>,
    hints: Vec<Cow<'static, str>>,
    who: &'static str,
    request: Option<(Method, String)>,
    question: Option<Question>,
    status: Option<u16>,
    errors: Vec<RegistryError>,
    digests: Vec<Digest>,
    transient: bool,
    repeatable: bool,
    attempts: u32,
    elapsed: Duration,
    retry_after: Option<Duration>,
    rate_limit: Option<RateLimit>,
    mismatch: Option<Mismatch>,
    limit: Option<Limit>,
    endpoints: Vec<EndpointFailure>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl NetError {
    /// A failure with a text of our own. `detail` may be empty: the kind then speaks for itself.
    pub(crate) fn new(kind: NetErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Facts {
            kind,
            detail: detail.into(),
            hints: Vec::new(),
            who: "server",
            request: None,
            question: None,
            status: None,
            errors: Vec::new(),
            digests: Vec::new(),
            transient: kind.is_transient(),
            repeatable: true,
            attempts: 0,
            elapsed: Duration::ZERO,
            retry_after: None,
            rate_limit: None,
            mismatch: None,
            limit: None,
            endpoints: Vec::new(),
            source: None,
        }))
    }

    /// A failure of kind `Config`, for sources of configuration outside this crate. `detail` is shown as it is.
    pub fn config(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(NetErrorKind::Config, detail)
    }

    /// An answer with a status that means failure.
    pub(crate) fn from_status(kind: NetErrorKind, who: &'static str, status: u16) -> Self {
        let mut error = Self::new(kind, "");
        error.0.who = who;
        error.0.status = Some(status);
        error
    }

    /// Bytes that are not what was promised.
    pub(crate) fn integrity(mismatch: Mismatch) -> Self {
        let kind = match mismatch {
            Mismatch::TooLarge { .. } => NetErrorKind::TooLarge,
            _ => NetErrorKind::Integrity,
        };
        let mut error = Self::new(kind, "");
        error.0.mismatch = Some(mismatch);
        error.with_source(mismatch)
    }

    pub(crate) fn for_request(mut self, method: &Method, url: &Url) -> Self {
        if self.0.request.is_none() {
            self.0.request = Some((method.clone(), redact_url(url.as_str())));
        }
        self
    }

    pub(crate) fn for_question(mut self, question: Question) -> Self {
        self.0.question.get_or_insert(question);
        self
    }

    /// The same failure with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_boxed_source(mut self, source: Box<dyn Error + Send + Sync>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Adds advice after what is there.
    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    pub(crate) fn with_limit(mut self, limit: Limit, advice: String) -> Self {
        self.0.limit = Some(limit);
        self.with_hint(advice)
    }

    pub(crate) fn with_kind(mut self, kind: NetErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_errors(mut self, errors: Vec<RegistryError>) -> Self {
        self.0.errors = errors;
        self
    }

    pub(crate) fn with_digests(mut self, digests: Vec<Digest>) -> Self {
        self.0.digests = digests;
        self
    }

    pub(crate) fn with_transient(mut self, transient: bool) -> Self {
        self.0.transient = transient;
        self
    }

    /// Marks a failure that may pass, though not by asking again at once.
    pub(crate) fn not_repeatable(mut self) -> Self {
        self.0.repeatable = false;
        self
    }

    /// Blanks what was sent as a login in all text but that of [`NetError::registry_errors`].
    pub(crate) fn blanked(mut self, sent: &SentSecrets) -> Self {
        let facts = &mut *self.0;
        if let Cow::Owned(text) = sent.blank(&facts.detail) {
            facts.detail = text.into();
        }
        for hint in &mut facts.hints {
            if let Cow::Owned(text) = sent.blank(hint) {
                *hint = text.into();
            }
        }
        if let Some((_, url)) = &mut facts.request
            && let Cow::Owned(text) = sent.blank(url)
        {
            *url = text;
        }
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn with_rate_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.0.rate_limit = limit;
        self
    }

    pub(crate) fn with_endpoints(mut self, endpoints: Vec<EndpointFailure>) -> Self {
        self.0.endpoints = endpoints;
        self
    }

    pub(crate) fn with_effort(mut self, attempts: u32, elapsed: Duration) -> Self {
        self.0.attempts = self.0.attempts.max(attempts);
        self.0.elapsed = self.0.elapsed.max(elapsed);
        self
    }

    /// The kind.
    pub const fn kind(&self) -> NetErrorKind {
        self.0.kind
    }

    /// The class of the kind, with the wait a rate limit asks for.
    pub const fn class(&self) -> NetErrorClass {
        use NetErrorKind as K;
        match self.0.kind {
            K::Timeout | K::Connect | K::Dns | K::Tls | K::Interrupted => NetErrorClass::Network,
            K::Unauthorized | K::Forbidden => NetErrorClass::Authentication,
            K::NotFound => NetErrorClass::NotFound,
            K::RateLimited => NetErrorClass::RateLimit { retry_after: self.0.retry_after },
            K::Server => NetErrorClass::Server,
            K::Config | K::Output => NetErrorClass::Config,
            K::Offline => NetErrorClass::Offline,
            K::Protocol
            | K::TooLarge
            | K::Integrity
            | K::Unsupported
            | K::Conflict
            | K::Source
            | K::Refused
            | K::InvalidInput => NetErrorClass::Validation,
        }
    }

    /// The method of the request that failed.
    pub fn method(&self) -> Option<&str> {
        self.0.request.as_ref().map(|(method, _)| method.as_str())
    }

    /// The URL of the request that failed, without user info and secret query values.
    pub fn url(&self) -> Option<&str> {
        self.0.request.as_ref().map(|(_, url)| url.as_str())
    }

    /// The host that was asked, as references write it (`ghcr.io`, `docker.io`, `127.0.0.1:5000`): a registry, one of its mirrors, or
    /// the server of a URL. A redirect may have led elsewhere, see [`NetError::url`]. `None` when nothing was about to be asked.
    pub fn host(&self) -> Option<&str> {
        self.0.question.as_ref().map(|question| question.host.as_str())
    }

    /// The repository it was about, as it is called at [`NetError::host`]; `None` for a registry as a whole and for plain URLs.
    pub fn repository(&self) -> Option<&str> {
        self.0.question.as_ref().map(|question| &*question.repository).filter(|name| !name.is_empty())
    }

    /// What was asked for: `manifest`, `blob`, `tags`, `referrers`, `catalog`, `ping`, `upload`, `list` (a later page), `url` (no
    /// registry). The names are those of the span `oci.request`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.question.as_ref().map(|question| question.op)
    }

    /// The status that was answered.
    pub const fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// What the registry's error document said, in its order.
    pub fn registry_errors(&self) -> &[RegistryError] {
        &self.0.errors
    }

    /// Whether the registry gave this error code, e.g. `MANIFEST_UNKNOWN`.
    pub fn has_code(&self, code: &str) -> bool {
        self.0.errors.iter().any(|error| error.code.as_str() == code)
    }

    /// The digests that the registry's error document is about: of the blobs that a manifest names and it does not have.
    pub fn digests(&self) -> &[Digest] {
        &self.0.digests
    }

    /// Attempts made in all, the first included; 0 when nothing was sent.
    pub const fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Time spent over all attempts and the waits between them.
    pub const fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// How long the server asked to wait: in `Retry-After`, in its words, or as the time until its limit is reset.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the server said about its limit of requests; for [`NetErrorKind::RateLimited`] only.
    pub const fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate_limit
    }

    /// How the bytes differ from what was promised; set for [`NetErrorKind::Integrity`] and for cap violations.
    pub const fn mismatch(&self) -> Option<Mismatch> {
        self.0.mismatch
    }

    /// Which of this client's [`Limits`](crate::Limits) was exceeded, when it was one of them.
    pub const fn limit(&self) -> Option<Limit> {
        self.0.limit
    }

    /// The mirrors that were asked before, in order, each with its own failure. Empty for a registry without mirrors.
    pub fn endpoints(&self) -> &[EndpointFailure] {
        &self.0.endpoints
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Whether this client itself asks again: not when the failure would only be repeated.
    pub(crate) const fn is_worth_repeating(&self) -> bool {
        self.0.transient && self.0.repeatable
    }

    /// Whether no connection came about: the name was not found, or nobody answered at its address.
    pub const fn is_connect(&self) -> bool {
        matches!(self.0.kind, NetErrorKind::Connect | NetErrorKind::Dns)
    }

    /// Whether an answer did not come in time.
    pub const fn is_timeout(&self) -> bool {
        matches!(self.0.kind, NetErrorKind::Timeout)
    }

    /// What a person can do about it, most specific first. Never empty advice, may be an empty list: where a failure is of the
    /// caller's own making, or is one of this client's rules, the message says all there is.
    pub fn hints(&self) -> Vec<String> {
        let mut hints: Vec<String> = self.0.hints.iter().map(|hint| hint.clone().into_owned()).collect();
        match self.0.kind {
            NetErrorKind::RateLimited => {
                hints.push(match self.0.retry_after {
                    Some(wait) => format!("try again in {} s", wait.as_secs().max(1)),
                    None => "try again later, or log in: many registries allow more to a known user".into(),
                });
                hints.extend(self.0.rate_limit.and_then(|limit| limit.in_words()));
            }
            NetErrorKind::Offline => hints.push("run the same command once without offline mode".into()),
            kind if hints.is_empty() => hints.extend(kind.advice().map(str::to_owned)),
            _ => {}
        }
        hints
    }

    /// Whether there is advice that is more than what holds for every failure of the kind.
    pub fn has_own_hints(&self) -> bool {
        !self.0.hints.is_empty()
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &*self.0;
        match facts.status {
            Some(status) => write!(f, "{} answered {status}", facts.who)?,
            None if facts.detail.is_empty() => f.write_str(facts.kind.sentence())?,
            None => f.write_str(&facts.detail)?,
        }
        if let Some((method, url)) = &facts.request {
            write!(f, " for {method} {url}")?;
        }
        for (index, error) in facts.errors.iter().take(3).enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            match (error.message.is_empty(), error.code.is_empty()) {
                (false, false) => write!(f, "{} ({})", error.message, error.code)?,
                (false, true) => write!(f, "{}", error.message)?,
                (true, _) => write!(f, "{}", error.code)?,
            }
        }
        if facts.status.is_some() && !facts.detail.is_empty() {
            write!(f, ": {}", facts.detail)?;
        }
        match facts.attempts {
            0 => {}
            1 => write!(f, " (1 attempt, {:.1}s)", facts.elapsed.as_secs_f32())?,
            many => write!(f, " ({many} attempts, {:.1}s)", facts.elapsed.as_secs_f32())?,
        }
        for EndpointFailure { endpoint, error } in &facts.endpoints {
            write!(f, "; before that, the mirror {endpoint}: {error}")?;
        }
        Ok(())
    }
}

impl Error for NetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_failed_for_which_request_and_how_hard_it_was_tried() {
        let url = Url::parse("https://user:canary@ghcr.io/v2/acme/hello/manifests/1?sig=canary").unwrap();
        let error = NetError::from_status(NetErrorKind::NotFound, "registry", 404)
            .for_request(&Method::GET, &url)
            .with_errors(vec![RegistryError { code: "MANIFEST_UNKNOWN".into(), message: "manifest unknown".into() }])
            .with_effort(1, Duration::from_millis(200));
        assert_eq!(
            error.to_string(),
            "registry answered 404 for GET https://ghcr.io/v2/acme/hello/manifests/1?sig=…: \
             manifest unknown (MANIFEST_UNKNOWN) (1 attempt, 0.2s)"
        );
        assert!(!format!("{error:?}").contains("canary"));
        assert!(error.has_code("MANIFEST_UNKNOWN") && !error.is_transient());
        assert!(!error.is_connect() && !error.is_timeout());
        assert!(
            NetError::new(NetErrorKind::Dns, "").is_connect() && NetError::new(NetErrorKind::Timeout, "").is_timeout()
        );
    }

    #[test]
    fn advice_for_the_kind_is_given_where_there_is_none_of_its_own() {
        use NetErrorKind as K;
        for kind in [K::NotFound, K::Forbidden, K::Timeout, K::Connect, K::Dns, K::Tls, K::Interrupted] {
            let hints = NetError::new(kind, "").hints();
            assert!(hints.len() == 1 && hints[0].len() > 20 && !hints[0].contains('\n'), "{kind:?}: {hints:?}");
        }
        for kind in [K::Server, K::Protocol, K::Integrity, K::Conflict, K::RateLimited, K::Offline] {
            assert_eq!(NetError::new(kind, "").hints().len(), 1, "{kind:?}");
        }
        let own = NetError::new(K::NotFound, "").with_hint("log in");
        assert_eq!((own.hints(), own.has_own_hints()), (vec!["log in".to_owned()], true));
        assert!(!NetError::new(K::NotFound, "").has_own_hints());
        assert!(NetError::new(K::Refused, "").hints().is_empty());
    }

    #[test]
    fn a_mismatch_keeps_its_numbers_and_is_its_own_source() {
        let error = NetError::integrity(Mismatch::Short { expected: 5, actual: 4 });
        assert_eq!(error.kind(), NetErrorKind::Integrity);
        assert_eq!(error.mismatch(), Some(Mismatch::Short { expected: 5, actual: 4 }));
        assert_eq!(error.source().unwrap().to_string(), "only 4 of 5 bytes arrived");
        assert_eq!(NetError::integrity(Mismatch::TooLarge { limit: 1 }).kind(), NetErrorKind::TooLarge);
    }
}
