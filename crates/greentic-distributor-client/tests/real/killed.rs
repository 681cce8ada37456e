//! SIGKILL at any moment: the next pull goes on from there, and no wrong entry is ever seen.

use std::fs;
use std::time::{Duration, Instant};

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::real::ready;

use crate::machine::{Machine, names};
use crate::{registry_with, tag_in};

/// Size of the artifact that is cut off in mid-body.
const SIZE: u64 = 64 << 20;

#[test]
fn a_pull_killed_in_mid_body_is_resumed_by_the_next_one_with_fewer_bytes_than_the_whole() {
    let name = "a_pull_killed_in_mid_body_is_resumed_by_the_next_one_with_fewer_bytes_than_the_whole";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(64, SIZE.try_into().unwrap()));
    let mut registry = registry_with(&artifact);
    let proxy = Proxy::start(registry.addr());
    proxy.set_rate(Some(32 << 20));
    let machine = Machine::new();
    let command = machine.command(["pull", &tag_in(&proxy.host())]);
    let already = registry.requests().len();
    let part = machine.partial_of(&artifact);
    let size = || fs::metadata(&part).map_or(0, |meta| meta.len());

    command.spawn().kill_when(|| size() > 16 << 20);
    let kept = size();
    assert!(kept > 16 << 20 && kept < SIZE, "{kept}");
    assert_eq!(machine.entries(), [""; 0]);

    let before = proxy.bytes_down();
    proxy.set_rate(None);
    let outcome = command.output();
    assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    assert!(outcome.stderr.contains("resuming at"), "{}", outcome.stderr);
    assert!(fs::read(outcome.line()).unwrap() == artifact.layer_bytes());
    machine.assert_entries_prove_themselves();
    assert_eq!(names(&machine.cache().join("partial")), [""; 0]);

    let came = proxy.bytes_down() - before;
    // A MiB for the headers, and for what was on its way to the killed one.
    assert!(came < SIZE - kept + (1 << 20), "{came} bytes came, {kept} of {SIZE} were there");
    registry.stop();
    let asked = registry.requests_after(already, 4);
    let last = asked.iter().rfind(|request| request.is_blob_get()).unwrap();
    assert_eq!((last.status, last.bytes), (206, SIZE - kept), "{asked:?}");
}

#[test]
fn whoever_waits_for_a_killed_pull_goes_on_where_it_ended() {
    if !ready("whoever_waits_for_a_killed_pull_goes_on_where_it_ended", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(16, 16 << 20));
    let registry = registry_with(&artifact);
    let proxy = Proxy::start(registry.addr());
    proxy.set_rate(Some(8 << 20));
    let machine = Machine::new();
    let command = machine.command(["pull", &tag_in(&proxy.host())]);
    let already = registry.requests().len();
    let part = machine.partial_of(&artifact);
    let size = || fs::metadata(&part).map_or(0, |meta| meta.len());

    let first = command.spawn();
    while size() < 1 << 20 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = command.spawn();
    first.kill_when(|| size() > 8 << 20);
    proxy.set_rate(None);
    let outcome = second.wait();
    assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    assert!(fs::read(outcome.line()).unwrap() == artifact.layer_bytes());

    let asked = registry.requests_after(already, 4);
    let last = asked.iter().rfind(|request| request.is_blob_get()).unwrap();
    assert_eq!(last.status, 206, "{asked:?}");
    assert!(last.bytes < 8 << 20, "{asked:?}");
}

/// Kills pulls at moments spread over the time a whole one takes; after each kill the cache must hold nothing wrong.
fn sweep(artifact: &Artifact, rate: Option<u64>, kills: u32) {
    let registry = registry_with(artifact);
    let proxy = Proxy::start(registry.addr());
    proxy.set_rate(rate);
    let reference = tag_in(&proxy.host());
    let whole = {
        let machine = Machine::new();
        let started = Instant::now();
        assert!(machine.pull(&reference) == artifact.layer_bytes());
        started.elapsed()
    };
    let machine = Machine::new();
    let command = machine.command(["pull", &reference]);
    let mut ended = 0;
    for number in 0..kills {
        // The last moments come after the usual end: some of the time is spent in renaming and syncing.
        let moment = whole.mul_f64(f64::from(number + 1) / f64::from(kills) * 1.1);
        let started = Instant::now();
        let outcome = command.spawn().kill_if(|| started.elapsed() >= moment);
        machine.assert_entries_prove_themselves();
        if outcome.code.is_some() {
            outcome.expect_code(0);
            ended += 1;
        }
        // What came to its end, killed or not, must come again from the beginning.
        for pin in machine.entries() {
            machine.dist(["cache", "rm", &pin]).expect_code(0);
            assert_eq!(machine.entries(), [""; 0]);
        }
    }
    assert!(ended < kills, "nothing was killed");
    assert!(machine.pull(&reference) == artifact.layer_bytes());
    machine.assert_entries_prove_themselves();
    assert_eq!(machine.entries(), [artifact.manifest_digest.to_hex()]);

    // What the killed left behind is collected, and the entry is not.
    machine.dist(["cache", "gc"]).expect_code(0);
    for dir in ["partial", "tmp", "trash", "locks"] {
        assert_eq!(names(&machine.cache().join(dir)), [""; 0], "{dir}");
    }
    let outcome = machine.dist(["--offline", "pull", &reference]);
    assert!(fs::read(outcome.expect_code(0).line()).unwrap() == artifact.layer_bytes());
    machine.assert_entries_prove_themselves();
}

#[test]
fn kills_at_a_dozen_moments_of_a_long_pull_leave_a_cache_that_the_next_one_completes() {
    let name = "kills_at_a_dozen_moments_of_a_long_pull_leave_a_cache_that_the_next_one_completes";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    sweep(&fixture::artifact(WASM_TYPE, fixture::random_bytes(12, 8 << 20)), Some(24 << 20), 12);
}

#[test]
fn kills_at_many_moments_of_a_short_pull_leave_a_cache_that_the_next_one_completes() {
    let name = "kills_at_many_moments_of_a_short_pull_leave_a_cache_that_the_next_one_completes";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    sweep(&fixture::component(), None, 48);
}
