//! A registry that asks who is there.

use std::fs;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::real::{DockerRegistry, DockerRegistryConfig, RegistryAuth, ready, skopeo_push_artifacts};

use crate::machine::Machine;
use crate::{blob_line, lines, manifest_line, tag_in};

const USER: &str = RegistryAuth::KNOWN_USER;
const PASSWORD: &str = RegistryAuth::KNOWN_PASSWORD;

fn registry() -> DockerRegistry {
    let config = DockerRegistryConfig { auth: RegistryAuth::known() };
    let registry = DockerRegistry::start(&config);
    skopeo_push_artifacts(&[fixture::component()], &tag_in(&registry.host()), config.auth.login());
    registry
}

/// The login for a host, where the command looks for it.
fn with_login(run: Run, host: &str, user: &str, password: &str) -> Run {
    let name: String =
        host.chars().map(|ch| if ch.is_ascii_alphanumeric() { ch.to_ascii_uppercase() } else { '_' }).collect();
    let variable = |suffix: &str| format!("GREENTIC_DIST_AUTH_{name}_{suffix}");
    run.env(variable("USERNAME"), user).env(variable("PASSWORD"), password)
}

/// Panics when the password, or the credential made of it, stands in anything the command said or wrote.
#[track_caller]
fn assert_secret(machine: &Machine, outcome: &Outcome, password: &str, basic: &str) {
    for canary in [password, basic] {
        assert!(!outcome.says(canary), "{outcome:?}");
        assert_eq!(machine.files_with(canary), [""; 0].map(std::path::PathBuf::from));
    }
}

#[test]
fn with_the_login_of_its_host_a_pull_works_and_the_password_stays_secret() {
    let name = "with_the_login_of_its_host_a_pull_works_and_the_password_stays_secret";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry();
    let (machine, tag) = (Machine::new(), tag_in(&registry.host()));
    let already = registry.requests().len();
    let run = with_login(machine.command(["pull", &tag]), &registry.host(), USER, PASSWORD);
    let outcome = run.clone().env("RUST_LOG", "trace").output();
    assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), artifact.layer_bytes());
    assert_secret(&machine, &outcome, PASSWORD, "YWxpY2U6Y2FuYXJ5LW9mLWFsaWNl");
    let asked = lines(&registry.requests_after(already, 3));
    assert_eq!(asked, [manifest_line(401), manifest_line(200), blob_line(&artifact, 200)]);
    // And again: asked, answered, unchanged.
    run.output().expect_code(0);
}

#[test]
fn without_a_login_a_pull_says_what_to_set() {
    if !ready("without_a_login_a_pull_says_what_to_set", &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = registry();
    let (machine, tag) = (Machine::new(), tag_in(&registry.host()));
    // A login for another port is nobody's business here.
    let elsewhere = format!("127.0.0.1:{}", registry.addr().port() ^ 1);
    for run in
        [machine.command(["pull", &tag]), with_login(machine.command(["pull", &tag]), &elsewhere, USER, PASSWORD)]
    {
        let outcome = run.output();
        outcome.expect_code(5);
        assert!(outcome.stderr.contains(&tag) && outcome.stderr.contains("401"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        assert_eq!(machine.entries(), [""; 0]);
    }
}

#[test]
fn a_wrong_password_is_refused_after_one_try_and_not_repeated_to_anybody() {
    if !ready("a_wrong_password_is_refused_after_one_try_and_not_repeated_to_anybody", &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = registry();
    let (machine, tag) = (Machine::new(), tag_in(&registry.host()));
    let already = registry.requests().len();
    let run = with_login(machine.command(["--json", "pull", &tag]), &registry.host(), USER, "canary-that-is-wrong");
    let outcome = run.output();
    outcome.expect_code(5);
    assert_eq!(outcome.json()["error"]["code"], "auth");
    assert_secret(&machine, &outcome, "canary-that-is-wrong", "YWxpY2U6Y2FuYXJ5LXRoYXQtaXMtd3Jvbmc");
    assert_eq!(lines(&registry.requests_after(already, 2)), [manifest_line(401), manifest_line(401)]);
    assert_eq!(machine.entries(), [""; 0]);
}
