//! The quirks of registries around the distribution API, by the numbers of the project's list of them: P01 to P12, P29 to P50,
//! P53, P55 and P59 to P61. The others are about connections and hosts and are tested beside those.

mod chunks;
mod lists;
mod reading;
mod referrers;
mod writing;

use std::sync::Mutex;

use greentic_dist_net::{Net, Repository};
use greentic_dist_testkit::{Ctx, LyingServer, Request, Response};
use greentic_dist_types::Digest;

use crate::support::repository;

/// A password that must be nowhere but at its own host.
pub const CANARY: &str = "canary-41c7";

/// A server that gives these answers in this order, whatever is asked, and 418 afterwards.
pub fn script(answers: impl IntoIterator<Item = Response>) -> LyingServer {
    let mut answers: Vec<Response> = answers.into_iter().collect();
    answers.reverse();
    let answers = Mutex::new(answers);
    LyingServer::start(move |_, _| answers.lock().unwrap().pop().unwrap_or_else(|| Response::status(418, "")))
}

/// The same with answers made from the request.
pub fn serving(answer: impl Fn(&Request, &Ctx) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(answer)
}

/// A server that wants the login `ann` with the canary, and then answers.
pub fn with_password(answer: impl Fn(&Request, &Ctx) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(move |request, ctx| match request.header("authorization") {
        Some(_) => answer(request, ctx),
        None => Response::basic_challenge("r"),
    })
}

pub fn at(net: &Net, server: &LyingServer) -> Repository {
    repository(net, &format!("{}/acme/hello", server.host()))
}

/// `POST` that opens a session.
pub fn session(location: &str) -> Response {
    Response::status(202, "").header("Location", location)
}

pub fn created() -> Response {
    Response::status(201, "").header("Location", "/v2/acme/hello/blobs/x")
}

pub fn missing() -> Response {
    Response::status(404, "")
}

/// `HEAD` of a blob.
pub fn head_line(bytes: &[u8]) -> String {
    format!("HEAD /v2/acme/hello/blobs/{}", Digest::sha256(bytes))
}

pub const START: &str = "POST /v2/acme/hello/blobs/uploads/";
