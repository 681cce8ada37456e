//! `nginx` with a certificate of its own in front of a registry: TLS, HTTP/2, and a header less.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{LoggedRequest, await_some};
use crate::process::find;

/// Tells the server behind that clients speak TLS.
const ANNOUNCED: &str = "proxy_set_header X-Forwarded-Proto https;";

/// What a [`TlsFront`] does about content encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// Compresses everything for those who accept `gzip`.
    Offered,
    /// Compresses what has this `Content-Type` (`*` for any), accepted or not.
    Forced(String),
    /// Calls blobs `gzip` and sends them as they are, as an object store does with what was stored so.
    Claimed,
}

/// How many ports are tried: one that was free a moment ago may be somebody else's by now.
const PORTS: u32 = 5;

/// A running `nginx` that speaks TLS and HTTP/2 to clients and plain HTTP to one server, whose `Docker-Content-Digest`
/// headers it takes away. Killed when dropped.
///
/// Its certificate is for 127.0.0.1 and `localhost`, by an authority nobody has heard of, see [`TlsFront::ca_file`].
#[derive(Debug)]
pub struct TlsFront {
    dir: TempDir,
    addr: SocketAddr,
    child: Child,
}

impl TlsFront {
    /// Starts it in front of `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        Self::start_with(upstream, ANNOUNCED, &Compression::None)
    }

    /// Starts it in front of `upstream` without telling it that clients speak TLS: it names `http://` URLs then.
    pub fn start_unannounced(upstream: SocketAddr) -> Self {
        Self::start_with(upstream, "", &Compression::None)
    }

    /// Starts it in front of `upstream` with something to say about the encoding of what comes from there.
    pub fn start_compressing(upstream: SocketAddr, compression: &Compression) -> Self {
        Self::start_with(upstream, ANNOUNCED, compression)
    }

    fn start_with(upstream: SocketAddr, extra: &str, compression: &Compression) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        write_certificates(dir.path());
        fs::create_dir(dir.path().join("tmp")).expect("a directory");
        for _ in 0..PORTS {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            let addr = free.expect("a free port");
            fs::write(dir.path().join("nginx.conf"), config(dir.path(), addr, upstream, extra, compression))
                .expect("write the configuration");
            let mut child = launch(dir.path());
            let is_up = await_some("the start of nginx", || match child.try_wait().expect("look at nginx") {
                Some(_) => Some(false),
                None => TcpStream::connect(addr).is_ok().then_some(true),
            });
            if is_up {
                return Self { dir, addr, child };
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(dir.path().join("error.log")).unwrap_or_default());
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The address it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of its authority, PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The requests it has answered and `wanted` picks, once there are at least `count` of them.
    pub fn requests_when(&self, count: usize, wanted: impl Fn(&LoggedRequest) -> bool) -> Vec<LoggedRequest> {
        await_some(&format!("{count} requests in the log of nginx"), || {
            let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            let requests: Vec<_> = text.lines().filter_map(LoggedRequest::parse).filter(|one| wanted(one)).collect();
            (requests.len() >= count).then_some(requests)
        })
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One process without workers, so that killing it leaves nothing behind.
fn launch(dir: &Path) -> Child {
    Command::new(find("nginx").expect("nginx is installed"))
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-e")
        .arg(dir.join("error.log"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start nginx")
}

fn config(dir: &Path, addr: SocketAddr, upstream: SocketAddr, extra: &str, compression: &Compression) -> String {
    let dir = dir.display();
    let compress = |types: &str| format!("gzip on; gzip_proxied any; gzip_min_length 1; gzip_types {types};");
    let server = format!("http://{upstream}");
    let none = String::new;
    let (to, inside, beside) = match compression {
        Compression::None => (server, none(), none()),
        Compression::Offered => (server, compress("*"), none()),
        Compression::Claimed => (server, "add_header Content-Encoding $claimed;".to_owned(), none()),
        // Whoever asks is asked in turn by somebody who accepts it.
        Compression::Forced(types) => {
            let beside = format!(
                "server {{ listen unix:{dir}/inner.sock; location / {{ proxy_pass {server}; proxy_http_version 1.1; \
                 proxy_set_header Host $http_host; {extra} {} }} }}",
                compress(types)
            );
            (format!("http://unix:{dir}/inner.sock:"), "proxy_set_header Accept-Encoding gzip;".to_owned(), beside)
        }
    };
    format!(
        r#"daemon off;
master_process off;
pid "{dir}/nginx.pid";
events {{ worker_connections 256; }}
http {{
    access_log "{dir}/access.log" combined;
    client_body_temp_path "{dir}/tmp/body";
    proxy_temp_path "{dir}/tmp/proxy";
    fastcgi_temp_path "{dir}/tmp/fastcgi";
    uwsgi_temp_path "{dir}/tmp/uwsgi";
    scgi_temp_path "{dir}/tmp/scgi";
    map $uri $claimed {{ ~/blobs/ gzip; default ""; }}
    {beside}
    server {{
        listen {addr} ssl http2;
        ssl_certificate "{dir}/leaf.pem";
        ssl_certificate_key "{dir}/leaf.key";
        client_max_body_size 0;
        location / {{
            proxy_pass {to};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            {extra}
            {inside}
            proxy_hide_header Docker-Content-Digest;
        }}
    }}
}}
"#
    )
}

fn write_certificates(dir: &Path) {
    let key = || KeyPair::generate().expect("a key");
    let params = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).expect("parameters of a certificate")
    };
    let mut ca = params(&[]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "authority of the tests");
    let ca_key = key();
    let ca_certificate = ca.self_signed(&ca_key).expect("sign the authority");
    let issuer = Issuer::new(ca, ca_key);
    let leaf_key = key();
    let leaf = params(&["127.0.0.1", "localhost"]).signed_by(&leaf_key, &issuer).expect("sign the certificate");
    let write = |name: &str, pem: String| fs::write(dir.join(name), pem).expect("write a certificate");
    write("ca.pem", ca_certificate.pem());
    write("leaf.pem", leaf.pem());
    write("leaf.key", leaf_key.serialize_pem());
}
