//! Several processes want the same thing at once.

use std::time::{Duration, Instant};

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::process::{Outcome, Spawned};
use greentic_dist_testkit::real::{LoggedRequest, ready};
use greentic_dist_testkit::scenario::Scenario;

use crate::machine::{Machine, names};
use crate::{registry_with, tag_in};

#[test]
fn eight_processes_pulling_one_tag_at_once_leave_one_entry_and_fetch_the_blob_once() {
    let name = "eight_processes_pulling_one_tag_at_once_leave_one_entry_and_fetch_the_blob_once";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(8, 6 << 20));
    let registry = registry_with(&artifact);
    // Slow enough that everybody is there before the first one is done.
    let proxy = Proxy::start(registry.addr());
    proxy.set_rate(Some(6 << 20));
    let machine = Machine::new();
    let command = machine.command(["pull", &tag_in(&proxy.host())]);
    let already = registry.requests().len();

    let running: Vec<Spawned> = (0..8).map(|_| command.spawn()).collect();
    let outcomes: Vec<Outcome> = running.into_iter().map(Spawned::wait).collect();
    for outcome in &outcomes {
        assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    }
    assert_eq!(machine.entries(), [artifact.manifest_digest.to_hex()]);
    machine.assert_entries_prove_themselves();
    for dir in ["partial", "tmp"] {
        assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{dir}");
    }

    let asked = registry.requests_after(already, 9);
    let blobs: Vec<&LoggedRequest> = asked.iter().filter(|request| request.is_blob_get()).collect();
    assert_eq!(blobs.len(), 1, "{asked:?}");
    assert_eq!((blobs[0].status, blobs[0].bytes), (200, 6 << 20));
    assert_eq!(asked.len(), 9, "eight looks at the tag and one blob: {asked:?}");
}

#[test]
fn eight_processes_that_are_killed_at_random_fetch_each_of_200_blobs_once_and_once_more_for_a_kill() {
    const KILLS: usize = 15;
    let artifacts: Vec<_> =
        (0..200).map(|seed| fixture::artifact(WASM_TYPE, fixture::random_bytes(1000 + seed, 16 << 10))).collect();
    let registry = Scenario::new(artifacts[0].clone()).start();
    for (number, artifact) in artifacts.iter().enumerate() {
        registry.publish(artifact, &format!("t{number}"));
    }
    registry.journal().clear();
    let machine = Machine::new();
    let references: Vec<String> = (0..200).map(|number| registry.reference_to(&format!("t{number}"))).collect();
    let command = machine.command(std::iter::once(&"pull".to_owned()).chain(&references));

    let mut running: Vec<Spawned> = (0..8).map(|_| command.spawn()).collect();
    let mut killed = 0;
    for number in 0..KILLS {
        // Each lives a little longer than the one before, so that death finds them at different work.
        let started = Instant::now();
        let life = Duration::from_millis(15 + 7 * number as u64);
        let outcome = running.remove(0).kill_if(|| started.elapsed() >= life);
        killed += usize::from(outcome.code.is_none());
        running.push(command.spawn());
    }
    assert!(killed > 0, "nobody was killed");
    for process in running {
        process.wait().expect_code(0);
    }
    assert_eq!(machine.entries().len(), 200);
    machine.assert_entries_prove_themselves();
    let mut asked = 0;
    for artifact in &artifacts {
        let path = format!("/blobs/{}", artifact.layer_digest());
        let times = registry.journal().count_containing(&path);
        assert!((1..=1 + killed).contains(&times), "{path} was asked for {times} times, with {killed} kills");
        asked += times;
    }
    // One process has at most 32 transfers in flight.
    assert!(asked <= 200 + 32 * killed, "{asked} transfers, with {killed} kills");
    machine.dist(["cache", "gc"]).expect_code(0);
    for dir in ["tmp", "locks", "trash", "partial"] {
        assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{dir}");
    }
    machine.dist(["cache", "verify"]).expect_code(0);
}
