//! Errors as the distribution specification writes them.

use std::error::Error;

use greentic_dist_types::{Digest, ParseDigestError, SafeText, limits};
use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::StatusCode;
use serde_json::json;

use super::Reply;
use crate::ServeError;
use crate::log::Reason;
use crate::route::Route;
use crate::tree::Missing;

/// An error answer: status, code, message, and what headers go with it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Option<Box<Digest>>,
    header: Option<(http::HeaderName, String)>,
    close: bool,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, header: None, close: false }
    }

    /// The rest of the request body is not wanted.
    fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(crate) fn into_reply(self) -> Reply {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(digest), Some(fields)) = (&self.detail, error.as_object_mut()) {
            fields.insert("detail".to_owned(), json!({ "digest": digest.to_string() }));
        }
        let body = json!({ "errors": [error] });
        let mut reply = super::json(self.status, body.to_string());
        if let Some((name, value)) = &self.header {
            super::set(&mut reply, name, value);
        }
        reply.extensions_mut().insert(Reason(self.message));
        if self.close {
            super::set(&mut reply, CONNECTION, "close");
        }
        reply
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path in this API")
    }

    pub(crate) fn method(route: &Route) -> Self {
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported");
        error.header = Some((ALLOW, route.methods().to_owned()));
        error.closing()
    }

    /// A push to a directory that is only read.
    pub(crate) fn read_only(route: &Route) -> Self {
        let message = "this registry serves a directory and takes no pushes";
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).closing();
        let methods = if matches!(route, Route::Uploads { .. } | Route::Upload { .. }) { "" } else { "GET, HEAD" };
        error.header = Some((ALLOW, methods.to_owned()));
        error
    }

    pub(crate) fn from_a_page() -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", "requests of web pages are not answered").closing()
    }

    pub(crate) fn unauthorized() -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the token is missing or wrong").closing();
        error.header = Some((WWW_AUTHENTICATE, "Basic realm=\"greentic-dist serve\"".to_owned()));
        error
    }

    pub(crate) fn host_missing() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", "a request names one host, once").closing()
    }

    pub(crate) fn foreign_host() -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", "this registry answers to loopback host names only").closing()
    }

    pub(crate) fn name_invalid(name: &str) -> Self {
        let shown = SafeText::excerpt(name, limits::SHOWN_CHARS);
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("invalid repository name: {shown}"))
    }

    pub(crate) fn name_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")
    }

    pub(crate) fn tag_invalid(tag: &str) -> Self {
        let shown = SafeText::excerpt(tag, limits::SHOWN_CHARS);
        Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", format!("invalid tag: {shown}"))
    }

    pub(crate) fn too_many_tags(limit: usize) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", format!("more than {limit} tags in one request"))
    }

    pub(crate) fn digest_invalid(error: &ParseDigestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    }

    pub(crate) fn algorithm(name: &str) -> Self {
        let shown = SafeText::excerpt(name, limits::SHOWN_CHARS);
        let message = format!("digests of the algorithm {shown} are not supported");
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(crate) fn digest_missing() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the query has no `digest`")
    }

    pub(crate) fn digest_mismatch(wanted: Digest, actual: Digest) -> Self {
        let message = format!("the content is {actual}, not {wanted}");
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn manifest_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
    }

    /// A directory has no such manifest, and may say why.
    pub(crate) fn no_manifest(missing: Missing) -> Self {
        match missing {
            Missing::File => Self::manifest_unknown(),
            missing => Self::missing("MANIFEST_UNKNOWN", "manifest unknown", &missing),
        }
    }

    /// A directory has no such blob.
    pub(crate) fn no_blob(missing: Missing) -> Self {
        match missing {
            Missing::File => Self::blob_unknown(),
            missing => Self::missing("BLOB_UNKNOWN", "blob unknown to registry", &missing),
        }
    }

    fn missing(code: &'static str, what: &str, missing: &Missing) -> Self {
        match missing {
            Missing::Stopping | Missing::Changing => {
                let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN", missing.to_string());
                error.header = Some((RETRY_AFTER, "1".to_owned()));
                error
            }
            missing => Self::new(StatusCode::NOT_FOUND, code, format!("{what}: {missing}")),
        }
    }

    pub(crate) fn manifest_not_accepted(media_type: &str) -> Self {
        let message = format!("manifest unknown: it is {media_type}, which the Accept header does not list");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(crate) fn manifest_invalid(problem: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", problem)
    }

    pub(crate) fn manifest_blob_unknown(digest: Digest) -> Self {
        let message = format!("the manifest names {digest}, which is not here");
        let mut error = Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message);
        error.detail = Some(Box::new(digest));
        error
    }

    pub(crate) fn blob_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")
    }

    pub(crate) fn range_not_satisfiable(total: u64) -> Self {
        let message = "the range is beyond the end";
        let mut error = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message);
        error.header = Some((CONTENT_RANGE, format!("bytes */{total}")));
        error
    }

    pub(crate) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry").closing()
    }

    pub(crate) fn upload_range(received: u64) -> Self {
        let message = format!("the upload has {received} bytes, the next chunk must start there");
        let mut error = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message);
        error.header = Some((http::header::RANGE, format!("0-{}", received.saturating_sub(1))));
        error.closing()
    }

    pub(crate) fn size_invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message).closing()
    }

    pub(crate) fn too_many_uploads() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many open uploads").closing()
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message).closing()
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "the body took too long").closing()
    }

    pub(crate) fn body_broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "the body ended early").closing()
    }

    pub(crate) fn page_invalid() -> Self {
        let message = "`n` must be a number of results";
        Self::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
    }

    /// A failure of the registry, with its causes.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message).closing()
    }
}

impl From<Missing> for ApiError {
    fn from(missing: Missing) -> Self {
        Self::missing("NAME_UNKNOWN", "repository name not known to registry", &missing)
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::TooLarge { limit_bytes, .. } => Self::too_large(limit_bytes),
            ServeError::ReadOnly => Self::read_only(&Route::Base),
            other => Self::internal(&other),
        }
    }
}
