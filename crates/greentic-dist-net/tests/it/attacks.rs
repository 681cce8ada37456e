//! The attacks on registry clients that were published, one test each: what the attacker got to see, and what came out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use greentic_dist_net::{Capabilities, HostConfig, HostEndpoint, HttpRule, NetErrorClass, NetErrorKind, Selector};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, blob_host, bystander};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::Digest;

use crate::push::source;
use crate::support::{Recorder, described, net, pull_layer, quick, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, whole};

const CANARY: &str = "canary-attack-9e";
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn artifact() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(91, 100_000))
}

#[tokio::test]
async fn quirk_s01_a_realm_on_another_host_or_a_metadata_service_gets_no_login() {
    let thief = LyingServer::start_on(OTHER, |_, _| Response::ok(r#"{"token":"t"}"#));
    for realm in [format!("{}/token", thief.url()), "http://169.254.169.254/token".to_owned()] {
        let registry =
            Scenario::new(artifact()).auth(Auth::bearer("ann", CANARY)).lie(Lie::Realm(realm.clone())).start();
        let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
        let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{realm}: {error}");
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
    assert!(!thief.journal().contains(CANARY));
}

#[tokio::test]
async fn quirk_s02_a_redirect_of_the_token_server_is_not_followed() {
    let thief = LyingServer::start_on(OTHER, |_, _| Response::ok(r#"{"token":"t"}"#));
    let to = format!("{}/token", thief.url());
    let registry = LyingServer::start(move |request, ctx| match request.path.as_str() {
        "/token" => Response::redirect(307, to.clone()),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", "repository:acme/hello:pull"),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
    assert!(thief.journal().is_empty());
}

#[tokio::test]
async fn quirk_s03_a_redirect_to_an_inner_address_is_refused() {
    let registry = LyingServer::start(|_, _| Response::redirect(307, "http://169.254.169.254/latest/meta-data"));
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (NetErrorKind::Refused, NetErrorClass::Validation));
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn quirk_s04_nothing_that_a_registry_names_leads_from_https_to_http() {
    let plain = bystander(OTHER);
    let base = plain.url();
    // Redirects, the realm of a token server, the location of an upload, the next page of a list.
    let server = TlsServer::serving(Certificate::Good, &["h2"], move |request| {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let (there, answer) = (format!("{base}{path}"), hyper::Response::builder());
        let answer = match (method, path) {
            (_, "/v2/acme/closed/manifests/1") => {
                answer.status(401).header("WWW-Authenticate", format!("Bearer realm=\"{base}/token\",service=\"s\""))
            }
            ("POST", _) => answer.status(202).header("Location", there),
            (_, "/v2/acme/hello/tags/list") => answer.header("Link", format!("<{there}?last=1>; rel=\"next\"")),
            _ => answer.status(307).header("Location", there),
        };
        answer.body(whole(r#"{"name":"acme/hello","tags":["1"]}"#)).unwrap()
    })
    .await;
    let net = server.trusted_by(with_login(&server.host(), "ann", CANARY)).http_rule(HttpRule::Never).build().unwrap();
    let hello = repository(&net, &format!("{}/acme/hello", server.host()));
    let closed = repository(&net, &format!("{}/acme/closed", server.host()));
    for (what, error) in [
        ("a manifest", hello.manifest(Selector::Tag("1")).await.unwrap_err()),
        ("a blob", hello.blob(&described(Digest::sha256(b"x"), 1)).open().await.unwrap_err()),
        ("an upload", hello.put_blob(source(b"x")).check_first(false).send().await.unwrap_err()),
        ("a list", hello.tags().collect(10).await.unwrap_err()),
        ("a realm", closed.manifest(Selector::Tag("1")).await.unwrap_err()),
        ("a file", net.get(&format!("https://{}/x", server.host())).open().await.unwrap_err()),
    ] {
        assert_eq!(error.kind(), NetErrorKind::Refused, "{what}: {error}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{what}: {error}");
    }
    let paths: Vec<String> = server.seen().into_iter().map(|(_, path)| path).collect();
    let blob = format!("/v2/acme/hello/blobs/{}", Digest::sha256(b"x"));
    assert_eq!(
        paths,
        [
            "/v2/acme/hello/manifests/1",
            &blob,
            "/v2/acme/hello/blobs/uploads/",
            "/v2/acme/hello/tags/list",
            "/v2/acme/closed/manifests/1",
            "/x"
        ]
    );
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn quirk_s05_a_body_without_an_end_is_cut_off_at_its_limit() {
    let registry = Scenario::new(artifact()).lie(Lie::EndlessManifest).start();
    let net = net();
    let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::TooLarge);
    assert!(net.stats().bytes_received < 8 << 20);
}

#[tokio::test]
async fn quirk_s06_redirects_in_a_circle_and_logins_for_ever_come_to_an_end() {
    let circle = Scenario::new(artifact()).lie(Lie::RedirectLoop).start();
    assert_eq!(pull_layer(&net(), &circle).await.unwrap_err().kind(), NetErrorKind::Refused);
    assert!(circle.journal().len() <= 6);
    let refusing = Scenario::new(artifact()).auth(Auth::AnonymousBearer).lie(Lie::TokenRefused).start();
    let net = net();
    let asked = repository(&net, &refusing.reference()).manifest(Selector::Tag("1")).await;
    let error = asked.unwrap_err();
    assert_eq!(error.class(), NetErrorClass::Authentication, "{error}");
    assert!(refusing.journal().len() <= 8, "{:?}", refusing.journal().lines());
}

#[tokio::test]
async fn quirk_s07_a_header_that_echoes_the_digest_proves_nothing() {
    let registry = Scenario::new(artifact()).lie(Lie::WrongManifestEchoed).start();
    let net = net();
    let digest = registry.artifact().manifest_digest;
    let asked = repository(&net, &registry.reference()).manifest(Selector::Digest(digest)).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::Integrity);
}

#[tokio::test]
async fn quirk_s09_a_descriptor_that_lies_about_its_size_fills_no_memory() {
    let registry = Scenario::new(artifact()).lie(Lie::EndlessBlob).start();
    let net = net();
    let error = pull_layer(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert!(net.stats().bytes_received < 1_200_000);
}

#[tokio::test]
async fn quirk_s10_a_token_of_one_registry_is_not_sent_to_another() {
    let one = Scenario::new(artifact()).auth(Auth::AnonymousBearer).start();
    let other = Scenario::new(artifact()).on(OTHER).auth(Auth::AnonymousBearer).start();
    let net = net();
    for registry in [&one, &other] {
        repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(registry.journal().count("GET", "/token"), 1);
    }
}

#[tokio::test]
async fn quirk_s11_secrets_stand_in_no_error_no_debug_and_no_event() {
    let echo = LyingServer::start(|request, _| {
        let said = request.header("authorization").unwrap_or("nothing").to_owned();
        let key = request.header("x-key").unwrap_or("nothing").to_owned();
        match request.header("authorization") {
            None => Response::basic_challenge("x"),
            Some(_) => Response::status(400, format!("you said {said}")).header("Warning", format!("299 - \"{key}\"")),
        }
    });
    let recorder = Arc::new(Recorder::default());
    let builder = with_login(&echo.host(), "ann", CANARY).observer(Arc::clone(&recorder) as _);
    let shown = format!("{builder:?}");
    let net = builder.build().unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", echo.host())).manifest(Selector::Tag("1")).await;
    let error = asked.unwrap_err();
    assert!(echo.journal().contains(CANARY));
    let all = format!("{shown} {net:?} {error} {error:?} {:?}", recorder.lines());
    assert!(!all.contains(CANARY), "{all}");
}

#[tokio::test]
async fn quirk_s11_a_configured_header_that_a_server_repeats_is_blanked() {
    let echo = LyingServer::start(|request, _| {
        Response::status(400, format!("your key is {}", request.header("x-key").unwrap_or("nothing")))
    });
    let own = HostEndpoint::new(echo.url()).header("X-Key", CANARY);
    let net = quick().host(HostConfig::new(echo.host()).origin(own)).build().unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", echo.host())).manifest(Selector::Tag("1")).await;
    let error = asked.unwrap_err();
    assert!(echo.journal().contains(CANARY));
    assert!(error.to_string().contains("your key is [redacted]"), "{error}");
    assert!(!format!("{net:?} {error:?}").contains(CANARY));
}

#[tokio::test]
async fn quirk_s13_what_a_registry_says_cannot_drive_a_terminal() {
    let registry = LyingServer::start(|_, _| {
        Response::oci_error(404, "MANIFEST_UNKNOWN", "gone\\u001b]52;c;ZXZpbA==\\u0007\\u202e")
            .header("Warning", "299 - \"a\u{9b}31m\"")
    });
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::clone(&recorder) as _).build().unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", registry.host())).manifest(Selector::Tag("1")).await;
    let text = format!("{} {}", asked.unwrap_err(), recorder.lines().join(" "));
    assert!(!text.chars().any(|ch| ch.is_control() || ch == '\u{202e}'), "{text:?}");
}

#[tokio::test]
async fn quirk_s15_a_login_and_configured_headers_do_not_follow_a_redirect_to_another_port() {
    let artifact = artifact();
    let storage = blob_host(IpAddr::V4(Ipv4Addr::LOCALHOST), &artifact);
    let registry = Scenario::new(artifact)
        .auth(Auth::basic("ann", CANARY))
        .lie(Lie::RedirectBlob { status: 307, base: storage.url() })
        .start();
    let own = HostEndpoint::new(registry.url()).capabilities(Capabilities::ALL).header("X-Key", "canary-header-1b");
    let config = HostConfig::new(registry.host()).origin(own);
    let net = with_login(&registry.host(), "ann", CANARY).host(config).build().unwrap();
    assert!(pull_layer(&net, &registry).await.unwrap() == registry.artifact().layer_bytes());
    assert!(registry.journal().contains(CANARY) && registry.journal().contains("canary-header-1b"));
    assert!(!storage.journal().is_empty());
    assert!(!storage.journal().contains(CANARY) && !storage.journal().contains("canary-header-1b"));
}

#[tokio::test]
async fn row_19_digest_headers_that_contradict_each_other_or_are_far_too_long_name_nothing() {
    let artifact = artifact();
    let (good, wrong) = (artifact.manifest_digest.to_string(), Digest::sha256(b"another").to_string());
    for headers in [[&good, &wrong], [&wrong, &good], [&wrong, &wrong]] {
        let (body, told) = (artifact.manifest_bytes.clone(), headers.map(Clone::clone));
        let server = LyingServer::start(move |_, _| {
            let answer = Response::ok(body.clone()).header("Content-Type", fixture::MANIFEST_TYPE);
            told.iter().fold(answer, |answer, told| answer.header("Docker-Content-Digest", told))
        });
        let net = net();
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        for selector in [Selector::Tag("1"), Selector::Digest(artifact.manifest_digest)] {
            assert_eq!(repository.manifest(selector).await.unwrap().digest, artifact.manifest_digest, "{headers:?}");
        }
    }
    let long = format!("sha256:{}", "a".repeat(1 << 20));
    let registry = Scenario::new(artifact).lie(Lie::DigestHeader(long)).start();
    let net = quick().http_rule(HttpRule::Also(vec![])).build().unwrap();
    let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::Protocol);
}

#[tokio::test]
async fn row_20_the_body_wins_over_what_a_head_said_and_a_pin_from_a_head_is_proven() {
    let (artifact, said) = (artifact(), Digest::sha256(b"what the HEAD says"));
    let body = artifact.manifest_bytes.clone();
    let server = LyingServer::start(move |request, _| {
        let answer = Response::ok(body.clone()).header("Content-Type", fixture::MANIFEST_TYPE);
        if request.method == "HEAD" { answer.header("Docker-Content-Digest", said.to_string()) } else { answer }
    });
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let named = repository.resolve(Selector::Tag("1")).await.unwrap();
    assert_eq!(named.digest, said);
    assert_eq!(repository.manifest(Selector::Tag("1")).await.unwrap().digest, artifact.manifest_digest);
    let error = repository.manifest(Selector::Digest(named.digest)).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity, "{error}");
}

#[tokio::test]
async fn row_27_a_blob_that_says_it_is_a_tebibyte_is_refused_by_its_length() {
    let artifact = artifact();
    let server = LyingServer::start(|_, _| Response::ok("the beginning").wrong_content_length(1 << 40));
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let wanted = described(artifact.layer_digest(), artifact.layer_bytes().len());
    let error = repository.blob(&wanted).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity, "{error}");
    assert_eq!((server.journal().len(), net.stats().bytes_received), (1, 0));
}

#[tokio::test]
async fn quirk_p13_a_relative_redirect_of_a_blob_is_followed_on_the_same_host() {
    let whole = fixture::random_bytes(92, 1_000);
    let digest = Digest::sha256(&whole);
    let server = LyingServer::start(move |request, _| match request.path.as_str() {
        "/stored" => Response::ok(whole.clone()),
        _ => Response::redirect(302, "/stored"),
    });
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    read(repository.blob(&described(digest, 1_000)).open().await.unwrap()).await.unwrap();
    assert_eq!(server.journal().lines(), [format!("GET /v2/acme/hello/blobs/{digest}"), "GET /stored".to_owned()]);
}

#[tokio::test]
async fn quirk_p14_a_signed_url_gets_no_login_on_the_registrys_own_host_either() {
    let whole = fixture::random_bytes(93, 1_000);
    let digest = Digest::sha256(&whole);
    for parameter in ["X-Amz-Signature", "x-goog-signature", "Signature", "sig"] {
        let content = whole.clone();
        // An object store takes one proof and refuses two.
        let server =
            LyingServer::start(move |request, _| match (request.path.as_str(), request.header("authorization")) {
                ("/stored", Some(_)) => Response::status(400, "Only one auth mechanism allowed"),
                ("/stored", None) if request.method == "PUT" => Response::status(201, ""),
                ("/stored", None) => Response::ok(content.clone()),
                (_, None) => Response::basic_challenge("r"),
                (_, Some(_)) if request.method == "POST" => {
                    Response::status(202, "").header("Location", format!("/stored?{parameter}=canary-signature"))
                }
                _ => Response::redirect(307, format!("/stored?{parameter}=canary-signature")),
            });
        let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        let blob = repository.blob(&described(digest, 1_000)).open().await.unwrap();
        assert!(read(blob).await.unwrap() == whole);
        repository.put_blob(source(&whole)).check_first(false).send().await.unwrap();
        let signed = format!("/stored?{parameter}=canary-signature");
        let (get, start) =
            (format!("GET /v2/acme/hello/blobs/{digest}"), "POST /v2/acme/hello/blobs/uploads/".to_owned());
        let journal = server.journal();
        assert_eq!(
            journal.lines(),
            [get.clone(), get, format!("GET {signed}"), start, format!("PUT {signed}&digest={digest}")]
        );
        let logins: Vec<bool> = (0..5).map(|index| journal.authorization_of(index).is_some()).collect();
        assert_eq!(logins, [false, true, false, true, false], "{parameter}");
    }
}

#[tokio::test]
async fn quirk_p15_an_expired_signature_is_renewed_by_the_registry_once() {
    let artifact = artifact();
    let whole = artifact.layer_bytes().to_vec();
    let storage = LyingServer::start_on(OTHER, move |request, _| match request.index {
        0 => Response::status(403, "expired"),
        _ => Response::ok(whole.clone()),
    });
    let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: storage.url() }).start();
    pull_layer(&net(), &registry).await.unwrap();
    assert_eq!((registry.journal().len(), storage.journal().len()), (2, 2));
}

#[tokio::test]
async fn quirk_p26_a_wait_that_is_too_long_fails_at_once_and_tells_the_wait() {
    let lie = Lie::Status { on: Part::All, status: 429, times: Lie::ALWAYS, retry_after: Some("3600".to_owned()) };
    let registry = Scenario::new(artifact()).lie(lie).start();
    let net = net();
    let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
    let retry_after = Some(std::time::Duration::from_hours(1));
    assert_eq!(asked.unwrap_err().class(), NetErrorClass::RateLimit { retry_after });
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn quirk_p27_statuses_that_pass_are_asked_again_and_others_are_not() {
    for status in [408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529] {
        let registry = Scenario::new(artifact()).lie(Lie::burst(Part::All, status, 1)).start();
        let net = net();
        repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!((registry.journal().len(), net.stats().retries), (2, 1), "{status}");
    }
    for status in [400, 402, 405, 406, 409, 410, 418, 422, 431, 451, 501, 505] {
        let registry = Scenario::new(artifact()).lie(Lie::burst(Part::All, status, 1)).start();
        let net = net();
        let error = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.status(), error.attempts(), error.is_transient()), (Some(status), 1, false), "{error:?}");
        assert_eq!((registry.journal().len(), net.stats().retries), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn quirk_p54_a_mirror_below_a_path_is_asked_there_and_told_the_namespace() {
    let artifact = artifact();
    let (digest, bytes) = (artifact.manifest_digest, artifact.manifest_bytes.clone());
    let proxy =
        LyingServer::start(move |_, _| Response::ok(bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE));
    let origin = bystander(OTHER);
    for (path, over, expected) in
        [("/ghcr-remote", false, "/ghcr-remote/v2"), ("/v2/proxy/upstream", true, "/v2/proxy/upstream")]
    {
        proxy.journal().clear();
        let endpoint = HostEndpoint::new(format!("{}{path}", proxy.url())).override_path(over);
        let net = quick().host(HostConfig::new(origin.host()).mirror(endpoint)).build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", origin.host()));
        repository.manifest(Selector::Digest(digest)).await.unwrap();
        let namespace = origin.host().replace(':', "%3A");
        assert_eq!(proxy.journal().lines(), [format!("GET {expected}/acme/hello/manifests/{digest}?ns={namespace}")]);
    }
    assert!(origin.journal().is_empty());
}
