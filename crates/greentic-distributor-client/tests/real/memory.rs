//! Memory does not grow with the artifact, and a line that is cut costs hardly more than the artifact.

use std::fs;

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::ready;

use crate::machine::Machine;
use crate::{registry_with, tag_in};

/// What a pull may have in memory at its peak, whatever the size of the artifact.
const CEILING: u64 = 32 << 20;

#[test]
fn a_pull_of_256_mib_stays_under_32_mib_of_memory_and_a_line_that_is_cut_brings_it_once() {
    let name = "a_pull_of_256_mib_stays_under_32_mib_of_memory_and_a_line_that_is_cut_brings_it_once";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let size: u64 = 256 << 20;
    let artifact = fixture::artifact(WASM_TYPE, vec![0x5a; 256 << 20]);
    let registry = registry_with(&artifact);
    let machine = Machine::new();
    let outcome = machine.dist(["pull", &tag_in(&registry.host())]);
    assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    let peak = outcome.peak_rss_bytes.expect("the peak was measured");
    assert!(peak < CEILING, "{peak} bytes");
    // Hashing it again, which it does when nothing says that it was hashed, takes no more.
    drop(fs::remove_file(machine.path_of(&artifact).with_file_name("verified")));
    let outcome = machine.dist(["--offline", "pull", &artifact.layer_digest().to_string()]);
    outcome.expect_code(0);
    let peak = outcome.peak_rss_bytes.expect("the peak was measured");
    assert!(peak < CEILING, "{peak} bytes");

    let line = Proxy::start(registry.addr());
    line.set_cuts(Some((20 << 20, 80 << 20)));
    let machine = Machine::new();
    let outcome = machine.dist(["pull", &tag_in(&line.host())]);
    assert_eq!(fs::metadata(outcome.expect_code(0).line()).unwrap().len(), size);
    assert!(line.cuts() >= 3, "{} cuts", line.cuts());
    let came = line.bytes_down();
    assert!(came >= size && came * 100 <= size * 102, "{came} bytes for {size}");
    let peak = outcome.peak_rss_bytes.expect("the peak was measured");
    assert!(peak < CEILING, "{peak} bytes");
    machine.assert_entries_prove_themselves();
}
