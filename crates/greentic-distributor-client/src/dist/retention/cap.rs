//! The cap: after every fetch that brought something, the cache is within its size again when the call returns.
//!
//! Whether there is anything to do is one small file that says how many bytes there are. Only when they are too many are the
//! entries looked at, and a large cache then makes room for more than one fetch, so that the next ones need not look.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use greentic_dist_store::{Candidate, EvictTerms, Evicted, Limits, Protection, StoreError, Surveyed, Verdict, plan};
use greentic_dist_types::{BundleLifecycleState, Digest};

use crate::blocking;
use crate::dist::client::Inner;
use crate::dist::error::chain;

/// How long a path that was handed out for an entry in the cache is taken to be in use.
const GRACE: Duration = Duration::from_mins(5);
/// How long one fetch waits for another process that makes room.
const WAIT: Duration = Duration::from_secs(10);
/// How long one fetch goes on deleting what was evicted. The rest is for the next one.
const SLICE: Duration = Duration::from_millis(50);
/// A cache with more entries than this makes room for more than one fetch at a time.
const MANY_ENTRIES: usize = 64;
/// How much more, as a part of the cap.
const SLACK: u64 = 16;
/// How often it is decided anew when something that was to go had to stay.
const ROUNDS: usize = 4;

/// Makes room after a fetch. What it brought, and what other calls of this client work on, stays.
///
/// A cache that cannot be kept in bounds is a warning: the artifact is there.
pub(crate) async fn keep(inner: &Arc<Inner>) {
    if inner.options.cache_max_bytes == 0 {
        return;
    }
    let inner = Arc::clone(inner);
    let done = blocking::run(move || {
        if let Err(error) = make_room(&inner) {
            inner.warn(&format!("the cache is not kept to its cap: {}", chain(&error)));
        }
        Ok(())
    });
    if let Err(error) = done.await {
        tracing::debug!(%error, "the cap was not looked at");
    }
}

fn make_room(inner: &Inner) -> Result<(), StoreError> {
    let (store, cap) = (&inner.store, inner.options.cache_max_bytes);
    if store.known_total()? > cap
        && let Some(_lock) = store.lock_retention(WAIT)?
        // Whoever had the lock before may have made room enough.
        && store.known_total()? > cap
    {
        shrink(inner, cap)?;
    }
    // Also what somebody else left.
    store.empty_trash_for(SLICE).map(|_emptied| ())
}

/// Evicts what was unused longest until the rest fits.
fn shrink(inner: &Inner, cap: u64) -> Result<(), StoreError> {
    // Before anything is decided: a record that cannot be read may be the one that protects.
    let bundles: HashMap<Digest, BundleLifecycleState> =
        inner.store.bundles()?.into_iter().map(|record| (record.cache_key, record.lifecycle_state)).collect();
    let mut candidates = candidates(inner, &bundles, inner.store.survey()?);
    let total: u128 = candidates.iter().map(|candidate| u128::from(candidate.size_bytes)).sum();
    if total <= u128::from(cap) {
        return Ok(());
    }
    let target = if candidates.len() > MANY_ENTRIES { cap - cap / SLACK } else { cap };
    for _ in 0..ROUNDS {
        let now = since_1970(inner.store.options().clock.now());
        let verdicts = plan(&candidates, &Limits { now, max_bytes: target, max_age: None });
        let goes = |(_, verdict): &(&Candidate<Digest>, Verdict)| matches!(verdict, Verdict::Evict(_));
        let (mut gone, mut stays) = (HashSet::new(), HashSet::new());
        for (candidate, _) in candidates.iter().zip(verdicts).filter(goes) {
            let terms = EvictTerms {
                unused_since: Some(SystemTime::UNIX_EPOCH + candidate.used_at),
                bundle: Some(&|state| !state.protects()),
            };
            match inner.store.evict(&candidate.key, terms)? {
                Evicted::Gone { .. } | Evicted::Absent => gone.insert(candidate.key),
                Evicted::Kept(why) => {
                    tracing::debug!(pin = %candidate.key, ?why, "an entry that was to be evicted stays");
                    stays.insert(candidate.key)
                }
            };
        }
        if stays.is_empty() {
            break;
        }
        candidates.retain(|candidate| !gone.contains(&candidate.key));
        for candidate in candidates.iter_mut().filter(|candidate| stays.contains(&candidate.key)) {
            candidate.protection = Some(Protection::InUse);
        }
    }
    Ok(())
}

fn candidates(
    inner: &Inner,
    bundles: &HashMap<Digest, BundleLifecycleState>,
    surveyed: Vec<Surveyed>,
) -> Vec<Candidate<Digest>> {
    let held = inner.holds.pins();
    let clock = &inner.store.options().clock;
    surveyed
        .into_iter()
        .map(|entry| {
            let bundle = bundles.get(&entry.pin);
            let protection = match bundle {
                _ if held.contains(&entry.pin) => Some(Protection::Fetched),
                Some(BundleLifecycleState::Warming) => Some(Protection::Warming),
                Some(BundleLifecycleState::Ready) => Some(Protection::Ready),
                Some(BundleLifecycleState::Draining) => Some(Protection::Draining),
                Some(BundleLifecycleState::Staged) => Some(Protection::Staged),
                None if entry.opened && clock.age(entry.used_at) < GRACE => Some(Protection::InUse),
                // Inactive: its keeper says that nobody uses it, whoever opened it last.
                Some(BundleLifecycleState::Inactive) | None => None,
            };
            Candidate {
                key: entry.pin,
                size_bytes: entry.size_bytes,
                used_at: since_1970(entry.used_at),
                corrupt: entry.corrupt,
                protection,
            }
        })
        .collect()
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
