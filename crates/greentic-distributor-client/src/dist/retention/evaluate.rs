//! The decisions: pure, from the input and the time alone.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

use greentic_dist_store::{Candidate, Limits, Protection, Reason, Verdict, plan};
use greentic_dist_types::CacheEntryState;

use super::{RetentionDecision, RetentionDisposition, RetentionInput, RetentionOutcome, RetentionReport};
use crate::dist::CacheEntry;

/// An entry to decide on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<K> {
    /// What it is named by.
    pub(crate) key: K,
    /// The digest in the id of its bundle.
    pub(crate) digest: K,
    pub(crate) size_bytes: u64,
    /// When it was last used, unix seconds.
    pub(crate) used_at: u64,
    /// When it was fetched, unix seconds.
    pub(crate) fetched_at: u64,
    pub(crate) corrupt: bool,
}

impl<K: Display> Subject<K> {
    fn bundle_id(&self) -> String {
        format!("bundle:{}", self.digest)
    }
}

impl<'a> Subject<&'a str> {
    fn of(entry: &'a CacheEntry) -> Self {
        Self {
            key: &entry.cache_key,
            digest: &entry.digest,
            size_bytes: entry.size_bytes,
            used_at: entry.last_accessed_at,
            fetched_at: entry.fetched_at,
            corrupt: entry.state == CacheEntryState::Corrupt,
        }
    }
}

/// Decides on every entry of the input, as of `now` in unix seconds.
pub(crate) fn evaluate(input: &RetentionInput, now: u64) -> RetentionOutcome {
    let subjects: Vec<Subject<&str>> = input.entries.iter().map(Subject::of).collect();
    let verdicts = verdicts(&subjects, input, now);
    let report = report(&verdicts);
    let decisions =
        subjects.iter().zip(verdicts).map(|(subject, verdict)| decision(subject, verdict, input, now)).collect();
    RetentionOutcome { decisions, report }
}

/// Decides on `subjects`, in their order, by everything in the input but its entries.
pub(crate) fn verdicts<K: Ord + Copy + Display>(
    subjects: &[Subject<K>],
    input: &RetentionInput,
    now: u64,
) -> Vec<Verdict> {
    let protections = Protections::of(input, subjects);
    let candidates: Vec<Candidate<K>> = subjects
        .iter()
        .map(|subject| Candidate {
            key: subject.key,
            size_bytes: subject.size_bytes,
            used_at: Duration::from_secs(subject.used_at),
            corrupt: subject.corrupt,
            protection: protections.get(&subject.bundle_id()),
        })
        .collect();
    let limits = Limits {
        now: Duration::from_secs(now),
        max_bytes: input.max_cache_bytes,
        max_age: input.max_entry_age.map(Duration::from_secs),
    };
    plan(&candidates, &limits)
}

/// A decision in words.
pub(crate) fn decision<K: Display>(
    subject: &Subject<K>,
    verdict: Verdict,
    input: &RetentionInput,
    now: u64,
) -> RetentionDecision {
    RetentionDecision {
        cache_key: subject.key.to_string(),
        bundle_id: subject.bundle_id(),
        decision: disposition(verdict),
        reason_code: verdict.code().to_owned(),
        reason_detail: detail(verdict, input, now.saturating_sub(subject.used_at)),
    }
}

const fn disposition(verdict: Verdict) -> RetentionDisposition {
    match verdict {
        Verdict::Keep => RetentionDisposition::Keep,
        Verdict::Evict(_) => RetentionDisposition::Evict,
        Verdict::Protect(_) => RetentionDisposition::Protect,
    }
}

fn detail(verdict: Verdict, input: &RetentionInput, age: u64) -> String {
    match verdict {
        Verdict::Keep => "nothing asks for its place".to_owned(),
        Verdict::Evict(Reason::Corrupt) => "its bytes are known to be wrong".to_owned(),
        Verdict::Evict(Reason::MaxAge) => {
            format!("unused for {age} s, and {} s are allowed", input.max_entry_age.unwrap_or_default())
        }
        Verdict::Evict(Reason::Budget) => {
            format!("unused for {age} s, longest of what is left, and {} bytes are allowed", input.max_cache_bytes)
        }
        Verdict::Protect(protection) => match protection {
            Protection::Active => "its bundle is active",
            Protection::Session => "a session refers to its bundle",
            Protection::Warming => "its bundle is warming up",
            Protection::Ready => "its bundle is ready",
            Protection::Draining => "its bundle is draining",
            Protection::Staged => "its bundle is staged",
            Protection::RollbackDepth => "it is kept to go back to",
            Protection::Fetched => "it was fetched just now",
            Protection::InUse => "somebody uses it",
        }
        .to_owned(),
    }
}

/// The sum of decisions.
pub(crate) fn report(verdicts: &[Verdict]) -> RetentionReport {
    let count = |wanted| verdicts.iter().filter(|verdict| disposition(**verdict) == wanted).count();
    RetentionReport {
        scanned_entries: verdicts.len(),
        kept: count(RetentionDisposition::Keep),
        evicted: count(RetentionDisposition::Evict),
        protected: count(RetentionDisposition::Protect),
        bytes_reclaimed: 0,
        refusals: Vec::new(),
    }
}

/// Which bundles something protects; the first that applies is the reason.
struct Protections<'a>(Vec<(Protection, HashSet<&'a str>)>, HashSet<String>);

impl<'a> Protections<'a> {
    fn of<K: Ord + Display>(input: &'a RetentionInput, subjects: &[Subject<K>]) -> Self {
        let lists = [
            (Protection::Active, &input.active_bundle_ids),
            (Protection::Session, &input.session_referenced_bundle_ids),
            (Protection::Warming, &input.warming_bundle_ids),
            (Protection::Ready, &input.ready_bundle_ids),
            (Protection::Draining, &input.draining_bundle_ids),
            (Protection::Staged, &input.staged_bundle_ids),
        ];
        let sets = lists.map(|(protection, ids)| (protection, ids.iter().map(String::as_str).collect()));
        Self(sets.into(), rollback_targets(input, subjects))
    }

    fn get(&self, bundle_id: &str) -> Option<Protection> {
        let listed = self.0.iter().find(|(_, ids)| ids.contains(bundle_id)).map(|(protection, _)| *protection);
        listed.or_else(|| self.1.contains(bundle_id).then_some(Protection::RollbackDepth))
    }
}

/// The bundles to go back to: the last staged ones that are not active; where nothing is staged, the last fetched ones.
fn rollback_targets<K: Ord + Display>(input: &RetentionInput, subjects: &[Subject<K>]) -> HashSet<String> {
    let active: HashSet<&str> = input.active_bundle_ids.iter().map(String::as_str).collect();
    let by_age: Vec<String> = if input.minimum_rollback_depth == 0 {
        Vec::new()
    } else if input.staged_bundle_ids.is_empty() {
        let mut subjects: Vec<&Subject<K>> = subjects.iter().collect();
        subjects.sort_by(|a, b| (a.fetched_at, &a.key).cmp(&(b.fetched_at, &b.key)));
        subjects.into_iter().map(Subject::bundle_id).collect()
    } else {
        input.staged_bundle_ids.clone()
    };
    let inactive = by_age.into_iter().rev().filter(|id| !active.contains(id.as_str()));
    inactive.take(input.minimum_rollback_depth).collect()
}

#[cfg(test)]
mod tests {
    use super::super::RetentionEnvironment;
    use super::*;
    use crate::dist::{ArtifactSourceKind, ArtifactType, SourceSnapshot};

    fn entry(name: &str, used_at: u64) -> CacheEntry {
        let digest = greentic_dist_types::Digest::sha256(name.as_bytes()).to_string();
        CacheEntry {
            format_version: 1,
            cache_key: digest.clone(),
            digest,
            media_type: "application/wasm".into(),
            size_bytes: 10,
            artifact_type: ArtifactType::Component,
            source_kind: ArtifactSourceKind::File,
            raw_ref: name.into(),
            canonical_ref: name.into(),
            fetched_at: used_at,
            last_accessed_at: used_at,
            last_verified_at: None,
            state: CacheEntryState::Ready,
            advisory_epoch: None,
            signature_summary: None,
            local_path: "/nowhere".into(),
            source_snapshot: SourceSnapshot {
                raw_ref: name.into(),
                canonical_ref: name.into(),
                source_kind: ArtifactSourceKind::File,
                authoritative: true,
            },
        }
    }

    fn input(entries: Vec<CacheEntry>) -> RetentionInput {
        RetentionInput {
            entries,
            active_bundle_ids: Vec::new(),
            staged_bundle_ids: Vec::new(),
            warming_bundle_ids: Vec::new(),
            ready_bundle_ids: Vec::new(),
            draining_bundle_ids: Vec::new(),
            session_referenced_bundle_ids: Vec::new(),
            max_cache_bytes: 1,
            max_entry_age: None,
            minimum_rollback_depth: 0,
            environment: RetentionEnvironment::Dev,
        }
    }

    fn bundle_id(entry: &CacheEntry) -> String {
        Subject::of(entry).bundle_id()
    }

    fn codes(outcome: &RetentionOutcome) -> Vec<&str> {
        outcome.decisions.iter().map(|decision| decision.reason_code.as_str()).collect()
    }

    #[test]
    fn each_list_protects_by_its_name_and_the_first_that_applies_is_the_reason() {
        let names = ["active", "session", "warming", "ready", "draining", "staged", "none"];
        let entries: Vec<CacheEntry> = names.iter().map(|name| entry(name, 5)).collect();
        let ids: Vec<String> = entries.iter().map(bundle_id).collect();
        let mut input = input(entries);
        // Each list names its own bundle and all that come later.
        let from = |first: usize| ids[first..6].to_vec();
        input.active_bundle_ids = from(0)[..1].to_vec();
        input.session_referenced_bundle_ids = from(0)[..2].to_vec();
        input.warming_bundle_ids = from(1)[..2].to_vec();
        input.ready_bundle_ids = from(2)[..2].to_vec();
        input.draining_bundle_ids = from(3)[..2].to_vec();
        input.staged_bundle_ids = from(4)[..2].to_vec();
        let outcome = evaluate(&input, 9);
        assert_eq!(
            codes(&outcome),
            [
                "active_bundle",
                "session_reference",
                "warming_bundle",
                "ready_bundle",
                "draining_bundle",
                "staged_bundle",
                "cache_budget"
            ]
        );
        let report = outcome.report;
        assert_eq!((report.scanned_entries, report.kept, report.evicted, report.protected), (7, 0, 1, 6));
        assert_eq!((report.bytes_reclaimed, report.refusals), (0, Vec::<String>::new()));
    }

    #[test]
    fn decisions_stand_in_the_order_of_the_entries() {
        let entries: Vec<CacheEntry> = (0..20).map(|number| entry(&number.to_string(), 100 - number)).collect();
        let keys: Vec<String> = entries.iter().map(|entry| entry.cache_key.clone()).collect();
        let outcome = evaluate(&input(entries), 200);
        let decided: Vec<String> = outcome.decisions.into_iter().map(|decision| decision.cache_key).collect();
        assert_eq!(decided, keys);
    }

    #[test]
    fn the_last_fetched_that_is_not_active_is_kept_to_go_back_to() {
        let entries = vec![entry("one", 1), entry("two", 2), entry("three", 3)];
        let mut input = input(entries);
        input.active_bundle_ids = vec![bundle_id(&input.entries[2])];
        input.minimum_rollback_depth = 1;
        assert_eq!(codes(&evaluate(&input, 9)), ["cache_budget", "rollback_depth", "active_bundle"]);
        input.minimum_rollback_depth = 9;
        assert_eq!(codes(&evaluate(&input, 9)), ["rollback_depth", "rollback_depth", "active_bundle"]);
    }

    #[test]
    fn staged_bundles_are_the_ones_to_go_back_to_in_their_order() {
        let entries = vec![entry("one", 1), entry("two", 2), entry("three", 3)];
        let ids: Vec<String> = entries.iter().map(bundle_id).collect();
        let mut input = input(entries);
        input.staged_bundle_ids = vec![ids[1].clone(), ids[0].clone()];
        input.minimum_rollback_depth = 1;
        let subjects: Vec<_> = input.entries.iter().map(Subject::of).collect();
        assert_eq!(rollback_targets(&input, &subjects), HashSet::from([ids[0].clone()]));
        // With staged ones there, the last fetched one is not kept for it.
        assert_eq!(codes(&evaluate(&input, 9)), ["staged_bundle", "staged_bundle", "cache_budget"]);
    }

    #[test]
    fn the_corrupt_go_first_then_the_oldest_then_by_key() {
        let mut entries = vec![entry("new", 9), entry("old", 1), entry("broken", 9), entry("mid", 5)];
        entries[2].state = CacheEntryState::Corrupt;
        let mut input = input(entries);
        input.max_cache_bytes = 20;
        assert_eq!(codes(&evaluate(&input, 10)), ["within_policy", "cache_budget", "corrupt_entry", "within_policy"]);
        input.entries.truncate(2);
        input.entries[0].last_accessed_at = 1;
        input.max_cache_bytes = 10;
        let smaller = usize::from(input.entries[1].cache_key < input.entries[0].cache_key);
        assert_eq!(codes(&evaluate(&input, 10))[smaller], "cache_budget");
    }

    #[test]
    fn an_entry_of_exactly_the_allowed_age_stays() {
        let mut input = input(vec![entry("a", 10), entry("b", 9)]);
        (input.max_cache_bytes, input.max_entry_age) = (0, Some(90));
        assert_eq!(codes(&evaluate(&input, 100)), ["within_policy", "max_age_exceeded"]);
        input.max_entry_age = Some(0);
        assert_eq!(codes(&evaluate(&input, 10)), ["within_policy", "max_age_exceeded"]);
    }

    #[test]
    fn what_is_corrupt_and_protected_stays() {
        let mut input = input(vec![entry("a", 1)]);
        input.entries[0].state = CacheEntryState::Corrupt;
        input.ready_bundle_ids = vec![bundle_id(&input.entries[0])];
        assert_eq!(codes(&evaluate(&input, 9)), ["ready_bundle"]);
    }

    #[test]
    fn the_environment_changes_nothing() {
        let mut input = input(vec![entry("a", 1), entry("b", 2)]);
        let dev = evaluate(&input, 9);
        for environment in [RetentionEnvironment::Staging, RetentionEnvironment::Prod] {
            input.environment = environment;
            assert_eq!(evaluate(&input, 9), dev);
        }
    }
}
