//! The log of answers, told on a thread of its own: whoever reads it slowly, or not at all, keeps no answer waiting.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::journal::{RequestRecord, Ticket};
use crate::running::Ended;

/// Most answers that wait to be told; further ones are dropped and counted.
const WAITING: usize = 1_024;

/// Who is told about answers.
pub(crate) type Listener = Arc<dyn Fn(&AccessEvent) + Send + Sync>;

/// What a log is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AccessEvent {
    /// One answer.
    Answer(AccessRecord),
    /// So many answers were not told, because the log did not keep up.
    Dropped(u64),
}

/// One answer, when all of it was sent or the peer was gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessRecord {
    /// Who asked.
    pub peer: SocketAddr,
    /// What was asked, and what was answered.
    pub request: RequestRecord,
    /// Why it was refused, when it was.
    pub reason: Option<String>,
    /// From the request to the end of its answer.
    pub took: Duration,
}

/// Why a request was refused: travels with the answer to the log.
#[derive(Clone, Debug)]
pub(crate) struct Reason(pub(crate) String);

/// The end of the log that answers are put into.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    waiting: SyncSender<AccessRecord>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread. It ends when every clone of this is gone and all that waited was told.
    pub(crate) fn start(listener: Listener) -> io::Result<(Self, Ended)> {
        let (waiting, records) = sync_channel(WAITING);
        let log = Self { waiting, dropped: Arc::default() };
        let dropped = Arc::clone(&log.dropped);
        let (running, ended) = Ended::new();
        std::thread::Builder::new().name("access log".to_owned()).spawn(move || {
            let _running = running;
            tell(&records, &dropped, &listener);
        })?;
        Ok((log, ended))
    }

    fn put(&self, record: AccessRecord) {
        if self.waiting.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn tell(records: &Receiver<AccessRecord>, dropped: &AtomicU64, listener: &Listener) {
    let tell_dropped = || {
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            listener(&AccessEvent::Dropped(count));
        }
    };
    for record in records {
        listener(&AccessEvent::Answer(record));
        tell_dropped();
    }
    tell_dropped();
}

/// Puts one answer into the log when it is dropped.
pub(crate) struct Logged {
    log: Option<AccessLog>,
    peer: SocketAddr,
    began: Instant,
    ticket: Ticket,
    reason: Option<String>,
}

impl Logged {
    pub(crate) fn new(log: Option<&AccessLog>, peer: SocketAddr, ticket: Ticket) -> Self {
        Self { log: log.cloned(), peer, began: Instant::now(), ticket, reason: None }
    }

    pub(crate) const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// What the peer was answered.
    pub(crate) fn answered(&mut self, status: u16, reason: Option<Reason>) {
        self.ticket.answered(status);
        self.reason = reason.map(|Reason(text)| text);
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            let (request, reason) = (self.ticket.record(), self.reason.take());
            log.put(AccessRecord { peer: self.peer, request, reason, took: self.began.elapsed() });
        }
    }
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged").field("peer", &self.peer).field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
