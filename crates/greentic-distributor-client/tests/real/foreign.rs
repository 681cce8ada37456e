//! Images with a layer that stays with its publisher (image-spec, "Non-Distributable Layers").
//!
//! `docker-registry` 2.8 takes none of their manifests unless it has the layer, and says so with different statuses: each stands here.

use std::fs;

use greentic_dist_serve::Registry;
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::fixture::{Blob, random_bytes};
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo_digest, skopeo_push};
use greentic_dist_types::Digest;
use greentic_dist_types::media_type::{DOCKER_MANIFEST, OCI_MANIFEST};
use serde_json::{Value, json};

use crate::carried::blobs;
use crate::lines;
use crate::machine::Machine;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// The image with its second layer of this type, in a manifest of this type, and said to be at `urls`.
fn image(manifest_type: &str, layer_type: &str, urls: &[&str]) -> (Content, Digest) {
    let mut content = content::non_distributable();
    let mut manifest: Value = serde_json::from_slice(&content.root.bytes).unwrap();
    manifest["mediaType"] = json!(manifest_type);
    let layer = &mut manifest["layers"][1];
    layer["mediaType"] = json!(layer_type);
    if !urls.is_empty() {
        layer["urls"] = json!(urls);
    }
    let stays = layer["digest"].as_str().unwrap().parse().unwrap();
    content.root = Blob::new(manifest_type, manifest.to_string());
    (content, stays)
}

#[test]
fn a_registry_that_wants_a_layer_which_stays_with_its_publisher_is_asked_once_and_the_layer_is_named() {
    let name = "a_registry_that_wants_a_layer_which_stays_with_its_publisher_is_asked_once_and_the_layer_is_named";
    if !ready(name, &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let work = tempfile::tempdir().unwrap();
    let at: &[&str] = &["https://example.com/layer"];
    for (number, (manifest_type, layer_type, urls, status)) in [
        (OCI_MANIFEST, OCI_LAYER, &[][..], 400),
        (OCI_MANIFEST, OCI_LAYER, at, 500),
        (DOCKER_MANIFEST, DOCKER_LAYER, &[], 500),
        (DOCKER_MANIFEST, DOCKER_LAYER, at, 500),
    ]
    .into_iter()
    .enumerate()
    {
        let (content, stays) = image(manifest_type, layer_type, urls);
        let layout = work.path().join(number.to_string());
        fs::create_dir(&layout).unwrap();
        content.write_layout(&layout, "1");
        let (machine, already) = (Machine::new(), registry.requests().len());
        let (repository, to) = (format!("acme/{number}"), format!("{}/acme/{number}:1", registry.host()));
        let outcome = machine.dist(["--json", "copy", &format!("oci-layout:{}:1", layout.display()), &to]);
        // The registry does not offer it; nothing passes by itself.
        let error = &outcome.expect_code(10).json()["error"];
        assert_eq!((&error["code"], &error["retryable"]), (&json!("internal"), &json!(false)), "{error}");
        assert_eq!(error["message"], format!("cannot push to `{to}`"));
        let cause = error["causes"][0].as_str().unwrap();
        assert!(cause.contains(&format!("answered {status}")) && cause.contains("(1 attempt,"), "{cause}");
        assert!(cause.contains(&format!("it wants the layer {stays}, which stays with its publisher")), "{cause}");
        assert!(error["hints"].to_string().contains("push to another one"), "{error}");

        let asked = lines(&registry.requests()[already..]);
        let puts: Vec<_> =
            asked.iter().filter(|line| line.contains("/manifests/") && line.starts_with("PUT")).collect();
        assert_eq!(puts, [&format!("PUT /v2/{repository}/manifests/1 {status}")]);
        // No upload was left open, none was begun for the layer, and there is no manifest under any name.
        let began = asked.iter().filter(|line| line.starts_with("POST")).count();
        let ended = asked.iter().filter(|line| line.starts_with("PUT") && line.contains("/uploads/")).count();
        assert_eq!((began, ended), (2, 2), "{asked:#?}");
        assert!(!asked.iter().any(|line| line.contains(&stays.to_string())), "{asked:#?}");
        machine.dist(["tags", &format!("{}/{repository}", registry.host())]).expect_code(3);
        let pinned = format!("{}/{repository}@{}", registry.host(), content.root.digest);
        machine.dist(["inspect", &pinned]).expect_code(3);
        assert_eq!(machine.entries(), [""; 0]);
    }
}

#[test]
fn an_image_whose_layer_stays_with_its_publisher_is_carried_without_it_where_that_is_taken() {
    let name = "an_image_whose_layer_stays_with_its_publisher_is_carried_without_it_where_that_is_taken";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let (content, stays) = image(OCI_MANIFEST, OCI_LAYER, &[]);
    let (machine, work) = (Machine::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| work.path().join(name);
    let layout = |name: &str| format!("oci-layout:{}:1", path(name).display());
    fs::create_dir(path("source")).unwrap();
    content.write_layout(&path("source"), "1");

    // A registry that follows the specification takes the manifest, and skopeo reads it there as it is.
    let running = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
    let ours = format!("{}/acme/ours:1", running.host());
    machine.dist(["copy", &layout("source"), &ours]).expect_code(0);
    assert_eq!(skopeo_digest(&ours), content.root.digest);
    machine.dist(["copy", &ours, &layout("pulled")]).expect_code(0);
    assert!(blobs(&path("pulled")) == blobs(&path("source")));
    running.stop();

    // skopeo pushes the layer as any other where it has it, and then `docker-registry` takes the manifest; it is not copied here.
    fs::write(path("source").join("blobs/sha256").join(stays.to_hex()), random_bytes(13, 1_000)).unwrap();
    let registry = DockerRegistry::open();
    let theirs = format!("{}/acme/theirs:1", registry.host());
    skopeo_push(&path("source"), "1", &theirs, None).unwrap_or_else(|words| panic!("{words}"));
    machine.dist(["copy", &theirs, &layout("skopeo-pushed")]).expect_code(0);
    assert!(blobs(&path("skopeo-pushed")) == blobs(&path("pulled")));
}
