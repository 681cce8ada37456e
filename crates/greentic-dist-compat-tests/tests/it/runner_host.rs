//! `greentic-runner-host`: the components of a pack's lock come into the cache, and their bytes are held against the lock.
//!
//! Features: the default ones and `dist-client`.

use std::path::{Path, PathBuf};

use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{CachePolicy, DistClient, DistError, DistOptions, ResolvePolicy};

/// A component as the lock of a pack names it.
struct Locked {
    reference: String,
    digest: String,
    wasm_sha256: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Missing(String),
    NeedsNetwork(String),
    Denied(String),
    Other(String),
}

/// The variants it knows by their fields, and a wildcard.
fn failure(error: DistError) -> Failure {
    match error {
        DistError::NotFound { reference } => Failure::Missing(reference),
        DistError::Offline { reference } => Failure::NeedsNetwork(reference),
        DistError::Unauthorized { target } => Failure::Denied(target),
        other => Failure::Other(other.to_string()),
    }
}

/// A client for each call, its options set one by one over the defaults.
fn client(machine: &Machine, offline: bool) -> DistClient {
    let mut options = DistOptions { allow_tags: true, ..DistOptions::default() };
    options.cache_dir = machine.cache();
    options.offline = offline;
    DistClient::new(options)
}

async fn path_of(client: &DistClient, component: &Locked) -> Result<PathBuf, Failure> {
    if let Ok(path) = client.fetch_digest(&component.digest).await {
        return Ok(path);
    }
    let source = client.parse_source(&component.reference).map_err(failure)?;
    let descriptor = client.resolve(source, ResolvePolicy).await.map_err(failure)?;
    let resolved = client.fetch(&descriptor, CachePolicy).await.map_err(failure)?;
    assert_eq!(resolved.digest.as_str(), descriptor.digest.as_str());
    resolved.cache_path.ok_or_else(|| Failure::Other("it has no path".to_owned()))
}

/// The digest of the component's own bytes where the pack has one, else that of the lock.
fn verify(component: &Locked, path: &Path) -> bool {
    let expected = component.wasm_sha256.as_deref().unwrap_or(&component.digest);
    Digest::sha256(&bytes_at(path)).to_string() == expected
}

#[test]
fn a_component_is_fetched_once_and_found_by_its_digest_from_then_on() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/hello:1", &artifact)]);
    let machine = Machine::new();
    let reference = format!("oci://{}/acme/hello:1", registry.host());
    // One lock names the bytes; another the manifest, with the digest of the bytes beside it.
    let by_bytes = Locked { reference, digest: artifact.layer_digest().to_string(), wasm_sha256: None };
    let by_manifest = Locked {
        reference: format!("oci://{}/acme/hello@{}", registry.host(), artifact.manifest_digest),
        digest: artifact.manifest_digest.to_string(),
        wasm_sha256: Some(artifact.layer_digest().to_string()),
    };
    for (component, requests) in [(&by_bytes, 2), (&by_bytes, 2), (&by_manifest, 2)] {
        let path = short_lived(path_of(&client(&machine, false), component)).unwrap();
        assert!(verify(component, &path));
        assert_eq!(registry.requests(), requests);
    }
    registry.stop();
    let path = short_lived(path_of(&client(&machine, true), &by_manifest)).unwrap();
    assert_eq!(bytes_at(path), artifact.layer_bytes());
}

#[test]
fn failures_are_told_apart_by_their_variant() {
    let machine = Machine::new();
    let of = |reference: &str| {
        let component =
            Locked { reference: reference.to_owned(), digest: Digest::sha256(b"none").to_string(), wasm_sha256: None };
        short_lived(path_of(&client(&machine, true), &component)).unwrap_err()
    };
    let absent = Digest::sha256(b"absent").to_string();
    assert_eq!(of(&absent), Failure::Missing(absent.clone()));
    let tag = "oci://registry.example/acme/hello:1";
    assert_eq!(of(tag), Failure::NeedsNetwork(tag.to_owned()));
    assert_eq!(
        failure(DistError::Unauthorized { target: "ghcr.io/acme".into() }),
        Failure::Denied("ghcr.io/acme".into())
    );
    assert!(matches!(of("ghcr.io/a/b@sha512:aa"), Failure::Other(text) if text.contains("ghcr.io/a/b")));
}
