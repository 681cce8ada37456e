//! `greentic-setup`: bundles come from `repo://` and `store://` names.
//!
//! Features: the default ones, `dist-client` and `pack-fetch`.

use std::path::PathBuf;

use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_distributor_client::{CachePolicy, DistClient, DistOptions, ResolvePolicy};

fn options(machine: &Machine, base: &str) -> DistOptions {
    DistOptions {
        cache_dir: machine.cache(),
        repo_registry_base: Some(base.to_owned()),
        store_registry_base: Some(base.to_owned()),
        ..DistOptions::default()
    }
}

/// Whichever path is there first.
fn bundle(options: DistOptions, reference: &str) -> Option<PathBuf> {
    let client = DistClient::new(options);
    let fetched = short_lived(async {
        let source = client.parse_source(reference).unwrap();
        let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
        client.fetch(&descriptor, CachePolicy).await.unwrap()
    });
    if fetched.local_path.exists() {
        return Some(fetched.local_path);
    }
    if let Some(path) = fetched.wasm_path {
        return Some(path);
    }
    fetched.cache_path
}

#[test]
fn names_below_a_base_are_fetched_and_their_paths_opened() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/kit:1", &artifact)]);
    let base = format!("{}/acme", registry.host());
    for scheme in ["repo", "store"] {
        let machine = Machine::new();
        let path = bundle(options(&machine, &base), &format!("{scheme}://kit:1")).unwrap();
        assert_eq!(bytes_at(path), artifact.layer_bytes());
    }
}

#[test]
fn every_path_of_a_fetched_artifact_is_the_same_file() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/kit:1", &artifact)]);
    let machine = Machine::new();
    let client = DistClient::new(options(&machine, &format!("{}/acme", registry.host())));
    let fetched = short_lived(client.resolve_ref("repo://kit:1")).unwrap();
    // Fields are moved out, each by itself.
    let (local, wasm, cached) = (fetched.local_path, fetched.wasm_path.unwrap(), fetched.cache_path.unwrap());
    assert_eq!((&local, &local), (&wasm, &cached));
}
