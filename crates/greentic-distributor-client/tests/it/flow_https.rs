//! Files of a web server, over loopback HTTP where that is allowed. The same flow over TLS is in `peer_tls`.

use std::sync::atomic::{AtomicUsize, Ordering};

use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{Auth, Integrity, Internal, NotFound, Offline, Temporary};
use greentic_distributor_client::dist::{
    ArtifactSourceKind, CachePolicy, DistClient, DistOptions, ResolvePolicy, ResolvedVia,
};

use crate::support::{CANARY, Home, assert_fails};

const BYTES: &[u8] = b"\0asm from the web";

fn client(home: &Home) -> DistClient {
    home.builder().options(DistOptions { allow_insecure_local_http: true, ..home.options() }).build()
}

fn offline(home: &Home) -> DistClient {
    let options = DistOptions { allow_insecure_local_http: true, offline: true, ..home.options() };
    home.builder().options(options).build()
}

fn server() -> LyingServer {
    LyingServer::start(|request, _| {
        if request.header("if-none-match") == Some("\"v1\"") {
            return Response::not_modified("\"v1\"");
        }
        Response::ranged(request, "\"v1\"", BYTES).header("Content-Type", "application/x-custom; charset=x")
    })
}

#[tokio::test]
async fn resolve_and_fetch_together_are_one_request() {
    let (home, server) = (Home::new(), server());
    let (client, url) = (client(&home), format!("{}/dir/my-component__0_6_0.wasm", server.url()));
    let source = client.parse_source(&url).unwrap();
    assert_eq!(source.kind, ArtifactSourceKind::Https);
    assert!(source.transport_hints.allow_insecure_local_http);
    let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
    let digest = Digest::sha256(BYTES).to_string();
    assert_eq!((descriptor.digest.as_str(), descriptor.size_bytes), (digest.as_str(), 17));
    assert_eq!(descriptor.resolved_via, ResolvedVia::Https);
    let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
    assert_eq!(server.journal().lines(), ["GET /dir/my-component__0_6_0.wasm"]);
    assert_eq!(artifact.wasm_bytes().unwrap(), BYTES);
    assert_eq!(artifact.component_id, "my-component");
    assert_eq!(artifact.content_type.as_deref(), Some("application/x-custom"));
    assert_eq!(artifact.descriptor.canonical_ref, format!("{url}@{digest}"));
    assert_eq!(artifact.content_digest(), digest);
}

#[tokio::test]
async fn a_first_pull_of_a_url_says_that_it_fetched() {
    let (home, server) = (Home::new(), server());
    let url = format!("{}/a.wasm", server.url());
    let client = client(&home);
    assert!(client.resolve_ref(&url).await.unwrap().fetched);
    assert_eq!(server.journal().len(), 1);
    assert!(!client.resolve_ref(&url).await.unwrap().fetched);
}

#[tokio::test]
async fn an_unchanged_url_costs_one_conditional_request_and_no_body() {
    let (home, server) = (Home::new(), server());
    let url = format!("{}/a.wasm", server.url());
    client(&home).resolve_ref(&url).await.unwrap();
    server.journal().clear();
    let again = client(&home).resolve_ref(&url).await.unwrap();
    assert!(!again.fetched);
    assert_eq!(again.wasm_bytes().unwrap(), BYTES);
    assert_eq!(server.journal().len(), 1);
    assert_eq!(server.journal().entries()[0].status, 304);
}

#[tokio::test]
async fn a_url_pulled_once_opens_offline() {
    let (home, server) = (Home::new(), server());
    let url = format!("{}/a.wasm", server.url());
    assert_fails(offline(&home).resolve_ref(&url).await, Offline, 4);
    client(&home).resolve_ref(&url).await.unwrap();
    server.journal().clear();
    assert_eq!(offline(&home).resolve_ref(&url).await.unwrap().wasm_bytes().unwrap(), BYTES);
    assert!(server.journal().is_empty());
}

#[tokio::test]
async fn a_url_without_a_type_is_wasm() {
    let home = Home::new();
    let server = LyingServer::start(|_, _| Response::ok(BYTES));
    let artifact = client(&home).resolve_ref(&format!("{}/", server.url())).await.unwrap();
    assert_eq!(artifact.content_type.as_deref(), Some("application/wasm"));
    assert_eq!(artifact.component_id, "http-component");
}

#[tokio::test]
async fn secrets_in_a_query_are_sent_and_written_nowhere() {
    let (home, server) = (Home::new(), server());
    let url = format!("{}/a.wasm?sig={CANARY}", server.url());
    let artifact = client(&home).resolve_ref(&url).await.unwrap();
    assert!(server.journal().contains(CANARY));
    assert!(!artifact.descriptor.canonical_ref.contains(CANARY));
    home.assert_in_no_file(CANARY);
    assert!(!offline(&home).resolve_ref(&url).await.unwrap().fetched);
}

#[tokio::test]
async fn statuses_of_a_web_server_mean_what_they_say() {
    for (status, kind, exit, requests) in [
        (404, NotFound, 3, 1),
        (410, NotFound, 3, 1),
        (401, Auth, 5, 1),
        (403, Auth, 5, 1),
        (500, Temporary, 7, 5),
        (429, Temporary, 7, 5),
        (418, Internal, 10, 1),
    ] {
        let home = Home::new();
        let server = LyingServer::start(move |_, _| Response::status(status, "no"));
        let url = format!("{}/a.wasm", server.url());
        let text = assert_fails(client(&home).resolve_ref(&url).await, kind, exit);
        assert!(text.contains(&url) && text.contains(&status.to_string()), "{text}");
        assert_eq!(server.journal().len(), requests, "{status}");
        home.assert_cache_empty();
    }
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let home = Home::new();
    let body = greentic_dist_testkit::fixture::random_bytes(9, 100_000);
    let copy = body.clone();
    let server = LyingServer::start(move |request, _| {
        let answer = Response::ranged(request, "\"v\"", copy.clone());
        if request.index == 0 { answer.cut_after(60_000) } else { answer }
    });
    let artifact = client(&home).resolve_ref(&format!("{}/a.wasm", server.url())).await.unwrap();
    assert!(artifact.wasm_bytes().unwrap() == body);
    assert_eq!(server.journal().header_of(1, "range").as_deref(), Some("bytes=60000-"));
    assert_eq!(server.journal().header_of(1, "if-range").as_deref(), Some("\"v\""));
}

#[tokio::test]
async fn a_file_that_changes_in_the_middle_of_a_download_is_never_mixed() {
    let home = Home::new();
    let count = AtomicUsize::new(0);
    let server = LyingServer::start(move |request, _| {
        let version = u8::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
        let answer = Response::ranged(request, &format!("\"{version}\""), vec![version; 50_000]);
        if version == 0 { answer.cut_after(20_000) } else { answer }
    });
    let url = format!("{}/a.wasm", server.url());
    // The rest is asked for on the condition that the file is still the same. It is not: what came of the old one is worth
    // nothing, and whoever reads has seen it already.
    let text = assert_fails(client(&home).resolve_ref(&url).await, Temporary, 7);
    assert!(text.contains(&url) && text.contains("changed while it was read"), "{text}");
    assert_eq!(server.journal().header_of(1, "if-range").as_deref(), Some("\"0\""));
    assert_eq!(server.journal().len(), 2);
    home.assert_cache_empty();
    assert!(client(&home).resolve_ref(&url).await.unwrap().wasm_bytes().unwrap() == vec![2; 50_000]);
}

#[tokio::test]
async fn over_long_and_endless_bodies_end_at_the_limit() {
    let home = Home::new();
    let limited = home
        .builder()
        .options(DistOptions { allow_insecure_local_http: true, ..home.options() })
        .max_artifact_bytes(100_000)
        .build();
    for (path, kind) in [("/long", Internal), ("/endless", Internal)] {
        let server = LyingServer::start(|request, _| match request.path.as_str() {
            "/long" => Response::ok(vec![0; 100_001]),
            _ => Response::ok("x").endless(),
        });
        assert_fails(limited.resolve_ref(&format!("{}{path}", server.url())).await, kind, 10);
        assert!(server.journal().body_bytes_sent("/") < 32 << 20);
        home.assert_cache_empty();
    }
}

#[tokio::test]
async fn not_modified_to_a_first_question_is_refused() {
    let home = Home::new();
    let server = LyingServer::start(|_, _| Response::not_modified("\"v1\""));
    let url = format!("{}/a.wasm", server.url());
    assert_fails(client(&home).resolve_ref(&url).await, Internal, 10);
    home.assert_cache_empty();
}

#[tokio::test]
async fn row_33_an_encoded_body_nobody_asked_for_is_refused() {
    let home = Home::new();
    let server = LyingServer::start(|_, _| Response::ok(BYTES).header("Content-Encoding", "gzip"));
    for reference in [format!("{}/a.wasm", server.url()), format!("oci://{}/acme/hello:1", server.host())] {
        let text = assert_fails(client(&home).resolve_ref(&reference).await, Internal, 10);
        assert!(text.contains("gzip"), "{text}");
    }
    assert_eq!(server.journal().len(), 2);
    for index in 0..2 {
        assert_eq!(server.journal().header_of(index, "accept-encoding").as_deref(), Some("identity"));
    }
    home.assert_cache_empty();
}

#[tokio::test]
async fn a_damaged_copy_of_a_url_is_fetched_again_online_and_refused_offline() {
    let (home, server) = (Home::new(), server());
    let url = format!("{}/a.wasm", server.url());
    let artifact = client(&home).resolve_ref(&url).await.unwrap();
    std::fs::remove_file(&artifact.local_path).unwrap();
    std::fs::write(&artifact.local_path, b"\0asm from the wep").unwrap();
    assert_fails(offline(&home).resolve_ref(&url).await, Integrity, 8);
    assert_fails(offline(&home).open_cached(&artifact.digest), Integrity, 8);
    server.journal().clear();
    assert_eq!(client(&home).resolve_ref(&url).await.unwrap().wasm_bytes().unwrap(), BYTES);
    assert_eq!(server.journal().entries()[0].status, 200);
    assert_eq!(offline(&home).open_cached(&artifact.digest).unwrap().wasm_bytes().unwrap(), BYTES);
}
