//! Blobs: whole, in part, or not again when the peer has them.

use std::sync::Arc;

use greentic_dist_types::Digest;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::{ApiError, DOCKER_CONTENT_DIGEST, Reply, empty, header, set};
use crate::body::Payload;
use crate::range::{Asked, asked, none_match_names};
use crate::store::Store;

/// `GET` and `HEAD /v2/<name>/blobs/<digest>` (end-2).
pub(super) async fn get(
    store: &Arc<Store>,
    repository: &str,
    digest: Digest,
    request: &Request<Incoming>,
) -> Result<Reply, ApiError> {
    let content = match store.tree() {
        Some(tree) => tree.blob(repository, digest).await.map_err(ApiError::no_blob)?,
        None => store.blob(digest).ok_or_else(ApiError::blob_unknown)?,
    };
    let etag = format!("\"{digest}\"");
    if none_match_names(header(request, IF_NONE_MATCH), &etag) {
        let mut reply = empty(StatusCode::NOT_MODIFIED);
        set(&mut reply, ETAG, &etag);
        set(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
        return Ok(reply);
    }
    let total = content.len();
    // A range counts for GET alone, and only while the peer's part is of the same content (RFC 9110, 13.1.5 and 14.2).
    let current = header(request, IF_RANGE).is_none_or(|value| value == etag);
    let range = header(request, RANGE).filter(|_| current && request.method() == Method::GET);
    let (status, first, len) = match asked(range, total) {
        Asked::Whole => (StatusCode::OK, 0, total),
        Asked::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Asked::Nothing => return Err(ApiError::range_not_satisfiable(total)),
    };
    let mut reply = Reply::new(Payload::Blob { content, first, len });
    *reply.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut reply, CONTENT_RANGE, &format!("bytes {first}-{}/{total}", first + len - 1));
    }
    set(&mut reply, ACCEPT_RANGES, "bytes");
    set(&mut reply, CONTENT_TYPE, "application/octet-stream");
    set(&mut reply, ETAG, &etag);
    set(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    Ok(reply)
}

/// `DELETE /v2/<name>/blobs/<digest>` (end-10).
pub(super) fn delete(store: &Arc<Store>, digest: Digest) -> Result<Reply, ApiError> {
    if store.remove_blob(digest)? { Ok(empty(StatusCode::ACCEPTED)) } else { Err(ApiError::blob_unknown()) }
}
