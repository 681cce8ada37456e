//! Mirrors, as one process after the other meets them.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Part, Scenario};
use serde_json::{Value, json};

use crate::support::{Bench, error_of, registry, sample};

fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    lies.into_iter().fold(Scenario::new(sample()), Scenario::lie).start()
}

fn memory(bench: &Bench) -> PathBuf {
    bench.cache().join("state").join("endpoints.json")
}

fn remembered(bench: &Bench) -> Value {
    serde_json::from_slice(&fs::read(memory(bench)).unwrap()).unwrap()
}

/// The URLs that are written down.
fn liars(bench: &Bench) -> Vec<String> {
    let endpoints = remembered(bench)["endpoints"].as_array().unwrap().clone();
    endpoints.iter().map(|endpoint| endpoint["endpoint"].as_str().unwrap().to_owned()).collect()
}

fn write(bench: &Bench, text: &str) {
    fs::create_dir_all(memory(bench).parent().unwrap()).unwrap();
    fs::write(memory(bench), text).unwrap();
}

fn pulling(bench: &Bench, hosts: &str, reference: &str) -> Run {
    bench.dist(["--hosts-dir", hosts, "pull", reference])
}

/// Pulls what is not in the cache, in a process of its own.
#[track_caller]
fn pull(bench: &Bench, hosts: &str, registry: &LyingRegistry) -> Outcome {
    bench.run(["cache", "rm", &sample().manifest_digest.to_string()]);
    let outcome = pulling(bench, hosts, &registry.pinned()).output();
    assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), sample().layer_bytes());
    outcome
}

#[test]
fn a_mirror_that_lied_to_one_process_is_sent_nothing_by_the_next_for_ten_minutes() {
    for lie in [Lie::WrongBlob, Lie::WrongManifestEchoed, Lie::ShortBlob(10), Lie::OverLongBlobChunked(5)] {
        let (bench, origin, liar) = (Bench::new(), registry(), mirror([lie.clone()]));
        let hosts = bench.hosts_dir(&origin, &[&liar]);
        let outcome = pull(&bench, &hosts, &origin);
        assert!(outcome.stderr.contains(&format!("{} sent wrong bytes", liar.url())), "{lie:?}: {}", outcome.stderr);
        assert_eq!(liars(&bench), [liar.url()], "{lie:?}");
        let asked = liar.journal().len();
        assert!(asked > 0, "{lie:?}");
        for _ in 0..2 {
            let outcome = pull(&bench, &hosts, &origin);
            assert!(!outcome.says("sent wrong bytes"), "{lie:?}: {}", outcome.stderr);
        }
        assert_eq!(liar.journal().len(), asked, "{lie:?}");

        // Its time is over: the end that was written down is past.
        let mut record = remembered(&bench);
        let until = record["endpoints"][0]["quarantined_until"].as_u64().unwrap();
        record["endpoints"][0]["quarantined_until"] = json!(until - 601);
        write(&bench, &record.to_string());
        pull(&bench, &hosts, &origin);
        assert_eq!(liar.journal().len(), 2 * asked, "{lie:?}");
        assert_eq!(liars(&bench), [liar.url()], "{lie:?}: it lied again");

        // Who wants it asked again at once deletes the file.
        fs::remove_file(memory(&bench)).unwrap();
        liar.be_honest();
        let before = origin.journal().len();
        pull(&bench, &hosts, &origin);
        assert_eq!(origin.journal().len(), before, "{lie:?}: the mirror serves everything");
        assert!(!memory(&bench).exists(), "{lie:?}");
    }
}

#[test]
fn when_everybody_lies_the_next_process_asks_the_origin_alone() {
    let (bench, liar) = (Bench::new(), mirror([Lie::WrongBlob]));
    let origin = Scenario::new(sample()).lie(Lie::WrongBlob).start();
    let hosts = bench.hosts_dir(&origin, &[&liar]);
    let run = || bench.dist(["--json", "--hosts-dir", &hosts, "pull", &origin.pinned()]).output();
    error_of(&run(), 8, "integrity");
    let asked = liar.journal().len();
    let told = error_of(&run(), 8, "integrity").to_string();
    assert_eq!(liar.journal().len(), asked);
    assert!(told.contains(&liar.url()) && told.contains("not asked"), "{told}");
}

#[test]
fn a_memory_that_is_torn_or_odd_is_empty_with_one_warning_and_no_failure() {
    let (origin, liar) = (registry(), mirror([Lie::WrongBlob]));
    let url = liar.url();
    for text in ["", "{", "[]", "null", "{\"format_version\":1,\"endpoints\":[{\"endpoint\":\"x\"}]}", "\u{1b}[31m"] {
        let bench = Bench::new();
        let hosts = bench.hosts_dir(&origin, &[&liar]);
        write(&bench, text);
        liar.journal().clear();
        let outcome = pull(&bench, &hosts, &origin);
        let warnings = outcome.stderr.lines().filter(|line| line.contains("endpoints.json")).count();
        assert_eq!(warnings, 1, "{text:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("counts as empty"), "{}", outcome.stderr);
        assert!(!liar.journal().is_empty(), "{text:?}");
        assert_eq!(liars(&bench), std::slice::from_ref(&url), "{text:?}: it is written anew");
        assert!(!pull(&bench, &hosts, &origin).says("endpoints.json"), "{text:?}");
    }
    // A newer version is left as it is.
    let bench = Bench::new();
    let hosts = bench.hosts_dir(&origin, &[&liar]);
    let newer = "{\"format_version\":2,\"endpoints\":[]}";
    write(&bench, newer);
    assert!(pull(&bench, &hosts, &origin).stderr.contains("format version 2"));
    assert_eq!(fs::read_to_string(memory(&bench)).unwrap(), newer);
}

#[test]
fn a_memory_that_somebody_wrote_keeps_mirrors_from_being_asked_and_never_the_origin() {
    let (bench, origin, near) = (Bench::new(), registry(), mirror([]));
    let hosts = bench.hosts_dir(&origin, &[&near]);
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 500;
    let mark = |url: String| json!({ "endpoint": url, "quarantined_until": soon });
    let everybody = json!({ "format_version": 1, "endpoints": [mark(origin.url()), mark(near.url())] });
    write(&bench, &everybody.to_string());
    pull(&bench, &hosts, &origin);
    assert!(near.journal().is_empty());
    assert_eq!(origin.journal().len(), 2);
    // For ever is longer than anybody is left alone.
    let mut for_ever = everybody;
    for_ever["endpoints"][1]["quarantined_until"] = json!(u64::MAX);
    write(&bench, &for_ever.to_string());
    pull(&bench, &hosts, &origin);
    assert_eq!((near.journal().len(), origin.journal().len()), (2, 2));
}

#[test]
fn a_memory_that_cannot_be_written_is_gone_without() {
    let (bench, origin, liar) = (Bench::new(), registry(), mirror([Lie::WrongBlob]));
    let hosts = bench.hosts_dir(&origin, &[&liar]);
    pull(&bench, &hosts, &registry());
    fs::write(bench.cache().join("state"), "in the way\n").unwrap();
    pull(&bench, &hosts, &origin);
    assert_eq!(fs::read_to_string(bench.cache().join("state")).unwrap(), "in the way\n");
}

#[test]
fn processes_that_find_out_about_different_mirrors_at_once_lose_neither() {
    let artifacts = [3, 4].map(|seed| fixture::artifact(WASM_TYPE, fixture::random_bytes(seed, 10_000)));
    let benches = [Bench::new(), Bench::new()];
    for _ in 0..4 {
        let (bench, start) = (Bench::new(), |artifact: &Artifact| Scenario::new(artifact.clone()));
        let origins = artifacts.each_ref().map(|artifact| start(artifact).start());
        let mirrors = artifacts.each_ref().map(|artifact| start(artifact).lie(Lie::WrongBlob).start());
        let trees = [0, 1].map(|at| benches[at].hosts_dir(&origins[at], &[&mirrors[at]]));
        let running = [0, 1].map(|at| pulling(&bench, &trees[at], &origins[at].pinned()).spawn());
        for process in running {
            process.wait().expect_code(0);
        }
        let (mut found, mut expected) = (liars(&bench), mirrors.each_ref().map(LyingRegistry::url));
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn offline_and_without_mirrors_the_memory_is_not_looked_at() {
    let (bench, origin, near) = (Bench::new(), registry(), mirror([]));
    let hosts = bench.hosts_dir(&origin, &[&near]);
    write(&bench, "torn");
    let outcome = bench.run(["pull", &origin.pinned()]);
    assert!(!outcome.expect_code(0).says("endpoints.json"), "{}", outcome.stderr);
    let offline = bench.run(["--offline", "--hosts-dir", &hosts, "pull", &origin.reference_to("gone")]);
    assert!(!offline.expect_code(4).says("endpoints.json"), "{}", offline.stderr);
    // A hit asks nobody either.
    let hit = pulling(&bench, &hosts, &origin.pinned()).output();
    assert!(!hit.expect_code(0).says("endpoints.json"), "{}", hit.stderr);
    assert!(near.journal().is_empty());
}

#[test]
fn a_mirror_that_has_not_a_tag_of_an_unreachable_registry_is_no_reason_to_say_that_there_is_none() {
    let (bench, empty) = (Bench::new(), mirror([Lie::status(Part::All, 404)]));
    let gone = Scenario::new(sample()).lie(Lie::ResetInstead { on: Part::All, times: Lie::ALWAYS }).start();
    let hosts = bench.hosts_dir_with(&gone, &[&empty], "\"pull\", \"resolve\"");
    let outcome = bench.dist(["--json", "--hosts-dir", &hosts, "pull", &gone.reference()]).output();
    error_of(&outcome, 7, "temporary");
    assert_eq!(empty.journal().len(), 1);
    // Its own 404 is final, whatever a mirror has.
    let origin = Scenario::new(sample()).lie(Lie::status(Part::All, 404)).start();
    let hosts = bench.hosts_dir_with(&origin, &[&empty], "\"pull\", \"resolve\"");
    let outcome = bench.dist(["--json", "--hosts-dir", &hosts, "pull", &origin.reference()]).output();
    error_of(&outcome, 3, "not_found");
}

/// Runs with `--json` behind these host configurations.
#[track_caller]
fn told<const N: usize>(bench: &Bench, hosts: &str, args: [&str; N]) -> Value {
    let outcome = bench.dist(["--json", "--hosts-dir", hosts]).args(args).output();
    outcome.expect_code(0).json()
}

#[test]
fn the_endpoint_that_said_what_a_tag_means_and_those_that_sent_the_bytes_are_named() {
    let (bench, origin, near) = (Bench::new(), registry(), mirror([]));
    let (tag, pinned) = (origin.reference(), origin.pinned());
    let hosts = bench.hosts_dir(&origin, &[&near]);
    let by = |told: &Value| (told["resolved_by"].clone(), told["served_by"].clone());
    let pulled = told(&bench, &hosts, ["pull", &tag]);
    assert_eq!(by(&pulled), (json!(origin.url()), json!([near.url()])), "names are the origin's to say");
    // A tag that means the same: the origin said so, and nobody sent anything.
    assert_eq!(by(&told(&bench, &hosts, ["pull", &tag])), (json!(origin.url()), json!([])));
    assert_eq!(by(&told(&bench, &hosts, ["pull", &pinned])), (Value::Null, json!([])), "nobody is asked");
    assert_eq!(by(&told(&bench, &hosts, ["--offline", "pull", &tag])), (Value::Null, json!([])));

    // A mirror that is behind says what the tag means, and is named.
    let hosts = bench.hosts_dir_with(&origin, &[&near], "\"pull\", \"resolve\"");
    let newer = fixture::artifact(WASM_TYPE, fixture::random_bytes(9, 5_000));
    origin.publish(&newer, "1");
    let immune = told(&bench, &hosts, ["pull", &origin.pinned_to(newer.manifest_digest)]);
    assert_eq!(immune["digest"], newer.manifest_digest.to_string(), "a digest means the same everywhere");
    assert_eq!(by(&immune), (json!(origin.url()), json!([origin.url()])), "the mirror has it not");
    for command in ["resolve", "inspect", "pull"] {
        let stale = told(&bench, &hosts, [command, &tag]);
        assert_eq!(stale["resolved_by"], near.url(), "{command}");
        assert_eq!(stale["digest"], sample().manifest_digest.to_string(), "{command}");
        let fresh = told(&bench, &hosts, ["--origin-tags", command, &tag]);
        assert_eq!(fresh["resolved_by"], origin.url(), "{command}");
        assert_eq!(fresh["digest"], newer.manifest_digest.to_string(), "{command}");
    }
    let inspected = bench.dist(["--hosts-dir", &hosts, "inspect", &tag]).output();
    assert!(
        inspected.expect_code(0).stdout.contains(&format!("resolved by: {}\n", near.url())),
        "{}",
        inspected.stdout
    );
}

#[test]
fn a_transfer_that_went_on_elsewhere_names_both() {
    let (bench, origin) = (Bench::new(), registry());
    let cutting = mirror([Lie::CutBlob { after: 20_000, times: 1 }]);
    let hosts = bench.hosts_dir(&origin, &[&cutting]);
    let pulled = told(&bench, &hosts, ["pull", &origin.pinned()]);
    assert_eq!(pulled["served_by"], json!([cutting.url(), origin.url()]));
    assert_eq!(pulled["resolved_by"], cutting.url(), "it sent the manifest of the pin");
    // Who sent wrong bytes has sent nothing that is there.
    let (bench, liar) = (Bench::new(), mirror([Lie::WrongBlob]));
    let hosts = bench.hosts_dir(&origin, &[&liar]);
    assert_eq!(told(&bench, &hosts, ["pull", &origin.pinned()])["served_by"], json!([origin.url()]));
}
