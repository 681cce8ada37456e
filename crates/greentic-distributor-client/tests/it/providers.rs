//! Places of logins that a program puts together itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use greentic_dist_testkit::scenario::{Auth, LyingRegistry, Scenario};
use greentic_distributor_client::oci::providers::{
    Chain, ContainersAuth, CredentialHelper, DockerConfig, SavedLogins, Static,
};
use greentic_distributor_client::oci::{
    Client, Credential, CredentialAnswer, CredentialSource, CredentialTarget, ErrorKind, Reference, SafeText, Selector,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{CANARY, sample};

const AUTH: &str = "YWxpY2U6Y2FuYXJ5LTdkMWY=";

fn basic() -> LyingRegistry {
    Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start()
}

fn target(host: &str) -> CredentialTarget {
    CredentialTarget::new(host, "acme/hello")
}

async fn ask(source: &dyn CredentialSource, host: &str) -> CredentialAnswer {
    source.credential(&target(host)).await.unwrap()
}

/// The user name of a login, and where it is from.
fn user(answer: &CredentialAnswer) -> Option<(&str, &str)> {
    let login = answer.login.as_ref()?;
    match &login.credential {
        Credential::Basic { username, .. } => Some((username, &login.place)),
        other => panic!("{other:?}"),
    }
}

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_chain_takes_the_first_login_and_tells_what_the_places_before_it_had_to_say() {
    let (dir, registry) = (TempDir::new().unwrap(), basic());
    let absent = dir.path().join("absent.json");
    let broken = file(&dir, "broken.json", "{");
    let good = file(&dir, "good.json", &json!({ "auths": { registry.host(): { "auth": AUTH } } }).to_string());
    let other = Credential::Basic { username: "bob".into(), password: "wrong".into() };
    let chain = Chain::new(vec![
        Arc::new(DockerConfig::at(&absent)),
        Arc::new(ContainersAuth::at(&broken)),
        Arc::new(ContainersAuth::at(&good)),
        Arc::new(Static::new().with(&registry.host(), other)),
    ]);
    let answer = ask(&chain, &registry.host()).await;
    assert_eq!(user(&answer), Some(("alice", &*good)));
    let told: Vec<&str> = answer.warnings.iter().map(SafeText::as_str).collect();
    assert!(told[0].contains("absent.json is not there") && told[1].contains("broken.json is malformed"), "{told:?}");
    assert_eq!(ask(&chain, &registry.host()).await.warnings, [], "what was told is not told again");
    assert!(ask(&chain, "other.example").await.login.is_none());
    assert!(!format!("{chain:?} {answer:?}").contains(CANARY));

    let reference = Reference::parse(&registry.reference()).unwrap();
    let client = |chain: Chain| Client::builder().credentials(Arc::new(chain)).build().unwrap();
    assert!(client(chain).repository(&reference).manifest(Selector::Tag("1")).await.is_ok());
    let error = client(Chain::default()).repository(&reference).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn only_dockers_own_file_has_a_helper_for_all_registries() {
    let dir = TempDir::new().unwrap();
    let text = json!({ "credsStore": "no-such-helper", "auths": { "r.example": { "auth": AUTH } } }).to_string();
    let path = file(&dir, "config.json", &text);
    let docker = ask(&DockerConfig::at(&path), "r.example").await;
    assert_eq!(user(&docker), Some(("alice", &*path)), "a helper that is missing leaves the table");
    assert!(docker.warnings[0].as_str().contains("docker-credential-no-such-helper"), "{docker:?}");
    let containers = ask(&ContainersAuth::at(&path), "r.example").await;
    assert_eq!((user(&containers), containers.warnings.len()), (Some(("alice", &*path)), 0));
}

#[tokio::test]
async fn a_helper_is_named_and_never_a_path() {
    for wrong in ["", "../x", "a/b", "a b", &"x".repeat(65)] {
        assert!(CredentialHelper::new(wrong).unwrap_err().to_string().contains("1 to 64"), "{wrong}");
    }
    let answer = ask(&CredentialHelper::new("no-such-helper").unwrap(), "r.example").await;
    assert!(answer.login.is_none());
    assert!(answer.warnings[0].as_str().contains("`docker-credential-no-such-helper` is not in PATH"), "{answer:?}");
}

#[tokio::test]
async fn saved_logins_are_read_from_a_file_of_the_programs_choice() {
    let dir = TempDir::new().unwrap();
    let logins = json!([{ "registry": "r.example", "username": "alice", "password": CANARY }]);
    let path = file(&dir, "logins.json", &json!({ "version": 1, "logins": logins }).to_string());
    let answer = ask(&SavedLogins::at(&path), "r.example").await;
    assert_eq!(user(&answer).unwrap().0, "alice");
    assert!(ask(&SavedLogins::at(dir.path().join("absent.json")), "r.example").await.login.is_none());
    assert!(!Path::new(&dir.path().join("absent.json")).exists(), "reading creates nothing");
}
