//! One small question to an HTTP API, answered whole: headers and body from the caller, every status handed back.

use std::time::Duration;

use bytes::Bytes;
use greentic_dist_types::redact_url;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::config::is_loopback;
use crate::exchange::{Shared, parse_url};
use crate::limit::Lane;
use crate::payload::Payload;
use crate::retry::{Retry, retry_after};
use crate::transport::{Hop, Reply};
use crate::verdict::{is_transient, kind_of_status};
use crate::{NetError, NetErrorKind};

/// Largest answer of an API, in bytes, unless the call says otherwise: 16 MiB.
const ANSWER_BYTES: u64 = 16 << 20;
/// Fields that describe the connection or the message: whoever sets them by hand breaks it.
const FRAMING: &[HeaderName] = &[
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    header::ACCEPT_ENCODING,
];
/// The same, of HTTP/1.0.
const OLD_FRAMING: &[&str] = &["keep-alive", "proxy-connection"];

/// A call about to be sent; made by [`Net::call`](crate::Net::call).
///
/// An API is asked where it is: redirects are not followed, so that neither a body nor a credential reaches another place.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpCall {
    transport: Shared,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    is_repeatable: bool,
    max_bytes: u64,
    deadline: Option<Duration>,
}

/// What an API answered, whatever its status.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// The status.
    pub status: StatusCode,
    /// The announced `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// The announced `Content-Encoding`, as sent. None is asked for and none is undone.
    pub content_encoding: Option<String>,
    /// The body: whole for a success, at most its first 64 KiB otherwise.
    pub body: Bytes,
}

impl HttpCall {
    pub(crate) fn new(transport: Shared, method: Method, url: &str) -> Self {
        let is_repeatable = matches!(method, Method::GET | Method::HEAD);
        Self {
            transport,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_repeatable,
            max_bytes: ANSWER_BYTES,
            deadline: None,
        }
    }

    /// The headers to send. A login among them should be marked sensitive.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sends a JSON document.
    pub fn json(mut self, document: impl Into<Bytes>) -> Self {
        self.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        self.body = document.into();
        self
    }

    /// Whether asking twice does no harm. Default: for GET and HEAD only. A call that may be repeated is, after failures
    /// that may pass, as [`RetryPolicy`](crate::RetryPolicy) says.
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.is_repeatable = repeatable;
        self
    }

    /// Largest successful answer, in bytes. Default 16 MiB.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// How long the whole call may take, attempts and waits included. Default: no limit on the whole, only on its phases.
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether a URL and headers can be sent at all; sends nothing.
    ///
    /// # Errors
    /// `InvalidInput` for what is no `http` or `https` URL, carries a user name, or sets a header that belongs to the
    /// connection; `Refused` for a login over plain HTTP to another machine.
    pub fn check(&self) -> Result<(), NetError> {
        self.checked().map(drop)
    }

    fn checked(&self) -> Result<Url, NetError> {
        let url = parse_url(&self.url)?;
        let invalid = |detail: String| Err(NetError::new(NetErrorKind::InvalidInput, detail));
        let shown = || redact_url(url.as_str());
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return invalid(format!("`{}` is not an http or https URL", shown()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid(format!("`{}` carries a user name", shown()));
        }
        let mut framing = FRAMING.iter().map(HeaderName::as_str).chain(OLD_FRAMING.iter().copied());
        if let Some(name) = framing.find(|name| self.headers.contains_key(*name)) {
            return invalid(format!("the header `{name}` belongs to the connection and cannot be set"));
        }
        let has_login = self.headers.contains_key(header::AUTHORIZATION) || self.headers.contains_key(header::COOKIE);
        if has_login && url.scheme() == "http" && !is_loopback(&url) {
            let detail = format!("insecure url `{}`: a login is not sent over plain HTTP to another machine", shown());
            return Err(NetError::new(NetErrorKind::Refused, detail));
        }
        Ok(url)
    }

    /// Sends the call and returns its answer, whatever the status.
    ///
    /// Cancel-safe in that nothing is left behind; the server may have acted all the same.
    ///
    /// # Errors
    /// As [`HttpCall::check`]; `Offline`; `Timeout` also for the deadline; `TooLarge`; otherwise by cause. A failure that may
    /// pass and answers with a status until the attempts are used up is returned as that answer.
    pub async fn send(self) -> Result<HttpReply, NetError> {
        let url = self.checked()?;
        let exchange = self.transport.within(self.exchange(&url));
        let Some(deadline) = self.deadline else { return exchange.await };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                let detail = format!("no complete answer within {} s", deadline.as_secs_f32());
                Err(NetError::new(NetErrorKind::Timeout, detail).for_request(&self.method, &url))
            }
        }
    }

    async fn exchange(&self, url: &Url) -> Result<HttpReply, NetError> {
        let mut retry = self.transport.retry_at(url);
        retry.host().budget().earn();
        loop {
            let failure = match self.attempt(url).await {
                Ok((reply, None)) => return Ok(reply),
                // The answer of the last attempt is the answer.
                Ok((reply, Some(failure))) => match self.pause(&mut retry, failure).await {
                    Ok(()) => continue,
                    Err(_used_up) => return Ok(reply),
                },
                Err(failure) => failure,
            };
            self.pause(&mut retry, failure).await?;
        }
    }

    async fn pause(&self, retry: &mut Retry, failure: NetError) -> Result<(), NetError> {
        if self.is_repeatable { self.transport.pause(retry, failure).await } else { Err(failure) }
    }

    /// One attempt: the answer, and beside it the failure it means when it may be another one next time.
    async fn attempt(&self, url: &Url) -> Result<(HttpReply, Option<NetError>), NetError> {
        let mut reply = self.transport.send(self.hop(url)).await?;
        let status = reply.status();
        let content_type = reply.header(header::CONTENT_TYPE).map(str::to_owned);
        let content_encoding = reply.header(header::CONTENT_ENCODING).map(str::to_owned);
        if status.is_success() {
            let body = reply.read(&self.transport, self.max_bytes).await?;
            return Ok((HttpReply { status, content_type, content_encoding, body }, None));
        }
        let wait = retry_after(reply.headers(), std::time::SystemTime::now());
        let body = self.beginning(&mut reply).await;
        let kind = kind_of_status(status);
        let failure = is_transient(status, kind).then(|| {
            NetError::from_status(kind, "server", status.as_u16())
                .for_request(&self.method, url)
                .with_transient(true)
                .with_retry_after(wait)
        });
        Ok((HttpReply { status, content_type, content_encoding, body }, failure))
    }

    /// What a refusal says: as much of it as comes in time and fits the cap.
    async fn beginning(&self, reply: &mut Reply) -> Bytes {
        let limit = usize::try_from(self.transport.limits.error_body_bytes).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = reply.chunk(&self.transport).await {
                let room = limit.saturating_sub(body.len());
                body.extend(chunk.iter().take(room));
                if chunk.len() >= room {
                    break;
                }
            }
        };
        let _what_came_is_enough = tokio::time::timeout(self.transport.timeouts.idle_body, read).await;
        body.into()
    }

    fn hop(&self, url: &Url) -> Hop {
        let headers = self.headers.clone();
        let hop = self.transport.hop(self.method.clone(), url.clone(), headers, Lane::Metadata);
        Hop { body: Payload::Bytes(self.body.clone()), ..hop }
    }
}
