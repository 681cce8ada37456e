//! What those who watch see of requests: a span each, and no secret, whatever crate speaks.

use std::sync::Arc;

use greentic_dist_net::{
    BytesSource, Capabilities, Credential, HostConfig, HostEndpoint, HttpRule, Net, NetError, Proxy, ProxyRule,
    RawManifest, Selector, StaticCredentials,
};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario, blob_host};
use greentic_dist_testkit::trace::{Trace, TracedSpan};
use greentic_dist_testkit::{LyingServer, Response};
use serde_json::json;

use crate::mirrors::own_ip;
use crate::support::{pull_layer, quick, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, blob};

/// In every secret of these tests.
const CANARY: &str = "canary-trace-60";

fn fields<'a>(span: &'a TracedSpan, names: &[&str]) -> Vec<Option<&'a str>> {
    names.iter().map(|name| span.field(name)).collect()
}

#[tokio::test]
async fn every_request_has_a_span_that_says_what_came_of_it() {
    let registry = Scenario::new(fixture::component()).lie(Lie::burst(Part::Manifest, 503, 1)).start();
    let (net, trace) = (crate::support::net(), Trace::new());
    let recording = trace.record();
    repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
    pull_layer(&net, &registry).await.unwrap();
    drop(recording);
    let spans = trace.spans("oci.request");
    let (host, bytes) = (registry.host(), registry.artifact().layer_bytes().len().to_string());
    let names = ["op", "method", "host", "repository", "attempt", "status", "reused", "version"];
    let expected = |op, attempt, status, reused| {
        let (host, repository) = (Some(host.as_str()), Some("acme/hello"));
        [Some(op), Some("GET"), host, repository, Some(attempt), Some(status), Some(reused), Some("HTTP/1.1")].to_vec()
    };
    let seen: Vec<_> = spans.iter().map(|span| fields(span, &names)).collect();
    assert_eq!(
        seen,
        [
            expected("manifest", "1", "503", "false"),
            expected("manifest", "2", "200", "true"),
            expected("blob", "1", "200", "true")
        ]
    );
    assert_eq!(spans[2].field("bytes"), Some(bytes.as_str()));
    assert!(trace.lines().iter().any(|line| line.contains("trying again")), "{:?}", trace.lines());
}

#[tokio::test]
async fn a_mirror_that_fails_and_one_that_lies_are_events() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(60, 100_000));
    let origin = Scenario::new(artifact.clone()).start();
    let broken = Scenario::new(artifact.clone()).on(own_ip()).lie(Lie::status(Part::Blob, 500)).start();
    let liar = Scenario::new(artifact).on(own_ip()).lie(Lie::WrongBlob).start();
    let config = [&broken, &liar].into_iter().fold(HostConfig::new(origin.host()), |config, mirror| {
        config.mirror(HostEndpoint::new(mirror.url()).capabilities(Capabilities::PULL))
    });
    let (net, trace) = (quick().host(config).build().unwrap(), Trace::new());
    let recording = trace.record();
    pull_layer(&net, &origin).await.unwrap_err();
    drop(recording);
    let told = |what: &str, who: &LyingRegistry| {
        trace.lines().iter().any(|line| line.contains(what) && line.contains(&who.url()))
    };
    assert!(told("asking the next endpoint", &broken), "{}", trace.text());
    assert!(told("quarantined", &liar), "{}", trace.text());
}

/// Pulls by tag, pushes and lists, with whatever login the client has.
async fn use_repository(net: &Net, registry: &str, artifact: &Artifact) -> Result<(), NetError> {
    let repository = repository(net, &format!("{registry}/acme/hello:1"));
    repository.manifest(Selector::Tag("1")).await?;
    read(repository.blob(&crate::support::descriptor(artifact.layer_bytes())).open().await?).await?;
    repository.tags().collect(100).await?;
    let content = BytesSource::new("application/wasm", &b"pushed"[..]);
    // These registries take no push; the login goes with the attempt.
    let refused = repository.put_blob(Arc::new(content)).send().await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains(CANARY), "{refused:?}");
    let raw = RawManifest::new(artifact.manifest_bytes.clone()).unwrap();
    repository.put_manifest(&raw).tag("2").send().await.map(drop).unwrap_or_default();
    Ok(())
}

/// A registry that redirects blobs to a signed URL of a store, with the signature in its query.
fn with_signed_urls(auth: Auth, artifact: &Artifact) -> (LyingRegistry, LyingServer) {
    let store = blob_host(own_ip(), artifact);
    let signed =
        format!("{}/blob/{}?X-Amz-Signature={CANARY}&X-Amz-Credential={CANARY}", store.url(), artifact.layer_digest());
    let registry =
        Scenario::new(artifact.clone()).auth(auth).lie(Lie::RedirectBlobTo { status: 307, url: signed }).start();
    (registry, store)
}

#[tokio::test]
async fn row_60_quirk_s11_passwords_tokens_and_signed_urls_stand_in_nothing_that_is_traced_or_logged() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(61, 50_000));
    let trace = Trace::new();
    let recording = trace.record();
    for auth in [Auth::basic("ann", CANARY), Auth::bearer("ann", CANARY)] {
        let (registry, store) = with_signed_urls(auth, &artifact);
        // A configured header is a secret, too.
        let own = HostEndpoint::new(registry.url()).header("X-Key", CANARY);
        let net = with_login(&registry.host(), "ann", CANARY);
        let net = net.host(HostConfig::new(registry.host()).origin(own)).build().unwrap();
        use_repository(&net, &registry.host(), &artifact).await.unwrap();
        assert!(registry.journal().any_header_contains(CANARY), "the login was sent");
        let stored = store.journal().lines();
        assert!(!stored.is_empty() && stored.iter().all(|line| line.contains(CANARY)), "the signed URL was used");
        assert!(!store.journal().any_header_contains(CANARY), "the login went nowhere else");
        // And what goes wrong.
        registry.expire_tokens();
        registry.lie(Lie::status(Part::All, 500));
        use_repository(&net, &registry.host(), &artifact).await.unwrap_err();
    }
    drop(recording);
    assert!(trace.spans("oci.request").len() > 20, "{}", trace.text());
    assert!(!trace.text().contains(CANARY), "{}", trace.text());
}

#[tokio::test]
async fn row_60_quirk_s11_an_identity_token_and_what_a_token_server_answers_are_not_traced() {
    let issued = format!("{CANARY}-issued");
    let token =
        json!({ "access_token": issued, "refresh_token": format!("{CANARY}-next"), "expires_in": 300 }).to_string();
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, ctx| match request.path.as_str() {
        "/token" => Response::ok(token.clone()).header("Content-Type", "application/json"),
        _ if request.header("authorization") == Some(&format!("Bearer {issued}")) => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ => Response::bearer_challenge(&ctx.url("/token"), "service", "repository:acme/hello:pull"),
    });
    let login = Credential::IdentityToken(CANARY.into());
    let net = quick().credentials(Arc::new(StaticCredentials::new().with(&server.host(), login))).build().unwrap();
    let trace = Trace::new();
    let recording = trace.record();
    repository(&net, &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap();
    drop(recording);
    assert!(server.journal().contains(CANARY), "it was posted");
    let ops: Vec<_> = trace.spans("oci.request").iter().map(|span| span.field("op").map(str::to_owned)).collect();
    assert_eq!(ops, ["manifest", "token", "manifest"].map(|op| Some(op.to_owned())));
    assert!(!trace.text().contains(CANARY), "{}", trace.text());
}

#[tokio::test]
async fn row_60_quirk_s11_nothing_secret_is_traced_over_tls_and_http_2_and_through_a_proxy() {
    // The server works on threads of its own, where nothing is recorded: what it reads it may show.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let start = TlsServer::start(Certificate::Good, &["h2"]);
    let server = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(start)).join().unwrap());
    let proxy = LyingServer::start(|_, _| Response::status(407, "no"));
    let trace = Trace::new();
    let recording = trace.record();
    let login = Credential::Bearer(CANARY.into());
    let host = format!("localhost:{}", server.addr.port());
    let logins = Arc::new(StaticCredentials::new().with(&host, login));
    let net = server.trusting().http_rule(HttpRule::Never).credentials(logins);
    let net =
        net.host(HostConfig::new(&host).origin(HostEndpoint::new(&host).header("X-Key", CANARY))).build().unwrap();
    let repository = repository(&net, &format!("{host}/acme/hello"));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    read(repository.blob(&crate::support::descriptor(&blob())).open().await.unwrap()).await.unwrap();
    net.get(&format!("https://{host}/x?X-Amz-Signature={CANARY}")).open().await.unwrap();
    let through = ProxyRule::Through(Proxy::new(proxy.url()).login("ann", CANARY));
    let net = quick().proxy(through).build().unwrap();
    crate::support::repository(&net, "registry.test/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    assert!(proxy.journal().any_header_contains(CANARY));
    drop(recording);
    assert!(trace.lines().iter().any(|line| line.contains("rustls")), "other crates are heard");
    assert!(!trace.text().contains(CANARY), "{}", trace.text());
    std::thread::scope(|scope| scope.spawn(|| drop(runtime)).join().unwrap());
}
