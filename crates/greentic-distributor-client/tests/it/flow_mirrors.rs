//! The flow behind mirrors: containerd's directories, liars, and everybody failing at once.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Part, Scenario};
use greentic_distributor_client::dist::DistErrorKind::{Integrity, InvalidInput, NotFound, Temporary};
use greentic_distributor_client::dist::{Capabilities, DistClient, HostConfig, HostEndpoint, HostsDir};
use tempfile::TempDir;

use crate::support::{CANARY, Home, assert_delivers, assert_fails, chain, registry, sample};

/// A mirror at an address no other test uses: who lied is remembered by the whole process.
pub(crate) fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let ip = IpAddr::V4(Ipv4Addr::new(127, 78, 0, NEXT.fetch_add(1, Ordering::Relaxed)));
    lies.into_iter().fold(Scenario::new(sample()).on(ip), Scenario::lie).start()
}

fn behind(home: &Home, origin: &LyingRegistry, mirrors: &[&LyingRegistry]) -> DistClient {
    let config = mirrors.iter().fold(HostConfig::new(origin.host()), |config, mirror| {
        config.mirror(HostEndpoint::new(mirror.url()).capabilities(Capabilities::PULL))
    });
    home.builder().host(config).build()
}

/// A tree of host configurations with one `hosts.toml` in `dir`.
fn tree(dir: &str, hosts_toml: &str) -> TempDir {
    let tree = TempDir::new().unwrap();
    fs::create_dir(tree.path().join(dir)).unwrap();
    fs::write(tree.path().join(dir).join("hosts.toml"), hosts_toml).unwrap();
    tree
}

fn with_ports_as_underscores(host: &str) -> String {
    format!("{}_", host.replace(':', "_"))
}

#[tokio::test]
async fn the_mirror_of_a_hosts_toml_serves_a_whole_pull() {
    let (origin, near) = (registry(), mirror([]));
    for dir in [with_ports_as_underscores(&origin.host()), origin.host(), "_default".to_owned()] {
        near.journal().clear();
        let home = Home::new();
        let tree = tree(&dir, &format!("[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", near.url()));
        let client = home.builder().hosts_dir(tree.path()).build();
        let artifact = client.resolve_ref(&origin.reference()).await.unwrap();
        assert_delivers(&artifact, origin.artifact());
        let namespace = format!("?ns={}", origin.host().replace(':', "%3A"));
        assert_eq!(
            near.journal().lines(),
            [
                format!("GET /v2/acme/hello/manifests/1{namespace}"),
                format!("GET /v2/acme/hello/blobs/{}{namespace}", origin.artifact().layer_digest()),
            ],
            "{dir}"
        );
    }
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn the_most_particular_directory_counts_and_only_it() {
    let (origin, near) = (registry(), mirror([]));
    let tree = tree("_default", &format!("[host.\"{}\"]\n", near.url()));
    fs::create_dir(tree.path().join(with_ports_as_underscores(&origin.host()))).unwrap();
    let home = Home::new();
    let artifact = home.builder().hosts_dir(tree.path()).build().resolve_ref(&origin.reference()).await.unwrap();
    assert_delivers(&artifact, origin.artifact());
    assert!(near.journal().is_empty());
}

#[tokio::test]
async fn what_is_said_in_code_wins_over_the_directory() {
    let (origin, near) = (registry(), mirror([]));
    let tree = tree("_default", "skip_verify = true\n");
    let home = Home::new();
    let config = HostConfig::new(origin.host()).mirror(HostEndpoint::new(near.url()).capabilities(Capabilities::READ));
    let client = home.builder().hosts_dir(tree.path()).host(config).build();
    assert_delivers(&client.resolve_ref(&origin.reference()).await.unwrap(), origin.artifact());
    assert_eq!((near.journal().len(), origin.journal().len()), (2, 0));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_fails_the_pull_and_names_the_file() {
    let origin = registry();
    let dir = origin.host();
    for (text, named) in [
        ("skip_verify = true\n", "always checked"),
        ("ca = \"missing.pem\"\n", "missing.pem"),
        ("ca = \"hosts.toml\"\n", "no PEM certificates"),
        ("client = \"hosts.toml\"\n", "no PEM certificate"),
        ("client = [[\"hosts.toml\", \"missing.key\"]]\n", "missing.key"),
        ("[host.\"ftp://m.example\"]\n", "neither http nor https"),
        ("[host.\"https://u:canary-7d1f@m.example\"]\n", "user name"),
        ("[header]\nAuthorization = \"Bearer canary-7d1f\"\n", "cannot be set"),
        ("[header]\nX-Key = \"canary-7d1f\n", "line 2"),
        ("capabilities = [\"all\"]\n", "`all`"),
    ] {
        let home = Home::new();
        let tree = tree(&dir, text);
        let client = home.builder().hosts_dir(tree.path()).build();
        let said = assert_fails(client.resolve_ref(&origin.reference()).await, InvalidInput, 2);
        assert!(said.contains(named) && !said.contains(CANARY), "{text}: {said}");
        home.assert_cache_empty();
    }
    let home = Home::new();
    let missing = home.builder().hosts_dir(home.path().join("nothing")).build();
    let said = assert_fails(missing.resolve_ref(&origin.reference()).await, InvalidInput, 2);
    assert!(said.contains("nothing"), "{said}");
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn dockers_files_are_read_where_there_is_no_hosts_toml() {
    let pair = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let tree = TempDir::new().unwrap();
    let dir = tree.path().join("registry.example");
    fs::create_dir(&dir).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    let read = || HostsDir::new(tree.path()).read("registry.example");
    write("ca.crt", &certificate);
    write("node.cert", &certificate);
    assert!(read().unwrap_err().to_string().contains("`.key`"), "a certificate without its key");
    write("node.key", &key);
    let shown = format!("{:?}", read().unwrap().unwrap());
    assert!(shown.contains("has_client_certificate: true") && !shown.contains("PRIVATE KEY"), "{shown}");
    write("alone.key", &key);
    assert!(read().unwrap_err().to_string().contains("`.cert`"), "a key without its certificate");
    assert!(HostsDir::new(tree.path()).read("other.example").unwrap().is_none());
}

#[tokio::test]
async fn mirrors_that_lie_are_left_behind_one_after_the_other() {
    let (origin, home) = (registry(), Home::new());
    let liars = [mirror([Lie::WrongBlob]), mirror([Lie::OverLongBlobChunked(5)]), mirror([Lie::ShortBlob(10)])];
    let client = behind(&home, &origin, &liars.each_ref());
    let artifact = client.resolve_ref(&origin.reference()).await.unwrap();
    assert_delivers(&artifact, origin.artifact());
    assert_eq!(liars.each_ref().map(|liar| liar.journal().count_containing("/blobs/")), [1, 1, 1]);
    assert_eq!(origin.journal().count_containing("/blobs/"), 1);
}

#[tokio::test]
async fn when_everybody_lies_nothing_is_cached_and_everybody_is_named() {
    let home = Home::new();
    let origin = Scenario::new(sample()).lie(Lie::WrongBlob).start();
    let liars = [mirror([Lie::WrongBlob]), mirror([Lie::WrongBlob])];
    let client = behind(&home, &origin, &liars.each_ref());
    let said = assert_fails(client.resolve_ref(&origin.reference()).await, Integrity, 8);
    for host in [liars[0].url(), liars[1].url(), origin.url()] {
        assert!(said.contains(&host), "{host} is not named: {said}");
    }
    home.assert_cache_empty();
}

#[tokio::test]
async fn a_mirror_without_the_artifact_does_not_hide_what_the_origin_says() {
    let (origin, empty, home) = (registry(), mirror([Lie::status(Part::All, 404)]), Home::new());
    let client = behind(&home, &origin, &[&empty]);
    assert_delivers(&client.resolve_ref(&origin.pinned()).await.unwrap(), origin.artifact());
    origin.lie(Lie::status(Part::All, 404));
    let gone = format!("{}/acme/gone@{}", origin.host(), greentic_dist_types::Digest::sha256(b"gone"));
    assert_fails(client.resolve_ref(&gone).await, NotFound, 3);
    origin.lie(Lie::ResetInstead { on: Part::All, times: Lie::ALWAYS });
    let origin_down = Scenario::new(sample()).lie(Lie::ResetInstead { on: Part::All, times: Lie::ALWAYS }).start();
    let client = behind(&home, &origin_down, &[&empty]);
    let missing = format!("{}/acme/gone@{}", origin_down.host(), greentic_dist_types::Digest::sha256(b"gone"));
    assert_fails(client.resolve_ref(&missing).await, Temporary, 7);
}

#[tokio::test]
async fn an_offline_client_asks_no_mirror_and_reads_no_configuration() {
    let (origin, near, home) = (registry(), mirror([]), Home::new());
    let tree = tree("_default", "skip_verify = true\n");
    let options = greentic_distributor_client::dist::DistOptions { offline: true, ..home.options() };
    let client = home.builder().options(options).hosts_dir(tree.path()).build();
    let error = client.resolve_ref(&origin.reference()).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{}", chain(&error));
    assert!(near.journal().is_empty() && origin.journal().is_empty());
}

/// The fenced blocks of a language in a document.
pub(crate) fn blocks(document: &Path, language: &str) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let mut parts = text.split("```");
    let mut found = Vec::new();
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        found.extend(block.strip_prefix(&format!("{language}\n")).map(str::to_owned));
    }
    found
}

#[tokio::test]
async fn the_example_of_the_document_is_read_whole() {
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/hosts.md");
    let examples = blocks(&document, "toml");
    assert_eq!(examples.len(), 2);
    let tree = tree("ghcr.io", &examples[0]);
    let pair = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    for (name, text) in
        [("corp.pem", pair.cert.pem()), ("node.cert", pair.cert.pem()), ("node.key", pair.signing_key.serialize_pem())]
    {
        fs::write(tree.path().join("ghcr.io").join(name), text).unwrap();
    }
    let shown = format!("{:?}", HostsDir::new(tree.path()).read("ghcr.io").unwrap().unwrap());
    for part in [
        "http://rack7.mirror.example:5000",
        "300ms",
        "https://registry.corp.example/v2/ghcr-remote",
        "override_path: true",
        "has_client_certificate: true",
        "X-Site",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("notes: []"), "every key is known: {shown}");
}
