//! Components of a pack, pushed by skopeo to Debian's registry, fetched by the command.

use std::fs;

use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE};
use greentic_dist_testkit::process::Run;
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo_push_artifacts};
use greentic_dist_testkit::scenario::Scenario;
use greentic_distributor_client::oci_components::{ComponentResolveOptions, OciComponentResolver};
use serde_json::json;

use crate::lines;
use crate::machine::Machine;

const COMPONENT_MANIFEST: &str = "application/vnd.greentic.component.manifest+json";
const PROGRAMS: &[&str] = &["docker-registry", "skopeo"];

/// A component with its manifest, an SBOM and a licence.
fn rich() -> Artifact {
    let manifest = json!({ "id": "acme.hello", "artifacts": { "component_wasm": "hello.wasm" } }).to_string();
    let layers = vec![
        Blob::new("application/spdx+json", r#"{ "spdxVersion": "SPDX-2.3" }"#),
        Blob::new(COMPONENT_MANIFEST, manifest),
        Blob::new(WASM_TYPE, fixture::component_bytes()),
        Blob::new("text/plain", "a licence"),
    ];
    fixture::artifact_of(layers, &[])
}

fn pack_manifest(refs: &[String]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pack.json");
    fs::write(&path, json!({ "extensions": { "greentic.components": { "refs": refs } } }).to_string()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn components_that_skopeo_pushed_are_fetched_with_the_requests_they_need_and_found_without_the_registry() {
    let test = "components_that_skopeo_pushed_are_fetched_with_the_requests_they_need_and_found_without_the_registry";
    if !ready(test, PROGRAMS) {
        return;
    }
    let mut registry = DockerRegistry::open();
    let (rich, plain) = (rich(), fixture::artifact(WASM_TYPE, fixture::random_bytes(1, 300_000)));
    let host = registry.host();
    skopeo_push_artifacts(std::slice::from_ref(&rich), &format!("{host}/acme/rich:1"), None);
    skopeo_push_artifacts(std::slice::from_ref(&plain), &format!("{host}/acme/plain:1"), None);
    let pinned = format!("{host}/acme/rich@{}", rich.manifest_digest);
    let (_dir, manifest) = pack_manifest(&[pinned]);
    let machine = Machine::new();

    let already = registry.requests().len();
    let listed = machine.dist(["components", "ls", &manifest]);
    let size = fixture::component_bytes().len();
    assert_eq!(listed.expect_code(0).line(), format!("{} {size} application/wasm", rich.manifest_digest));
    let asked = format!("GET /v2/acme/rich/manifests/{} 200", rich.manifest_digest);
    assert_eq!(lines(&registry.requests_after(already, 1)), std::slice::from_ref(&asked));

    let already = registry.requests().len();
    let fetched = machine.dist(["components", "fetch", &manifest]);
    let (digest, path) =
        fetched.expect_code(0).line().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(digest, rich.manifest_digest.to_string());
    assert!(path.ends_with("/hello.wasm"), "{path}");
    assert_eq!(fs::read(&path).unwrap(), fixture::component_bytes());
    let blob = |blob: &Blob| format!("GET /v2/acme/rich/blobs/{} 200", blob.digest);
    let expected = [asked, blob(&rich.layers[1]), blob(&rich.layers[2])];
    assert_eq!(lines(&registry.requests_after(already, 3)), expected, "no config, no SBOM, no licence, no ping");
    machine.dist(["cache", "verify"]).expect_code(0);

    let tag = format!("{host}/acme/plain:1");
    let (_dir, both) = pack_manifest(&[format!("{host}/acme/rich@{}", rich.manifest_digest), tag]);
    let online = machine.dist(["components", "fetch", "--allow-tags", &both]);
    assert_eq!(online.expect_code(0).stdout.lines().count(), 2);
    registry.stop();
    let offline = machine.dist(["--offline", "components", "fetch", "--allow-tags", &both]);
    assert_eq!(offline.expect_code(0).stdout, online.stdout);
    // Pins are here, whether the registry is or not.
    machine.dist(["components", "fetch", &manifest]).expect_code(0);
}

#[test]
fn every_default_type_and_that_of_a_host_come_back_byte_for_byte_by_tag_and_by_pin() {
    let test = "every_default_type_and_that_of_a_host_come_back_byte_for_byte_by_tag_and_by_pin";
    if !ready(test, PROGRAMS) {
        return;
    }
    let registry = DockerRegistry::open();
    let own = "application/vnd.acme.component";
    let mut types = ComponentResolveOptions::default().preferred_layer_media_types;
    types.push(own.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (number, media_type) in types.iter().enumerate() {
        let bytes =
            if media_type == COMPONENT_MANIFEST { b"{}".to_vec() } else { fixture::random_bytes(number as u64, 5_000) };
        let artifact = fixture::artifact(media_type, bytes.clone());
        let name = format!("{}/components/hello", registry.host());
        skopeo_push_artifacts(std::slice::from_ref(&artifact), &format!("{name}:{number}"), None);
        let machine = Machine::new();
        let resolver: OciComponentResolver = OciComponentResolver::new(ComponentResolveOptions {
            allow_tags: true,
            offline: false,
            cache_dir: machine.cache(),
            preferred_layer_media_types: types.clone(),
            ..ComponentResolveOptions::default()
        });
        for (reference, brought) in
            [(format!("{name}:{number}"), true), (format!("{name}@{}", artifact.manifest_digest), false)]
        {
            let found = runtime.block_on(resolver.resolve_ref(&reference)).unwrap();
            assert_eq!((found.media_type.as_str(), found.fetched_from_network), (media_type.as_str(), brought));
            assert_eq!(fs::read(&found.path).unwrap(), bytes, "{media_type}");
        }
    }
}

#[test]
fn a_cached_component_that_was_changed_is_healed_from_the_registry_and_refused_without_it() {
    let test = "a_cached_component_that_was_changed_is_healed_from_the_registry_and_refused_without_it";
    if !ready(test, PROGRAMS) {
        return;
    }
    let mut registry = DockerRegistry::open();
    let rich = rich();
    skopeo_push_artifacts(std::slice::from_ref(&rich), &format!("{}/acme/rich:1", registry.host()), None);
    let (_dir, manifest) = pack_manifest(&[format!("{}/acme/rich@{}", registry.host(), rich.manifest_digest)]);
    let machine = Machine::new();
    let first = machine.dist(["components", "fetch", &manifest]);
    let path = first.expect_code(0).line().split_once(' ').unwrap().1.to_owned();
    for file in ["component.wasm", "component.manifest.json"] {
        let file = std::path::Path::new(&path).with_file_name(file);
        fs::remove_file(&file).unwrap();
        fs::write(&file, "changed").unwrap();
        machine.dist(["--offline", "components", "fetch", &manifest]).expect_code(8);
        assert_eq!(machine.dist(["components", "fetch", &manifest]).expect_code(0).stdout, first.stdout);
        assert_eq!(fs::read(&path).unwrap(), fixture::component_bytes());
    }
    registry.stop();
    assert_eq!(machine.dist(["components", "fetch", &manifest]).expect_code(0).stdout, first.stdout);
}

#[test]
fn a_cached_descriptor_costs_a_record_and_a_manifest_and_a_cached_component_little_more() {
    let test = "a_cached_descriptor_costs_a_record_and_a_manifest_and_a_cached_component_little_more";
    if !ready(test, &["strace"]) || Run::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().code != Some(0)
    {
        return;
    }
    let registry = Scenario::new(rich()).start();
    let refs: Vec<String> = (0..8)
        .map(|seed| {
            let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(300 + seed, 5_000));
            registry.publish(&artifact, &format!("n{seed}"));
            registry.pinned_to(artifact.manifest_digest)
        })
        .collect();
    let (_dir, manifest) = pack_manifest(&refs);
    let machine = Machine::new();
    machine.dist(["components", "fetch", &manifest]).expect_code(0);
    // What is opened in the cache, each entry's directory included.
    let opened = |command: &str| {
        let log = machine.dir().join("opened");
        let trace = ["-f", "-qq", "-e", "trace=openat", "-o", log.to_str().unwrap()];
        machine.command(["--offline", "components", command, &manifest]).below("strace", trace).output().expect_code(0);
        let text = fs::read_to_string(log).unwrap();
        let names = ["entry.json", "manifest.json", "component.wasm", "verified", "component.manifest.json"];
        let is_ours = |line: &&str| {
            let is_dir = line.contains("O_DIRECTORY") && line.contains(machine.cache().to_str().unwrap());
            line.contains("openat(") && (is_dir || names.iter().any(|name| line.contains(&format!("\"{name}\""))))
        };
        text.lines().filter(is_ours).count()
    };
    // The manifest tells whether the layer that is kept is the one this client takes.
    assert_eq!(opened("ls"), 8 * 4, "a record and a manifest each, and their directory for both");
    assert!(opened("fetch") <= 8 * 18, "{}", opened("fetch"));
}
