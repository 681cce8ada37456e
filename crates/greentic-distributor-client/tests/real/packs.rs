//! Packs that skopeo pushed, fetched by `greentic-dist pack` and by the library.

use std::fs::{self, File};
use std::path::PathBuf;

use greentic_dist_testkit::fixture::{self, Artifact, Blob, artifact_of};
use greentic_dist_testkit::process::Outcome;
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo_push, skopeo_push_artifacts};
use greentic_dist_types::Digest;
use greentic_distributor_client::oci_packs::{
    OciPackError, PackFetchOptions, ResolvedPack, default_pack_layer_media_types, fetch_pack_to_cache_with_options,
};
use serde_json::json;

use crate::machine::Machine;
use crate::{blob_line, lines, manifest_line, pin_in, registry_with, tag_in};

const GTPACK: &str = "application/vnd.greentic.gtpack.v1+zip";
const PROGRAMS: &[&str] = &["docker-registry", "skopeo"];

fn pack(layers: Vec<Blob>) -> Artifact {
    artifact_of(layers, &[])
}

fn sample() -> Artifact {
    pack(vec![Blob::new(GTPACK, fixture::random_bytes(41, 300_000))])
}

/// Runs `pack` with the cache of this machine as that of packs.
fn fetch(machine: &Machine, arguments: &[&str]) -> Outcome {
    machine.command(["pack"]).args(arguments.iter().copied()).env("GREENTIC_PACK_CACHE_DIR", machine.cache()).output()
}

fn path_of(machine: &Machine, artifact: &Artifact) -> PathBuf {
    machine.cache().join(artifact.manifest_digest.to_hex()).join("pack.gtpack")
}

fn options(machine: &Machine) -> PackFetchOptions {
    PackFetchOptions { allow_tags: true, offline: false, cache_dir: machine.cache(), ..PackFetchOptions::default() }
}

fn in_library(reference: &str, options: PackFetchOptions) -> Result<ResolvedPack, OciPackError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetch_pack_to_cache_with_options(reference, options))
}

#[test]
fn every_default_type_and_those_of_a_host_come_back_byte_for_byte() {
    if !ready("every_default_type_and_those_of_a_host_come_back_byte_for_byte", PROGRAMS) {
        return;
    }
    let registry = DockerRegistry::open();
    let custom = ["application/vnd.acme.kit.bundle.v1+tar+gzip", "application/vnd.acme.kit", "text/html"];
    let types = default_pack_layer_media_types().into_iter().chain(custom.map(ToOwned::to_owned));
    for (number, media_type) in types.enumerate() {
        let artifact = pack(vec![Blob::new(&media_type, fixture::random_bytes(number as u64, 5_000))]);
        let reference = format!("{}/packs/hello:{number}", registry.host());
        skopeo_push_artifacts(std::slice::from_ref(&artifact), &reference, None);
        let machine = Machine::new();
        let options = options(&machine).add_accepted_layer_media_types(["application/vnd.acme.kit", "text/html"]);
        let fetched = in_library(&reference, options).unwrap();
        assert_eq!(fetched.media_type, media_type);
        assert_eq!(fetched.path, path_of(&machine, &artifact));
        assert_eq!(fs::read(fetched.path).unwrap(), artifact.layer_bytes(), "{media_type}");
    }
}

#[test]
fn of_several_layers_the_pack_is_taken_in_each_order_and_nothing_else_is_downloaded() {
    if !ready("of_several_layers_the_pack_is_taken_in_each_order_and_nothing_else_is_downloaded", PROGRAMS) {
        return;
    }
    let registry = DockerRegistry::open();
    let layers = [
        Blob::new("application/spdx+json", "{\"sbom\":1}"),
        Blob::new(GTPACK, "the pack"),
        Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", "a tarball"),
    ];
    for (number, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].iter().enumerate() {
        let artifact = pack(order.iter().map(|position| layers[*position].clone()).collect());
        let reference = format!("{}/acme/hello:{number}", registry.host());
        skopeo_push_artifacts(std::slice::from_ref(&artifact), &reference, None);
        let machine = Machine::new();
        let already = registry.requests().len();
        let outcome = fetch(&machine, &["--allow-tags", &reference]);
        assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), b"the pack", "{order:?}");
        let manifest = format!("GET /v2/acme/hello/manifests/{number} 200");
        let blob = format!("GET /v2/acme/hello/blobs/{} 200", layers[1].digest);
        assert_eq!(lines(&registry.requests_after(already, 2)), [manifest, blob]);
    }
}

#[test]
fn an_index_of_packs_leads_to_the_one_for_wasm_online_and_off() {
    if !ready("an_index_of_packs_leads_to_the_one_for_wasm_online_and_off", PROGRAMS) {
        return;
    }
    let (native, wasm) = (pack(vec![Blob::new(GTPACK, "for a processor")]), sample());
    let platforms = [Some(("linux", "amd64")), Some(("wasip2", "wasm"))];
    let children = [&native, &wasm].map(Artifact::descriptor);
    let index = fixture::index(&children.into_iter().zip(platforms).collect::<Vec<_>>());
    let layout = tempfile::tempdir().unwrap();
    fixture::oci_layout(layout.path(), &[native, wasm.clone()], "1");
    fs::write(layout.path().join("blobs/sha256").join(index.digest.to_hex()), &index.bytes).unwrap();
    let mut top = index.descriptor();
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let top = json!({ "schemaVersion": 2, "manifests": [top] });
    fs::write(layout.path().join("index.json"), top.to_string()).unwrap();
    let mut registry = DockerRegistry::open();
    let tag = tag_in(&registry.host());
    skopeo_push(layout.path(), "1", &tag, None).unwrap();
    let pin = format!("{}/acme/hello@{}", registry.host(), index.digest);

    let (machine, elsewhere) = (Machine::new(), Machine::new());
    for offline in [false, true] {
        for (machine, reference) in [(&machine, &tag), (&elsewhere, &pin)] {
            let arguments = if offline { vec!["--offline"] } else { Vec::new() };
            let outcome = fetch(machine, &[&["--json", "--allow-tags", reference], arguments.as_slice()].concat());
            let told = outcome.expect_code(0).json();
            assert_eq!(told["digest"], json!(index.digest.to_string()));
            assert_eq!(told["manifest_digest"], json!(wasm.manifest_digest.to_string()));
            assert_eq!(fs::read(told["cache_path"].as_str().unwrap()).unwrap(), wasm.layer_bytes());
        }
        registry.stop();
    }
}

#[test]
fn tags_and_pins_are_asked_for_as_rarely_as_can_be_and_open_when_the_registry_is_gone() {
    if !ready("tags_and_pins_are_asked_for_as_rarely_as_can_be_and_open_when_the_registry_is_gone", PROGRAMS) {
        return;
    }
    let artifact = sample();
    let mut registry = registry_with(&artifact);
    let (tag, pin) = (tag_in(&registry.host()), pin_in(&registry.host(), &artifact));
    let (machine, never) = (Machine::new(), Machine::new());
    let path = path_of(&machine, &artifact);
    let already = registry.requests().len();
    fetch(&machine, &["--allow-tags", &tag]).expect_code(0);
    fetch(&machine, &[&pin]).expect_code(0);
    fetch(&machine, &["--allow-tags", &tag]).expect_code(0);
    let asked = lines(&registry.requests_after(already, 3));
    assert_eq!(asked, [manifest_line(200), blob_line(&artifact, 200), manifest_line(304)]);
    fetch(&machine, &[&tag]).expect_code(2);

    registry.stop();
    // Down: what is here opens by its pin, and a tag cannot be asked for.
    assert_eq!(fetch(&machine, &[&pin]).expect_code(0).line(), path.to_str().unwrap());
    let failed = fetch(&machine, &["--allow-tags", &tag]);
    failed.expect_code(7);
    assert!(failed.stderr.contains(&tag), "{}", failed.stderr);
    fetch(&never, &[&pin]).expect_code(7);
    // Offline: tags mean what they meant.
    for arguments in [["--offline", "--allow-tags", tag.as_str()].as_slice(), &["--offline", &pin]] {
        assert_eq!(fetch(&machine, arguments).expect_code(0).line(), path.to_str().unwrap());
        fetch(&never, arguments).expect_code(4);
    }
    assert_eq!(never.entries(), [""; 0]);
}

#[test]
fn a_tampered_cache_is_refused_offline_and_healed_online() {
    if !ready("a_tampered_cache_is_refused_offline_and_healed_online", PROGRAMS) {
        return;
    }
    let artifact = sample();
    let registry = registry_with(&artifact);
    let pin = pin_in(&registry.host(), &artifact);
    let machine = Machine::new();
    let path = path_of(&machine, &artifact);
    fetch(&machine, &[&pin]).expect_code(0);
    for wrong in [&b""[..], b"evil", &fixture::random_bytes(42, 300_000)] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, wrong).unwrap();
        let refused = fetch(&machine, &["--offline", &pin]);
        refused.expect_code(8);
        assert!(refused.stderr.contains(&pin), "{}", refused.stderr);
        let already = registry.requests().len();
        assert_eq!(fetch(&machine, &[&pin]).expect_code(0).line(), path.to_str().unwrap());
        assert_eq!(fs::read(&path).unwrap(), artifact.layer_bytes());
        let asked = lines(&registry.requests_after(already, 2));
        assert_eq!(asked.last(), Some(&blob_line(&artifact, 200)));
        fetch(&machine, &["--offline", &pin]).expect_code(0);
    }
}

#[test]
fn processes_that_want_the_same_pack_download_it_once() {
    if !ready("processes_that_want_the_same_pack_download_it_once", PROGRAMS) {
        return;
    }
    let artifact = pack(vec![Blob::new(GTPACK, fixture::random_bytes(43, 4 << 20))]);
    let registry = registry_with(&artifact);
    let pin = pin_in(&registry.host(), &artifact);
    let machine = Machine::new();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let outcome = fetch(&machine, &[&pin]);
                assert_eq!(fs::read(outcome.expect_code(0).line()).unwrap(), artifact.layer_bytes());
            });
        }
    });
    let blobs = lines(&registry.requests()).into_iter().filter(|line| *line == blob_line(&artifact, 200));
    assert_eq!(blobs.count(), 1);
}

/// SHA-256 of 1 GiB of zeros.
const GIB_OF_ZEROS: &str = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";
const GIB: u64 = 1 << 30;

/// A registry with an artifact of 1 GiB under `acme/hello`, as a pack and as a component: tags `1` and `component`. Its bytes are put
/// where the registry keeps them, as a file without blocks, so that nobody has to write them; skopeo finds them there and pushes
/// the rest.
fn registry_with_a_gib() -> DockerRegistry {
    let registry = DockerRegistry::open();
    let digest: Digest = GIB_OF_ZEROS.parse().unwrap();
    let kept = registry.blob_path(digest);
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    File::create(&kept).unwrap().set_len(GIB).unwrap();
    let link = kept.ancestors().nth(5).unwrap().join("repositories/acme/hello/_layers/sha256").join(digest.to_hex());
    fs::create_dir_all(&link).unwrap();
    fs::write(link.join("link"), GIB_OF_ZEROS).unwrap();
    for (media_type, tag) in [(GTPACK, "1"), (fixture::WASM_TYPE, "component")] {
        push_the_gib(&registry, media_type, tag);
    }
    registry
}

fn push_the_gib(registry: &DockerRegistry, media_type: &str, tag: &str) {
    let config = Blob::new("application/vnd.oci.empty.v1+json", "{}");
    let manifest = Blob::new(
        "application/vnd.oci.image.manifest.v1+json",
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [{ "mediaType": media_type, "digest": GIB_OF_ZEROS, "size": GIB }],
        })
        .to_string(),
    );
    let layout = tempfile::tempdir().unwrap();
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in [&config, &manifest] {
        fs::write(blobs.join(blob.digest.to_hex()), &blob.bytes).unwrap();
    }
    let digest: Digest = GIB_OF_ZEROS.parse().unwrap();
    File::create(blobs.join(digest.to_hex())).unwrap().set_len(GIB).unwrap();
    let mut top = manifest.descriptor();
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    fs::write(layout.path().join("index.json"), json!({ "schemaVersion": 2, "manifests": [top] }).to_string()).unwrap();
    fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    skopeo_push(layout.path(), tag, &format!("{}/acme/hello:{tag}", registry.host()), None).unwrap();
}

#[track_caller]
fn assert_little_memory(outcome: &Outcome) {
    let peak = outcome.peak_rss_bytes.expect("the peak was measured");
    assert!(peak < 32 << 20, "{peak} bytes");
}

#[test]
fn a_pack_and_a_component_of_1_gib_stay_under_32_mib_of_memory() {
    if !ready("a_pack_and_a_component_of_1_gib_stay_under_32_mib_of_memory", PROGRAMS) {
        return;
    }
    let registry = registry_with_a_gib();
    let machine = Machine::new();
    let outcome = fetch(&machine, &["--json", "--allow-tags", &tag_in(&registry.host())]);
    let told = outcome.expect_code(0).json();
    assert_eq!((told["size_bytes"].as_u64(), told["fetched"].as_bool()), (Some(GIB), Some(true)));
    assert_eq!(fs::metadata(told["cache_path"].as_str().unwrap()).unwrap().len(), GIB);
    assert_little_memory(&outcome);

    // Elsewhere, where the same bytes are not yet.
    let machine = Machine::new();
    let manifest = machine.dir().join("pack.json");
    let refs = json!([format!("{}/acme/hello:component", registry.host())]);
    fs::write(&manifest, json!({ "extensions": { "greentic.components": { "refs": refs } } }).to_string()).unwrap();
    let manifest = manifest.to_str().unwrap();
    let already = registry.requests().len();
    let outcome = machine.dist(["--json", "components", "fetch", "--allow-tags", manifest]);
    let told = outcome.expect_code(0).json();
    assert_eq!((told[0]["size_bytes"].as_u64(), told[0]["fetched"].as_bool()), (Some(GIB), Some(true)));
    let path = PathBuf::from(told[0]["cache_path"].as_str().unwrap());
    assert_eq!((fs::metadata(&path).unwrap().len(), path.file_name().unwrap().to_str()), (GIB, Some("component.wasm")));
    assert_little_memory(&outcome);
    let after = lines(&registry.requests()).split_off(already);
    assert!(after.iter().any(|line| line.contains(GIB_OF_ZEROS)), "{after:?}");
    // Nor does hashing it again take more, where nothing says that it was hashed.
    drop(fs::remove_file(path.with_file_name("verified")));
    let outcome = machine.dist(["--offline", "--json", "components", "fetch", "--allow-tags", manifest]);
    assert_eq!(outcome.expect_code(0).json()[0]["fetched"].as_bool(), Some(false));
    assert_little_memory(&outcome);
}
