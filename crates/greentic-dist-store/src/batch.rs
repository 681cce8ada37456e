//! One wait for the disk serves many: publications that meet are synced together.
//!
//! Whoever publishes while nobody else does leads at once and alone, so that a single pull waits for nothing but its own
//! sync. Whoever comes while a leader is at the disk queues up; the leader then hands the whole queue to one of the waiting,
//! who syncs it as one batch. Nobody waits on purpose, and the batches are as large as the load makes them. After the sync
//! everybody puts the own entry in place while the next batch is at the disk.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::publish::Published;
use crate::stage::Staged;
use crate::{Store, StoreError, StoreErrorKind};

/// Most entries of one batch.
const BATCH: usize = 64;
/// Entries with larger artifacts go to the disk on their own: the small ones are not to wait for them.
const LARGE_BYTES: u64 = 16 << 20;

type Outcome = Result<Published, StoreError>;

/// What a waiting publisher is told.
enum Word {
    /// Its files are on the disk, or not; the entry is its own again, to be put in place.
    Synced(Box<(Staged, Result<(), StoreError>)>),
    /// It leads now: the queue, its own entry among it, is its to sync.
    Lead,
}

#[derive(Debug, Default)]
pub(crate) struct Batch(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    is_led: bool,
    waiting: Vec<(Staged, Sender<Word>)>,
}

impl Batch {
    /// Publishes `staged`, alone or with whatever else is being published right now.
    pub(crate) fn publish(&self, store: &Store, staged: Staged) -> Outcome {
        if staged.entry.record.size_bytes > LARGE_BYTES {
            return alone(store, staged);
        }
        let path = staged.entry.dir.clone();
        let (sender, receiver) = channel();
        {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.push((staged, sender));
            if queue.is_led {
                drop(queue);
                return self.wait(store, &receiver, &path);
            }
            queue.is_led = true;
        }
        self.lead(store);
        self.wait(store, &receiver, &path)
    }

    fn wait(&self, store: &Store, receiver: &Receiver<Word>, path: &Path) -> Outcome {
        loop {
            match receiver.recv() {
                Ok(Word::Synced(synced)) => {
                    let (staged, synced) = *synced;
                    return synced.and_then(|()| store.put_in_place(staged));
                }
                Ok(Word::Lead) => self.lead(store),
                // The leader is gone without a word, which only a panic can do.
                Err(_gone) => return Err(lost(path)),
            }
        }
    }

    /// Syncs one batch and passes the lead on, or down when nobody waits.
    fn lead(&self, store: &Store) {
        let lead = Leading(self);
        let batch: Vec<(Staged, Sender<Word>)> = {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = queue.waiting.len().min(BATCH);
            queue.waiting.drain(..count).collect()
        };
        let (staged, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let synced = store.sync(&staged);
        for ((sender, staged), synced) in senders.into_iter().zip(staged).zip(synced) {
            // A publisher that is gone, by a panic, takes its entry with it.
            drop(sender.send(Word::Synced(Box::new((staged, synced)))));
        }
        drop(lead);
    }
}

fn alone(store: &Store, staged: Staged) -> Outcome {
    let path = staged.entry.dir.clone();
    store.publish_all(vec![staged]).pop().unwrap_or_else(|| Err(lost(&path)))
}

fn lost(path: &Path) -> StoreError {
    StoreError::new(StoreErrorKind::Io, "publish the entry", path).with_detail("the batch it was in was given up")
}

/// The lead. Dropped, also by a panic, it goes to the first that waits and can still be reached.
struct Leading<'a>(&'a Batch);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, sender)) = queue.waiting.first() {
            if sender.send(Word::Lead).is_ok() {
                return;
            }
            drop(queue.waiting.remove(0));
        }
        queue.is_led = false;
    }
}
