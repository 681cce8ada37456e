//! `inspect`: what a manifest says and what is said about it, in a registry, a layout and the cache.

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::{LyingServer, Response};
use serde_json::{Value, json};

use crate::support::Bench;

fn registry() -> RunningRegistry {
    Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap()
}

/// The content in a layout and, copied from there, in a registry as `acme/hello:1`.
fn published(bench: &Bench, registry: &RunningRegistry, content: &Content) -> (tempfile::TempDir, String) {
    let layout = tempfile::tempdir().unwrap();
    content.write_layout(layout.path(), "1");
    let reference = format!("{}/acme/hello:1", registry.host());
    bench.run(["copy", &format!("oci-layout:{}:1", layout.path().display()), &reference]).expect_code(0);
    (layout, reference)
}

#[track_caller]
fn inspected(bench: &Bench, reference: &str) -> Value {
    let outcome = bench.run(["--json", "inspect", reference]);
    outcome.expect_code(0);
    outcome.json()
}

#[test]
fn layers_config_and_referrers_are_told_of_a_registry_and_of_a_layout_alike() {
    let (bench, registry) = (Bench::new(), registry());
    let content = content::with_subject();
    let (layout, reference) = published(&bench, &registry, &content);
    let document = inspected(&bench, &reference);
    let oci = &document["oci"];
    assert_eq!(document["digest"], content.root.digest.to_string());
    assert_eq!(oci["manifest"], serde_json::from_slice::<Value>(&content.root.bytes).unwrap());
    assert_eq!(oci["config"]["media_type"], "application/vnd.wasm.config.v0+json");
    assert_eq!((&oci["layers"][0]["size_bytes"], oci["layers"].as_array().unwrap().len()), (&json!(3_000), 1));
    assert_eq!(oci["referrers"][0]["digest"], content.manifests[0].digest.to_string());
    assert_eq!(oci["referrers_unknown"], Value::Null);
    for place in [format!("oci-layout:{}:1", layout.path().display()), layout.path().display().to_string()] {
        let local = inspected(&bench, &place);
        assert_eq!(local["digest"], document["digest"]);
        for same in ["manifest", "config", "layers", "annotations", "manifest_digest", "media_type", "size_bytes"] {
            assert_eq!(local["oci"][same], oci[same], "{same}");
        }
        assert_eq!(local["oci"]["referrers"][0]["digest"], oci["referrers"][0]["digest"]);
    }
    let text = bench.run(["inspect", &reference]);
    for line in [
        format!("manifest: {} {} {} bytes", content.root.digest, fixture::MANIFEST_TYPE, content.root.bytes.len()),
        format!("layer: {} application/wasm 3000 bytes", content.blobs[1].digest),
        format!(
            "referrer: {} {} {} bytes application/spdx+json",
            content.manifests[0].digest,
            fixture::MANIFEST_TYPE,
            content.manifests[0].bytes.len()
        ),
    ] {
        assert!(text.stdout.lines().any(|printed| printed == line), "`{line}` is missing:\n{}", text.stdout);
    }
}

#[test]
fn an_index_is_told_with_its_platforms_and_the_manifest_chosen_from_it() {
    let (bench, registry) = (Bench::new(), registry());
    let content = content::index();
    let (_layout, reference) = published(&bench, &registry, &content);
    let document = inspected(&bench, &reference);
    let oci = &document["oci"];
    assert_eq!(
        (&oci["digest"], &oci["manifest_digest"]),
        (&json!(content.root.digest.to_string()), &document["digest"])
    );
    let platforms: Vec<&Value> = oci["platforms"].as_array().unwrap().iter().map(|entry| &entry["platform"]).collect();
    assert_eq!(platforms, ["linux/amd64", "wasip2/wasm"]);
    assert_eq!(oci["platforms"][1]["digest"], document["digest"]);
    assert_eq!(oci["referrers"], json!([]));
    let text = bench.run(["inspect", &reference]);
    assert!(
        text.stdout.contains("platform wasip2/wasm: sha256:") && text.stdout.contains("referrers: none"),
        "{}",
        text.stdout
    );
}

/// What the registry was asked since it was asked `already` things.
fn asked(registry: &RunningRegistry, already: usize) -> Vec<String> {
    registry.journal()[already..].iter().map(|one| format!("{} {}", one.line(), one.status)).collect()
}

fn manifest_line(name: impl std::fmt::Display, status: u16) -> String {
    format!("GET /v2/acme/hello/manifests/{name} {status}")
}

fn referrers_line(digest: greentic_dist_types::Digest) -> String {
    format!("GET /v2/acme/hello/referrers/{digest} 200")
}

#[test]
fn inspecting_asks_for_each_manifest_once_and_for_no_blob_and_keeps_nothing() {
    for content in [content::image(), content::artifact()] {
        let (bench, registry) = (Bench::new(), registry());
        let (_layout, reference) = published(&bench, &registry, &content);
        let already = registry.journal().len();
        assert_eq!(inspected(&bench, &reference)["digest"], content.root.digest.to_string());
        assert_eq!(asked(&registry, already), [manifest_line("1", 200), referrers_line(content.root.digest)]);
        assert_eq!(bench.run(["cache", "ls"]).stdout, "");
    }
    let (bench, registry) = (Bench::new(), registry());
    let content = content::index();
    let (_layout, reference) = published(&bench, &registry, &content);
    let (root, child) = (content.root.digest, content.manifests[1].digest);
    let already = registry.journal().len();
    let first = inspected(&bench, &reference);
    assert_eq!(
        (&first["cached"], &first["fetched"], &first["manifest_path"]),
        (&json!(false), &json!(false), &Value::Null)
    );
    assert_eq!(first["oci"]["layers"][0]["digest"], first["content_digest"]);
    let rest = [referrers_line(root), referrers_line(child)];
    let manifests = [manifest_line("1", 200), manifest_line(child, 200)];
    assert_eq!(asked(&registry, already), [&manifests[..], &rest].concat());

    // Of what is in the cache the registry is asked whether the tag moved, and what refers to it.
    bench.pull(&reference);
    let already = registry.journal().len();
    let second = inspected(&bench, &reference);
    assert_eq!(asked(&registry, already), [&[manifest_line("1", 304)][..], &rest].concat());
    assert_eq!((&second["cached"], &second["oci"]), (&json!(true), &first["oci"]));
    let pinned = format!("{}@{root}", reference.trim_end_matches(":1"));
    bench.pull(&pinned);
    let already = registry.journal().len();
    assert_eq!(inspected(&bench, &pinned)["oci"], first["oci"]);
    assert_eq!(asked(&registry, already), rest);
}

#[test]
fn an_index_for_other_platforms_is_told_with_its_platforms() {
    let (bench, registry) = (Bench::new(), registry());
    let content = content::variants(&[("arm", "v6"), ("arm", "v7")]);
    let (_layout, reference) = published(&bench, &registry, &content);
    let oci = inspected(&bench, &reference)["oci"].clone();
    let platforms: Vec<&Value> = oci["platforms"].as_array().unwrap().iter().map(|entry| &entry["platform"]).collect();
    assert_eq!(
        (platforms, &oci["manifest_digest"]),
        (vec![&json!("linux/arm/v6"), &json!("linux/arm/v7")], &Value::Null)
    );
}

#[test]
fn what_is_no_artifact_of_ours_is_described_and_not_kept() {
    let (bench, registry) = (Bench::new(), registry());
    let content = content::artifact();
    let (_layout, reference) = published(&bench, &registry, &content);
    let document = inspected(&bench, &reference);
    assert_eq!(document["oci"]["artifact_type"], "application/vnd.example.notes");
    assert_eq!(document["cache_dir"], Value::Null);
    assert_eq!(bench.run(["cache", "ls"]).stdout, "");
    let text = bench.run(["inspect", &reference]);
    assert!(text.stdout.contains("declared type: application/vnd.example.notes"), "{}", text.stdout);
}

#[test]
fn that_nobody_could_be_asked_about_referrers_is_not_that_there_are_none() {
    let (bench, registry) = (Bench::new(), registry());
    let content = content::image();
    let (_layout, reference) = published(&bench, &registry, &content);
    bench.pull(&reference);
    let digest = content.root.digest.to_string();
    for (args, why) in
        [(vec!["--offline", "inspect", reference.as_str()], "offline"), (vec!["inspect", &digest], "names no registry")]
    {
        let outcome = bench.dist([]).args(&args).output();
        outcome.expect_code(0);
        let line = outcome.stdout.lines().find(|line| line.starts_with("referrers: ")).unwrap();
        assert!(line.starts_with("referrers: unknown (") && line.contains(why), "{line}");
        assert!(outcome.stdout.contains("layer: "), "{}", outcome.stdout);
        let oci = bench.dist(["--json"]).args(&args).output().json()["oci"].clone();
        assert_eq!(oci["referrers"], Value::Null);
        assert!(oci["referrers_unknown"].as_str().unwrap().contains(why));
        assert_eq!(oci["manifest_digest"], digest);
    }
    // A registry that refuses to say.
    let (root, blobs) = (content.root.clone(), content.blobs.clone());
    let server = LyingServer::start(move |request, _| {
        if request.path.contains("/referrers/") {
            return Response::oci_error(403, "DENIED", "not for you");
        }
        if request.path.contains("/manifests/") {
            return Response::ok(root.bytes.clone()).header("Content-Type", root.media_type.as_str());
        }
        let blob = blobs.iter().find(|blob| request.path.ends_with(&blob.digest.to_string())).unwrap();
        Response::ok(blob.bytes.clone())
    });
    let oci = inspected(&bench, &format!("{}/acme/hello:1", server.host()))["oci"].clone();
    assert_eq!(oci["referrers"], Value::Null);
    assert!(oci["referrers_unknown"].as_str().unwrap().contains("403"), "{oci}");
}

#[test]
fn a_registry_that_went_away_takes_nothing_from_what_is_cached() {
    let (bench, registry) = (Bench::new(), registry());
    let (_layout, reference) = published(&bench, &registry, &content::image());
    let pinned = bench.run(["resolve", &reference]).line().to_owned();
    let pinned = format!("{}@{pinned}", reference.trim_end_matches(":1"));
    bench.pull(&pinned);
    registry.stop();
    let document = inspected(&bench, &pinned);
    assert!(document["oci"]["layers"].as_array().unwrap().len() == 3);
    assert!(document["oci"]["referrers_unknown"].as_str().unwrap().contains("connection"), "{}", document["oci"]);
}
