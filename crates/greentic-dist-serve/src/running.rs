//! A registry that serves: its thread, its runtime, its connections.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::watch;

use crate::body::{CountedBody, OnTheirWay, SMALL_PIECE_BYTES};
use crate::connection::{BodyRead, Connections, InRequest, Peer};
use crate::journal::RequestRecord;
use crate::log::{AccessLog, Logged};
use crate::options::ServeOptions;
use crate::store::Store;
use crate::unstuck::Unstuck;
use crate::{Registry, ServeError, api};

/// How long a peer may take for a request's head, the pause between two requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// Most header fields of a request.
const HEAD_FIELDS: usize = 100;
/// How long what blocks may take to end when the registry stops: looks at a directory, and whoever reads the log.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);

/// What the serving thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    Gracefully,
    Now,
}

/// The sign that a thread has ended: its other end was dropped.
#[derive(Debug)]
pub(crate) struct Ended {
    blocking: Mutex<mpsc::Receiver<()>>,
    waiting: watch::Receiver<()>,
}

/// What a thread holds until it ends.
#[derive(Debug)]
pub(crate) struct Running {
    _blocking: mpsc::Sender<()>,
    _waiting: watch::Sender<()>,
}

impl Ended {
    pub(crate) fn new() -> (Running, Self) {
        let ((blocking, ended), (waiting, over)) = (mpsc::channel(), watch::channel(()));
        (Running { _blocking: blocking, _waiting: waiting }, Self { blocking: Mutex::new(ended), waiting: over })
    }

    /// Waits for it, so long at most.
    fn wait(&self, timeout: Duration) -> bool {
        let ended = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

/// What all connections of one run share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Arc<Store>,
    pub(crate) options: ServeOptions,
    /// `ip:port`.
    pub(crate) own_address: String,
    log: Option<AccessLog>,
    /// Pieces of files that peers have not taken yet.
    on_their_way: OnTheirWay,
    connections: Arc<Connections>,
}

/// A registry that is serving. It stops when dropped.
pub struct RunningRegistry {
    registry: Registry,
    addr: SocketAddr,
    stop: watch::Sender<Stop>,
    stop_grace: Duration,
    ended: Ended,
    log_ended: Option<Ended>,
}

impl RunningRegistry {
    /// The address it listens on.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `127.0.0.1:PORT`: the registry part of a reference.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// `http://127.0.0.1:PORT`, no slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The registry behind it, to add content while it serves.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The last 10 000 requests, oldest first, those of earlier runs of the same registry included.
    pub fn journal(&self) -> Vec<RequestRecord> {
        self.registry.journal()
    }

    /// How many requests there were, those of earlier runs of the same registry included.
    pub fn requests(&self) -> u64 {
        self.registry.requests()
    }

    /// Closes the port, gives answers on their way two seconds to end, or what [`ServeOptions::stop_grace`] says, and returns when
    /// everything is closed. Blocking, for two more seconds where something else than a peer holds it up, and two for the log.
    /// Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Closes the port and cuts answers on their way. Blocking, as [`RunningRegistry::stop`] is, without the time for answers.
    pub fn stop_now(self) {
        self.stop.send_replace(Stop::Now);
        drop(self);
    }

    /// Begins what [`RunningRegistry::stop`] does, and does not wait.
    pub fn begin_stop(&self) {
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            if first {
                *stop = Stop::Gracefully;
            }
            first
        });
    }

    /// Returns when the registry has stopped. Cancel-safe.
    pub async fn ended(&self) {
        let _dropped = self.ended.waiting.clone().changed().await;
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.begin_stop();
        // A thread that something holds up for longer is left behind.
        let _left_behind = self.ended.wait(self.stop_grace.saturating_add(BLOCKING_GRACE * 2));
        if let Some(log) = &self.log_ended {
            let _left_behind = log.wait(BLOCKING_GRACE);
        }
    }
}

impl fmt::Debug for RunningRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningRegistry").field("addr", &self.addr).finish_non_exhaustive()
    }
}

pub(crate) fn start(
    registry: Registry,
    store: Arc<Store>,
    addr: SocketAddr,
    options: ServeOptions,
) -> Result<RunningRegistry, ServeError> {
    if !addr.ip().is_loopback() && options.token.is_none() {
        return Err(ServeError::NotLoopback { addr });
    }
    let listener = bind(addr).map_err(|source| ServeError::Listen { addr, source })?;
    let addr = listener.local_addr().map_err(|source| ServeError::Listen { addr, source })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| ServeError::Start { source })?;
    let (log, log_ended) = match options.access_log.as_ref().map(|listener| AccessLog::start(Arc::clone(listener))) {
        Some(started) => started.map(|(log, ended)| (Some(log), Some(ended))),
        None => Ok((None, None)),
    }
    .map_err(|source| ServeError::Start { source })?;
    let (stop, stopped) = watch::channel(Stop::No);
    let (running, ended) = Ended::new();
    let stop_grace = options.stop_grace;
    let (own_address, on_their_way) = (addr.to_string(), OnTheirWay::default());
    let connections = Arc::new(Connections::new());
    let server = Arc::new(Server { store, options, own_address, log, on_their_way, connections });
    std::thread::Builder::new()
        .name("registry".to_owned())
        .spawn(move || {
            let _running = running;
            runtime.block_on(serve(server, listener, stopped));
            // Readers of files end as soon as they see that nobody waits for them.
            runtime.shutdown_timeout(BLOCKING_GRACE);
        })
        .map_err(|source| ServeError::Start { source })?;
    Ok(RunningRegistry { registry, addr, stop, stop_grace, ended, log_ended })
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until it is told to stop, or the sender of `stop` is dropped.
async fn serve(server: Arc<Server>, listener: TcpListener, mut stop: watch::Receiver<Stop>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let grace = server.options.stop_grace;
    let graceful = Arc::new(GracefulShutdown::new());
    let acceptor = tokio::spawn(accept(server, listener, Arc::clone(&graceful)));
    let _sender_gone = stop.wait_for(|stop| *stop != Stop::No).await.is_err();
    acceptor.abort();
    // Its end frees the port.
    let _aborted = acceptor.await;
    if let Some(graceful) = Arc::into_inner(graceful) {
        let mut closed = pin!(tokio::time::timeout(grace, graceful.shutdown()));
        let mut hurried = pin!(async { stop.wait_for(|stop| *stop == Stop::Now).await.is_ok() });
        poll_fn(|cx| {
            let hurried = matches!(hurried.as_mut().poll(cx), Poll::Ready(true));
            if hurried || closed.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn accept(server: Arc<Server>, listener: tokio::net::TcpListener, graceful: Arc<GracefulShutdown>) {
    loop {
        let Ok((stream, addr)) = listener.accept().await else {
            // Out of files or the like: wait for some connection to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if !server.connections.have_room() {
            server.connections.refuse(stream);
            continue;
        }
        let _slower = stream.set_nodelay(true);
        let peer = Arc::new(Peer::new(stream));
        let (server, asking) = (Arc::clone(&server), Arc::clone(&peer));
        let slot = server.connections.slot();
        let number = slot.number();
        let connections = Arc::clone(&server.connections);
        let service = service_fn(move |request| answer(Arc::clone(&server), addr, Arc::clone(&asking), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(HEAD_BYTES)
            // One small piece of an answer fills it: a peer that takes nothing holds that one.
            .max_buf_size(SMALL_PIECE_BYTES.max(HEAD_BYTES))
            .max_headers(HEAD_FIELDS)
            .serve_connection(TokioIo::new(Unstuck::new(Arc::clone(&peer))), service);
        let connection = graceful.watch(connection);
        let served = Arc::clone(&peer);
        // One thread: it does not run before this function waits, and the place is filled by then.
        let task = tokio::spawn(async move {
            let _slot = slot;
            // The peer sees how it ended, and the journal how far it came.
            if connection.await.is_err_and(|error| error.is_timeout()) {
                served.give_up();
            }
        });
        connections.fill(number, peer, task.abort_handle());
    }
}

async fn answer(
    server: Arc<Server>,
    addr: SocketAddr,
    peer: Arc<Peer>,
    mut request: Request<Incoming>,
) -> Result<Response<CountedBody>, Infallible> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let ticket = server.store.journal.begin(request.method().as_str(), target);
    let mut logged = Logged::new(server.log.as_ref(), addr, ticket);
    let in_request = InRequest::begin(&peer, !request.body().is_end_stream());
    request.extensions_mut().insert(BodyRead(peer));
    let mut reply = api::answer(&server, request).await;
    let reason = reply.extensions_mut().remove();
    logged.answered(reply.status().as_u16(), reason);
    in_request.answered();
    Ok(reply.map(|payload| payload.into_body(logged, in_request, &server.on_their_way)))
}
