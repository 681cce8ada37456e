//! Provider catalogs of a real registry, pushed there by skopeo.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::fixture::{self, Artifact, Blob};
use greentic_dist_testkit::process::{Outcome, Spawned};
use greentic_dist_testkit::real::{
    DockerRegistry, DockerRegistryConfig, RegistryAuth, TlsFront, ready, skopeo_push_artifacts,
};
use serde_json::{Value, json};

use crate::lines;
use crate::machine::Machine;

fn document(ids: &[&str]) -> Vec<u8> {
    let item = |id: &&str| json!({ "id": id, "label": id, "reference": format!("oci://ghcr.io/acme/packs/{id}:1") });
    Value::Array(ids.iter().map(item).collect()).to_string().into_bytes()
}

fn artifact(ids: &[&str]) -> Artifact {
    fixture::artifact("application/json", document(ids))
}

/// A registry with catalogs under these names, each with a provider called like it.
fn registry_with(names: &[&str]) -> DockerRegistry {
    let registry = DockerRegistry::open();
    for name in names {
        push(&registry, &artifact(&[name]), name);
    }
    registry
}

fn push(registry: &DockerRegistry, artifact: &Artifact, name: &str) {
    skopeo_push_artifacts(std::slice::from_ref(artifact), &format!("{}/{name}:latest", registry.host()), None);
}

fn reference(host: &str, name: &str) -> String {
    format!("oci://{host}/{name}:latest")
}

fn catalog(machine: &Machine, args: &[&str]) -> Outcome {
    machine.dist(["catalog"].iter().chain(args))
}

/// What stands at the path that was printed.
#[track_caller]
fn read(machine: &Machine, outcome: &Outcome) -> Vec<u8> {
    fs::read(machine.dir().join(outcome.expect_code(0).line())).unwrap()
}

fn cache(machine: &Machine) -> PathBuf {
    machine.dir().join(".greentic/cache/provider-registry")
}

#[test]
fn a_catalog_is_fetched_with_two_requests_revalidated_with_one_and_kept_without_the_registry() {
    let name = "a_catalog_is_fetched_with_two_requests_revalidated_with_one_and_kept_without_the_registry";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let mut registry = registry_with(&["acme/providers"]);
    let (machine, wanted) = (Machine::new(), reference(&registry.host(), "acme/providers"));
    let digest = artifact(&["acme/providers"]).manifest_digest;
    let already = registry.requests().len();
    assert_eq!(catalog(&machine, &["update", &wanted]).line(), format!("changed {digest}"));
    assert_eq!(catalog(&machine, &["update", &wanted]).line(), format!("unchanged {digest}"));
    assert_eq!(read(&machine, &catalog(&machine, &["resolve", &wanted])), document(&["acme/providers"]));
    let blob = artifact(&["acme/providers"]).layer_digest();
    let manifest = "GET /v2/acme/providers/manifests/latest";
    let asked = lines(&registry.requests_after(already, 3));
    assert_eq!(
        asked,
        [format!("{manifest} 200"), format!("GET /v2/acme/providers/blobs/{blob} 200"), format!("{manifest} 304")]
    );
    // Moved on, and taken over.
    push(&registry, &artifact(&["a", "b"]), "acme/providers");
    assert_eq!(catalog(&machine, &["ls", "--refresh", &wanted]).stdout.lines().count(), 2);
    registry.stop();
    // Down with a copy, and without one.
    let stale = catalog(&machine, &["show", "--json", "--refresh", &wanted]).json();
    assert_eq!((&stale["stale"], &stale["items"]), (&json!(true), &json!(["a", "b"])));
    catalog(&machine, &["update", &wanted]).expect_code(7);
    let other = catalog(&machine, &["resolve", &reference(&registry.host(), "acme/other")]);
    other.expect_code(7);
    for said in ["no cached copy was found", "acme/other", "--provider-registry file://<path>"] {
        assert!(other.stderr.contains(said), "{}", other.stderr);
    }
    registry.restart();
    assert_eq!(
        catalog(&machine, &["update", &wanted]).line(),
        format!("unchanged {}", artifact(&["a", "b"]).manifest_digest)
    );
}

#[test]
fn eight_processes_that_refresh_one_catalog_at_once_fetch_it_once_and_agree() {
    let name = "eight_processes_that_refresh_one_catalog_at_once_fetch_it_once_and_agree";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = registry_with(&["acme/providers"]);
    let proxy = Proxy::start(registry.addr());
    let (machine, wanted) = (Machine::new(), reference(&proxy.host(), "acme/providers"));
    catalog(&machine, &["update", &wanted]).expect_code(0);
    let many: Vec<String> = (0..2_000).map(|number| format!("provider-{number}")).collect();
    let moved = artifact(&many.iter().map(String::as_str).collect::<Vec<_>>());
    push(&registry, &moved, "acme/providers");
    let already = registry.requests().len();
    let command = machine.command(["catalog", "resolve", "--refresh", &wanted]);
    let running: Vec<Spawned> = (0..8).map(|_| command.spawn()).collect();
    for process in running {
        assert!(read(&machine, &process.wait()) == moved.layer_bytes());
    }
    let asked = registry.requests_after(already, 9);
    assert_eq!(asked.iter().filter(|request| request.is_blob_get()).count(), 1, "{asked:?}");
    assert_eq!(asked.len(), 9, "eight looks at the tag and one layer: {asked:?}");
    let index: Value = serde_json::from_slice(&fs::read(cache(&machine).join("index.json")).unwrap()).unwrap();
    assert_eq!(index["refs"][&wanted], moved.manifest_digest.to_string());
}

#[test]
fn names_with_one_slug_a_torn_index_and_a_page_instead_of_a_catalog_serve_nothing_wrong() {
    let name = "names_with_one_slug_a_torn_index_and_a_page_instead_of_a_catalog_serve_nothing_wrong";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let names = ["a-b/c", "a/b-c", "a/b/c", "a/b_c"];
    let registry = registry_with(&names);
    let machine = Machine::new();
    for look in ["--refresh", "--offline"] {
        for name in names {
            let found = catalog(&machine, &["resolve", look, &reference(&registry.host(), name)]);
            assert_eq!(read(&machine, &found), document(&[name]));
        }
    }
    // A torn index is in nobody's way, and whole again afterwards.
    let index = cache(&machine).join("index.json");
    let whole = fs::read(&index).unwrap();
    for look in ["--offline", "--refresh"] {
        fs::write(&index, &whole[..whole.len() / 3]).unwrap();
        let found = catalog(&machine, &["resolve", look, &reference(&registry.host(), names[0])]);
        assert_eq!(read(&machine, &found), document(&[names[0]]));
        let mended: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        assert_eq!(mended["refs"].as_object().unwrap().len(), names.len());
    }
    // A login page, a component, an error in JSON: no catalogs, and no reason to lose the one that is there.
    for bytes in
        [b"<html>log in</html>".to_vec(), fixture::component_bytes().to_vec(), Vec::new(), b"{\"errors\":[]}".to_vec()]
    {
        push(&registry, &fixture::artifact("application/json", bytes), names[1]);
        let wanted = reference(&registry.host(), names[1]);
        let found = catalog(&machine, &["resolve", "--refresh", &wanted]);
        assert_eq!(read(&machine, &found), document(&[names[1]]));
        assert!(found.stderr.contains("no catalog"), "{}", found.stderr);
        catalog(&machine, &["update", &wanted]).expect_code(10);
    }
}

#[test]
fn what_an_earlier_operator_fetched_is_proven_by_one_request_and_used_without_a_registry() {
    let name = "what_an_earlier_operator_fetched_is_proven_by_one_request_and_used_without_a_registry";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let mut registry = registry_with(&["acme/providers"]);
    let (published, wanted) = (artifact(&["acme/providers"]), reference(&registry.host(), "acme/providers"));
    let machines = [Machine::new(), Machine::new()];
    for machine in &machines {
        // As it lies in a bundle: the index names the manifest, and so does the file.
        fs::create_dir_all(cache(machine).join("by-digest")).unwrap();
        let index = json!({ "refs": { &wanted: published.manifest_digest.to_string() } });
        fs::write(cache(machine).join("index.json"), index.to_string()).unwrap();
        let file = format!("by-digest/sha256-{}.json", published.manifest_digest.to_hex());
        fs::write(cache(machine).join(file), published.layer_bytes()).unwrap();
    }
    let [online, offline] = machines;
    let already = registry.requests().len();
    assert_eq!(read(&online, &catalog(&online, &["resolve", &wanted])), published.layer_bytes());
    assert_eq!(lines(&registry.requests_after(already, 1)), ["GET /v2/acme/providers/manifests/latest 200"]);
    registry.stop();
    for (machine, look, vouched) in
        [(&online, "--offline", false), (&offline, "--offline", true), (&offline, "--refresh", true)]
    {
        let found = catalog(machine, &["resolve", "--json", look, &wanted]);
        let shown = found.expect_code(0).json();
        assert_eq!((&shown["vouched"], &shown["items"]), (&json!(vouched), &json!(["acme/providers"])), "{look}");
        assert_eq!(found.stderr.contains("earlier version"), vouched, "{}", found.stderr);
    }
}

#[test]
fn names_are_mapped_to_the_bases_and_without_one_nobody_is_asked() {
    let name = "names_are_mapped_to_the_bases_and_without_one_nobody_is_asked";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = registry_with(&["acme/providers"]);
    let base = format!("{}/acme", registry.host());
    for (scheme, variable) in [("repo", "GREENTIC_REPO_REGISTRY_BASE"), ("store", "GREENTIC_STORE_REGISTRY_BASE")] {
        let machine = Machine::new();
        let already = registry.requests().len();
        for name in ["providers", "providers@latest", "acme/providers:latest", "library/providers"] {
            let wanted = format!("{scheme}://{name}");
            let refused = catalog(&machine, &["resolve", &wanted]);
            refused.expect_code(5);
            assert!(refused.stderr.contains(variable) && refused.stderr.contains(&wanted), "{}", refused.stderr);
        }
        for name in ["providers", "acme/providers:latest"] {
            catalog(&machine, &["resolve", &format!("oci://{name}")]).expect_code(2);
        }
        assert_eq!(registry.requests_after(already, 0), []);
        for name in ["providers:latest", "providers@latest"] {
            let mapped =
                machine.command(["catalog", "resolve", &format!("{scheme}://{name}")]).env(variable, &base).output();
            assert_eq!(read(&machine, &mapped), document(&["acme/providers"]));
        }
        let explicit = format!("{scheme}://{base}/providers:latest");
        assert_eq!(read(&machine, &catalog(&machine, &["resolve", &explicit])), document(&["acme/providers"]));
    }
}

#[test]
fn one_layer_of_several_is_fetched_also_through_an_index_and_by_a_pin() {
    let name = "one_layer_of_several_is_fetched_also_through_an_index_and_by_a_pin";
    if !ready(name, &["docker-registry", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let json = Blob::new("application/json", document(&["a"]));
    let big = Blob::new("text/plain", fixture::random_bytes(7, 1 << 20));
    let several = fixture::artifact_of(vec![big.clone(), json.clone()], &[]);
    push(&registry, &several, "acme/several");
    // An index that knows no platform leads to the only one there is.
    let machine = Machine::new();
    let pinned = format!("oci://{}/acme/several@{}", registry.host(), several.manifest_digest);
    for wanted in [reference(&registry.host(), "acme/several"), pinned.clone()] {
        let already = registry.requests().len();
        assert_eq!(read(&machine, &catalog(&machine, &["resolve", &wanted])), document(&["a"]));
        let asked = lines(&registry.requests_after(already, 2));
        assert_eq!(asked[1], format!("GET /v2/acme/several/blobs/{} 200", json.digest));
        assert_eq!(asked.len(), 2);
    }
    // What a pin names cannot change: a refresh asks nobody.
    let already = registry.requests().len();
    assert_eq!(read(&machine, &catalog(&machine, &["resolve", "--refresh", &pinned])), document(&["a"]));
    assert_eq!(registry.requests_after(already, 0), []);
}

#[test]
fn a_registry_that_asks_for_a_login_and_one_behind_its_own_authority_are_reached_as_everywhere() {
    let name = "a_registry_that_asks_for_a_login_and_one_behind_its_own_authority_are_reached_as_everywhere";
    if !ready(name, &["docker-registry", "skopeo", "htpasswd", "nginx"]) {
        return;
    }
    let config = DockerRegistryConfig { auth: RegistryAuth::known() };
    let registry = DockerRegistry::start(&config);
    let published = artifact(&["a"]);
    let name = format!("{}/acme/providers:latest", registry.host());
    skopeo_push_artifacts(std::slice::from_ref(&published), &name, config.auth.login());
    let front = TlsFront::start(registry.addr());
    for host in [registry.host(), front.host()] {
        let machine = Machine::new();
        let wanted = reference(&host, "acme/providers");
        let variable: String = host.chars().map(|ch| if ch.is_ascii_alphanumeric() { ch } else { '_' }).collect();
        let run = machine.command(["catalog", "resolve", &wanted]).env("SSL_CERT_FILE", front.ca_file());
        run.output().expect_code(5);
        let run = run
            .env(format!("GREENTIC_DIST_AUTH_{variable}_USERNAME"), RegistryAuth::KNOWN_USER)
            .env(format!("GREENTIC_DIST_AUTH_{variable}_PASSWORD"), RegistryAuth::KNOWN_PASSWORD);
        assert_eq!(read(&machine, &run.output()), document(&["a"]));
        assert!(machine.files_with(RegistryAuth::KNOWN_PASSWORD).is_empty());
    }
}
