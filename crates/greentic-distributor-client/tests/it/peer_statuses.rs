//! Registries that say no, not now, or something else altogether.

use std::time::Duration;

use greentic_dist_testkit::scenario::{Lie, Part, retry_after_date};
use greentic_distributor_client::dist::DistErrorKind::{Auth, NotFound, Temporary};
use greentic_distributor_client::dist::RetryPolicy;

use crate::support::{Doubt, assert_delivers, quick_retries};

fn not_now(times: u32, retry_after: &str) -> Lie {
    Lie::Status { on: Part::Manifest, status: 429, times, retry_after: Some(retry_after.to_owned()) }
}

#[tokio::test]
async fn a_manifest_that_does_not_exist_is_not_found_after_one_question() {
    let doubt = Doubt::about([]).await;
    let reference = format!("oci://{}", doubt.registry.reference_to("no-such-tag"));
    let refusal = doubt.refused(&doubt.home.client(), &reference).await;
    refusal.is(NotFound, 3, &["404", "MANIFEST_UNKNOWN"]);
    assert_eq!(doubt.asked(), (1, 0));
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_not_found() {
    let doubt = Doubt::about([]).await;
    let reference = format!("oci://{}/acme/nothing:1", doubt.registry.host());
    let refusal = doubt.refused(&doubt.home.client(), &reference).await;
    refusal.is(NotFound, 3, &["404"]);
}

#[tokio::test]
async fn a_blob_the_registry_lost_is_not_found() {
    let doubt = Doubt::about([Lie::status(Part::Blob, 404)]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(NotFound, 3, &["404", "/blobs/"]);
    assert_eq!(doubt.asked(), (1, 1));
}

#[tokio::test]
async fn unauthorized_and_forbidden_are_about_the_login() {
    for (status, part) in [(401, Part::Manifest), (403, Part::Manifest), (401, Part::Blob), (403, Part::Blob)] {
        let doubt = Doubt::about([Lie::status(part, status)]).await;
        let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
        refusal.is(Auth, 5, &[&status.to_string()]);
        assert!(!refusal.error.is_transient());
        let asked = if part == Part::Manifest { (1, 0) } else { (1, 1) };
        assert_eq!(doubt.asked(), asked, "{status} on {part:?}: {:?}", doubt.journal().lines());
    }
}

#[tokio::test]
async fn too_many_requests_is_asked_again_after_both_forms_of_retry_after() {
    for value in ["1".to_owned(), retry_after_date(Duration::ZERO), "0".to_owned()] {
        let doubt = Doubt::about([not_now(1, &value)]).await;
        let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
        assert_delivers(&pulled, doubt.registry.artifact());
        assert_eq!(doubt.asked(), (2, 1), "{value}");
    }
}

#[tokio::test]
async fn a_retry_after_beyond_the_cap_ends_the_pull_at_once_in_both_forms() {
    let retry = RetryPolicy { retry_after_cap: Duration::from_secs(5), ..quick_retries() };
    for value in ["3600".to_owned(), retry_after_date(Duration::from_hours(1))] {
        let doubt = Doubt::about([not_now(Lie::ALWAYS, &value)]).await;
        let client = doubt.home.builder().retry(retry).build();
        let refusal = doubt.refused(&client, &doubt.reference()).await;
        refusal.is(Temporary, 7, &["429"]);
        assert_eq!(doubt.asked(), (1, 0), "{value}");
        assert!(refusal.error.hints().iter().any(|hint| hint.contains("try again in")), "{:?}", refusal.error.hints());
    }
}

#[tokio::test]
async fn too_many_requests_for_ever_is_temporary() {
    let doubt = Doubt::about([not_now(Lie::ALWAYS, "0")]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &["429", "5 attempts", "TOOMANYREQUESTS"]);
    assert_eq!(doubt.asked(), (5, 0));
}

#[tokio::test]
async fn a_retry_after_that_is_garbage_is_a_plain_retry() {
    let doubt = Doubt::about([not_now(2, "soon; drop table")]).await;
    assert_delivers(&doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap(), doubt.registry.artifact());
    assert_eq!(doubt.asked(), (3, 1));
}

#[tokio::test]
async fn a_burst_of_server_errors_is_sat_out() {
    for part in [Part::Manifest, Part::Blob] {
        for times in 1..=4 {
            let doubt = Doubt::about([Lie::burst(part, 500, times)]).await;
            let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
            assert_delivers(&pulled, doubt.registry.artifact());
            let failed = usize::try_from(times).unwrap();
            let expected = if part == Part::Manifest { (1 + failed, 1) } else { (1, 1 + failed) };
            assert_eq!(doubt.asked(), expected, "{times} on {part:?}");
        }
    }
}

#[tokio::test]
async fn server_errors_without_end_are_temporary_after_five_attempts() {
    for status in [500, 502, 503, 504] {
        let doubt = Doubt::about([Lie::status(Part::Manifest, status)]).await;
        let client = doubt.home.client();
        let refusal = doubt.refused(&client, &doubt.reference()).await;
        refusal.is(Temporary, 7, &[&status.to_string(), "5 attempts"]);
        assert!(refusal.error.is_transient());
        assert_eq!(doubt.asked(), (5, 0), "{status}");
        doubt.heals(&client).await;
    }
}

#[tokio::test]
async fn server_errors_on_the_blob_without_end_are_temporary() {
    let doubt = Doubt::about([Lie::status(Part::Blob, 503)]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &["503", "/blobs/"]);
    assert_eq!(doubt.asked(), (1, 5));
}

#[tokio::test]
async fn connections_that_are_reset_instead_of_answered_are_tried_again() {
    let doubt = Doubt::about([Lie::ResetInstead { on: Part::Manifest, times: 2 }]).await;
    let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
    assert_delivers(&pulled, doubt.registry.artifact());
    let doubt = Doubt::about([Lie::ResetInstead { on: Part::Manifest, times: Lie::ALWAYS }]).await;
    doubt.refused(&doubt.home.client(), &doubt.reference()).await.is(Temporary, 7, &[]);
}

#[tokio::test]
async fn statuses_nobody_asked_for_are_refused() {
    for status in [204, 206, 300, 418] {
        let doubt = Doubt::about([Lie::status(Part::Manifest, status)]).await;
        let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
        refusal.is(greentic_distributor_client::dist::DistErrorKind::Internal, 10, &[&status.to_string()]);
        assert_eq!(doubt.asked(), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn not_modified_to_a_first_question_is_refused() {
    let doubt = Doubt::about([Lie::UnaskedNotModified]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    assert_eq!(refusal.error.exit_code(), 10, "{}", refusal.text());
    assert_eq!(doubt.asked().1, 0);
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_temporary() {
    let doubt = Doubt::about([]).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refusal = doubt.refused(&doubt.home.client(), &format!("oci://{gone}/acme/hello:1")).await;
    refusal.is(Temporary, 7, &["2 attempts"]);
}

#[tokio::test]
async fn row_79_what_a_registry_says_is_shown_without_its_escape_sequences() {
    use greentic_dist_testkit::{LyingServer, Response};
    let server =
        LyingServer::start(|_, _| Response::oci_error(404, "MANIFEST_UNKNOWN", "\u{1b}[2Jgone\r\nerror: ok\u{202e}"));
    let doubt = Doubt::about([]).await;
    let refusal = doubt.refused(&doubt.home.client(), &format!("oci://{}/acme/hello:1", server.host())).await;
    refusal.is(NotFound, 3, &["gone"]);
    assert!(!refusal.text().contains('\u{202e}'));
}
