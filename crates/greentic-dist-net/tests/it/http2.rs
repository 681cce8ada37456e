//! Servers whose HTTP/2 does not work.

use std::sync::atomic::Ordering;

use greentic_dist_net::{HostConfig, HostEndpoint, HttpRule, NetErrorKind, Selector};
use hyper::Version;

use crate::support::{descriptor, quick, read, repository};
use crate::tls_server::{Beyond, Certificate, TlsServer, blob};

/// DATA on stream 0, which carries none.
const DATA_ON_STREAM_0: &[u8] = b"\0\0\x01\0\0\0\0\0\0x";
/// SETTINGS, and GOAWAY with `ENHANCE_YOUR_CALM`.
const CALM: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
/// SETTINGS, and GOAWAY with `HTTP_1_1_REQUIRED`.
const OLD: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0d";
/// What is no frame at all.
const WORDS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

async fn breaking(with: &'static [u8]) -> TlsServer {
    let beyond = Beyond { instead_of_http2: Some(with), ..Beyond::default() };
    TlsServer::start_with(Certificate::Good, &["h2", "http/1.1"], beyond).await
}

#[tokio::test]
async fn quirk_p56_a_host_that_breaks_http_2_twice_is_spoken_to_with_http_1() {
    for with in [DATA_ON_STREAM_0, CALM, WORDS] {
        let server = breaking(with).await;
        let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
        let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
        repository.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(net.stats().retries, 2, "{with:?}");
        assert_eq!(server.connections.load(Ordering::SeqCst), 3, "{with:?}");
        // From then on, for everything.
        let bytes = read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap();
        assert!(bytes == blob());
        let versions: Vec<_> = server.seen().into_iter().map(|(version, _)| version).collect();
        assert_eq!(versions, [Version::HTTP_11; 2], "{with:?}");
        assert_eq!((net.stats().retries, server.connections.load(Ordering::SeqCst)), (2, 3));
    }
}

#[tokio::test]
async fn a_host_that_asks_for_http_1_gets_it_at_once() {
    let server = breaking(OLD).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!((net.stats().retries, server.connections.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn one_hosts_broken_http_2_says_nothing_about_another() {
    let (broken, good) = (breaking(CALM).await, TlsServer::start(Certificate::Good, &["h2", "http/1.1"]).await);
    let roots = format!("{}{}", broken.authority_pem, good.authority_pem).into_bytes();
    let net = quick().root_certificates_pem(roots).http_rule(HttpRule::Never).build().unwrap();
    for server in [&broken, &good] {
        let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
        repository.manifest(Selector::Tag("1")).await.unwrap();
    }
    assert_eq!(broken.seen()[0].0, Version::HTTP_11);
    assert_eq!(good.seen()[0].0, Version::HTTP_2);
}

#[tokio::test]
async fn a_host_that_speaks_nothing_but_broken_http_2_fails_and_says_why() {
    let beyond = Beyond { instead_of_http2: Some(DATA_ON_STREAM_0), ..Beyond::default() };
    let server = TlsServer::start_with(Certificate::Good, &["h2"], beyond).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    // Two times with HTTP/2, once without, which it has not, and again with it.
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Interrupted, 5), "{error:?}");
    assert!(format!("{error:?}").contains("PROTOCOL_ERROR"), "{error:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_host_may_be_configured_for_http_1() {
    for (http1_only, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
        let server = TlsServer::start(Certificate::Good, &["h2", "http/1.1"]).await;
        let host = format!("localhost:{}", server.addr.port());
        let endpoint = HostEndpoint::new(format!("https://{host}")).http1_only(http1_only);
        let net = server.trusting().host(HostConfig::new(&host).origin(endpoint)).build().unwrap();
        repository(&net, &format!("{host}/acme/hello")).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(server.seen().into_iter().map(|(version, _)| version).collect::<Vec<_>>(), [version]);
    }
}
