//! `registries.conf` beside a tree of host configurations: which of them counts, and what the flow makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::DistErrorKind::{InvalidInput, Policy};
use greentic_distributor_client::dist::{
    DistClient, DistOptions, HostConfig, HostEndpoint, HostFiles, HostsDir, RegistriesConf,
};
use tempfile::TempDir;

use crate::flow_mirrors::{blocks, mirror};
use crate::peer_tls::artifact_server;
use crate::support::{Home, assert_delivers, assert_fails, chain, registry, sample};

/// Files of both kinds in one place.
struct Files(TempDir);

impl Files {
    fn new(conf: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        fs::write(files.conf(), conf).unwrap();
        fs::create_dir(files.tree()).unwrap();
        files
    }

    fn conf(&self) -> PathBuf {
        self.0.path().join("registries.conf")
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("certs.d")
    }

    /// A directory of the tree.
    fn dir(&self, name: &str) -> PathBuf {
        let dir = self.tree().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn client(&self, home: &Home) -> DistClient {
        home.builder().registries_conf(RegistriesConf::file(self.conf())).hosts_dir(self.tree()).build()
    }
}

fn mirrored(registry: &str, mirror: &LyingRegistry) -> String {
    format!("[[registry]]\nlocation = \"{registry}\"\n[[registry.mirror]]\nlocation = \"{}\"\n", mirror.host())
}

#[tokio::test]
async fn the_mirror_of_a_registries_conf_serves_a_whole_pull_without_the_tree() {
    let (origin, near, home) = (registry(), mirror([]), Home::new());
    let files = Files::new(&mirrored(&origin.host(), &near));
    let client = home.builder().registries_conf(RegistriesConf::file(files.conf())).build();
    assert_delivers(&client.resolve_ref(&origin.reference()).await.unwrap(), origin.artifact());
    assert_eq!((near.journal().len(), origin.journal().len()), (2, 0));
    // The same through the client of registries.
    let net = greentic_distributor_client::oci::Client::builder();
    let net = net.host_source(std::sync::Arc::new(RegistriesConf::file(files.conf()))).build().unwrap();
    let reference = greentic_distributor_client::oci::Reference::parse(&origin.reference()).unwrap();
    net.repository(&reference).tags().collect(10).await.unwrap();
    assert_eq!((near.journal().len(), origin.journal().len()), (3, 0));
}

#[tokio::test]
async fn a_directory_of_its_own_wins_over_registries_conf_which_wins_over_the_default_one() {
    let (origin, by_tree, by_conf, by_default) = (registry(), mirror([]), mirror([]), mirror([]));
    let files = Files::new(&mirrored(&origin.host(), &by_conf));
    let hosts_toml = |near: &LyingRegistry| format!("[host.\"{}\"]\n", near.url());
    fs::write(files.dir("_default").join("hosts.toml"), hosts_toml(&by_default)).unwrap();
    let asked = async |reference: &str| {
        let home = Home::new();
        files.client(&home).resolve_ref(reference).await.unwrap();
        let counts = [&by_tree, &by_conf, &by_default].map(|near| near.journal().len());
        for near in [&by_tree, &by_conf, &by_default] {
            near.journal().clear();
        }
        counts
    };
    assert_eq!(asked(&origin.reference()).await, [0, 2, 0]);
    let other = registry();
    assert_eq!(asked(&other.reference()).await, [0, 0, 2], "nothing is said about it");
    fs::write(files.dir(&origin.host()).join("hosts.toml"), hosts_toml(&by_tree)).unwrap();
    assert_eq!(asked(&origin.reference()).await, [2, 0, 0]);
    // And what is said in code over all of it.
    let home = Home::new();
    let config = HostConfig::new(origin.host()).mirror(HostEndpoint::new(by_default.url()));
    let both = home.builder().host(config).registries_conf(RegistriesConf::file(files.conf())).build();
    both.resolve_ref(&origin.pinned()).await.unwrap();
    assert_eq!((by_conf.journal().len(), by_default.journal().len()), (0, 2));
}

#[tokio::test]
async fn a_part_of_a_registry_is_as_registries_conf_says_and_the_rest_as_the_default_directory_says() {
    let (origin, by_conf, by_default) = (registry(), mirror([]), mirror([]));
    let part = format!(
        "[[registry]]\nprefix = \"{}/other\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        origin.host(),
        by_conf.host()
    );
    let files = Files::new(&part);
    fs::write(files.dir("_default").join("hosts.toml"), format!("[host.\"{}\"]\n", by_default.url())).unwrap();
    let home = Home::new();
    assert_delivers(&files.client(&home).resolve_ref(&origin.reference()).await.unwrap(), origin.artifact());
    assert_eq!((by_conf.journal().len(), by_default.journal().len(), origin.journal().len()), (0, 2, 0));
}

#[tokio::test]
async fn what_is_blocked_is_refused_by_policy_whatever_the_tree_says_and_nobody_is_asked() {
    let (origin, near) = (registry(), mirror([]));
    let files = Files::new(&format!("[[registry]]\nprefix = \"{}/acme\"\nblocked = true\n", origin.host()));
    fs::write(files.dir(&origin.host()).join("hosts.toml"), format!("[host.\"{}\"]\n", near.url())).unwrap();
    for reference in [origin.reference(), origin.pinned()] {
        let home = Home::new();
        let said = assert_fails(files.client(&home).resolve_ref(&reference).await, Policy, 6);
        assert!(said.contains("is blocked") && said.contains("registries.conf"), "{said}");
        home.assert_cache_empty();
    }
    assert!(origin.journal().is_empty() && near.journal().is_empty());
}

#[tokio::test]
async fn certificates_for_a_mirror_come_from_its_own_directory_in_the_tree() {
    let (origin, server) = (registry(), artifact_server(None));
    let host = format!("localhost:{}", server.port());
    let text = format!("[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{host}\"\n", origin.host());
    let files = Files::new(&text);
    let never = |home: &Home| {
        let only_tls = greentic_distributor_client::dist::HttpRule::Never;
        let origin = HostConfig::new("unused.example");
        let builder = home.builder().http_rule(only_tls).host(origin);
        builder.registries_conf(RegistriesConf::file(files.conf())).hosts_dir(files.tree()).build()
    };
    let home = Home::new();
    let error = never(&home).resolve_ref(&origin.reference()).await.unwrap_err();
    assert!(chain(&error).contains(&host), "{}", chain(&error));
    fs::write(files.dir(&host).join("ca.crt"), &server.ca_pem).unwrap();
    let home = Home::new();
    assert_delivers(&never(&home).resolve_ref(&origin.reference()).await.unwrap(), &sample());
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_fails_the_pull_and_names_file_and_key() {
    let origin = registry();
    for (text, named) in [
        ("[[registry]]\nlocation = \"x", "line 2"),
        ("[registries.search]\nregistries = [\"docker.io\"]\n", "version 1"),
        ("[[registry]]\nlocation = \"a.example\"\ninsecure = 1\n", "`insecure`"),
        ("[[registry]]\nlocation = \"https://a.example\"\n", "has a scheme"),
    ] {
        let (home, files) = (Home::new(), Files::new(text));
        let said = assert_fails(files.client(&home).resolve_ref(&origin.reference()).await, InvalidInput, 2);
        assert!(said.contains(named) && said.contains("registries.conf"), "{text}: {said}");
        home.assert_cache_empty();
    }
    let home = Home::new();
    let missing = home.builder().registries_conf(RegistriesConf::file(home.path().join("none.conf"))).build();
    let said = assert_fails(missing.resolve_ref(&origin.reference()).await, InvalidInput, 2);
    assert!(said.contains("none.conf does not exist"), "{said}");
    assert!(origin.journal().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn what_stands_in_the_place_of_a_configuration_is_never_passed_over() {
    use std::os::unix::fs::symlink;

    let (home, registry) = (Home::new(), registry());
    let made: [fn(&Path); 4] = [
        |dir| fs::write(dir, "server = \"http://127.0.0.1:9\"").unwrap(),
        |dir| symlink("nowhere", dir).unwrap(),
        |dir| symlink(dir, dir).unwrap(),
        |dir| {
            fs::create_dir(dir).unwrap();
            symlink("nowhere", dir.join("hosts.toml")).unwrap();
        },
    ];
    for make in made {
        let files = Files::new("");
        let dir = files.tree().join(format!("{}_", registry.host().replace(':', "_")));
        make(&dir);
        let error = files.client(&home).resolve_ref(&registry.reference()).await.unwrap_err();
        assert!(chain(&error).contains(&dir.display().to_string()), "{}", chain(&error));
        assert_fails::<()>(Err(error), InvalidInput, 2);
    }
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
}

#[tokio::test]
async fn a_short_name_is_not_completed_whatever_the_file_says() {
    let near = mirror([]);
    let text = format!(
        "unqualified-search-registries = [\"{0}\"]\nshort-name-mode = \"disabled\"\n[aliases]\n\"acme/hello\" = \"{0}/acme/hello\"\n",
        near.host()
    );
    let files = Files::new(&text);
    for short in ["hello", "oci://acme/hello", "oci://hello:1"] {
        let home = Home::new();
        assert_fails(files.client(&home).resolve_ref(short).await, InvalidInput, 2);
    }
    assert!(near.journal().is_empty());
}

#[tokio::test]
async fn an_offline_client_reads_no_file() {
    let (home, files) = (Home::new(), Files::new("not TOML"));
    let options = DistOptions { offline: true, ..home.options() };
    let client = home.builder().options(options).registries_conf(RegistriesConf::file(files.conf())).build();
    let error = client.resolve_ref(&registry().reference()).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{}", chain(&error));
}

#[tokio::test]
async fn the_cache_knows_an_artifact_by_the_name_that_was_asked_for_wherever_it_came_from() {
    let there = Scenario::new(fixture::component()).repository("moved/hello").start();
    let files =
        Files::new(&format!("[[registry]]\nprefix = \"example.com/acme\"\nlocation = \"{}/moved\"\n", there.host()));
    let home = Home::new();
    let client = files.client(&home);
    let artifact = client.resolve_ref("example.com/acme/hello:1").await.unwrap();
    assert_delivers(&artifact, there.artifact());
    let requests = there.journal().len();
    let offline = home.builder().options(DistOptions { offline: true, ..home.options() }).build();
    assert_delivers(&offline.resolve_ref("example.com/acme/hello:1").await.unwrap(), there.artifact());
    assert_eq!(there.journal().len(), requests);
}

#[tokio::test]
async fn the_example_of_the_document_is_read_whole() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hosts.md");
    let examples = blocks(&document, "toml");
    let files = Files::new(&examples[1]);
    let read =
        HostFiles::new().registries_conf(RegistriesConf::file(files.conf())).hosts_dir(HostsDir::new(files.tree()));
    let team = format!("{:?}", read.read("ghcr.io").unwrap().unwrap());
    for part in ["rack7.mirror.example:5000", "\"acme\"", "named_only: false", "pull: true, resolve: false"] {
        assert!(team.contains(part), "{part}: {team}");
    }
    let moved = format!("{:?}", read.read("docker.io").unwrap().unwrap());
    assert!(moved.contains("registry.corp.example") && moved.contains("dockerhub"), "{moved}");
    let blocked = format!("{:?}", read.read("a.untrusted.example").unwrap().unwrap());
    assert!(blocked.contains("*.untrusted.example"), "{blocked}");
    assert!([team, moved, blocked].iter().all(|shown| shown.contains("notes: []")), "every key is known");
}
