//! `registries.conf` at work: which endpoints are asked for what, under which names, with which logins.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greentic_dist_net::{
    BlobSource, BytesSource, Credential, HostConfig, HostEndpoint, HttpRule, Net, NetErrorKind, RegistriesFile,
    Selector, StaticCredentials, Timeouts,
};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario};
use greentic_dist_testkit::serve::{Registry, RunningRegistry};
use greentic_dist_testkit::{LyingServer, Response};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::mirrors::own_ip;
use crate::support::{Recorder, layer_of, quick, read, repository};
use crate::tls_server::{Certificate, TlsServer};

const CANARY: &str = "canary-conf-7e";

/// What a `registries.conf` says about one registry.
fn said(text: &str, registry: &str) -> HostConfig {
    let file = RegistriesFile::parse(text, "registries.conf").unwrap_or_else(|error| panic!("{text}: {error}"));
    file.host_config(registry, || Ok::<_, Infallible>(None), |_| Ok(None)).unwrap().expect("something is said")
}

fn behind(text: &str, registry: &str) -> Net {
    quick().host(said(text, registry)).build().unwrap()
}

fn artifact() -> Artifact {
    fixture::component()
}

/// A registry with [`artifact`] in a repository, at an address of its own.
fn serving(name: &str) -> LyingRegistry {
    Scenario::new(artifact()).repository(name).on(own_ip()).start()
}

/// An empty registry that takes pushes.
fn taking() -> RunningRegistry {
    Registry::in_memory().start((own_ip(), 0).into()).unwrap()
}

fn lines(registry: &RunningRegistry) -> Vec<String> {
    registry.journal().iter().map(greentic_dist_testkit::serve::RequestRecord::line).collect()
}

fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    lies.into_iter().fold(Scenario::new(artifact()).on(own_ip()), Scenario::lie).start()
}

/// Reads a tag's manifest and its layer.
async fn pull(net: &Net, reference: &str) {
    let repository = repository(net, reference);
    let image = repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(image.digest, artifact().manifest_digest);
    assert_eq!(
        read(repository.blob(&layer_of(&artifact())).open().await.unwrap()).await.unwrap(),
        artifact().layer_bytes()
    );
}

fn manifest_path(name: &str, what: &str) -> String {
    format!("GET /v2/{name}/manifests/{what}")
}

fn blob_path(name: &str) -> String {
    format!("GET /v2/{name}/blobs/{}", artifact().layer_digest())
}

#[tokio::test]
async fn a_location_is_asked_in_the_place_of_the_host_under_its_own_names() {
    let there = serving("bar/x/hello");
    let text = format!("[[registry]]\nprefix = \"example.com/acme\"\nlocation = \"{}/bar/x\"\n", there.host());
    let net = behind(&text, "example.com");
    pull(&net, "example.com/acme/hello").await;
    assert_eq!(there.journal().lines(), [manifest_path("bar/x/hello", "1"), blob_path("bar/x/hello")]);
    // Lists, too, page by page, and nobody wonders about the name.
    let recorder = Arc::new(Recorder::default());
    let net = quick().host(said(&text, "example.com")).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let tags = repository(&net, "example.com/acme/hello").tags().page_size(1).collect(10).await.unwrap();
    assert_eq!((tags, recorder.lines()), (vec!["1".to_owned()], Vec::<String>::new()));
}

#[tokio::test]
async fn a_host_that_is_moved_as_a_whole_keeps_the_names_below_the_path_of_its_location() {
    let there = serving("proxy/acme/hello");
    let net = behind(
        &format!("[[registry]]\nprefix = \"example.com\"\nlocation = \"{}/proxy/\"\n", there.host()),
        "example.com",
    );
    pull(&net, "example.com/acme/hello").await;
    assert_eq!(there.journal().lines(), [manifest_path("proxy/acme/hello", "1"), blob_path("proxy/acme/hello")]);
    let version = net.registry("example.com").unwrap().ping().await.unwrap();
    assert!(!version.wants_login);
}

#[tokio::test]
async fn a_list_goes_on_at_the_location_that_began_it() {
    let server = LyingServer::start(|request, _| {
        if request.target.contains("last=a") {
            return Response::ok(r#"{"name":"bar/hello","tags":["b"]}"#);
        }
        Response::ok(r#"{"name":"bar/hello","tags":["a"]}"#)
            .header("Link", "</v2/bar/hello/tags/list?n=1&last=a>; rel=\"next\"")
    });
    let net = behind(
        &format!("[[registry]]\nprefix = \"example.com\"\nlocation = \"{}/bar\"\n", server.host()),
        "example.com",
    );
    let tags = repository(&net, "example.com/hello").tags().page_size(1).collect(10).await.unwrap();
    assert_eq!(tags, ["a", "b"]);
    assert_eq!(server.journal().lines(), ["GET /v2/bar/hello/tags/list?n=1", "GET /v2/bar/hello/tags/list?n=1&last=a"]);
}

#[tokio::test]
async fn what_is_written_goes_to_the_host_in_the_reference_and_not_to_a_location_or_a_mirror() {
    let (own, there, near) = (taking(), serving("acme/hello"), mirror([]));
    let text = format!(
        "[[registry]]\nprefix = \"{}\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        own.host(),
        there.host(),
        near.host()
    );
    let net = behind(&text, &own.host());
    let repository = repository(&net, &format!("{}/acme/hello", own.host()));
    let blob = BytesSource::new("application/wasm", &b"new"[..]);
    let digest = blob.descriptor().digest;
    repository.put_blob(Arc::new(blob)).send().await.unwrap();
    repository.delete_blob(&digest).await.unwrap();
    assert!(lines(&own).iter().any(|line| line.starts_with("DELETE")), "{:?}", lines(&own));
    assert!(there.journal().is_empty() && near.journal().is_empty());
}

#[tokio::test]
async fn a_mirror_for_digests_is_not_asked_for_tags_and_one_for_tags_not_for_digests() {
    let (origin, digests, tags) = (mirror([]), mirror([]), mirror([]));
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"digest-only\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"tag-only\"\n",
        origin.host(),
        digests.host(),
        tags.host()
    );
    let net = behind(&text, &origin.host());
    let repository = repository(&net, &origin.reference());
    let digest = artifact().manifest_digest;
    repository.manifest(Selector::Digest(digest)).await.unwrap();
    assert_eq!(digests.journal().lines(), [manifest_path("acme/hello", &digest.to_string())]);
    assert!(tags.journal().is_empty() && origin.journal().is_empty());
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(tags.journal().lines(), [manifest_path("acme/hello", "1")]);
    assert!(digests.journal().len() == 1 && origin.journal().is_empty());
}

#[tokio::test]
async fn a_mirror_for_tags_alone_serves_the_content_of_what_it_has_named_and_no_other() {
    let (origin, tags) = (mirror([]), mirror([]));
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"tag-only\"\n",
        origin.host(),
        tags.host()
    );
    let net = behind(&text, &origin.host());
    repository(&net, &origin.reference()).manifest(Selector::Digest(artifact().manifest_digest)).await.unwrap();
    assert_eq!((tags.journal().len(), origin.journal().len()), (0, 1));
    pull(&net, &format!("{}/acme/hello", origin.host())).await;
    assert_eq!(tags.journal().lines(), [manifest_path("acme/hello", "1"), blob_path("acme/hello")]);
    assert_eq!(origin.journal().len(), 1);
}

#[tokio::test]
async fn mirrors_of_a_prefix_serve_what_is_below_it_and_nothing_beside_it() {
    let (origin, near) = (mirror([]), serving("copies/hello"));
    let text = format!(
        "[[registry]]\nprefix = \"{}/acme\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"{}/copies\"\n",
        origin.host(),
        near.host()
    );
    let net = behind(&text, &origin.host());
    pull(&net, &origin.reference()).await;
    assert_eq!(near.journal().lines(), [blob_path("copies/hello")]);
    assert_eq!(origin.journal().lines(), [manifest_path("acme/hello", "1")]);
    // What is not called so at its beginning is reached without a mirror.
    let beside = repository(&net, &format!("{}/acme2/hello", origin.host()));
    drop(beside.manifest(Selector::Digest(artifact().manifest_digest)).await);
    assert_eq!(near.journal().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_lies_about_a_prefix_is_left_like_any_other_and_its_neighbour_answers() {
    let (origin, liar, near) = (mirror([]), mirror([Lie::WrongBlob]), serving("x/acme/hello"));
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/x\"\n",
        origin.host(),
        liar.host(),
        near.host()
    );
    let recorder = Arc::new(Recorder::default());
    let net = quick().host(said(&text, &origin.host())).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let repository = repository(&net, &origin.reference());
    let lied = read(repository.blob(&layer_of(&artifact())).open().await.unwrap()).await.unwrap_err();
    assert_eq!(lied.kind(), NetErrorKind::Integrity);
    read(repository.blob(&layer_of(&artifact())).open().await.unwrap()).await.unwrap();
    assert_eq!(liar.journal().count_containing("/blobs/"), 1, "in quarantine");
    assert_eq!(near.journal().lines()[0], blob_path("x/acme/hello"));
    assert!(recorder.lines().iter().any(|line| line.contains("sent wrong bytes")), "{:?}", recorder.lines());
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn what_is_blocked_is_not_asked_for_anything_and_a_longer_prefix_opens_a_part_of_it() {
    let origin = mirror([]);
    let host = origin.host();
    let text =
        format!("[[registry]]\nlocation = \"{host}\"\nblocked = true\n[[registry]]\nprefix = \"{host}/acme/hello\"\n");
    let net = behind(&text, &host);
    let blocked = repository(&net, &format!("{host}/acme/other"));
    let blob = Arc::new(BytesSource::new("application/wasm", &b"new"[..]));
    let digest = artifact().manifest_digest;
    let errors = [
        blocked.manifest(Selector::Tag("1")).await.map(drop).unwrap_err(),
        blocked.manifest(Selector::Digest(digest)).await.map(drop).unwrap_err(),
        blocked.blob(&layer_of(&artifact())).open().await.map(drop).unwrap_err(),
        blocked.tags().collect(1).await.map(drop).unwrap_err(),
        blocked.put_blob(blob).send().await.map(drop).unwrap_err(),
        blocked.delete_manifest(&digest).await.map(drop).unwrap_err(),
        net.registry(&host).unwrap().ping().await.map(drop).unwrap_err(),
        net.registry(&host).unwrap().catalog().collect(1).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(&format!("is blocked: `{host}` in registries.conf")), "{error}");
    }
    assert!(origin.journal().is_empty());
    pull(&net, &format!("{host}/acme/hello")).await;
    assert_eq!(origin.journal().len(), 2);
}

#[tokio::test]
async fn every_host_below_a_wildcard_is_mirrored_and_the_domain_itself_is_not() {
    let near = serving("acme/hello");
    let text =
        format!("[[registry]]\nprefix = \"*.example.com\"\n[[registry.mirror]]\nlocation = \"{}\"\n", near.host());
    for host in ["a.example.com", "b.a.example.com"] {
        near.journal().clear();
        pull(&behind(&text, host), &format!("{host}/acme/hello")).await;
        assert_eq!(near.journal().lines(), [manifest_path("acme/hello", "1"), blob_path("acme/hello")], "no `ns=`");
    }
    let file = RegistriesFile::parse(&text, "x").unwrap();
    for other in ["example.com", "badexample.com"] {
        let config = file.host_config(other, || Ok::<_, Infallible>(None), |_| Ok(None)).unwrap();
        assert!(config.is_none(), "{other}");
    }
}

#[tokio::test]
async fn the_login_of_a_registry_stays_with_it_and_that_of_a_location_is_for_the_name_there() {
    let login = |password: &str| Credential::Basic { username: "ann".into(), password: password.into() };
    let guarded = |auth| Scenario::new(artifact()).on(own_ip()).auth(auth).start();
    // The mirror asks for a login and there is none for it; the location gets its own.
    let (near, there) = (guarded(Auth::bearer("ann", CANARY)), guarded(Auth::bearer("ann", "location-pw")));
    let text = format!(
        "[[registry]]\nprefix = \"example.com/team\"\nlocation = \"{}/acme\"\n[[registry.mirror]]\nlocation = \"{}/acme\"\n",
        there.host(),
        near.host()
    );
    let logins = StaticCredentials::new()
        .with("example.com", login(CANARY))
        .with(&format!("{}/acme", there.host()), login("location-pw"));
    let net = quick().host(said(&text, "example.com")).credentials(Arc::new(logins)).build().unwrap();
    pull(&net, "example.com/team/hello").await;
    assert!(!near.journal().contains(CANARY) && !there.journal().contains(CANARY));
    let asked = there.journal().lines();
    assert!(asked.iter().any(|line| line.ends_with("scope=repository%3Aacme%2Fhello%3Apull")), "{asked:?}");
    assert!(near.journal().entries().iter().all(|entry| entry.headers.get("authorization").is_none()));
}

#[tokio::test]
async fn when_a_location_and_its_mirrors_fail_each_is_named() {
    let (there, near) = (mirror([Lie::status(Part::All, 404)]), mirror([Lie::status(Part::All, 403)]));
    let text = format!(
        "[[registry]]\nprefix = \"example.com\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        there.host(),
        near.host()
    );
    let net = behind(&text, "example.com");
    let error = repository(&net, "example.com/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains(&there.host()) && shown.contains(&near.host()), "{shown}");
}

#[tokio::test]
async fn a_repository_that_has_no_name_at_its_location_is_an_error_and_at_a_mirror_none() {
    let near = mirror([]);
    let text = format!("[[registry]]\nprefix = \"example.com/acme/hello\"\nlocation = \"{}\"\n", near.host());
    let error = repository(&behind(&text, "example.com"), "example.com/acme/hello").manifest(Selector::Tag("1")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Config);
    assert!(error.to_string().contains("can have no name at"), "{error}");
    let origin = mirror([]);
    let text = format!(
        "[[registry]]\nprefix = \"{}/acme/hello\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        origin.host(),
        near.host()
    );
    pull(&behind(&text, &origin.host()), &origin.reference()).await;
    assert!(near.journal().is_empty());
}

#[tokio::test]
async fn insecure_is_plain_http_where_nobody_speaks_tls_and_no_word_about_certificates() {
    let plain = mirror([]);
    let insecure = |host: &str, insecure: bool| {
        let text = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = {insecure}\n");
        quick().http_rule(HttpRule::Never).host(said(&text, host)).build().unwrap()
    };
    let net = insecure(&plain.host(), true);
    pull(&net, &plain.reference()).await;
    assert_eq!(plain.journal().count_containing("/v2/"), 2);
    let error = repository(&insecure(&plain.host(), false), &plain.reference()).manifest(Selector::Tag("1")).await;
    assert_eq!(error.unwrap_err().kind(), NetErrorKind::Connect, "it hangs up");
    // One that answers in plain text, and has no such artifact.
    let talking = taking();
    let error = repository(&insecure(&talking.host(), true), &format!("{}/acme/hello", talking.host()))
        .manifest(Selector::Tag("1"))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), talking.requests()), (NetErrorKind::NotFound, 1));
    // Nobody's certificate is taken on trust, and nothing is asked without TLS where TLS is spoken.
    let server = TlsServer::start(Certificate::Good, &["http/1.1"]).await;
    let host = format!("localhost:{}", server.addr.port());
    let error = repository(&insecure(&host, true), &format!("{host}/acme/hello")).manifest(Selector::Tag("1")).await;
    assert_eq!(error.unwrap_err().kind(), NetErrorKind::Tls);
    assert!(server.seen().is_empty());
}

/// Leads every connection to the first server, and from then on that the switch is on, to the second.
async fn switch(first: SocketAddr, second: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (addr, switched) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let on = Arc::clone(&switched);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = if on.load(Ordering::SeqCst) { second } else { first };
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                drop(copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    (addr, switched)
}

#[tokio::test]
async fn who_has_spoken_tls_is_not_asked_without_it_later() {
    let server = TlsServer::start(Certificate::Good, &["http/1.1"]).await;
    let impostor = LyingServer::start(|_, _| Response::ok("{}"));
    let (addr, switched) = switch(server.addr, impostor.addr()).await;
    let host = format!("localhost:{}", addr.port());
    let text = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    let timeouts = Timeouts { pool_idle: Duration::ZERO, ..Timeouts::default() };
    let net = server.trusting().http_rule(HttpRule::Never).timeouts(timeouts).host(said(&text, &host)).build().unwrap();
    let repository = repository(&net, &format!("{host}/acme/hello"));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    switched.store(true, Ordering::SeqCst);
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Connect, "{error}");
    assert_eq!(impostor.journal().count("GET", "/"), 0);
}

#[tokio::test]
async fn parts_in_code_are_reached_as_they_say_and_written_there() {
    let (own, part) = (mirror([]), taking());
    let config = HostConfig::new(own.host())
        .part("team", HostConfig::new(own.host()).origin(HostEndpoint::new(format!("http://{}", part.host()))));
    let net = quick().host(config).build().unwrap();
    let repository = repository(&net, &format!("{}/team/hello", own.host()));
    repository.put_blob(Arc::new(BytesSource::new("application/wasm", &b"new"[..]))).send().await.unwrap();
    assert!(
        own.journal().is_empty() && lines(&part).iter().any(|line| line.starts_with("POST /v2/team/hello/")),
        "{:?}",
        lines(&part)
    );
    let wrong = [
        HostConfig::new("a.example").part("../x", HostConfig::new("a.example")),
        HostConfig::new("a.example").part("x", HostConfig::new("a.example").part("y", HostConfig::new("a.example"))),
    ];
    for config in wrong {
        let net = quick().host(config).build().unwrap();
        let error = crate::support::repository(&net, "a.example/x").manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Config, "{error}");
    }
}
