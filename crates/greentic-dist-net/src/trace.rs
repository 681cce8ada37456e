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
    /// What is asked for, see [`Trace`].
    pub(crate) op: &'static str,
    /// Which attempt it is; 0 counts as the first.
    pub(crate) attempt: u32,
}

/// What a request to a registry asks for, read off a path that this crate or the registry has made.
pub(crate) fn op_of(method: &Method, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts = path.rsplit('/');
    let (last, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (kind, last) {
        _ if *method == Method::PATCH || path.contains("/blobs/uploads/") => "upload",
        ("manifests", _) => "manifest",
        ("blobs", _) => "blob",
        ("tags", "list") => "tags",
        ("referrers", _) => "referrers",
        (_, "_catalog") => "catalog",
        ("v2", "") => "ping",
        // Locations of uploads and of pages are the registry's to choose.
        _ if matches!(*method, Method::GET | Method::HEAD) => "list",
        _ => "upload",
    }
}

/// The host, with a port that is not the usual one.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The span `oci.request` of one request over one hop, until the end of its answer's body.
///
/// Its fields: `op` (what is asked for: `ping`, `catalog`, `tags`, `manifest`, `referrers`, `blob`, `upload`, `list` for a page at a
/// place of the registry's own choice, `token`, `url` for what is no registry), `method`, `host` (with a port that is not the usual one), `repository`, `attempt`, and when they are known
/// `status`, `version`, `reused` (whether the connection was open before) and `bytes` of the answer's body. Paths and queries
/// are no part of it: they may be signed.
#[derive(Debug)]
pub(crate) struct Trace {
    span: Span,
    bytes: u64,
}

impl Trace {
    pub(crate) fn of(method: &Method, url: &Url, errand: &Errand) -> Self {
        let host = authority(url);
        let span = tracing::debug_span!(
            "oci.request",
            op = if errand.op.is_empty() { "url" } else { errand.op },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_off_the_path() {
        for (method, path, op) in [
            (Method::GET, "/v2/", "ping"),
            (Method::GET, "/v2/_catalog?n=5", "catalog"),
            (Method::GET, "/v2/acme/hello/tags/list?last=x", "tags"),
            (Method::HEAD, "/v2/acme/hello/manifests/1", "manifest"),
            (Method::PUT, "/v2/tags/list/manifests/1", "manifest"),
            (Method::GET, "/v2/acme/hello/referrers/sha256:aa?artifactType=a%2Fb", "referrers"),
            (Method::DELETE, "/v2/acme/hello/blobs/sha256:aa", "blob"),
            (Method::POST, "/v2/acme/hello/blobs/uploads/", "upload"),
            (Method::PATCH, "/elsewhere/1", "upload"),
            (Method::PUT, "/elsewhere/1?digest=sha256:aa", "upload"),
            (Method::GET, "/elsewhere/1", "list"),
        ] {
            assert_eq!(op_of(&method, path), op, "{method} {path}");
        }
    }
}
