//! A TCP proxy on loopback that forwards at a chosen rate and counts bytes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Bytes forwarded at once.
const CHUNK: usize = 32 << 10;
/// Bytes the system may hold back on the way down. Small, so that what was counted was nearly all received.
const SEND_BUFFER: usize = 64 << 10;

/// A TCP proxy in front of one server. Stops when dropped.
///
/// It knows no HTTP: what a client and a server say to each other is forwarded as it stands.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// Bytes per second on the way down, over all connections together; zero for no limit.
    rate: AtomicU64,
    /// When the next chunk may go down.
    next: Mutex<Instant>,
    /// Bytes after which a connection is cut: at least, at most. Zero for never.
    cuts: Mutex<(u64, u64)>,
    cut: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    stopped: AtomicBool,
    /// Both ends of every open connection, by its number.
    streams: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1 in front of `upstream`, without a limit.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("the address of a listener");
        let shared = Arc::new(Shared {
            upstream,
            rate: AtomicU64::new(0),
            next: Mutex::new(Instant::now()),
            cuts: Mutex::new((0, 0)),
            cut: AtomicU64::new(0),
            down: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            streams: Mutex::new(HashMap::new()),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// The address it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Limits what goes down to clients to this many bytes per second, over all connections together; `None` for no limit.
    /// Holds from the next chunk on.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.rate.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Ends every connection that is made from now on after so many bytes down, at least the first number and at most the
    /// second, a different one for each; `None` for never.
    pub fn set_cuts(&self, after: Option<(u64, u64)>) {
        *self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner) = after.unwrap_or_default();
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// Bytes given to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for (_, ends) in self.shared.streams().drain() {
            for end in ends {
                drop(end.shutdown(Shutdown::Both));
            }
        }
        // Wakes the acceptor.
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    /// Waits until `bytes` more may go down.
    fn pace(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let cost = Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate);
        let wait = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Time that nobody used is lost: a pause does not end in a burst.
            *next = (*next).max(now) + cost;
            *next - now
        };
        std::thread::sleep(wait);
    }

    /// After how many bytes a connection is cut.
    fn limit_of(&self, number: u64) -> u64 {
        let (least, most) = *self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        if most == 0 {
            return u64::MAX;
        }
        // Spread over the range, and the same in every run.
        let steps = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        least + (most - least) * steps / (1 << 24)
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forwards both ways until one side ends the conversation, then closes both for good.
    fn connect(&self, number: u64, client: &TcpStream) {
        // A server that is gone is a connection that ends at once.
        let Ok(server) = TcpStream::connect(self.upstream) else { return };
        drop(SockRef::from(client).set_send_buffer_size(SEND_BUFFER));
        drop(client.set_nodelay(true));
        drop(server.set_nodelay(true));
        let ends = || [clone(client), clone(&server)];
        self.streams().insert(number, ends());
        let up = std::thread::spawn({
            let [client, server] = ends();
            move || {
                copy(&client, &server, |_| {}, |_| true);
                drop(server.shutdown(Shutdown::Write));
            }
        });
        let limit = self.limit_of(number);
        let mut given = 0;
        copy(
            &server,
            client,
            |bytes| self.pace(bytes),
            |bytes| {
                self.down.fetch_add(bytes as u64, Ordering::Relaxed);
                given += bytes as u64;
                given < limit
            },
        );
        self.cut.fetch_add(u64::from(given >= limit), Ordering::Relaxed);
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
        drop(up.join());
        self.streams().remove(&number);
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("clone a socket")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || shared.connect(number, &client));
    }
}

/// Copies until either side ends or `after` says so.
fn copy(mut from: &TcpStream, mut to: &TcpStream, before: impl Fn(usize), mut after: impl FnMut(usize) -> bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read) = from.read(&mut buffer) {
        before(read);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            return;
        }
        if !after(read) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LyingServer, Response, raw_client};

    #[test]
    fn what_goes_through_is_the_same_and_is_counted() {
        let body = crate::fixture::random_bytes(1, 300_000);
        let server = LyingServer::start({
            let body = body.clone();
            move |_, _| Response::ok(body.clone())
        });
        let proxy = Proxy::start(server.addr());
        proxy.set_rate(Some(64 << 20));
        let answer = raw_client::exchange(proxy.addr(), "GET", "/x", &[], b"").unwrap();
        assert_eq!(answer.body, body);
        // Counted after they were given away, so the client may be a moment ahead.
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.bytes_down() <= 300_000 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(proxy.bytes_down() > 300_000 && proxy.bytes_down() < 301_000, "{}", proxy.bytes_down());
        assert_eq!(proxy.connections(), 1);
    }

    #[test]
    fn a_server_that_is_gone_is_a_connection_that_ends() {
        let server = LyingServer::start(|_, _| Response::ok("x"));
        let addr = server.addr();
        drop(server);
        let proxy = Proxy::start(addr);
        assert!(raw_client::exchange(proxy.addr(), "GET", "/x", &[], b"").is_err());
    }
}
