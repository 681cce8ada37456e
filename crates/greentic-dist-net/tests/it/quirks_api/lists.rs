//! Lists: tags and repositories, page by page.

use std::sync::Arc;

use greentic_dist_net::{HttpRule, Limits, NetErrorKind};
use greentic_dist_testkit::scenario::bystander;
use greentic_dist_testkit::{LyingServer, Response};

use super::{CANARY, at, script, serving, with_password};
use crate::support::{Recorder, net, quick, repository, with_login};
use crate::tls_server::{Certificate, TlsServer, whole};

const TAGS: &str = "GET /v2/acme/hello/tags/list";

fn tags(names: &str) -> Response {
    Response::ok(format!(r#"{{"name":"acme/hello","tags":{names}}}"#)).header("Content-Type", "application/json")
}

async fn all_of(server: &LyingServer) -> Result<Vec<String>, NetErrorKind> {
    at(&net(), server).tags().collect(100).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn quirk_p09_null_and_missing_tags_are_none_and_another_name_is_a_warning() {
    for body in [r#"{"name":"acme/hello","tags":null}"#, r#"{"name":"acme/hello"}"#, "{}"] {
        assert_eq!(all_of(&script([Response::ok(body)])).await, Ok(Vec::new()), "{body}");
    }
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::clone(&recorder) as _).build().unwrap();
    let server = script([Response::ok(r#"{"name":"upstream/hello","tags":["1","no tag"]}"#)]);
    assert_eq!(at(&net, &server).tags().collect(10).await.unwrap(), ["1"]);
    let warnings = recorder.lines();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("another name") && warnings[1].contains("1 of the listed tags"), "{warnings:?}");
    for body in ["[]", "<html>", "{\"tags\":7}", ""] {
        assert_eq!(all_of(&script([Response::ok(body)])).await, Err(NetErrorKind::Protocol), "{body}");
    }
}

#[tokio::test]
async fn quirk_p10_links_are_followed_on_their_own_origin_and_nowhere_else() {
    let next = |link: String| tags(r#"["1"]"#).header("Link", link);
    // Relative, absolute, opaque, and one that says there is no next page.
    let server = serving(move |request, ctx| match request.target.as_str() {
        "/v2/acme/hello/tags/list" => next("<list?next_page=a%2Bb%3D>; rel=\"next\"".into()),
        "/v2/acme/hello/tags/list?next_page=a%2Bb%3D" => {
            next(format!("<{}>; rel=next", ctx.url("/v2/acme/hello/tags/list?p=3")))
        }
        "/v2/acme/hello/tags/list?p=3" => next("</v2/acme/hello/tags/list?p=4>; rel=\"next\"; title=\"a, b\"".into()),
        _ => next("<>; rel=\"next\"".into()),
    });
    assert_eq!(all_of(&server).await, Ok(vec!["1".to_owned(); 4]));
    assert_eq!(
        server.journal().lines(),
        [TAGS.to_owned(), format!("{TAGS}?next_page=a%2Bb%3D"), format!("{TAGS}?p=3"), format!("{TAGS}?p=4")]
    );
    // Another host: not asked, and nothing told.
    let stranger = bystander([127, 0, 0, 2].into());
    let url = stranger.url();
    let server = with_password(move |_, _| next(format!("<{url}/v2/acme/hello/tags/list?p=2>; rel=next")));
    let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
    let error = at(&net, &server).tags().collect(10).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
    assert_eq!(stranger.connections(), 0);
    assert!(!format!("{error} {error:?}").contains(CANARY));
    // In a circle, malformed, away from HTTP.
    for (link, kind) in [
        ("<list>; rel=next", NetErrorKind::Protocol),
        ("<list?p=2>; rel=\"next", NetErrorKind::Protocol),
        ("<ftp://x/y>; rel=next", NetErrorKind::Refused),
    ] {
        let server = serving(move |_, _| next(link.into()));
        assert_eq!(all_of(&server).await, Err(kind), "{link}");
        assert_eq!(server.journal().len(), 1, "{link}");
    }
}

#[tokio::test]
async fn quirk_p10_a_link_that_forgot_its_tls_is_upgraded_on_its_own_host_and_refused_on_another() {
    for (named, known) in [("OWN", true), ("127.0.0.2:1", false)] {
        let server = TlsServer::serving(Certificate::Good, &["h2"], move |request| {
            let answer = hyper::Response::builder().header("Content-Type", "application/json");
            let own = request.uri().authority().unwrap().as_str();
            let answer = match request.uri().query() {
                None => {
                    let host = named.replace("OWN", own);
                    answer.header("Link", format!("<http://{host}/v2/acme/hello/tags/list?p=2>; rel=\"next\""))
                }
                Some(_) => answer,
            };
            answer.body(whole(r#"{"name":"acme/hello","tags":["1"]}"#)).unwrap()
        })
        .await;
        let net =
            server.trusted_by(with_login(&server.host(), "ann", CANARY)).http_rule(HttpRule::Never).build().unwrap();
        let listed = repository(&net, &format!("{}/acme/hello", server.host())).tags().collect(10).await;
        if known {
            assert_eq!(listed.unwrap(), ["1", "1"]);
        } else {
            assert_eq!(listed.unwrap_err().kind(), NetErrorKind::Refused);
        }
        assert_eq!(server.seen().len(), 1 + usize::from(known), "{named}: {:?}", server.seen());
    }
}

#[tokio::test]
async fn quirk_p10_lists_without_end_are_given_up_at_the_caps() {
    lists_end_at_the_caps().await;
}

#[tokio::test]
async fn row_54_lists_without_end_are_given_up_at_the_caps() {
    lists_end_at_the_caps().await;
}

async fn lists_end_at_the_caps() {
    let endless = || {
        serving(|request, _| {
            let page: u32 = request.param("p").and_then(|text| text.parse().ok()).unwrap_or(0);
            tags(r#"["1"]"#).header("Link", format!("<list?p={}>; rel=next", page + 1))
        })
    };
    let server = endless();
    let net = quick().limits(Limits { pages: 7, ..Limits::default() }).build().unwrap();
    let error = at(&net, &server).tags().collect(100).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert_eq!(server.journal().len(), 7);
    let server = endless();
    let error = at(&net, &server).tags().collect(3).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert_eq!(server.journal().len(), 4);
    let net = quick().limits(Limits { page_bytes: 100, ..Limits::default() }).build().unwrap();
    let server = script([Response::ok(vec![b' '; 101])]);
    let error = at(&net, &server).tags().collect(3).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
}

#[tokio::test]
async fn quirk_p11_a_page_size_is_asked_for_only_when_wanted_and_never_above_what_all_take() {
    for (entries, line) in [(0, "?n=1"), (5, "?n=5"), (1_000_000, "?n=1000")] {
        let server = script([tags("[]")]);
        let list = at(&net(), &server).tags().page_size(entries);
        assert_eq!(list.collect(10).await.unwrap(), Vec::<String>::new());
        assert_eq!(server.journal().lines(), [format!("{TAGS}{line}")]);
    }
    // A registry that ignores `n` and `last` sends everything: only its Link says that there is more.
    let server = script([tags(r#"["a","b","c"]"#)]);
    let list = at(&net(), &server).tags().page_size(1).after("a&b");
    assert_eq!(list.collect(10).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(server.journal().lines(), [format!("{TAGS}?n=1&last=a%26b")]);
}

#[tokio::test]
async fn quirk_p12_a_catalog_that_is_not_offered_is_unsupported_and_names_the_registry() {
    for status in [403, 404, 405] {
        let server = script([Response::oci_error(status, "UNSUPPORTED", "no")]);
        let registry = net().registry(&server.host()).unwrap();
        let error = registry.catalog().collect(10).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Unsupported, Some(status)));
        assert!(error.to_string().contains(&format!("`{}` does not list its repositories", server.host())), "{error}");
    }
    // A registry that gives everybody a token and this list to nobody.
    let server = serving(|request, ctx| match request.path.as_str() {
        "/token" => Response::ok(r#"{"token":"t"}"#),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", "registry:catalog:*"),
    });
    let error = net().registry(&server.host()).unwrap().catalog().collect(10).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Unsupported, Some(401)));
    assert_eq!(
        server.journal().lines(),
        ["GET /v2/_catalog", "GET /token?service=s&scope=registry%3Acatalog%3A*", "GET /v2/_catalog"]
    );
    // Where a password is wanted and none is known, that is what is wrong.
    let server = with_password(|_, _| Response::ok(r#"{"repositories":["a/b","../c"]}"#));
    let error = net().registry(&server.host()).unwrap().catalog().collect(10).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
    assert_eq!(net.registry(&server.host()).unwrap().catalog().collect(10).await.unwrap(), ["a/b"]);
    assert!(net.registry(&server.host()).unwrap().ping().await.unwrap().wants_login);
}
