//! Lists: tags, repositories, referrers.

use std::sync::Arc;

use greentic_dist_types::{Digest, media_type};
use http::HeaderName;
use http::header::{CONTENT_TYPE, LINK};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::{ApiError, Reply, json as json_reply, set};
use crate::route::{param, percent_encode};
use crate::store::{Page, Store};

/// Most results of one page, and as many as are sent when nothing is asked.
const PAGE: usize = 1_000;

/// `GET /v2/<name>/tags/list` (end-8a, end-8b).
pub(super) async fn tags(store: &Arc<Store>, repository: &str, request: &Request<Incoming>) -> Result<Reply, ApiError> {
    let (count, last) = asked(request)?;
    let last = last.as_deref();
    let page = match store.tree() {
        Some(tree) => tree.tags(repository).await?.map(|tags| Page::of(tags.iter(), last, count)),
        None => store.tags(repository, last, count),
    };
    let page = page.ok_or_else(ApiError::name_unknown)?;
    let body = json!({ "name": repository, "tags": page.names });
    Ok(linked(&body, &page, &format!("/v2/{repository}/tags/list"), count))
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(store: &Arc<Store>, request: &Request<Incoming>) -> Result<Reply, ApiError> {
    let (count, last) = asked(request)?;
    let last = last.as_deref();
    let page = match store.tree() {
        Some(tree) => Page::of(tree.repositories().await?.iter(), last, count),
        None => store.repositories(last, count),
    };
    let body = json!({ "repositories": page.names });
    Ok(linked(&body, &page, "/v2/_catalog", count))
}

/// `GET /v2/<name>/referrers/<digest>` (end-12a, end-12b). Pages of 1 000 in the order of their digests.
pub(super) fn referrers(
    store: &Arc<Store>,
    repository: &str,
    subject: Digest,
    request: &Request<Incoming>,
) -> Result<Reply, ApiError> {
    let (count, last) = asked(request)?;
    let last = last.map(|text| crate::route::parse_digest(&text)).transpose()?;
    let kind = param(request.uri().query(), "artifactType").filter(|kind| !kind.is_empty());
    let mut found = store.referrers(repository, subject);
    found.retain(|(digest, record)| {
        last.is_none_or(|last| *digest > last) && (kind.is_none() || kind == record.artifact_type)
    });
    let more = found.len() > count;
    found.truncate(count);
    let manifests: Vec<Value> = found.iter().map(|(digest, record)| record.descriptor(*digest)).collect();
    let body = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    let mut reply = json_reply(StatusCode::OK, body.to_string());
    set(&mut reply, CONTENT_TYPE, media_type::OCI_INDEX);
    if kind.is_some() {
        set(&mut reply, HeaderName::from_static("oci-filters-applied"), "artifactType");
    }
    if let Some((digest, _)) = found.last().filter(|_| more) {
        let filter = kind.map(|kind| format!("&artifactType={}", percent_encode(&kind))).unwrap_or_default();
        let link = format!("</v2/{repository}/referrers/{subject}?n={count}&last={digest}{filter}>; rel=\"next\"");
        set(&mut reply, LINK, &link);
    }
    Ok(reply)
}

/// `n`, at most [`PAGE`], and `last`.
fn asked(request: &Request<Incoming>) -> Result<(usize, Option<String>), ApiError> {
    let query = request.uri().query();
    let count = match param(query, "n") {
        None => PAGE,
        Some(text) => text.parse::<usize>().map_err(|_not_a_number| ApiError::page_invalid())?.min(PAGE),
    };
    Ok((count, param(query, "last")))
}

fn linked(body: &Value, page: &Page, path: &str, count: usize) -> Reply {
    let mut reply = json_reply(StatusCode::OK, body.to_string());
    if let Some(last) = page.names.last().filter(|_| page.more) {
        set(&mut reply, LINK, &format!("<{path}?n={count}&last={}>; rel=\"next\"", percent_encode(last)));
    }
    reply
}
