//! A TLS server of HTTP/1.1 and HTTP/2, with certificates of every kind, that may want one of the client and may break HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use greentic_dist_net::NetBuilder;
use greentic_dist_testkit::fixture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::quick;

static AUTHORITIES: AtomicUsize = AtomicUsize::new(1);

/// What a test certificate is like.
#[derive(Clone, Copy, PartialEq)]
pub enum Certificate {
    Good,
    Expired,
    NotYetValid,
    OfAnotherHost,
    /// Signed by the authority, and one itself: what `openssl req -x509` makes unless told otherwise.
    OfAnAuthority,
}

/// A TLS server that answers every path with the manifest of a component, or its blob.
pub struct TlsServer {
    pub addr: SocketAddr,
    pub authority_pem: String,
    seen: Arc<Mutex<Vec<(hyper::Version, String)>>>,
    pub connections: Arc<AtomicUsize>,
}

/// What a server does beyond answering.
#[derive(Default)]
pub struct Beyond {
    /// The authority a client must have its certificate from.
    pub client_authority: Option<Authority>,
    /// What is sent to every client that speaks HTTP/2, instead of HTTP/2.
    pub instead_of_http2: Option<&'static [u8]>,
}

/// A certificate authority.
#[derive(Clone)]
pub struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let number = AUTHORITIES.fetch_add(1, Ordering::SeqCst);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        Self(Arc::new(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()))
    }

    /// A client's certificate and its key, PEM.
    pub fn client(&self) -> (String, String) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &*self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// What a [`TlsServer`] says to a request.
type Answer = Arc<dyn Fn(&hyper::Request<Incoming>) -> hyper::Response<Sent> + Send + Sync>;

/// The body of an answer.
pub type Sent = BoxBody<Bytes, io::Error>;

pub fn whole(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that ends with an error after these bytes: a reset of the stream in HTTP/2.
pub fn cut(bytes: impl Into<Bytes>) -> Sent {
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
    pub async fn start(certificate: Certificate, alpn: &[&str]) -> Self {
        Self::start_with(certificate, alpn, Beyond::default()).await
    }

    pub async fn start_with(certificate: Certificate, alpn: &[&str], beyond: Beyond) -> Self {
        Self::serving_with(certificate, alpn, beyond, answer).await
    }

    pub async fn serving(
        certificate: Certificate,
        alpn: &[&str],
        answer: impl Fn(&hyper::Request<Incoming>) -> hyper::Response<Sent> + Send + Sync + 'static,
    ) -> Self {
        Self::serving_with(certificate, alpn, Beyond::default(), answer).await
    }

    async fn serving_with(
        certificate: Certificate,
        alpn: &[&str],
        beyond: Beyond,
        answer: impl Fn(&hyper::Request<Incoming>) -> hyper::Response<Sent> + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new();
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
        let leaf = params.signed_by(&key, &*authority.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match &beyond.client_authority {
            Some(trusted) => {
                let mut roots = RootCertStore::empty();
                roots.add(trusted.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            authority_pem: authority.0.pem(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&server.seen),
            Arc::clone(&server.connections),
            beyond.instead_of_http2,
            Arc::new(answer),
        ));
        server
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    pub fn trusting(&self) -> NetBuilder {
        self.trusted_by(quick())
    }

    pub fn trusted_by(&self, net: NetBuilder) -> NetBuilder {
        net.root_certificates_pem(self.authority_pem.clone().into_bytes())
    }

    pub fn seen(&self) -> Vec<(hyper::Version, String)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<(hyper::Version, String)>>>,
    connections: Arc<AtomicUsize>,
    instead_of_http2: Option<&'static [u8]>,
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
            let Ok(mut stream) = acceptor.accept(socket).await else { return };
            connections.fetch_add(1, Ordering::SeqCst);
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if let Some(bytes) = instead_of_http2.filter(|_| is_http2) {
                let mut preface = [0; 24];
                drop(stream.read_exact(&mut preface).await);
                drop(stream.write_all(bytes).await);
                drop(stream.flush().await);
                // Until the client has understood and hangs up.
                let mut ignored = [0; 1024];
                while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
                return;
            }
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

pub fn blob() -> Vec<u8> {
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
