//! Taking away what was decided, and what somebody names.

use std::time::{Duration, SystemTime};

use greentic_dist_store::{EvictTerms, Evicted, Kept, StoreError, StoreErrorKind};
use greentic_dist_types::{BundleId, BundleLifecycleState, Digest};

use super::{RetentionDisposition, RetentionInput, RetentionOutcome, RetentionReport, evaluate};
use crate::dist::client::Inner;
use crate::dist::error::chain;
use crate::dist::{DistClient, DistError, cache};

/// Longer than any deletion.
const TO_THE_END: Duration = Duration::MAX;

/// How entries are removed that somebody names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether entries go although their bundle is warming, ready or draining. Default: no.
    pub force: bool,
    /// Whether it is only said what would go. Default: no.
    pub dry_run: bool,
}

/// What a bundle's state says to a caller who wants its entry gone.
///
/// A bundle that warms up, serves or drains is in use. One that is only staged is kept by every automatism, but its keeper may
/// give it up by name.
const fn is_in_use(state: BundleLifecycleState) -> bool {
    use BundleLifecycleState as S;
    matches!(state, S::Warming | S::Ready | S::Draining)
}

/// Decides, and takes away what is to go.
pub(crate) fn apply(inner: &Inner, input: &RetentionInput) -> Result<RetentionOutcome, DistError> {
    let began = inner.store.options().clock.now();
    let mut outcome = evaluate::evaluate(input, inner.now_secs());
    let victims: Vec<(&str, Result<Digest, DistError>)> = outcome
        .decisions
        .iter()
        .filter(|decision| decision.decision == RetentionDisposition::Evict)
        .map(|decision| (decision.cache_key.as_str(), cache::parse_digest(&decision.cache_key)))
        .collect();
    let known = victims.iter().filter_map(|(_, pin)| pin.as_ref().ok()).copied().collect();
    let mut gone = evict_all(inner, known, began)?.into_iter();
    let report = &mut outcome.report;
    for (key, pin) in victims {
        let bytes = pin.ok().and_then(|_| gone.next()).flatten();
        note(report, key, bytes);
    }
    Ok(outcome)
}

/// Takes away what was decided on at `began`. For each of `pins` the bytes that were given back; `None` for one that stays, or
/// was gone already.
pub(super) fn evict_all(inner: &Inner, pins: Vec<Digest>, began: SystemTime) -> Result<Vec<Option<u64>>, DistError> {
    // The lists of the caller tell what was staged when it decided; what is staged since then, they cannot.
    let was_staged = |pin: &Digest| {
        let record = inner.store.bundle(&BundleId::of(*pin)).ok().flatten();
        record.is_some_and(|record| record.lifecycle_state == BundleLifecycleState::Staged)
    };
    let victims: Vec<(Digest, bool)> = pins.into_iter().map(|pin| (pin, was_staged(&pin))).collect();
    let mut gone = Vec::with_capacity(victims.len());
    for (pin, was_staged) in victims {
        let may_go = |state| !is_in_use(state) && (was_staged || state != BundleLifecycleState::Staged);
        let terms = EvictTerms { unused_since: Some(began), bundle: Some(&may_go) };
        gone.push(match evict(inner, &pin, terms)? {
            Evicted::Gone { bytes } => Some(bytes),
            Evicted::Absent | Evicted::Kept(_) => None,
        });
    }
    delete(inner)?;
    Ok(gone)
}

/// Notes what became of an entry that was to go.
pub(super) fn note(report: &mut RetentionReport, key: &str, bytes: Option<u64>) {
    if let Some(bytes) = bytes {
        report.bytes_reclaimed += bytes;
    } else {
        report.evicted -= 1;
        report.refusals.push(key.to_owned());
    }
}

/// Evicts one entry. One whose bundle record cannot be read stays, and that is said.
fn evict(inner: &Inner, pin: &Digest, terms: EvictTerms<'_>) -> Result<Evicted, DistError> {
    match inner.store.evict(pin, terms) {
        Err(error) if matches!(error.kind(), StoreErrorKind::MalformedRecord | StoreErrorKind::NewerFormat) => {
            inner.warn(&format!("{pin} stays: {}", chain(&error)));
            Ok(Evicted::Kept(Kept::Protected))
        }
        other => other.map_err(|error| cache_error(pin, error)),
    }
}

fn cache_error(pin: &Digest, error: StoreError) -> DistError {
    DistError::from_store(&pin.to_string(), error)
}

fn delete(inner: &Inner) -> Result<(), DistError> {
    inner.store.empty_trash_for(TO_THE_END).map(|_| ()).map_err(|error| DistError::from_store("the cache", error))
}

/// Removes entries that somebody names. Every digest is parsed before anything is touched; what is in use is refused and
/// reported, not waited for.
pub(crate) fn remove(inner: &Inner, digests: &[String], options: RemoveOptions) -> Result<RetentionReport, DistError> {
    let parsed = digests.iter().map(|digest| cache::parse_digest(digest)).collect::<Result<Vec<_>, _>>()?;
    let mut report = RetentionReport { scanned_entries: parsed.len(), ..RetentionReport::default() };
    for pin in &parsed {
        let outcome =
            if options.dry_run { would_remove(inner, pin, options.force)? } else { take(inner, pin, options.force)? };
        match outcome {
            Evicted::Gone { bytes } => {
                report.evicted += 1;
                report.bytes_reclaimed += bytes;
            }
            Evicted::Absent => {}
            Evicted::Kept(why) => {
                report.kept += 1;
                report.protected += usize::from(why == Kept::Protected);
                report.refusals.push(pin.to_string());
            }
        }
    }
    if report.evicted > 0 && !options.dry_run {
        delete(inner)?;
    }
    Ok(report)
}

fn take(inner: &Inner, pin: &Digest, force: bool) -> Result<Evicted, DistError> {
    let may_go = |state| !is_in_use(state);
    evict(inner, pin, EvictTerms { unused_since: None, bundle: if force { None } else { Some(&may_go) } })
}

/// What [`take`] would do, as far as that can be told without a lock.
fn would_remove(inner: &Inner, pin: &Digest, force: bool) -> Result<Evicted, DistError> {
    let is_here = inner.store.own_size(pin).map_err(|error| cache_error(pin, error))?;
    let Some(size) = is_here else { return Ok(Evicted::Absent) };
    let in_use = match inner.store.bundle(&BundleId::of(*pin)) {
        Ok(record) => record.is_some_and(|record| is_in_use(record.lifecycle_state)),
        Err(error) => {
            inner.warn(&chain(&error));
            true
        }
    };
    Ok(if in_use && !force { Evicted::Kept(Kept::Protected) } else { Evicted::Gone { bytes: size } })
}

impl DistClient {
    /// Decides which entries stay and which go, from the input and the present alone: touches nothing, opens nothing.
    ///
    /// The reasons and their order: an entry stays as `active_bundle`, `session_reference`, `warming_bundle`, `ready_bundle`,
    /// `draining_bundle`, `staged_bundle` or `rollback_depth`, whichever applies first. Of the others those go first that are
    /// known to be wrong (`corrupt_entry`), then those that were unused longest, then by key: for their age
    /// (`max_age_exceeded`), or as long as all that is left has too many bytes (`cache_budget`). The rest is `within_policy`.
    ///
    /// # Errors
    /// None today.
    pub fn evaluate_retention(&self, input: &RetentionInput) -> Result<RetentionOutcome, DistError> {
        Ok(evaluate::evaluate(input, self.inner.now_secs()))
    }

    /// Decides as [`DistClient::evaluate_retention`] does, and takes away what is to go, with its bundle record.
    ///
    /// Everything that protects an entry is asked again under its locks. An entry that somebody works on, holds a lease of,
    /// opened since this call began, whose bundle was staged since then, or whose bundle is warming, ready or draining, stays
    /// whatever the input says; it is named in `refusals`, and so is one that is gone already.
    ///
    /// # Errors
    /// [`DistError::CacheError`] when the cache cannot be written to; what was evicted before stays evicted.
    pub fn apply_retention(&self, input: &RetentionInput) -> Result<RetentionOutcome, DistError> {
        apply(&self.inner, input)
    }

    /// What retention decides on, from the cache as it is: all entries, the bundles by the state of their records, the cap of
    /// the options. No age, no rollback depth, nothing active, no session; the caller adds what it knows.
    ///
    /// # Errors
    /// [`DistError::CacheError`] when the cache cannot be listed, or a bundle record cannot be read: without it nobody knows
    /// what it protects.
    pub fn retention_input(&self) -> Result<RetentionInput, DistError> {
        super::input::of_cache(&self.inner)
    }

    /// Removes entries by digest and reports what that did. An entry in use stays and is named in `refusals`: one that
    /// somebody works on or holds a lease of, or whose bundle is warming, ready or draining. The record of a bundle goes with
    /// its entry.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] for a text that is no digest, before anything is touched; [`DistError::CacheError`].
    pub fn remove(&self, digests: &[String]) -> Result<RetentionReport, DistError> {
        self.remove_with(digests, RemoveOptions::default())
    }

    /// As [`DistClient::remove`], with a choice.
    ///
    /// # Errors
    /// As [`DistClient::remove`].
    pub fn remove_with(&self, digests: &[String], options: RemoveOptions) -> Result<RetentionReport, DistError> {
        remove(&self.inner, digests, options)
    }
}
