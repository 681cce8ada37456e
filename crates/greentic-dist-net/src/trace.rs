//! What those who watch see of a request: one span each, without a secret.

use std::sync::Arc;

use http::{Method, StatusCode, Version};
use tracing::Span;
use tracing::field::{Empty, debug};
use url::Url;

/// What a request is made for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Errand {
    /// The repository, where it is about one.
    pub(crate) repository: Option<Arc<str>>,
    /// Which attempt it is; 0 counts as the first.
    pub(crate) attempt: u32,
}

/// The span `oci.request` of one request over one hop, until the end of its answer's body.
///
/// Its fields: `method`, `host` (with a port that is not the usual one), `repository`, `attempt`, and when they are known
/// `status`, `version`, `reused` (whether the connection was open before) and `bytes` of the answer's body. Paths and queries
/// are no part of it: they may be signed.
#[derive(Debug)]
pub(crate) struct Trace {
    span: Span,
    bytes: u64,
}

impl Trace {
    pub(crate) fn of(method: &Method, url: &Url, errand: &Errand) -> Self {
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let span = tracing::debug_span!(
            "oci.request",
            %method,
            host,
            repository = errand.repository.as_deref().filter(|repository| !repository.is_empty()),
            attempt = errand.attempt.max(1),
            status = Empty,
            version = Empty,
            reused = Empty,
            bytes = Empty,
        );
        Self { span, bytes: 0 }
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn answered(&self, status: StatusCode, version: Version, reused: bool) {
        self.span.record("status", status.as_u16());
        self.span.record("version", debug(version));
        self.span.record("reused", reused);
    }

    pub(crate) const fn received(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.span.record("bytes", self.bytes);
    }
}
