//! `greentic-setup`: bundles come from `repo://` and `store://` names.
//!
//! Features: the default ones, `dist-client` and `pack-fetch`.

use std::path::PathBuf;

use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::scenario::{Auth, Scenario};
use greentic_distributor_client::{
    CachePolicy, DistClient, DistOptions, OciPackFetcher, PackFetchOptions, ResolvePolicy, oci_packs,
};

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

#[test]
fn a_pack_behind_a_login_is_fetched_with_user_name_and_password() {
    let pack = fixture::artifact("application/vnd.greentic.gtpack.v1+zip", fixture::random_bytes(4, 8_000));
    for auth in [Auth::basic("ann", "secret-1"), Auth::bearer("ann", "secret-1")] {
        let registry = Scenario::new(pack.clone()).auth(auth).start();
        let machine = Machine::new();
        let opts = PackFetchOptions {
            allow_tags: true,
            offline: false,
            cache_dir: machine.cache(),
            ..PackFetchOptions::default()
        };
        let client = oci_packs::DefaultRegistryClient::with_basic_auth("ann", "secret-1");
        let fetcher = OciPackFetcher::with_client(client, opts.clone());
        let fetched = short_lived(fetcher.fetch_pack_to_cache(&registry.reference())).unwrap();
        assert_eq!(bytes_at(fetched.path), pack.layer_bytes());
        // Another password is refused, and stands in no error.
        let wrong = oci_packs::DefaultRegistryClient::with_basic_auth("ann", "secret-2");
        let elsewhere = PackFetchOptions { cache_dir: machine.at("other"), ..opts };
        let fetcher = OciPackFetcher::with_client(wrong, elsewhere);
        let error = short_lived(fetcher.fetch_pack_to_cache(&registry.reference())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
