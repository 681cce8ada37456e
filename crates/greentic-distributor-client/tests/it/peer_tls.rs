//! Peers behind TLS: certificates nobody vouches for, and the way from HTTPS down to HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use greentic_dist_testkit::scenario::{Scenario, bystander};
use greentic_distributor_client::dist::DistErrorKind::{Internal, Policy};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{CANARY, Home, assert_delivers, chain, sample};

/// A TLS server on `localhost` whose handler gets the path of each request and writes the whole answer.
pub(crate) struct TlsServer {
    addr: SocketAddr,
    pub(crate) ca_pem: String,
    requests: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        Self::start_for(None, answer)
    }

    /// For those whom `verifier` lets in, where there is one.
    fn start_for(
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        answer: impl Fn(&str) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_pem = made.cert.pem();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = match verifier {
            Some(verifier) => config.with_client_cert_verifier(verifier),
            None => config.with_no_client_auth(),
        };
        let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (requests, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // A peer that speaks plain HTTP or hangs up is the next test's business.
                let _broken = serve(stream, &config, &answer, &counter);
            }
        });
        Self { addr, ca_pem, requests, stopped, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.addr.port())
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A registry with [`sample`], for those whom `verifier` lets in.
pub(crate) fn artifact_server(verifier: Option<Arc<dyn ClientCertVerifier>>) -> TlsServer {
    let artifact = sample();
    TlsServer::start_for(verifier, move |path| {
        if path.contains("/manifests/") {
            return ok(&artifact.media_type, &artifact.manifest_bytes);
        }
        ok("application/octet-stream", artifact.layer_bytes())
    })
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    answer: &dyn Fn(&str) -> Vec<u8>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    reader.by_ref().take(8 << 10).read_line(&mut line)?;
    let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
    while line != "\r\n" {
        line.clear();
        if reader.by_ref().take(8 << 10).read_line(&mut line)? == 0 {
            return Ok(());
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let stream = reader.get_mut();
    stream.write_all(&answer(&path))?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn ok(content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn an_https_url_is_fetched_from_a_server_whose_certificate_is_trusted() {
    let server = TlsServer::start(|_| ok("application/wasm", b"\0asm over tls"));
    let home = Home::new();
    let client = home.builder().root_certificates_pem(server.ca_pem.clone()).build();
    let pulled = client.resolve_ref(&server.url("/a.wasm")).await.unwrap();
    assert_eq!(pulled.wasm_bytes().unwrap(), b"\0asm over tls");
    assert_eq!(pulled.component_id, "a");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn row_56_a_certificate_nobody_vouches_for_is_refused() {
    let server = TlsServer::start(|_| ok("application/wasm", b"\0asm"));
    let home = Home::new();
    let error = home.client().resolve_ref(&server.url("/a.wasm")).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Internal, 10), "{}", chain(&error));
    assert_eq!(server.requests(), 0);
    home.assert_cache_empty();
}

#[tokio::test]
async fn row_56_a_certificate_for_another_name_is_refused() {
    let server = TlsServer::start(|_| ok("application/wasm", b"\0asm"));
    let home = Home::new();
    let client = home.builder().root_certificates_pem(server.ca_pem.clone()).build();
    let error = client.resolve_ref(&format!("https://{}/a.wasm", server.addr)).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Internal, 10), "{}", chain(&error));
    assert_eq!(server.requests(), 0);
    home.assert_cache_empty();
}

#[tokio::test]
async fn row_9_a_url_that_leads_from_https_down_to_http_is_refused() {
    let plain = bystander(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    let target = format!("{}/a.wasm", plain.url());
    let server = TlsServer::start(move |_| redirect(&target));
    let home = Home::new();
    for allow_insecure_local_http in [false, true] {
        let options = greentic_distributor_client::dist::DistOptions { allow_insecure_local_http, ..home.options() };
        let client = home.builder().options(options).root_certificates_pem(server.ca_pem.clone()).build();
        let error = client.resolve_ref(&server.url("/a.wasm")).await.unwrap_err();
        let text = chain(&error);
        assert_eq!((error.kind(), error.exit_code()), (Policy, 6), "{text}");
        assert!(text.contains("would leave HTTPS"), "{text}");
    }
    assert!(plain.journal().is_empty());
    home.assert_cache_empty();
}

#[tokio::test]
async fn a_registry_behind_tls_cannot_send_a_blob_request_down_to_http() {
    let artifact = sample();
    let plain = bystander(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    let (copy, target) = (artifact.clone(), plain.url());
    let server = TlsServer::start(move |path| {
        if path.contains("/manifests/") {
            return ok(&copy.media_type, &copy.manifest_bytes);
        }
        redirect(&format!("{target}{path}"))
    });
    let home = Home::new();
    let client = home
        .builder()
        .credentials(crate::support::login(&format!("localhost:{}", server.addr.port()), CANARY))
        .root_certificates_pem(server.ca_pem.clone())
        .build();
    let error = client.resolve_ref(&format!("oci://localhost:{}/acme/hello:1", server.addr.port())).await.unwrap_err();
    let text = chain(&error);
    assert_eq!((error.kind(), error.exit_code()), (Policy, 6), "{text}");
    assert!(text.contains("would leave HTTPS"), "{text}");
    assert!(plain.journal().is_empty());
    home.assert_cache_empty();
}

#[tokio::test]
async fn a_registry_on_loopback_that_speaks_tls_is_pulled_from_over_tls() {
    let artifact = sample();
    let copy = artifact.clone();
    let server = TlsServer::start(move |path| {
        if path.contains("/manifests/") {
            return ok(&copy.media_type, &copy.manifest_bytes);
        }
        ok("application/octet-stream", copy.layer_bytes())
    });
    let home = Home::new();
    let client = home.builder().root_certificates_pem(server.ca_pem.clone()).build();
    let reference = format!("oci://localhost:{}/acme/hello:1", server.addr.port());
    assert_delivers(&client.resolve_ref(&reference).await.unwrap(), &artifact);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_token_server_behind_a_registry_is_not_reached_down_the_same_way() {
    let plain = Scenario::new(sample()).start();
    let realm = format!("{}/token", plain.url());
    let challenge = format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let server = TlsServer::start(move |_| challenge.clone().into_bytes());
    let home = Home::new();
    let host = format!("localhost:{}", server.addr.port());
    let client = home
        .builder()
        .credentials(crate::support::login(&host, CANARY))
        .root_certificates_pem(server.ca_pem.clone())
        .build();
    let error = client.resolve_ref(&format!("oci://{host}/acme/hello:1")).await.unwrap_err();
    let text = chain(&error);
    assert_eq!((error.kind(), error.exit_code()), (Policy, 6), "{text}");
    assert!(text.contains("would leave HTTPS") && !text.contains(CANARY), "{text}");
    assert!(plain.journal().is_empty());
    home.assert_cache_empty();
}
