//! How a registry serves.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greentic_dist_types::Secret;

use crate::journal::{RequestRecord, Ticket};

/// Who is told about answers.
type Log = Arc<dyn Fn(&AccessRecord) + Send + Sync>;

/// What [`Registry::start_with`](crate::Registry::start_with) can be told beside the address.
#[derive(Clone, Default)]
#[must_use]
pub struct ServeOptions {
    pub(crate) token: Option<Secret>,
    pub(crate) access_log: Option<Log>,
}

/// One answer, when all of it was sent or the peer was gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessRecord {
    /// Who asked.
    pub peer: SocketAddr,
    /// What was asked, and what was answered.
    pub request: RequestRecord,
    /// From the request to the end of its answer.
    pub took: Duration,
}

impl ServeOptions {
    /// No token, no log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers only requests with this token, as a bearer token or as the password of any user. Addresses other than loopback
    /// need one. The connection is plain HTTP: where others can listen, something that speaks TLS belongs in front of it.
    pub fn token(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    /// Told about every answer. Called on the serving thread: must not block for long.
    pub fn access_log(mut self, log: impl Fn(&AccessRecord) + Send + Sync + 'static) -> Self {
        self.access_log = Some(Arc::new(log));
        self
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("token", &self.token)
            .field("access_log", &self.access_log.is_some())
            .finish()
    }
}

/// Tells the log about one answer when it is dropped.
pub(crate) struct Logged {
    log: Option<Log>,
    peer: SocketAddr,
    began: Instant,
    ticket: Ticket,
}

impl Logged {
    pub(crate) fn new(log: Option<&Log>, peer: SocketAddr, ticket: Ticket) -> Self {
        Self { log: log.map(Arc::clone), peer, began: Instant::now(), ticket }
    }

    pub(crate) const fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if let Some((log, request)) = self.log.take().zip(self.ticket.record()) {
            log(&AccessRecord { peer: self.peer, request, took: self.began.elapsed() });
        }
    }
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged").field("peer", &self.peer).field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
