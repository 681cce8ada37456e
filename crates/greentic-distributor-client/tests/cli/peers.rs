//! Bad peers as the command line tells about them: exit code, one document, one sentence, no secret.

use std::net::{IpAddr, Ipv4Addr};

use greentic_dist_testkit::fixture::Document;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario, bystander, hostile};
use greentic_dist_testkit::{LyingServer, TreeSnapshot};

use crate::support::{Bench, CANARY, error_of, sample, with_login};

/// A server that every request to a host nobody named would meet: the proxy of the program's environment.
struct Trap(LyingServer);

impl Trap {
    fn new() -> Self {
        Self(bystander(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))))
    }

    fn around(&self, run: Run) -> Run {
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"]
            .into_iter()
            .fold(run, |run, name| run.env(name, self.0.url()))
    }

    #[track_caller]
    fn assert_unmet(&self) {
        assert_eq!(self.0.connections(), 0, "{:?}", self.0.journal().lines());
    }
}

/// Pulls `reference` with a login at hand and the trap set.
fn pull(bench: &Bench, registry: &LyingRegistry, reference: &str) -> Outcome {
    let trap = Trap::new();
    let run = with_login(bench.dist(["--json", "pull", reference]), &registry.host(), CANARY);
    let outcome = trap.around(run).output();
    trap.assert_unmet();
    outcome
}

/// The refusal of a pull: its exit code and kind, the reference and the reason in both streams, nothing in the cache, no
/// secret anywhere.
#[track_caller]
fn refused(registry: &LyingRegistry, reference: &str, exit: i32, code: &str, reason: &str) {
    let bench = Bench::new();
    let outcome = pull(&bench, registry, reference);
    let error = error_of(&outcome, exit, code);
    assert_eq!(error["reference"], reference);
    let told = format!("{} {}", error["message"], error["causes"]);
    assert!(told.contains(reference) && told.contains(reason), "`{reason}` is not said: {told}");
    assert!(outcome.stderr.contains(reference) && outcome.stderr.contains(reason), "{}", outcome.stderr);
    assert!(!outcome.says(CANARY), "a secret is told: {outcome:?}");
    let left = TreeSnapshot::of(&bench.cache());
    assert!(left.files().iter().all(|file| *file == "CACHEDIR.TAG"), "{:?}", left.files());
    bench.assert_nothing_outside_changed();
    bench.assert_canary_in_no_file();
}

fn lying(lie: Lie) -> (LyingRegistry, String) {
    let registry = Scenario::new(sample()).lie(lie).start();
    let reference = format!("oci://{}", registry.reference());
    (registry, reference)
}

#[test]
fn wrong_bytes_exit_with_8() {
    for lie in [Lie::WrongBlob, Lie::ShortBlob(0), Lie::OverLongBlob(1), Lie::OverLongBlobChunked(1), Lie::EndlessBlob]
    {
        let (registry, reference) = lying(lie);
        refused(&registry, &reference, 8, "integrity", "sha256:");
    }
}

#[test]
fn a_wrong_manifest_under_a_pin_exits_with_8() {
    let (registry, _) = lying(Lie::WrongManifestEchoed);
    let pin = registry.artifact().manifest_digest.to_string();
    refused(&registry, &format!("oci://{}", registry.pinned()), 8, "integrity", &pin);
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
}

#[test]
fn a_digest_header_that_is_a_path_writes_nothing_outside_the_cache() {
    let bench = Bench::new();
    let aim = bench.path().join("aim");
    for header in [
        "sha256:../../x".to_owned(),
        "/abs".to_owned(),
        aim.display().to_string(),
        format!("sha256:{}", aim.display()),
        format!("sha256:../../../../../../../..{}", aim.display()),
    ] {
        let (registry, reference) = lying(Lie::DigestHeader(header));
        let abs = std::path::Path::new("/abs").exists();
        pull(&bench, &registry, &reference).expect_code(0);
        bench.assert_nothing_outside_changed();
        assert_eq!(std::path::Path::new("/abs").exists(), abs);
    }
}

#[test]
fn not_found_exits_with_3() {
    let (registry, reference) = lying(Lie::status(Part::Manifest, 404));
    refused(&registry, &reference, 3, "not_found", "404");
}

#[test]
fn unauthorized_and_forbidden_exit_with_5() {
    for status in [401, 403] {
        let (registry, reference) = lying(Lie::status(Part::Manifest, status));
        refused(&registry, &reference, 5, "auth", &status.to_string());
    }
}

#[test]
fn a_wrong_login_exits_with_5_and_is_told_to_nobody() {
    for auth in [Auth::basic("alice", "right"), Auth::bearer("alice", "right")] {
        let registry = Scenario::new(sample()).auth(auth).start();
        refused(&registry, &format!("oci://{}", registry.reference()), 5, "auth", "401");
        assert!(registry.journal().contains(CANARY));
    }
}

#[test]
fn a_right_login_of_the_environment_is_used() {
    for auth in [Auth::basic("alice", CANARY), Auth::bearer("alice", CANARY)] {
        let bench = Bench::new();
        let registry = Scenario::new(sample()).auth(auth).start();
        let outcome = pull(&bench, &registry, &registry.reference());
        outcome.expect_code(0);
        assert!(!outcome.says(CANARY));
        bench.assert_canary_in_no_file();
    }
}

#[test]
fn a_wait_that_is_too_long_exits_with_7_at_once() {
    for value in
        ["3600".to_owned(), greentic_dist_testkit::scenario::retry_after_date(std::time::Duration::from_hours(1))]
    {
        let (registry, reference) =
            lying(Lie::Status { on: Part::Manifest, status: 429, times: Lie::ALWAYS, retry_after: Some(value) });
        refused(&registry, &reference, 7, "temporary", "429");
        assert_eq!(registry.journal().len(), 1);
    }
}

#[test]
fn a_wait_that_is_short_is_waited_for() {
    let bench = Bench::new();
    let (registry, reference) =
        lying(Lie::Status { on: Part::Manifest, status: 429, times: 2, retry_after: Some("0".to_owned()) });
    pull(&bench, &registry, &reference).expect_code(0);
    assert_eq!(registry.journal().count_containing("/manifests/"), 3);
}

#[test]
fn server_errors_without_end_exit_with_7() {
    let (registry, reference) = lying(Lie::status(Part::Manifest, 500));
    refused(&registry, &reference, 7, "temporary", "500");
    assert_eq!(registry.journal().len(), 5);
}

#[test]
fn a_realm_elsewhere_exits_with_6_and_hears_nothing() {
    let thief = bystander(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let registry = Scenario::new(sample())
        .auth(Auth::bearer("alice", CANARY))
        .lie(Lie::Realm(format!("{}/token", thief.url())))
        .start();
    refused(&registry, &format!("oci://{}", registry.reference()), 6, "policy", "was not sent");
    assert_eq!(thief.connections(), 0);
    assert!(!registry.journal().contains(CANARY));
}

#[test]
fn a_redirect_elsewhere_takes_no_login_along() {
    let other = greentic_dist_testkit::scenario::blob_host(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), &sample());
    let registry = Scenario::new(sample())
        .auth(Auth::basic("alice", CANARY))
        .lie(Lie::RedirectBlob { status: 307, base: other.url() })
        .start();
    let bench = Bench::new();
    let outcome = pull(&bench, &registry, &registry.reference());
    outcome.expect_code(0);
    assert_eq!(other.journal().len(), 1);
    assert!(!other.journal().contains(CANARY) && !other.journal().any_header_contains("alice"));
    assert!(!outcome.says(CANARY));
}

#[test]
fn documents_that_are_no_manifests_exit_with_10() {
    let artifact = sample();
    let cases: [(Document, &str); 6] = [
        (hostile::huge_manifest(&artifact, (4 << 20) + 1), "4194304"),
        (hostile::schema1(), "not supported"),
        (hostile::duplicate_keys(&artifact), "duplicate"),
        (hostile::layers_and_manifests(&artifact), "both"),
        (hostile::wrong_layer_digest(&artifact, "sha256:../../x"), "malformed"),
        (hostile::deeply_nested(10_000), "malformed"),
    ];
    for (document, reason) in cases {
        let registry = Scenario::new(artifact.clone()).start();
        registry.publish_document(&document, Some("x"));
        refused(&registry, &format!("oci://{}", registry.reference_to("x")), 10, "internal", reason);
        assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    }
}

#[test]
fn a_name_without_a_registry_never_leaves_this_machine() {
    for (reference, exit, code) in [
        ("nope.wasm", 2, "invalid_input"),
        ("foo", 2, "invalid_input"),
        ("library/foo:1", 2, "invalid_input"),
        ("acme/hello@sha256:00", 2, "invalid_input"),
        ("repo://foo", 5, "auth"),
        ("store://a/b:1", 5, "auth"),
        ("store://greentic-biz/a/b:1", 5, "auth"),
        ("sha256:abc", 2, "invalid_input"),
    ] {
        let (bench, trap) = (Bench::new(), Trap::new());
        let outcome = trap.around(bench.dist(["--json", "pull", reference])).output();
        let error = error_of(&outcome, exit, code);
        assert!(error["message"].as_str().unwrap().contains(reference), "{error}");
        trap.assert_unmet();
        assert!(!bench.cache().exists());
    }
}

#[test]
fn a_name_below_a_base_is_asked_for_there_and_nowhere_else() {
    let registry = Scenario::new(sample()).start();
    let (bench, trap) = (Bench::new(), Trap::new());
    for scheme in ["repo", "store"] {
        let base = format!("{}/acme", registry.host());
        let run = bench
            .dist(["pull", &format!("{scheme}://hello:1")])
            .env("GREENTIC_REPO_REGISTRY_BASE", &base)
            .env("GREENTIC_STORE_REGISTRY_BASE", &base);
        trap.around(run).output().expect_code(0);
    }
    trap.assert_unmet();
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
}

#[test]
fn a_registry_on_the_internet_is_asked_for_over_https_alone() {
    // The trap is the proxy: what would leave this machine arrives there, and it is a tunnel that is asked for.
    let (bench, trap) = (Bench::new(), Trap::new());
    let run =
        with_login(bench.dist(["--json", "pull", "oci://registry.example/acme/hello:1"]), "registry.example", CANARY);
    let outcome = trap.around(run).output();
    error_of(&outcome, 7, "temporary");
    assert!(!trap.0.journal().is_empty());
    for entry in trap.0.journal().entries() {
        assert_eq!((entry.method.as_str(), entry.target.as_str()), ("CONNECT", "registry.example:443"));
    }
    assert!(!trap.0.journal().contains(CANARY) && !outcome.says(CANARY));
}
