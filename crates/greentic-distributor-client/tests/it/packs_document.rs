//! The snippets of `docs/oci_packs.md`, compiled and run, and the document held against them.
#![expect(unreachable_pub, reason = "as a reader would write them")]

mod by_kind;
mod by_pin;
mod by_tag;
mod own_client;
mod own_login;
mod own_settings;
mod own_types;

use std::fs;

use greentic_dist_testkit::fixture::{Blob, artifact_of};
use greentic_dist_testkit::scenario::{Auth, LyingRegistry, Scenario};
use greentic_distributor_client::oci_packs::{OciPackError, PackFetchOptions};

use crate::packs::{GTPACK, options};
use crate::support::{CANARY, Home};

const DOCUMENT: &str = include_str!("../../../../docs/oci_packs.md");

fn scenario(layers: Vec<Blob>) -> Scenario {
    Scenario::new(artifact_of(layers, &[]))
}

fn registry() -> LyingRegistry {
    scenario(vec![Blob::new(GTPACK, "a pack")]).start()
}

#[test]
fn every_snippet_of_the_document_is_one_that_is_run_here() {
    let snippets = [
        include_str!("packs_document/by_tag.rs"),
        include_str!("packs_document/by_pin.rs"),
        include_str!("packs_document/own_types.rs"),
        include_str!("packs_document/own_login.rs"),
        include_str!("packs_document/own_settings.rs"),
        include_str!("packs_document/own_client.rs"),
        include_str!("packs_document/by_kind.rs"),
    ];
    let shown: Vec<&str> = DOCUMENT.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(shown, snippets);
}

#[tokio::test]
async fn a_tag_is_fetched_and_its_digest_fetches_the_same() {
    let (home, registry) = (Home::new(), registry());
    let tagged = by_tag::by_tag(&registry.reference(), options(&home)).await.unwrap();
    assert_eq!(fs::read(&tagged.path).unwrap(), b"a pack");
    let name = format!("{}/acme/hello", registry.host());
    let options = PackFetchOptions { offline: true, ..options(&home) };
    assert_eq!(by_pin::by_pin(&name, &tagged.resolved_digest, options).await.unwrap(), b"a pack");
}

#[tokio::test]
async fn types_of_the_host_come_first() {
    let layers = [Blob::new("text/html", "<p>"), Blob::new("application/vnd.acme.bundle", "bundle")];
    for count in 1..=2 {
        let (home, registry) = (Home::new(), scenario(layers[..count].to_vec()).start());
        let taken = by_tag::by_tag(&registry.reference(), own_types::own_types(options(&home))).await.unwrap();
        assert_eq!(taken.media_type, layers[count - 1].media_type);
    }
}

#[tokio::test]
async fn a_login_of_the_host_is_used() {
    let registry = scenario(vec![Blob::new(GTPACK, "a pack")]).auth(Auth::basic("alice", CANARY)).start();
    let home = Home::new();
    let fetched = own_login::own_login(&registry.reference(), "alice", CANARY, options(&home)).await.unwrap();
    assert!(fetched.fetched_from_network);
    home.assert_in_no_file(CANARY);
}

#[tokio::test]
async fn settings_of_the_host_are_used() {
    let (home, registry, elsewhere) = (Home::new(), registry(), Home::new());
    let dir = elsewhere.path().join(registry.host().replace(':', "_"));
    fs::create_dir(&dir).unwrap();
    fs::create_dir(elsewhere.path().join("registry.example")).unwrap();
    let hosts = format!("[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", registry.url());
    fs::write(elsewhere.path().join("registry.example").join("hosts.toml"), hosts).unwrap();
    let fetcher = own_settings::own_settings(elsewhere.path().to_str().unwrap(), options(&home));
    let fetched = fetcher.fetch_pack_to_cache("registry.example/acme/hello:1").await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"a pack");
}

#[tokio::test]
async fn a_client_of_the_host_is_asked_and_its_failure_is_of_a_kind() {
    let home = Home::new();
    let fetched = own_client::own_client("registry.example/acme/pack:1", options(&home)).await.unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"a pack");
    let error = own_client::own_client("registry.example/acme/other:1", options(&home)).await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    assert_eq!(by_kind::by_kind(&error), "look at the text and at `hints()`");
    let error = OciPackError::OfflineTaggedReference { reference: "x".into() };
    assert_eq!(by_kind::by_kind(&error), "fetch it while online");
}
