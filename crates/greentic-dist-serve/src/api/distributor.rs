//! The distributor's JSON endpoints, answered from a directory of packs and components (docs/distributor-api.md).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{Reply, guard, header, json as json_reply, set};
use crate::connection::BodyRead;
use crate::log::Reason;
use crate::name;
use crate::route::param;
use crate::tree::{Artifact, Kind, Missing, Name, Tree};
use crate::utc::rfc3339;

/// Where the endpoints are.
pub(crate) const PREFIX: &str = "/distributor-api/";
/// Largest question, in bytes.
const QUESTION_BYTES: usize = 1 << 20;
/// How long a question may take to arrive.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A question that is not answered with what was asked.
struct Refusal {
    status: StatusCode,
    message: String,
    /// The method the endpoint is asked with.
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), allow: None }
    }
}

impl Refusal {
    fn method(allow: &'static str) -> Self {
        let message = "this endpoint is asked with another method";
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }
}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        let status = match missing {
            Missing::Id(_) | Missing::Version(_) => StatusCode::BAD_REQUEST,
            Missing::Stopping | Missing::Changing => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NOT_FOUND,
        };
        Self::new(status, missing.to_string())
    }
}

/// Answers a request below [`PREFIX`].
pub(super) async fn answer(tree: &Arc<Tree>, request: Request<Incoming>, own_address: &str) -> Reply {
    let endpoint = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let host = host_of(&request, own_address);
    let answered = match (endpoint.as_str(), request.method()) {
        ("resolve-component", &Method::POST) => resolve_component(tree, request, &host).await,
        ("warm-pack", &Method::POST) => warm_pack(tree, request).await,
        ("pack-status", &Method::GET) => {
            pack_status(tree, &request).await.map(|versions| json!({ "status": "ready", "versions": versions }))
        }
        ("pack-status-v2", &Method::GET) => pack_status(tree, &request)
            .await
            .map(|versions| json!({ "status": "ready", "extra": { "versions": versions } })),
        ("resolve-component" | "warm-pack", _) => Err(Refusal::method("POST")),
        ("pack-status" | "pack-status-v2", _) => Err(Refusal::method("GET")),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such endpoint")),
    };
    match answered {
        Ok(document) => json_reply(StatusCode::OK, document.to_string()),
        Err(refusal) => {
            let mut reply = json_reply(refusal.status, json!({ "error": { "message": refusal.message } }).to_string());
            if let Some(allow) = refusal.allow {
                set(&mut reply, http::header::ALLOW, allow);
            }
            if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
                set(&mut reply, http::header::RETRY_AFTER, "1");
            }
            reply.extensions_mut().insert(Reason(refusal.message));
            if refusal.status != StatusCode::NOT_FOUND {
                // What is left of the question is not wanted.
                set(&mut reply, http::header::CONNECTION, "close");
            }
            reply
        }
    }
}

/// The address the asking side knows this server by: what it is told is reached there.
fn host_of(request: &Request<Incoming>, own_address: &str) -> String {
    header(request, HOST).filter(|host| guard::name_of(host).is_some()).unwrap_or(own_address).to_owned()
}

async fn resolve_component(tree: &Arc<Tree>, request: Request<Incoming>, host: &str) -> Result<Value, Refusal> {
    let name = component(&question(request).await?)?;
    let found = tree.artifact(&name).await?.artifact;
    let at = |time: Option<SystemTime>| time.map(rfc3339).unwrap_or_default();
    Ok(json!({
        "status": "ready",
        "digest": found.content.to_string(),
        "artifact": location(&found, host),
        "signature": { "verified": false, "signer": "", "extra": null },
        "cache": {
            "size_bytes": found.size_bytes,
            "last_used_utc": rfc3339(SystemTime::now()),
            "last_refreshed_utc": at(found.stamp.modified_at()),
        },
    }))
}

/// The component that is asked for.
fn component(question: &Value) -> Result<Name, Refusal> {
    tenant(question)?;
    text(question, "environment_id")?;
    text(question, "pack_id")?;
    Ok(Name::new(Kind::Component, text(question, "component_id")?, text(question, "version")?)?)
}

/// The component that the body of a question asks for, or what the peer is told.
#[cfg(feature = "fuzzing")]
pub(crate) fn asked_component(body: &[u8]) -> Result<Name, String> {
    object(body).and_then(|question| component(&question)).map_err(|refusal| refusal.message)
}

/// Where an artifact can be pulled from: this registry, by digest. An id that is no repository name has no place there.
fn location(found: &Artifact, host: &str) -> Value {
    let repository = found.name.repository();
    if name::is_repository(&repository) {
        let reference = format!("{host}/{repository}@{}", found.manifest_digest);
        json!({ "kind": "oci_reference", "reference": reference })
    } else {
        json!({ "kind": "distributor_internal", "handle": format!("{repository}/{}", found.name.version) })
    }
}

/// The versions of a pack; there is at least one.
async fn pack_status(tree: &Arc<Tree>, request: &Request<Incoming>) -> Result<Vec<String>, Refusal> {
    let query = request.uri().query();
    let wanted = |field: &str| {
        param(query, field)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, format!("the query has no `{field}`")))
    };
    wanted("tenant_id")?;
    wanted("environment_id")?;
    versions(tree, wanted("pack_id")?).await
}

async fn versions(tree: &Arc<Tree>, id: String) -> Result<Vec<String>, Refusal> {
    // Any version: the id alone is looked at.
    Name::new(Kind::Pack, &id, "0.0.0")?;
    let found = tree.versions(Kind::Pack, &id).await?;
    if found.is_empty() { Err(Missing::File.into()) } else { Ok(found) }
}

/// Hashes every version of a pack, so that whoever pulls it next need not wait for that.
async fn warm_pack(tree: &Arc<Tree>, request: Request<Incoming>) -> Result<Value, Refusal> {
    let question = question(request).await?;
    text(&question, "tenant_id")?;
    text(&question, "environment_id")?;
    let id = text(&question, "pack_id")?.to_owned();
    let versions = versions(tree, id.clone()).await?;
    let mut warmed = Vec::new();
    for version in versions {
        let name = Name::new(Kind::Pack, &id, &version)?;
        match tree.artifact(&name).await {
            Ok(_) => warmed.push(version),
            Err(Missing::Stopping) => return Err(Missing::Stopping.into()),
            Err(_gone_meanwhile) => {}
        }
    }
    Ok(json!({ "status": "ready", "versions": warmed }))
}

/// The JSON object of a POST.
async fn question(request: Request<Incoming>) -> Result<Value, Refusal> {
    let kind = header(&request, CONTENT_TYPE).map(greentic_dist_types::media_type::essence).unwrap_or_default();
    if kind != "application/json" {
        // A page can send other types without asking first.
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the question must be application/json"));
    }
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the question is larger than 1 MiB");
    // Before anything is read: a peer that asks whether to send it is told.
    if request.body().size_hint().lower() > u64::try_from(QUESTION_BYTES).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let body_read = request.extensions().get::<BodyRead>().cloned();
    let read = Limited::new(request.into_body(), QUESTION_BYTES).collect();
    let bytes: Bytes = match tokio::time::timeout(QUESTION_TIMEOUT, read).await {
        Err(_elapsed) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the question took too long")),
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_broken)) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "the question ended early")),
    };
    if let Some(body_read) = body_read {
        body_read.over();
    }
    object(&bytes)
}

fn object(bytes: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(question) if question.is_object() => Ok(question),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "the question is no JSON object")),
    }
}

/// Who asks. Everybody is answered alike, and a question without it is none.
fn tenant(question: &Value) -> Result<(), Refusal> {
    let tenant = question.get("tenant").filter(|tenant| tenant.is_object());
    let tenant = tenant.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "`tenant` is missing, or no object"))?;
    let named = |field: &str| tenant.get(field).is_some_and(Value::is_string);
    let missing = ["env", "tenant", "tenant_id"].into_iter().find(|field| !named(field));
    missing.map_or(Ok(()), |field| {
        Err(Refusal::new(StatusCode::BAD_REQUEST, format!("`tenant.{field}` is missing, or no text")))
    })
}

fn text<'a>(question: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    question
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, format!("`{field}` is missing, or no text")))
}
