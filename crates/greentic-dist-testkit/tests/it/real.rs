//! The real programs work together as other crates' tests expect.

use greentic_dist_testkit::fixture::{self, MANIFEST_TYPE};
use greentic_dist_testkit::raw_client;
use greentic_dist_testkit::real::{
    DockerRegistry, DockerRegistryConfig, RegistryAuth, available, find, ready, skopeo_pull, skopeo_push,
};

#[test]
fn a_program_that_is_nowhere_is_not_found() {
    assert_eq!(find("no-such-program-anywhere"), None);
    assert!(!available("no-such-program-anywhere"));
}

#[test]
fn skopeo_pushes_to_docker_registry_and_the_log_tells() {
    if !ready("skopeo_pushes_to_docker_registry_and_the_log_tells", &["docker-registry", "skopeo"]) {
        return;
    }
    let artifact = fixture::component();
    let layout = tempfile::tempdir().unwrap();
    fixture::oci_layout(layout.path(), std::slice::from_ref(&artifact), "1");
    let mut registry = DockerRegistry::start(&DockerRegistryConfig::default());
    assert_eq!(registry.requests(), []);
    let reference = format!("{}/acme/hello:1", registry.host());
    skopeo_push(layout.path(), "1", &reference, None).unwrap();
    assert!(registry.requests().iter().any(|line| line.method == "PUT" && line.status == 201));

    let before = registry.requests().len();
    let accept = [("Accept", MANIFEST_TYPE)];
    let answer = raw_client::exchange(registry.addr(), "GET", "/v2/acme/hello/manifests/1", &accept, &[]).unwrap();
    assert_eq!(answer.body, artifact.manifest_bytes);
    let after = registry.requests();
    assert_eq!(after.len(), before + 1);
    assert_eq!(after[before].path, "/v2/acme/hello/manifests/1");
    assert_eq!(std::fs::read(registry.blob_path(artifact.layer_digest())).unwrap(), artifact.layer_bytes());

    let addr = registry.addr();
    registry.stop();
    assert!(raw_client::get(addr, "/v2/").is_err());
    registry.restart();
    assert_eq!(registry.addr(), addr);
    assert_eq!(raw_client::get(addr, "/v2/acme/hello/tags/list").unwrap().json()["tags"][0], "1");
}

#[test]
fn docker_registry_asks_for_the_password() {
    if !ready("docker_registry_asks_for_the_password", &["docker-registry", "skopeo"]) {
        return;
    }
    let layout = tempfile::tempdir().unwrap();
    fixture::oci_layout(layout.path(), &[fixture::component()], "1");
    let config = DockerRegistryConfig { auth: RegistryAuth::known() };
    let registry = DockerRegistry::start(&config);
    assert_eq!(raw_client::get(registry.addr(), "/v2/").unwrap().status, 401);
    let reference = format!("{}/acme/hello:1", registry.host());
    assert!(skopeo_push(layout.path(), "1", &reference, None).is_err());
    let alice = Some((RegistryAuth::KNOWN_USER, RegistryAuth::KNOWN_PASSWORD));
    skopeo_push(layout.path(), "1", &reference, alice).unwrap();
    let back = tempfile::tempdir().unwrap();
    skopeo_pull(&reference, &back.path().join("layout"), "1", alice).unwrap();

    if ready("docker_registry_asks_for_the_password", &["htpasswd"]) {
        let auth = RegistryAuth::Htpasswd { user: "bob".into(), password: "secret".into() };
        let registry = DockerRegistry::start(&DockerRegistryConfig { auth });
        let reference = format!("{}/acme/hello:1", registry.host());
        skopeo_push(layout.path(), "1", &reference, Some(("bob", "secret"))).unwrap();
    }
}
