use std::process::Command;

use greentic_dist_net::{HttpRule, NetErrorKind, Selector, TargetPolicy};
use greentic_dist_testkit::scenario::Scenario;
use greentic_dist_testkit::serve::Registry;
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::{PlatformChoice, Reference};

use crate::support::{net, quick, repository, with_login};

const CANARY: &str = "canary-3c";

#[tokio::test]
async fn localhost_is_resolved_without_asking_anybody() {
    let registry = Scenario::new(fixture::component()).start();
    let port = registry.server().addr().port();
    let repository = repository(&net(), &format!("localhost:{port}/acme/hello"));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(registry.journal().header_of(0, "host"), Some(format!("localhost:{port}")));
}

#[tokio::test]
async fn quirk_p58_an_ipv6_registry_is_asked_at_its_literal() {
    let registry = Registry::in_memory();
    let artifact = fixture::component();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    let bytes = &artifact.manifest_bytes;
    registry.put_manifest("acme/hello", &["1"], &artifact.media_type, bytes).unwrap();
    // A machine without IPv6 cannot run this test, and says so.
    let Ok(running) = registry.start((std::net::Ipv6Addr::LOCALHOST, 0).into()) else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let reference = Reference::parse(&format!("{}/acme/hello:1", running.host())).unwrap();
    let at_literal = net().repository(&reference);
    assert_eq!((at_literal.registry(), at_literal.repository()), (running.host().as_str(), "acme/hello"));
    let image = at_literal.image(Selector::Tag("1"), &PlatformChoice::default()).await.unwrap();
    assert_eq!(image.manifest.digest, artifact.manifest_digest);
    running.stop();
    // And a login is for one literal and one port.
    let guarded = LyingServer::start_on(std::net::Ipv6Addr::LOCALHOST.into(), |request, _| {
        match request.header("authorization") {
            Some(_) => Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE),
            None => Response::basic_challenge("r"),
        }
    });
    assert!(guarded.host().starts_with("[::1]:"), "{}", guarded.host());
    for (named, known) in [("[::1]:1".to_owned(), false), (guarded.host(), true)] {
        guarded.journal().clear();
        let net = with_login(&named, "ann", CANARY).build().unwrap();
        let asked = repository(&net, &format!("{}/acme/hello", guarded.host())).manifest(Selector::Tag("1")).await;
        let expected = if known { None } else { Some(NetErrorKind::Unauthorized) };
        assert_eq!(asked.err().map(|error| error.kind()), expected, "{named}");
        assert_eq!((guarded.journal().len(), guarded.journal().contains(CANARY)), (1 + usize::from(known), known));
    }
}

#[tokio::test]
async fn the_honest_registry_answers_conditional_requests() {
    let registry = Registry::in_memory();
    let artifact = fixture::component();
    for blob in artifact.blobs() {
        registry.put_blob(blob.bytes.clone()).unwrap();
    }
    registry.put_manifest("acme/hello", &["1"], &artifact.media_type, &artifact.manifest_bytes).unwrap();
    let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
    let repository = repository(&net(), &format!("{}/acme/hello", running.host()));
    let first = repository.manifest(Selector::Tag("1")).await.unwrap();
    let again = repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest).await.unwrap();
    assert!(again.is_none());
    let head = repository.head_manifest(Selector::Digest(first.digest)).await.unwrap();
    assert_eq!(head.digest, Some(first.digest));
    let missing = repository.manifest(Selector::Tag("2")).await.unwrap_err();
    assert_eq!(missing.kind(), NetErrorKind::NotFound);
    running.stop();
}

/// Set only in the child processes of the tests below: the registry on this machine.
const CHILD: &str = "GREENTIC_TEST_LOOPBACK_REGISTRY";

/// Runs a test of this file once more in a process whose environment names a proxy. The environment of a process can only
/// be set from outside.
fn again_behind(proxy: &LyingServer, local: &LyingServer, test: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("hosts::{test}")])
        .env(CHILD, local.host())
        .env("http_proxy", proxy.url())
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(!proxy.journal().is_empty(), "the test did not run in the child");
}

fn manifest_server() -> LyingServer {
    LyingServer::start(|_, _| {
        Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE)
    })
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_for_other_machines_and_never_for_this_one() {
    if let Ok(local) = std::env::var(CHILD) {
        let rule = HttpRule::Also(vec!["registry.example".into()]);
        let net = quick().http_rule(rule).build().unwrap();
        repository(&net, "registry.example/acme/hello").manifest(Selector::Tag("1")).await.unwrap();
        repository(&net, &format!("{local}/acme/hello")).manifest(Selector::Tag("1")).await.unwrap();
        return;
    }
    let (proxy, local) = (manifest_server(), manifest_server());
    again_behind(&proxy, &local, "the_proxy_of_the_environment_is_used_for_other_machines_and_never_for_this_one");
    assert_eq!(proxy.journal().lines(), ["GET http://registry.example/v2/acme/hello/manifests/1"]);
    assert_eq!(local.journal().lines(), ["GET /v2/acme/hello/manifests/1"]);
}

#[tokio::test]
async fn row_46_a_password_is_not_sent_over_plain_http_to_another_machine_unless_allowed() {
    const HOST: &str = "registry.example";
    if std::env::var(CHILD).is_ok() {
        let builder = || with_login(HOST, "ann", CANARY).http_rule(HttpRule::Also(vec![HOST.into()]));
        let ask = async |net| repository(&net, "registry.example/acme/hello").manifest(Selector::Tag("1")).await;
        let error = ask(builder().build().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(HOST), "{error}");
        let allowed = builder().target_policy(TargetPolicy::new().allow_passwords_over_http(true)).build().unwrap();
        ask(allowed).await.unwrap();
        return;
    }
    // Stands in for the other machine: what is sent to it arrives at the proxy.
    let proxy = LyingServer::start(|request, _| match request.header("authorization") {
        Some(_) => Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE),
        None => Response::basic_challenge("x"),
    });
    again_behind(
        &proxy,
        &manifest_server(),
        "row_46_a_password_is_not_sent_over_plain_http_to_another_machine_unless_allowed",
    );
    let journal = proxy.journal();
    let sent: Vec<bool> = (0..journal.len()).map(|index| journal.authorization_of(index).is_some()).collect();
    assert_eq!(sent, [false, false, true], "refused first, sent only by the client that allows it");
}
