//! One file from one URL, as a stream that survives cuts where the server allows it.

use bytes::Bytes;
use greentic_dist_types::redact_url;
use http::{HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::body::{Start, Transfer};
use crate::config::is_loopback;
use crate::exchange::{Ask, Shared, Target, header_value, parse_url};
use crate::limit::Lane;
use crate::{Limit, Limits, NetError, NetErrorKind};

/// A GET about to be sent; made by [`Net::get`](crate::Net::get).
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpGet {
    transport: Shared,
    url: String,
    etag: Option<String>,
    max_bytes: u64,
    allow_loopback_http: bool,
}

/// What the server answered.
#[derive(Debug)]
pub enum HttpAnswer {
    /// The file still has the given `ETag`.
    NotModified,
    /// The file.
    Body(BodyStream),
}

/// A file on its way. Nobody has named its digest: whoever knows one compares.
#[derive(Debug)]
pub struct BodyStream {
    transfer: Box<Transfer>,
    content_type: Option<String>,
    etag: Option<String>,
    final_url: String,
    /// With the one of this body among them.
    limits: Box<Limits>,
}

impl HttpGet {
    pub(crate) fn new(transport: Shared, url: &str) -> Self {
        let max_bytes = transport.limits.artifact_bytes;
        Self { transport, url: url.to_owned(), etag: None, max_bytes, allow_loopback_http: false }
    }

    /// Asks only for a file that has not this `ETag`, sent as it is.
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// Most bytes taken. Default [`Limits::artifact_bytes`](crate::Limits).
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Whether `http://` of this machine (127.0.0.0/8, `::1`, `localhost`) is allowed. Default no; other hosts never are.
    pub fn allow_loopback_http(mut self, allow: bool) -> Self {
        self.allow_loopback_http = allow;
        self
    }

    /// Sends the request and returns at the end of the answer's header.
    ///
    /// Redirects are followed within HTTPS (from a loopback address also to loopback). Cancel-safe.
    ///
    /// # Errors
    /// `Offline`; `InvalidInput` for what is no URL; `Refused` for a URL that is not HTTPS; `TooLarge` when the announced
    /// size is over the limit; otherwise by cause.
    pub async fn open(self) -> Result<HttpAnswer, NetError> {
        if self.transport.offline {
            return Err(NetError::new(NetErrorKind::Offline, ""));
        }
        let url = parse_url(&self.url)?;
        self.check(&url)?;
        let mut ask = Ask::new(Method::GET, Target::Url(url), &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]);
        ask.lane = Lane::Body;
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(etag) = &self.etag {
            ask.headers.insert(header::IF_NONE_MATCH, header_value(etag, "the ETag")?);
            ask.accept = &[StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
        }
        let start = Start { offset: 0, size: None, limit: self.max_bytes, content_addressed: false, range_end: None };
        let limits = Box::new(Limits { artifact_bytes: self.max_bytes, ..self.transport.limits });
        let transfer = Transfer::open(self.transport, ask, start).await;
        let mut transfer = transfer.map_err(|error| limits.name(Limit::ArtifactBytes, error))?;
        if transfer.is_not_modified() {
            return Ok(HttpAnswer::NotModified);
        }
        transfer.unconditional();
        let text = |name| transfer.reply().and_then(|reply| reply.header(name)).map(str::to_owned);
        let final_url = transfer.reply().map(|reply| redact_url(reply.url.as_str())).unwrap_or_default();
        Ok(HttpAnswer::Body(BodyStream {
            content_type: text(header::CONTENT_TYPE),
            etag: text(header::ETAG),
            final_url,
            limits,
            transfer: Box::new(transfer),
        }))
    }

    fn check(&self, url: &Url) -> Result<(), NetError> {
        let local = is_loopback(url);
        let problem = match url.scheme() {
            "https" => None,
            "http" if self.allow_loopback_http && local => None,
            "http" => Some("it is plain HTTP"),
            _ => Some("it is not HTTPS"),
        };
        let problem = if url.username().is_empty() && url.password().is_none() {
            problem
        } else {
            Some("it carries a user name")
        };
        match problem {
            None => Ok(()),
            Some(why) => {
                let shown = redact_url(url.as_str());
                Err(NetError::new(NetErrorKind::Refused, format!("insecure url `{shown}`: {why}")))
            }
        }
    }
}

impl BodyStream {
    /// The next piece as it came from the socket; `None` at the end.
    ///
    /// A cut or stalled body goes on from the right byte when the server gave a strong `ETag`, otherwise only before its
    /// first byte. After an error the stream is over. Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// `TooLarge`, `Timeout`, `Interrupted`, and `Integrity` when the body is longer than announced.
    pub async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        let piece = self.transfer.next().await?;
        Some(piece.map_err(|error| self.limits.name(Limit::ArtifactBytes, error)))
    }

    /// The announced `Content-Type`, as sent.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The announced size in bytes.
    pub const fn size_bytes(&self) -> Option<u64> {
        self.transfer.size()
    }

    /// The `ETag`, as sent.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The URL that answered after all redirects, redacted for display.
    pub fn final_url(&self) -> &str {
        &self.final_url
    }

    /// Bytes handed out so far.
    pub fn offset(&self) -> u64 {
        self.transfer.offset()
    }
}
