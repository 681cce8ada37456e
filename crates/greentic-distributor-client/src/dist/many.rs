//! Many references at once, bounded, with results in the order asked.

use greentic_dist_net::same_operation;
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
        let tasks: Vec<_> = references.iter().map(|reference| (self.clone(), reference.clone())).collect();
        let results = in_order(tasks, |(client, reference)| async move { client.resolve_ref(&reference).await }).await;
        results.into_iter().map(|result| result.unwrap_or(Err(DistError::Cancelled))).collect()
    }
}

/// Does `work` for each item, up to 32 at once; the results come in the order of the items. `None` stands for work that the
/// shutdown of its runtime ended. Dropping the future stops what is in flight; a panic of the work is passed on.
pub(super) async fn in_order<I, T, W>(items: impl IntoIterator<Item = I>, work: impl Fn(I) -> W) -> Vec<Option<T>>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let mut results: Vec<Option<T>> = Vec::new();
    let mut tasks = JoinSet::new();
    let mut items = items.into_iter();
    loop {
        while tasks.len() < IN_FLIGHT
            && let Some(item) = items.next()
        {
            let (position, work) = (results.len(), work(item));
            results.push(None);
            tasks.spawn(same_operation(async move { (position, work.await) }));
        }
        match tasks.join_next().await {
            Some(Ok((position, result))) => {
                if let Some(slot) = results.get_mut(position) {
                    *slot = Some(result);
                }
            }
            Some(Err(error)) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
            None => return results,
        }
    }
}
