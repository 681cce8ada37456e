//! A directory of packs and components, served as a registry and as a distributor.

use std::fs;
use std::sync::{Arc, Mutex};

use greentic_dist_serve::{AccessEvent, Registry, RunningRegistry, ServeError, ServeOptions, TreeLayout};
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::raw_client::Answer;
use greentic_dist_types::{Digest, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ask, assert_error, get, started};

pub(crate) const PART: &[u8] = b"\0asm\x0d\0\x01\0 part";
pub(crate) const KIT: &[u8] = b"PK a pack";

pub(crate) struct Served {
    pub(crate) dir: TempDir,
    pub(crate) running: RunningRegistry,
}

impl Served {
    pub(crate) fn new(layout: TreeLayout, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let served = Self { running: started(&Registry::over_tree(&root, layout).unwrap()), dir };
        for (path, bytes) in files {
            served.file(path, bytes);
        }
        served
    }

    pub(crate) fn flat() -> Self {
        let files: [(&str, &[u8]); 4] = [
            ("root/components/part-1.2.0.wasm", PART),
            ("root/components/part-1.10.0+b.5.wasm", b"build"),
            ("root/packs/kit-1.0.0.gtpack", KIT),
            ("root/packs/README.md", b"not a pack"),
        ];
        Self::new(TreeLayout::Flat, &files)
    }

    pub(crate) fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn post(&self, endpoint: &str, document: &Value) -> Answer {
        let json = [("Content-Type", "application/json")];
        ask(&self.running, "POST", &format!("/distributor-api/{endpoint}"), &json, document.to_string().as_bytes())
    }

    pub(crate) fn resolve(&self, component: &str, version: &str) -> Answer {
        self.post("resolve-component", &question(component, version))
    }
}

/// A whole question for a component.
pub(crate) fn question(component: &str, version: &str) -> Value {
    json!({
        "tenant": { "env": "dev", "tenant": "acme", "tenant_id": "acme", "attempt": 0 },
        "environment_id": "edge-1",
        "pack_id": "kit",
        "component_id": component,
        "version": version,
        "extra": {},
    })
}

/// The one layer of the manifest of a tag, and the bytes it names.
pub(crate) fn pulled(running: &RunningRegistry, repository: &str, reference: &str) -> (Value, Vec<u8>) {
    let manifest = get(running, &format!("/v2/{repository}/manifests/{reference}"));
    assert_eq!(manifest.status, 200, "{repository} {reference}: {}", manifest.text());
    assert_eq!(manifest.header("docker-content-digest"), Digest::sha256(&manifest.body).to_string());
    let layer = manifest.json()["layers"][0].clone();
    let blob = get(running, &format!("/v2/{repository}/blobs/{}", layer["digest"].as_str().unwrap()));
    assert_eq!(blob.status, 200);
    (layer, blob.body)
}

#[test]
fn both_layouts_are_pulled_by_tag_and_by_digest() {
    let nested: [(&str, &[u8]); 2] =
        [("root/components/part/1.2.0/component.wasm", PART), ("root/packs/kit/1.0.0/pack.gtpack", KIT)];
    for served in [Served::flat(), Served::new(TreeLayout::ByIdAndVersion, &nested)] {
        let running = &served.running;
        let (layer, bytes) = pulled(running, "components/part", "1.2.0");
        assert_eq!((layer["mediaType"].as_str(), bytes.as_slice()), (Some("application/wasm"), PART));
        let (layer, bytes) = pulled(running, "packs/kit", "1.0.0");
        assert_eq!(layer["mediaType"], json!("application/vnd.greentic.gtpack.v1+zip"));
        assert_eq!(bytes, KIT);
        let tag = get(running, "/v2/packs/kit/manifests/1.0.0");
        let pin = tag.header("docker-content-digest");
        assert_eq!(get(running, &format!("/v2/packs/kit/manifests/{pin}")).body, tag.body);
        // The configuration every artifact has.
        let config = tag.json()["config"]["digest"].as_str().unwrap().to_owned();
        assert_eq!(get(running, &format!("/v2/packs/kit/blobs/{config}")).body, b"{}");
    }
}

#[test]
fn what_a_digest_names_is_found_after_a_restart_without_its_tag_being_asked_for() {
    let served = Served::flat();
    let pin = get(&served.running, "/v2/packs/kit/manifests/1.0.0").header("docker-content-digest").to_owned();
    let again = started(&Registry::over_tree(served.dir.path().join("root"), TreeLayout::Flat).unwrap());
    let blob = get(&again, &format!("/v2/packs/kit/blobs/{}", Digest::sha256(KIT)));
    assert_eq!(blob.body, KIT);
    let again = started(&Registry::over_tree(served.dir.path().join("root"), TreeLayout::Flat).unwrap());
    assert_eq!(get(&again, &format!("/v2/packs/kit/manifests/{pin}")).status, 200);
    // Under another name it is not.
    assert_error(&get(&again, &format!("/v2/packs/other/manifests/{pin}")), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn lists_name_what_is_there_and_a_build_in_a_version_is_a_legal_tag() {
    let served = Served::flat();
    assert_eq!(get(&served.running, "/v2/_catalog").json()["repositories"], json!(["components/part", "packs/kit"]));
    assert_eq!(get(&served.running, "/v2/components/part/tags/list").json()["tags"], json!(["1.10.0_b.5", "1.2.0"]));
    assert_eq!(pulled(&served.running, "components/part", "1.10.0_b.5").1, b"build");
    assert_error(&get(&served.running, "/v2/components/none/tags/list"), 404, "NAME_UNKNOWN");
    served.file("root/packs/kit-1.1.0.gtpack", b"newer");
    assert_eq!(get(&served.running, "/v2/packs/kit/tags/list").json()["tags"], json!(["1.0.0", "1.1.0"]));
}

#[test]
fn a_file_that_changes_is_another_artifact_and_the_old_bytes_are_not_there_any_more() {
    let served = Served::flat();
    let before = get(&served.running, "/v2/packs/kit/manifests/1.0.0").header("docker-content-digest").to_owned();
    served.file("root/packs/kit-1.0.0.gtpack", b"PK a longer pack");
    assert_eq!(pulled(&served.running, "packs/kit", "1.0.0").1, b"PK a longer pack");
    let old = get(&served.running, &format!("/v2/packs/kit/blobs/{}", Digest::sha256(KIT)));
    assert_error(&old, 404, "BLOB_UNKNOWN");
    assert_error(&get(&served.running, &format!("/v2/packs/kit/manifests/{before}")), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn nothing_is_pushed_to_a_directory_or_deleted_from_it() {
    let served = Served::flat();
    let before = TreeSnapshot::of(served.dir.path());
    let pin = get(&served.running, "/v2/packs/kit/manifests/1.0.0").header("docker-content-digest").to_owned();
    for (method, target) in [
        ("POST", "/v2/packs/kit/blobs/uploads/".to_owned()),
        ("PUT", "/v2/packs/kit/manifests/2".to_owned()),
        ("DELETE", "/v2/packs/kit/manifests/1.0.0".to_owned()),
        ("DELETE", format!("/v2/packs/kit/manifests/{pin}")),
        ("DELETE", format!("/v2/packs/kit/blobs/{}", Digest::sha256(KIT))),
    ] {
        assert_error(&ask(&served.running, method, &target, &[], b"{}"), 405, "UNSUPPORTED");
    }
    before.assert_unchanged(served.dir.path());
}

#[test]
fn a_component_is_resolved_to_a_reference_that_can_be_pulled() {
    let served = Served::flat();
    let answer = served.resolve("part", "1.2.0");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let document = answer.json();
    assert_eq!(document["status"], json!("ready"));
    assert_eq!(document["digest"], json!(Digest::sha256(PART).to_string()));
    assert_eq!(document["cache"]["size_bytes"], json!(PART.len()));
    assert_eq!(document["signature"], json!({ "verified": false, "signer": "", "extra": null }));
    let reference = document["artifact"]["reference"].as_str().unwrap().to_owned();
    let (place, pin) = reference.split_once('@').unwrap();
    assert_eq!(place, format!("{}/components/part", served.running.host()));
    assert_eq!(pulled(&served.running, "components/part", pin).1, PART);
    for (component, version, status) in
        [("part", "1.2.1", 404), ("none", "1.2.0", 404), ("part", "latest", 400), ("..", "1.2.0", 400)]
    {
        let answer = served.resolve(component, version);
        assert_eq!(answer.status, status, "{component} {version}");
        assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn packs_have_a_status_and_are_warmed() {
    let served = Served::flat();
    let status = |endpoint: &str, pack: &str| {
        get(&served.running, &format!("/distributor-api/{endpoint}?tenant_id=acme&environment_id=dev&pack_id={pack}"))
    };
    assert_eq!(status("pack-status", "kit").json(), json!({ "status": "ready", "versions": ["1.0.0"] }));
    assert_eq!(
        status("pack-status-v2", "kit").json(),
        json!({ "status": "ready", "extra": { "versions": ["1.0.0"] } })
    );
    served.file("root/packs/kit-1.10.0.gtpack", b"newest");
    served.file("root/packs/kit-1.9.0.gtpack", b"newer");
    served.file("root/packs/kit-1.10.0-rc.1.gtpack", b"before it");
    let newest_first = json!(["1.10.0", "1.10.0-rc.1", "1.9.0", "1.0.0"]);
    assert_eq!(status("pack-status", "kit").json()["versions"], newest_first);
    assert_eq!(status("pack-status-v2", "kit").json()["extra"]["versions"], newest_first);
    assert_eq!(status("pack-status", "none").status, 404);
    assert_eq!(status("pack-status-v2", "..").status, 400);
    assert_eq!(get(&served.running, "/distributor-api/pack-status?pack_id=kit").status, 400);
    let question = |pack: &str| json!({ "tenant_id": "acme", "environment_id": "dev", "pack_id": pack });
    let warmed = served.post("warm-pack", &question("kit"));
    assert_eq!((warmed.status, warmed.json()["versions"].clone()), (200, newest_first));
    assert_eq!(served.post("warm-pack", &question("none")).status, 404);
    assert_eq!(served.post("warm-pack", &json!({ "pack_id": "kit" })).status, 400);
    // Without a directory there is no distributor.
    let plain = started(&Registry::in_memory());
    assert_eq!(get(&plain, "/distributor-api/pack-status?tenant_id=a&environment_id=b&pack_id=c").status, 404);
}

#[test]
fn row_81_no_path_leads_out_of_the_root() {
    let served = Served::flat();
    served.file("secret-1.0.0.gtpack", b"secret");
    for target in [
        "/../secret-1.0.0.gtpack",
        "/v2/../../secret-1.0.0.gtpack",
        "/v2/%2e%2e/manifests/1.0.0",
        "/v2/packs/..%2f..%2fsecret/manifests/1.0.0",
        "/v2/packs/%2e%2e/tags/list",
        "/v2/packs\\..\\secret/tags/list",
        "/v2/packs/kit%00/manifests/1.0.0",
        "/v2//etc/passwd/manifests/1.0.0",
        "/distributor-api/../secret",
        "/distributor-api/pack-status?tenant_id=a&environment_id=b&pack_id=..%2Fsecret",
        "/distributor-api/pack-status?tenant_id=a&environment_id=b&pack_id=%00",
    ] {
        let answer = get(&served.running, target);
        assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
        assert!(!answer.text().contains("secret-"), "{target}: {}", answer.text());
    }
}

#[cfg(unix)]
#[test]
fn row_81_links_that_lead_out_pipes_and_directories_are_not_served() {
    let served = Served::flat();
    served.file("secret", b"secret");
    let packs = served.dir.path().join("root/packs");
    std::os::unix::fs::symlink("../../secret", packs.join("link-1.0.0.gtpack")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", packs.join("abs-1.0.0.gtpack")).unwrap();
    std::os::unix::fs::symlink("kit-1.0.0.gtpack", packs.join("inside-1.0.0.gtpack")).unwrap();
    fs::create_dir(packs.join("dir-1.0.0.gtpack")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(packs.join("pipe-1.0.0.gtpack")).status().unwrap();
    assert!(made.success());
    for (id, why) in [
        ("link", "leads out of the directory"),
        ("abs", "leads out of the directory"),
        ("dir", "a directory is in the place of its file"),
        ("pipe", "no regular file is in the place of its file"),
    ] {
        let answer = get(&served.running, &format!("/v2/packs/{id}/manifests/1.0.0"));
        assert_error(&answer, 404, "MANIFEST_UNKNOWN");
        assert!(answer.text().contains(why), "{}", answer.text());
        assert_error(&get(&served.running, &format!("/v2/packs/{id}/tags/list")), 404, "NAME_UNKNOWN");
    }
    assert_eq!(pulled(&served.running, "packs/inside", "1.0.0").1, KIT);
}

#[test]
fn row_82_ids_of_dots_and_names_that_mean_two_artifacts_are_refused() {
    let nested: [(&str, &[u8]); 2] =
        [("root/1.0.0/component.wasm", b"above"), ("root/components/1.0.0/component.wasm", b"beside")];
    let served = Served::new(TreeLayout::ByIdAndVersion, &nested);
    for id in [".", "..", "..."] {
        assert_eq!(served.resolve(id, "1.0.0").status, 400, "{id}");
    }
    let flat = Served::new(TreeLayout::Flat, &[("root/packs/foo-1.0.0-2.0.0.gtpack", KIT)]);
    for (id, version) in [("foo", "1.0.0-2.0.0"), ("foo-1.0.0", "2.0.0")] {
        let answer = get(&flat.running, &format!("/v2/packs/{id}/manifests/{version}"));
        assert_error(&answer, 404, "MANIFEST_UNKNOWN");
        assert!(answer.text().contains("may as well be"), "{}", answer.text());
    }
    assert_eq!(get(&flat.running, "/v2/_catalog").json()["repositories"], json!([]));
}

#[test]
fn row_83_web_pages_and_foreign_names_get_nothing() {
    let served = Served::flat();
    let running = &served.running;
    for target in ["/v2/", "/distributor-api/pack-status?tenant_id=a&environment_id=b&pack_id=kit"] {
        assert_eq!(ask(running, "GET", target, &[("Origin", "http://localhost:3000")], &[]).status, 403);
        // The first Host is the socket's; a second one is no request of a browser and is refused too.
        let other = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
            .replace("GET /", &format!("GET {target}"));
        let said = crate::slow::raw(running.addr(), other.as_bytes());
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    }
    // A form of a page can send this without asking first; JSON it cannot.
    let form = [("Content-Type", "text/plain")];
    let document = json!({ "tenant_id": "a", "environment_id": "b", "pack_id": "kit" }).to_string();
    assert_eq!(ask(running, "POST", "/distributor-api/warm-pack", &form, document.as_bytes()).status, 415);
    let answer = get(running, "/v2/");
    assert!(answer.headers.get("access-control-allow-origin").is_none());
}

#[test]
fn row_84_questions_that_are_too_large_or_no_questions_are_refused() {
    let served = Served::flat();
    let json = [("Content-Type", "application/json")];
    let huge = vec![b' '; (1 << 20) + 1];
    assert_eq!(ask(&served.running, "POST", "/distributor-api/warm-pack", &json, &huge).status, 413);
    for bad in ["", "[]", "null", "{", "7", "\"x\"", "{\"component_id\":7,\"version\":\"1.0.0\"}"] {
        let answer = ask(&served.running, "POST", "/distributor-api/resolve-component", &json, bad.as_bytes());
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    assert_eq!(ask(&served.running, "DELETE", "/distributor-api/warm-pack", &[], &[]).status, 405);
    assert_eq!(get(&served.running, "/distributor-api/other").status, 404);
}

#[test]
fn row_85_other_addresses_need_a_token_and_the_token_is_asked_of_everybody() {
    let served = Served::flat();
    let registry = Registry::over_tree(served.dir.path().join("root"), TreeLayout::Flat).unwrap();
    assert!(matches!(registry.start(([0, 0, 0, 0], 0).into()), Err(ServeError::NotLoopback { .. })));
    let options = ServeOptions::new().token(Some(Secret::new("s3cret")));
    assert!(!format!("{options:?}").contains("s3cret"));
    let running = registry.start_with(([0, 0, 0, 0], 0).into(), options).unwrap();
    let addr = ([127, 0, 0, 1], running.addr().port()).into();
    let asked = |headers: &[(&str, &str)]| {
        greentic_dist_testkit::raw_client::exchange(addr, "GET", "/v2/packs/kit/tags/list", headers, &[]).unwrap()
    };
    let refused = asked(&[]);
    assert_error(&refused, 401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").starts_with("Basic "));
    assert_error(&asked(&[("Authorization", "Bearer wrong")]), 401, "UNAUTHORIZED");
    assert_eq!(asked(&[("Authorization", "Bearer s3cret")]).status, 200);
    assert_eq!(asked(&[("Authorization", "Basic eDpzM2NyZXQ=")]).status, 200);
}

#[test]
fn every_answer_is_told_to_the_log_once_with_who_asked_and_how_it_ended() {
    let served = Served::flat();
    let lines: Arc<Mutex<Vec<(String, u16, u64)>>> = Arc::default();
    let log = Arc::clone(&lines);
    let options = ServeOptions::new().access_log(move |event| {
        let AccessEvent::Answer(record) = event else { panic!("{event:?}") };
        assert!(record.peer.ip().is_loopback());
        log.lock().unwrap().push((record.request.line(), record.request.status, record.request.bytes));
    });
    let registry = Registry::over_tree(served.dir.path().join("root"), TreeLayout::Flat).unwrap();
    let running = registry.start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    get(&running, &format!("/v2/packs/kit/blobs/{}", Digest::sha256(KIT)));
    get(&running, "/v2/packs/none/manifests/1?x=\u{1b}[2J".replace('\u{1b}', "%1b").as_str());
    // Joins the serving thread: every answer is over then.
    running.stop();
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((lines[0].1, lines[0].2), (200, u64::try_from(KIT.len()).unwrap()));
    assert_eq!(lines[1].1, 404);
}
