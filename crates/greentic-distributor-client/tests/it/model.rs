//! The cache against a model of it: random operations, and after each of them both say the same.

use std::collections::BTreeMap;
use std::fs;

use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::{DistClient, DistErrorKind, DistOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Home, assert_delivers, other};

/// Artifacts of the model, all of 3 000 bytes.
const ARTIFACTS: usize = 5;
const SIZE: u64 = 3_000;

/// What somebody does to the cache.
#[derive(Clone, Copy, Debug)]
enum Op {
    Fetch(usize),
    FetchOffline(usize),
    Open(usize),
    Remove(usize),
    Gc,
    Verify,
    Repair,
    FlipBit(usize),
    CutShort(usize),
    LoseBytes(usize),
    TearRecord(usize),
    LoseEntry(usize),
    LoseUsage,
    Reopen,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Good,
    Wrong,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..ARTIFACTS;
    prop_oneof![
        5 => which.clone().prop_map(Op::Fetch),
        2 => which.clone().prop_map(Op::FetchOffline),
        3 => which.clone().prop_map(Op::Open),
        2 => which.clone().prop_map(Op::Remove),
        1 => Just(Op::Gc),
        1 => Just(Op::Verify),
        1 => Just(Op::Repair),
        1 => which.clone().prop_map(Op::FlipBit),
        1 => which.clone().prop_map(Op::CutShort),
        1 => which.clone().prop_map(Op::LoseBytes),
        1 => which.clone().prop_map(Op::TearRecord),
        1 => which.prop_map(Op::LoseEntry),
        1 => Just(Op::LoseUsage),
        1 => Just(Op::Reopen),
    ]
}

struct World<'a> {
    home: Home,
    registry: &'a LyingRegistry,
    artifacts: &'a [Artifact],
    client: DistClient,
    model: BTreeMap<usize, Is>,
}

impl World<'_> {
    fn online(home: &Home) -> DistClient {
        DistClient::new(DistOptions { cache_max_bytes: 1 << 30, ..home.options() })
    }

    fn reference(&self, which: usize) -> String {
        let digest = self.artifacts[which].manifest_digest;
        format!("oci://{}/acme/hello@{digest}", self.registry.host())
    }

    fn pin(&self, which: usize) -> String {
        self.artifacts[which].manifest_digest.to_string()
    }

    fn file(&self, which: usize, name: &str) -> std::path::PathBuf {
        self.home.entry(self.pin(which)).join(name)
    }

    /// As an editor does: another file takes the name.
    fn replace(&self, which: usize, name: &str, bytes: &[u8]) {
        let path = self.file(which, name);
        fs::remove_file(&path).ok();
        fs::write(path, bytes).unwrap();
    }

    fn agree<T: std::fmt::Debug>(
        is: Option<Is>,
        result: Result<T, greentic_distributor_client::dist::DistError>,
        missing: DistErrorKind,
    ) -> Option<T> {
        match (is, result) {
            (Some(Is::Good), Ok(artifact)) => Some(artifact),
            (Some(Is::Wrong), Err(error)) => {
                assert_eq!(error.kind(), DistErrorKind::Integrity, "{error}");
                None
            }
            (None, Err(error)) => {
                assert_eq!(error.kind(), missing, "{error}");
                None
            }
            (is, result) => panic!("the model says {is:?}, the cache {result:?}"),
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Fetch(which) => {
                let fetched = self.client.resolve_ref(&self.reference(which)).await.unwrap();
                assert_delivers(&fetched, &self.artifacts[which]);
                // A good one whose record is torn is written anew, and that counts as fetched, too.
                let was = self.model.insert(which, Is::Good);
                assert!(fetched.fetched || was == Some(Is::Good));
            }
            Op::FetchOffline(which) => {
                let result = self.home.offline().resolve_ref(&self.reference(which)).await;
                let is = self.model.get(&which).copied();
                if let Some(artifact) = Self::agree(is, result, DistErrorKind::Offline) {
                    assert_delivers(&artifact, &self.artifacts[which]);
                }
            }
            Op::Open(which) => {
                let is = self.model.get(&which).copied();
                if let Some(artifact) =
                    Self::agree(is, self.client.open_cached(&self.pin(which)), DistErrorKind::NotFound)
                {
                    assert_delivers(&artifact, &self.artifacts[which]);
                }
            }
            Op::Remove(which) => {
                let report = self.client.remove(&[self.pin(which)]).unwrap();
                assert_eq!((report.evicted, report.kept), (usize::from(self.model.remove(&which).is_some()), 0));
            }
            Op::Gc => assert_eq!(self.client.gc().unwrap(), Vec::<String>::new(), "what changed a moment ago stays"),
            Op::Verify => self.verify(false),
            Op::Repair => self.verify(true),
            Op::Reopen => self.client = Self::online(&self.home),
            Op::LoseUsage => drop(fs::remove_file(self.home.cache().join("usage"))),
            damage => self.damage(damage),
        }
        self.compare();
    }

    /// Entries that lost their artifact are not listed, and so not looked at.
    fn verify(&mut self, repair: bool) {
        let report = self.client.verify_cache(&[], repair).unwrap();
        let mut found: Vec<String> = report.damaged.iter().map(|damage| damage.digest.clone()).collect();
        found.sort();
        let is_listed = |which: &usize| self.file(*which, "component.wasm").exists();
        let wrong: Vec<usize> =
            self.model.iter().filter(|(_, is)| **is == Is::Wrong).map(|(which, _)| *which).collect();
        let mut expected: Vec<String> = if repair {
            wrong.iter().map(|which| self.pin(*which)).filter(|pin| found.contains(pin)).collect()
        } else {
            wrong.iter().filter(|which| is_listed(which)).map(|which| self.pin(*which)).collect()
        };
        expected.sort();
        assert_eq!(found, expected);
        if repair {
            for which in wrong {
                if found.contains(&self.pin(which)) {
                    self.model.remove(&which);
                }
            }
        }
    }

    fn damage(&mut self, op: Op) {
        let (Op::FlipBit(which)
        | Op::CutShort(which)
        | Op::LoseBytes(which)
        | Op::TearRecord(which)
        | Op::LoseEntry(which)) = op
        else {
            return;
        };
        let Some(is) = self.model.get(&which).copied() else { return };
        let whole = self.artifacts[which].layer_bytes();
        match op {
            Op::FlipBit(_) => {
                let mut bytes = whole.to_vec();
                bytes[1234] ^= 4;
                self.replace(which, "component.wasm", &bytes);
                self.model.insert(which, Is::Wrong);
            }
            Op::CutShort(_) => {
                self.replace(which, "component.wasm", &whole[..2_000]);
                self.model.insert(which, Is::Wrong);
            }
            Op::LoseBytes(_) => {
                fs::remove_file(self.file(which, "component.wasm")).ok();
                self.model.insert(which, Is::Wrong);
            }
            // Rebuilt from the manifest and the artifact, if those are right.
            Op::TearRecord(_) if is == Is::Good => self.replace(which, "entry.json", b"{\"format_version\": 1,"),
            Op::LoseEntry(_) => {
                fs::remove_dir_all(self.home.entry(self.pin(which))).unwrap();
                self.model.remove(&which);
            }
            _ => {}
        }
    }

    /// What is listed is what the model says is there, and nobody left anything in the making.
    fn compare(&self) {
        let mut expected: Vec<String> = self
            .model
            .keys()
            .filter(|which| self.file(**which, "component.wasm").exists())
            .map(|which| self.pin(*which))
            .collect();
        expected.sort();
        assert_eq!(self.client.list_cache(), expected);
        assert!(fs::read_dir(self.home.cache().join("tmp")).map_or(0, Iterator::count) == 0);
    }
}

#[test]
fn any_sequence_of_operations_and_damages_leaves_the_cache_as_the_model_says() {
    let artifacts: Vec<Artifact> = (0..ARTIFACTS as u64).map(other).collect();
    assert!(artifacts.iter().all(|artifact| artifact.layer_bytes().len() as u64 == SIZE));
    let registry = Scenario::new(artifacts[0].clone()).start();
    for (number, artifact) in artifacts.iter().enumerate() {
        registry.publish(artifact, &format!("t{number}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let ops = prop::collection::vec(op(), 1..60);
    runner
        .run(&ops, |ops| {
            let home = Home::new();
            let client = World::online(&home);
            let mut world = World { home, registry: &registry, artifacts: &artifacts, client, model: BTreeMap::new() };
            runtime.block_on(async {
                for op in ops {
                    world.step(op).await;
                }
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_sequence_of_fetches_and_opens_under_a_cap_evicts_what_was_unused_longest() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    // Files, opened or fetched; the cap holds three of them.
    let ops = prop::collection::vec((0..6_usize, prop::bool::weighted(0.25)), 1..40);
    runner
        .run(&ops, |ops| {
            let home = Home::new();
            let client = DistClient::new(DistOptions { cache_max_bytes: 24, ..home.options() });
            // Oldest use first; whether it was opened, which keeps it for minutes.
            let mut model: Vec<(usize, bool)> = Vec::new();
            let path = |which: usize| home.path().join(format!("file-{which}"));
            let digest =
                |which: usize| greentic_dist_types::Digest::sha256(format!("file-{which}..").as_bytes()).to_string();
            for (which, open) in ops {
                let known = model.iter().position(|(other, _)| *other == which);
                if open {
                    assert_eq!(client.open_cached(&digest(which)).is_ok(), known.is_some());
                } else {
                    fs::write(path(which), format!("file-{which}..")).unwrap();
                    let fetched = runtime.block_on(client.resolve_ref(path(which).to_str().unwrap())).unwrap();
                    assert_eq!((fetched.fetched, fetched.digest), (known.is_none(), digest(which)));
                }
                match known {
                    // A hit is an open, too.
                    Some(position) => {
                        model.remove(position);
                        model.push((which, true));
                    }
                    None if open => {}
                    None => {
                        model.push((which, false));
                        while model.len() > 3 {
                            let last = model.len() - 1;
                            let Some(oldest) = model[..last].iter().position(|(_, opened)| !opened) else { break };
                            model.remove(oldest);
                        }
                    }
                }
                let mut expected: Vec<String> = model.iter().map(|(which, _)| digest(*which)).collect();
                expected.sort();
                assert_eq!(client.list_cache(), expected);
            }
            Ok(())
        })
        .unwrap();
}
