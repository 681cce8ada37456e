use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{HttpAnswer, HttpRule, NetErrorKind, RetryPolicy, Selector, Timeouts};
use greentic_dist_testkit::{LyingServer, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{descriptor, quick, read, repository};
use crate::tls_server::{Certificate, TlsServer, blob};

#[tokio::test]
async fn a_loopback_registry_that_speaks_tls_is_found_and_remembered() {
    let server = TlsServer::start(Certificate::Good, &["h2", "http/1.1"]).await;
    let net = server.trusting().build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(net.stats().requests, 2, "one over HTTP, one over TLS");
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let bytes = read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap();
    assert!(bytes == blob());
    assert_eq!(net.stats().requests, 4, "and TLS from then on");
    assert!(server.seen().iter().all(|(version, _)| *version == hyper::Version::HTTP_2));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http_1_is_spoken_where_the_server_has_no_http_2() {
    let server = TlsServer::start(Certificate::Good, &["http/1.1"]).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("127.0.0.1:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let bytes = read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap();
    assert!(bytes == blob());
    assert_eq!(server.seen()[0].0, hyper::Version::HTTP_11);
    assert_eq!(net.stats().requests, 2);
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_http_2_connection() {
    let server = TlsServer::start(Certificate::Good, &["h2"]).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let request = repository.blob(&descriptor(&blob()));
            tokio::spawn(async move { read(request.open().await.unwrap()).await.unwrap().len() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 3_000_000);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn row_56_certificates_that_prove_nothing_end_the_request_at_once() {
    for certificate in [Certificate::Expired, Certificate::NotYetValid, Certificate::OfAnotherHost] {
        let server = TlsServer::start(certificate, &["h2", "http/1.1"]).await;
        let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
        let host = format!("localhost:{}", server.addr.port());
        let repository = repository(&net, &format!("{host}/acme/hello"));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Tls, 1), "{error:?}");
        assert!(error.to_string().contains(&host) && error.source().is_some(), "{error:?}");
        assert!(!error.is_transient());
        assert!(server.seen().is_empty());
    }
}

#[tokio::test]
async fn row_56_an_unknown_authority_is_refused_with_a_hint() {
    let server = TlsServer::start(Certificate::Good, &["h2"]).await;
    let other = TlsServer::start(Certificate::Good, &["h2"]).await;
    for rule in [HttpRule::Never, HttpRule::Loopback] {
        let net = other.trusting().http_rule(rule).build().unwrap();
        let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Tls, "{error:?}");
        assert!(error.hints()[0].contains("authority"), "{:?}", error.hints());
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_authority_in_place_of_a_server_is_refused_with_a_hint() {
    let server = TlsServer::start(Certificate::OfAnAuthority, &["h2"]).await;
    let net = server.trusting().build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Tls, "{error:?}");
    assert!(error.hints()[0].contains("CA:FALSE"), "{:?}", error.hints());
}

#[tokio::test]
async fn plain_http_on_the_other_side_of_https_is_a_tls_error() {
    let plain = Plain::start(Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    let error = quick().build().unwrap().get(&plain.url()).open().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Tls, 1), "{error:?}");
    assert_eq!(plain.heard(), [HANDSHAKE], "nothing was said in clear text");
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_middle_of_the_handshake_is_a_connection_that_failed() {
    let plain = Plain::start(None);
    let retry = RetryPolicy { attempts: 2, base: Duration::ZERO, ..RetryPolicy::default() };
    let error = quick().retry(retry).build().unwrap().get(&plain.url()).open().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Connect, 2), "{error:?}");
    assert_eq!(plain.heard(), [HANDSHAKE, HANDSHAKE], "nothing was said in clear text");
}

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// A server that knows nothing of TLS: it takes what comes first, and answers it with words and waits, or hangs up.
struct Plain {
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Plain {
    fn start(words: Option<&'static [u8]>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (addr, listener) = (listener.local_addr().unwrap(), TcpListener::from_std(listener).unwrap());
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let firsts = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut buffer = vec![0; 16 << 10];
                let read = socket.read(&mut buffer).await.unwrap();
                assert!(read > 0, "a connection on which nothing is said");
                firsts.lock().unwrap().push(buffer[0]);
                if let Some(words) = words {
                    socket.write_all(words).await.unwrap();
                    // Until the client has understood and hangs up, in whatever way.
                    while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                }
            }
        });
        Self { addr, heard }
    }

    fn url(&self) -> String {
        format!("https://{}/x", self.addr)
    }

    /// The first byte of each connection.
    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let server = TlsServer::start(Certificate::Good, &["h2"]).await;
    let net = server.trusting().build().unwrap();
    let url = format!("https://localhost:{}/down", server.addr.port());
    let error = net.get(&url).allow_loopback_http(true).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    assert!(error.to_string().contains("HTTPS"), "{error}");
}

#[tokio::test]
async fn a_plain_get_over_tls_works_without_any_permission() {
    let server = TlsServer::start(Certificate::Good, &["h2"]).await;
    let net = server.trusting().build().unwrap();
    let answer = net.get(&format!("https://127.0.0.1:{}/x", server.addr.port())).open().await.unwrap();
    assert!(matches!(answer, HttpAnswer::Body(_)));
}

#[tokio::test]
async fn a_handshake_that_never_ends_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let net = quick().timeouts(Timeouts { connect: Duration::from_millis(50), ..Timeouts::default() }).build().unwrap();
    let error = net.get(&format!("https://{addr}/")).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Timeout, "{error:?}");
    drop(listener);
}

#[tokio::test]
async fn a_registry_that_only_answers_400_keeps_its_own_error() {
    let server = LyingServer::start(|_, _| Response::status(400, "bad luck"));
    let net = quick().build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(400)), "{error:?}");
    assert!(error.to_string().contains("bad luck"));
}
