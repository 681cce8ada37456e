//! The built command against servers that others wrote: Debian's `docker-registry`, plain, with a login and behind `nginx`,
//! and `skopeo`, which pushes what is pulled here.
//!
//! Each test names the programs it needs and says in one line that it is skipped where one is missing.
#![cfg(all(feature = "dist-cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test has nothing better to do")]

mod bundle;
mod carried;
mod catalog;
mod components;
mod crash;
mod foreign;
mod index;
mod killed;
mod login;
mod machine;
mod matrix;
mod memory;
mod mirror;
mod offline;
mod own_registry;
mod packs;
mod power_cut;
mod pull;
mod race;
mod registries_conf;
mod sparse;
mod tampered;
mod tls;

use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::real::{DockerRegistry, LoggedRequest, skopeo_push_artifacts};

/// A registry in which skopeo pushed the artifact as `acme/hello:1`.
fn registry_with(artifact: &Artifact) -> DockerRegistry {
    let registry = DockerRegistry::open();
    skopeo_push_artifacts(std::slice::from_ref(artifact), &tag_in(&registry.host()), None);
    registry
}

/// The tag on a host.
fn tag_in(host: &str) -> String {
    format!("{host}/acme/hello:1")
}

/// The pin on a host.
fn pin_in(host: &str, artifact: &Artifact) -> String {
    format!("{host}/acme/hello@{}", artifact.manifest_digest)
}

/// The line in a log of the GET of the tag's manifest with this status.
fn manifest_line(status: u16) -> String {
    format!("GET /v2/acme/hello/manifests/1 {status}")
}

/// The line in a log of the GET of the artifact's layer with this status.
fn blob_line(artifact: &Artifact, status: u16) -> String {
    format!("GET /v2/acme/hello/blobs/{} {status}", artifact.layer_digest())
}

fn lines(requests: &[LoggedRequest]) -> Vec<String> {
    requests.iter().map(ToString::to_string).collect()
}
