//! Many references at once, bounded, with results in the order asked.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{DistClient, DistError, ResolvedArtifact};

/// References in flight at once. Each holds one blocking worker and one connection at most.
const IN_FLIGHT: usize = 32;

impl DistClient {
    /// Resolves and fetches many references, up to 32 at once, and returns one result for each, in order. One failure
    /// does not stop the others.
    ///
    /// References that mean the same bytes are transferred once. Dropping the future stops what is in flight; what was
    /// downloaded is kept.
    pub async fn pull_all(&self, references: &[String]) -> Vec<Result<ResolvedArtifact, DistError>> {
        // All of them are to be there when this returns, whatever the cap says.
        let _together = self.inner.holds.group();
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut tasks = JoinSet::new();
        for (position, reference) in references.iter().enumerate() {
            let (client, reference, permits) = (self.clone(), reference.clone(), Arc::clone(&permits));
            tasks.spawn(async move {
                let Ok(_permit) = permits.acquire_owned().await else { return (position, Err(DistError::Cancelled)) };
                (position, client.resolve_ref(&reference).await)
            });
        }
        let mut results: Vec<Option<Result<ResolvedArtifact, DistError>>> = references.iter().map(|_| None).collect();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((position, result)) => {
                    if let Some(slot) = results.get_mut(position) {
                        *slot = Some(result);
                    }
                }
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        results.into_iter().map(|slot| slot.unwrap_or(Err(DistError::Cancelled))).collect()
    }
}
