//! What was asked of the registry, and what it answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_types::SafeText;

/// Most requests remembered; older ones are forgotten, but still counted.
const KEPT: usize = 10_000;
/// Most characters of a request's target that are kept.
const TARGET_CHARS: usize = 1024;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// The method.
    pub method: String,
    /// Path and query as sent, made safe to show and cut to 1024 characters.
    pub path: String,
    /// The status answered; 0 while there is no answer.
    pub status: u16,
    /// Bytes of the answer's body handed to the connection so far.
    pub bytes: u64,
}

impl RequestRecord {
    /// `METHOD path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The requests of one registry, over all its runs.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Ticket>,
    forgotten: u64,
}

/// One record that is still completed, also after the journal forgot it.
#[derive(Clone, Debug)]
pub(crate) struct Ticket(Arc<Mutex<RequestRecord>>);

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, method: &str, target: &str) -> Ticket {
        let ticket = Ticket(Arc::new(Mutex::new(RequestRecord {
            method: SafeText::excerpt(method, 16).as_str().to_owned(),
            path: SafeText::excerpt(target, TARGET_CHARS).as_str().to_owned(),
            status: 0,
            bytes: 0,
        })));
        let mut kept = self.lock();
        if kept.records.len() >= KEPT {
            kept.records.pop_front();
            kept.forgotten += 1;
        }
        kept.records.push_back(ticket.clone());
        ticket
    }

    pub(crate) fn records(&self) -> Vec<RequestRecord> {
        self.lock().records.iter().map(Ticket::record).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        let kept = self.lock();
        kept.forgotten + u64::try_from(kept.records.len()).unwrap_or(u64::MAX)
    }
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, RequestRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record as it is now.
    pub(crate) fn record(&self) -> RequestRecord {
        self.lock().clone()
    }

    pub(crate) fn answered(&self, status: u16) {
        self.lock().status = status;
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.lock().bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_records_are_forgotten_but_counted() {
        let journal = Journal::default();
        let first = journal.begin("GET", "/first");
        for _ in 0..KEPT {
            journal.begin("GET", "/later");
        }
        first.answered(200);
        assert_eq!(journal.count(), 10_001);
        assert_eq!(journal.records().len(), KEPT);
        assert!(journal.records().iter().all(|record| record.status == 0));
        assert_eq!((first.record().line().as_str(), first.record().status), ("GET /first", 200));
        let last = journal.begin("GET", "/last");
        last.answered(404);
        last.sent(3);
        let record = journal.records().pop().unwrap();
        assert_eq!((record.line().as_str(), record.status, record.bytes), ("GET /last", 404, 3));
    }
}
