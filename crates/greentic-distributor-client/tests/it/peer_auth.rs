//! Registries that want to know who is there.

use std::sync::Arc;

use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario};
use greentic_distributor_client::dist::DistErrorKind::{Auth as AuthKind, Internal, Temporary};
use greentic_distributor_client::dist::{Credential, Secret, StaticCredentials};

use crate::support::{CANARY, Doubt, Home, assert_delivers, sample};

#[tokio::test]
async fn a_bearer_registry_open_to_everybody_costs_four_requests() {
    let registry = Scenario::new(sample()).auth(Auth::AnonymousBearer).start();
    let home = Home::new();
    let pulled = home.client().resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert_delivers(&pulled, registry.artifact());
    let lines: Vec<String> =
        registry.journal().entries().into_iter().map(|entry| format!("{} {}", entry.status, entry.path)).collect();
    let layer = format!("200 /v2/acme/hello/blobs/{}", registry.artifact().layer_digest());
    assert_eq!(
        lines,
        ["401 /v2/acme/hello/manifests/1", "200 /token", "200 /v2/acme/hello/manifests/1", layer.as_str()]
    );
}

#[tokio::test]
async fn a_login_is_sent_to_the_token_server_of_its_registry_and_the_token_to_the_registry() {
    let registry = Scenario::new(sample()).auth(Auth::bearer("alice", CANARY)).start();
    let home = Home::new();
    let client = home.with_login(&registry.host(), CANARY);
    let pulled = client.resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert_delivers(&pulled, registry.artifact());
    assert_eq!(registry.journal().len(), 4);
    for entry in registry.journal().entries() {
        let shown = entry.headers.get("authorization").unwrap_or_default();
        let expected = match (entry.path.as_str(), entry.status) {
            ("/token", _) => "Basic ",
            (_, 401) => "",
            _ => "Bearer ",
        };
        assert!(shown.starts_with(expected) && shown.is_empty() == expected.is_empty(), "{}: {shown}", entry.line());
    }
    home.assert_in_no_file(CANARY);
}

#[tokio::test]
async fn a_basic_registry_costs_three_requests_and_the_login_is_in_no_file() {
    let registry = Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start();
    let home = Home::new();
    let client = home.with_login(&registry.host(), CANARY);
    let pulled = client.resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert_delivers(&pulled, registry.artifact());
    assert_eq!(registry.journal().len(), 3);
    home.assert_in_no_file(CANARY);
    home.assert_in_no_file("YWxpY2U6");
}

#[tokio::test]
async fn a_registry_that_asks_for_nothing_is_told_nothing() {
    let registry = Scenario::new(sample()).start();
    let home = Home::new();
    let client = home.with_login(&registry.host(), CANARY);
    client.resolve_ref(&format!("oci://{}", registry.reference())).await.unwrap();
    assert!(!registry.journal().contains(CANARY));
}

#[tokio::test]
async fn a_missing_login_is_an_auth_error_with_the_host_in_its_hint() {
    for (auth, requests) in [(Auth::basic("alice", "x"), 1), (Auth::bearer("alice", "x"), 2)] {
        let registry = Scenario::new(sample()).auth(auth).start();
        let home = Home::new();
        let error = home.client().resolve_ref(&registry.reference()).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (AuthKind, 5), "{}", crate::support::chain(&error));
        assert!(error.hints().iter().any(|hint| hint.contains(&registry.host())), "{:?}", error.hints());
        home.assert_cache_empty();
        assert_eq!(registry.journal().len(), requests, "{:?}", registry.journal().lines());
    }
}

#[tokio::test]
async fn a_wrong_login_is_an_auth_error_that_does_not_tell_it() {
    for auth in [Auth::basic("alice", "right"), Auth::bearer("alice", "right")] {
        let registry = Scenario::new(sample()).auth(auth).start();
        let home = Home::new();
        let client = home.with_login(&registry.host(), CANARY);
        let error = client.resolve_ref(&registry.reference()).await.unwrap_err();
        let text = format!("{} {error:?} {:?}", crate::support::chain(&error), error.hints());
        assert_eq!((error.kind(), error.exit_code()), (AuthKind, 5), "{text}");
        assert!(!text.contains(CANARY), "{text}");
        home.assert_cache_empty();
        home.assert_in_no_file(CANARY);
    }
}

#[tokio::test]
async fn a_login_of_one_port_is_not_sent_to_another() {
    let registry = Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start();
    let neighbour = Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start();
    let home = Home::new();
    let client = home.with_login(&neighbour.host(), CANARY);
    let error = client.resolve_ref(&registry.reference()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(!registry.journal().contains(CANARY));
    assert!(neighbour.journal().is_empty());
}

#[tokio::test]
async fn a_given_token_is_sent_as_it_is_after_the_challenge() {
    let registry = Scenario::new(sample()).auth(Auth::AnonymousBearer).start();
    let home = Home::new();
    let credentials = StaticCredentials::new().with(&registry.host(), Credential::Bearer(Secret::new(CANARY)));
    let client = home.builder().credentials(Arc::new(credentials)).build();
    // The registry never issued this token.
    let error = client.resolve_ref(&registry.reference()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{}", crate::support::chain(&error));
    assert_eq!(registry.journal().authorization_of(0), None);
    assert_eq!(registry.journal().authorization_of(1), Some(format!("Bearer {CANARY}")));
    assert_eq!(registry.journal().count("GET", "/token"), 0);
}

#[tokio::test]
async fn tokens_the_registry_refuses_end_in_an_auth_error_after_few_requests() {
    let doubt = Doubt::with_auth(Auth::bearer("alice", CANARY), [Lie::TokenRefused]).await;
    let client = doubt.home.with_login(&doubt.registry.host(), CANARY);
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    refusal.is(AuthKind, 5, &["401"]);
    // The question, a token, the question again.
    assert_eq!(doubt.journal().len(), 3, "{:?}", doubt.journal().lines());
    doubt.heals(&client).await;
}

#[tokio::test]
async fn a_token_that_expired_meanwhile_is_fetched_again() {
    let registry = Scenario::new(sample()).auth(Auth::bearer("alice", CANARY)).start();
    registry.publish(&crate::support::other(5), "2");
    let home = Home::new();
    let client = home.with_login(&registry.host(), CANARY);
    client.resolve_ref(&registry.reference()).await.unwrap();
    registry.expire_tokens();
    let second = client.resolve_ref(&registry.reference_to("2")).await.unwrap();
    assert_delivers(&second, &crate::support::other(5));
    assert_eq!(registry.journal().count("GET", "/token"), 2);
}

#[tokio::test]
async fn row_47_token_servers_that_answer_rubbish_end_in_an_auth_error() {
    for body in ["", "{}", "[]", "<html>", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":7}"#] {
        let doubt = Doubt::with_auth(Auth::AnonymousBearer, [Lie::TokenBody(body.to_owned())]).await;
        let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
        refusal.is(AuthKind, 5, &["token"]);
        assert_eq!(doubt.asked().1, 0);
    }
}

#[tokio::test]
async fn row_47_a_token_server_without_end_is_cut_off() {
    let doubt = Doubt::with_auth(Auth::AnonymousBearer, [Lie::EndlessToken]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Internal, 10, &["65536"]);
    assert!(doubt.journal().body_bytes_sent("/token") < 32 << 20);
}

#[tokio::test]
async fn token_servers_that_fail_are_temporary() {
    let doubt = Doubt::with_auth(Auth::AnonymousBearer, [Lie::status(Part::Token, 503)]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &["503", "/token"]);
    let doubt = Doubt::with_auth(Auth::AnonymousBearer, [Lie::burst(Part::Token, 503, 2)]).await;
    assert_delivers(&doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap(), doubt.registry.artifact());
}

#[tokio::test]
async fn eight_pulls_at_once_fetch_one_token() {
    let registry = Scenario::new(sample()).auth(Auth::bearer("alice", CANARY)).start();
    let mut references = Vec::new();
    for number in 0..8 {
        registry.publish(&crate::support::other(number), &format!("t{number}"));
        references.push(format!("oci://{}", registry.reference_to(&format!("t{number}"))));
    }
    let home = Home::new();
    let client = home.with_login(&registry.host(), CANARY);
    for result in client.pull_all(&references).await {
        result.unwrap();
    }
    assert_eq!(registry.journal().count("GET", "/token"), 1);
}
