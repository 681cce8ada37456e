//! The registry is gone, the artifact is not.

use std::fs;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::real::ready;

use crate::machine::Machine;
use crate::{pin_in, registry_with, tag_in};

#[test]
fn with_the_registry_stopped_it_opens_offline_by_tag_and_by_digest() {
    if !ready("with_the_registry_stopped_it_opens_offline_by_tag_and_by_digest", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let mut registry = registry_with(&artifact);
    let (tag, pin) = (tag_in(&registry.host()), pin_in(&registry.host(), &artifact));
    let machine = Machine::new();
    machine.pull(&tag);
    registry.stop();

    for reference in [&tag, &pin, &artifact.manifest_digest.to_string()] {
        let outcome = machine.dist(["--offline", "pull", reference]);
        assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), artifact.layer_bytes(), "{reference}");
        let outcome = machine.dist(["resolve", reference, "--offline"]);
        assert_eq!(outcome.expect_code(0).line(), artifact.manifest_digest.to_string(), "{reference}");
        let outcome = machine.command(["pull", reference]).env("GREENTIC_DIST_OFFLINE", "1").output();
        assert_eq!(outcome.expect_code(0).line(), machine.path_of(&artifact).to_str().unwrap());
    }
    // A pin needs nobody, even where offline was not asked for; a tag does, and says that it may work later.
    assert_eq!(machine.pull(&pin), artifact.layer_bytes());
    let outcome = machine.dist(["pull", &tag]);
    outcome.expect_code(7);
    assert!(outcome.stderr.contains(&tag), "{}", outcome.stderr);
}

#[test]
fn offline_a_tag_that_was_never_pulled_is_refused_without_a_question() {
    if !ready("offline_a_tag_that_was_never_pulled_is_refused_without_a_question", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let already = registry.requests().len();
    for reference in [tag_in(&registry.host()), pin_in(&registry.host(), &artifact)] {
        let machine = Machine::new();
        let outcome = machine.dist(["--offline", "--json", "pull", &reference]);
        outcome.expect_code(4);
        assert_eq!(outcome.json()["error"]["code"], "offline");
        assert_eq!(outcome.json()["error"]["reference"], reference);
        assert_eq!(machine.entries(), [""; 0]);
    }
    assert_eq!(registry.requests_after(already, 0), []);
}
