//! Any order of operations on bundles, of damage and of restarts, does what a map of states does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use greentic_dist_types::Digest;
use greentic_distributor_client::dist::BundleLifecycleState as State;
use greentic_distributor_client::dist::{
    CachePolicy, DistClient, DistErrorKind, IntegrationErrorCode as Code, VerificationPolicy,
};
use proptest::prelude::*;

use crate::bundles::{back_to, staging, warming};
use crate::support::Home;

/// Artifacts that take part.
const ARTIFACTS: usize = 3;

/// The entry of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Good,
    /// Other bytes are in the file.
    Wrong,
    /// Wrong bytes were found, and the entry is marked.
    Marked,
    /// The record is there, the artifact is not.
    Hollow,
    Gone,
}

/// The record of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    None,
    Is(State),
    Junk,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Stage,
    Warm,
    Rollback,
    Set(State),
    Move(State, State),
    Damage,
    RemoveBytes,
    RemoveEntry,
    Scribble,
    RemoveRecord,
    Evict,
    Restart,
}

fn state() -> impl Strategy<Value = State> {
    proptest::sample::select(State::ALL.to_vec())
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Stage),
        3 => Just(Operation::Warm),
        2 => Just(Operation::Rollback),
        3 => state().prop_map(Operation::Set),
        4 => (state(), state()).prop_map(|(from, to)| Operation::Move(from, to)),
        2 => Just(Operation::Damage),
        1 => Just(Operation::RemoveBytes),
        1 => Just(Operation::RemoveEntry),
        1 => Just(Operation::Scribble),
        1 => Just(Operation::RemoveRecord),
        1 => Just(Operation::Evict),
        1 => Just(Operation::Restart),
    ]
}

struct World {
    home: Home,
    client: DistClient,
    runtime: tokio::runtime::Runtime,
    entries: BTreeMap<usize, Entry>,
    records: BTreeMap<usize, Record>,
}

fn bytes_of(number: usize) -> Vec<u8> {
    format!("\0asm number {number}").into_bytes()
}

fn pin(number: usize) -> String {
    Digest::sha256(&bytes_of(number)).to_string()
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        for number in 0..ARTIFACTS {
            fs::write(home.outside().join(format!("{number}.wasm")), bytes_of(number)).unwrap();
        }
        Self {
            client: home.client(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            entries: (0..ARTIFACTS).map(|number| (number, Entry::Gone)).collect(),
            records: (0..ARTIFACTS).map(|number| (number, Record::None)).collect(),
            home,
        }
    }

    fn record_path(&self, number: usize) -> PathBuf {
        self.home.cache().join("bundles").join(format!("bundle__{}.json", pin(number).replace(':', "__")))
    }

    fn stage(&mut self, number: usize) {
        let reference = self.home.outside().join(format!("{number}.wasm")).display().to_string();
        let input = staging(&reference);
        let policy = VerificationPolicy::default();
        let staged = self.runtime.block_on(self.client.stage_bundle(&input, None, &policy, CachePolicy));
        // Whatever was wrong with the entry, the file is there to be read again.
        self.entries.insert(number, Entry::Good);
        let old = self.records[&number];
        let Record::Junk = old else {
            let kept = match old {
                Record::Is(state) if state.protects() => state,
                _ => State::Staged,
            };
            self.records.insert(number, Record::Is(kept));
            assert_eq!(staged.unwrap().bundle_id, format!("bundle:{}", pin(number)));
            return;
        };
        assert_eq!(staged.unwrap_err().code, Code::BundleOpenFailed);
    }

    /// Opens the artifact as warm and rollback do, and notes that wrong bytes were found.
    fn opens(&mut self, number: usize) -> Result<(), Code> {
        match self.entries[&number] {
            Entry::Good => Ok(()),
            Entry::Wrong => {
                self.entries.insert(number, Entry::Marked);
                Err(Code::DigestMismatch)
            }
            Entry::Marked | Entry::Hollow => Err(Code::CacheCorrupt),
            Entry::Gone => Err(Code::CacheMiss),
        }
    }

    fn warm(&mut self, number: usize) {
        let expected = self.opens(number);
        let warmed = self.client.warm_bundle(&warming(&pin(number)), None, &VerificationPolicy::default());
        assert_eq!(warmed.map(|_| ()).map_err(|error| error.code), expected);
    }

    fn roll_back(&mut self, number: usize) {
        let expected = match self.records[&number] {
            Record::Junk => Err(Code::BundleOpenFailed),
            _ => self.opens(number),
        };
        let back = self.client.rollback_bundle(&back_to(&pin(number)), None, &VerificationPolicy::default());
        assert_eq!(back.map(|_| ()).map_err(|error| error.code), expected);
    }

    fn change(&mut self, number: usize, from: Option<State>, to: State) {
        let id = format!("bundle:{}", pin(number));
        let changed = match from {
            None => self.client.set_bundle_state(&id, to),
            Some(from) => self.client.try_transition(&id, from, to),
        };
        let expected = match (self.records[&number], from) {
            (Record::None, _) => Err(DistErrorKind::NotFound),
            (Record::Junk, _) => Err(DistErrorKind::Internal),
            (Record::Is(now), Some(from)) if now != from || !from.may_become(to) => Err(DistErrorKind::Policy),
            (Record::Is(_), _) => {
                self.records.insert(number, Record::Is(to));
                Ok(to)
            }
        };
        assert_eq!(changed.map(|record| record.lifecycle_state).map_err(|error| error.kind()), expected);
    }

    fn apply(&mut self, number: usize, operation: Operation) {
        let (entry, record) = (self.entries[&number], self.records[&number]);
        let dir = self.home.entry(pin(number));
        let blob = dir.join("component.wasm");
        match operation {
            Operation::Stage => self.stage(number),
            Operation::Warm => self.warm(number),
            Operation::Rollback => self.roll_back(number),
            Operation::Set(to) => self.change(number, None, to),
            Operation::Move(from, to) => self.change(number, Some(from), to),
            Operation::Damage if entry != Entry::Gone && entry != Entry::Hollow => {
                fs::remove_file(&blob).unwrap();
                // As long, and other bytes.
                fs::write(&blob, bytes_of(number).to_ascii_uppercase()).unwrap();
                let damaged = if entry == Entry::Marked { entry } else { Entry::Wrong };
                self.entries.insert(number, damaged);
            }
            Operation::RemoveBytes if entry == Entry::Good || entry == Entry::Wrong => {
                fs::remove_file(&blob).unwrap();
                self.entries.insert(number, Entry::Hollow);
            }
            Operation::RemoveEntry if entry != Entry::Gone => {
                fs::remove_dir_all(&dir).unwrap();
                self.entries.insert(number, Entry::Gone);
            }
            Operation::Scribble if record != Record::None => {
                fs::write(self.record_path(number), b"{\"bundle_id\":").unwrap();
                self.records.insert(number, Record::Junk);
            }
            Operation::RemoveRecord if record != Record::None => {
                fs::remove_file(self.record_path(number)).unwrap();
                self.records.insert(number, Record::None);
            }
            Operation::Evict if record != Record::Junk && entry != Entry::Gone => {
                self.client.remove_cached(&[pin(number)]).unwrap();
                self.entries.insert(number, Entry::Gone);
                self.records.insert(number, Record::None);
            }
            Operation::Restart => self.client = self.home.client(),
            // Nothing is there to be damaged.
            _ => {}
        }
    }

    /// The records on disk are those of the model.
    fn check(&self) {
        let listed = self.client.list_bundles();
        if self.records.values().any(|record| *record == Record::Junk) {
            assert_eq!(listed.unwrap_err().kind(), DistErrorKind::Internal);
        } else {
            let listed: BTreeMap<String, State> =
                listed.unwrap().into_iter().map(|record| (record.cache_key, record.lifecycle_state)).collect();
            let expected: BTreeMap<String, State> = self
                .records
                .iter()
                .filter_map(|(number, record)| match record {
                    Record::Is(state) => Some((pin(*number), *state)),
                    _ => None,
                })
                .collect();
            assert_eq!(listed, expected);
        }
        for sub in ["tmp", "locks", "trash"] {
            let left = fs::read_dir(self.home.cache().join(sub)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{sub}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_bundles_is_that_of_a_map_of_states(
        operations in proptest::collection::vec((0..ARTIFACTS, operation()), 1..40),
    ) {
        let mut world = World::new();
        for (number, operation) in operations {
            world.apply(number, operation);
            world.check();
        }
    }
}
