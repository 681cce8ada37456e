//! The quirks of registries and token servers around logins, by the numbers of the project's list of them (A01 to A27). The
//! ones about files and helpers are tested where those are read, in the client.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{
    BoxFuture, Credential, CredentialAnswer, CredentialSource, CredentialTarget, HostConfig, HostEndpoint, HttpRule,
    Login, Net, NetError, NetErrorKind, PushedBlob, Selector, StaticCredentials, TargetPolicy, Timeouts,
};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::real::{DockerRegistry, DockerRegistryConfig, RegistryAuth, TokenServer, ready};
use greentic_dist_testkit::scenario::{Auth, Lie, Scenario};
use greentic_dist_testkit::trace::{Recording, Trace};
use greentic_dist_testkit::{Ctx, Journal, LyingServer, Request, Response};
use greentic_dist_types::Digest;
use tokio::time::Instant;

use crate::push::{source, with_blobs};
use crate::support::{Recorder, layer_of, net, quick, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, whole};

const CANARY: &str = "canary-5f1d";
/// `ann` with it, as `Basic` has it.
const CANARY_AS_BASIC: &str = "YW5uOmNhbmFyeS01ZjFk";

fn manifest() -> Response {
    Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE)
}

fn json(text: impl Into<String>) -> Response {
    Response::ok(text.into()).header("Content-Type", "application/json")
}

fn token(text: &str) -> Response {
    json(format!(r#"{{"token":"{text}","expires_in":300}}"#))
}

/// A registry that wants the bearer token `t`, and a token server at `/token` that answers as told.
fn registry(tokens: impl Fn(&Request) -> Response + Send + Sync + 'static) -> LyingServer {
    registry_with("", tokens)
}

/// The same, with a scope in its challenge.
fn registry_with(scope: &'static str, tokens: impl Fn(&Request) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(move |request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => tokens(request),
        Some("Bearer t") => manifest(),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", scope),
    })
}

/// Pulls a manifest. Neither the failure nor what is shown of the client and the repository holds a login.
async fn pull_from(net: &Net, server: &LyingServer) -> Result<(), NetError> {
    let repository = repository(net, &format!("{}/acme/hello", server.host()));
    let result = repository.manifest(Selector::Tag("1")).await.map(drop);
    clean(&format!("{net:?} {repository:?} {result:?}"));
    result.inspect_err(|error| clean(&told(error)))
}

#[track_caller]
fn clean(text: &str) {
    assert!(!text.contains(CANARY) && !text.contains(CANARY_AS_BASIC), "{text}");
}

/// Watches a test: nothing of its login gets into the log, nor to a host that it is not for and that asks for it.
struct Watched {
    trace: Trace,
    _recording: Recording,
    curious: LyingServer,
}

impl Watched {
    fn new() -> Self {
        let trace = Trace::new();
        let recording = trace.record();
        let curious =
            LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| Response::basic_challenge("r"));
        Self { trace, _recording: recording, curious }
    }

    /// Pulls with the login for this server, and then asks the curious one with the same client.
    async fn pull(&self, server: &LyingServer) -> Result<(), NetError> {
        let net = explicit(server, basic());
        let result = pull_from(&net, server).await;
        self.ask_elsewhere(&net).await;
        result
    }

    async fn ask_elsewhere(&self, net: &Net) {
        self.curious.journal().clear();
        let error = pull_from(net, &self.curious).await.unwrap_err();
        assert_eq!((error.kind(), self.curious.journal().len()), (NetErrorKind::Unauthorized, 1), "{error}");
        assert!(!self.curious.journal().contains(CANARY), "{:?}", self.curious.journal().entries());
        assert_eq!(self.curious.journal().authorization_of(0), None);
    }

    /// The end of the test. The crate writes no file that could hold anything.
    fn end(self) {
        let log = self.trace.text();
        assert!(log.contains("oci.request"), "nothing was logged at all");
        clean(&log);
    }
}

fn basic() -> Credential {
    Credential::Basic { username: "ann".into(), password: CANARY.into() }
}

fn explicit(server: &LyingServer, credential: Credential) -> Net {
    let logins = StaticCredentials::new().with(&server.host(), credential);
    quick().credentials(Arc::new(logins)).build().unwrap()
}

/// A login that was found on the machine, and what was asked of it.
#[derive(Debug, Default)]
struct Found {
    logins: Mutex<Vec<Login>>,
    asked: AtomicUsize,
    rejected: AtomicUsize,
    remark: Option<&'static str>,
}

impl Found {
    fn new(logins: Vec<Login>) -> Arc<Self> {
        Arc::new(Self { logins: Mutex::new(logins), ..Self::default() })
    }

    fn one(credential: Credential) -> Arc<Self> {
        Self::new(vec![Login::ambient(credential, "a file")])
    }

    fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::SeqCst), self.rejected.load(Ordering::SeqCst))
    }
}

impl CredentialSource for Found {
    /// The logins one after another; the last one for ever.
    fn credential<'a>(&'a self, _: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut logins = self.logins.lock().unwrap();
        let login = if logins.len() > 1 { Some(logins.remove(0)) } else { logins.first().cloned() };
        let mut answer = CredentialAnswer::from(login);
        if let Some(remark) = self.remark {
            answer = answer.with_remark(remark);
        }
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn reject(&self, _: &CredentialTarget, _: &Login) {
        self.rejected.fetch_add(1, Ordering::SeqCst);
    }
}

fn ambient(source: &Arc<Found>) -> Net {
    quick().credentials(Arc::<Found>::clone(source)).build().unwrap()
}

const MANIFEST: &str = "GET /v2/acme/hello/manifests/1";
const TOKEN: &str = "GET /token?service=s&scope=repository%3Aacme%2Fhello%3Apull";

fn form(journal: &Journal, index: usize) -> String {
    String::from_utf8(journal.entries()[index].body.clone()).unwrap()
}

/// What a person sees of an error: itself, its causes and its hints.
fn told(error: &NetError) -> String {
    let mut text = format!("{error} {:?}", error.hints());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text} / {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn quirk_a01_both_names_of_a_token_are_read_and_the_newer_one_is_preferred() {
    let watched = Watched::new();
    for body in [
        r#"{"token":"t"}"#,
        r#"{"access_token":"t"}"#,
        r#"{"token":"old","access_token":"t"}"#,
        r#"{"token":"t","access_token":""}"#,
        r#"{"token":"t","access_token":null}"#,
    ] {
        let server = registry(move |_| json(body));
        watched.pull(&server).await.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, MANIFEST], "{body}");
    }
    for body in [r#"{"token":""}"#, r#"{"token":"","access_token":""}"#, "{}"] {
        let server = registry(move |_| json(body));
        let error = watched.pull(&server).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unauthorized, "{body}");
        assert!(error.to_string().contains(&format!("{}/token", server.url())), "the realm is named: {error}");
        assert_eq!(server.journal().lines(), [MANIFEST, TOKEN], "{body}");
    }
    watched.end();
}

/// Lets time pass without waiting for it.
async fn after(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn quirk_a02_a_token_is_used_for_its_life_and_for_a_minute_where_that_makes_no_sense() {
    let watched = Watched::new();
    let in_the_past = "2001-01-01T00:00:00Z";
    let in_the_future = "2999-01-01T00:00:00Z";
    for (body, stays, goes) in [
        (r#"{"token":"t"}"#.to_owned(), 50, 56),
        (r#"{"token":"t","expires_in":0}"#.to_owned(), 50, 56),
        (r#"{"token":"t","expires_in":5}"#.to_owned(), 50, 56),
        (r#"{"token":"t","expires_in":1000}"#.to_owned(), 890, 901),
        (r#"{"token":"t","expires_in":9999999999}"#.to_owned(), 77_000, 78_000),
        (format!(r#"{{"token":"t","expires_in":1000,"issued_at":"{in_the_past}"}}"#), 890, 901),
        (format!(r#"{{"token":"t","expires_in":1000,"issued_at":"{in_the_future}"}}"#), 890, 901),
    ] {
        let answer = body.clone();
        let server = registry(move |_| json(answer.clone()));
        let net = explicit(&server, basic());
        pull_from(&net, &server).await.unwrap();
        assert_eq!(server.journal().len(), 3);
        after(stays).await;
        pull_from(&net, &server).await.unwrap();
        assert_eq!(server.journal().lines()[3..], [MANIFEST], "after {stays} s: {body}");
        after(goes - stays).await;
        pull_from(&net, &server).await.unwrap();
        assert_eq!(server.journal().lines()[4..], [TOKEN, MANIFEST], "after {goes} s: {body}");
        watched.ask_elsewhere(&net).await;
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a03_the_placeholder_scope_of_the_base_is_never_asked_for() {
    let watched = Watched::new();
    // Nothing is said about a repository without a login, so the challenge is asked for at the base, as GHCR gives it.
    let server = LyingServer::start(|request, ctx| match (request.path.as_str(), request.header("authorization")) {
        ("/token", _) => token("t"),
        ("/v2/", _) => Response::bearer_challenge(&ctx.url("/token"), "s", "repository:user/image:pull"),
        (_, Some("Bearer t")) => manifest(),
        _ => Response::oci_error(404, "NAME_UNKNOWN", "no such repository"),
    });
    watched.pull(&server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, "GET /v2/", TOKEN, MANIFEST]);
    watched.end();
}

#[tokio::test]
async fn quirk_a04_a_challenge_without_a_scope_is_answered_with_the_one_the_request_needs() {
    let watched = Watched::new();
    let server = LyingServer::start(|request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => token("t"),
        Some("Bearer t") => manifest(),
        _ => Response::status(401, "")
            .header("WWW-Authenticate", format!("Bearer realm=\"{}\",service=\"s\"", ctx.url("/token"))),
    });
    watched.pull(&server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, MANIFEST]);
    watched.end();
}

#[tokio::test]
async fn quirk_a05_what_was_demanded_comes_first_and_is_one_parameter_in_a_get_and_one_value_in_a_post() {
    let scope = "repository:upstream/acme/hello:pull";
    let server = registry_with(scope, |_| token("t"));
    pull_from(&net(), &server).await.unwrap();
    let get = "GET /token?service=s&scope=repository%3Aupstream%2Facme%2Fhello%3Apull\
               &scope=repository%3Aacme%2Fhello%3Apull";
    assert_eq!(server.journal().lines(), [MANIFEST, get, MANIFEST]);

    let server = registry_with(scope, |_| token("t"));
    pull_from(&explicit(&server, Credential::IdentityToken(CANARY.into())), &server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, "POST /token", MANIFEST]);
    let form = form(&server.journal(), 1);
    assert!(
        form.ends_with("&scope=repository%3Aupstream%2Facme%2Fhello%3Apull+repository%3Aacme%2Fhello%3Apull"),
        "{form}"
    );
}

#[tokio::test]
async fn quirk_a06_challenges_are_read_as_the_grammar_has_them() {
    let watched = Watched::new();
    for challenge in [
        r#"Bearer realm="REALM",service="s",scope="repository:acme/hello:pull,push""#,
        r#"bEARER Realm="REALM" , Service=s"#,
        r"Bearer realm=REALM,service=s",
        r#"Bearer service="\s",realm="REALM""#,
        r#"Bearer scope="a,b=\"c\", Basic realm=x",realm="REALM",service="s""#,
    ] {
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            _ if request.path == "/token" => token("t"),
            Some("Bearer t") => manifest(),
            _ => Response::status(401, "").header("WWW-Authenticate", challenge.replace("REALM", &ctx.url("/token"))),
        });
        watched.pull(&server).await.unwrap_or_else(|error| panic!("{challenge}: {error}"));
        let lines = server.journal().lines();
        assert_eq!((lines.len(), &*lines[0], &*lines[2]), (3, MANIFEST, MANIFEST), "{challenge}");
        assert!(lines[1].starts_with("GET /token?service=s&scope="), "{challenge}: {lines:?}");
        assert!(lines[1].ends_with("scope=repository%3Aacme%2Fhello%3Apull"), "{challenge}: {lines:?}");
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a07_of_several_challenges_bearer_is_answered_then_basic_and_no_other() {
    let watched = Watched::new();
    let bearer = r#"Bearer realm="REALM",service="s""#;
    for (fields, asks_for_a_token) in [
        (vec!["Negotiate", bearer], true),
        (vec![r#"Basic realm="x", Bearer realm="REALM",service="s""#], true),
        (vec![r#"Basic realm="x""#, "Negotiate, NTLM", bearer], true),
        (vec!["Negotiate", r#"Basic realm="x""#], false),
        (vec![r#"Negotiate YWJj==, Basic realm="x", Digest qop="auth""#], false),
        (vec!["Bearer service=\"no realm\"", r#"Basic realm="x""#], false),
    ] {
        let for_server = fields.clone();
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            _ if request.path == "/token" => token("t"),
            Some(sent) if sent == "Bearer t" || sent.starts_with("Basic ") => manifest(),
            _ => for_server.iter().fold(Response::status(401, ""), |response, field| {
                response.header("WWW-Authenticate", field.replace("REALM", &ctx.url("/token")))
            }),
        });
        watched.pull(&server).await.unwrap();
        let expected = if asks_for_a_token { vec![MANIFEST, TOKEN, MANIFEST] } else { vec![MANIFEST, MANIFEST] };
        assert_eq!(server.journal().lines(), expected, "{fields:?}");
        // The password goes to the server that wants it: the token server's, or the registry itself.
        let at_registry = server.journal().authorization_of(expected.len() - 1).unwrap();
        assert_eq!(at_registry.starts_with("Basic "), !asks_for_a_token, "{fields:?}");
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a08_a_token_server_without_oauth2_gets_the_password_as_basic_and_the_other_way_round() {
    // Asked by OAuth2 first, as GCR, Artifactory, ACR and Harbor refuse it.
    for status in [404, 401, 400, 405] {
        let server = registry(move |request| match request.method.as_str() {
            "POST" => Response::status(status, "no OAuth2 here"),
            _ if request.header("authorization").is_some() => token("t"),
            _ => Response::status(401, ""),
        });
        let logins = StaticCredentials::new().with(&server.host(), basic());
        let net = quick().credentials(Arc::new(logins)).oauth2_passwords(true).build().unwrap();
        pull_from(&net, &server).await.unwrap();
        assert_eq!(server.journal().lines(), [MANIFEST, "POST /token", TOKEN, MANIFEST], "{status}");
        assert_eq!(
            form(&server.journal(), 1),
            "grant_type=password&username=ann&password=canary-5f1d&client_id=greentic-dist&service=s\
             &scope=repository%3Aacme%2Fhello%3Apull"
        );
        // And it is not posted again to this registry.
        server.journal().clear();
        let other = repository(&net, &format!("{}/acme/other", server.host()));
        other.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(server.journal().count("POST", "/"), 0, "{status}");
    }
    // Other failures of the token server are no reason to send the password once more.
    let server = registry(|_| Response::oci_error(403, "DENIED", "blocked"));
    let logins = StaticCredentials::new().with(&server.host(), basic());
    let net = quick().credentials(Arc::new(logins)).oauth2_passwords(true).build().unwrap();
    assert_eq!(pull_from(&net, &server).await.unwrap_err().kind(), NetErrorKind::Forbidden);
    assert_eq!(server.journal().count("GET", "/token"), 0);

    // Asked as ever, by a server that knows OAuth2 alone.
    for status in [404, 405] {
        let server = registry(move |request| match request.method.as_str() {
            "POST" => token("t"),
            _ => Response::status(status, "OAuth2 only"),
        });
        pull_from(&explicit(&server, basic()), &server).await.unwrap();
        assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, "POST /token", MANIFEST], "{status}");
    }
}

#[tokio::test]
async fn quirk_a08_an_identity_token_is_sent_as_basic_only_where_oauth2_is_unknown() {
    for status in [404, 405] {
        let server = registry(move |request| match request.method.as_str() {
            "POST" => Response::status(status, ""),
            _ => token("t"),
        });
        pull_from(&explicit(&server, Credential::IdentityToken(CANARY.into())), &server).await.unwrap();
        assert_eq!(server.journal().lines(), [MANIFEST, "POST /token", TOKEN, MANIFEST], "{status}");
    }
    for status in [400, 401] {
        let server = registry(move |_| Response::status(status, r#"{"error":"invalid_grant"}"#));
        let net = explicit(&server, Credential::IdentityToken(CANARY.into()));
        let error = pull_from(&net, &server).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Unauthorized, Some(status)));
        assert_eq!(server.journal().lines(), [MANIFEST, "POST /token"], "{status}");
        assert!(!told(&error).contains(CANARY) && !format!("{error:?}").contains(CANARY));
    }
}

#[tokio::test]
async fn quirk_a09_an_identity_token_is_exchanged_and_the_refresh_token_of_the_session_is_kept() {
    let server = LyingServer::start(|request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            if form.contains("refresh_token=once-5f1d") {
                return Response::status(400, r#"{"error":"invalid_grant"}"#);
            }
            let next = if form.contains(CANARY) { "session-5f1d" } else { "once-5f1d" };
            json(format!(r#"{{"access_token":"t","refresh_token":"{next}"}}"#))
        }
        Some("Bearer t") => manifest(),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    });
    let net = explicit(&server, Credential::IdentityToken(CANARY.into()));
    pull_from(&net, &server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, "POST /token", MANIFEST]);
    assert_eq!(
        form(&server.journal(), 1),
        "grant_type=refresh_token&refresh_token=canary-5f1d&client_id=greentic-dist&service=s\
         &scope=repository%3Aacme%2Fhello%3Apull"
    );
    assert_eq!(server.journal().authorization_of(1), None, "the token is in the body alone");
    assert!(!server.journal().any_header_contains(CANARY), "the registry never sees it");

    // Another repository: the token server gave a newer refresh token, which is used.
    let other = |name: &str| repository(&net, &format!("{}/acme/{name}", server.host()));
    other("two").manifest(Selector::Tag("1")).await.unwrap();
    assert!(form(&server.journal(), 3).contains("refresh_token=session-5f1d"));
    // And when that one is no longer good, the user's own is.
    other("three").manifest(Selector::Tag("1")).await.unwrap();
    assert!(form(&server.journal(), 5).contains("refresh_token=once-5f1d"));
    assert!(form(&server.journal(), 6).contains("refresh_token=canary-5f1d"));
    assert_eq!(server.journal().len(), 8);
    let shown = format!("{net:?} {:?}", other("two"));
    assert!(!shown.contains("5f1d"), "{shown}");
}

#[tokio::test]
async fn quirk_a10_a_bearer_token_of_the_user_is_sent_without_an_exchange() {
    let server = registry(|_| Response::status(500, "nobody should ask"));
    pull_from(&explicit(&server, Credential::Bearer("t".into())), &server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, MANIFEST]);
    // One that is refused is not exchanged either.
    let server = registry(|_| token("t"));
    let error = pull_from(&explicit(&server, Credential::Bearer(CANARY.into())), &server).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert_eq!(server.journal().lines(), [MANIFEST, MANIFEST]);
    assert!(!told(&error).contains(CANARY));
}

#[tokio::test]
async fn quirk_a11_a_realm_may_be_relative_have_a_port_and_a_query_of_its_own() {
    let watched = Watched::new();
    let scope = "service=s&scope=repository%3Aacme%2Fhello%3Apull";
    for (realm, target) in [
        ("/auth/token", format!("/auth/token?{scope}")),
        ("token", format!("/v2/acme/hello/manifests/token?{scope}")),
        ("../../../../t?account=x&y", format!("/t?account=x&y&{scope}")),
        ("http://127.0.0.1:PORT/t?client=a%26b#frag", format!("/t?client=a%26b&{scope}")),
    ] {
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            Some("Bearer t") => manifest(),
            _ if request.path == "/v2/acme/hello/manifests/1" => {
                let realm = realm.replace("PORT", &ctx.addr().port().to_string());
                Response::bearer_challenge(&realm, "s", "")
            }
            _ => token("t"),
        });
        watched.pull(&server).await.unwrap_or_else(|error| panic!("{realm}: {error}"));
        assert_eq!(server.journal().lines(), [MANIFEST, &format!("GET {target}"), MANIFEST], "{realm}");
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a12_a_token_that_expires_in_the_middle_of_a_download_is_replaced_and_the_request_repeated() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(9, 100_000));
    let registry =
        Scenario::new(artifact).auth(Auth::bearer("ann", CANARY)).lie(Lie::CutBlob { after: 40_000, times: 1 }).start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let repository = repository(&net, &registry.reference());
    let mut stream = repository.blob(&layer_of(registry.artifact())).open().await.unwrap();
    let mut all = stream.next().await.unwrap().unwrap().to_vec();
    registry.expire_tokens();
    all.extend(read(stream).await.unwrap());
    assert!(all == registry.artifact().layer_bytes());
    let seen: Vec<_> =
        registry.journal().entries().iter().map(|entry| (entry.path.contains("/blobs/"), entry.status)).collect();
    let (blob, token) = (true, false);
    assert_eq!(seen, [(blob, 401), (token, 200), (blob, 200), (blob, 401), (token, 200), (blob, 206)]);
}

#[tokio::test]
async fn quirk_a13_an_insufficient_scope_is_asked_for_once_and_then_the_refusal_is_told() {
    let watched = Watched::new();
    let wide = "GET /token?service=s&scope=repository%3Aacme%2Fhello%3Apush%2Cpull";
    for grants in [true, false] {
        let server = LyingServer::start(move |request, ctx| {
            let asks_wide = request.target.contains("push");
            match request.header("authorization") {
                _ if request.path == "/token" => token(if asks_wide { "wide" } else { "narrow" }),
                Some("Bearer wide") if grants => manifest(),
                Some(_) => Response::oci_error(401, "DENIED", "this repository wants to be written to").header(
                    "WWW-Authenticate",
                    format!(
                        r#"Bearer realm="{}",service="s",scope="repository:acme/hello:push",error="insufficient_scope""#,
                        ctx.url("/token")
                    ),
                ),
                None => Response::bearer_challenge(&ctx.url("/token"), "s", "repository:acme/hello:pull"),
            }
        });
        let result = watched.pull(&server).await;
        assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, MANIFEST, wide, MANIFEST], "{grants}");
        if grants {
            result.unwrap();
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), NetErrorKind::Unauthorized);
            assert!(error.to_string().contains("this repository wants to be written to"), "{error}");
        }
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a13_a_token_called_invalid_is_replaced_once_and_the_words_of_the_challenge_are_told() {
    let watched = Watched::new();
    let server = LyingServer::start(|request, ctx| {
        match request.header("authorization") {
        _ if request.path == "/token" => token("token-5f1d"),
        Some(_) => Response::status(401, "").header(
            "WWW-Authenticate",
            format!(
                r#"Bearer realm="{}",service="s",error="invalid_token",error_description="signed by token-5f1d nobody knows""#,
                ctx.url("/token")
            ),
        ),
        None => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    }
    });
    let net = explicit(&server, basic());
    let error = pull_from(&net, &server).await.unwrap_err();
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, MANIFEST, TOKEN, MANIFEST]);
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Unauthorized, Some(401)));
    assert!(error.to_string().contains("invalid_token: signed by [redacted] nobody knows"), "{error}");
    // A token that was there before is replaced by the same rule: once.
    server.journal().clear();
    pull_from(&net, &server).await.unwrap_err();
    assert_eq!(server.journal().lines(), [TOKEN, MANIFEST, TOKEN, MANIFEST]);
    watched.ask_elsewhere(&net).await;
    watched.end();
}

#[tokio::test]
async fn quirk_a14_a_404_without_a_challenge_is_tried_once_with_a_login_that_was_not_sent_yet() {
    // Private repositories look as if they did not exist, and only the base says what is wanted.
    let hidden = |scheme: &'static str| {
        LyingServer::start(move |request, ctx| match (request.path.as_str(), request.header("authorization")) {
            ("/token", Some(_)) => token("t"),
            ("/v2/acme/hello/manifests/1", Some(sent)) if sent == "Bearer t" || scheme == "basic" => manifest(),
            ("/v2/", None) if scheme == "basic" => Response::basic_challenge("r"),
            ("/v2/", None) if scheme == "bearer" => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
            ("/v2/", _) => Response::ok("{}"),
            _ => Response::oci_error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        })
    };
    for (scheme, lines) in
        [("bearer", vec![MANIFEST, "GET /v2/", TOKEN, MANIFEST]), ("basic", vec![MANIFEST, "GET /v2/", MANIFEST])]
    {
        let server = hidden(scheme);
        pull_from(&ambient(&Found::one(basic())), &server).await.unwrap();
        assert_eq!(server.journal().lines(), lines, "{scheme}");
    }
    // Where the base wants nothing, nothing is sent, and it is asked only once.
    let server = hidden("open");
    let net = ambient(&Found::one(basic()));
    for lines in [vec![MANIFEST, "GET /v2/"], vec![MANIFEST, "GET /v2/", MANIFEST]] {
        let error = pull_from(&net, &server).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::NotFound, Some(404)));
        assert_eq!(server.journal().lines(), lines);
    }
    assert!(!server.journal().contains(CANARY));
    // And without a login there is nothing to try.
    let server = hidden("bearer");
    pull_from(&crate::support::net(), &server).await.unwrap_err();
    assert_eq!(server.journal().lines(), [MANIFEST]);
}

#[tokio::test]
async fn quirk_a14_not_found_and_no_access_are_told_together_and_never_tried_in_a_circle() {
    for (status, code) in [(404, "NAME_UNKNOWN"), (403, "DENIED")] {
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            _ if request.path == "/token" => token("t"),
            Some(_) => Response::oci_error(status, code, "go away"),
            None => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        });
        let kind = if status == 404 { NetErrorKind::NotFound } else { NetErrorKind::Forbidden };
        for (net, both) in [
            (ambient(&Found::one(basic())), "does not exist, or the login from a file may not see it"),
            (net(), "does not exist, or a login is needed"),
        ] {
            server.journal().clear();
            let error = pull_from(&net, &server).await.unwrap_err();
            assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, MANIFEST], "{status}");
            assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
            assert!(told(&error).contains("go away") && !told(&error).contains(CANARY), "{}", told(&error));
            assert_eq!(told(&error).contains(both), status == 404, "{}", told(&error));
        }
    }
}

fn stale(open: bool) -> LyingServer {
    LyingServer::start(move |request, ctx| match (request.path.as_str(), request.header("authorization")) {
        ("/token", Some(_)) => Response::oci_error(403, "DENIED", "denied: the token has expired"),
        ("/token", None) if open => token("t"),
        ("/token", None) => Response::oci_error(401, "UNAUTHORIZED", "authentication required"),
        (_, Some("Bearer t")) => manifest(),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    })
}

#[tokio::test]
async fn quirk_a15_a_stale_login_that_was_only_found_does_not_break_public_pulls() {
    let server = stale(true);
    let (source, recorder) = (Found::one(basic()), Arc::new(Recorder::default()));
    let net =
        quick().credentials(Arc::<Found>::clone(&source)).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    pull_from(&net, &server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, TOKEN, MANIFEST]);
    let sent: Vec<bool> = (0..4).map(|index| server.journal().authorization_of(index).is_some()).collect();
    assert_eq!(sent, [false, true, false, true]);
    let warnings = recorder.lines();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("the login from a file was rejected") && warnings[0].contains("has expired"));
    assert!(!warnings[0].contains(CANARY));
    assert_eq!(source.counts(), (2, 1), "asked, told of the rejection, asked once more");
    // From then on the login is not sent again.
    server.journal().clear();
    pull_from(&net, &server).await.unwrap();
    assert_eq!(server.journal().lines(), [MANIFEST]);
}

#[tokio::test]
async fn quirk_a15_when_it_fails_without_the_login_too_both_attempts_are_told() {
    let server = stale(false);
    let error = pull_from(&ambient(&Found::one(basic())), &server).await.unwrap_err();
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, TOKEN]);
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Unauthorized, Some(401)));
    let text = told(&error);
    assert!(text.contains("authentication required"), "{text}");
    assert!(text.contains("the login from a file was rejected before"), "{text}");
    assert!(text.contains("the token has expired"), "{text}");
    assert!(!text.contains(CANARY) && !format!("{error:?}").contains(CANARY));
}

/// Everything a caller or a person can be shown of a failure and what led to it.
fn everything(error: &NetError, recorder: &Recorder) -> String {
    format!("{} {error:?} {:?} {:?}", told(error), error.hints(), recorder.lines())
}

#[tokio::test]
async fn quirk_a15_a_login_is_not_shown_by_the_answer_to_the_try_without_it() {
    for login in [basic(), Credential::IdentityToken(CANARY.into())] {
        for status in [400, 401, 403] {
            // The same words to both of them, the second of which has no login with it.
            let server = registry(move |_| Response::oci_error(status, "DENIED", &format!("who is {CANARY}?")));
            let recorder = Arc::new(Recorder::default());
            let found = Found::one(login.clone());
            let net = quick().credentials(found).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
            let error = pull_from(&net, &server).await.unwrap_err();
            assert_eq!(error.status(), Some(status), "{error}");
            let text = everything(&error, &recorder);
            assert!(text.contains("who is [redacted]?") && !text.contains(CANARY), "{text}");
        }
    }
}

#[tokio::test]
async fn quirk_a15_what_a_token_server_was_sent_is_not_shown_by_its_registry() {
    type Answer = fn(&str) -> Response;
    let answers: [(&str, Answer); 5] = [
        ("body", |canary| Response::oci_error(404, "DENIED", canary)),
        ("warning", |canary| manifest().header("Warning", format!("299 - \"{canary}\""))),
        ("redirect", |canary| Response::status(307, "").header("Location", format!("http://127.0.0.1:9/{canary}"))),
        ("address", |canary| Response::status(307, "").header("Location", format!("ftp://host/{canary}"))),
        ("encoding", |canary| manifest().header("Content-Encoding", canary)),
    ];
    for (what, answer) in answers {
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            _ if request.path == "/token" => token("t"),
            Some("Bearer t") => answer(CANARY),
            _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        });
        let recorder = Arc::new(Recorder::default());
        let logins = StaticCredentials::new().with(&server.host(), basic());
        let net = quick().credentials(Arc::new(logins)).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
        let text = match pull_from(&net, &server).await {
            Ok(()) => format!("{:?}", recorder.lines()),
            Err(error) => everything(&error, &recorder),
        };
        assert!(!text.contains(CANARY), "{what}: {text}");
        assert_eq!(text.contains("[redacted]"), what != "address", "{what}: {text}");
    }
}

#[tokio::test]
async fn a_failure_of_the_token_server_is_not_tried_again_by_the_request_that_needs_the_token() {
    let server = registry(|_| Response::status(500, ""));
    let error = pull_from(&explicit(&server, basic()), &server).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (NetErrorKind::Server, Some(500), 5));
    assert!(error.is_transient());
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, TOKEN, TOKEN, TOKEN, TOKEN]);
    let mut hints = error.hints();
    let all = hints.len();
    hints.dedup();
    assert_eq!(hints.len(), all, "{hints:?}");
}

#[tokio::test]
async fn a_token_server_that_says_nothing_is_asked_as_often_as_any_other() {
    let server = registry(|_| Response::silence());
    let timeouts = Timeouts { token: Duration::from_millis(200), ..Timeouts::default() };
    let net = quick().timeouts(timeouts).build().unwrap();
    let error = pull_from(&net, &server).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (NetErrorKind::Timeout, true), "{error}");
    assert_eq!(error.attempts(), 5);
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN, TOKEN, TOKEN, TOKEN, TOKEN]);
}

#[tokio::test]
async fn one_token_takes_no_longer_than_six_answers_may() {
    let server = registry(|_| Response::status(429, "").header("Retry-After", "60"));
    let timeouts = Timeouts { token: Duration::from_millis(100), ..Timeouts::default() };
    let net = quick().timeouts(timeouts).build().unwrap();
    let error = pull_from(&net, &server).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (NetErrorKind::Timeout, true), "{error}");
    assert!(error.to_string().contains("gave no token within 0.6 s"), "{error}");
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN]);
}

#[tokio::test]
async fn what_is_posted_to_a_token_server_is_posted_once() {
    for status in [429, 500, 503] {
        let server = registry(move |_| Response::status(status, ""));
        let net = explicit(&server, Credential::IdentityToken(CANARY.into()));
        let error = pull_from(&net, &server).await.unwrap_err();
        assert_eq!((error.status(), error.is_transient(), error.attempts()), (Some(status), true, 1), "{error}");
        assert_eq!(server.journal().lines(), [MANIFEST, "POST /token"]);
    }
    let server = registry(|_| Response::hang_up());
    let net = explicit(&server, Credential::IdentityToken(CANARY.into()));
    assert_eq!(pull_from(&net, &server).await.unwrap_err().kind(), NetErrorKind::Interrupted);
    assert_eq!(server.journal().lines(), [MANIFEST, "POST /token"]);
    // Where nobody listens nothing was sent.
    let gone = LyingServer::start(|_, _| Response::status(500, ""));
    let realm = format!("{}/token", gone.url());
    let host = gone.host();
    drop(gone);
    let server = LyingServer::start(move |_, _| Response::bearer_challenge(&realm, "s", ""));
    let logins = StaticCredentials::new().with(&server.host(), Credential::IdentityToken(CANARY.into()));
    let policy = TargetPolicy::new().trust_realm(server.host(), host);
    let net = quick().credentials(Arc::new(logins)).target_policy(policy).build().unwrap();
    let error = pull_from(&net, &server).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Connect, 2), "{error}");
    assert_eq!(server.journal().lines(), [MANIFEST]);
}

#[tokio::test]
async fn quirk_a15_a_login_that_was_chosen_is_never_passed_over() {
    let server = stale(true);
    let error = pull_from(&explicit(&server, basic()), &server).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Forbidden, Some(403)));
    assert_eq!(server.journal().lines(), [MANIFEST, TOKEN]);
    assert!(told(&error).contains("the token has expired"));
}

#[tokio::test]
async fn quirk_a16_what_a_source_could_not_do_is_told_when_the_request_fails_for_it() {
    let watched = Watched::new();
    let source = Arc::new(Found { remark: Some("the helper `docker-credential-x` is missing"), ..Found::default() });
    let server = LyingServer::start(|_, _| Response::basic_challenge("r"));
    let error = pull_from(&ambient(&source), &server).await.unwrap_err();
    assert_eq!((error.kind(), server.journal().len()), (NetErrorKind::Unauthorized, 1));
    assert!(error.hints().iter().any(|hint| hint.contains("docker-credential-x")), "{:?}", error.hints());
    // With a login that is of no use either.
    let logins = Mutex::new(vec![Login::ambient(basic(), "a file")]);
    let rejected = Arc::new(Found { logins, remark: source.remark, ..Found::default() });
    assert_eq!(pull_from(&ambient(&rejected), &server).await.unwrap_err().kind(), NetErrorKind::Unauthorized);
    assert!(server.journal().contains(CANARY));
    // Nobody hears of it where no login is needed after all.
    let server = registry(|_| token("t"));
    pull_from(&ambient(&source), &server).await.unwrap();
    watched.end();
}

#[tokio::test]
async fn quirk_a20_basic_is_sent_after_a_challenge_alone_and_in_clear_text_to_other_machines_only_when_allowed() {
    // What is not on loopback cannot be asked in a test; the rule itself stands beside the policy. Here: nothing is sent
    // unasked, and what was asked for is sent with every later request.
    let server = LyingServer::start(|request, _| match request.header("authorization") {
        Some("Basic YW5uOmNhbmFyeS01ZjFk") => manifest(),
        _ => Response::basic_challenge("r"),
    });
    let net = explicit(&server, basic());
    pull_from(&net, &server).await.unwrap();
    pull_from(&net, &server).await.unwrap();
    let sent: Vec<bool> = (0..3).map(|index| server.journal().authorization_of(index).is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

/// A registry with tokens whose token server says in the token what was asked for, and answers requests by that.
fn scoped(answer: impl Fn(&Request, &str) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(move |request, ctx| {
        if request.path == "/token" {
            let asked: Vec<_> =
                request.query.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| &**scope).collect();
            return token(&asked.join("+"));
        }
        match request.header("authorization").and_then(|sent| sent.strip_prefix("Bearer ")) {
            Some(granted) => answer(request, granted),
            None => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        }
    })
}

const PUSH_TO: &str = "GET /token?service=s&scope=repository%3Aacme%2Fto%3Apull%2Cpush";

#[tokio::test]
async fn quirk_a21_a_mount_is_asked_for_with_the_right_to_read_its_source_and_is_no_condition_for_a_push() {
    let watched = Watched::new();
    let bytes = b"mounted or sent";
    let digest = Digest::sha256(bytes);
    let push = async |server: &LyingServer| {
        let net = explicit(server, basic());
        let to = repository(&net, &format!("{}/acme/to", server.host()));
        let pushed = to.put_blob(source(bytes)).check_first(false).mount_from("acme/from").send().await.unwrap();
        watched.ask_elsewhere(&net).await;
        pushed
    };
    let start = "POST /v2/acme/to/blobs/uploads/";
    let mount = format!("{start}?mount={digest}&from=acme/from");
    let both = format!("{PUSH_TO}&scope=repository%3Aacme%2Ffrom%3Apull");

    let granting = scoped(|_, granted| {
        assert_eq!(granted, "repository:acme/to:pull,push+repository:acme/from:pull");
        Response::status(201, "")
    });
    assert_eq!(push(&granting).await, PushedBlob::Mounted);
    assert_eq!(granting.journal().lines(), [mount.clone(), both.clone(), mount.clone()]);

    // The source may not be read: the bytes are sent, with a token for the target alone.
    for status in [401, 403, 404] {
        let refusing = scoped(move |request, granted| match (request.method.as_str(), request.param("mount")) {
            ("POST", Some(_)) => Response::oci_error(status, "DENIED", "not yours"),
            ("POST", None) if granted == "repository:acme/to:pull,push" => {
                Response::status(202, "").header("Location", "/v2/acme/to/blobs/uploads/1")
            }
            ("PUT", None) if granted == "repository:acme/to:pull,push" => Response::status(201, ""),
            _ => Response::status(418, ""),
        });
        assert_eq!(push(&refusing).await, PushedBlob::Sent, "{status}");
        let lines = refusing.journal().lines();
        let (asked, sent) = lines.split_at(lines.len() - 3);
        assert_eq!(sent, [PUSH_TO, start, &format!("PUT /v2/acme/to/blobs/uploads/1?digest={digest}")], "{status}");
        assert_eq!(asked, [&*mount, &*both, &*mount], "{status}");
    }
    // The same when it is the token server that says so.
    let refusing =
        LyingServer::start(|request, ctx| match (request.method.as_str(), request.header("authorization")) {
            _ if request.path == "/token" && request.target.contains("from") => {
                Response::oci_error(403, "DENIED", "not yours")
            }
            _ if request.path == "/token" => token("t"),
            ("POST", Some("Bearer t")) => Response::status(202, "").header("Location", "/v2/acme/to/blobs/uploads/1"),
            ("PUT", Some("Bearer t")) => Response::status(201, ""),
            _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        });
    assert_eq!(push(&refusing).await, PushedBlob::Sent);
    let put = format!("PUT /v2/acme/to/blobs/uploads/1?digest={digest}");
    assert_eq!(refusing.journal().lines(), [mount, both, PUSH_TO.to_owned(), start.to_owned(), put]);
    watched.end();
}

#[tokio::test]
async fn quirk_a22_a_deletion_asks_for_the_right_to_delete() {
    let watched = Watched::new();
    let server = scoped(|request, granted| match request.method.as_str() {
        "DELETE" if granted == "repository:acme/hello:pull,push,delete" => Response::status(202, ""),
        _ => Response::status(418, ""),
    });
    let digest = Digest::sha256(b"x");
    let right = "GET /token?service=s&scope=repository%3Aacme%2Fhello%3Apull%2Cpush%2Cdelete";
    for path in [format!("blobs/{digest}"), "manifests/1".to_owned()] {
        server.journal().clear();
        let net = explicit(&server, basic());
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        if path.starts_with("blobs") {
            repository.delete_blob(&digest).await.unwrap();
        } else {
            repository.delete_tag("1").await.unwrap();
        }
        let delete = format!("DELETE /v2/acme/hello/{path}");
        assert_eq!(server.journal().lines(), [&delete, right, &delete]);
        watched.ask_elsewhere(&net).await;
    }
    watched.end();
}

#[tokio::test]
async fn quirk_a23_the_catalog_has_a_scope_of_its_own() {
    let watched = Watched::new();
    let server = scoped(|_, granted| {
        assert_eq!(granted, "registry:catalog:*");
        json(r#"{"repositories":["acme/hello"]}"#)
    });
    let net = explicit(&server, basic());
    assert_eq!(net.registry(&server.host()).unwrap().catalog().collect(10).await.unwrap(), ["acme/hello"]);
    let (catalog, scope) = ("GET /v2/_catalog", "GET /token?service=s&scope=registry%3Acatalog%3A*");
    assert_eq!(server.journal().lines(), [catalog, scope, catalog]);
    watched.ask_elsewhere(&net).await;
    watched.end();
    if !ready("quirk_a23_the_catalog_has_a_scope_of_its_own", &["docker-registry"]) {
        return;
    }
    // docker-registry grants its list to nothing else.
    let tokens = TokenServer::start();
    let registry = DockerRegistry::start(&DockerRegistryConfig { auth: tokens.auth() });
    let policy = TargetPolicy::new().trust_realm(registry.host(), tokens.host());
    let (user, password) = (RegistryAuth::KNOWN_USER, RegistryAuth::KNOWN_PASSWORD);
    let net = with_login(&registry.host(), user, password).target_policy(policy).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&manifest).tag("1").send().await.unwrap();
    let catalog = net.registry(&registry.host()).unwrap().catalog();
    assert_eq!(catalog.collect(10).await.unwrap(), ["acme/hello"]);
    assert!(tokens.journal().lines().last().unwrap().ends_with("&scope=registry%3Acatalog%3A*"));
    assert!(!registry.requests().iter().any(|request| request.path.contains(password)));
}

#[tokio::test]
async fn quirk_a24_a_login_belongs_to_the_host_that_is_contacted() {
    // Another host that would like to have it: as where a redirect leads, by its own name, and as the mirror.
    let curious = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| Response::basic_challenge("r"));
    let registry = Scenario::new(fixture::component())
        .auth(Auth::basic("ann", CANARY))
        .lie(Lie::RedirectBlob { status: 307, base: curious.url() })
        .start();
    let mirrored = HostConfig::new(registry.host()).mirror(HostEndpoint::new(curious.url()));
    for (net, asked) in [
        (with_login(&registry.host(), "ann", CANARY), 2),
        (with_login(&registry.host(), "ann", CANARY).host(mirrored), 3),
    ] {
        let net = net.build().unwrap();
        curious.journal().clear();
        let origin = repository(&net, &registry.reference());
        origin.manifest(Selector::Tag("1")).await.unwrap();
        let error = origin.blob(&layer_of(registry.artifact())).open().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unauthorized, "{error}");
        let by_name = repository(&net, &format!("{}/acme/hello", curious.host()));
        let error = by_name.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unauthorized, "{error}");
        let journal = curious.journal();
        assert_eq!(journal.len(), asked, "{:?}", journal.lines());
        assert!(!journal.contains(CANARY) && !journal.any_header_contains("Basic"), "{:?}", journal.entries());
    }
    assert!(registry.journal().contains(CANARY), "the origin got its login");

    // And the mirror's own login is for the mirror alone.
    let mirror = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |request, _| {
        match request.header("authorization") {
            Some(_) => manifest(),
            None => Response::basic_challenge("r"),
        }
    });
    let mirrored = HostConfig::new(registry.host()).mirror(HostEndpoint::new(mirror.url()));
    let (bob, canary_of_bob) = ("bob", "canary-of-the-mirror");
    let net = with_login(&mirror.host(), bob, canary_of_bob).host(mirrored).build().unwrap();
    let digest = registry.artifact().manifest_digest;
    registry.journal().clear();
    repository(&net, &registry.reference()).manifest(Selector::Digest(digest)).await.unwrap();
    assert!(mirror.journal().contains(canary_of_bob));
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
}

#[tokio::test]
async fn quirk_a25_a_login_that_expires_is_asked_for_anew() {
    let watched = Watched::new();
    let login = |password: &str, expires_at: Option<Instant>| {
        let mut login =
            Login::ambient(Credential::Basic { username: "ann".into(), password: password.into() }, "a helper");
        login.expires_at = expires_at;
        login
    };
    // ann:gone-earlier, and ann with the canary.
    let server = LyingServer::start(|request, _| match request.header("authorization") {
        Some("Basic YW5uOmdvbmUtZWFybGllcg==" | "Basic YW5uOmNhbmFyeS01ZjFk") => manifest(),
        _ => Response::basic_challenge("r"),
    });
    let source =
        Found::new(vec![login("gone-earlier", Some(Instant::now() + Duration::from_hours(12))), login(CANARY, None)]);
    let net = ambient(&source);
    pull_from(&net, &server).await.unwrap();
    pull_from(&net, &server).await.unwrap();
    assert_eq!(source.counts(), (1, 0), "not asked again while it lasts");

    let source = Found::new(vec![login("gone-earlier", Some(Instant::now())), login(CANARY, None)]);
    let net = ambient(&source);
    pull_from(&net, &server).await.unwrap();
    assert_eq!(source.counts(), (2, 0), "asked for, and asked again since it had run out");
    assert_eq!(server.journal().authorization_of(4), Some("Basic YW5uOmNhbmFyeS01ZjFk".to_owned()));

    // ECR says of a password that ran out that it is forbidden.
    let ecr = LyingServer::start(|request, _| match request.header("authorization") {
        Some("Basic YW5uOmNhbmFyeS01ZjFk") => manifest(),
        Some(_) => Response::oci_error(403, "DENIED", "Your authorization token has expired."),
        _ => Response::basic_challenge("r"),
    });
    let source = Found::new(vec![login("gone-earlier", None), login(CANARY, None)]);
    pull_from(&ambient(&source), &ecr).await.unwrap();
    assert_eq!((source.counts(), ecr.journal().len()), ((2, 1), 3));
    // And a refusal that no newer login changes is one after a single request more at the source, none at the registry.
    let source = Found::new(vec![login("gone-earlier", None)]);
    pull_from(&ambient(&source), &ecr).await.unwrap_err();
    assert_eq!((source.counts(), ecr.journal().len()), ((2, 1), 5));

    // One that is refused before its time is asked for anew, too, and the source is told.
    let source = Found::new(vec![login("gone", Some(Instant::now() + Duration::from_hours(12))), login(CANARY, None)]);
    let already = server.journal().len();
    pull_from(&ambient(&source), &server).await.unwrap();
    assert_eq!((source.counts(), server.journal().len() - already), ((2, 1), 3));
    watched.end();
}

#[tokio::test]
async fn quirk_a26_a_token_server_without_tls_is_refused_to_a_registry_with_it_unless_it_is_named() {
    let tokens = LyingServer::start(|_, _| token("t"));
    let elsewhere = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| token("t"));
    for (realm, other) in [(&tokens, &elsewhere), (&elsewhere, &tokens)] {
        let challenge = format!("Bearer realm=\"{}/token\",service=\"s\"", realm.url());
        let registry = TlsServer::serving(Certificate::Good, &["h2"], move |request| {
            let answer = hyper::Response::builder();
            match request.headers().get("authorization").map(hyper::header::HeaderValue::as_bytes) {
                Some(b"Bearer t") => answer
                    .header("Content-Type", fixture::MANIFEST_TYPE)
                    .body(whole(fixture::component().manifest_bytes))
                    .unwrap(),
                _ => answer.status(401).header("WWW-Authenticate", &challenge).body(whole("")).unwrap(),
            }
        })
        .await;
        let ask = async |policy: TargetPolicy| {
            let net = registry.trusted_by(with_login(&registry.host(), "ann", CANARY));
            let net = net.http_rule(HttpRule::Never).target_policy(policy).build().unwrap();
            repository(&net, &format!("{}/acme/hello", registry.host())).manifest(Selector::Tag("1")).await.map(drop)
        };
        let error = ask(TargetPolicy::new()).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("would leave HTTPS") && error.to_string().contains("proxy"), "{error}");
        assert!(!format!("{error:?}").contains(CANARY));
        assert_eq!((registry.seen().len(), realm.journal().len(), other.journal().len()), (1, 0, 0));

        // Named, it gets the login where it is the registry's own host, and nowhere else.
        let named = ask(TargetPolicy::new().allow_http_realm(registry.host())).await;
        let is_own = realm.host() == tokens.host();
        assert_eq!(named.map_err(|error| error.kind()), if is_own { Ok(()) } else { Err(NetErrorKind::Refused) });
        assert_eq!((realm.journal().len(), realm.journal().contains(CANARY)), (usize::from(is_own), is_own));
        assert!(other.journal().is_empty());
        tokens.journal().clear();
    }
}

#[tokio::test]
async fn quirk_a27_cookies_are_never_kept() {
    let watched = Watched::new();
    let with_cookie = |response: Response| {
        response.header("Set-Cookie", "session=5f1d; Path=/").header("Set-Cookie", "_gorilla_csrf=5f1d; Path=/")
    };
    let server = LyingServer::start(move |request, ctx| {
        with_cookie(match request.header("authorization") {
            _ if request.path == "/token" => token("t"),
            Some("Bearer t") => manifest(),
            _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        })
    });
    let net = explicit(&server, basic());
    pull_from(&net, &server).await.unwrap();
    pull_from(&net, &server).await.unwrap();
    assert_eq!(server.journal().len(), 4);
    watched.ask_elsewhere(&net).await;
    for entry in server.journal().entries() {
        assert_eq!(entry.headers.get("cookie"), None, "{}", entry.line());
    }
    watched.end();
}

#[tokio::test]
async fn somebody_who_logs_in_meanwhile_is_noticed() {
    let server = LyingServer::start(|request, _| match request.header("authorization") {
        Some("Basic YW5uOmNhbmFyeS01ZjFk") => manifest(),
        _ => Response::basic_challenge("r"),
    });
    let source = Found::new(Vec::new());
    let net = ambient(&source);
    for _ in 0..3 {
        assert_eq!(pull_from(&net, &server).await.unwrap_err().kind(), NetErrorKind::Unauthorized);
    }
    assert_eq!(source.counts(), (1, 0), "for a moment it is not asked again");
    source.logins.lock().unwrap().push(Login::ambient(basic(), "a file"));
    after(11).await;
    pull_from(&net, &server).await.unwrap();
}

#[tokio::test]
async fn requests_that_meet_share_the_search_for_a_challenge() {
    let artifact: Artifact = fixture::component();
    let slow = Arc::new(AtomicBool::new(true));
    let server = LyingServer::start(move |request: &Request, ctx: &Ctx| match request.header("authorization") {
        _ if request.path == "/token" => token("t"),
        Some("Bearer t") => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        _ if request.path == "/v2/" => {
            let wait = if slow.swap(false, Ordering::SeqCst) { Duration::from_millis(50) } else { Duration::ZERO };
            Response::bearer_challenge(&ctx.url("/token"), "s", "").delay(wait)
        }
        _ => Response::oci_error(404, "NAME_UNKNOWN", "unknown"),
    });
    let net = explicit(&server, basic());
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let repository = repository(&net, &format!("{}/acme/hello", server.host()));
            tokio::spawn(async move { repository.manifest(Selector::Tag("1")).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((server.journal().count("GET", "/v2/acme") <= 12, server.journal().count("GET", "/token")), (true, 1));
    assert_eq!(server.journal().lines().iter().filter(|line| *line == "GET /v2/").count(), 1);
}
