use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use greentic_dist_net::{HttpAnswer, HttpRule, NetBuilder, NetErrorKind, Selector, Timeouts};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{descriptor, quick, read, repository};

static AUTHORITIES: AtomicUsize = AtomicUsize::new(1);

/// What a test certificate is like.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Certificate {
    Good,
    Expired,
    NotYetValid,
    OfAnotherHost,
    /// Signed by the authority, and one itself: what `openssl req -x509` makes unless told otherwise.
    OfAnAuthority,
}

/// A TLS server that answers every path with the manifest of a component, or its blob, or what it is told to.
pub(crate) struct TlsServer {
    addr: SocketAddr,
    authority_pem: String,
    seen: Arc<Mutex<Vec<(hyper::Version, String)>>>,
    connections: Arc<AtomicUsize>,
}

/// What a [`TlsServer`] says to a request.
type Answer = Arc<dyn Fn(&hyper::Request<Incoming>) -> hyper::Response<Sent> + Send + Sync>;

/// The body of an answer.
pub(crate) type Sent = BoxBody<Bytes, io::Error>;

pub(crate) fn whole(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that ends with an error after these bytes: a reset of the stream in HTTP/2.
pub(crate) fn cut(bytes: impl Into<Bytes>) -> Sent {
    /// The bytes, and how often the connection gets a turn to send them before the error takes them back.
    struct Cut(Option<Bytes>, u8);

    impl Body for Cut {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            if let Some(piece) = self.0.take() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.1 == 0 {
                return Poll::Ready(Some(Err(io::Error::other("cut"))));
            }
            self.1 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    Cut(Some(bytes.into()), 8).boxed()
}

impl TlsServer {
    async fn start(certificate: Certificate, alpn: &[&str]) -> Self {
        Self::serving(certificate, alpn, answer).await
    }

    pub(crate) async fn serving(
        certificate: Certificate,
        alpn: &[&str],
        answer: impl Fn(&hyper::Request<Incoming>) -> hyper::Response<Sent> + Send + Sync + 'static,
    ) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let number = AUTHORITIES.fetch_add(1, Ordering::SeqCst);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        let authority = CertifiedIssuer::self_signed(params, authority_key).unwrap();
        let names = match certificate {
            Certificate::OfAnotherHost => vec!["elsewhere.example".to_owned()],
            _ => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        if certificate == Certificate::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        if certificate == Certificate::NotYetValid {
            params.not_before = date_time_ymd(2999, 1, 1);
            params.not_after = date_time_ymd(3000, 1, 1);
        }
        if certificate == Certificate::OfAnAuthority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            authority_pem: authority.pem(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&server.seen),
            Arc::clone(&server.connections),
            Arc::new(answer),
        ));
        server
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn trusting(&self) -> NetBuilder {
        self.trusted_by(quick())
    }

    pub(crate) fn trusted_by(&self, net: NetBuilder) -> NetBuilder {
        net.root_certificates_pem(self.authority_pem.clone().into_bytes())
    }

    pub(crate) fn seen(&self) -> Vec<(hyper::Version, String)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<(hyper::Version, String)>>>,
    connections: Arc<AtomicUsize>,
    answer: Answer,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, seen, connections) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&connections));
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut first = [0];
            if socket.peek(&mut first).await.is_ok() && first == *b"G" {
                // What nginx says to plain HTTP on a TLS port.
                let _sent = socket.try_write(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
                );
                return;
            }
            let Ok(stream) = acceptor.accept(socket).await else { return };
            connections.fetch_add(1, Ordering::SeqCst);
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                seen.lock().unwrap().push((request.version(), request.uri().path().to_owned()));
                let response = answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let io = TokioIo::new(stream);
            if is_http2 {
                drop(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
                );
            } else {
                drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
            }
        });
    }
}

fn blob() -> Vec<u8> {
    fixture::random_bytes(4, 3_000_000)
}

fn answer(request: &hyper::Request<Incoming>) -> hyper::Response<Sent> {
    let path = request.uri().path();
    if path == "/down" {
        let to = "http://127.0.0.1:9/plain";
        return hyper::Response::builder().status(302).header("Location", to).body(whole(Bytes::new())).unwrap();
    }
    let (body, content_type) = if path.contains("/blobs/") {
        (blob(), "application/octet-stream")
    } else {
        (fixture::component().manifest_bytes, fixture::MANIFEST_TYPE)
    };
    hyper::Response::builder().header("Content-Type", content_type).body(whole(body)).unwrap()
}

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
async fn certificates_that_prove_nothing_end_the_request_at_once() {
    for certificate in [Certificate::Expired, Certificate::NotYetValid, Certificate::OfAnotherHost] {
        let server = TlsServer::start(certificate, &["h2", "http/1.1"]).await;
        let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
        let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Tls, 1), "{error:?}");
        assert!(!error.is_transient());
        assert!(server.seen().is_empty());
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_a_hint() {
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
    let server = LyingServer::start(|_, _| Response::ok("x"));
    let url = server.url().replace("http://", "https://");
    let error = quick().build().unwrap().get(&url).open().await.unwrap_err();
    // The test server hangs up on what is no HTTP: a handshake that failed, or a connection that ended in it.
    assert!(matches!(error.kind(), NetErrorKind::Tls | NetErrorKind::Connect), "{error:?}");
    assert!(server.journal().is_empty());
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
