//! The attacks on registry clients that were published, one test each: what the attacker got to see, and what came out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{
    Capabilities, HostConfig, HostEndpoint, HttpRule, Limit, Limits, Net, NetErrorClass, NetErrorKind, RetryPolicy,
    Selector,
};
use greentic_dist_testkit::fixture::{self, Artifact, Blob, MANIFEST_TYPE};
use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, blob_host, bystander, hostile};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::{Algorithm, Digest, PlatformChoice, Reference};
use hyper::Version;

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
    let elsewhere = format!("{}/token", thief.url());
    for realm in [
        elsewhere.as_str(),
        "http://169.254.169.254/token",
        "https://169.254.169.254/token",
        "http://[fd00:ec2::254]/token",
        "https://[::ffff:169.254.169.254]/token",
        "http://10.0.0.1/token",
        "http://192.168.1.1/token",
        "http://0.0.0.0/token",
        "https://[::]/token",
        "ftp://127.0.0.1/token",
        "file:///etc/passwd",
    ] {
        let registry =
            Scenario::new(artifact()).auth(Auth::bearer("ann", CANARY)).lie(Lie::Realm(realm.to_owned())).start();
        let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
        let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{realm}: {error}");
        assert!(!format!("{error} {error:?} {:?}", error.hints()).contains(CANARY));
        assert_eq!(registry.journal().lines(), ["GET /v2/acme/hello/manifests/1"], "{realm}");
        assert!(!registry.journal().contains(CANARY), "{realm}");
    }
    assert_eq!(thief.connections(), 0);
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
    for inner in ["http://169.254.169.254", "http://[fe80::1]", "http://10.1.2.3:8080", "https://0.0.0.0"] {
        // Redirects, the location of an upload, the next page of a list.
        let registry = LyingServer::start(move |request, _| {
            let there = format!("{inner}{}", request.path);
            match (request.method.as_str(), request.path.as_str()) {
                ("POST", _) => Response::status(202, "").header("Location", there),
                (_, "/v2/acme/hello/tags/list") => Response::ok(r#"{"name":"acme/hello","tags":["1"]}"#)
                    .header("Link", format!("<{there}?last=1>; rel=\"next\"")),
                _ => Response::redirect(307, there),
            }
        });
        let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
        let hello = repository(&net, &format!("{}/acme/hello", registry.host()));
        for (what, error) in [
            ("a manifest", hello.manifest(Selector::Tag("1")).await.unwrap_err()),
            ("a blob", hello.blob(&described(Digest::sha256(b"x"), 1)).open().await.unwrap_err()),
            ("an upload", hello.put_blob(source(b"x")).check_first(false).send().await.unwrap_err()),
            ("a list", hello.tags().collect(10).await.unwrap_err()),
        ] {
            let found = (error.kind(), error.class());
            assert_eq!(found, (NetErrorKind::Refused, NetErrorClass::Validation), "{what} at {inner}: {error}");
        }
        // Each was asked for once, and nothing but the registry was asked.
        assert_eq!(registry.journal().len(), 4, "{:?}", registry.journal().lines());
        assert_eq!((net.stats().connections_opened, net.stats().retries), (1, 0), "{inner}");
    }
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
    // Everything that has no end here, and how much of it may be read at most.
    let endless = LyingServer::start(|request, ctx| match request.path.as_str() {
        "/v2/acme/failing/manifests/1" => Response::status(418, "no").endless(),
        "/v2/acme/closed/manifests/1" => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        _ => Response::ok(r#"{"name":"acme/hello","tags":[""#)
            .header("Content-Type", if request.path.contains("list") { "application/json" } else { MANIFEST_TYPE })
            .endless(),
    });
    let net = || quick().build().unwrap();
    let at = |net: &Net, name: &str| repository(net, &format!("{}/acme/{name}", endless.host()));
    let subject = Digest::sha256(b"x");
    for (what, limit, kind) in [
        ("manifest", 4 << 20, NetErrorKind::TooLarge),
        ("tags", 16 << 20, NetErrorKind::TooLarge),
        ("catalog", 16 << 20, NetErrorKind::TooLarge),
        ("referrers", 4 << 20, NetErrorKind::TooLarge),
        ("token", 128 << 10, NetErrorKind::TooLarge),
        ("error", 64 << 10, NetErrorKind::Protocol),
    ] {
        let net = net();
        let error = match what {
            "manifest" => at(&net, "hello").manifest(Selector::Tag("1")).await.unwrap_err(),
            "tags" => at(&net, "hello").tags().collect(10).await.unwrap_err(),
            "catalog" => net.registry(&endless.host()).unwrap().catalog().collect(10).await.unwrap_err(),
            "referrers" => at(&net, "hello").referrers(&subject, None).await.unwrap_err(),
            "token" => at(&net, "closed").manifest(Selector::Tag("1")).await.unwrap_err(),
            _ => at(&net, "failing").manifest(Selector::Tag("1")).await.unwrap_err(),
        };
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        // One piece more than the limit may have come before it was seen.
        let received = net.stats().bytes_received;
        assert!(received <= limit + (64 << 10), "{what}: {received} bytes");
    }
}

/// An answer with a header of so many more fields, each with a value of so many bytes.
fn flooded(answer: Response, fields: usize, bytes: usize) -> Response {
    (0..fields).fold(answer, |answer, number| answer.header(format!("X-Flood-{number}"), "a".repeat(bytes)))
}

#[tokio::test]
async fn quirk_s05_a_header_beyond_its_limits_is_refused_on_every_server() {
    for (fields, bytes, limit) in [
        (60, 5_000, Some(Limit::HeaderBytes)),
        (1, 390_000, Some(Limit::HeaderBytes)),
        (101, 1, Some(Limit::HeaderFields)),
        // Beyond what is looked at: both are named.
        (300, 1, None),
        (1, 2_000_000, None),
    ] {
        let registry = LyingServer::start(move |_, _| flooded(Response::ok("{}"), fields, bytes));
        let net = net();
        let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, limit), "{fields} {bytes}: {error}");
        assert_eq!((registry.journal().len(), net.stats().bytes_received), (1, 0));
        let named = |limit: Limit| error.to_string().contains(&format!("`{limit}`"));
        let advised = |limit: Limit| error.hints().concat().contains(&format!("--set-limit {limit}="));
        for one in [Limit::HeaderFields, Limit::HeaderBytes] {
            let is_it = limit.is_none_or(|limit| limit == one);
            assert_eq!((named(one), advised(one)), (is_it, is_it), "{fields} {bytes}: {error}: {:?}", error.hints());
        }
    }
    // A redirect on the way, and a token server.
    let hop =
        LyingServer::start(|request, _| flooded(Response::redirect(307, format!("{}x", request.path)), 60, 5_000));
    let asked = repository(&net(), &format!("{}/acme/hello", hop.host())).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().limit(), Some(Limit::HeaderBytes));
    assert_eq!(hop.journal().len(), 1);
    let registry = LyingServer::start(|request, ctx| match request.path.as_str() {
        "/token" => flooded(Response::ok(r#"{"token":"t"}"#), 60, 5_000),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", "repository:acme/hello:pull"),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", registry.host())).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().limit(), Some(Limit::HeaderBytes));
    assert_eq!(registry.journal().len(), 2);
}

#[tokio::test]
async fn quirk_s05_a_header_beyond_its_limits_is_refused_over_http2_too_and_more_can_be_allowed() {
    let server = TlsServer::serving(Certificate::Good, &["h2"], |request| {
        let fields: usize = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
        let answer = (0..fields).fold(hyper::Response::builder(), |answer, number| {
            // With 95 fields: far more than the limit.
            answer.header(format!("x-flood-{number}"), "a".repeat(if fields == 95 { 4_000 } else { 1_000 }))
        });
        answer.body(whole(fixture::component().manifest_bytes)).unwrap()
    })
    .await;
    let hello = format!("{}/acme/hello", server.host());
    let net = server.trusting().build().unwrap();
    assert!(repository(&net, &hello).manifest(Selector::Tag("60")).await.is_ok());
    for tag in ["70", "90", "95"] {
        let error = repository(&net, &hello).manifest(Selector::Tag(tag)).await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(Limit::HeaderBytes)), "{error}");
        assert!(error.hints().concat().contains("--set-limit header-bytes=131072"), "{:?}", error.hints());
    }
    let limits = Limits { header_bytes: 128 << 10, header_fields: 200, ..Limits::default() };
    let generous = server.trusting().limits(limits).build().unwrap();
    assert!(repository(&generous, &hello).manifest(Selector::Tag("120")).await.is_ok());
}

#[tokio::test]
async fn quirk_s05_a_header_that_http2_gives_up_is_told_by_http_1() {
    for (alpn, kind, versions) in [
        (&["h2", "http/1.1"][..], NetErrorKind::TooLarge, &[Version::HTTP_2, Version::HTTP_2, Version::HTTP_11][..]),
        // Here nobody can tell.
        (&["h2"], NetErrorKind::Interrupted, &[Version::HTTP_2; 3]),
    ] {
        let server = TlsServer::serving(Certificate::Good, alpn, |_| {
            let answer = (0..90).fold(hyper::Response::builder(), |answer, number| {
                answer.header(format!("x-flood-{number}"), "a".repeat(16_000))
            });
            answer.body(whole(fixture::component().manifest_bytes)).unwrap()
        })
        .await;
        let retry = RetryPolicy { attempts: 4, base: Duration::ZERO, ..RetryPolicy::default() };
        let net = server.trusting().http_rule(HttpRule::Never).retry(retry).build().unwrap();
        let error = repository(&net, &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await;
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (kind, None), "{error:?}");
        assert_eq!(server.seen().into_iter().map(|(version, _)| version).collect::<Vec<_>>(), versions);
        assert_eq!(error.to_string().contains("`header-bytes`"), kind == NetErrorKind::TooLarge, "{error}");
        assert_eq!(net.stats().bytes_received, 0);
    }
}

#[tokio::test]
async fn quirk_s06_redirects_in_a_circle_and_logins_for_ever_come_to_an_end() {
    let circle = Scenario::new(artifact()).lie(Lie::RedirectLoop).start();
    assert_eq!(pull_layer(&net(), &circle).await.unwrap_err().kind(), NetErrorKind::Refused);
    assert_eq!(circle.journal().len(), 1, "a circle is seen before it is walked");
    let onward = LyingServer::start(|request, _| Response::redirect(307, format!("/step/{}", request.index)));
    let asked = repository(&net(), &format!("{}/acme/hello", onward.host())).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::Refused);
    assert_eq!(onward.journal().len(), 6, "the request and five redirects");
    let refusing = Scenario::new(artifact()).auth(Auth::AnonymousBearer).lie(Lie::TokenRefused).start();
    let net = net();
    let asked = repository(&net, &refusing.reference()).manifest(Selector::Tag("1")).await;
    let error = asked.unwrap_err();
    assert_eq!(error.class(), NetErrorClass::Authentication, "{error}");
    let (manifest, token) = ("GET /v2/acme/hello/manifests/1", "GET /token");
    let asked: Vec<_> = refusing.journal().entries().iter().map(|entry| format!("GET {}", entry.path)).collect();
    assert_eq!(asked, [manifest, token, manifest]);
}

#[tokio::test]
async fn quirk_s07_a_header_that_echoes_the_digest_proves_nothing_and_weak_digests_name_nothing() {
    let registry = Scenario::new(artifact()).lie(Lie::WrongManifestEchoed).start();
    let net = net();
    let digest = registry.artifact().manifest_digest;
    let asked = repository(&net, &registry.reference()).manifest(Selector::Digest(digest)).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::Integrity);
    let long = Digest::of(Algorithm::Sha512, b"x").to_string();
    // A longer hash that was cut short is no shorter one: SHA-384 is read, and proves nothing by a part of SHA-512.
    let made = registry.artifact();
    let cut = Digest::of(Algorithm::Sha512, &made.manifest_bytes).to_hex();
    for (digest, is_it) in [
        (Digest::of(Algorithm::Sha384, &made.manifest_bytes), true),
        (format!("sha384:{}", &cut[..96]).parse().unwrap(), false),
    ] {
        let honest = Scenario::new(made.clone()).start();
        let (media_type, bytes) = (MANIFEST_TYPE.to_owned(), made.manifest_bytes.clone());
        honest.publish_document(&Blob { media_type, digest, bytes }, None);
        let asked = repository(&net, &honest.reference()).manifest(Selector::Digest(digest)).await;
        let found = asked.map(|found| found.digest).map_err(|error| error.kind());
        assert_eq!(found, if is_it { Ok(digest) } else { Err(NetErrorKind::Integrity) });
    }
    let weak = [
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned(),
        "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        long[..long.len() - 64].to_owned(),
        format!("sha256:{}", &long[7..]),
    ];
    for weak in weak {
        // Neither as a pin nor as what a manifest names; in a header it says nothing.
        weak.parse::<Digest>().unwrap_err();
        Reference::parse(&format!("{}/acme/hello@{weak}", registry.host())).unwrap_err();
        let honest = Scenario::new(artifact()).lie(Lie::DigestHeader(weak.clone())).start();
        let found = repository(&net, &honest.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(found.digest, honest.artifact().manifest_digest, "{weak}");
        honest.publish_document(&hostile::wrong_layer_digest(honest.artifact(), &weak), Some("weak"));
        let named =
            repository(&net, &honest.reference()).image(Selector::Tag("weak"), &PlatformChoice::default()).await;
        let error = named.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Protocol, "{weak}: {error}");
    }
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
    // A token says whose it is and for what.
    let registry = |ip| {
        LyingServer::start_on(ip, |request, ctx| {
            let scope = request.param("scope").map(|scope| scope.replace(['/', ':'], "-"));
            match request.header("authorization") {
                _ if request.path == "/token" => {
                    Response::ok(format!(r#"{{"token":"of-{}-{}"}}"#, ctx.addr().port(), scope.unwrap()))
                }
                Some(_) => Response::ok(fixture::component().manifest_bytes).header("Content-Type", MANIFEST_TYPE),
                None => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
            }
        })
    };
    let (one, other) = (registry(IpAddr::V4(Ipv4Addr::LOCALHOST)), registry(OTHER));
    let net = net();
    for _ in 0..2 {
        for server in [&one, &other] {
            for name in ["hello", "there"] {
                let asked = repository(&net, &format!("{}/acme/{name}", server.host()));
                asked.manifest(Selector::Tag("1")).await.unwrap();
                let journal = server.journal();
                let sent = journal.authorization_of(journal.len() - 1).unwrap();
                assert_eq!(sent, format!("Bearer of-{}-repository-acme-{name}-pull", server.addr().port()));
            }
        }
    }
    for server in [&one, &other] {
        // One challenge, a token for each repository, two manifests twice.
        assert_eq!((server.journal().count("GET", "/token"), server.journal().len()), (2, 7));
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
    assert!(text.contains("gone") && text.contains("31m"), "it is told: {text:?}");
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
    assert_eq!(storage.journal().len(), 1);
    assert!(!storage.journal().contains(CANARY) && !storage.journal().contains("canary-header-1b"));
}

#[tokio::test]
async fn row_19_digest_headers_that_contradict_each_other_or_are_far_too_long_name_nothing() {
    let artifact = artifact();
    let (good, wrong) = (artifact.manifest_digest.to_string(), Digest::sha256(b"another").to_string());
    for headers in [[&good, &wrong], [&wrong, &good], [&wrong, &wrong]] {
        let (body, told) = (artifact.manifest_bytes.clone(), headers.map(Clone::clone));
        let server = LyingServer::start(move |_, _| {
            let answer = Response::ok(body.clone()).header("Content-Type", MANIFEST_TYPE);
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
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::TooLarge);
}

#[tokio::test]
async fn row_20_the_body_wins_over_what_a_head_said_and_a_pin_from_a_head_is_proven() {
    let (artifact, said) = (artifact(), Digest::sha256(b"what the HEAD says"));
    let body = artifact.manifest_bytes.clone();
    let server = LyingServer::start(move |request, _| {
        let answer = Response::ok(body.clone()).header("Content-Type", MANIFEST_TYPE);
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
    let blob = format!("GET /v2/acme/hello/blobs/{}", artifact().layer_digest());
    for status in [400, 403] {
        let artifact = artifact();
        let whole = artifact.layer_bytes().to_vec();
        let storage = LyingServer::start_on(OTHER, move |request, _| match request.index {
            0 => Response::status(status, "expired"),
            _ => Response::ok(whole.clone()),
        });
        let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: storage.url() }).start();
        pull_layer(&net(), &registry).await.unwrap();
        assert_eq!((registry.journal().lines(), storage.journal().len()), (vec![blob.clone(); 2], 2), "{status}");
    }
    // One that expired before the rest was asked for.
    for status in [400, 403] {
        let artifact = artifact();
        let whole = artifact.layer_bytes().to_vec();
        let storage = LyingServer::start_on(OTHER, move |request, _| match request.index {
            0 => Response::ok(whole.clone()).cut_after(30_000),
            1 => Response::status(status, "expired"),
            _ => Response::ranged(request, "", whole.clone()),
        });
        let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: storage.url() }).start();
        assert!(pull_layer(&net(), &registry).await.unwrap() == registry.artifact().layer_bytes());
        let ranges: Vec<_> = (0..3).map(|index| storage.journal().header_of(index, "range")).collect();
        let rest = Some("bytes=30000-".to_owned());
        assert_eq!(ranges, [None, rest.clone(), rest], "{status}");
        assert_eq!((registry.journal().lines(), storage.journal().len()), (vec![blob.clone(); 3], 3), "{status}");
    }
}

#[tokio::test]
async fn quirk_p26_a_wait_that_is_too_long_fails_at_once_and_tells_the_wait() {
    let lie = Lie::Status { on: Part::All, status: 429, times: Lie::ALWAYS, retry_after: Some("3600".to_owned()) };
    let registry = Scenario::new(artifact()).lie(lie).start();
    let net = net();
    let asked = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await;
    let retry_after = Some(Duration::from_hours(1));
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
    let proxy = LyingServer::start(move |_, _| Response::ok(bytes.clone()).header("Content-Type", MANIFEST_TYPE));
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
