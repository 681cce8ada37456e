//! Which repositories a mirror had nothing of a short while ago, while others had: their content is asked of the others first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long that counts: as long as one piece of work takes, and not so long that a mirror that is filled meanwhile is missed.
const KEPT: Duration = Duration::from_secs(30);
/// Most repositories remembered of one mirror; beyond it the table starts anew.
const REPOSITORIES: usize = 1_024;

/// What a mirror had lately, by repository.
#[derive(Debug, Default)]
pub(super) struct Holdings(Mutex<HashMap<String, Holding>>);

#[derive(Clone, Copy, Debug)]
struct Holding {
    has_some: bool,
    until: Instant,
}

impl Holdings {
    /// Notes that the mirror has served something of a repository.
    pub(super) fn serves(&self, repository: &str, now: Instant) {
        self.put(repository, Holding { has_some: true, until: now + KEPT });
    }

    /// Notes that the mirror had not what another endpoint had then. Of a repository it has served from lately, that is one gap.
    pub(super) fn lacks(&self, repository: &str, now: Instant) {
        let serves = self.of(repository, now).is_some_and(|holding| holding.has_some);
        if !serves {
            self.put(repository, Holding { has_some: false, until: now + KEPT });
        }
    }

    /// Whether others are asked for content of a repository first.
    pub(super) fn is_without(&self, repository: &str, now: Instant) -> bool {
        self.of(repository, now).is_some_and(|holding| !holding.has_some)
    }

    fn of(&self, repository: &str, now: Instant) -> Option<Holding> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(repository).copied().filter(|holding| now < holding.until)
    }

    fn put(&self, repository: &str, holding: Holding) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REPOSITORIES && !known.contains_key(repository) {
            known.clear();
        }
        known.insert(repository.to_owned(), holding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_without_a_repository_is_one_for_a_while_and_a_gap_makes_none() {
        let (holdings, start) = (Holdings::default(), Instant::now());
        holdings.lacks("acme/hello", start);
        assert!(holdings.is_without("acme/hello", start) && !holdings.is_without("acme/other", start));
        assert!(!holdings.is_without("acme/hello", start + KEPT), "it may have been filled meanwhile");

        holdings.serves("acme/hello", start);
        assert!(!holdings.is_without("acme/hello", start));
        holdings.lacks("acme/hello", start);
        assert!(!holdings.is_without("acme/hello", start), "one gap");
        holdings.lacks("acme/hello", start + KEPT);
        assert!(holdings.is_without("acme/hello", start + KEPT), "it has served nothing lately");
    }

    #[test]
    fn only_so_many_repositories_are_remembered() {
        let (holdings, now) = (Holdings::default(), Instant::now());
        for number in 0..=REPOSITORIES {
            holdings.lacks(&format!("acme/r{number}"), now);
        }
        assert!(!holdings.is_without("acme/r0", now) && holdings.is_without(&format!("acme/r{REPOSITORIES}"), now));
    }
}
