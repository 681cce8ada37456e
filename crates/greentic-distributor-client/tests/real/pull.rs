//! What is pushed by one program is pulled by the other, with the requests the protocol needs and no more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{ready, skopeo_digest, skopeo_push_artifacts};

use crate::machine::Machine;
use crate::{blob_line, lines, manifest_line, pin_in, registry_with, tag_in};

#[test]
fn a_component_comes_back_byte_for_byte_by_tag_and_by_digest_with_two_requests() {
    let name = "a_component_comes_back_byte_for_byte_by_tag_and_by_digest_with_two_requests";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let (tag, pin) = (tag_in(&registry.host()), pin_in(&registry.host(), &artifact));
    let both = pin.replace('@', ":1@");
    for reference in [tag.clone(), pin, both, format!("oci://{tag}")] {
        let machine = Machine::new();
        let already = registry.requests().len();
        let outcome = machine.dist(["pull", &reference]);
        outcome.expect_code(0);
        assert_eq!(outcome.line(), machine.path_of(&artifact).to_str().unwrap(), "{reference}");
        assert_eq!(outcome.stderr, "", "{reference}");
        assert_eq!(fs::read(outcome.line()).unwrap(), artifact.layer_bytes());
        assert_eq!(fs::metadata(outcome.line()).unwrap().permissions().mode() & 0o777, 0o444);
        let asked = lines(&registry.requests_after(already, 2));
        let selector = if reference.contains('@') { artifact.manifest_digest.to_string() } else { "1".to_owned() };
        let manifest = format!("GET /v2/acme/hello/manifests/{selector} 200");
        assert_eq!(asked, [manifest, blob_line(&artifact, 200)], "{reference}");
        machine.assert_entries_prove_themselves();
    }
}

#[test]
fn resolve_prints_the_digest_that_skopeo_sees_and_moves_no_blob() {
    if !ready("resolve_prints_the_digest_that_skopeo_sees_and_moves_no_blob", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let tag = tag_in(&registry.host());
    let seen = skopeo_digest(&tag).to_string();
    let already = registry.requests().len();
    let machine = Machine::new();
    let outcome = machine.dist(["resolve", &tag]);
    assert_eq!(outcome.expect_code(0).line(), seen);
    assert_eq!(lines(&registry.requests_after(already, 1)), [manifest_line(200)]);
    assert_eq!(machine.entries(), [""; 0]);
}

#[test]
fn a_second_pull_asks_nothing_by_digest_and_one_conditional_question_by_tag() {
    if !ready(
        "a_second_pull_asks_nothing_by_digest_and_one_conditional_question_by_tag",
        &["docker-registry", "skopeo"],
    ) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let (tag, pin) = (tag_in(&registry.host()), pin_in(&registry.host(), &artifact));
    let machine = Machine::new();
    assert_eq!(machine.pull(&tag), artifact.layer_bytes());

    let already = registry.requests().len();
    assert_eq!(machine.pull(&tag), artifact.layer_bytes());
    assert_eq!(lines(&registry.requests_after(already, 1)), [manifest_line(304)]);

    let already = registry.requests().len();
    for reference in [&pin, &artifact.manifest_digest.to_string(), &artifact.layer_digest().to_string()] {
        assert_eq!(machine.pull(reference), artifact.layer_bytes(), "{reference}");
    }
    assert_eq!(registry.requests_after(already, 0), []);
}

#[test]
fn a_tag_that_moved_is_followed_and_what_it_meant_before_still_opens() {
    if !ready("a_tag_that_moved_is_followed_and_what_it_meant_before_still_opens", &["docker-registry", "skopeo"]) {
        return;
    }
    let old = fixture::component();
    let new = fixture::artifact(WASM_TYPE, "the next version");
    let registry = registry_with(&old);
    let tag = tag_in(&registry.host());
    let machine = Machine::new();
    assert_eq!(machine.pull(&tag), old.layer_bytes());
    skopeo_push_artifacts(std::slice::from_ref(&new), &tag, None);
    let already = registry.requests().len();
    assert_eq!(machine.pull(&tag), new.layer_bytes());
    assert_eq!(lines(&registry.requests_after(already, 2)), [manifest_line(200), blob_line(&new, 200)]);
    assert_eq!(machine.pull(&old.manifest_digest.to_string()), old.layer_bytes());
    assert_eq!(machine.entries().len(), 2);
}

#[test]
fn what_is_not_there_is_not_found_whether_tag_repository_or_pin() {
    if !ready("what_is_not_there_is_not_found_whether_tag_repository_or_pin", &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = registry_with(&fixture::component());
    let host = registry.host();
    let absent = fixture::artifact(WASM_TYPE, "never pushed");
    for reference in [format!("{host}/acme/hello:2"), format!("{host}/acme/other:1"), pin_in(&host, &absent)] {
        let machine = Machine::new();
        let outcome = machine.dist(["pull", &reference]);
        outcome.expect_code(3);
        assert!(outcome.stderr.contains(&reference) && outcome.stdout.is_empty(), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("404"), "{}", outcome.stderr);
        assert_eq!(machine.entries(), [""; 0]);
    }
}
