//! `greentic-flow`: components of a flow from the cache, from registries and from a distributor; logins of tenants.
//!
//! Features: `dist-client` and `http-runtime` without the default ones.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_compat_tests::{Machine, bytes_at, child, is_child, serve, short_lived};
use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE};
use greentic_dist_testkit::serve::{Registry, TreeLayout};
use greentic_distributor_client::{
    CachePolicy, DistClient, DistOptions, DistributorClient, DistributorClientConfig, DistributorEnvironmentId, EnvId,
    HttpDistributorClient, ResolveComponentRequest, ResolvePolicy, TenantCtx, TenantId, load_login_default,
    save_login_default,
};
use serde_json::{Value, json};

/// A component whose manifest travels beside it as a layer.
fn described() -> Artifact {
    let manifest = json!({ "id": "acme.tool", "artifacts": { "component_wasm": "component.wasm" } });
    let manifest = Blob::new("application/vnd.greentic.component.manifest+json", manifest.to_string());
    fixture::artifact_of(vec![Blob::new(WASM_TYPE, fixture::component_bytes()), manifest], &[])
}

/// Every question in a runtime of its own.
fn fetch(client: &DistClient, reference: &str) -> Result<PathBuf, String> {
    let source = client.parse_source(reference).map_err(|error| error.to_string())?;
    let descriptor = short_lived(client.resolve(source, ResolvePolicy)).map_err(|error| error.to_string())?;
    let resolved = short_lived(client.fetch(&descriptor, CachePolicy)).map_err(|error| error.to_string())?;
    resolved.cache_path.ok_or_else(|| "it has no path".to_owned())
}

/// The component manifest in the directory of the artifact, and the file that it names there.
fn manifest_beside(path: &Path) -> Option<(Value, PathBuf)> {
    let dir = path.parent()?;
    let manifest: Value = serde_json::from_slice(&fs::read(dir.join("component.manifest.json")).ok()?).ok()?;
    let named = dir.join(manifest["artifacts"]["component_wasm"].as_str()?);
    Some((manifest, named))
}

/// Where it looks by itself when it knows nothing but a digest.
fn poke(cache: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let shards = cache.join("artifacts").join("sha256").join(&hex[..2]).join(&hex[2..]);
    [shards, cache.join(hex)].into_iter().map(|dir| dir.join("component.manifest.json")).find(|path| path.is_file())
}

#[test]
fn one_client_serves_many_runtimes_and_the_manifest_lies_beside_the_component() {
    let (artifact, other) = (described(), fixture::artifact(WASM_TYPE, fixture::random_bytes(7, 5_000)));
    let registry = serve(&[("acme/tool:1", &artifact), ("acme/other:1", &other)]);
    let machine = Machine::new();
    let client = DistClient::new(DistOptions { cache_dir: machine.cache(), ..DistOptions::default() });
    let path = fetch(&client, &format!("oci://{}/acme/tool:1", registry.host())).unwrap();
    let (manifest, named) = manifest_beside(&path).unwrap();
    assert_eq!(manifest["id"], "acme.tool");
    assert_eq!(bytes_at(named), artifact.layer_bytes());
    // The runtime that opened the first connection is gone.
    let second = fetch(&client, &format!("oci://{}/acme/other:1", registry.host())).unwrap();
    assert_eq!(bytes_at(second), other.layer_bytes());
    let digest = artifact.manifest_digest.to_string();
    assert_eq!(client.open_cached(&digest).unwrap().local_path, path);
    assert!(poke(&machine.cache(), &digest).is_some());
    // Threads with a runtime each, at once.
    std::thread::scope(|scope| {
        for name in ["tool", "other"] {
            let (client, reference) = (&client, format!("oci://{}/acme/{name}:1", registry.host()));
            scope.spawn(move || fetch(client, &reference).unwrap());
        }
    });
}

#[test]
fn what_it_writes_beside_a_component_stays_and_is_no_part_of_it() {
    let artifact = described();
    let registry = serve(&[("acme/tool:1", &artifact)]);
    let machine = Machine::new();
    let client = DistClient::new(DistOptions { cache_dir: machine.cache(), ..DistOptions::default() });
    let path = fetch(&client, &format!("oci://{}/acme/tool:1", registry.host())).unwrap();
    let describe = PathBuf::from(format!("{}.describe.cbor", path.display()));
    fs::write(&describe, b"described").unwrap();
    let digest = artifact.manifest_digest.to_string();
    for _ in 0..2 {
        assert_eq!(client.open_cached(&digest).unwrap().local_path, path);
        client.verify_cached(&digest).unwrap();
        assert_eq!(client.gc().unwrap(), [""; 0]);
        assert_eq!(bytes_at(&describe), b"described");
    }
    assert_eq!(client.list_cache(), std::slice::from_ref(&digest));
    // It goes with the entry.
    client.remove_cached(&[digest]).unwrap();
    assert!(!describe.exists() && !path.parent().unwrap().exists());
}

#[test]
fn a_registry_that_does_not_know_the_tag_is_quoted() {
    let registry = serve(&[]);
    let machine = Machine::new();
    let client = DistClient::new(DistOptions { cache_dir: machine.cache(), ..DistOptions::default() });
    let error = fetch(&client, &format!("oci://{}/acme/tool:2", registry.host())).unwrap_err();
    assert!(error.contains("manifest unknown"), "{error}");
}

#[test]
#[expect(clippy::default_trait_access, reason = "it is written so")]
fn the_client_of_the_defaults_is_made_without_a_runtime_and_touches_nothing() {
    const TEST: &str = "flow::the_client_of_the_defaults_is_made_without_a_runtime_and_touches_nothing";
    if is_child() {
        let client = DistClient::new(Default::default());
        assert!(client.open_cached(&"0".repeat(64)).is_err());
        return;
    }
    let machine = Machine::new();
    child(TEST).env("GREENTIC_CACHE_DIR", machine.cache()).output().expect_code(0);
    assert!(!machine.cache().exists());
}

#[test]
fn a_login_is_saved_and_loaded_at_the_place_of_the_environment() {
    const TEST: &str = "flow::a_login_is_saved_and_loaded_at_the_place_of_the_environment";
    if is_child() {
        short_lived(save_login_default("tenant-a", "token-1")).unwrap();
        // Another runtime, as another command would have.
        let login = short_lived(load_login_default("tenant-a")).unwrap();
        assert_eq!(
            (login.tenant.as_str(), login.username.as_str(), login.token.as_str()),
            ("tenant-a", "tenant-a", "token-1")
        );
        assert!(short_lived(load_login_default("tenant-b")).is_err());
        return;
    }
    let machine = Machine::new();
    let file = machine.at("config/logins.json");
    child(TEST).env("GREENTIC_DIST_STORE_SECRETS_PATH", &file).output().expect_code(0);
    assert!(file.is_file());
}

/// All six fields.
fn config(base_url: String) -> DistributorClientConfig {
    DistributorClientConfig {
        base_url: Some(base_url),
        environment_id: DistributorEnvironmentId::from("dev"),
        tenant: tenant(),
        auth_token: Some("token-1".to_owned()),
        extra_headers: Some(HashMap::from([("x-flow".to_owned(), "1".to_owned())])),
        request_timeout: Some(Duration::from_secs(30)),
    }
}

fn tenant() -> TenantCtx {
    TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("tenant-a").unwrap())
}

/// The types of the answer are those of `greentic-types`, whoever names them.
fn reference_of(artifact: greentic_types::ArtifactLocation) -> String {
    match artifact {
        greentic_types::ArtifactLocation::OciReference { reference } => reference,
        greentic_types::ArtifactLocation::FilePath { path } => path,
        greentic_types::ArtifactLocation::DistributorInternal { handle } => handle,
    }
}

#[test]
fn a_distributor_says_where_a_component_is_and_it_is_fetched_from_there() {
    let machine = Machine::new();
    machine.file("tree/components/part-1.0.0.wasm", fixture::component_bytes());
    machine.file("tree/packs/kit-1.0.0.gtpack", b"pack");
    let registry = Registry::over_tree(machine.at("tree"), TreeLayout::Flat).unwrap();
    let distributor = registry.start(([127, 0, 0, 1], 0).into()).unwrap();

    let client: Box<dyn DistributorClient> = Box::new(HttpDistributorClient::new(config(distributor.url())).unwrap());
    let request = ResolveComponentRequest {
        tenant: tenant(),
        environment_id: DistributorEnvironmentId::from("dev"),
        pack_id: "kit".to_owned(),
        component_id: "part".to_owned(),
        version: "1.0.0".to_owned(),
        extra: Value::Null,
    };
    let answer = short_lived(client.resolve_component(request)).unwrap();
    assert_eq!(answer.status, greentic_types::ComponentStatus::Ready);
    let reference = reference_of(answer.artifact);

    let client = DistClient::new(DistOptions { cache_dir: machine.cache(), ..DistOptions::default() });
    let path = fetch(&client, &format!("oci://{reference}")).unwrap();
    assert_eq!(bytes_at(path), fixture::component_bytes());
}
