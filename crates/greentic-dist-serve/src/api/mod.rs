//! The distribution API: one file per kind of thing.

mod blob;
mod distributor;
mod error;
mod guard;
mod list;
mod manifest;
mod upload;

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

#[cfg(feature = "fuzzing")]
pub(crate) use distributor::asked_component;
pub(crate) use error::ApiError;
#[cfg(feature = "fuzzing")]
pub(crate) use guard::{is_local, name_of as host_name};
#[cfg(feature = "fuzzing")]
pub(crate) use upload::chunk_range;

use crate::body::Payload;
use crate::route::Route;
use crate::running::Server;
use crate::store::Store;

pub(crate) type Reply = Response<Payload>;

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const DOCKER_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request, errors included.
pub(crate) async fn answer(server: &Server, request: Request<Incoming>) -> Reply {
    let is_head = request.method() == Method::HEAD;
    let store = &server.store;
    let mut reply = match guard::check(&request, server.options.token.as_ref()) {
        Err(error) => error.into_reply(),
        Ok(()) => match store.tree() {
            Some(tree) if request.uri().path().starts_with(distributor::PREFIX) => {
                return distributor::answer(tree, request, &server.own_address).await;
            }
            _ => dispatch(store, request).await.unwrap_or_else(ApiError::into_reply),
        },
    };
    let len = reply.body().len();
    let headers = reply.headers_mut();
    headers.insert(DOCKER_API_VERSION, HeaderValue::from_static("registry/2.0"));
    if is_head {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        *reply.body_mut() = Payload::Empty;
    }
    reply
}

async fn dispatch(store: &Arc<Store>, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let route = Route::parse(request.uri().path())?;
    let method = request.method().clone();
    let reads = matches!(method, Method::GET | Method::HEAD);
    if store.tree().is_some() && !reads {
        return Err(ApiError::read_only(&route));
    }
    match &route {
        Route::Base if reads => Ok(json(StatusCode::OK, "{}".to_owned())),
        Route::Catalog if reads => list::catalog(store, &request).await,
        Route::Tags { repository } if reads => list::tags(store, repository, &request).await,
        Route::Referrers { repository, digest } if reads => list::referrers(store, repository, *digest, &request),
        Route::Manifest { repository, reference } => match method {
            Method::GET | Method::HEAD => manifest::get(store, repository, reference, &request).await,
            Method::PUT => manifest::put(store, repository, reference, request).await,
            Method::DELETE => manifest::delete(store, repository, reference),
            _ => Err(ApiError::method(&route)),
        },
        Route::Blob { repository, digest } => match method {
            Method::GET | Method::HEAD => blob::get(store, repository, *digest, &request).await,
            Method::DELETE => blob::delete(store, *digest),
            _ => Err(ApiError::method(&route)),
        },
        Route::Uploads { repository } if method == Method::POST => upload::post(store, repository, request).await,
        Route::Upload { repository, session } => match method {
            Method::GET => upload::status(store, repository, session),
            Method::PATCH => upload::patch(store, repository, session, request).await,
            Method::PUT => upload::put(store, repository, session, request).await,
            Method::DELETE => upload::delete(store, repository, session),
            _ => Err(ApiError::method(&route)),
        },
        _ => Err(ApiError::method(&route)),
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::new(Payload::Empty);
    *reply.status_mut() = status;
    reply
}

/// An answer with a JSON body.
fn json(status: StatusCode, body: String) -> Reply {
    let mut reply = Reply::new(Payload::Bytes(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Adds a header whose value was made from checked names, digests and numbers.
fn set(reply: &mut Reply, name: impl http::header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// A header as text; a value that is no text counts as absent.
fn header<B>(request: &Request<B>, name: HeaderName) -> Option<&str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}
