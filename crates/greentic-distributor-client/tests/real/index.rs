//! One name, several platforms.

use std::fs;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo_digest, skopeo_push};
use serde_json::json;

use crate::machine::Machine;
use crate::{blob_line, lines, manifest_line, tag_in};

#[test]
fn an_index_leads_to_its_wasm_manifest_by_tag_and_by_digest_online_and_off() {
    if !ready("an_index_leads_to_its_wasm_manifest_by_tag_and_by_digest_online_and_off", &["docker-registry", "skopeo"])
    {
        return;
    }
    let native = fixture::artifact(WASM_TYPE, "for a processor");
    let wasm = fixture::component();
    let platforms = [Some(("linux", "amd64")), Some(("wasip2", "wasm")), Some(("linux", "arm64"))];
    let children = [&native, &wasm, &native].map(fixture::Artifact::descriptor);
    let index = fixture::index(&children.into_iter().zip(platforms).collect::<Vec<_>>());
    let layout = tempfile::tempdir().unwrap();
    fixture::oci_layout(layout.path(), &[native.clone(), wasm.clone()], "1");
    fs::write(layout.path().join("blobs/sha256").join(index.digest.to_hex()), &index.bytes).unwrap();
    let mut top = index.descriptor();
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let top = json!({ "schemaVersion": 2, "manifests": [top] });
    fs::write(layout.path().join("index.json"), top.to_string()).unwrap();

    let mut registry = DockerRegistry::open();
    let tag = tag_in(&registry.host());
    skopeo_push(layout.path(), "1", &tag, None).unwrap();
    assert_eq!(skopeo_digest(&tag), index.digest);
    let pinned_index = format!("{}/acme/hello@{}", registry.host(), index.digest);

    let machine = Machine::new();
    let already = registry.requests().len();
    assert_eq!(machine.pull(&tag), wasm.layer_bytes());
    let child = format!("GET /v2/acme/hello/manifests/{} 200", wasm.manifest_digest);
    assert_eq!(lines(&registry.requests_after(already, 3)), [manifest_line(200), child, blob_line(&wasm, 200)]);
    assert_eq!(machine.entries(), [wasm.manifest_digest.to_hex()]);
    machine.assert_entries_prove_themselves();

    let already = registry.requests().len();
    assert_eq!(machine.dist(["resolve", &tag]).expect_code(0).line(), wasm.manifest_digest.to_string());
    assert_eq!(lines(&registry.requests_after(already, 1)), [manifest_line(304)]);

    let elsewhere = Machine::new();
    assert_eq!(elsewhere.pull(&pinned_index), wasm.layer_bytes());
    let already = registry.requests().len();
    assert_eq!(elsewhere.pull(&pinned_index), wasm.layer_bytes());
    assert_eq!(registry.requests_after(already, 0), [], "a pinned index is asked for once");

    registry.stop();
    for (machine, reference) in [(&machine, &tag), (&elsewhere, &pinned_index)] {
        let outcome = machine.dist(["--offline", "pull", reference]);
        assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), wasm.layer_bytes());
    }
}
