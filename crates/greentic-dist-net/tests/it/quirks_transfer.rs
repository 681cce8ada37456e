//! The quirks of registries around bodies on their way and what goes wrong there, by the numbers of the project's list of them:
//! P16, P21 to P23, P28, P51 and P52. Those about ranges, stalls and kept connections stand beside the other tests of those.

use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{HttpRule, NetErrorKind, Selector, Timeouts};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_dist_testkit::{LyingServer, Response, Step};
use greentic_dist_types::{Descriptor, Digest, SafeText};

use crate::support::{Recorder, descriptor, net, pull_layer, quick, read, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, cut, whole};

const CANARY: &str = "canary-2b90";

fn random() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(17, 300_000))
}

/// Asks a server for a blob, whatever it answers.
async fn blob(server: &LyingServer, descriptor: &Descriptor) -> Result<Vec<u8>, greentic_dist_net::NetError> {
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    read(repository.blob(descriptor).open().await?).await
}

fn get(digest: Digest) -> String {
    format!("GET /v2/acme/hello/blobs/{digest}")
}

/// The `Range` of every request so far.
fn ranges(server: &LyingServer) -> Vec<Option<String>> {
    server.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn quirk_p16_a_web_page_in_place_of_a_blob_is_called_one() {
    let page = "<html><body>Please accept our terms</body></html>";
    let wanted = fixture::random_bytes(16, page.len());
    // A portal that sends everybody to its page: with a length of its own, with that of the blob, and without one.
    for (size, body, kind, requests) in [
        (page.len() + 1, Response::ok(page), NetErrorKind::Integrity, 1),
        (page.len(), Response::ok(page), NetErrorKind::Integrity, 1),
        (page.len() + 1, Response::ok(page).chunked(), NetErrorKind::Interrupted, 6),
    ] {
        let body = body.header("Content-Type", "Text/HTML; charset=utf-8");
        let server = LyingServer::start(move |request, _| match request.path.as_str() {
            "/portal" => body.clone(),
            _ => Response::redirect(302, "/portal"),
        });
        let blob_of = |size| Descriptor::new("application/wasm", Digest::sha256(&wanted), u64::try_from(size).unwrap());
        let error = blob(&server, &blob_of(size)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.hints().iter().any(|hint| hint.contains("web page")), "{error}: {:?}", error.hints());
        assert!(!error.to_string().contains("accept our terms"), "{error}");
        let expected: Vec<String> =
            (0..requests).flat_map(|_| [get(Digest::sha256(&wanted)), "GET /portal".to_owned()]).collect();
        assert_eq!(server.journal().lines(), expected, "{error}");
    }
    // Content that is called a page and is the content all the same.
    let server = LyingServer::start(move |_, _| Response::ok(page).header("Content-Type", "text/html"));
    assert_eq!(blob(&server, &descriptor(page.as_bytes())).await.unwrap(), page.as_bytes());
}

#[tokio::test]
async fn quirk_p21_an_encoding_is_never_asked_for_never_undone_and_no_reason_to_refuse_right_bytes() {
    let stored = b"\x1f\x8b\x08 an archive as it was pushed".to_vec();
    for name in ["gzip", "x-gzip", "GZIP"] {
        let archive = stored.clone();
        let server = LyingServer::start(move |request, _| {
            let answer = Response::ranged(request, "", archive.clone()).header("Content-Encoding", name);
            if request.index == 0 { answer.cut_after(10) } else { answer }
        });
        assert_eq!(blob(&server, &descriptor(&stored)).await.unwrap(), stored, "{name}");
        let journal = server.journal();
        assert_eq!(journal.lines(), [get(Digest::sha256(&stored)), get(Digest::sha256(&stored))]);
        assert_eq!(ranges(&server), [None, Some("bytes=10-".to_owned())]);
        for index in 0..2 {
            assert_eq!(journal.header_of(index, "accept-encoding").as_deref(), Some("identity"));
        }
    }
    // A proxy that compresses what it was asked for as it is: other bytes, and the error says whose they are.
    let compressed = stored.clone();
    let server = LyingServer::start(move |_, _| Response::ok(compressed.clone()).header("Content-Encoding", "gzip"));
    let pushed = Descriptor::new("application/wasm", Digest::sha256(b"pushed"), u64::try_from(stored.len()).unwrap());
    let error = blob(&server, &pushed).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert!(error.hints().iter().any(|hint| hint.contains("`gzip`")), "{:?}", error.hints());
    // What nobody has named by its digest is refused before it is looked at.
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Protocol);
    assert!(error.to_string().contains("`gzip`"), "{error}");
}

#[tokio::test]
async fn quirk_p22_a_body_that_ends_too_early_in_good_order_goes_on_with_a_range() {
    let all = fixture::random_bytes(22, 200_000);
    let half = 90_000;
    let http_1_0 = |body: &[u8]| {
        let head = b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n".to_vec();
        Response::raw([Step::Bytes([head, body.to_vec()].concat().into()), Step::Fin])
    };
    for first in [
        http_1_0(&all[..half]),
        Response::ok(all.clone()).until_close().cut_after(half),
        Response::ok(all.clone()).chunked().cut_after(half),
        Response::ok(all.clone()).cut_after(half),
        // A well-formed whole that is none: what stood behind it is asked for.
        Response::ok(all[..half].to_vec()).chunked(),
    ] {
        let content = all.clone();
        let server = LyingServer::start(move |request, _| match request.index {
            0 => first.clone(),
            _ => Response::ranged(request, "", content.clone()),
        });
        assert!(blob(&server, &descriptor(&all)).await.unwrap() == all);
        assert_eq!(ranges(&server), [None, Some(format!("bytes={half}-"))]);
    }
    // A length that is announced and is not that of the blob is refused before a byte is read.
    let short = all[..half].to_vec();
    let server = LyingServer::start(move |_, _| Response::ok(short.clone()));
    assert_eq!(blob(&server, &descriptor(&all)).await.unwrap_err().kind(), NetErrorKind::Integrity);
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn quirk_p23_resets_in_the_middle_are_survived_as_long_as_bytes_come() {
    // More resets than there are resumes without progress: every byte sets that counter back.
    let registry = Scenario::new(random()).lie(Lie::ResetBlob { after: 30_000, times: 9 }).start();
    let net = net();
    assert!(pull_layer(&net, &registry).await.unwrap() == registry.artifact().layer_bytes());
    assert_eq!((net.stats().resumes, registry.journal().len()), (9, 10));

    // The same with streams of one HTTP/2 connection.
    let content = fixture::random_bytes(23, 300_000);
    let served = content.clone();
    let server = TlsServer::serving(Certificate::Good, &["h2"], move |request| {
        let range = request.headers().get("range").map(|value| value.to_str().unwrap().to_owned());
        let from = range.map_or(0, |range| range.trim_matches(|ch: char| !ch.is_ascii_digit()).parse().unwrap());
        let (rest, total) = (&served[from..], served.len());
        let answer = hyper::Response::builder();
        let answer = match from {
            0 => answer,
            _ => answer.status(206).header("Content-Range", format!("bytes {from}-{}/{total}", total - 1)),
        };
        let body = if rest.len() > 30_000 { cut(rest[..30_000].to_vec()) } else { whole(rest.to_vec()) };
        answer.body(body).unwrap()
    })
    .await;
    let net = server.trusting().http_rule(HttpRule::Never).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    assert!(read(repository.blob(&descriptor(&content)).open().await.unwrap()).await.unwrap() == content);
    assert_eq!(u64::try_from(server.seen().len()).unwrap(), net.stats().resumes + 1);
    assert!(net.stats().resumes >= 9, "{:?}", net.stats());
    assert!(server.seen().iter().all(|(version, _)| *version == hyper::Version::HTTP_2));
}

#[tokio::test]
async fn quirk_p25_a_kept_connection_that_went_silent_costs_one_try_and_the_next_takes_a_new_one() {
    let body = fixture::component().manifest_bytes;
    // A balancer that forgot the connection: what comes over it a second time is never answered.
    let server = LyingServer::start(move |request, ctx| {
        let on_this = ctx.journal().entries().iter().filter(|entry| entry.connection == request.connection).count();
        match on_this {
            1 => Response::ok(body.clone()).header("Content-Type", fixture::MANIFEST_TYPE),
            _ => Response::silence(),
        }
    });
    let timeouts = Timeouts { headers: Duration::from_millis(100), ..Timeouts::default() };
    let net = quick().timeouts(timeouts).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    for _ in 0..2 {
        repository.manifest(Selector::Tag("1")).await.unwrap();
    }
    let connections: Vec<usize> = server.journal().entries().iter().map(|entry| entry.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert_eq!(net.stats().retries, 1);
}

#[tokio::test]
async fn quirk_p28_whatever_stands_behind_a_failure_is_told_as_far_as_it_can_be() {
    let megabytes = vec![b'y'; 3 << 20];
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (content_type, body, codes, told) in [
        (
            "application/json",
            br#"{"errors":[{"code":"ARTIFACT_LOCKED","message":"kept for the audit"}]}"#.to_vec(),
            vec!["ARTIFACT_LOCKED"],
            "kept for the audit",
        ),
        (
            "application/json",
            br#"{"errors":[{"code":"UNAVAILABLE","detail":[1,{"a":null}]},{"code":"NOT_FOUND","message":"x","detail":7}]}"#
                .to_vec(),
            vec!["UNAVAILABLE", "NOT_FOUND"],
            "UNAVAILABLE",
        ),
        ("text/plain", b"Your authorization token has expired".to_vec(), vec![], "Your authorization token"),
        ("application/json", b"Your JSON is none".to_vec(), vec![], "Your JSON is none"),
        ("text/plain", b"caf\xe9 is closed\x1b[31m".to_vec(), vec![], "is closed"),
        ("text/html", b"<html>secret page</html>".to_vec(), vec![], "418"),
        ("application/json", nested.into_bytes(), vec![], "418"),
        ("text/plain", megabytes, vec![], "418"),
        ("", Vec::new(), vec![], "418"),
    ] {
        let said = body.clone();
        let server =
            LyingServer::start(move |_, _| Response::status(418, said.clone()).header("Content-Type", content_type));
        let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        let shown = error.to_string();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(418)), "{shown}");
        assert_eq!(error.registry_errors().iter().map(|said| said.code.as_str()).collect::<Vec<_>>(), codes);
        assert!(shown.contains(told) && shown.len() < 1_000, "{shown}");
        assert!(!shown.contains("secret page") && !shown.contains(char::is_control), "{shown:?}");
        assert_eq!(server.journal().lines(), ["GET /v2/acme/hello/manifests/1"]);
        // Of megabytes nothing is read.
        assert!(net.stats().bytes_received <= 64 << 10, "{:?}", net.stats());
    }
}

#[tokio::test]
async fn quirk_p51_a_warning_is_told_once_for_each_host_in_clean_text() {
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::clone(&recorder) as _).build().unwrap();
    let long = format!("299 - \"{}\"", "x".repeat(4_096));
    let warning = |response: Response| {
        response
            .header("Content-Type", fixture::MANIFEST_TYPE)
            .header("Warning", "299 - \"this tag\u{202e} is \\\"old\\\"\u{9b}\"")
            .header("Warning", "110 - \"Response is stale\"")
            .header("Warning", long.clone())
            .header("Warning", "299 - \"behind what is read\"")
    };
    let answer = warning(Response::ok(fixture::component().manifest_bytes));
    let (here, there) = (answer.clone(), answer);
    let one = LyingServer::start(move |_, _| here.clone());
    let other = LyingServer::start_on([127, 0, 0, 2].into(), move |_, _| there.clone());
    for server in [&one, &one, &other, &one, &other] {
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        repository.manifest(Selector::Tag("1")).await.unwrap();
    }
    // Nothing is done about it, and it is said once for each.
    assert_eq!((one.journal().len(), other.journal().len()), (3, 2));
    let lines = recorder.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        assert!(line.starts_with("warning this tag") && line.contains("is \"old\""), "{line:?}");
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
    }
}

#[tokio::test]
async fn quirk_p52_the_version_of_the_api_is_a_remark_and_no_condition() {
    for (version, known) in [(None, None), (Some("registry/3.1"), Some("registry/3.1")), (Some(""), Some(""))] {
        let server = LyingServer::start(move |_, _| match version {
            Some(version) => Response::ok("{}").header("Docker-Distribution-API-Version", version),
            None => Response::ok("{}"),
        });
        let net = net();
        let said = net.registry(&server.host()).unwrap().ping().await.unwrap();
        assert_eq!(said.api_version.as_ref().map(SafeText::as_str), known);
        assert_eq!(server.journal().lines(), ["GET /v2/"]);
    }
    // And no operation asks for it first.
    let registry = Scenario::new(random()).start();
    pull_layer(&net(), &registry).await.unwrap();
    assert_eq!(registry.journal().count("GET", "/v2/acme/"), registry.journal().len());
}
