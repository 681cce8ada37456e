//! A bundle from a real registry, which is gone when the bundle is needed.

use std::fs;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::real::ready;

use crate::machine::Machine;
use crate::{registry_with, tag_in};

#[test]
fn what_was_staged_warms_and_rolls_back_with_the_registry_stopped() {
    if !ready("what_was_staged_warms_and_rolls_back_with_the_registry_stopped", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let mut registry = registry_with(&artifact);
    let machine = Machine::new();
    let outcome = machine.dist(["bundle", "stage", &tag_in(&registry.host()), "--env", "prod"]);
    let id = format!("bundle:{}", artifact.manifest_digest);
    assert_eq!(outcome.expect_code(0).line(), id);
    registry.stop();

    for offline in [&["--offline"][..], &[]] {
        let run = |args: &[&str]| machine.dist(offline.iter().chain(args));
        let warmed = run(&["--json", "bundle", "warm", &id, "--env", "prod"]);
        let warmed = warmed.expect_code(0).json();
        assert_eq!(warmed["verification_report"]["passed"], true);
        assert_eq!(warmed["bundle_manifest_summary"]["size_bytes"], artifact.layer_bytes().len());
        let back = run(&["bundle", "rollback", &id, "--env", "prod"]);
        assert!(fs::read(back.expect_code(0).line()).unwrap() == artifact.layer_bytes());
    }
    // Garbage collection and a lost trust stamp change nothing about it.
    fs::remove_file(machine.path_of(&artifact).with_file_name("verified")).unwrap();
    machine.dist(["cache", "gc"]).expect_code(0);
    machine.dist(["bundle", "warm", &id]).expect_code(0);
    machine.assert_entries_prove_themselves();
}
