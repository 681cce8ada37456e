//! A plan for the whole cache: of each entry only that is kept which decides about it.

use std::collections::HashSet;
use std::time::SystemTime;

use greentic_dist_store::{Surveyed, Verdict};
use greentic_dist_types::Digest;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::evaluate::{self, Subject};
use super::{RetentionDecision, RetentionInput, RetentionReport, apply, input};
use crate::dist::client::Inner;
use crate::dist::{DistClient, DistError};

/// What [`RetentionOutcome`](super::RetentionOutcome) is, for a cache of any size: the decisions are put into words one by one
/// when they are asked for. Serialized it is the same document.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Everything but the entries.
    input: RetentionInput,
    entries: Vec<Surveyed>,
    verdicts: Vec<Verdict>,
    began: SystemTime,
    now: u64,
    report: RetentionReport,
}

impl Planned {
    fn new(inner: &Inner, change: impl FnOnce(&mut RetentionInput)) -> Result<Self, DistError> {
        let (began, now) = (inner.store.options().clock.now(), inner.now_secs());
        let mut input = input::of_bundles(inner)?;
        change(&mut input);
        let surveyed = inner.store.survey_records();
        let entries = surveyed.map_err(|error| DistError::from_store("the cache", error))?;
        let subjects: Vec<Subject<&Digest>> = entries.iter().map(subject).collect();
        let verdicts = evaluate::verdicts(&subjects, &input, now);
        let report = evaluate::report(&verdicts);
        Ok(Self { input, entries, verdicts, began, now, report })
    }

    /// The sum.
    pub(crate) const fn report(&self) -> &RetentionReport {
        &self.report
    }

    /// What is to go, with the reason, in the order of the digests.
    pub(crate) fn evictions(&self) -> impl Iterator<Item = (&Surveyed, Verdict)> {
        let decided = self.entries.iter().zip(self.verdicts.iter().copied());
        decided.filter(|(_, verdict)| matches!(verdict, Verdict::Evict(_)))
    }

    /// What was to go and stays, or was gone already.
    pub(crate) fn refused(&self) -> HashSet<&str> {
        self.report.refusals.iter().map(String::as_str).collect()
    }

    /// Takes away what is to go, as [`DistClient::apply_retention`] does.
    pub(crate) fn apply(&mut self, client: &DistClient) -> Result<(), DistError> {
        let pins: Vec<Digest> = self.evictions().map(|(entry, _)| entry.pin).collect();
        let gone = apply::evict_all(&client.inner, pins.clone(), self.began)?;
        for (pin, bytes) in pins.iter().zip(gone) {
            apply::note(&mut self.report, &pin.to_string(), bytes);
        }
        Ok(())
    }

    fn decisions(&self) -> impl Iterator<Item = RetentionDecision> {
        let decided = self.entries.iter().zip(&self.verdicts);
        decided.map(|(entry, verdict)| evaluate::decision(&subject(entry), *verdict, &self.input, self.now))
    }
}

fn subject(entry: &Surveyed) -> Subject<&Digest> {
    let since = entry.used_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Subject {
        key: &entry.pin,
        digest: &entry.pin,
        size_bytes: entry.size_bytes,
        used_at: since.as_secs(),
        fetched_at: entry.fetched_at,
        corrupt: entry.corrupt,
    }
}

/// The decisions of a plan.
struct Decisions<'a>(&'a Planned);

impl Serialize for Decisions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.decisions())
    }
}

impl Serialize for Planned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("RetentionOutcome", 2)?;
        document.serialize_field("decisions", &Decisions(self))?;
        document.serialize_field("report", &self.report)?;
        document.end()
    }
}

impl DistClient {
    /// Plans for the whole cache as it is, by what `change` makes of [`DistClient::retention_input`] without its entries.
    ///
    /// # Errors
    /// As [`DistClient::retention_input`].
    pub(crate) fn plan_retention(&self, change: impl FnOnce(&mut RetentionInput)) -> Result<Planned, DistError> {
        Planned::new(&self.inner, change)
    }
}
