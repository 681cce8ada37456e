//! Indexes some of whose manifests nobody has (distribution-spec: a registry may take them).

use std::fs;

use greentic_dist_serve::Registry;
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::raw_client;
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo, skopeo_digest};
use greentic_distributor_client::oci::{Client, ErrorKind, RawManifest, Reference, Selector};
use serde_json::{Value, json};

use crate::carried::blobs;
use crate::lines;
use crate::machine::Machine;

/// The manifest that the index names and nobody has.
fn absent(content: &Content) -> String {
    let index: Value = serde_json::from_slice(&content.root.bytes).unwrap();
    index["manifests"][1]["digest"].as_str().unwrap().to_owned()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_sparse_index_is_refused_by_docker_registry_and_the_manifest_it_misses_is_named() {
    let name = "a_sparse_index_is_refused_by_docker_registry_and_the_manifest_it_misses_is_named";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let content = content::sparse_index();
    let (registry, machine, work) = (DockerRegistry::open(), Machine::new(), tempfile::tempdir().unwrap());
    content.write_layout(work.path(), "1");
    let source = format!("oci-layout:{}:1", work.path().display());
    let to = format!("{}/acme/hello:1", registry.host());

    // We find out before anything is sent; skopeo has sent the first image by then.
    let outcome = machine.dist(["copy", &source, &to]);
    outcome.expect_code(3);
    assert!(outcome.stderr.contains(&absent(&content)), "{}", outcome.stderr);
    assert_eq!(lines(&registry.requests()), [""; 0]);
    let theirs = format!("docker://{}/acme/theirs:1", registry.host());
    let oci = format!("oci:{}:1", work.path().display());
    let copied = skopeo(["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &oci, &theirs]);
    assert_eq!(copied.code, Some(1));
    assert!(copied.stderr.contains(absent(&content).strip_prefix("sha256:").unwrap()), "{}", copied.stderr);

    // The platform that is there is copied alone, and then the index itself is what `docker-registry` does not take: a deviation
    // from the specification that it tells with 400.
    let only = ["copy", "--platform", "linux/amd64", &source, &to];
    machine.dist(only).expect_code(0);
    let put = raw_client::exchange(
        registry.addr(),
        "PUT",
        "/v2/acme/hello/manifests/sparse",
        &[("Content-Type", &content.root.media_type)],
        &content.root.bytes,
    );
    let put = put.unwrap();
    assert_eq!(put.status, 400, "docker-registry takes a sparse index now");
    assert!(put.text().contains("MANIFEST_BLOB_UNKNOWN") && put.text().contains(&absent(&content)), "{}", put.text());
    let repository = Client::builder().build().unwrap().repository(&Reference::parse(&to).unwrap());
    let index = RawManifest::new(content.root.bytes.clone()).unwrap();
    let error = run(repository.put_manifest(&index).tag("sparse").send()).unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::NotFound, false), "{error}");
    assert!(error.to_string().contains(&format!("it has no {}", absent(&content))), "{error}");
    assert_eq!(run(repository.manifest(Selector::Tag("sparse"))).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_sparse_index_is_read_as_it_is_where_a_registry_takes_it() {
    if !ready("a_sparse_index_is_read_as_it_is_where_a_registry_takes_it", &["skopeo"]) {
        return;
    }
    let content = content::sparse_index();
    let (machine, work) = (Machine::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| work.path().join(name);
    let layout = |name: &str| format!("oci-layout:{}:1", path(name).display());
    for name in ["source", "child"] {
        fs::create_dir(path(name)).unwrap();
    }
    content.write_layout(&path("source"), "1");
    let child = Content { root: content.manifests[0].clone(), manifests: Vec::new(), blobs: content.blobs.clone() };
    child.write_layout(&path("child"), "1");
    let running = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
    let (ours, theirs) = (format!("{}/acme/ours", running.host()), format!("{}/acme/theirs", running.host()));
    let sparse = path("source");

    // What we push, skopeo reads, and pulls what is there of it.
    machine.dist(["copy", &layout("child"), &ours]).expect_code(0);
    let repository = Client::builder().build().unwrap().repository(&Reference::parse(&ours).unwrap());
    let index = RawManifest::new(content.root.bytes.clone()).unwrap();
    run(repository.put_manifest(&index).tag("sparse").send()).unwrap();
    assert_eq!(skopeo_digest(&format!("{ours}:sparse")), content.root.digest);
    let from = format!("docker://{ours}:sparse");
    let to = format!("oci:{}:1", path("skopeo-pulled").display());
    let linux = ["--override-os=linux", "--override-arch=amd64"];
    let pull = ["copy", "--preserve-digests", "--src-tls-verify=false", &from, &to];
    skopeo(linux.iter().chain(&pull)).expect_code(0);
    assert!(blobs(&path("skopeo-pulled")) == blobs(&path("child")));

    // What skopeo pushes, we read, and pull what is there of it.
    let (from, to) = (format!("oci:{}:1", sparse.display()), format!("docker://{theirs}:sparse"));
    let push = ["copy", "--preserve-digests", "--dest-tls-verify=false"];
    skopeo(linux.iter().chain(&push).chain([&*from, &format!("docker://{theirs}:child")].iter())).expect_code(0);
    skopeo(push.iter().chain(["--multi-arch=index-only", &*from, &*to].iter())).expect_code(0);
    let read = Client::builder().build().unwrap().repository(&Reference::parse(&theirs).unwrap());
    let read = run(read.manifest(Selector::Tag("sparse"))).unwrap();
    assert!(read.raw == content.root.bytes && read.digest == content.root.digest);
    let sparse = format!("{theirs}:sparse");
    machine.dist(["copy", "--platform", "linux/amd64", &sparse, &layout("pulled")]).expect_code(0);
    assert!(blobs(&path("pulled")) == blobs(&path("child")));
    // All of it nobody can copy, and the error names what is missing.
    let outcome = machine.dist(["--json", "copy", &sparse, &layout("whole")]);
    let error = &outcome.expect_code(3).json()["error"];
    assert_eq!(error["code"], json!("not_found"));
    assert!(error.to_string().contains(&absent(&content)), "{error}");
    assert!(!path("whole").exists());
    running.stop();
}
