use std::net::{IpAddr, Ipv4Addr};

use greentic_dist_net::{BodyStream, HttpAnswer, HttpGet, NetError, NetErrorKind};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::Mismatch;

use crate::support::{net, quick, read_body};

const SIZE: usize = 200_000;

fn bytes() -> Vec<u8> {
    fixture::random_bytes(11, SIZE)
}

async fn body(request: HttpGet) -> Result<BodyStream, NetError> {
    match request.allow_loopback_http(true).open().await? {
        HttpAnswer::Body(body) => Ok(body),
        HttpAnswer::NotModified => panic!("not modified"),
    }
}

#[tokio::test]
async fn a_file_comes_with_what_the_server_says_about_it() {
    let server = LyingServer::start(|request, _| {
        Response::ranged(request, "\"v1\"", bytes()).header("Content-Type", "application/wasm")
    });
    let stream = body(net().get(&format!("{}/a/b.wasm?sig=canary&n=1", server.url()))).await.unwrap();
    assert_eq!(stream.content_type(), Some("application/wasm"));
    assert_eq!(stream.size_bytes(), Some(200_000));
    assert_eq!(stream.etag(), Some("\"v1\""));
    assert_eq!(stream.final_url(), format!("{}/a/b.wasm?sig=…&n=1", server.url()));
    assert!(read_body(stream).await.unwrap() == bytes());
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn an_unchanged_file_costs_one_request_and_no_body() {
    let server = LyingServer::start(|request, _| match request.header("if-none-match") {
        Some("\"v1\"") => Response::not_modified("\"v1\""),
        _ => Response::ok(bytes()).header("ETag", "\"v1\""),
    });
    let net = net();
    let request = net.get(&server.url()).allow_loopback_http(true);
    assert!(matches!(request.clone().if_none_match("\"v1\"").open().await.unwrap(), HttpAnswer::NotModified));
    assert!(matches!(request.if_none_match("\"v0\"").open().await.unwrap(), HttpAnswer::Body(_)));
}

#[tokio::test]
async fn only_https_and_on_request_loopback_http_is_asked() {
    let server = LyingServer::start(|_, _| Response::ok("x"));
    let net = net();
    for (url, kind) in [
        (server.url(), NetErrorKind::Refused),
        ("http://example.invalid/x".to_owned(), NetErrorKind::Refused),
        ("ftp://127.0.0.1/x".to_owned(), NetErrorKind::Refused),
        ("file:///etc/passwd".to_owned(), NetErrorKind::Refused),
        ("https://user:canary@127.0.0.1/x".to_owned(), NetErrorKind::Refused),
        ("not a url".to_owned(), NetErrorKind::InvalidInput),
        ("https://".to_owned(), NetErrorKind::InvalidInput),
    ] {
        let error = net.get(&url).open().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}");
        assert!(!error.to_string().contains("canary"));
    }
    for url in ["http://10.0.0.1/x", "http://127.0.0.1.example.invalid/x", "http://localhost.example.invalid/x"] {
        let error = net.get(url).allow_loopback_http(true).open().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{url}");
        assert!(error.to_string().contains("insecure url"));
    }
    // Asked, and nobody listens there.
    for url in ["http://[::1]:1/x", "http://127.0.0.2:1/x"] {
        let error = net.get(url).allow_loopback_http(true).open().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Connect, "{url}");
    }
    assert!(server.journal().is_empty());
}

#[tokio::test]
async fn offline_comes_before_everything_else() {
    let net = quick().offline(true).build().unwrap();
    for url in ["https://example.invalid/x", "http://example.invalid/x", "not a url"] {
        assert_eq!(net.get(url).open().await.unwrap_err().kind(), NetErrorKind::Offline, "{url}");
    }
}

#[tokio::test]
async fn a_cut_file_with_a_strong_etag_goes_on_at_the_right_byte() {
    let server = LyingServer::start(|request, _| {
        let answer = Response::ranged(request, "\"v1\"", bytes());
        if request.index < 3 { answer.cut_after(50_000) } else { answer }
    });
    let stream = body(net().get(&server.url())).await.unwrap();
    assert!(read_body(stream).await.unwrap() == bytes());
    let entries = server.journal().entries();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[1].headers.get("range"), Some("bytes=50000-"));
    assert_eq!(entries[1].headers.get("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn a_file_that_changed_while_it_was_read_is_not_mixed() {
    let server = LyingServer::start(|request, _| {
        if request.index == 0 {
            Response::ranged(request, "\"v1\"", bytes()).cut_after(50_000)
        } else {
            Response::ranged(request, "\"v2\"", fixture::random_bytes(12, SIZE))
        }
    });
    let error = read_body(body(net().get(&server.url())).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Interrupted);
    assert!(error.to_string().contains("changed"), "{error}");
}

#[tokio::test]
async fn a_part_of_another_version_is_not_put_behind_the_first_one() {
    // Servers that do not look at `If-Range` and go on with whatever is there now.
    let part = |etags: &'static [&'static str]| {
        let server = LyingServer::start(move |request, _| {
            if request.index == 0 {
                return Response::ranged(request, "\"v1\"", bytes()).cut_after(50_000);
            }
            let rest = fixture::random_bytes(12, SIZE)[50_000..].to_vec();
            let range = format!("bytes 50000-{}/{SIZE}", SIZE - 1);
            let answer = Response::status(206, rest).header("Content-Range", range);
            etags.iter().fold(answer, |answer, etag| answer.header("ETag", *etag))
        });
        async move {
            let mut stream = body(net().get(&server.url())).await.unwrap();
            let mut got = Vec::new();
            let error = loop {
                match stream.next().await {
                    Some(Ok(piece)) => got.extend_from_slice(&piece),
                    Some(Err(error)) => break error,
                    None => panic!("put together with {etags:?}"),
                }
            };
            assert!(stream.next().await.is_none());
            (got, error, server.journal().len())
        }
    };
    for etags in [&["\"v2\""][..], &[], &["W/\"v1\""], &["\"v1\"", "\"v2\""]] {
        let (got, error, requests) = part(etags).await;
        assert!(got == bytes()[..50_000], "{etags:?}: {} bytes", got.len());
        assert_eq!((error.kind(), requests), (NetErrorKind::Interrupted, 2), "{etags:?}");
        assert!(error.to_string().contains("changed while it was read"), "{error}");
    }
}

#[tokio::test]
async fn not_modified_in_the_middle_of_a_file_does_not_end_it() {
    let server = LyingServer::start(|request, _| match request.index {
        0 => Response::ok(bytes()).header("ETag", "\"v1\"").chunked().cut_after(50_000),
        _ => Response::not_modified("\"v1\""),
    });
    let stream = body(net().get(&server.url()).if_none_match("\"v0\"")).await.unwrap();
    let error = read_body(stream).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(304)));
}

#[tokio::test]
async fn a_cut_file_without_a_validator_cannot_go_on() {
    for etag in ["", "W/\"v1\""] {
        let server = LyingServer::start(move |request, _| Response::ranged(request, etag, bytes()).cut_after(50_000));
        let error = read_body(body(net().get(&server.url())).await.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Interrupted);
        assert_eq!(server.journal().len(), 1);
    }
}

#[tokio::test]
async fn files_over_the_limit_are_refused_by_length_or_while_they_come() {
    let announced = LyingServer::start(|_, _| Response::ok(bytes()));
    let error = body(net().get(&announced.url()).max_bytes(1_000)).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::TooLarge { limit: 1_000 }));

    let endless = LyingServer::start(|_, _| Response::ok("x").endless());
    let net = net();
    let error = read_body(body(net.get(&endless.url()).max_bytes(100_000)).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert!(net.stats().bytes_received < 2_000_000);
}

#[tokio::test]
async fn a_file_without_a_length_ends_with_its_connection() {
    for chunked in [true, false] {
        let server = LyingServer::start(move |_, _| {
            let answer = Response::ok(bytes());
            if chunked { answer.chunked() } else { answer.until_close() }
        });
        let stream = body(net().get(&server.url())).await.unwrap();
        assert_eq!(stream.size_bytes(), None);
        assert!(read_body(stream).await.unwrap() == bytes());
    }
}

#[tokio::test]
async fn redirects_follow_the_same_rules_as_for_registries() {
    let target = LyingServer::start_on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), |_, _| Response::ok("moved"));
    let to = target.url();
    let server = LyingServer::start(move |request, _| match request.path.as_str() {
        "/good" => Response::redirect(302, to.clone()),
        _ => Response::redirect(302, "http://example.invalid/x"),
    });
    let net = net();
    let stream = body(net.get(&format!("{}/good", server.url()))).await.unwrap();
    assert_eq!(stream.final_url(), format!("{}/", target.url()));
    assert_eq!(read_body(stream).await.unwrap(), b"moved");
    let error = body(net.get(&format!("{}/bad", server.url()))).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    assert_eq!(target.journal().header_of(0, "referer"), None);
}

#[tokio::test]
async fn failures_name_the_server_and_its_words() {
    let server = LyingServer::start(|_, _| Response::status(403, "no entry"));
    let error = body(net().get(&server.url())).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Forbidden);
    let text = error.to_string();
    assert!(text.starts_with("server answered 403 for GET http://127.0.0.1:") && text.contains("no entry"), "{text}");
}
