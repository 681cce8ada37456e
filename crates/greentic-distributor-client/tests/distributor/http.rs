//! The client over HTTP, against servers that answer well, badly, late and not at all.

use std::collections::HashMap;
use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use greentic_dist_testkit::{LyingServer, Request, Response};
use greentic_distributor_client::{
    ArtifactLocation, DistributorClient, DistributorClientConfig, DistributorEnvironmentId, DistributorError, EnvId,
    HttpDistributorClient, NetErrorKind, ResolveComponentRequest, RetryPolicy, TenantCtx, TenantId, Timeouts,
};
use serde_json::{Value, json};

const CANARY: &str = "canary-token-5f1c";

fn tenant() -> TenantCtx {
    TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("tenant-a").unwrap())
}

fn env() -> DistributorEnvironmentId {
    DistributorEnvironmentId::from("edge 1&x")
}

fn config(base_url: impl Into<String>) -> DistributorClientConfig {
    DistributorClientConfig {
        base_url: Some(base_url.into()),
        environment_id: DistributorEnvironmentId::from("unused"),
        tenant: tenant(),
        auth_token: None,
        extra_headers: None,
        request_timeout: None,
    }
}

fn with_token(base_url: impl Into<String>) -> DistributorClientConfig {
    DistributorClientConfig { auth_token: Some(CANARY.to_owned()), ..config(base_url) }
}

/// A client that waits for nothing between attempts, and not long for an answer.
fn client(config: DistributorClientConfig) -> HttpDistributorClient {
    let retry = RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() };
    let timeouts =
        Timeouts { headers: Duration::from_millis(400), idle_body: Duration::from_millis(400), ..Timeouts::default() };
    HttpDistributorClient::builder(config).retry(retry).timeouts(timeouts).build().unwrap()
}

fn question() -> ResolveComponentRequest {
    ResolveComponentRequest {
        tenant: tenant(),
        environment_id: DistributorEnvironmentId::from("dev"),
        pack_id: "kit".to_owned(),
        component_id: "part".to_owned(),
        version: "1.0.0".to_owned(),
        extra: json!({}),
    }
}

fn answer() -> Value {
    json!({
        "status": "ready",
        "digest": format!("sha256:{}", "a".repeat(64)),
        "artifact": { "kind": "oci_reference", "reference": "ghcr.io/acme/part:1" },
        "signature": { "verified": false, "signer": "", "extra": null },
        "cache": { "size_bytes": 1, "last_used_utc": "", "last_refreshed_utc": "" },
    })
}

fn json_reply(document: &Value) -> Response {
    Response::ok(document.to_string()).header("Content-Type", "application/json")
}

fn serve(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(move |request, _| answer(request))
}

fn url(server: &LyingServer) -> String {
    format!("http://{}", server.host())
}

#[tokio::test]
async fn a_component_is_resolved_with_exactly_the_documented_request() {
    let server = serve(|_| json_reply(&answer()));
    let got = client(with_token(url(&server))).resolve_component(question()).await.unwrap();
    assert_eq!(got.artifact, ArtifactLocation::OciReference { reference: "ghcr.io/acme/part:1".to_owned() });
    assert!(got.digest.is_sha256_like());
    assert_eq!(got.secret_requirements, None);

    let entries = server.journal().entries();
    assert_eq!(server.journal().lines(), ["POST /distributor-api/resolve-component"]);
    assert_eq!(entries[0].headers.get("content-type"), Some("application/json"));
    assert_eq!(entries[0].headers.get("authorization"), Some(&*format!("Bearer {CANARY}")));
    assert_eq!(
        serde_json::from_slice::<Value>(&entries[0].body).unwrap(),
        json!({
            "tenant": { "env": "dev", "tenant": "tenant-a", "tenant_id": "tenant-a", "attempt": 0 },
            "environment_id": "dev",
            "pack_id": "kit",
            "component_id": "part",
            "version": "1.0.0",
            "extra": {},
        })
    );
}

#[tokio::test]
async fn the_status_of_a_pack_is_asked_for_by_an_encoded_query() {
    let server = serve(|request| match request.path.as_str() {
        "/distributor-api/pack-status" => json_reply(&json!({ "any": ["thing"] })),
        _ => json_reply(&json!({ "status": "ready" })),
    });
    let client = client(config(url(&server)));
    assert_eq!(client.get_pack_status(&tenant(), &env(), "kit/ü").await.unwrap(), json!({ "any": ["thing"] }));
    let v2 = client.get_pack_status_v2(&tenant(), &env(), "kit").await.unwrap();
    assert_eq!((v2.status.as_str(), v2.secret_requirements, v2.extra), ("ready", None, Value::Null));
    assert_eq!(
        server.journal().lines(),
        [
            "GET /distributor-api/pack-status?tenant_id=tenant-a&environment_id=edge+1%26x&pack_id=kit%2F%C3%BC",
            "GET /distributor-api/pack-status-v2?tenant_id=tenant-a&environment_id=edge+1%26x&pack_id=kit",
        ]
    );
    assert!(!server.journal().any_header_contains("Bearer"));
}

#[tokio::test]
async fn d17_warming_succeeds_with_a_document_without_one_and_with_no_content() {
    for reply in [json_reply(&json!({ "queued": true })), Response::ok(""), Response::status(204, "")] {
        let server = serve(move |_| reply.clone());
        client(config(url(&server))).warm_pack(&tenant(), &env(), "kit").await.unwrap();
        assert_eq!(server.journal().lines(), ["POST /distributor-api/warm-pack"]);
        let sent: Value = serde_json::from_slice(&server.journal().entries()[0].body).unwrap();
        assert_eq!(sent, json!({ "tenant_id": "tenant-a", "environment_id": "edge 1&x", "pack_id": "kit" }));
    }
}

#[tokio::test]
async fn d17_slashes_at_the_end_of_the_base_url_do_not_matter_and_its_path_is_kept() {
    let server = serve(|_| json_reply(&json!({ "status": "ready" })));
    for base in ["", "/", "//", "/edge/"] {
        let client = client(config(format!("{}{base}", url(&server))));
        client.get_pack_status_v2(&tenant(), &env(), "kit").await.unwrap();
    }
    let paths: Vec<String> = server.journal().entries().into_iter().map(|entry| entry.path).collect();
    let plain = "/distributor-api/pack-status-v2";
    assert_eq!(paths, [plain, plain, plain, "/edge/distributor-api/pack-status-v2"]);
}

#[tokio::test]
async fn statuses_become_their_errors() {
    let ask = |status: u16| async move {
        let server = serve(move |_| Response::status(status, format!("said with {CANARY}\u{1b}[2J")));
        let error = client(with_token(url(&server))).resolve_component(question()).await.unwrap_err();
        (error, server.journal().len())
    };
    assert!(matches!(ask(404).await, (DistributorError::NotFound, 1)));
    assert!(matches!(ask(401).await, (DistributorError::PermissionDenied, 1)));
    assert!(matches!(ask(403).await, (DistributorError::PermissionDenied, 1)));
    // What may pass is asked again, five times in all; what may not is not.
    for (status, asked) in [(500, 5), (503, 5), (400, 1), (409, 1), (301, 1)] {
        match ask(status).await {
            (DistributorError::Status { status: told, body }, count) => {
                assert_eq!((told.as_u16(), count), (status, asked));
                assert!(body.contains("said with [redacted]") && !body.contains('\u{1b}'), "{body}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed_and_a_warm_request_is_never_repeated() {
    let server = serve(|request| match request.index {
        0 => Response::status(503, ""),
        1 => Response::reset(),
        _ => json_reply(&answer()),
    });
    client(config(url(&server))).resolve_component(question()).await.unwrap();
    assert_eq!(server.journal().len(), 3);

    let server = serve(|_| Response::status(503, ""));
    let error = client(config(url(&server))).warm_pack(&tenant(), &env(), "kit").await.unwrap_err();
    assert!(matches!(error, DistributorError::Status { status, .. } if status == 503), "{error:?}");
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn row_53_a_post_answered_by_a_redirect_is_not_sent_anywhere_else() {
    let attacker = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| json_reply(&answer()));
    for status in [301, 302, 303, 307, 308] {
        let to = format!("http://{}/distributor-api/resolve-component", attacker.host());
        let server = serve(move |_| Response::redirect(status, to.clone()));
        let client = client(with_token(url(&server)));
        for error in [
            client.resolve_component(question()).await.map(drop).unwrap_err(),
            client.get_pack_status(&tenant(), &env(), "kit").await.map(drop).unwrap_err(),
            client.warm_pack(&tenant(), &env(), "kit").await.unwrap_err(),
        ] {
            assert!(matches!(&error, DistributorError::Status { status: told, .. } if *told == status), "{error:?}");
        }
        assert_eq!(server.journal().len(), 3);
    }
    assert!(attacker.journal().is_empty());
}

#[tokio::test]
async fn a_web_page_is_said_to_be_one_and_bad_json_is_a_serialization_error() {
    let page = serve(|_| Response::ok("<html>log in</html>").header("Content-Type", "text/html; charset=utf-8"));
    let error = client(config(url(&page))).resolve_component(question()).await.unwrap_err();
    assert!(matches!(&error, DistributorError::InvalidResponse(text) if text.contains("web page")), "{error:?}");
    for bad in ["not json", "", "{\"status\":\"ready\"", "{\"status\":\"unheard of\"}", "[]", "{}"] {
        let server = serve(move |_| Response::ok(bad).header("Content-Type", "application/json"));
        let error = client(config(url(&server))).resolve_component(question()).await.unwrap_err();
        assert!(matches!(error, DistributorError::Serde(_)), "{bad:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_page_in_any_spelling_and_a_compressed_answer_are_said_to_be_what_they_are() {
    let page = serve(|_| Response::ok("<html>").header("Content-Type", "Text/HTML"));
    let packed = serve(|_| {
        let packed = Response::ok(vec![0x1f, 0x8b, 8, 0]).header("Content-Type", "application/json");
        packed.header("Content-Encoding", "gzip")
    });
    for (server, word) in [(page, "web page"), (packed, "content encoding `gzip`")] {
        let error = client(config(url(&server))).get_pack_status(&tenant(), &env(), "kit").await.unwrap_err();
        assert!(matches!(&error, DistributorError::InvalidResponse(text) if text.contains(word)), "{error:?}");
    }
}

#[tokio::test]
async fn row_86_a_value_of_the_wrong_type_is_named_with_its_field() {
    for (pointer, value, field) in [
        ("/cache/size_bytes", json!("x"), "cache.size_bytes"),
        ("/artifact", json!(7), "artifact"),
        ("/signature/verified", json!("yes"), "signature.verified"),
        ("/status", json!("x".repeat(1 << 20)), "status"),
        ("/status", json!("\u{1b}[2J"), "status"),
    ] {
        let mut document = answer();
        *document.pointer_mut(pointer).unwrap() = value;
        let server = serve(move |_| json_reply(&document));
        let error = client(config(url(&server))).resolve_component(question()).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DistributorError::Serde(_)) && text.contains(&format!("`{field}`")), "{text}");
        assert!(text.len() < 3_000 && !text.contains('\u{1b}'), "{} bytes", text.len());
    }
}

/// The kind of the network's failure.
#[track_caller]
fn net_kind<T: std::fmt::Debug>(result: Result<T, DistributorError>) -> NetErrorKind {
    match result.unwrap_err() {
        DistributorError::Http(error) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn row_86_answers_that_are_too_large_too_deep_or_of_the_wrong_shape_are_refused() {
    let huge = serve(|_| Response::ok("").endless().header("Content-Type", "application/json"));
    let kind = net_kind(client(config(url(&huge))).resolve_component(question()).await);
    assert_eq!(kind, NetErrorKind::TooLarge);
    let announced = serve(|_| Response::ok("{}").wrong_content_length(17 << 20));
    let kind = net_kind(client(config(url(&announced))).get_pack_status(&tenant(), &env(), "kit").await);
    assert_eq!(kind, NetErrorKind::TooLarge);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let server = serve(move |_| Response::ok(deep.clone()).header("Content-Type", "application/json"));
    let error = client(config(url(&server))).get_pack_status(&tenant(), &env(), "kit").await.unwrap_err();
    assert!(matches!(error, DistributorError::Serde(_)), "{error:?}");
}

#[tokio::test]
async fn row_86_digests_and_places_that_are_none_are_refused_by_field() {
    let artifact = |kind: &str, key: &str, value: &str| json!({ "kind": kind, key: value });
    for (field, pointer, value) in [
        ("digest", "/digest", json!("latest")),
        ("digest", "/digest", json!("")),
        ("digest", "/digest", json!("sha256:../../x")),
        ("digest", "/digest", json!("sha256:a\nb")),
        ("digest", "/digest", json!("sha256:abc")),
        ("digest", "/digest", json!("x:y")),
        ("digest", "/digest", json!(format!("sha256:{}", "A".repeat(64)))),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "http://evil.example/x")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "file:///etc/passwd")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "a\r\nb")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "/etc/passwd")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "../../x.wasm")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "file:/etc/passwd")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "--cache-dir=/x")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "a b\u{202e}c")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "oci://u:p@ghcr.io/x:1")),
        ("artifact.reference", "/artifact", artifact("oci_reference", "reference", "oci://ghcr.io/Up/x:1")),
        ("artifact.path", "/artifact", artifact("file_path", "path", "")),
        ("artifact.path", "/artifact", artifact("file_path", "path", "a\u{0}b")),
        ("artifact.handle", "/artifact", artifact("distributor_internal", "handle", &"x".repeat(5000))),
    ] {
        let mut document = answer();
        *document.pointer_mut(pointer).unwrap() = value.clone();
        let server = serve(move |_| json_reply(&document));
        match client(config(url(&server))).resolve_component(question()).await {
            Err(DistributorError::InvalidResponse(text)) => {
                assert!(text.starts_with(&format!("`{field}` is ")), "{value}: {text}");
                assert!(text.len() < 500 && !text.contains(['\n', '\r', '\0']), "{text:?}");
            }
            other => panic!("{value}: {other:?}"),
        }
    }
    for reference in
        ["ghcr.io/acme/part:1", "oci://ghcr.io/acme/part:1", "repo://acme/part:1", "store://x/y", "acme/part:1"]
    {
        let mut document = answer();
        document["artifact"]["reference"] = json!(reference);
        let server = serve(move |_| json_reply(&document));
        client(config(url(&server))).resolve_component(question()).await.unwrap();
    }
    // What is not ready yet has no digest and no place.
    let mut document = answer();
    document["status"] = json!("pending");
    document["digest"] = json!("");
    document["artifact"]["reference"] = json!("");
    let server = serve(move |_| json_reply(&document));
    client(config(url(&server))).resolve_component(question()).await.unwrap();
}

#[tokio::test]
async fn silence_stalls_and_cuts_end_in_errors_of_their_kind() {
    let once = |reply: Response| {
        let server = serve(move |_| reply.clone());
        let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let timeouts = Timeouts {
            headers: Duration::from_millis(300),
            idle_body: Duration::from_millis(300),
            ..Timeouts::default()
        };
        let client = HttpDistributorClient::builder(config(url(&server))).retry(retry).timeouts(timeouts);
        (client.build().unwrap(), server)
    };
    for (reply, expected) in [
        (Response::silence(), NetErrorKind::Timeout),
        (Response::ok("{\"a\":1}").stall_after(3), NetErrorKind::Timeout),
        (Response::ok("{\"a\":1}").cut_after(3), NetErrorKind::Interrupted),
        (Response::reset(), NetErrorKind::Interrupted),
    ] {
        let (client, _server) = once(reply);
        assert_eq!(net_kind(client.get_pack_status(&tenant(), &env(), "kit").await), expected);
    }
    // Nobody listens there.
    let gone = url(&serve(|_| Response::ok("")));
    let kind = net_kind(client(config(gone)).get_pack_status(&tenant(), &env(), "kit").await);
    assert_eq!(kind, NetErrorKind::Connect);
}

#[tokio::test]
async fn d17_the_request_timeout_limits_the_whole_call() {
    let server = serve(|_| Response::ok("x".repeat(64)).drip(1, Duration::from_millis(50)));
    let config = DistributorClientConfig { request_timeout: Some(Duration::from_millis(250)), ..config(url(&server)) };
    let error = client(config).get_pack_status(&tenant(), &env(), "kit").await.unwrap_err();
    assert!(error.to_string().contains("no complete answer within 0.25 s"), "{error}");
}

#[test]
fn row_55_what_cannot_be_used_fails_at_construction_with_the_name_of_its_field() {
    let headers = |name: &str, value: &str| Some(HashMap::from([(name.to_owned(), value.to_owned())]));
    let base = || config("https://distributor.example");
    let cases = [
        ("base_url", DistributorClientConfig { base_url: None, ..base() }),
        ("base_url", config("")),
        ("base_url", config("distributor.example")),
        ("base_url", config("ftp://distributor.example")),
        ("base_url", config("https://distributor.example?x=1")),
        ("base_url", config("https://distributor.example#x")),
        ("base_url", config(format!("https://user:{CANARY}@distributor.example"))),
        ("base_url", with_token("http://distributor.example")),
        ("base_url", with_token("http://127.0.0.1.evil.example")),
        ("base_url", with_token("http://10.0.0.1")),
        ("base_url", config("http://127.0.0.1:18181 ")),
        ("base_url", config(" http://127.0.0.1")),
        ("base_url", config("http://127.0.0.1/ ")),
        ("base_url", config("http://127.0.0.1/a b/\n")),
        ("base_url", config("http://127.0.0.1:99999")),
        ("auth_token", DistributorClientConfig { auth_token: Some(format!("{CANARY}\r\nX: y")), ..base() }),
        ("auth_token", DistributorClientConfig { auth_token: Some(" ".to_owned()), ..base() }),
        ("extra_headers", DistributorClientConfig { extra_headers: headers("bad name", "x"), ..base() }),
        ("extra_headers", DistributorClientConfig { extra_headers: headers("x-ok", &format!("{CANARY}\n")), ..base() }),
        ("extra_headers", DistributorClientConfig { extra_headers: headers("Host", "evil.example"), ..base() }),
        ("extra_headers", DistributorClientConfig { extra_headers: headers("Content-Length", "0"), ..base() }),
        ("extra_headers", DistributorClientConfig { extra_headers: headers("Keep-Alive", "timeout=1"), ..base() }),
        (
            "extra_headers",
            DistributorClientConfig {
                extra_headers: Some(HashMap::from(
                    [("X-A", "1"), ("x-a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())),
                )),
                ..base()
            },
        ),
        (
            "extra_headers",
            DistributorClientConfig {
                extra_headers: headers("Authorization", "Bearer other"),
                ..with_token("https://distributor.example")
            },
        ),
        (
            "base_url",
            DistributorClientConfig {
                extra_headers: headers("authorization", "Bearer other"),
                ..config("http://distributor.example")
            },
        ),
    ];
    for (field, config) in cases {
        let shown = format!("{config:?}");
        match HttpDistributorClient::new(config) {
            Err(DistributorError::InvalidResponse(text)) => {
                assert!(text.contains(&format!("`{field}` cannot be used")), "{shown}: {text}");
                assert!(!text.contains(CANARY) && !shown.contains(CANARY), "{shown}: {text}");
            }
            other => panic!("{shown}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_may_travel_in_clear_text_on_this_machine_only_and_extra_headers_are_sent() {
    for host in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://distributor.example"] {
        HttpDistributorClient::new(with_token(host)).unwrap();
    }
    let server = serve(|_| json_reply(&json!({})));
    let extra_headers = Some(HashMap::from([
        ("X-Tenant".to_owned(), "a".to_owned()),
        ("Accept".to_owned(), "application/vnd.acme+json".to_owned()),
    ]));
    let client = client(DistributorClientConfig { extra_headers, ..with_token(url(&server)) });
    client.get_pack_status(&tenant(), &env(), "kit").await.unwrap();
    assert_eq!(server.journal().header_of(0, "x-tenant").as_deref(), Some("a"));
    assert_eq!(server.journal().header_of(0, "accept").as_deref(), Some("application/vnd.acme+json"));
    assert_eq!(server.journal().authorization_of(0), Some(format!("Bearer {CANARY}")));
}

#[tokio::test]
async fn d06_no_debug_and_no_error_holds_the_token() {
    const KEY: &str = "canary-of-a-header";
    let said = [CANARY, " ", KEY].concat();
    let echo = |pointer: &str| {
        let mut document = answer();
        *document.pointer_mut(pointer).unwrap() = json!(said);
        json_reply(&document)
    };
    let echoes = [
        Response::status(418, said.clone()),
        echo("/status"),
        echo("/digest"),
        echo("/artifact/kind"),
        echo("/artifact/reference"),
    ];
    for echoed in echoes {
        let server = serve(move |_| echoed.clone());
        let extra_headers = Some(HashMap::from([("x-key".to_owned(), KEY.to_owned())]));
        let client = client(DistributorClientConfig { extra_headers, ..with_token(url(&server)) });
        let error = client.resolve_component(question()).await.unwrap_err();
        let mut shown = format!("{client:?} {error:?} {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            shown = format!("{shown} {error:?} {error}");
            cause = error.source();
        }
        assert!(!shown.contains(CANARY) && !shown.contains(KEY), "{shown}");
        assert!(shown.contains("[redacted]"), "{shown}");
    }
}
