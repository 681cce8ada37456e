//! `greentic-operator`: provider packs by reference, online and off.
//!
//! Features: `pack-fetch` without the default ones.

use std::path::{Path, PathBuf};

use greentic_dist_compat_tests::{Machine, bytes_at, child, is_child, serve, short_lived};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::serve::RequestRecord;
use greentic_distributor_client::oci_packs::DefaultRegistryClient;
use greentic_distributor_client::{OciPackFetcher, PackFetchOptions};

fn pack() -> Artifact {
    fixture::artifact("application/vnd.greentic.gtpack.v1+zip", fixture::random_bytes(3, 40_000))
}

/// The digest and the path of a pack; errors as their text.
fn fetch(reference: &str, offline: bool, cache: Option<&Path>) -> Result<(String, PathBuf), String> {
    let mut opts = PackFetchOptions { allow_tags: true, offline, ..PackFetchOptions::default() };
    if let Some(cache) = cache {
        opts.cache_dir = cache.to_path_buf();
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let fetcher: OciPackFetcher<DefaultRegistryClient> = OciPackFetcher::new(opts);
    let resolved = runtime.block_on(fetcher.fetch_pack_to_cache(reference)).map_err(|error| error.to_string())?;
    Ok((resolved.resolved_digest, resolved.path))
}

#[test]
fn a_pack_is_fetched_by_its_tag_and_found_by_its_digest_with_the_registry_gone() {
    let (pack, machine) = (pack(), Machine::new());
    let registry = serve(&[("acme/provider:1", &pack)]);
    let name = format!("{}/acme/provider", registry.host());
    let (digest, path) = fetch(&format!("{name}:1"), false, Some(&machine.cache())).unwrap();
    assert_eq!(digest, pack.manifest_digest.to_string());
    assert_eq!(bytes_at(&path), pack.layer_bytes());
    assert_eq!(path.file_name().unwrap(), "pack.gtpack");
    registry.stop();
    let (again, same) = fetch(&format!("{name}@{digest}"), true, Some(&machine.cache())).unwrap();
    assert_eq!((again, same), (digest, path));
}

#[test]
fn a_registry_that_does_not_know_the_pack_is_quoted() {
    let registry = serve(&[]);
    let machine = Machine::new();
    let error = fetch(&format!("{}/acme/provider:2", registry.host()), false, Some(&machine.cache())).unwrap_err();
    assert!(error.contains("manifest unknown"), "{error}");
    assert!(error.contains("acme/provider:2"), "{error}");
}

#[test]
fn options_of_the_defaults_are_made_without_a_runtime_and_touch_nothing() {
    const TEST: &str = "operator::options_of_the_defaults_are_made_without_a_runtime_and_touch_nothing";
    if is_child() {
        let error = fetch("registry.example/acme/provider:1", true, None).unwrap_err();
        assert!(error.contains("offline"), "{error}");
        return;
    }
    let machine = Machine::new();
    child(TEST).env("GREENTIC_PACK_CACHE_DIR", machine.cache()).output().expect_code(0);
    assert!(!machine.cache().exists());
}

#[test]
fn a_fetcher_per_call_costs_a_question_and_no_second_download() {
    let (pack, machine) = (pack(), Machine::new());
    let registry = serve(&[("acme/provider:1", &pack)]);
    let reference = format!("{}/acme/provider:1", registry.host());
    for _ in 0..3 {
        fetch(&reference, false, Some(&machine.cache())).unwrap();
    }
    let asked: Vec<String> = registry.journal().iter().map(RequestRecord::line).collect();
    assert_eq!(asked.iter().filter(|line| line.contains("/blobs/")).count(), 1, "{asked:?}");
    let bytes = short_lived(greentic_distributor_client::fetch_pack_with_options(
        &reference,
        PackFetchOptions { allow_tags: true, cache_dir: machine.cache(), ..PackFetchOptions::default() },
    ));
    assert_eq!(bytes.unwrap(), pack.layer_bytes());
}
