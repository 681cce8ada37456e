//! A registry that serves: its thread, its runtime, its connections.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{Semaphore, oneshot};

use crate::body::{CountedBody, OnTheirWay, SMALL_PIECE_BYTES};
use crate::journal::RequestRecord;
use crate::options::{Logged, ServeOptions};
use crate::store::Store;
use crate::unstuck::Unstuck;
use crate::{Registry, ServeError, api};

/// Most connections at once; more wait in the system's queue.
const CONNECTIONS: usize = 1_024;
/// How long a peer may take for a request's head, the pause between two requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// Most header fields of a request.
const HEAD_FIELDS: usize = 100;
/// How long answers that are on their way may take when the registry stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What all connections of one run share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Arc<Store>,
    pub(crate) options: ServeOptions,
    /// `ip:port`.
    pub(crate) own_address: String,
    /// Pieces of files that peers have not taken yet.
    pub(crate) on_their_way: OnTheirWay,
}

/// A registry that is serving. It stops when dropped.
pub struct RunningRegistry {
    registry: Registry,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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

    /// Closes the port, gives answers on their way two seconds to end, and returns when everything is closed.
    /// Blocking. Dropping does the same.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // A thread that ended by itself has nobody listening and is joined all the same.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.shut_down();
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
    let (stop, stopped) = oneshot::channel();
    let server =
        Arc::new(Server { store, options, own_address: addr.to_string(), on_their_way: OnTheirWay::default() });
    let thread = std::thread::Builder::new()
        .name("registry".to_owned())
        .spawn(move || {
            runtime.block_on(serve(server, listener, stopped));
            // Readers of files end as soon as they see that nobody waits for them.
            runtime.shutdown_timeout(STOP_GRACE);
        })
        .map_err(|source| ServeError::Start { source })?;
    Ok(RunningRegistry { registry, addr, stop: Some(stop), thread: Some(thread) })
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the sender of `stopped` is dropped.
async fn serve(server: Arc<Server>, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let graceful = Arc::new(GracefulShutdown::new());
    let acceptor = tokio::spawn(accept(server, listener, Arc::clone(&graceful)));
    let _sender_gone = stopped.await;
    acceptor.abort();
    // Its end frees the port.
    let _aborted = acceptor.await;
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _too_slow = tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await;
    }
}

async fn accept(server: Arc<Server>, listener: tokio::net::TcpListener, graceful: Arc<GracefulShutdown>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of files or the like: wait for some connection to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _slower = stream.set_nodelay(true);
        let server = Arc::clone(&server);
        let service = service_fn(move |request| answer(Arc::clone(&server), peer, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(HEAD_BYTES)
            // One small piece of an answer fills it: a peer that takes nothing holds that one.
            .max_buf_size(SMALL_PIECE_BYTES.max(HEAD_BYTES))
            .max_headers(HEAD_FIELDS)
            .serve_connection(TokioIo::new(Unstuck::new(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // The peer sees how it ended, and the journal how far it came.
            let _broken = connection.await;
            drop(permit);
        });
    }
}

async fn answer(
    server: Arc<Server>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<CountedBody>, Infallible> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let ticket = server.store.journal.begin(request.method().as_str(), target);
    let logged = Logged::new(server.options.access_log.as_ref(), peer, ticket);
    let reply = api::answer(&server, request).await;
    logged.ticket().answered(reply.status().as_u16());
    Ok(reply.map(|payload| payload.into_body(logged, &server.on_their_way)))
}
