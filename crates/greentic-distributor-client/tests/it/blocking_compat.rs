//! The surface of librex: its operations, its defaults, its classes of errors.

use std::time::Duration;

use greentic_dist_testkit::scenario::{Auth, Lie, Scenario};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_distributor_client::blocking::compat::{Client, ClientBuilder, DEFAULT_IDLE_PER_HOST, DEFAULT_TIMEOUT};
use greentic_distributor_client::oci::{Credential, Error, ErrorClass, ErrorKind, RetryPolicy, SafeText};

use crate::support::{CANARY, registry, sample};

/// A client that does not try again.
fn once(url: &str) -> Client {
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    Client::builder(url).with_settings(|settings| settings.retry(once)).build().unwrap()
}

fn answering(answer: Response) -> (LyingServer, Client) {
    let server = LyingServer::start(move |_, _| answer.clone());
    let client = once(&server.url());
    (server, client)
}

/// Every operation, each with the requests it costs.
fn everything() {
    let made = sample();
    let running = fixture::served(&made);
    let client = Client::new(&format!("  http://{}// ", running.host())).unwrap();
    assert_eq!(client.check_version().unwrap().api_version.as_ref().map(SafeText::as_str), Some("registry/2.0"));
    assert_eq!(client.fetch_catalog().unwrap(), ["acme/hello"]);
    assert_eq!(client.fetch_tags("acme/hello").unwrap(), ["1"]);
    let (by_tag, digest) = client.fetch_manifest("acme/hello", "1").unwrap();
    let (by_digest, _) = client.fetch_manifest("acme/hello", &digest.to_string()).unwrap();
    assert!(by_tag == by_digest && by_tag == made.manifest_bytes && digest == made.manifest_digest);
    let blob = client.fetch_blob("acme/hello", &made.layer_digest().to_string()).unwrap();
    assert!(blob == made.layer_bytes());
    client.delete_manifest("acme/hello", &digest.to_string()).unwrap();
    let gone = client.fetch_manifest("acme/hello", &digest.to_string()).unwrap_err();
    assert_eq!(gone.class(), ErrorClass::NotFound);
    // One each, and one more for the deletion: what the manifest refers to is looked at before it is gone.
    assert_eq!(client.inner().client_stats().total.requests, 9);
}

#[test]
fn librex_operations_work_outside_of_a_runtime_and_inside_of_both_kinds() {
    everything();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { everything() });
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    threads.block_on(async { tokio::spawn(async { everything() }).await }).unwrap();
}

#[test]
fn librex_defaults_are_30_seconds_and_10_connections_and_can_be_set() {
    assert_eq!((DEFAULT_TIMEOUT, DEFAULT_IDLE_PER_HOST), (Duration::from_secs(30), 10));
    let registry = registry();
    for (idle, opened) in [(None, 1), (Some(0), 3)] {
        let builder = Client::builder(&registry.url());
        let client = idle.into_iter().fold(builder, ClientBuilder::with_max_idle_per_host).build().unwrap();
        for _ in 0..3 {
            client.fetch_manifest("acme/hello", "1").unwrap();
        }
        assert_eq!(client.inner().client_stats().total.connections_opened, opened);
    }
    let silent = Scenario::new(sample()).lie(Lie::Silence { on: greentic_dist_testkit::scenario::Part::All }).start();
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let builder = Client::builder(&silent.url()).with_settings(|settings| settings.retry(once));
    let error = builder.with_timeout(Duration::from_millis(40)).build().unwrap().check_version().unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Timeout, ErrorClass::Network));
}

#[test]
fn librex_urls_name_a_registry_with_or_without_a_scheme() {
    let registry = registry();
    let host = registry.host();
    for url in [host.clone(), format!("http://{host}"), format!("HTTP://{host}/"), format!(" {host}/ ")] {
        assert_eq!(Client::new(&url).unwrap().fetch_tags("acme/hello").unwrap(), ["1"], "{url}");
    }
    // Who writes https means it, on this machine too.
    let error = once(&format!("https://{host}")).check_version().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Network);
    for wrong in ["", "http://", "ftp://host", "https://host/path", "https://ann:canary-7d1f@host", "a b"] {
        let error = Client::new(wrong).unwrap_err();
        assert_eq!((error.kind(), error.class()), (ErrorKind::InvalidInput, ErrorClass::Validation), "{wrong}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}

#[test]
fn librex_what_is_no_name_tag_or_digest_is_refused_before_anything_is_sent() {
    let registry = registry();
    let client = Client::new(&registry.url()).unwrap();
    let sha1 = "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let refused: [Error; 6] = [
        client.fetch_tags("../x").unwrap_err(),
        client.fetch_manifest("acme/hello", "a b").unwrap_err(),
        client.fetch_manifest("acme/hello", sha1).unwrap_err(),
        client.fetch_blob("acme/hello", sha1).unwrap_err(),
        client.fetch_blob("acme/hello", "1").unwrap_err(),
        // It would take every other tag of the manifest with it.
        client.delete_manifest("acme/hello", "1").unwrap_err(),
    ];
    for error in refused {
        assert_eq!((error.kind(), error.class()), (ErrorKind::InvalidInput, ErrorClass::Validation), "{error}");
    }
    assert!(registry.journal().is_empty());
}

#[test]
fn librex_errors_fall_into_its_classes_and_carry_the_wait_of_a_rate_limit() {
    for (status, class) in [
        (401, ErrorClass::Authentication),
        (403, ErrorClass::Authentication),
        (404, ErrorClass::NotFound),
        (500, ErrorClass::Server),
        (503, ErrorClass::Server),
    ] {
        let (_server, client) = answering(Response::status(status, ""));
        assert_eq!(client.fetch_tags("acme/hello").unwrap_err().class(), class, "{status}");
    }
    for (said, wait) in
        [(Some("120"), Some(120)), (Some(" 60 "), Some(60)), (Some("0"), Some(0)), (Some("-10"), None), (None, None)]
    {
        let answer = Response::status(429, "");
        let answer = said.into_iter().fold(answer, |answer, said| answer.header("Retry-After", said));
        let (_server, client) = answering(answer);
        let retry_after = wait.map(Duration::from_secs);
        assert_eq!(client.fetch_catalog().unwrap_err().class(), ErrorClass::RateLimit { retry_after }, "{said:?}");
    }
    let (_server, client) = answering(Response::status(405, ""));
    let digest = sample().manifest_digest.to_string();
    let error = client.delete_manifest("acme/hello", &digest).unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Unsupported, ErrorClass::Validation));
}

#[test]
fn librex_lists_may_be_empty_and_tags_of_another_repository_are_an_error() {
    let (_server, client) = answering(Response::ok(r#"{"name":"acme/hello","tags":null,"repositories":[]}"#));
    assert!(client.fetch_tags("acme/hello").unwrap().is_empty() && client.fetch_catalog().unwrap().is_empty());
    let (_server, client) = answering(Response::ok(r#"{"name":"acme/other","tags":["1"]}"#));
    let error = client.fetch_tags("acme/hello").unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Protocol, ErrorClass::Validation));
    assert!(error.to_string().contains("acme/other"), "{error}");
}

#[test]
fn librex_blobs_are_proven_and_have_a_limit() {
    let (registry, digest) = (registry(), sample().layer_digest().to_string());
    let size = sample().layer_bytes().len() as u64;
    let limited = |limit: u64| Client::builder(&registry.url()).max_blob_bytes(limit).build().unwrap();
    assert_eq!(limited(size).fetch_blob("acme/hello", &digest).unwrap().len() as u64, size);
    assert_eq!(limited(size - 1).fetch_blob("acme/hello", &digest).unwrap_err().kind(), ErrorKind::TooLarge);
    registry.lie(Lie::WrongBlob);
    let error = limited(size).fetch_blob("acme/hello", &digest).unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Integrity, ErrorClass::Validation));
}

#[test]
fn librex_logins_are_for_their_registry_and_are_never_shown() {
    let registry = Scenario::new(sample()).auth(Auth::bearer("ann", CANARY)).start();
    let login = Credential::Basic { username: "ann".into(), password: CANARY.into() };
    let builder = Client::builder(&registry.url()).with_credentials(login);
    assert!(!format!("{builder:?}").contains(CANARY));
    let client = builder.build().unwrap();
    assert!(!format!("{client:?}").contains(CANARY));
    assert_eq!(client.fetch_tags("acme/hello").unwrap(), ["1"]);
    let error = Client::new(&registry.url()).unwrap().fetch_tags("acme/hello").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Authentication);
}

#[test]
fn librex_short_names_are_completed_at_docker_hub_alone_and_on_request() {
    use greentic_distributor_client::oci::{HostConfig, HostEndpoint};
    for (compat, name, asked) in
        [(false, "alpine", "alpine"), (true, "alpine", "library/alpine"), (true, "acme/x", "acme/x")]
    {
        let server = LyingServer::start(|_, _| Response::ok(r#"{"tags":[]}"#));
        let there = HostConfig::new("docker.io").origin(HostEndpoint::new(server.url()).namespace_query(false));
        let builder = Client::builder("docker.io").with_dockerhub_compat(compat);
        let client = builder.with_settings(|settings| settings.host(there)).build().unwrap();
        client.fetch_tags(name).unwrap();
        assert_eq!(server.journal().lines(), [format!("GET /v2/{asked}/tags/list")]);
    }
    let registry = Scenario::new(sample()).repository("alpine").start();
    let client = Client::builder(&registry.url()).with_dockerhub_compat(true).build().unwrap();
    assert_eq!(client.fetch_tags("alpine").unwrap(), ["1"]);
}
