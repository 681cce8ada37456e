//! Proxies that are named in code: what goes through them, and what they are told.

use greentic_dist_net::{HttpRule, NetBuilder, NetErrorKind, Proxy, ProxyRule, Selector};
use greentic_dist_testkit::scenario::Scenario;
use greentic_dist_testkit::{LyingServer, Response, fixture};

use crate::support::{quick, repository};

const CANARY: &str = "canary-proxy-3c";

/// A proxy that answers itself what it is asked to get.
fn proxy() -> LyingServer {
    let artifact = fixture::component();
    LyingServer::start(move |_, _| {
        Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
    })
}

fn through(proxy: &LyingServer) -> Proxy {
    Proxy::new(proxy.url()).login("ann", CANARY)
}

fn plain(rule: ProxyRule) -> NetBuilder {
    quick().proxy(rule).http_rule(HttpRule::Also(vec!["registry.test".to_owned()]))
}

#[tokio::test]
async fn plain_http_goes_through_the_proxy_that_is_named_with_its_login() {
    let proxy = proxy();
    let net = plain(ProxyRule::Through(through(&proxy))).build().unwrap();
    repository(&net, "registry.test:5000/acme/hello").manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(proxy.journal().lines(), ["GET http://registry.test:5000/v2/acme/hello/manifests/1"]);
    let sent = proxy.journal().header_of(0, "proxy-authorization").unwrap();
    assert!(sent.starts_with("Basic ") && proxy.journal().any_header_contains(CANARY));
    assert!(proxy.journal().authorization_of(0).is_none(), "the login of a proxy is not one for the registry");
    assert!(!format!("{net:?}").contains(CANARY), "{net:?}");
}

#[tokio::test]
async fn https_goes_through_the_proxy_as_a_tunnel_and_a_refusal_names_the_host() {
    let proxy = LyingServer::start(|_, _| Response::status(407, "who are you").header("Proxy-Authenticate", "Basic"));
    let net = quick().proxy(ProxyRule::Through(through(&proxy))).build().unwrap();
    let error = repository(&net, "registry.test/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (NetErrorKind::Config, false), "{error:?}");
    assert!(error.to_string().contains("https://registry.test/"), "{error}");
    assert!(error.to_string().contains(&format!("the proxy `{}` wants a login", proxy.host())), "{error}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    assert_eq!(proxy.journal().lines(), ["CONNECT registry.test:443"], "it is asked once");
    assert!(proxy.journal().any_header_contains(CANARY));
}

#[tokio::test]
async fn plain_http_that_the_proxy_wants_a_login_for_ends_as_the_tunnel_does() {
    let proxy = LyingServer::start(|_, _| Response::status(407, CANARY).header("Proxy-Authenticate", "Basic"));
    let net = plain(ProxyRule::Through(through(&proxy))).build().unwrap();
    let error = repository(&net, "registry.test:5000/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (NetErrorKind::Config, false), "{error:?}");
    assert!(error.to_string().contains(&format!("the proxy `{}` wants a login", proxy.host())), "{error}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    assert_eq!(proxy.journal().len(), 1);
}

#[tokio::test]
async fn what_fails_behind_a_proxy_names_the_proxy() {
    let proxy = LyingServer::start(|_, _| Response::status(502, "nobody there"));
    let net = quick().proxy(ProxyRule::Through(through(&proxy))).build().unwrap();
    let error = repository(&net, "registry.test/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Connect, 5), "{error:?}");
    let named = format!("it was asked through the proxy `{}`", proxy.host());
    assert_eq!(error.hints().iter().filter(|hint| **hint == named).count(), 1, "{:?}", error.hints());
    assert!(!format!("{error:?} {:?}", error.hints()).contains(CANARY), "{error:?}");
}

#[tokio::test]
async fn exceptions_this_machine_and_a_proxy_that_is_off_are_reached_directly() {
    let proxy = proxy();
    let exempt = ProxyRule::Through(through(&proxy).except("registry.test"));
    for rule in [exempt, ProxyRule::Off] {
        let net = plain(rule).build().unwrap();
        let error = repository(&net, "registry.test:5000/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Dns, "there is no such host: {error:?}");
    }
    let here = Scenario::new(fixture::component()).start();
    let net = plain(ProxyRule::Through(through(&proxy))).build().unwrap();
    repository(&net, &here.reference()).manifest(Selector::Tag("1")).await.unwrap();
    assert!(proxy.journal().is_empty());
    assert!(!here.journal().any_header_contains(CANARY));
}

#[test]
fn a_proxy_that_is_none_is_refused_when_the_client_is_built() {
    for wrong in ["registry.test", "socks5://127.0.0.1:1", "http://127.0.0.1:1/path"] {
        let error = quick().proxy(ProxyRule::Through(Proxy::new(wrong))).build().unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Config, "{wrong}");
    }
}

#[tokio::test]
async fn the_login_of_a_proxy_is_blanked_in_what_the_proxy_says() {
    let proxy = LyingServer::start(|request, _| {
        let login = request.header("proxy-authorization").unwrap_or_default();
        Response::oci_error(403, "DENIED", &format!("not with {CANARY}, sent as {login}"))
    });
    let net = plain(ProxyRule::Through(through(&proxy))).build().unwrap();
    let error = repository(&net, "registry.test:5000/acme/hello").manifest(Selector::Tag("1")).await.unwrap_err();
    let text = format!("{error} {:?}", error.registry_errors());
    let login = proxy.journal().header_of(0, "proxy-authorization").unwrap();
    let login = login.strip_prefix("Basic ").unwrap();
    assert!(text.contains("not with [redacted]") && !text.contains(CANARY) && !text.contains(login), "{text}");
}
