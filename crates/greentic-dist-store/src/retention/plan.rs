//! The planner: which entries stay, which go, and why. Pure; it looks at nothing but its arguments.

use std::cmp::Reverse;
use std::time::Duration;

/// What the planner knows of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<K> {
    /// What the entry is named by; the last thing that decides the order.
    pub key: K,
    /// Size of its artifact in bytes.
    pub size_bytes: u64,
    /// When it was last used, since the beginning of 1970.
    pub used_at: Duration,
    /// Whether its bytes are known to be wrong.
    pub corrupt: bool,
    /// What keeps it, whatever the limits say.
    pub protection: Option<Protection>,
}

/// What the entries have to fit into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The present, since the beginning of 1970.
    pub now: Duration,
    /// Bytes that all entries together may have; 0 for any number.
    pub max_bytes: u64,
    /// How long an entry may go unused; `None` for ever. One of exactly this age stays.
    pub max_age: Option<Duration>,
}

/// Why an entry stays whatever the limits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Its bundle is active.
    Active,
    /// A session refers to its bundle.
    Session,
    /// Its bundle is warming up.
    Warming,
    /// Its bundle is ready.
    Ready,
    /// Its bundle is draining.
    Draining,
    /// Its bundle is staged.
    Staged,
    /// It is one of those to go back to.
    RollbackDepth,
    /// The call that is making room brought it.
    Fetched,
    /// Somebody holds a lease of it, or was given its path a moment ago.
    InUse,
}

/// Why an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its bytes are wrong.
    Corrupt,
    /// It went unused for too long.
    MaxAge,
    /// The entries have more bytes than they may, and it is the one that went unused longest.
    Budget,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It stays, because nothing asks for its place.
    Keep,
    /// It goes.
    Evict(Reason),
    /// It stays, because something protects it.
    Protect(Protection),
}

impl Verdict {
    /// The stable name of the reason.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Keep => "within_policy",
            Self::Evict(Reason::Corrupt) => "corrupt_entry",
            Self::Evict(Reason::MaxAge) => "max_age_exceeded",
            Self::Evict(Reason::Budget) => "cache_budget",
            Self::Protect(protection) => match protection {
                Protection::Active => "active_bundle",
                Protection::Session => "session_reference",
                Protection::Warming => "warming_bundle",
                Protection::Ready => "ready_bundle",
                Protection::Draining => "draining_bundle",
                Protection::Staged => "staged_bundle",
                Protection::RollbackDepth => "rollback_depth",
                Protection::Fetched => "just_fetched",
                Protection::InUse => "in_use",
            },
        }
    }
}

/// Decides on each of `candidates`; the verdicts are in their order.
///
/// Those that something protects stay, and count. The others are looked at in this order: wrong bytes first, then those that
/// went unused longest, then by key. Each goes if its bytes are wrong, else if it is too old, else if all that is left still
/// has too many bytes.
pub fn plan<K: Ord>(candidates: &[Candidate<K>], limits: &Limits) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> =
        candidates.iter().map(|candidate| candidate.protection.map_or(Verdict::Keep, Verdict::Protect)).collect();
    let age = |candidate: &Candidate<K>| limits.now.saturating_sub(candidate.used_at);
    let mut order: Vec<(&Candidate<K>, &mut Verdict)> =
        candidates.iter().zip(&mut verdicts).filter(|(candidate, _)| candidate.protection.is_none()).collect();
    order.sort_by(|(a, _), (b, _)| {
        let rank = |candidate| (Reverse(age(candidate)), &candidate.key);
        b.corrupt.cmp(&a.corrupt).then_with(|| rank(*a).cmp(&rank(*b)))
    });
    // Wide enough for the sum of any sizes a record may claim.
    let mut total: u128 = candidates.iter().map(|candidate| u128::from(candidate.size_bytes)).sum();
    for (candidate, verdict) in order {
        let reason = if candidate.corrupt {
            Reason::Corrupt
        } else if limits.max_age.is_some_and(|max_age| age(candidate) > max_age) {
            Reason::MaxAge
        } else if limits.max_bytes > 0 && total > u128::from(limits.max_bytes) {
            Reason::Budget
        } else {
            continue;
        };
        *verdict = Verdict::Evict(reason);
        total -= u128::from(candidate.size_bytes);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates() -> impl Strategy<Value = Vec<Candidate<u32>>> {
        let one = (0..4_u64, 0..6_u64, prop::bool::weighted(0.1), prop::option::weighted(0.3, Just(Protection::Ready)));
        prop::collection::vec(one, 0..24).prop_map(|all| {
            let named = all.into_iter().zip(0..);
            named
                .map(|((size_bytes, used, corrupt, protection), key)| {
                    let used_at = Duration::from_secs(used);
                    Candidate { key, size_bytes, used_at, corrupt, protection }
                })
                .collect()
        })
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (0..8_u64, 0..40_u64, prop::option::of(0..6_u64)).prop_map(|(now, max_bytes, max_age)| Limits {
            now: Duration::from_secs(now),
            max_bytes,
            max_age: max_age.map(Duration::from_secs),
        })
    }

    fn evicted(candidates: &[Candidate<u32>], limits: &Limits) -> Vec<u32> {
        let verdicts = plan(candidates, limits);
        let gone = candidates.iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Evict(_)));
        let mut keys: Vec<u32> = gone.map(|(candidate, _)| candidate.key).collect();
        keys.sort_unstable();
        keys
    }

    fn without(candidates: &[Candidate<u32>], gone: &[u32]) -> Vec<Candidate<u32>> {
        candidates.iter().filter(|candidate| !gone.contains(&candidate.key)).cloned().collect()
    }

    proptest! {
        #[test]
        fn what_is_protected_stays_and_says_why(candidates in candidates(), limits in limits()) {
            let verdicts = plan(&candidates, &limits);
            prop_assert_eq!(verdicts.len(), candidates.len());
            for (candidate, verdict) in candidates.iter().zip(verdicts) {
                match candidate.protection {
                    Some(protection) => prop_assert_eq!(verdict, Verdict::Protect(protection)),
                    None => prop_assert!(!matches!(verdict, Verdict::Protect(_))),
                }
            }
        }

        #[test]
        fn the_rest_fits_the_budget_or_nothing_is_left_to_evict(candidates in candidates(), limits in limits()) {
            let left = without(&candidates, &evicted(&candidates, &limits));
            let total: u64 = left.iter().map(|candidate| candidate.size_bytes).sum();
            let evictable = left.iter().filter(|candidate| candidate.protection.is_none());
            prop_assert!(limits.max_bytes == 0 || total <= limits.max_bytes || evictable.clone().count() == 0);
            for candidate in evictable {
                prop_assert!(!candidate.corrupt);
                let age = limits.now.saturating_sub(candidate.used_at);
                prop_assert!(limits.max_age.is_none_or(|max_age| age <= max_age));
            }
        }

        #[test]
        fn nothing_more_goes_for_the_budget_than_it_needs(candidates in candidates(), limits in limits()) {
            let verdicts = plan(&candidates, &limits);
            let for_budget: Vec<&Candidate<u32>> = candidates
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| **verdict == Verdict::Evict(Reason::Budget))
                .map(|(candidate, _)| candidate)
                .collect();
            let left = without(&candidates, &evicted(&candidates, &limits));
            let total: u64 = left.iter().map(|candidate| candidate.size_bytes).sum();
            let age = |candidate: &Candidate<u32>| limits.now.saturating_sub(candidate.used_at);
            let last = for_budget.iter().min_by_key(|candidate| (age(candidate), Reverse(candidate.key)));
            if let Some(last) = last {
                prop_assert!(total + last.size_bytes > limits.max_bytes, "the last one need not have gone");
                for kept in left.iter().filter(|candidate| candidate.protection.is_none()) {
                    prop_assert!((Reverse(age(last)), last.key) < (Reverse(age(kept)), kept.key), "not the oldest went");
                }
            }
        }

        #[test]
        fn a_second_plan_over_what_is_left_evicts_nothing(candidates in candidates(), limits in limits()) {
            let left = without(&candidates, &evicted(&candidates, &limits));
            prop_assert_eq!(evicted(&left, &limits), Vec::<u32>::new());
        }

        #[test]
        fn the_order_of_the_entries_changes_nothing(candidates in candidates(), limits in limits(), seed in any::<u64>()) {
            let mut shuffled = candidates.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(evicted(&candidates, &limits), evicted(&shuffled, &limits));
        }

        #[test]
        fn a_larger_budget_never_evicts_more(candidates in candidates(), limits in limits(), more in 0..20_u64) {
            prop_assume!(limits.max_bytes > 0);
            let larger = Limits { max_bytes: limits.max_bytes + more, ..limits };
            let gone = evicted(&candidates, &limits);
            for key in evicted(&candidates, &larger) {
                prop_assert!(gone.contains(&key));
            }
        }
    }

    #[test]
    fn sizes_that_no_machine_has_are_summed_all_the_same() {
        let huge = |key, used| Candidate {
            key,
            size_bytes: u64::MAX,
            used_at: Duration::from_secs(used),
            corrupt: false,
            protection: None,
        };
        let limits = Limits { now: Duration::from_secs(9), max_bytes: u64::MAX, max_age: None };
        assert_eq!(evicted(&[huge(1, 5), huge(2, 3), huge(3, 4)], &limits), [2, 3]);
    }

    #[test]
    fn a_last_use_in_the_future_is_as_good_as_now() {
        let one = |key, used| Candidate {
            key,
            size_bytes: 8,
            used_at: Duration::from_secs(used),
            corrupt: false,
            protection: None,
        };
        let limits = Limits { now: Duration::from_secs(100), max_bytes: 16, max_age: None };
        assert_eq!(evicted(&[one(1, 9_999), one(2, 100), one(3, 99)], &limits), [3]);
        assert_eq!(evicted(&[one(2, 9_999), one(1, 100), one(3, 9_999)], &limits), [1], "then the key decides");
    }
}
