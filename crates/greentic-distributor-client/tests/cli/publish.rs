//! `push`, `copy`, `tags`, `catalog`, `tag` and `delete`: what they print, and what they refuse.

use std::fs;
use std::path::PathBuf;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::content;
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::process::Outcome;
use greentic_dist_testkit::scenario::bystander;
use greentic_dist_testkit::{LyingServer, Response};
use serde_json::{Value, json};

use crate::support::{Bench, error_of};

fn registry() -> RunningRegistry {
    Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap()
}

/// A component in a directory beside the bench's.
fn component(bench: &Bench) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.wasm");
    fs::write(&path, fixture::component_bytes()).unwrap();
    assert!(bench.path().is_dir());
    (dir, path)
}

#[track_caller]
fn ok(outcome: &Outcome) -> &Outcome {
    outcome.expect_code(0)
}

#[test]
fn push_prints_the_pinned_reference_that_pull_takes() {
    let (bench, registry) = (Bench::new(), registry());
    let (_dir, file) = component(&bench);
    let reference = format!("{}/acme/hello:1", registry.host());
    let dry = bench.run(["push", "--dry-run", file.to_str().unwrap(), &reference]);
    ok(&dry);
    assert!(
        dry.stderr.contains("would push a component (application/wasm, 308 B) with 1; nothing was sent"),
        "{}",
        dry.stderr
    );
    assert_eq!(registry.requests(), 0);
    let pushed = bench.run(["push", file.to_str().unwrap(), &reference]);
    assert_eq!(ok(&pushed).line(), dry.line());
    assert!(pushed.stderr.contains("pushed a component"), "{}", pushed.stderr);
    assert!(pushed.line().starts_with(&format!("oci://{}/acme/hello@sha256:", registry.host())));
    assert_eq!(fs::read(bench.pull(pushed.line())).unwrap(), fixture::component_bytes());
    let again = bench.run(["push", file.to_str().unwrap(), &reference]);
    assert!(ok(&again).stderr.contains("was there already; it has 1"), "{}", again.stderr);
    bench.assert_nothing_outside_changed();
}

#[test]
fn push_tells_everything_as_json_and_takes_its_instant_from_the_environment() {
    let (bench, registry) = (Bench::new(), registry());
    let (_dir, file) = component(&bench);
    let reference = format!("{}/acme/hello:1", registry.host());
    let args = ["--json", "push", file.to_str().unwrap(), &reference, "--tag", "latest", "--annotation", "a=b=c"];
    let outcome = bench.dist(args).env("SOURCE_DATE_EPOCH", "1700000000").output();
    let document = ok(&outcome).json();
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "blobs_copied",
            "blobs_present",
            "config",
            "content_digest",
            "digest",
            "dry_run",
            "existed",
            "kind",
            "manifest",
            "media_type",
            "pinned",
            "reference",
            "size_bytes",
            "tags",
        ]
    );
    assert_eq!(document["tags"], json!(["1", "latest"]));
    assert_eq!(document["kind"], "component");
    assert_eq!(document["config"]["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        document["manifest"]["annotations"],
        json!({ "a": "b=c", "org.opencontainers.image.created": "2023-11-14T22:13:20Z" })
    );
    let wrong = bench.dist(args).env("SOURCE_DATE_EPOCH", "yesterday").output();
    error_of(&wrong, 2, "invalid_input");
    for (annotation, says) in [("novalue", "write KEY=VALUE"), ("=x", "no usable key")] {
        let wrong = bench.run(["--json", "push", file.to_str().unwrap(), &reference, "--annotation", annotation]);
        let error = error_of(&wrong, 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
}

#[test]
fn copy_prints_the_digest_and_counts_what_it_did() {
    let (bench, registry) = (Bench::new(), registry());
    let (dir, file) = component(&bench);
    let source = format!("{}/acme/hello:1", registry.host());
    let digest =
        ok(&bench.run(["push", file.to_str().unwrap(), &source])).line().rsplit_once('@').unwrap().1.to_owned();
    let layout = format!("oci-layout:{}", dir.path().join("layout").display());
    let copied = bench.run(["copy", &source, &layout]);
    assert_eq!(ok(&copied).line(), digest);
    assert!(copied.stderr.contains("1 manifests (0 there already), 2 blobs (0 there already), "), "{}", copied.stderr);
    let document = ok(&bench.run(["--json", "copy", &source, &layout])).json();
    assert_eq!(
        document,
        json!({
            "digest": digest, "media_type": "application/vnd.oci.image.manifest.v1+json", "tags": ["1"],
            "manifests_copied": 0, "manifests_present": 1, "blobs_copied": 0, "blobs_present": 2, "blobs_mounted": 0,
            "bytes_copied": 0, "referrers": 0, "referrers_gone": 0, "referrers_unknown": null,
        })
    );
    let tar = dir.path().join("hello.tar");
    ok(&bench.run(["copy", &layout, tar.to_str().unwrap()]));
    let again = bench.run(["--json", "copy", &layout, tar.to_str().unwrap()]);
    let error = error_of(&again, 2, "invalid_input");
    assert!(error["hints"][0].as_str().unwrap().contains("--force"), "{error}");
    ok(&bench.run(["copy", "--force", &layout, tar.to_str().unwrap()]));
    let elsewhere = format!("{}/other/hello:2", registry.host());
    assert_eq!(ok(&bench.run(["copy", tar.to_str().unwrap(), &elsewhere])).line(), digest);
    assert_eq!(ok(&bench.run(["resolve", &elsewhere])).line(), digest);
    let already = registry.journal().len();
    let unasked = format!("{}/unasked/hello:2", registry.host());
    assert_eq!(ok(&bench.run(["copy", "--assume-missing", tar.to_str().unwrap(), &unasked])).line(), digest);
    let mut methods: Vec<String> = registry.journal()[already..].iter().map(|one| one.method.clone()).collect();
    methods.sort();
    assert_eq!(methods, ["POST", "POST", "PUT", "PUT", "PUT"], "two blobs and a manifest, and no question");
    let absent = bench.run(["--json", "copy", &format!("oci-layout:{}", dir.path().join("no").display()), &layout]);
    error_of(&absent, 3, "not_found");
    let platform = bench.run(["copy", "--platform", "wasm", &source, &layout]);
    platform.expect_code(2);
    bench.assert_nothing_outside_changed();
}

#[test]
fn the_limits_of_a_copy_are_named_and_raised_on_the_command_line() {
    let (bench, registry) = (Bench::new(), registry());
    let (dir, file) = component(&bench);
    let reference = format!("{}/acme/hello:1", registry.host());
    ok(&bench.run(["push", file.to_str().unwrap(), &reference]));
    let to = format!("oci-layout:{}", dir.path().join("layout").display());
    for (limit, named) in [
        ("artifact-bytes=200", "--set-limit artifact-bytes=400"),
        ("copy-manifest-bytes=100", "--set-limit copy-manifest-bytes=200"),
    ] {
        let refused = bench.run(["--json", "copy", "--set-limit", limit, &reference, &to]);
        let error = error_of(&refused, 10, "internal");
        assert!(error["hints"].to_string().contains(named), "{error}");
        assert!(!dir.path().join("layout").exists());
    }
    let (blobs, manifests) = ("artifact-bytes=400", "copy-manifest-bytes=4KiB");
    let copied = bench.run(["--json", "copy", "--set-limit", blobs, "--set-limit", manifests, &reference, &to]);
    assert_eq!(ok(&copied).json()["referrers_gone"], 0);
}

#[test]
fn tags_and_repositories_are_listed_a_line_each_and_as_json() {
    let (bench, registry) = (Bench::new(), registry());
    let (_dir, file) = component(&bench);
    let name = format!("{}/acme/hello", registry.host());
    ok(&bench.run(["push", file.to_str().unwrap(), &format!("{name}:1"), "--tag", "2", "--tag", "3"]));
    assert_eq!(ok(&bench.run(["tags", &name])).stdout, "1\n2\n3\n");
    let two = bench.run(["tags", "--limit", "2", &name]);
    assert_eq!(ok(&two).stdout, "1\n2\n");
    assert!(two.stderr.contains("there are more"), "{}", two.stderr);
    let document = ok(&bench.run(["--json", "tags", &format!("oci://{name}:1"), "--limit", "3"])).json();
    assert_eq!(document, json!({ "reference": name, "tags": ["1", "2", "3"], "more": false }));
    assert_eq!(ok(&bench.run(["catalog", &registry.host()])).stdout, "acme/hello\n");
    let document = ok(&bench.run(["--json", "catalog", &registry.host()])).json();
    assert_eq!(document, json!({ "registry": registry.host(), "repositories": ["acme/hello"], "more": false }));
    error_of(&bench.run(["--json", "tags", &format!("{}/no/thing", registry.host())]), 3, "not_found");
    error_of(&bench.run(["--json", "tags", "alpine"]), 2, "invalid_input");
    error_of(&bench.run(["--json", "catalog", "not a host"]), 2, "invalid_input");
    error_of(&bench.run(["--json", "--offline", "tags", &name]), 4, "offline");
    bench.run(["tags", "--limit", "0", &name]).expect_code(2);
}

#[test]
fn a_tag_is_set_and_said_and_one_that_is_there_is_left_alone() {
    let (bench, registry) = (Bench::new(), registry());
    let (_dir, file) = component(&bench);
    let name = format!("{}/acme/hello", registry.host());
    ok(&bench.run(["push", file.to_str().unwrap(), &format!("{name}:1")]));
    let set = bench.run(["tag", &format!("{name}:1"), "stable", "1"]);
    assert!(ok(&set).stderr.contains("now has stable") && set.stderr.contains("it had 1 already"), "{}", set.stderr);
    let document = ok(&bench.run(["--json", "tag", &format!("{name}:stable"), "stable", "next"])).json();
    assert_eq!(document["digest"], set.line());
    assert_eq!((&document["tags"], &document["unchanged"]), (&json!(["stable", "next"]), &json!(["stable"])));
    assert_eq!(ok(&bench.run(["tags", &name])).stdout, "1\nnext\nstable\n");
    error_of(&bench.run(["--json", "tag", &format!("{name}:1"), "fine", "a b"]), 2, "invalid_input");
}

#[test]
fn nothing_is_deleted_without_being_asked_and_a_tag_is_never_its_manifest() {
    let (bench, registry) = (Bench::new(), registry());
    let (_dir, file) = component(&bench);
    let name = format!("{}/acme/hello", registry.host());
    let pushed = bench.run(["push", file.to_str().unwrap(), &format!("{name}:1"), "--tag", "2"]);
    let digest = ok(&pushed).line().rsplit_once('@').unwrap().1.to_owned();
    let tag = format!("{name}:1");
    // Tests have no terminal to be asked on.
    let unasked = bench.run(["--json", "delete", &tag]);
    let error = error_of(&unasked, 2, "invalid_input");
    assert!(error["hints"][0].as_str().unwrap().contains("--yes"), "{error}");
    let dry = bench.run(["delete", "--dry-run", &tag]);
    assert!(
        ok(&dry).stderr.contains(&format!("would delete the tag `1` of {name}; the manifest stays")),
        "{}",
        dry.stderr
    );
    for wrong in [name.clone(), format!("{name}@{digest}")] {
        let error = error_of(&bench.run(["--json", "delete", "--yes", &wrong]), 2, "invalid_input");
        assert_eq!(error["hints"].as_array().unwrap().len(), usize::from(wrong.contains('@')), "{error}");
    }
    assert_eq!(ok(&bench.run(["tags", &name])).stdout, "1\n2\n");
    let gone = ok(&bench.run(["--json", "delete", "--yes", &tag])).json();
    assert_eq!(gone, json!({ "reference": tag, "tag": "1", "digest": null, "deleted": true, "dry_run": false }));
    assert_eq!(ok(&bench.run(["tags", &name])).stdout, "2\n");
    let gone = ok(&bench.run(["--json", "delete", "--yes", "--manifest", &format!("{name}:2")])).json();
    assert_eq!((&gone["tag"], &gone["digest"]), (&Value::Null, &json!(digest)));
    assert_eq!(bench.run(["resolve", &format!("{name}@{digest}")]).code, Some(3));
    error_of(&bench.run(["--json", "delete", "--yes", &tag]), 3, "not_found");
}

#[test]
fn the_names_of_a_layout_are_listed_given_and_taken_away() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let content = content::image();
    content.write_layout(dir.path(), "1");
    let digest = content.root.digest.to_string();
    let layout = format!("oci-layout:{}", dir.path().display());
    assert_eq!(ok(&bench.run(["tags", &layout])).stdout, "1\n");
    let report = ok(&bench.run(["--json", "tag", &layout, "1", "latest"])).json();
    assert_eq!((&report["digest"], &report["unchanged"]), (&json!(digest), &json!(["1"])));
    let tags = ok(&bench.run(["--json", "tags", dir.path().to_str().unwrap()])).json();
    assert_eq!(tags, json!({ "reference": layout, "tags": ["1", "latest"], "more": false }));
    let first = ok(&bench.run(["--json", "tags", "--limit", "1", &layout])).json();
    assert_eq!((&first["tags"], &first["more"]), (&json!(["1"]), &json!(true)));
    error_of(&bench.run(["--json", "tag", &layout, "a/b"]), 2, "invalid_input");

    // An archive has the same names, and keeps them.
    let archive = format!("oci-archive:{}", dir.path().with_extension("tar").display());
    ok(&bench.run(["copy", &format!("{layout}:latest"), &archive]));
    assert_eq!(ok(&bench.run(["tags", &archive])).stdout, "latest\n");
    for args in [["tag", &archive, "2"].as_slice(), &["delete", "--yes", &format!("{archive}:latest")]] {
        let error = error_of(&bench.dist(["--json"]).args(args).output(), 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().contains("written as a whole"), "{error}");
    }
    fs::remove_file(dir.path().with_extension("tar")).unwrap();

    // A name goes and the manifest stays, until that is meant.
    let tag = format!("{layout}:1");
    let before = fs::read(dir.path().join("index.json")).unwrap();
    let dry = bench.run(["delete", "--dry-run", &tag]);
    assert!(
        ok(&dry).stderr.contains(&format!("would delete the tag `1` of {layout}; the manifest stays")),
        "{}",
        dry.stderr
    );
    assert_eq!(fs::read(dir.path().join("index.json")).unwrap(), before);
    error_of(&bench.run(["--json", "delete", "--yes", &layout]), 2, "invalid_input");
    error_of(&bench.run(["--json", "delete", "--yes", &format!("{layout}@{digest}")]), 2, "invalid_input");
    for name in ["1", "latest"] {
        let gone = ok(&bench.run(["--json", "delete", "--yes", &format!("{layout}:{name}")])).json();
        assert_eq!((&gone["tag"], &gone["deleted"]), (&json!(name), &json!(true)));
    }
    error_of(&bench.run(["--json", "delete", "--yes", &tag]), 3, "not_found");
    assert_eq!(ok(&bench.run(["--json", "inspect", &layout])).json()["digest"], digest);
    ok(&bench.run(["delete", "--yes", "--manifest", &format!("{layout}@{digest}")]));
    error_of(&bench.run(["--json", "inspect", &layout]), 3, "not_found");
    let blob = dir.path().join("blobs/sha256").join(content.root.digest.to_hex());
    assert!(blob.is_file(), "content is never removed");
    let absent = dir.path().join("absent");
    let nothing = format!("oci-layout:{}:1", absent.display());
    error_of(&bench.run(["--json", "delete", "--yes", &nothing]), 3, "not_found");
    assert!(!absent.exists());
}

#[test]
fn what_a_registry_warns_of_is_said_once_and_without_its_escapes() {
    let bench = Bench::new();
    let server = LyingServer::start(|request, _| {
        let is_last = request.target.contains("last=1");
        let (tag, link) = if is_last { ("2", "") } else { ("1", "</v2/acme/hello/tags/list?last=1>; rel=\"next\"") };
        let page = Response::ok(format!(r#"{{"name":"acme/hello","tags":["{tag}"]}}"#))
            .header("Content-Type", "application/json")
            .header("Warning", "299 - \"this registry \u{202e}moves\"");
        if is_last { page } else { page.header("Link", link) }
    });
    let name = format!("{}/acme/hello", server.host());
    let outcome = bench.run(["tags", &name]);
    assert_eq!(ok(&outcome).stdout, "1\n2\n");
    assert_eq!(outcome.stderr.matches("this registry").count(), 1, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\u{202e}'), "{:?}", outcome.stderr);
    assert_eq!(server.journal().len(), 2);
}

/// The page about publishing.
fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/publishing.md")).unwrap()
}

#[test]
fn the_examples_of_the_page_run_in_their_order() {
    let (bench, ours, mirror) = (Bench::new(), registry(), registry());
    let (dir, _file) = component(&bench);
    let page = page().replace(" \\\n", " ");
    let examples: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    greentic-dist ")).collect();
    assert!(examples.len() >= 11, "{examples:#?}");
    for example in examples {
        let here = example.replace("ghcr.io", &ours.host()).replace("registry.example", &mirror.host());
        let mut args: Vec<&str> = here.split_whitespace().collect();
        if args[0] == "delete" {
            // There is no terminal to be asked on.
            args.push("--yes");
        }
        let outcome = bench.dist([]).args(args).dir(dir.path()).output();
        assert_eq!(outcome.code, Some(0), "{example}: {}", outcome.stderr);
    }
    let tags = bench.run(["tags", &format!("{}/acme/hello", ours.host())]);
    assert_eq!(ok(&tags).stdout, "1\n1.2\nlatest\nstable\n");
    assert_eq!(ok(&bench.run(["catalog", &mirror.host()])).stdout, "acme/hello\nmirror/hello\n");
    bench.assert_nothing_outside_changed();
}

#[test]
fn the_code_on_the_page_is_the_example_that_is_compiled() {
    let page = page();
    let (_, code) = page.split_once("```rust\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let module = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/oci/mod.rs")).unwrap();
    for line in code.lines().filter(|line| !line.is_empty()) {
        assert!(module.lines().any(|compiled| compiled == format!("//! {line}")), "`{line}` is not compiled");
    }
}

#[test]
fn row_54_the_next_page_of_a_list_is_never_asked_for_elsewhere_or_for_ever() {
    let stranger = bystander([127, 0, 0, 2].into());
    for (link, exit, code) in [
        (format!("{}/v2/acme/hello/tags/list?last=1", stranger.url()), 6, "policy"),
        ("ftp://127.0.0.1/list".to_owned(), 6, "policy"),
        ("/v2/acme/hello/tags/list".to_owned(), 10, "internal"),
    ] {
        let next = format!("<{link}>; rel=\"next\"");
        let server = LyingServer::start(move |_, _| {
            Response::ok(r#"{"name":"acme/hello","tags":["1"]}"#)
                .header("Content-Type", "application/json")
                .header("Link", next.clone())
        });
        let name = format!("{}/acme/hello", server.host());
        let outcome = Bench::new().dist(["--json", "tags", &name]).output();
        error_of(&outcome, exit, code);
        assert_eq!(server.journal().len(), 1, "{link}");
    }
    assert_eq!(stranger.connections(), 0);
}
