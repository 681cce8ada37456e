//! The connections of one run: how many there are, which of them get nowhere, and who is asked to come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Most connections at once: 256 slow ones leave room for others, and with a file each they stay below the 1 024 open files that are
/// usual.
const CONNECTIONS: usize = 384;
/// A peer that got nowhere for so long makes room for another one when there is no other room.
const STUCK: Duration = Duration::from_secs(1);
/// Bytes of a request's body that count as getting somewhere.
const BODY_STEP_BYTES: u64 = 4 << 10;
/// Most connections that are told at once to come back; those beyond are closed without a word.
const REFUSED_AT_ONCE: usize = 64;
/// How long a refused peer has to hear it, and how much of its request is read meanwhile.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSAL_BYTES: u64 = 64 << 10;

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: 86\r\n\
    Connection: close\r\n\r\n\
    {\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"too many connections at the moment\"}]}";
const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Waits {
    /// For the first byte of a request.
    Request,
    /// For the rest of a head.
    Head,
    /// For the body of a request.
    Body,
    /// For this server.
    Answer,
    /// For the peer to take the answer.
    Taking,
}

impl Waits {
    const ALL: [Self; 5] = [Self::Request, Self::Head, Self::Body, Self::Answer, Self::Taking];
}

/// One connection, as its stream, its requests and the table of all see it.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: Mutex<TcpStream>,
    began: Instant,
    waits: AtomicU8,
    /// Milliseconds after `began` at which it last got somewhere.
    moved_at: AtomicU64,
    /// Bytes of a body since then.
    read_bytes: AtomicU64,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Mutex::new(stream),
            began: Instant::now(),
            waits: AtomicU8::default(),
            moved_at: AtomicU64::default(),
            read_bytes: AtomicU64::default(),
        }
    }

    pub(crate) fn stream(&self) -> MutexGuard<'_, TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> Waits {
        let number = usize::from(self.waits.load(Ordering::Relaxed));
        Waits::ALL.get(number).copied().unwrap_or(Waits::Request)
    }

    fn moved(&self) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_at.store(at, Ordering::Relaxed);
        self.read_bytes.store(0, Ordering::Relaxed);
    }

    fn now_waits(&self, waits: Waits) {
        let number = Waits::ALL.iter().position(|other| *other == waits).unwrap_or_default();
        self.waits.store(u8::try_from(number).unwrap_or_default(), Ordering::Relaxed);
        self.moved();
    }

    /// The peer sent something. Bytes of a head get nowhere before it is whole.
    pub(crate) fn sent(&self, bytes: usize) {
        match self.waits() {
            Waits::Request if bytes > 0 => self.now_waits(Waits::Head),
            Waits::Body => {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                if self.read_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= BODY_STEP_BYTES {
                    self.moved();
                }
            }
            _ => {}
        }
    }

    /// The peer took something.
    pub(crate) fn took(&self) {
        self.moved();
    }

    /// How long it has got nowhere; nothing for one that waits for this server.
    fn stuck_for(&self) -> Option<Duration> {
        let moved_at = Duration::from_millis(self.moved_at.load(Ordering::Relaxed));
        (self.waits() != Waits::Answer).then(|| self.began.elapsed().saturating_sub(moved_at))
    }

    /// Tells a peer whose head never became whole. Waits for nothing.
    pub(crate) fn give_up(&self) {
        if self.waits() == Waits::Head {
            let _gone = self.stream().try_write(HEAD_TIMEOUT);
        }
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(crate) struct InRequest(Arc<Peer>);

impl InRequest {
    pub(crate) fn begin(peer: &Arc<Peer>, has_body: bool) -> Self {
        peer.now_waits(if has_body { Waits::Body } else { Waits::Answer });
        Self(Arc::clone(peer))
    }

    pub(crate) fn answered(&self) {
        self.0.now_waits(Waits::Taking);
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.now_waits(Waits::Request);
    }
}

/// Travels with a request whose body is read: tells that it was.
#[derive(Clone, Debug)]
pub(crate) struct BodyRead(pub(crate) Arc<Peer>);

impl BodyRead {
    pub(crate) fn over(&self) {
        self.0.now_waits(Waits::Answer);
    }
}

/// All connections of one run.
#[derive(Debug)]
pub(crate) struct Connections {
    table: Mutex<HashMap<u64, (Arc<Peer>, AbortHandle)>>,
    most: usize,
    next: AtomicU64,
    refusing: Arc<Semaphore>,
}

/// A place in the table, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.number);
    }
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::default(),
            most: CONNECTIONS,
            next: AtomicU64::default(),
            refusing: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Peer>, AbortHandle)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more fits in, once the one that is stuck for the longest made room where that is needed.
    pub(crate) fn have_room(&self) -> bool {
        let mut table = self.lock();
        if table.len() < self.most {
            return true;
        }
        let stuck = table.iter().filter_map(|(number, (peer, _))| Some((peer.stuck_for()?, *number)));
        let longest = stuck.max().filter(|(since, _)| *since >= STUCK);
        let Some((peer, task)) = longest.and_then(|(_, number)| table.remove(&number)) else { return false };
        drop(table);
        peer.give_up();
        task.abort();
        true
    }

    /// A place for the next connection.
    pub(crate) fn slot(self: &Arc<Self>) -> Slot {
        Slot { connections: Arc::clone(self), number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Fills a place. To be called before the task can have ended.
    pub(crate) fn fill(&self, number: u64, peer: Arc<Peer>, task: AbortHandle) {
        self.lock().insert(number, (peer, task));
    }

    /// Tells a peer that there is no room.
    pub(crate) fn refuse(&self, mut stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.refusing).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let told = async {
                stream.write_all(BUSY.as_bytes()).await?;
                stream.shutdown().await?;
                // What is closed with bytes unread is reset, and the answer with it.
                tokio::io::copy(&mut stream.take(REFUSAL_BYTES), &mut tokio::io::sink()).await
            };
            let _late_or_gone = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
            drop(permit);
        });
    }
}

impl Slot {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let (head, body) = BUSY.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }

    async fn peer() -> (Arc<Peer>, TcpStream) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Arc::new(Peer::new(listener.accept().await.unwrap().0)), other)
    }

    #[tokio::test]
    async fn who_is_stuck_the_longest_makes_room_and_who_waits_for_the_server_does_not() {
        let connections = Arc::new(Connections { most: 2, ..Connections::new() });
        let task = || tokio::spawn(std::future::pending::<()>());
        let (stuck, mut other) = peer().await;
        let (waiting, _other) = peer().await;
        stuck.sent(1);
        let _in_request = InRequest::begin(&waiting, false);
        let (first, second) = (task(), task());
        let slots = [connections.slot(), connections.slot()];
        connections.fill(slots[0].number(), Arc::clone(&waiting), first.abort_handle());
        connections.fill(slots[1].number(), Arc::clone(&stuck), second.abort_handle());
        assert!(!connections.have_room(), "nobody is stuck yet");
        tokio::time::sleep(STUCK + Duration::from_millis(50)).await;
        assert!(connections.have_room());
        assert!(second.await.unwrap_err().is_cancelled() && !first.is_finished());
        drop(stuck);
        let mut told = String::new();
        other.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    }

    #[tokio::test]
    async fn row_84_who_finds_no_room_is_asked_to_come_back() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connections = Connections::new();
        connections.refuse(listener.accept().await.unwrap().0);
        // The request it came with does not cost it the answer.
        other.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut told = String::new();
        other.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("\r\nRetry-After: 1\r\n"), "{told}");
        assert_eq!(told, BUSY);
    }
}
