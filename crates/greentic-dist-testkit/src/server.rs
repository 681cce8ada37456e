//! A raw-socket HTTP/1.1 server that does what its handler says, however wrong.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;

use crate::response::Plan;
use crate::{Journal, Request, Response, Step};

/// Most bytes written before the stop flag is looked at again.
const WRITE_BYTES: usize = 64 << 10;

type Handler = dyn Fn(&Request, &Ctx) -> Response + Send + Sync;

/// What a handler can know about its own server.
#[derive(Clone, Debug)]
pub struct Ctx {
    addr: SocketAddr,
    journal: Journal,
}

impl Ctx {
    /// The address the server listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// `http://127.0.0.1:PORT` followed by `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Every request so far, the one being handled included.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }
}

struct Shared {
    ctx: Ctx,
    handler: Box<Handler>,
    stopped: AtomicBool,
    bell: (Mutex<()>, Condvar),
    open: Mutex<HashMap<usize, Arc<TcpStream>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sleeps, shorter when the server is stopped meanwhile.
    fn sleep(&self, duration: Duration) {
        let guard = lock(&self.bell.0);
        let _unused = self
            .bell
            .1
            .wait_timeout_while(guard, duration, |()| !self.stopped())
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An HTTP/1.1 server on loopback, one thread per connection, whose answers may be as wrong as a test wants.
///
/// It stops, closes every connection and joins its threads when dropped.
///
/// # Example
/// ```
/// use greentic_dist_testkit::{LyingServer, Response};
///
/// let server = LyingServer::start(|request, _ctx| match request.path.as_str() {
///     "/v2/" => Response::ok("{}"),
///     _ => Response::oci_error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
/// });
/// assert!(server.host().starts_with("127.0.0.1:"));
/// assert!(server.journal().is_empty());
/// ```
pub struct LyingServer {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl LyingServer {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(handler: impl Fn(&Request, &Ctx) -> Response + Send + Sync + 'static) -> Self {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), handler)
    }

    /// Listens on a free port of `ip`, e.g. 127.0.0.2 for a second host.
    pub fn start_on(ip: IpAddr, handler: impl Fn(&Request, &Ctx) -> Response + Send + Sync + 'static) -> Self {
        assert!(ip.is_loopback(), "test servers listen on loopback only");
        let listener = TcpListener::bind((ip, 0)).expect("a free loopback port");
        let addr = listener.local_addr().expect("the address of a listener");
        let shared = Arc::new(Shared {
            ctx: Ctx { addr, journal: Journal::default() },
            handler: Box::new(handler),
            stopped: AtomicBool::new(false),
            bell: (Mutex::new(()), Condvar::new()),
            open: Mutex::new(HashMap::new()),
            threads: Mutex::new(Vec::new()),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor));
        Self { shared, acceptor: Some(acceptor) }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.shared.ctx.addr
    }

    /// `127.0.0.1:PORT`, the registry part of a reference.
    pub fn host(&self) -> String {
        self.shared.ctx.host()
    }

    /// `http://127.0.0.1:PORT`, no slash at the end.
    pub fn url(&self) -> String {
        self.shared.ctx.url("")
    }

    /// Every request so far; a clone keeps seeing later ones.
    pub fn journal(&self) -> Journal {
        self.shared.ctx.journal.clone()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Stops listening, closes every connection, joins every thread. Dropping does the same.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.bell.0);
            self.shared.bell.1.notify_all();
        }
        // Wakes the acceptor; when that fails there is no listener left to wake.
        let wake = TcpStream::connect_timeout(&self.shared.ctx.addr, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
        drop(wake);
        for stream in lock(&self.shared.open).values() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        for thread in threads {
            let _panicked = thread.join();
        }
    }
}

impl Drop for LyingServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl fmt::Debug for LyingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LyingServer").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _slower = stream.set_nodelay(true);
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let stream = Arc::new(stream);
        lock(&shared.open).insert(number, Arc::clone(&stream));
        let for_thread = Arc::clone(shared);
        let thread = std::thread::spawn(move || {
            let end = serve(&stream, number, &for_thread).unwrap_or(End::Fin);
            // The map's handle must be gone before this one is dropped: only the last close sends the reset.
            lock(&for_thread.open).remove(&number);
            match end {
                End::Fin => drop(stream.shutdown(Shutdown::Both)),
                End::Rst => drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))),
            }
        });
        lock(&shared.threads).push(thread);
    }
}

/// How a connection ends.
enum End {
    Fin,
    Rst,
}

fn serve(stream: &TcpStream, number: usize, shared: &Shared) -> io::Result<End> {
    let mut reader = BufReader::new(stream);
    while !shared.stopped() {
        let mut writer = stream;
        let go_on = || writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let Some(mut request) = Request::read(&mut reader, number, go_on)? else { break };
        request.index = shared.requests.fetch_add(1, Ordering::SeqCst);
        let record = shared.ctx.journal.record(&request);
        let plan = (shared.handler)(&request, &shared.ctx).plan(request.method == "HEAD");
        shared.ctx.journal.answered(record, plan.status);
        let keep_alive = plan.keep_alive;
        if let Some(end) = answer(stream, plan, record, shared)? {
            return Ok(end);
        }
        if !keep_alive || request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(End::Fin)
}

fn answer(mut stream: &TcpStream, plan: Plan, record: usize, shared: &Shared) -> io::Result<Option<End>> {
    if !plan.delay.is_zero() {
        shared.sleep(plan.delay);
    }
    stream.write_all(&plan.head)?;
    for step in plan.steps {
        match step {
            Step::Bytes(bytes) => write(stream, &bytes, record, shared)?,
            Step::Repeat(bytes) => {
                while !shared.stopped() {
                    write(stream, &bytes, record, shared)?;
                }
            }
            Step::Delay(duration) => shared.sleep(duration),
            Step::Drip { bytes, piece, interval } => {
                for part in bytes.chunks(piece.max(1)) {
                    if shared.stopped() {
                        return Ok(Some(End::Fin));
                    }
                    write(stream, &Bytes::copy_from_slice(part), record, shared)?;
                    shared.sleep(interval);
                }
            }
            Step::Stall => {
                let mut ignored = [0_u8; 1024];
                while !shared.stopped() && stream.read(&mut ignored)? > 0 {}
                return Ok(Some(End::Fin));
            }
            Step::Rst => return Ok(Some(End::Rst)),
            Step::Fin => return Ok(Some(End::Fin)),
        }
    }
    Ok(None)
}

fn write(mut stream: &TcpStream, bytes: &[u8], record: usize, shared: &Shared) -> io::Result<()> {
    for part in bytes.chunks(WRITE_BYTES) {
        shared.ctx.journal.sent(record, part.len());
        stream.write_all(part)?;
    }
    Ok(())
}
