//! Registries that send the client elsewhere: what the other host hears, and what it never hears.

use std::net::{IpAddr, Ipv4Addr};

use greentic_dist_testkit::scenario::{Auth, Lie, Scenario, blob_host, bystander};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_distributor_client::dist::DistErrorKind::{self, NotFound, Policy};

use crate::support::{CANARY, Doubt, Home, assert_delivers, sample};

/// Another host of this machine.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Panics when a server heard a secret in any form.
#[track_caller]
fn assert_told_nothing(server: &LyingServer) {
    assert!(!server.journal().contains(CANARY), "{:?}", server.journal().entries());
    for entry in server.journal().entries() {
        for private in ["authorization", "cookie", "proxy-authorization", "referer"] {
            assert_eq!(entry.headers.get(private), None, "{}", entry.line());
        }
    }
}

#[tokio::test]
async fn row_41_a_realm_on_another_host_gets_no_login() {
    let thief = bystander(ELSEWHERE);
    let lie = Lie::Realm(format!("{}/token", thief.url()));
    let doubt = Doubt::with_auth(Auth::bearer("alice", CANARY), [lie]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    refusal.is(Policy, 6, &["127.0.0.2", "was not sent"]);
    assert!(thief.journal().is_empty(), "{:?}", thief.journal().lines());
    assert!(!doubt.journal().contains(CANARY));
    doubt.home.assert_in_no_file(CANARY);
}

#[tokio::test]
async fn a_realm_on_another_port_of_the_same_host_gets_no_login() {
    let thief = bystander(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let lie = Lie::Realm(format!("{}/token", thief.url()));
    let doubt = Doubt::with_auth(Auth::bearer("alice", CANARY), [lie]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    doubt.refused(&client, &doubt.reference()).await.is(Policy, 6, &["was not sent"]);
    assert!(thief.journal().is_empty());
}

#[tokio::test]
async fn a_realm_on_another_host_is_asked_anonymously_when_there_is_no_login() {
    let stranger = bystander(ELSEWHERE);
    let lie = Lie::Realm(format!("{}/token", stranger.url()));
    let doubt = Doubt::with_auth(Auth::AnonymousBearer, [lie]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    assert_eq!(refusal.error.kind(), NotFound, "{}", refusal.text());
    assert_told_nothing(&stranger);
}

#[tokio::test]
async fn row_42_realms_that_are_no_web_address_of_this_world_are_refused() {
    for realm in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/token",
        "http://example.invalid/token",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/token",
        "http://user:pass@127.0.0.1/token",
    ] {
        let doubt = Doubt::with_auth(Auth::bearer("alice", CANARY), [Lie::Realm(realm.to_owned())]).await;
        let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
        doubt.refused(&client, &doubt.reference()).await.is(Policy, 6, &["realm"]);
        assert!(!doubt.journal().contains(CANARY));
    }
}

#[tokio::test]
async fn a_blob_on_another_host_is_fetched_there_without_the_login() {
    for status in [301, 302, 303, 307, 308] {
        let other = blob_host(ELSEWHERE, &sample());
        let lie = Lie::RedirectBlob { status, base: other.url() };
        for auth in [Auth::basic("alice", CANARY), Auth::bearer("alice", CANARY)] {
            let doubt = Doubt::with_auth(auth, [lie.clone()]).await;
            let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
            let pulled = client.resolve_ref(&doubt.reference()).await.unwrap();
            assert_delivers(&pulled, doubt.registry.artifact());
            doubt.home.assert_in_no_file(CANARY);
        }
        assert_eq!(other.journal().len(), 2, "{status}");
        assert_told_nothing(&other);
    }
}

#[tokio::test]
async fn a_resumed_blob_on_another_host_is_fetched_without_the_login_too() {
    let artifact = sample();
    let bytes = artifact.layer_bytes().to_vec();
    let other = LyingServer::start_on(ELSEWHERE, move |request, _| {
        let answer = Response::ranged(request, "\"x\"", bytes.clone());
        if request.index == 0 { answer.cut_after(40_000) } else { answer }
    });
    let lie = Lie::RedirectBlob { status: 307, base: other.url() };
    let doubt = Doubt::with_auth(Auth::basic("alice", CANARY), [lie]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    assert_delivers(&client.resolve_ref(&doubt.reference()).await.unwrap(), doubt.registry.artifact());
    assert_eq!(other.journal().len(), 2);
    assert_eq!(other.journal().header_of(1, "range").as_deref(), Some("bytes=40000-"));
    assert_told_nothing(&other);
}

#[tokio::test]
async fn wrong_bytes_from_the_other_host_are_refused() {
    let other = LyingServer::start_on(ELSEWHERE, |_, _| Response::ok(vec![7_u8; 200_000]));
    let doubt = Doubt::about([Lie::RedirectBlob { status: 307, base: other.url() }]).await;
    let client = doubt.home.client();
    doubt.refused(&client, &doubt.reference()).await.is(DistErrorKind::Integrity, 8, &[]);
    doubt.heals(&client).await;
}

#[tokio::test]
async fn a_manifest_on_another_host_is_asked_for_without_the_login() {
    let other = bystander(ELSEWHERE);
    let lie = Lie::RedirectManifest { status: 307, base: other.url() };
    let doubt = Doubt::with_auth(Auth::basic("alice", CANARY), [lie]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    assert!(matches!(refusal.error.kind(), NotFound | Policy), "{}", refusal.text());
    assert_told_nothing(&other);
}

#[tokio::test]
async fn row_46_a_challenge_of_the_other_host_is_not_answered() {
    let thief = LyingServer::start_on(ELSEWHERE, |_, _| Response::basic_challenge("give me"));
    let lie = Lie::RedirectBlob { status: 307, base: thief.url() };
    let doubt = Doubt::with_auth(Auth::basic("alice", CANARY), [lie]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    refusal.is(DistErrorKind::Auth, 5, &["401"]);
    assert_told_nothing(&thief);
}

#[tokio::test]
async fn row_50_redirects_in_a_circle_end() {
    let doubt = Doubt::about([Lie::RedirectLoop]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Policy, 6, &["redirect"]);
    assert!(doubt.asked().1 <= 6, "{:?}", doubt.journal().lines());
}

#[tokio::test]
async fn row_52_redirects_to_where_nobody_may_be_sent_are_refused() {
    for base in
        ["http://169.254.169.254", "http://10.255.255.1", "file:///etc", "ftp://127.0.0.1", "http://a:b@127.0.0.1:1"]
    {
        let doubt = Doubt::about([Lie::RedirectBlob { status: 307, base: base.to_owned() }]).await;
        let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
        refusal.is(Policy, 6, &[]);
    }
}

#[tokio::test]
async fn a_link_header_is_followed_by_no_pull() {
    // Listing tags is no operation of this version; that a `Link` leads nowhere is shown where one could creep in.
    let thief = bystander(ELSEWHERE);
    let link = format!("<{}/v2/acme/hello/tags/list?last=1>; rel=\"next\"", thief.url());
    let artifact = sample();
    let copy = artifact.clone();
    let server = LyingServer::start(move |request, _| {
        if request.header("authorization").is_none() {
            return Response::basic_challenge("registry").header("Link", link.clone());
        }
        let body = if request.path.contains("/manifests/") {
            Response::ok(copy.manifest_bytes.clone()).header("Content-Type", copy.media_type.clone())
        } else {
            Response::ranged(request, "", copy.layer_bytes().to_vec())
        };
        body.header("Link", link.clone())
    });
    let home = Home::new();
    let client = home.with_login(&server.host(), CANARY);
    let pulled = client.resolve_ref(&format!("oci://{}/acme/hello:1", server.host())).await.unwrap();
    assert_delivers(&pulled, &artifact);
    assert_eq!(server.journal().len(), 3, "{:?}", server.journal().lines());
    assert!(thief.journal().is_empty() && thief.connections() == 0);

    let registry = Scenario::new(sample()).lie(Lie::TagsLink(format!("<{}/x>; rel=\"next\"", thief.url()))).start();
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    assert_eq!(registry.journal().count_containing("/tags/"), 0);
    assert!(thief.journal().is_empty());
}

#[tokio::test]
async fn a_plain_url_that_leads_elsewhere_is_followed_within_the_rules() {
    let body = b"\0asm elsewhere".to_vec();
    let copy = body.clone();
    let other = LyingServer::start_on(ELSEWHERE, move |_, _| Response::ok(copy.clone()));
    let target = format!("{}/b.wasm", other.url());
    let server = LyingServer::start(move |request, _| match request.path.as_str() {
        "/a.wasm" => Response::redirect(302, target.clone()),
        "/up" => Response::redirect(302, "file:///etc/passwd"),
        _ => Response::redirect(302, "http://169.254.169.254/latest"),
    });
    let home = Home::new();
    let options = greentic_distributor_client::dist::DistOptions { allow_insecure_local_http: true, ..home.options() };
    let client = home.builder().options(options).build();
    let pulled = client.resolve_ref(&format!("{}/a.wasm", server.url())).await.unwrap();
    assert!(pulled.wasm_bytes().unwrap() == body);
    for path in ["/up", "/meta"] {
        let error = client.resolve_ref(&format!("{}{path}", server.url())).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Policy, 6), "{}", crate::support::chain(&error));
    }
    assert_eq!(home.client().list_cache().len(), 1);
}
