//! What is counted: requests, retries, bytes, tokens, and connections where they are made.

use greentic_dist_net::{BytesSource, HttpRule, NetStats, Selector};
use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, blob_host};
use greentic_dist_testkit::serve::Registry;
use greentic_dist_testkit::{LyingServer, Response, fixture};

use crate::mirrors::own_ip;
use crate::support::{descriptor, layer_of, net, pull_layer, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, blob};

fn host_of(stats: &greentic_dist_net::ClientStats, host: &str) -> NetStats {
    stats.hosts.get(host).copied().unwrap_or_default()
}

#[tokio::test]
async fn connections_are_counted_where_they_are_made_and_reused_ones_by_request() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    for _ in 0..4 {
        repository.manifest(Selector::Tag("1")).await.unwrap();
    }
    let stats = net.stats();
    assert_eq!((stats.requests, stats.connections_opened, stats.connections_reused), (4, 1, 3));
    assert_eq!(registry.server().connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_made_again() {
    let lie = Lie::CutBlob { after: 10, times: 2 };
    let registry = Scenario::new(fixture::component()).lie(lie).start();
    let net = net();
    pull_layer(&net, &registry).await.unwrap();
    let stats = net.stats();
    assert_eq!((stats.requests, stats.resumes, stats.connections_opened, stats.connections_reused), (3, 2, 3, 0));
    let bytes = u64::try_from(registry.artifact().layer_bytes().len()).unwrap();
    assert_eq!(stats.bytes_received, bytes);
}

#[tokio::test]
async fn requests_over_http_2_reuse_their_connection() {
    let server = TlsServer::start(Certificate::Good, &["h2"]).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let one = async { read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap() };
    let other = repository.manifest(Selector::Tag("2"));
    assert!(tokio::join!(one, other).1.is_ok());
    let stats = net.stats();
    assert_eq!((stats.requests, stats.connections_opened, stats.connections_reused), (3, 1, 2));
}

#[tokio::test]
async fn each_host_has_counters_of_its_own_and_they_add_up() {
    let artifact = fixture::component();
    let elsewhere = blob_host(own_ip(), &artifact);
    let redirect = Lie::RedirectBlob { status: 307, base: elsewhere.url() };
    let busy = Lie::burst(Part::Manifest, 503, 1);
    let registry = Scenario::new(artifact).auth(Auth::bearer("ann", "pw")).lie(redirect).lie(busy).start();
    let net = with_login(&registry.host(), "ann", "pw").build().unwrap();
    repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
    pull_layer(&net, &registry).await.unwrap();
    let stats = net.client_stats();
    assert_eq!(stats.total, net.stats());
    assert_eq!(stats.hosts.keys().cloned().collect::<Vec<_>>(), {
        let mut hosts = vec![registry.host(), elsewhere.host()];
        hosts.sort();
        hosts
    });
    // 503, 401, the token, the manifest, and the redirect.
    let here = host_of(&stats, &registry.host());
    assert_eq!((here.requests, here.retries, here.token_requests), (5, 1, 1), "{:?}", registry.journal().lines());
    let there = host_of(&stats, &elsewhere.host());
    assert_eq!((there.requests, there.connections_opened, there.token_requests), (1, 1, 0));
    assert_eq!(there.bytes_received, layer_of(registry.artifact()).size_bytes);
    assert_eq!(stats.total, stats.hosts.values().fold(NetStats::default(), |all, one| all + *one));
}

#[tokio::test]
async fn bytes_that_are_sent_are_counted() {
    let registry = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
    let net = net();
    let content = BytesSource::new("application/wasm", vec![7; 100_000]);
    repository(&net, &format!("{}/acme/hello", registry.host()))
        .put_blob(std::sync::Arc::new(content))
        .send()
        .await
        .unwrap();
    let stats = host_of(&net.client_stats(), &registry.host());
    assert_eq!((stats.bytes_sent, stats.requests), (100_000, 3));
    assert_eq!((stats.connections_opened, stats.connections_reused), (1, 2));
}

#[tokio::test]
async fn quirk_p26_row_59_what_a_host_says_about_its_limit_is_known_from_every_answer() {
    let server = LyingServer::start(|request, _| {
        let left = if request.method == "HEAD" { "98;w=21600" } else { "97;w=21600" };
        let artifact = fixture::component();
        Response::ok(artifact.manifest_bytes)
            .header("Content-Type", fixture::MANIFEST_TYPE)
            .header("Docker-Content-Digest", artifact.manifest_digest.to_string())
            .header("RateLimit-Limit", "100;w=21600")
            .header("RateLimit-Remaining", left)
    });
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    assert_eq!((repository.rate_limit(), net.client_stats().rate_limits.len()), (None, 0));
    let head = repository.head_manifest(Selector::Tag("1")).await.unwrap();
    let told = head.rate_limit.unwrap();
    assert_eq!(
        (told.limit, told.remaining, told.window.map(|window| window.as_secs())),
        (Some(100), Some(98), Some(21_600))
    );
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let stats = net.client_stats();
    assert_eq!(stats.rate_limits.get(&server.host()).and_then(|told| told.remaining), Some(97));
    assert_eq!(repository.rate_limit(), stats.rate_limits.get(&server.host()).copied());
    let both = stats.clone() + stats;
    assert_eq!((both.rate_limits.len(), both.total.requests), (1, 4));
}
