//! Mirrors that sent wrong bytes, written down in the cache, so that the next process leaves them alone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{BoxFuture, EndpointMemory};
use greentic_dist_store::{Store, StoreError};
use greentic_dist_types::SafeText;

use super::error::chain;
use crate::blocking;
use crate::progress::{Event, Reporter};

/// The memory in a cache. What stands in the other caches of this user counts, too, and is left as it is.
pub(super) struct CacheMemory {
    pub(super) store: Store,
    pub(super) neighbours: Vec<Store>,
    pub(super) reporter: Arc<dyn Reporter>,
}

impl CacheMemory {
    /// Says once that the memory is none: it costs a question to a liar, and heals by itself.
    fn unreadable(&self, error: &StoreError) {
        let why = SafeText::new(&chain(error)).to_string();
        tracing::warn!(why, "the memory of mirrors that lied counts as empty");
        let message = format!("{why}; it counts as empty");
        self.reporter.event(&Event::Warning { message: &message });
    }
}

impl EndpointMemory for CacheMemory {
    fn recall(&self) -> BoxFuture<'_, Vec<(String, Duration)>> {
        Box::pin(async move {
            let (store, neighbours) = (self.store.clone(), self.neighbours.clone());
            let read = blocking::run(move || {
                let others = neighbours.iter().flat_map(|store| store.quarantined_endpoints().unwrap_or_default());
                Ok((store.quarantined_endpoints(), others.collect::<Vec<_>>()))
            });
            let Ok((own, mut known)) = read.await else { return Vec::new() };
            match own {
                Ok(own) => known.extend(own),
                Err(error) => self.unreadable(&error),
            }
            known
        })
    }

    fn remember<'a>(&'a self, endpoint: &'a str, time: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (store, url) = (self.store.clone(), endpoint.to_owned());
            let written = blocking::run(move || Ok(store.quarantine_endpoint(&url, time))).await;
            if let Ok(Err(error)) = written {
                // A cache that cannot be written to is used all the same.
                let why = SafeText::new(&chain(&error)).to_string();
                tracing::debug!(endpoint, why, "a mirror that lied is not written down");
            }
        })
    }
}

impl fmt::Debug for CacheMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMemory").field("store", &self.store.root()).finish_non_exhaustive()
    }
}
