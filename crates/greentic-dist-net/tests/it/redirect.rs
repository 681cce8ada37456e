use std::net::{IpAddr, Ipv4Addr};

use greentic_dist_net::{Limits, NetErrorKind, Selector};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Scenario, blob_host, bystander};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::Digest;

use crate::support::{described, net, pull_layer, quick, read, repository, with_login};

const CANARY: &str = "canary-77aa";
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn random() -> fixture::Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(5, 100_000))
}

#[tokio::test]
async fn row_49_a_blob_on_another_host_is_fetched_without_credentials_cookies_and_referer() {
    for status in [301, 302, 303, 307, 308] {
        let artifact = random();
        let cdn = blob_host(OTHER, &artifact);
        let registry = Scenario::new(artifact)
            .auth(Auth::basic("ann", CANARY))
            .lie(Lie::RedirectBlob { status, base: cdn.url() })
            .start();
        let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
        assert!(pull_layer(&net, &registry).await.unwrap() == registry.artifact().layer_bytes());
        assert!(registry.journal().contains(CANARY), "the registry got its login");
        assert!(!cdn.journal().contains(CANARY));
        assert_eq!(cdn.journal().len(), 1);
        for entry in cdn.journal().entries() {
            for absent in ["authorization", "cookie", "referer"] {
                assert_eq!(entry.headers.get(absent), None, "{status} {absent}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_not_sent_to_the_redirect_target_either() {
    let artifact = random();
    let cdn = blob_host(OTHER, &artifact);
    let registry = Scenario::new(artifact)
        .auth(Auth::AnonymousBearer)
        .lie(Lie::RedirectBlob { status: 307, base: cdn.url() })
        .start();
    pull_layer(&net(), &registry).await.unwrap();
    assert!(registry.journal().any_header_contains("token-1"));
    assert!(!cdn.journal().any_header_contains("token-1"));
}

#[tokio::test]
async fn another_port_counts_as_another_origin() {
    let artifact = random();
    let cdn = blob_host(IpAddr::V4(Ipv4Addr::LOCALHOST), &artifact);
    let registry = Scenario::new(artifact)
        .auth(Auth::basic("ann", CANARY))
        .lie(Lie::RedirectBlob { status: 307, base: cdn.url() })
        .start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    pull_layer(&net, &registry).await.unwrap();
    assert!(!cdn.journal().contains(CANARY));
}

#[tokio::test]
async fn a_redirected_blob_that_is_cut_goes_on_from_a_fresh_redirect() {
    let artifact = random();
    let whole = artifact.layer_bytes().to_vec();
    let cdn = LyingServer::start_on(OTHER, move |request, _| {
        let answer = Response::ranged(request, "", whole.clone());
        if request.index == 0 { answer.cut_after(60_000) } else { answer }
    });
    let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: cdn.url() }).start();
    assert!(pull_layer(&net(), &registry).await.unwrap() == registry.artifact().layer_bytes());
    assert_eq!(registry.journal().len(), 2, "the registry is asked again: signed addresses expire");
    assert_eq!(cdn.journal().header_of(1, "range").as_deref(), Some("bytes=60000-"));
}

#[tokio::test]
async fn an_expired_signed_address_is_asked_for_anew_once() {
    let artifact = random();
    let whole = artifact.layer_bytes().to_vec();
    let cdn = LyingServer::start_on(OTHER, move |request, _| {
        if request.index == 0 { Response::status(403, "expired") } else { Response::ok(whole.clone()) }
    });
    let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: cdn.url() }).start();
    pull_layer(&net(), &registry).await.unwrap();
    assert_eq!((registry.journal().len(), cdn.journal().len()), (2, 2));
}

#[tokio::test]
async fn a_redirect_target_that_asks_for_a_login_gets_none() {
    let thief = LyingServer::start_on(OTHER, |_, _| Response::basic_challenge("give"));
    let registry = Scenario::new(random())
        .auth(Auth::basic("ann", CANARY))
        .lie(Lie::RedirectBlob { status: 307, base: thief.url() })
        .start();
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let error = pull_layer(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert!(!thief.journal().contains(CANARY));
}

fn redirecting(location: impl Into<String>) -> LyingServer {
    let location = location.into();
    LyingServer::start(move |_, _| Response::redirect(307, location.clone()))
}

#[tokio::test]
async fn row_50_redirects_that_lead_nowhere_good_are_refused() {
    for location in [
        "http://cdn.example/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:,x",
        "https://user:canary@127.0.0.1/x",
        "",
        "http://[",
        "https://0.0.0.0/",
    ] {
        let server = redirecting(location);
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let error = repository.blob(&described(Digest::sha256(b"x"), 1)).open().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{location}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
        assert_eq!(server.journal().len(), 1, "{location}");
    }
}

#[tokio::test]
async fn row_50_a_redirect_without_a_location_is_refused() {
    let server = LyingServer::start(|_, _| Response::status(302, ""));
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let error = repository.blob(&described(Digest::sha256(b"x"), 1)).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
}

#[tokio::test]
async fn a_relative_location_is_resolved_against_the_request() {
    let bytes = b"moved".to_vec();
    let digest = Digest::sha256(&bytes);
    let server = LyingServer::start(move |request, _| match request.path.as_str() {
        "/cdn/moved" => Response::ok(bytes.clone()),
        _ => Response::redirect(307, "../../../../cdn/moved?token=1#part"),
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let stream = repository.blob(&described(digest, 5)).open().await.unwrap();
    assert_eq!(read(stream).await.unwrap(), b"moved");
    assert_eq!(server.journal().entries()[1].target, "/cdn/moved?token=1");
}

#[tokio::test]
async fn row_50_circles_and_long_chains_of_redirects_end_and_name_their_hops() {
    let registry: LyingRegistry = Scenario::new(random()).lie(Lie::RedirectLoop).start();
    let error = pull_layer(&net(), &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    assert_eq!(registry.journal().len(), 1, "{error}");
    assert!(error.to_string().contains("it leads in a circle; the way: http://"), "{error}");

    let server = LyingServer::start(|request, _| Response::redirect(307, format!("/{}?sig={CANARY}", request.index)));
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Refused);
    assert_eq!(server.journal().len(), 6, "the request and five redirects");
    let base = server.url();
    let hops: Vec<String> = (0..6).map(|hop| format!("{base}/{hop}?sig=…")).collect();
    let way = format!("the way: {base}/v2/acme/hello/manifests/1 -> {})", hops.join(" -> "));
    assert!(error.to_string().contains(&way), "{error}\n{way}");
    assert!(!format!("{error:?} {error}").contains(CANARY), "{error:?}");
}

#[tokio::test]
async fn row_50_a_way_over_other_hosts_is_told_whatever_ends_it() {
    for (end, why) in [
        ("http://10.0.0.1:9/x?token=canary-77aa", "http://10.0.0.1:9/x?token=… is plain HTTP"),
        ("ftp://a.example/canary-77aa", "`ftp` is not a web address"),
        ("http://[", "it has no usable `Location`"),
    ] {
        let second = LyingServer::start_on(OTHER, move |_, _| Response::redirect(302, end));
        let first = redirecting(format!("{}/middle?sig={CANARY}", second.url()));
        let repository = repository(&net(), &format!("{}/acme/hello", first.host()));
        let error = repository.blob(&described(Digest::sha256(b"x"), 1)).open().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Refused, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("({why}; the way: {}/v2/acme/hello/blobs/", first.url())), "{text}");
        assert!(text.contains(&format!(" -> {}/middle?sig=…", second.url())), "{text}");
        assert!(!format!("{error:?} {text}").contains(CANARY), "{error:?}");
        assert_eq!((first.journal().len(), second.journal().len()), (1, 1));
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_the_limit_can_be_set() {
    let bytes = b"at last".to_vec();
    let digest = Digest::sha256(&bytes);
    let server = LyingServer::start(move |request, _| match request.path.as_str() {
        "/5" => Response::ok(bytes.clone()),
        path => {
            let next = path.strip_prefix('/').and_then(|path| path.parse::<u32>().ok()).unwrap_or(0) + 1;
            Response::redirect(307, format!("/{next}"))
        }
    });
    let reference = format!("{}/acme/hello", server.host());
    let blob = described(digest, 7);
    assert_eq!(read(repository(&net(), &reference).blob(&blob).open().await.unwrap()).await.unwrap(), b"at last");
    let strict = quick().limits(Limits { redirects: 4, ..Limits::default() }).build().unwrap();
    assert_eq!(repository(&strict, &reference).blob(&blob).open().await.unwrap_err().kind(), NetErrorKind::Refused);
}

#[tokio::test]
async fn row_51_credentials_dropped_on_the_way_out_are_not_sent_on_the_way_back() {
    let artifact = random();
    let whole = artifact.layer_bytes().to_vec();
    let detour = LyingServer::start_on(OTHER, |request, _| {
        let back = request.param("back").unwrap_or_default().to_owned();
        Response::redirect(307, back)
    });
    let via = detour.url();
    let registry = LyingServer::start(move |request, ctx| match request.path.as_str() {
        "/plain" => Response::ok(whole.clone()),
        _ if request.header("authorization").is_some() => {
            Response::redirect(307, format!("{via}/?back={}", ctx.url("/plain")))
        }
        _ => Response::basic_challenge("x"),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", registry.host()));
    let blob = described(artifact.layer_digest(), artifact.layer_bytes().len());
    read(repository.blob(&blob).open().await.unwrap()).await.unwrap();
    let journal = registry.journal();
    let last = journal.entries().last().cloned().unwrap();
    assert_eq!((last.path.as_str(), last.headers.get("authorization")), ("/plain", None));
}

#[tokio::test]
async fn a_manifest_may_be_redirected_and_is_still_proven() {
    let registry = Scenario::new(random()).start();
    let front = {
        let base = registry.url();
        LyingServer::start_on(OTHER, move |request, _| Response::redirect(307, format!("{base}{}", request.target)))
    };
    let repository = repository(&net(), &format!("{}/acme/hello", front.host()));
    let manifest = repository.manifest(Selector::Digest(registry.artifact().manifest_digest)).await.unwrap();
    assert_eq!(manifest.raw, registry.artifact().manifest_bytes);
}

#[tokio::test]
async fn a_bystander_named_by_nobody_is_never_asked() {
    let bystander = bystander(OTHER);
    let registry = Scenario::new(random()).start();
    pull_layer(&net(), &registry).await.unwrap();
    assert!(bystander.journal().is_empty());
}
