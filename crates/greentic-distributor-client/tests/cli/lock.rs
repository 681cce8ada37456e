//! Lock files on the command line: written, checked, pulled, and refused when they are out of date.

use std::fs;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::process::Run;
use serde_json::{Value, json};

use crate::support::{Bench, error_of, registry, sample};

fn other(seed: u64) -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(seed, 3_000))
}

/// The program, run in the directory of the lock files.
fn dist<const N: usize>(bench: &Bench, args: [&str; N]) -> Run {
    bench.dist(args).dir(bench.path())
}

fn write(bench: &Bench, name: &str, content: &Value) {
    fs::write(bench.path().join(name), content.to_string()).unwrap();
}

#[test]
fn a_lock_is_written_checked_updated_and_pulled() {
    let (bench, registry) = (Bench::new(), registry());
    let (pin, reference) = (sample().manifest_digest.to_string(), registry.reference());
    let outcome = dist(&bench, ["lock", &reference]).output();
    outcome.expect_code(0);
    assert_eq!(outcome.stdout, format!("{pin} {reference}\n"));
    assert!(outcome.stderr.contains("wrote pack.lock.json"), "{}", outcome.stderr);
    let outcome = dist(&bench, ["lock", "add", &reference]).output();
    outcome.expect_code(0);
    assert!(outcome.stderr.contains("is up to date"), "{}", outcome.stderr);
    let outcome = dist(&bench, ["lock", "check"]).output();
    outcome.expect_code(0);
    assert_eq!(outcome.stdout, format!("ok {pin} {reference}\n"));
    let pulled = dist(&bench, ["pull", "--lock", "pack.lock.json"]).output();
    pulled.expect_code(0);
    let path = bench.cache().canonicalize().unwrap().join(pin.trim_start_matches("sha256:")).join("component.wasm");
    assert_eq!(pulled.stdout, format!("{pin} {}\n", path.display()));

    registry.publish(&other(2), "1");
    let now = other(2).manifest_digest.to_string();
    let outcome = dist(&bench, ["lock", "check"]).output();
    outcome.expect_code(9);
    assert_eq!(outcome.stdout, format!("changed {pin} {now} {reference}\n"));
    assert!(outcome.stderr.contains("lock update") && outcome.stderr.contains(&now), "{}", outcome.stderr);
    let outcome = dist(&bench, ["lock", "update", "hello"]).output();
    outcome.expect_code(0);
    assert_eq!(outcome.stdout, format!("{now} {reference}\n"));
    dist(&bench, ["lock", "check"]).output().expect_code(0);
    dist(&bench, ["lock", "update", "nobody"]).output().expect_code(2);
    dist(&bench, ["lock"]).output().expect_code(2);
    dist(&bench, ["lock", "check", "--lock", "no.json"]).output().expect_code(3);
}

#[test]
fn of_many_who_add_at_once_everybody_who_is_told_so_is_in_the_file() {
    let (bench, registry) = (Bench::new(), registry());
    let names: Vec<String> = (0..6).map(|seed| format!("seed{seed}")).collect();
    for (seed, name) in (10..).zip(&names) {
        registry.publish(&other(seed), name);
    }
    let (reference, _) =
        registry.reference().rsplit_once(':').map(|(name, tag)| (name.to_owned(), tag.to_owned())).unwrap();
    let reference_of = |name: &String| format!("{reference}:{name}");
    // On a file that is not there yet, and then on one that is.
    for round in names.chunks(3) {
        let added: Vec<_> = std::thread::scope(|scope| {
            let adding: Vec<_> = round
                .iter()
                .map(|name| (name, scope.spawn(|| dist(&bench, ["lock", "add", &reference_of(name)]).output())))
                .collect();
            adding.into_iter().map(|(name, adding)| (name, adding.join().unwrap())).collect()
        });
        let text = fs::read_to_string(bench.path().join("pack.lock.json")).unwrap();
        let in_the_file = |name: &String| text.contains(&reference_of(name));
        for (name, outcome) in &added {
            let is_there = in_the_file(name);
            outcome.expect_code(if is_there { 0 } else { 9 });
        }
        assert!(round.iter().any(in_the_file), "somebody is first: {text}");
    }
}

#[test]
fn row_40_locked_refuses_drift_with_9_where_a_plain_pull_is_content_with_the_locked_bytes() {
    let (bench, registry) = (Bench::new(), registry());
    dist(&bench, ["lock", &registry.reference()]).output().expect_code(0);
    for args in [&["pull", "--locked"][..], &["pull", "--lock", "pack.lock.json", "--locked"]] {
        bench.dist([]).args(args.iter().copied()).dir(bench.path()).output().expect_code(0);
    }
    registry.publish(&other(2), "1");
    dist(&bench, ["pull", "--lock", "pack.lock.json"]).output().expect_code(0);
    let outcome = dist(&bench, ["--json", "pull", "--locked"]).output();
    let error = error_of(&outcome, 9, "lock_out_of_date");
    let message = error["message"].as_str().unwrap();
    for part in [sample().manifest_digest, other(2).manifest_digest] {
        assert!(message.contains(&part.to_string()), "{message}");
    }
    dist(&bench, ["pull", "--lock", "pack.lock.json"]).env("GREENTIC_DIST_LOCKED", "1").output().expect_code(9);
    // Where the bytes are not here, the moved tag is found out in any case.
    let elsewhere = Bench::new();
    fs::copy(bench.path().join("pack.lock.json"), elsewhere.path().join("pack.lock.json")).unwrap();
    dist(&elsewhere, ["pull", "--lock", "pack.lock.json"]).output().expect_code(8);
    write(&bench, "unpinned.json", &json!([registry.reference()]));
    dist(&bench, ["pull", "--lock", "unpinned.json"]).output().expect_code(0);
    dist(&bench, ["pull", "--lock", "unpinned.json", "--locked"]).output().expect_code(9);
}

#[test]
fn the_json_of_a_lock_is_an_array_with_the_reference_of_every_entry() {
    let (bench, registry) = (Bench::new(), registry());
    let pin = sample().manifest_digest;
    write(&bench, "l.json", &json!([{ "name": "a", "ref": registry.reference(), "digest": pin }]));
    let outcome = dist(&bench, ["--json", "pull", "--lock", "l.json"]).output();
    outcome.expect_code(0);
    let document = outcome.json();
    let [item] = document.as_array().unwrap().as_slice() else { panic!("{document}") };
    for (key, value) in [
        ("reference", json!(registry.reference())),
        ("digest", json!(pin)),
        ("content_digest", json!(sample().layer_digest())),
        ("fetched", json!(true)),
        ("index", json!(0)),
        ("name", json!("a")),
        ("size_bytes", json!(200_000)),
    ] {
        assert_eq!(item[key], value, "{key}");
    }
    assert!(fs::read(item["cache_path"].as_str().unwrap()).unwrap() == sample().layer_bytes());

    write(&bench, "l.json", &json!([registry.reference(), registry.reference_to("nothing"), { "digest": pin }]));
    let outcome = dist(&bench, ["--json", "pull", "--lock", "l.json"]).output();
    let error = error_of(&outcome, 3, "not_found");
    assert!(error["message"].as_str().unwrap().starts_with("entry 1 of l.json: "), "{error}");
    let document = outcome.json();
    let results = document["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!((&results[0]["digest"], &results[2]["digest"]), (&json!(pin), &json!(pin)));
    assert_eq!(results[1]["error"]["exit"], 3);
    assert_eq!(results[1]["reference"], registry.reference_to("nothing"));
    // An entry that is only a digest has it as its reference.
    assert_eq!(results[2]["reference"], pin.to_string());
}

#[test]
fn the_json_of_lock_tells_both_digests() {
    let (bench, registry) = (Bench::new(), registry());
    let outcome = dist(&bench, ["--json", "lock", &registry.reference()]).output();
    outcome.expect_code(0);
    let document = outcome.json();
    assert_eq!((&document["path"], &document["written"]), (&json!("pack.lock.json"), &json!(true)));
    let entry = &document["entries"][0];
    assert_eq!(
        (&entry["previous_digest"], &entry["current"], &entry["name"]),
        (&Value::Null, &json!(false), &json!("hello"))
    );
    assert_eq!(entry["content_digest"], sample().layer_digest().to_string());
    registry.publish(&other(2), "1");
    let outcome = dist(&bench, ["--json", "lock", "check"]).output();
    error_of(&outcome, 9, "lock_out_of_date");
    let entry = &outcome.json()["results"][0];
    assert_eq!(entry["previous_digest"], sample().manifest_digest.to_string());
    assert_eq!(entry["digest"], other(2).manifest_digest.to_string());
    let outcome = dist(&bench, ["--json", "lock", "update"]).output();
    outcome.expect_code(0);
    assert_eq!(outcome.json()["entries"][0]["previous_digest"], sample().manifest_digest.to_string());
    let outcome = dist(&bench, ["--json", "lock", "add", &registry.reference_to("nothing")]).output();
    error_of(&outcome, 3, "not_found");
    assert!(outcome.stderr.contains("nothing was written"), "{}", outcome.stderr);
}

#[test]
fn row_13_every_problem_of_a_lock_file_is_a_line_and_nothing_is_asked_for() {
    let (bench, registry) = (Bench::new(), registry());
    let mut entries = vec![json!(registry.reference()); 30];
    entries[5..28].fill(json!({ "digest": "no" }));
    write(&bench, "l.json", &json!({ "components": entries }));
    let outcome = dist(&bench, ["--json", "pull", "--lock", "l.json"]).output();
    let error = error_of(&outcome, 2, "invalid_input");
    let causes: Vec<&str> = error["causes"].as_array().unwrap().iter().map(|cause| cause.as_str().unwrap()).collect();
    assert_eq!(causes.len(), 21);
    assert!(causes[0].starts_with("`components[5].digest`: ") && causes[19].starts_with("`components[24].digest`"));
    assert_eq!(causes[20], "and 3 more");
    assert!(registry.journal().is_empty());
    bench.assert_canary_in_no_file();
}

#[test]
fn a_pull_of_nothing_or_of_both_a_reference_and_a_lock_is_wrong_usage() {
    let bench = Bench::new();
    let outcome = dist(&bench, ["pull"]).output();
    outcome.expect_code(2);
    assert!(outcome.stderr.contains("--lock"), "{}", outcome.stderr);
    for args in [["pull", "x.y/z", "--lock"], ["pull", "--lock", "x.json"]] {
        let outcome = bench.dist(args).args(["l.json"]).output();
        outcome.expect_code(2);
    }
    dist(&bench, ["pull", "--locked", "x.y/z"]).output().expect_code(2);
    let outcome = dist(&bench, ["pull", "--locked"]).output();
    outcome.expect_code(3);
    assert!(outcome.stderr.contains("pack.lock.json"), "{}", outcome.stderr);
}

#[test]
fn row_40_a_tag_that_moved_since_it_was_resolved_is_told_with_both_digests() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    registry.publish(&other(2), "1");
    let outcome = bench.run(["resolve", &registry.reference()]);
    outcome.expect_code(0);
    assert_eq!(outcome.line(), other(2).manifest_digest.to_string());
    let moved = format!("was {} and is now {}", sample().manifest_digest, other(2).manifest_digest);
    assert!(outcome.stderr.contains(&moved), "{}", outcome.stderr);
    // Pulled once more it is known, and no news.
    bench.pull(&registry.reference());
    assert_eq!(bench.run(["pull", &registry.reference()]).stderr, "");
}
