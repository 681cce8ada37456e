//! Pushing blobs: in one request, in two, in chunks, or by mounting what is here already.

use std::sync::Arc;

use greentic_dist_types::{Algorithm, Digest};
use http::HeaderName;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::{ApiError, DOCKER_CONTENT_DIGEST, Reply, empty, header, set};
use crate::route::{param, parse_digest};
use crate::store::Store;
use crate::upload::Upload;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// `POST /v2/<name>/blobs/uploads/` (end-4a, end-4b, end-4c, end-11).
pub(super) async fn post(store: &Arc<Store>, repository: &str, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let query = request.uri().query();
    if let Some(mount) = param(query, "mount") {
        let digest = parse_digest(&mount)?;
        if store.blob(digest).is_some() {
            return Ok(created(repository, digest));
        }
    }
    let digest = param(query, "digest").map(|text| parse_digest(&text)).transpose()?;
    let algorithm = match (digest, param(query, "digest-algorithm").as_deref()) {
        (Some(digest), _) => digest.algorithm(),
        (None, None) => Algorithm::Sha256,
        (None, Some(name)) => {
            let known = Algorithm::ALL.into_iter().find(|known| known.name() == name);
            known.ok_or_else(|| ApiError::algorithm(name))?
        }
    };
    let mut upload = Upload::begin(store, repository, algorithm)?;
    if let Some(digest) = digest {
        // The peer knows no session it could go on with.
        if let Err(error) = upload.receive(request.into_body()).await {
            upload.abort();
            return Err(error);
        }
        upload.commit(digest).await?;
        return Ok(created(repository, digest));
    }
    Ok(progress(StatusCode::ACCEPTED, repository, &upload))
}

/// `GET /v2/<name>/blobs/uploads/<session>` (end-13).
pub(super) fn status(store: &Arc<Store>, repository: &str, session: &str) -> Result<Reply, ApiError> {
    let upload = Upload::resume(store, repository, session)?;
    Ok(progress(StatusCode::NO_CONTENT, repository, &upload))
}

/// `PATCH /v2/<name>/blobs/uploads/<session>` (end-5).
pub(super) async fn patch(
    store: &Arc<Store>,
    repository: &str,
    session: &str,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let mut upload = Upload::resume(store, repository, session)?;
    check_range(&upload, &request)?;
    upload.receive(request.into_body()).await?;
    Ok(progress(StatusCode::ACCEPTED, repository, &upload))
}

/// `PUT /v2/<name>/blobs/uploads/<session>?digest=<digest>` (end-6).
pub(super) async fn put(
    store: &Arc<Store>,
    repository: &str,
    session: &str,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let mut upload = Upload::resume(store, repository, session)?;
    let digest = param(request.uri().query(), "digest").ok_or_else(ApiError::digest_missing)?;
    let digest = parse_digest(&digest)?;
    check_range(&upload, &request)?;
    upload.receive(request.into_body()).await?;
    upload.commit(digest).await?;
    Ok(created(repository, digest))
}

/// `DELETE /v2/<name>/blobs/uploads/<session>` (end-14).
pub(super) fn delete(store: &Arc<Store>, repository: &str, session: &str) -> Result<Reply, ApiError> {
    Upload::resume(store, repository, session)?.abort();
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A chunk that says where it belongs must start where the upload ends and be as long as it says.
fn check_range(upload: &Upload, request: &Request<Incoming>) -> Result<(), ApiError> {
    let Some(range) = header(request, CONTENT_RANGE) else { return Ok(()) };
    let Some((first, last)) = chunk_range(range) else {
        return Err(ApiError::size_invalid("Content-Range is not `<first>-<last>`"));
    };
    if first != upload.received_bytes() {
        return Err(ApiError::upload_range(upload.received_bytes()));
    }
    let length = header(request, CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length != (last - first).saturating_add(1)) {
        return Err(ApiError::size_invalid("Content-Range and Content-Length differ"));
    }
    Ok(())
}

/// `<first>-<last>`, the form of the specification, or with the unit before it.
pub(crate) fn chunk_range(field: &str) -> Option<(u64, u64)> {
    let (first, last) = field.strip_prefix("bytes ").unwrap_or(field).split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn created(repository: &str, digest: Digest) -> Reply {
    let mut reply = empty(StatusCode::CREATED);
    set(&mut reply, LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    set(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    reply
}

fn progress(status: StatusCode, repository: &str, upload: &Upload) -> Reply {
    let mut reply = empty(status);
    set(&mut reply, LOCATION, &format!("/v2/{repository}/blobs/uploads/{}", upload.id()));
    set(&mut reply, RANGE, &format!("0-{}", upload.received_bytes().saturating_sub(1)));
    set(&mut reply, UPLOAD_ID, upload.id());
    reply
}
