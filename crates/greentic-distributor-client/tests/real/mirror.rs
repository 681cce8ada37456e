//! `docker-registry` as a mirror that fetches what it has not (pull-through), asked by a machine whose `hosts.toml` names it.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::process::Outcome;
use greentic_dist_testkit::real::{DockerRegistry, LoggedRequest, ready};

use crate::machine::Machine;
use crate::{lines, pin_in, registry_with, tag_in};

/// A tree of host configurations on the machine in which the origin has this mirror.
fn hosts_dir(machine: &Machine, origin: &DockerRegistry, mirror: &DockerRegistry, capabilities: &str) -> PathBuf {
    let tree = machine.dir().join("certs.d");
    let dir = tree.join(origin.host());
    fs::create_dir_all(&dir).unwrap();
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [{capabilities}]\n",
        origin.host(),
        mirror.host()
    );
    fs::write(dir.join("hosts.toml"), toml).unwrap();
    tree
}

fn pull(machine: &Machine, hosts: &std::path::Path, reference: &str) -> Outcome {
    machine.command(["--hosts-dir"]).arg(hosts).args(["pull", reference]).output()
}

#[track_caller]
fn assert_pulls(machine: &Machine, hosts: &std::path::Path, reference: &str, artifact: &Artifact) {
    let outcome = pull(machine, hosts, reference);
    assert!(fs::read(outcome.expect_code(0).line()).unwrap() == artifact.layer_bytes(), "{reference}");
    machine.assert_entries_prove_themselves();
}

#[test]
fn a_mirror_that_has_fetched_once_serves_tag_and_digest_with_the_origin_gone() {
    let name = "a_mirror_that_has_fetched_once_serves_tag_and_digest_with_the_origin_gone";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(31, 700_000));
    let mut origin = registry_with(&artifact);
    let mirror = DockerRegistry::mirror_of(&origin.host());
    let (tag, pin) = (tag_in(&origin.host()), pin_in(&origin.host(), &artifact));
    let both = r#""pull", "resolve""#;

    // The first machine makes the mirror fetch; the origin is asked by the mirror and by nobody else.
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, both);
    assert_pulls(&machine, &hosts, &tag, &artifact);
    let ns = format!("?ns={}", origin.host().replace(':', "%3A"));
    let (manifest, blob) = (
        format!("GET /v2/acme/hello/manifests/1{ns} 200"),
        format!("GET /v2/acme/hello/blobs/{}{ns} 200", artifact.layer_digest()),
    );
    assert_eq!(lines(&mirror.requests()), [manifest.clone(), blob.clone()]);

    origin.stop();
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, both);
    let already = mirror.requests().len();
    assert_pulls(&machine, &hosts, &tag, &artifact);
    assert_eq!(lines(&mirror.requests_after(already, 2)), [manifest, blob.clone()]);
    // By digest, on a machine that never saw the manifest.
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, both);
    let already = mirror.requests().len();
    assert_pulls(&machine, &hosts, &pin, &artifact);
    let pinned = format!("GET /v2/acme/hello/manifests/{}{ns} 200", artifact.manifest_digest);
    assert_eq!(lines(&mirror.requests_after(already, 2)), [pinned, blob]);

    // A mirror that may not say what names mean is asked for content only, and a name needs the origin.
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, r#""pull""#);
    assert_pulls(&machine, &hosts, &pin, &artifact);
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, r#""pull""#);
    let already = mirror.requests().len();
    let outcome = pull(&machine, &hosts, &tag);
    outcome.expect_code(7);
    assert!(outcome.stderr.contains(&tag), "{}", outcome.stderr);
    assert_eq!(mirror.requests_after(already, 0), []);
}

#[test]
fn what_the_mirror_never_fetched_is_gone_with_the_origin_and_the_error_names_both() {
    let name = "what_the_mirror_never_fetched_is_gone_with_the_origin_and_the_error_names_both";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let mut origin = registry_with(&artifact);
    let mirror = DockerRegistry::mirror_of(&origin.host());
    origin.stop();
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, r#""pull", "resolve""#);
    for reference in [tag_in(&origin.host()), pin_in(&origin.host(), &artifact)] {
        let outcome = pull(&machine, &hosts, &reference);
        outcome.expect_code(7);
        for named in [&reference, &origin.host(), &mirror.host()] {
            assert!(outcome.stderr.contains(named.as_str()), "`{named}` is not named: {}", outcome.stderr);
        }
        assert_eq!(machine.entries(), [""; 0]);
    }
}

#[test]
fn what_is_pushed_goes_to_the_origin_and_a_mirror_that_takes_nothing_is_left_alone() {
    let name = "what_is_pushed_goes_to_the_origin_and_a_mirror_that_takes_nothing_is_left_alone";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let origin = registry_with(&fixture::component());
    let mirror = DockerRegistry::mirror_of(&origin.host());
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, r#""pull", "resolve""#);
    let file = machine.dir().join("new.wasm");
    fs::write(&file, fixture::component_bytes()).unwrap();
    let to = format!("{}/acme/new:1", origin.host());
    let run = machine.command(["--hosts-dir"]).arg(&hosts).arg("push").arg(&file).arg(&to);
    run.output().expect_code(0);
    assert_eq!(lines(&mirror.requests()), [""; 0]);
    assert!(origin.requests().iter().any(|request| request.method == "PUT"));
    // And comes back through the mirror.
    let machine = Machine::new();
    let hosts = hosts_dir(&machine, &origin, &mirror, r#""pull", "resolve""#);
    let outcome = pull(&machine, &hosts, &to);
    assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), fixture::component_bytes());
    assert!(mirror.requests().iter().any(LoggedRequest::is_blob_get));
}
