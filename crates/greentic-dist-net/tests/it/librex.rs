//! What the registry client "librex" promised in its seven phases and wanted for its future, one test for each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{
    Event, HttpRule, NetError, NetErrorClass as Class, Observer, Proxy, ProxyRule, RetryPolicy, Selector, Timeouts,
};
use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, retry_after_date};
use greentic_dist_testkit::trace::Trace;
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::{Digest, ManifestKind, PlatformChoice};
use hyper::Version;

use crate::push::{honest, with_blobs};
use crate::support::{Recorder, descriptor, layer_of, net, pull_layer, quick, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, blob};

/// The error of asking a server that answers everything so for a manifest.
async fn asked(answer: Response) -> NetError {
    let server = LyingServer::start(move |_, _| answer.clone());
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let net = quick().retry(retry).build().unwrap();
    repository(&net, &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap_err()
}

#[tokio::test]
async fn librex_phase_1_a_registry_is_named_by_its_host_and_silence_has_an_end() {
    let registry = Scenario::new(fixture::component()).start();
    // The case of a host does not matter, and loopback is plain HTTP by default.
    let name = registry.host().replace("127.0.0.1", "LocalHost");
    net().registry(&name).unwrap().ping().await.unwrap();
    assert_eq!(registry.journal().lines(), ["GET /v2/"]);
    for wrong in ["", "a b", "http://host", "host/path"] {
        assert_eq!(net().registry(wrong).unwrap_err().class(), Class::Validation, "{wrong}");
    }
    let silent = Scenario::new(fixture::component()).lie(Lie::Silence { on: Part::All }).start();
    let timeouts = Timeouts { headers: Duration::from_millis(40), ..Timeouts::default() };
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let net = quick().timeouts(timeouts).retry(retry).build().unwrap();
    let error = net.registry(&silent.host()).unwrap().ping().await.unwrap_err();
    assert_eq!(error.class(), Class::Network);
}

#[tokio::test]
async fn librex_phase_2_the_version_of_the_api_is_what_the_registry_says() {
    for said in [Some("registry/2.0"), None] {
        let server = LyingServer::start(move |_, _| match said {
            Some(said) => Response::ok("{}").header("Docker-Distribution-API-Version", said),
            None => Response::ok("{}"),
        });
        let version = net().registry(&server.host()).unwrap().ping().await.unwrap();
        assert_eq!(version.api_version.as_ref().map(greentic_dist_types::SafeText::as_str), said);
        assert_eq!(server.journal().lines(), ["GET /v2/"]);
    }
}

#[tokio::test]
async fn librex_phase_3_the_catalog_goes_on_where_any_form_of_link_leads() {
    for link in [
        "</v2/_catalog?n=1&last=a>; rel=\"next\"",
        "</v2/_catalog?n=1&last=a>; rel='next'",
        "</elsewhere>; rel=\"prev\", </v2/_catalog?n=1&last=a>; rel=\"next\"",
        "<HOST/v2/_catalog?n=1&last=a>; rel=next",
    ] {
        let server = LyingServer::start(move |request, ctx| {
            if request.target.contains("last=a") {
                return Response::ok(r#"{"repositories":["b"]}"#);
            }
            Response::ok(r#"{"repositories":["a"]}"#).header("Link", link.replace("HOST", &ctx.url("")))
        });
        let all = net().registry(&server.host()).unwrap().catalog().page_size(1).collect(10).await.unwrap();
        assert_eq!(all, ["a", "b"], "{link}");
    }
    let empty = LyingServer::start(|_, _| Response::ok(r#"{"repositories":[]}"#));
    assert!(net().registry(&empty.host()).unwrap().catalog().collect(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn librex_phase_4_tags_come_one_by_one_or_all_at_once_and_none_is_no_error() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&manifest).tags(["a", "b", "c"]).send().await.unwrap();
    let mut tags = repository.tags().page_size(2);
    assert_eq!(tags.next().await.unwrap().unwrap(), "a");
    // What is left of the page, then the next one.
    assert!(tags.has_more());
    assert_eq!(tags.next_page().await.unwrap().unwrap(), ["b"]);
    assert_eq!(tags.next().await.unwrap().unwrap(), "c");
    assert!(tags.next().await.is_none() && !tags.has_more());
    assert_eq!(repository.tags().collect(3).await.unwrap(), ["a", "b", "c"]);
    for none in [r#"{"name":"acme/hello","tags":[]}"#, r#"{"name":"acme/hello","tags":null}"#] {
        let server = LyingServer::start(move |_, _| Response::ok(none));
        let repository = crate::support::repository(&net(), &format!("{}/acme/hello", server.host()));
        assert!(repository.tags().next().await.is_none(), "{none}");
    }
}

#[tokio::test]
async fn librex_phase_5_manifests_and_indexes_come_raw_and_proven_with_or_without_a_digest_header() {
    for lie in [None, Some(Lie::NoDigestHeader)] {
        let scenario = Scenario::new(fixture::component());
        let registry = lie.into_iter().fold(scenario, Scenario::lie).start();
        let made = registry.artifact().clone();
        let index = fixture::index(&[(made.descriptor(), Some(("wasip2", "wasm")))]);
        registry.publish_document(&index, Some("all"));
        let repository = repository(&net(), &registry.reference());
        let manifest = repository.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!((&manifest.raw[..], manifest.digest), (&made.manifest_bytes[..], made.manifest_digest));
        let ManifestKind::Index(found) = repository.manifest(Selector::Tag("all")).await.unwrap().kind else {
            panic!("an index")
        };
        assert_eq!(found.manifests[0].digest, made.manifest_digest);
        let image = repository.image(Selector::Tag("all"), &PlatformChoice::default()).await.unwrap();
        assert_eq!((image.manifest.digest, image.index.unwrap().digest), (made.manifest_digest, index.digest));
    }
}

#[tokio::test]
async fn librex_phase_6_basic_logins_and_tokens_are_used_when_they_are_demanded() {
    for (auth, demands) in [(Auth::basic("ann", "pw"), 0), (Auth::bearer("ann", "pw"), 1), (Auth::AnonymousBearer, 1)] {
        let registry = Scenario::new(fixture::component()).auth(auth).start();
        let net = with_login(&registry.host(), "ann", "pw").build().unwrap();
        for _ in 0..2 {
            repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        }
        // The first is asked without, then with; the second at once with what is known.
        assert_eq!(registry.journal().count_containing("/manifests/"), 3);
        assert_eq!(registry.journal().count("GET", "/token"), demands);
        assert!(registry.journal().authorization_of(0).is_none());
    }
    let registry = Scenario::new(fixture::component()).auth(Auth::basic("ann", "pw")).start();
    let net = with_login(&registry.host(), "ann", "wrong").build().unwrap();
    let error = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.class(), error.status()), (Class::Authentication, Some(401)));
}

#[tokio::test]
async fn librex_phase_7_blobs_stream_and_a_wrong_one_is_refused() {
    let registry = Scenario::new(fixture::component()).start();
    assert_eq!(pull_layer(&net(), &registry).await.unwrap(), registry.artifact().layer_bytes());
    registry.lie(Lie::WrongBlob);
    let error = pull_layer(&net(), &registry).await.unwrap_err();
    assert_eq!(error.class(), Class::Validation);
    let absent = repository(&net(), &registry.reference()).blob(&descriptor(b"absent")).open().await.unwrap_err();
    assert_eq!(absent.class(), Class::NotFound);
    assert!(
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709".parse::<Digest>().is_err(),
        "an algorithm that proves nothing"
    );
}

#[tokio::test]
async fn librex_push_and_delete_a_tag_is_not_its_manifest() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    let pushed = repository.put_manifest(&manifest).tags(["1", "2"]).send().await.unwrap();
    repository.delete_tag("1").await.unwrap();
    assert_eq!(repository.tags().collect(10).await.unwrap(), ["2"]);
    repository.manifest(Selector::Digest(pushed.digest)).await.unwrap();
    repository.delete_manifest(&pushed.digest).await.unwrap();
    let gone = repository.manifest(Selector::Tag("2")).await.unwrap_err();
    assert_eq!(gone.class(), Class::NotFound);
}

#[tokio::test]
async fn librex_errors_statuses_and_answers_fall_into_the_seven_classes() {
    for (status, class) in [
        (401, Class::Authentication),
        (403, Class::Authentication),
        (404, Class::NotFound),
        (429, Class::RateLimit { retry_after: None }),
        (500, Class::Server),
        (502, Class::Server),
        (503, Class::Server),
        (504, Class::Server),
        (418, Class::Validation),
    ] {
        let error = asked(Response::status(status, "")).await;
        assert_eq!((error.class(), error.status()), (class, Some(status)), "{error:?}");
    }
    assert_eq!(
        asked(Response::ok("no json").header("Content-Type", fixture::MANIFEST_TYPE)).await.class(),
        Class::Validation
    );
    assert_eq!(asked(Response::hang_up()).await.class(), Class::Network);
    let no_roots = quick().proxy(ProxyRule::Through(Proxy::new("ftp://proxy"))).build().unwrap_err();
    assert_eq!(no_roots.class(), Class::Config);
}

#[tokio::test]
async fn librex_errors_a_rate_limit_carries_its_wait_in_every_form() {
    let past = "Fri, 20 Nov 2020 10:00:00 GMT".to_owned();
    let soon = retry_after_date(Duration::from_mins(10));
    for (value, least, most) in [
        ("0", Some(0), 0),
        ("120", Some(120), 120),
        (" 60 ", Some(60), 60),
        (past.as_str(), Some(0), 0),
        (soon.as_str(), Some(590), 602),
        ("-10", None, 0),
        ("soon", None, 0),
    ] {
        let error = asked(Response::status(429, "").header("Retry-After", value)).await;
        let Class::RateLimit { retry_after } = error.class() else { panic!("{error:?}") };
        match (retry_after.map(|wait| wait.as_secs()), least) {
            (Some(wait), Some(least)) => assert!((least..=most).contains(&wait), "{value}: {wait}"),
            (wait, least) => assert_eq!(wait, least, "{value}"),
        }
    }
}

/// Remembers the waits between attempts.
#[derive(Debug, Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Observer for Waits {
    fn event(&self, event: &Event<'_>) {
        if let Event::Retry { delay, .. } = event {
            self.0.lock().unwrap().push(*delay);
        }
    }
}

#[tokio::test]
async fn librex_future_retries_wait_at_random_below_a_bound_that_doubles() {
    let base = Duration::from_millis(2);
    let mut longest = [Duration::ZERO; 4];
    for _ in 0..40 {
        let registry = Scenario::new(fixture::component()).lie(Lie::burst(Part::Manifest, 503, 4)).start();
        let waits = Arc::new(Waits::default());
        let retry = RetryPolicy { base, ..RetryPolicy::default() };
        let net = quick().retry(retry).observer(Arc::<Waits>::clone(&waits)).build().unwrap();
        repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        let waits = waits.0.lock().unwrap();
        assert_eq!(waits.len(), 4);
        for (number, wait) in waits.iter().enumerate() {
            assert!(*wait <= base * (1 << number), "wait {number} is {wait:?}");
            longest[number] = longest[number].max(*wait);
        }
    }
    // Forty times below half of the bound happens once in a million million times.
    assert!(longest.iter().enumerate().all(|(number, wait)| *wait > base * (1 << number) / 2), "{longest:?}");
}

#[tokio::test]
async fn librex_future_an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let server = TlsServer::start(Certificate::Good, &["http/1.1"]).await;
    let reference = format!("localhost:{}/acme/hello", server.addr.port());
    let named = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    repository(&named, &reference).manifest(Selector::Tag("1")).await.unwrap();
    let unnamed = quick().http_rule(HttpRule::Never).build().unwrap();
    let error = repository(&unnamed, &reference).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.class(), Class::Network);
}

#[tokio::test]
async fn librex_future_a_proxy_can_be_named() {
    let made = fixture::component();
    let proxy = LyingServer::start(move |_, _| {
        Response::ok(made.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
    });
    let rule = HttpRule::Also(vec!["registry.test".to_owned()]);
    let net = quick().http_rule(rule).proxy(ProxyRule::Through(Proxy::new(proxy.url()))).build().unwrap();
    repository(&net, "registry.test/acme/hello").manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(proxy.journal().lines(), ["GET http://registry.test/v2/acme/hello/manifests/1"]);
}

#[tokio::test]
async fn librex_future_http_2_is_spoken_where_the_server_has_it() {
    let server = TlsServer::start(Certificate::Good, &["h2", "http/1.1"]).await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("localhost:{}/acme/hello", server.addr.port()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert!(read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap() == blob());
    assert!(server.seen().iter().all(|(version, _)| *version == Version::HTTP_2));
}

#[tokio::test]
async fn librex_future_connections_that_are_used_again_are_counted() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    for _ in 0..3 {
        repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
    }
    let stats = net.client_stats().hosts.get(&registry.host()).copied().unwrap();
    assert_eq!((stats.connections_opened, stats.connections_reused), (1, 2));
    assert_eq!(stats.bytes_received, 3 * u64::try_from(registry.artifact().manifest_bytes.len()).unwrap());
}

#[tokio::test]
async fn librex_future_every_request_can_be_watched() {
    let registry = Scenario::new(fixture::component()).lie(Lie::CutBlob { after: 10, times: 1 }).start();
    let (trace, recorder) = (Trace::new(), Arc::new(Recorder::default()));
    let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let recording = trace.record();
    let repository = repository(&net, &registry.reference());
    read(repository.blob(&layer_of(registry.artifact())).open().await.unwrap()).await.unwrap();
    drop(recording);
    assert_eq!(trace.spans("oci.request").len(), 2);
    assert_eq!(recorder.lines(), ["resume 10"]);
}
