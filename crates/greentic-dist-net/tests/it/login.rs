use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use greentic_dist_net::{
    BoxFuture, Credential, CredentialAction, CredentialAnswer, CredentialSource, CredentialTarget, Login, Net,
    NetError, NetErrorKind, RawManifest, Selector, StaticCredentials, TargetPolicy,
};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario, bystander};
use greentic_dist_testkit::{LyingServer, Request, Response, fixture};

use crate::support::{Recorder, layer_of, net, pull_layer, quick, read, repository, with_login};

const CANARY: &str = "canary-5f1d";

async fn pull(net: &Net, registry: &LyingRegistry) -> Result<(), NetError> {
    let repository = repository(net, &registry.reference());
    repository.manifest(Selector::Tag("1")).await?;
    read(repository.blob(&layer_of(registry.artifact())).open().await?).await.map(drop)
}

fn bearer(user: &str) -> LyingRegistry {
    Scenario::new(fixture::component()).auth(Auth::bearer(user, CANARY)).start()
}

fn paths(registry: &LyingRegistry) -> Vec<String> {
    registry.journal().entries().iter().map(|entry| entry.path.clone()).collect()
}

#[tokio::test]
async fn an_anonymous_token_costs_four_requests_in_all() {
    let registry = Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).start();
    let net = net();
    pull(&net, &registry).await.unwrap();
    let blob = format!("/v2/acme/hello/blobs/{}", registry.artifact().layer_digest());
    let manifest = "/v2/acme/hello/manifests/1".to_owned();
    assert_eq!(paths(&registry), [manifest.clone(), "/token".into(), manifest, blob]);
    let token = registry.journal().entries()[1].target.clone();
    assert_eq!(token, "/token?service=lying-registry&scope=repository%3Aacme%2Fhello%3Apull");
    assert_eq!(registry.journal().authorization_of(1), None);
    assert_eq!(net.stats().token_requests, 1);
}

#[tokio::test]
async fn another_repository_of_a_known_registry_needs_no_second_challenge() {
    let registry = Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).start();
    let net = net();
    pull(&net, &registry).await.unwrap();
    registry.journal().clear();
    let other = repository(&net, &format!("{}/acme/other", registry.host()));
    assert_eq!(other.manifest(Selector::Tag("1")).await.unwrap_err().kind(), NetErrorKind::NotFound);
    assert_eq!(paths(&registry), ["/token", "/v2/acme/other/manifests/1"]);
    assert!(registry.journal().entries()[0].target.ends_with("scope=repository%3Aacme%2Fother%3Apull"));
}

#[tokio::test]
async fn an_open_repository_beside_a_closed_one_needs_no_token() {
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, ctx| match request.path.as_str() {
        "/token" => Response::oci_error(403, "DENIED", "not for you"),
        "/v2/acme/open/manifests/1" => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    });
    let net = net();
    let closed = repository(&net, &format!("{}/acme/closed", server.host()));
    assert_eq!(closed.manifest(Selector::Tag("1")).await.unwrap_err().kind(), NetErrorKind::Forbidden);
    let open = repository(&net, &format!("{}/acme/open", server.host()));
    open.manifest(Selector::Tag("1")).await.unwrap();
}

#[tokio::test]
async fn a_login_is_sent_to_the_token_server_of_the_registry_and_as_a_token_to_the_registry() {
    let registry = bearer("ann");
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    pull(&net, &registry).await.unwrap();
    let journal = registry.journal();
    let seen: Vec<_> = (0..4).map(|index| journal.authorization_of(index)).collect();
    assert_eq!(seen[0], None, "nothing is sent before it is asked for");
    assert!(seen[1].as_deref().unwrap().starts_with("Basic "));
    assert_eq!(seen[2].as_deref(), Some("Bearer token-1"));
    assert_eq!(seen[3].as_deref(), Some("Bearer token-1"));
}

#[tokio::test]
async fn many_requests_at_once_fetch_one_token() {
    let registry = Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).start();
    let net = net();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let repository = repository(&net, &registry.reference());
            tokio::spawn(async move { repository.manifest(Selector::Tag("1")).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(registry.journal().count("GET", "/token"), 1);
}

#[tokio::test]
async fn many_requests_at_once_share_the_failure_of_the_token_server() {
    let registry = Scenario::new(fixture::component())
        .auth(Auth::AnonymousBearer)
        .lie(Lie::status(Part::Token, 403))
        .lie(Lie::Slow(std::time::Duration::from_millis(50)))
        .start();
    let net = net();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let repository = repository(&net, &registry.reference());
            tokio::spawn(async move { repository.manifest(Selector::Tag("1")).await.map(drop) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().kind(), NetErrorKind::Forbidden);
    }
    assert!(registry.journal().count("GET", "/token") < 8);
}

#[tokio::test]
async fn an_expired_token_is_renewed_in_the_middle_of_a_transfer() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(9, 100_000));
    let registry =
        Scenario::new(artifact).auth(Auth::AnonymousBearer).lie(Lie::CutBlob { after: 40_000, times: 1 }).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let mut stream = repository.blob(&layer_of(registry.artifact())).open().await.unwrap();
    let mut all = stream.next().await.unwrap().unwrap().to_vec();
    registry.expire_tokens();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    assert!(all == registry.artifact().layer_bytes());
    let statuses: Vec<u16> = registry.journal().entries().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [401, 200, 200, 401, 200, 206]);
}

#[tokio::test]
async fn a_registry_that_refuses_its_own_tokens_is_not_asked_for_ever() {
    let registry = Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).lie(Lie::TokenRefused).start();
    let error = pull(&net(), &registry).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Unauthorized, Some(401)));
    assert!(error.has_code("UNAUTHORIZED"));
    assert_eq!(registry.journal().len(), 3, "request, token, request");
}

#[tokio::test]
async fn a_rejected_password_fails_with_the_words_of_the_token_server() {
    let registry = bearer("ann");
    let net = with_login(&registry.host(), "ann", "wrong").build().unwrap();
    let error = pull(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    assert!(error.to_string().starts_with("token server answered 401"), "{error}");
    assert!(error.hints()[0].contains(&registry.host()), "{:?}", error.hints());
    assert_eq!(registry.journal().len(), 2);
}

#[tokio::test]
async fn a_missing_login_is_told_with_the_host_it_is_for() {
    let registry = Scenario::new(fixture::component()).auth(Auth::basic("ann", CANARY)).start();
    let error = pull(&net(), &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert!(error.hints()[0].contains(&registry.host()), "{:?}", error.hints());
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn basic_is_sent_only_after_a_challenge_and_then_with_every_request() {
    let registry = Scenario::new(fixture::component()).auth(Auth::basic("ann", CANARY)).start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    pull(&net, &registry).await.unwrap();
    let journal = registry.journal();
    let sent: Vec<bool> = (0..3).map(|index| journal.authorization_of(index).is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test]
async fn a_rejected_basic_login_is_not_sent_again_and_again() {
    let registry = Scenario::new(fixture::component()).auth(Auth::basic("ann", CANARY)).start();
    let net = with_login(&registry.host(), "ann", "wrong").build().unwrap();
    let error = pull(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert!(error.hints()[0].contains("rejected"), "{:?}", error.hints());
    assert_eq!(registry.journal().len(), 2);
}

#[derive(Debug, Default)]
struct Rotating(AtomicUsize);

impl CredentialSource for Rotating {
    fn credential<'a>(&'a self, _: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let asked = self.0.fetch_add(1, Ordering::SeqCst);
        let password = if asked == 0 { "old" } else { CANARY };
        let login = Login::explicit(Credential::Basic { username: "ann".into(), password: password.into() });
        Box::pin(async move { Ok(Some(login).into()) })
    }
}

#[tokio::test]
async fn a_login_that_changed_meanwhile_is_asked_for_once_more() {
    let registry = Scenario::new(fixture::component()).auth(Auth::basic("ann", CANARY)).start();
    let source = Arc::new(Rotating::default());
    let net = quick().credentials(Arc::<Rotating>::clone(&source)).build().unwrap();
    pull(&net, &registry).await.unwrap();
    assert_eq!(source.0.load(Ordering::SeqCst), 2, "asked once, and once more after the refusal");
}

/// One login for each kind of work, and for what it was asked.
#[derive(Debug, Default)]
struct ByWork(Mutex<Vec<CredentialTarget>>);

impl CredentialSource for ByWork {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        self.0.lock().unwrap().push(target.clone());
        let username = match target.action {
            CredentialAction::Pull => "reader",
            CredentialAction::Push => "writer",
            CredentialAction::Delete => "remover",
            CredentialAction::Catalog => "lister",
            other => panic!("{other:?}"),
        };
        let login = Login::explicit(Credential::Basic { username: username.into(), password: CANARY.into() });
        Box::pin(std::future::ready(Ok(Some(login).into())))
    }
}

/// Whose login this is.
fn user_of(authorization: Option<&str>) -> &'static str {
    match authorization.unwrap_or_default() {
        "Basic cmVhZGVyOmNhbmFyeS01ZjFk" => "reader",
        "Basic d3JpdGVyOmNhbmFyeS01ZjFk" => "writer",
        "Basic cmVtb3ZlcjpjYW5hcnktNWYxZA==" => "remover",
        "Basic bGlzdGVyOmNhbmFyeS01ZjFk" => "lister",
        other => panic!("{other}"),
    }
}

/// Pulls, pushes, deletes and lists, twice: who did which of it by the answers of a server that says `Bearer USER` or wants `Basic`.
async fn do_everything(net: &Net, server: &LyingServer) {
    let repository = repository(net, &format!("{}/acme/hello", server.host()));
    let manifest = RawManifest::new(fixture::component().manifest_bytes).unwrap();
    for _ in 0..2 {
        repository.manifest(Selector::Tag("1")).await.unwrap();
        repository.put_manifest(&manifest).tag("2").send().await.unwrap();
        repository.delete_tag("1").await.unwrap();
        net.registry(&server.host()).unwrap().catalog().collect(5).await.unwrap();
    }
}

#[tokio::test]
async fn a_login_for_one_kind_of_work_is_never_used_for_another() {
    let needed = |request: &Request| match request.method.as_str() {
        "GET" if request.path == "/v2/_catalog" => "lister",
        "GET" => "reader",
        "DELETE" => "remover",
        _ => "writer",
    };
    let answer = |request: &Request| match request.method.as_str() {
        "GET" if request.path == "/v2/_catalog" => Response::ok(r#"{"repositories":[]}"#),
        "GET" => Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE),
        "DELETE" => Response::status(202, ""),
        _ => Response::status(201, ""),
    };
    // With tokens, and with passwords.
    for with_tokens in [true, false] {
        let server = LyingServer::start(move |request, ctx| {
            let authorization = request.header("authorization");
            if request.path == "/token" {
                return Response::ok(format!(r#"{{"token":"t-{}"}}"#, user_of(authorization)));
            }
            match (authorization, with_tokens) {
                (None, true) => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
                (None, false) => Response::status(401, "").header("WWW-Authenticate", "Basic realm=\"r\""),
                (Some(sent), true) => {
                    assert_eq!(sent, format!("Bearer t-{}", needed(request)), "{}", request.path);
                    answer(request)
                }
                (sent, false) => {
                    assert_eq!(user_of(sent), needed(request), "{}", request.path);
                    answer(request)
                }
            }
        });
        let source = Arc::new(ByWork::default());
        let net = quick().credentials(Arc::<ByWork>::clone(&source)).build().unwrap();
        do_everything(&net, &server).await;
        let asked = source.0.lock().unwrap().clone();
        let target = |repository: &str, action| CredentialTarget::new(server.host(), repository).to(action);
        assert_eq!(
            asked,
            [
                target("acme/hello", CredentialAction::Pull),
                target("acme/hello", CredentialAction::Push),
                target("acme/hello", CredentialAction::Delete),
                target("", CredentialAction::Catalog)
            ],
            "each is asked for once"
        );
        let sent = server.journal().entries();
        let tokens = sent.iter().filter(|entry| entry.path == "/token").count();
        assert_eq!((sent.len(), tokens), if with_tokens { (13, 4) } else { (9, 0) });
    }
}

#[tokio::test]
async fn a_token_of_the_user_is_sent_as_it_is() {
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, ctx| {
        if request.header("authorization") == Some("Bearer mine-5f1d") {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        } else {
            Response::bearer_challenge(&ctx.url("/token"), "s", "")
        }
    });
    let credentials = StaticCredentials::new().with(&server.host(), Credential::Bearer("mine-5f1d".into()));
    let net = quick().credentials(Arc::new(credentials)).build().unwrap();
    repository(&net, &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(server.journal().len(), 2, "no token server is asked");
}

#[tokio::test]
async fn row_41_a_login_never_reaches_a_token_server_on_another_host() {
    let thief = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| {
        Response::ok(r#"{"token":"x"}"#).header("Content-Type", "application/json")
    });
    let registry = Scenario::new(fixture::component())
        .auth(Auth::bearer("ann", CANARY))
        .lie(Lie::Realm(thief.url() + "/token"))
        .start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let error = pull(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    let text = error.to_string();
    assert!(text.contains(&registry.host()) && text.contains("127.0.0.2"), "{text}");
    assert!(thief.journal().is_empty(), "it was not even asked");
    assert!(!registry.journal().contains(CANARY));
}

#[tokio::test]
async fn another_port_of_the_same_machine_is_another_host() {
    let thief = bystander(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let registry = Scenario::new(fixture::component())
        .auth(Auth::bearer("ann", CANARY))
        .lie(Lie::Realm(thief.url() + "/token"))
        .start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    assert_eq!(pull(&net, &registry).await.unwrap_err().kind(), NetErrorKind::Refused);
    assert!(thief.journal().is_empty());
}

#[tokio::test]
async fn an_anonymous_token_may_come_from_another_loopback_server() {
    let artifact = fixture::component();
    let tokens = LyingServer::start(|_, _| Response::ok(r#"{"access_token":"t-1","token":""}"#));
    let realm = tokens.url() + "/token?kept=1";
    let registry = LyingServer::start(move |request, _| match request.header("authorization") {
        Some("Bearer t-1") => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ => Response::bearer_challenge(&realm, "svc", "repository:acme/hello:pull"),
    });
    repository(&net(), &format!("{}/acme/hello", registry.host())).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(tokens.journal().lines(), ["GET /token?kept=1&service=svc&scope=repository%3Aacme%2Fhello%3Apull"]);
    assert_eq!(tokens.journal().authorization_of(0), None);
}

#[tokio::test]
async fn a_trusted_token_server_on_another_port_gets_the_login() {
    let artifact = fixture::component();
    let tokens = LyingServer::start(|_, _| Response::ok(r#"{"token":"t-1"}"#));
    let realm = tokens.url() + "/token";
    let registry = LyingServer::start(move |request, _| match request.header("authorization") {
        Some("Bearer t-1") => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ => Response::bearer_challenge(&realm, "svc", ""),
    });
    let policy = TargetPolicy::new().trust_realm(registry.host(), tokens.host());
    let net = with_login(&registry.host(), "ann", CANARY).target_policy(policy).build().unwrap();
    repository(&net, &format!("{}/acme/hello", registry.host())).manifest(Selector::Tag("1")).await.unwrap();
    assert!(tokens.journal().contains(CANARY) && !registry.journal().contains(CANARY));
}

#[tokio::test]
async fn row_43_realms_that_are_no_business_of_a_registry_are_refused() {
    for realm in [
        "https://169.254.169.254/latest/token",
        "https://[fd00:ec2::254]/token",
        "http://tokens.example/token",
        "file:///etc/passwd",
        "ftp://127.0.0.1/token",
        "javascript:alert(1)",
        "https://user:pass@127.0.0.1/token",
        "https://0.0.0.0/token",
    ] {
        let registry =
            Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).lie(Lie::Realm(realm.into())).start();
        let error = pull(&net(), &registry).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{realm}: {error}");
        assert!(!error.to_string().contains("user:pass"), "{error}");
        assert_eq!(registry.journal().len(), 1, "{realm}");
    }
}

#[tokio::test]
async fn row_44_a_redirect_of_the_token_server_is_not_followed() {
    let thief = bystander(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let to = thief.url();
    let registry = LyingServer::start(move |request, ctx| match request.path.as_str() {
        "/token" => Response::redirect(307, to.clone()),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    assert!(thief.journal().is_empty());
}

#[tokio::test]
async fn row_47_answers_of_a_token_server_that_hold_no_usable_token_fail_as_a_login() {
    let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(40_000));
    for body in [
        "",
        "{}",
        "not json",
        "[]",
        r#"{"token":""}"#,
        r#"{"token":"a\r\nb"}"#,
        r#"{"token":"a\u0000b"}"#,
        r#"{"token":5}"#,
        long.as_str(),
    ] {
        let registry =
            Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).lie(Lie::TokenBody(body.into())).start();
        let error = pull(&net(), &registry).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unauthorized, "{body:.60}: {error}");
        assert!(error.to_string().contains("token server"), "{error}");
    }
}

#[tokio::test]
async fn an_endless_token_is_cut_off() {
    let registry = Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).lie(Lie::EndlessToken).start();
    let net = net();
    let error = pull(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert!(net.stats().bytes_received < 1_000_000);
}

#[tokio::test]
async fn a_token_server_in_trouble_is_asked_again() {
    let registry =
        Scenario::new(fixture::component()).auth(Auth::AnonymousBearer).lie(Lie::burst(Part::Token, 503, 2)).start();
    pull(&net(), &registry).await.unwrap();
    assert_eq!(registry.journal().count("GET", "/token"), 3);
}

#[tokio::test]
async fn a_403_with_a_kept_token_is_tried_once_with_a_fresh_one() {
    let artifact = fixture::component();
    let issued = AtomicUsize::new(0);
    let server =
        LyingServer::start(move |request, ctx| match (request.path.as_str(), request.header("authorization")) {
            ("/token", _) => {
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                Response::ok(format!(r#"{{"token":"t-{number}"}}"#))
            }
            // The first token loses its right to see the second tag.
            ("/v2/acme/hello/manifests/2", Some("Bearer t-1")) => Response::oci_error(403, "DENIED", "stale token"),
            (_, Some(_)) => {
                Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
            }
            (_, None) => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    repository.manifest(Selector::Tag("2")).await.unwrap();
    assert_eq!(server.journal().count("GET", "/token"), 2);
}

#[tokio::test]
async fn a_registry_may_ask_for_a_scope_of_its_own_and_is_told_both() {
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => Response::ok(r#"{"token":"t"}"#),
        Some(_) => Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE),
        None => Response::bearer_challenge(&ctx.url("/token"), "s", "repository:upstream/acme/hello:pull"),
    });
    repository(&net(), &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap();
    let token = server.journal().entries()[1].target.clone();
    assert_eq!(
        token,
        "/token?service=s&scope=repository%3Aupstream%2Facme%2Fhello%3Apull&scope=repository%3Aacme%2Fhello%3Apull"
    );
}

#[tokio::test]
async fn never_more_than_pulling_is_asked_for() {
    let server = LyingServer::start(move |request, ctx| {
        if request.path == "/token" {
            return Response::ok(r#"{"token":"t"}"#);
        }
        Response::bearer_challenge(&ctx.url("/token"), "s", "repository:acme/hello:pull,push,delete")
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    assert_eq!(repository.manifest(Selector::Tag("1")).await.unwrap_err().kind(), NetErrorKind::Unauthorized);
    for entry in server.journal().entries().iter().filter(|entry| entry.path == "/token") {
        assert_eq!(entry.target, "/token?service=s&scope=repository%3Aacme%2Fhello%3Apull");
    }
}

#[tokio::test]
async fn row_45_an_unknown_scheme_cannot_be_answered() {
    for challenge in ["Negotiate", "Digest realm=\"x\"", "", "Bearer", "Bearer scope=\"x\""] {
        let server = LyingServer::start(move |_, _| Response::status(401, "no").header("WWW-Authenticate", challenge));
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unauthorized, "{challenge}");
        assert_eq!(server.journal().len(), 1, "{challenge}");
    }
}

#[tokio::test]
async fn bearer_is_preferred_where_both_are_offered() {
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => Response::ok(r#"{"token":"t"}"#),
        Some("Bearer t") => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ => Response::status(401, "")
            .header("WWW-Authenticate", "Negotiate, Basic realm=\"x\"")
            .header("WWW-Authenticate", format!("Bearer realm=\"{}\"", ctx.url("/token"))),
    });
    let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
    repository(&net, &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(server.journal().len(), 3);
}

#[tokio::test]
async fn a_login_for_one_host_is_not_sent_to_another() {
    let (mine, other) = (bearer("ann"), bearer("ann"));
    let net = with_login(&mine.host(), "ann", CANARY).build().unwrap();
    pull(&net, &mine).await.unwrap();
    assert_eq!(pull(&net, &other).await.unwrap_err().kind(), NetErrorKind::Unauthorized);
    assert!(!other.journal().contains(CANARY) && !other.journal().contains("token-1"));
}

#[tokio::test]
async fn no_secret_stands_in_errors_or_debug() {
    let registry = bearer("ann");
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    pull(&net, &registry).await.unwrap();
    registry.lie(Lie::status(Part::All, 500));
    let error = pull_layer(&net, &registry).await.unwrap_err();
    for shown in [
        format!("{net:?}"),
        format!("{error:?}"),
        error.to_string(),
        format!("{:?}", repository(&net, &registry.reference())),
    ] {
        assert!(!shown.contains(CANARY) && !shown.contains("token-1"), "{shown}");
    }
}

/// Words of a server around what it was sent, in every shape errors have; the third is cut in the middle of the secret.
fn echoes(status: u16, secret: &str) -> Vec<Response> {
    let long = format!("{}{secret} is wrong", "x".repeat(greentic_dist_types::limits::SHOWN_CHARS - 17));
    let json = |text: &str| Response::status(status, text.to_owned()).header("Content-Type", "application/json");
    vec![
        Response::oci_error(status, "DENIED", &format!("not with {secret}")),
        Response::status(status, format!("not with {secret}")),
        Response::status(status, long),
        Response::oci_error(status, secret, ""),
        json(&format!(r#"{{"errors":[{{"code":"DENIED","detail":"{secret}"}}]}}"#)),
        json(&format!(r#"{{"details":"not with {secret}"}}"#)),
        json(&format!(r#"{{"error_description":"not with \u00{:x}{}"}}"#, secret.as_bytes()[0], &secret[1..])),
    ]
}

/// No part of what may have been sent is in an error.
fn assert_blank(error: &NetError, secrets: &[&str]) {
    let shown = format!("{error} {error:?} {:?}", error.hints());
    for secret in secrets {
        assert!(!shown.contains(&secret[..6]), "{shown}");
    }
}

/// What one server of a test repeats: its own header, the part behind the scheme, or the password.
fn heard(request: &Request, what: usize) -> Option<String> {
    let value = request.header("authorization")?.to_owned();
    match what {
        0 => Some(value),
        1 => Some(value.split_once(' ')?.1.to_owned()),
        _ => Some(CANARY.to_owned()),
    }
}

const ANN: &str = "YW5uOmNhbmFyeS01ZjFk";

#[tokio::test]
async fn a_login_that_a_token_server_repeats_is_not_shown() {
    for what in 0..3 {
        for shape in 0..7 {
            let server = LyingServer::start(move |request, ctx| match request.path.as_str() {
                "/token" => heard(request, what)
                    .map_or(Response::status(500, "no login"), |said| echoes(403, &said).swap_remove(shape)),
                _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
            });
            let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
            let repository = repository(&net, &format!("{}/acme/hello", server.host()));
            let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
            assert_eq!(error.status(), Some(403));
            assert!(error.to_string().contains("[redacted]"), "{error}");
            assert_eq!(server.journal().authorization_of(1), Some(format!("Basic {ANN}")));
            assert_blank(&error, &[CANARY, ANN]);
        }
    }
}

#[tokio::test]
async fn a_login_that_a_registry_repeats_is_not_shown() {
    const TOKEN: &str = "t0ken-canary-77";
    let basic = Credential::Basic { username: "ann".into(), password: CANARY.into() };
    // A password at a registry, a bearer token of the user, and a password behind a token.
    for (bearer, login) in [(false, basic.clone()), (true, Credential::Bearer(TOKEN.into())), (true, basic)] {
        for what in 0..3 {
            for shape in 0..7 {
                let server = LyingServer::start(move |request, ctx| match request.path.as_str() {
                    "/token" => Response::ok(format!(r#"{{"token":"{TOKEN}"}}"#)),
                    _ => match heard(request, what) {
                        Some(said) => echoes(409, &said).swap_remove(shape),
                        None if bearer => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
                        None => Response::basic_challenge("r"),
                    },
                });
                let logins = StaticCredentials::new().with(&server.host(), login.clone());
                let net = quick().credentials(Arc::new(logins)).build().unwrap();
                let repository = repository(&net, &format!("{}/acme/hello", server.host()));
                let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
                assert_eq!(error.status(), Some(409));
                assert_blank(&error, &[TOKEN, ANN]);
                if !matches!(login, Credential::Bearer(_)) {
                    assert_blank(&error, &[CANARY]);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_login_in_a_warning_or_in_a_redirect_is_not_shown() {
    let artifact = fixture::component();
    let server = LyingServer::start(move |request, _| {
        let Some(said) = heard(request, 1) else { return Response::basic_challenge("r") };
        match request.path.as_str() {
            "/v2/acme/hello/manifests/away" => {
                Response::redirect(307, format!("http://10.0.0.1/{said}?password={CANARY}"))
            }
            "/v2/acme/hello/manifests/here" => Response::redirect(307, format!("/elsewhere/{said}/{CANARY}")),
            "/v2/acme/hello/manifests/odd" => Response::ok("x").header("Content-Encoding", said),
            "/v2/acme/hello/manifests/1" => Response::ok(artifact.manifest_bytes.clone())
                .header("Content-Type", fixture::MANIFEST_TYPE)
                .header("Warning", format!("299 - \"do not send {said} or {CANARY}\"")),
            _ => Response::status(404, ""),
        }
    });
    let recorder = Arc::new(Recorder::default());
    let net = with_login(&server.host(), "ann", CANARY).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    for tag in ["away", "here", "odd"] {
        let error = repository.manifest(Selector::Tag(tag)).await.unwrap_err();
        assert_blank(&error, &[CANARY, ANN]);
    }
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(recorder.lines(), ["warning do not send [redacted] or [redacted]"]);
}
