//! Large blobs over a line that is cut, and many artifacts at the same time: bytes and memory are bounded.

use std::path::Path;

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::serve::{Registry, RunningRegistry};
use serde_json::json;

use crate::child::{Role, child};
use crate::support::Home;

const MIB: u64 = 1 << 20;

/// Keeps a blob and a manifest with it as its only layer.
fn publish(registry: &Registry, repository: &str, tag: &str, blob: Vec<u8>) {
    let size = blob.len();
    let layer = registry.put_blob(blob).unwrap();
    let config = registry.put_blob("{}").unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": config.to_string(), "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": layer.to_string(), "size": size }],
    });
    registry.put_manifest(repository, &[tag], media_type, manifest.to_string().as_bytes()).unwrap();
}

fn start(registry: &Registry) -> RunningRegistry {
    registry.start(([127, 0, 0, 1], 0).into()).unwrap()
}

/// The command line on this cache.
fn dist(cache: &Path) -> Run {
    Run::new(env!("CARGO_BIN_EXE_greentic-dist")).arg("--cache-dir").arg(cache)
}

fn peak(outcome: &Outcome) -> u64 {
    outcome.peak_rss_bytes.expect("the peak was measured")
}

#[test]
fn a_blob_of_256_mib_over_a_line_that_is_cut_costs_hardly_more_than_itself() {
    let size = 256 * MIB;
    let registry = Registry::in_memory();
    publish(&registry, "acme/large", "1", vec![0x5a; usize::try_from(size).unwrap()]);
    let running = start(&registry);
    let proxy = Proxy::start(running.addr());
    proxy.set_cuts(Some((20 * MIB, 80 * MIB)));
    let home = Home::new();
    let outcome = dist(&home.cache()).args(["pull", &format!("{}/acme/large:1", proxy.host())]).output();
    let path = outcome.expect_code(0).line();
    assert_eq!(std::fs::metadata(path).unwrap().len(), size);
    assert!(proxy.cuts() >= 3, "{} cuts", proxy.cuts());
    let came = proxy.bytes_down();
    assert!(came >= size && came * 100 <= size * 102, "{came} bytes for {size}");
    assert!(peak(&outcome) < 32 * MIB, "{} bytes", peak(&outcome));
    running.stop();
}

#[test]
fn two_hundred_pulls_at_the_same_time_stay_under_150_mib_of_memory() {
    let registry = Registry::in_memory();
    for number in 0..200_u32 {
        let mut blob = vec![0x3c; 1 << 20];
        blob[..4].copy_from_slice(&number.to_le_bytes());
        publish(&registry, "acme/many", &number.to_string(), blob);
    }
    let running = start(&registry);
    let references: Vec<String> =
        (0..200).map(|number| format!("oci://{}/acme/many:{number}", running.host())).collect();
    let (tasks, command) = (Home::new(), Home::new());
    let at_once = child(Role::AtOnce, &tasks.cache(), &references);
    let pull = dist(&command.cache()).arg("pull").args(&references);
    for (run, cache) in [(at_once, tasks.cache()), (pull, command.cache())] {
        let outcome = run.output();
        outcome.expect_code(0);
        assert!(peak(&outcome) < 150 * MIB, "{} bytes", peak(&outcome));
        let entries = std::fs::read_dir(cache).unwrap();
        let entries = entries.filter(|entry| entry.as_ref().unwrap().path().join("entry.json").exists()).count();
        assert_eq!(entries, 200);
    }
    assert_eq!(running.journal().len(), 800, "two requests for each, twice");
    running.stop();
}
