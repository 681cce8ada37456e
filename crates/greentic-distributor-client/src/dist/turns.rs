//! Turns inside one client: of the tasks that want the same bytes one goes to the store's lock, the others wait without a
//! thread.
//!
//! Without this every waiting task would hold a blocking thread, and enough of them would keep the one that has the lock from
//! ever getting another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use greentic_dist_types::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Entries of finished turns that are kept before they are swept.
const SWEEP_AT: usize = 256;

/// Who is next, by digest.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>);

/// The right to go on; the next one's turn begins when it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for its turn. Cancel-safe.
    pub(super) async fn take(&self, digest: Digest) -> Turn {
        let gate = {
            let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if gates.len() >= SWEEP_AT {
                gates.retain(|_, gate| gate.strong_count() > 0);
            }
            let known = gates.get(&digest).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let gate = Arc::new(AsyncMutex::new(()));
                gates.insert(digest, Arc::downgrade(&gate));
                gate
            })
        };
        gate.lock_owned().await
    }
}
