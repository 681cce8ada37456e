//! What outlives a process about endpoints that lied.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::BoxFuture;
use crate::oci::{QUARANTINE, leave_alone};

/// Most endpoints taken from a memory.
const RECALLED: usize = 1_024;

/// Where mirrors that sent wrong bytes are written down, so that other processes leave them alone, too.
///
/// What it says keeps mirrors from being asked, and nobody else: the registry's own host is asked whatever is written. A memory
/// that cannot be read or written fails nothing; it tells a person itself, where one should know.
pub trait EndpointMemory: Send + Sync + Debug {
    /// The endpoints to be left alone, by their URLs, each with how much longer. More than 10 minutes count as 10 minutes. Asked once by
    /// each [`Net`](crate::Net), before the first question to a registry that has mirrors; never offline.
    fn recall(&self) -> BoxFuture<'_, Vec<(String, Duration)>>;

    /// Takes note that an endpoint, `scheme://host[:port][/path]`, is to be left alone for so long from now on. The next endpoint is
    /// asked when it is done.
    fn remember<'a>(&'a self, endpoint: &'a str, time: Duration) -> BoxFuture<'a, ()>;
}

/// The mirrors that lied, on their way into a memory and out of it.
#[derive(Debug, Default)]
pub(crate) struct Liars {
    memory: Option<Arc<dyn EndpointMemory>>,
    recalled: OnceCell<()>,
    unwritten: Mutex<Vec<String>>,
}

impl Liars {
    pub(crate) fn new(memory: Option<Arc<dyn EndpointMemory>>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Takes note of a mirror that has to be written down.
    pub(crate) fn found(&self, endpoint: &str) {
        if self.memory.is_none() {
            return;
        }
        let mut unwritten = self.unwritten();
        if !unwritten.iter().any(|known| known == endpoint) {
            unwritten.push(endpoint.to_owned());
        }
    }

    /// Makes sure that what others found out is known.
    pub(crate) async fn recall(&self) {
        let Some(memory) = &self.memory else { return };
        let recall = async {
            for (endpoint, time) in memory.recall().await.into_iter().take(RECALLED) {
                tracing::debug!(mirror = endpoint, ?time, "not asked: it sent wrong bytes to another process");
                leave_alone(&endpoint, time);
            }
        };
        self.recalled.get_or_init(|| recall).await;
    }

    /// Writes down what was found. Cancel-safe: what was not written is written the next time.
    pub(crate) async fn write_down(&self) {
        let Some(memory) = &self.memory else { return };
        loop {
            let Some(endpoint) = self.unwritten().first().cloned() else { return };
            memory.remember(&endpoint, QUARANTINE).await;
            self.unwritten().retain(|known| *known != endpoint);
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<String>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
