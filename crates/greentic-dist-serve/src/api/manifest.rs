//! Manifests: by tag and by digest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use greentic_dist_types::{Digest, limits, media_type};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, StatusCode};
use serde_json::Value;

use super::{ApiError, DOCKER_CONTENT_DIGEST, Reply, empty, header, set};
use crate::body::Payload;
use crate::name;
use crate::range::none_match_names;
use crate::route::{params, parse_digest};
use crate::store::{ManifestRecord, Store, is_manifest_type, needed_blobs};

/// How long a manifest may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Most tags one request sets.
const TAGS: usize = 64;

/// `GET` and `HEAD /v2/<name>/manifests/<reference>` (end-3).
pub(super) async fn get(
    store: &Arc<Store>,
    repository: &str,
    reference: &str,
    request: &Request<Incoming>,
) -> Result<Reply, ApiError> {
    if reference.contains(':') {
        parse_digest(reference)?;
    }
    let (digest, record, content) = match store.tree() {
        Some(tree) => tree.manifest(repository, reference).await.map_err(ApiError::no_manifest)?,
        None => store.find_manifest(repository, reference).ok_or_else(ApiError::manifest_unknown)?,
    };
    if !accepts(request, &record.media_type) {
        return Err(ApiError::manifest_not_accepted(&record.media_type));
    }
    let etag = format!("\"{digest}\"");
    let mut reply = if none_match_names(header(request, IF_NONE_MATCH), &etag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let bytes = content.read_manifest().map_err(|error| ApiError::internal(&error))?;
        let mut reply = Reply::new(Payload::Bytes(bytes));
        set(&mut reply, CONTENT_TYPE, &record.media_type);
        reply
    };
    set(&mut reply, ETAG, &etag);
    set(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    Ok(reply)
}

/// Whether the `Accept` headers, if there are any, take this media type. Quality values are not weighed.
fn accepts(request: &Request<Incoming>, media_type: &str) -> bool {
    let mut named = false;
    for value in request.headers().get_all(ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let item = media_type::essence(item);
            if item.is_empty() {
                continue;
            }
            named = true;
            let group = item.strip_suffix('*').is_some_and(|prefix| media_type.starts_with(prefix));
            if item == "*/*" || group || item == media_type::essence(media_type) {
                return true;
            }
        }
    }
    !named
}

/// `PUT /v2/<name>/manifests/<reference>` (end-7a), and with a digest and `?tag=` for each tag (end-7b).
pub(super) async fn put(
    store: &Arc<Store>,
    repository: &str,
    reference: &str,
    request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let wanted = if reference.contains(':') {
        Some(parse_digest(reference)?)
    } else if name::is_tag(reference) {
        None
    } else {
        return Err(ApiError::tag_invalid(reference));
    };
    let tags = if wanted.is_some() { params(request.uri().query(), "tag") } else { Vec::new() };
    if tags.len() > TAGS {
        return Err(ApiError::too_many_tags(TAGS));
    }
    if let Some(bad) = tags.iter().find(|tag| !name::is_tag(tag)) {
        return Err(ApiError::tag_invalid(bad));
    }
    let content_type = header(&request, CONTENT_TYPE).map(media_type::essence).unwrap_or_default();
    let bytes = read_body(request.into_body()).await?;
    let (media_type, manifest) = checked(content_type, &bytes)?;
    let digest = match wanted {
        None => Digest::sha256(&bytes),
        Some(wanted) => {
            let actual = Digest::of(wanted.algorithm(), &bytes);
            if actual != wanted {
                return Err(ApiError::digest_mismatch(wanted, actual));
            }
            wanted
        }
    };
    if let Some(missing) = needed_blobs(&manifest).into_iter().find(|digest| store.blob(*digest).is_none()) {
        return Err(ApiError::manifest_blob_unknown(missing));
    }
    let subject = ManifestRecord::new(&media_type, &bytes).subject;
    let references: Vec<&str> = tags.iter().map(String::as_str).chain([reference]).collect();
    store.put_manifest(repository, &references, &media_type, bytes, digest)?;
    let mut reply = empty(StatusCode::CREATED);
    set(&mut reply, LOCATION, &format!("/v2/{repository}/manifests/{digest}"));
    set(&mut reply, DOCKER_CONTENT_DIGEST, &digest.to_string());
    for tag in &tags {
        if let Ok(value) = HeaderValue::from_str(tag) {
            reply.headers_mut().append(HeaderName::from_static("oci-tag"), value);
        }
    }
    if let Some(subject) = subject {
        set(&mut reply, HeaderName::from_static("oci-subject"), &subject.to_string());
    }
    Ok(reply)
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    // Before anything is read: a peer that asks whether to send it is told.
    if body.size_hint().lower() > limits::MANIFEST_BYTES {
        return Err(ApiError::too_large(limits::MANIFEST_BYTES));
    }
    let limit = usize::try_from(limits::MANIFEST_BYTES).unwrap_or(usize::MAX);
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Err(_elapsed) => Err(ApiError::body_timeout()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limits::MANIFEST_BYTES)),
        Ok(Err(_broken)) => Err(ApiError::body_broken()),
    }
}

/// The media type and the JSON of a pushed manifest.
fn checked(content_type: String, bytes: &[u8]) -> Result<(String, Value), ApiError> {
    let manifest: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::manifest_invalid(format!("the manifest is not JSON: {error}")))?;
    if !manifest.is_object() {
        return Err(ApiError::manifest_invalid("the manifest is not a JSON object"));
    }
    let inner = manifest.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let media_type = if content_type.is_empty() { inner.to_owned() } else { content_type };
    if !is_manifest_type(&media_type) {
        return Err(ApiError::manifest_invalid("the media type is not one of a manifest or an index"));
    }
    if !inner.is_empty() && inner != media_type {
        return Err(ApiError::manifest_invalid("`mediaType` and Content-Type differ"));
    }
    Ok((media_type, manifest))
}

/// `DELETE /v2/<name>/manifests/<reference>` (end-9).
pub(super) fn delete(store: &Arc<Store>, repository: &str, reference: &str) -> Result<Reply, ApiError> {
    if reference.contains(':') {
        parse_digest(reference)?;
    }
    if store.remove_manifest(repository, reference)? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(ApiError::manifest_unknown())
    }
}
