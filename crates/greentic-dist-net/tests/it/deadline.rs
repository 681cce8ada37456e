//! The time one operation has in all.

use std::error::Error as _;
use std::time::Duration;

use greentic_dist_net::{
    BytesSource, DeadlinePassed, Net, NetError, NetErrorKind, RetryPolicy, Selector, Timeouts, one_operation,
    same_operation,
};
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_dist_testkit::{LyingServer, Response, fixture};

use crate::support::{layer_of, quick, repository};

/// A client that would wait for ever, with a deadline.
fn patient(operation: Option<Duration>) -> Net {
    let long = Duration::from_mins(10);
    let timeouts = Timeouts { headers: long, token: long, idle_body: long, operation, ..Timeouts::default() };
    quick().timeouts(timeouts).build().unwrap()
}

const SOON: Option<Duration> = Some(Duration::from_millis(200));

fn assert_is_the_deadline(error: &NetError) {
    assert_eq!(error.kind(), NetErrorKind::Timeout, "{error}");
    assert!(error.source().is_some_and(<dyn std::error::Error>::is::<DeadlinePassed>), "{error:?}");
    assert!(error.is_transient() && error.hints().concat().contains("--deadline"), "{error:?}");
    assert!(error.url().is_some() || error.to_string().contains("not done in time"), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_deadline_and_is_not_asked_for_again() {
    let server = LyingServer::start(|_, _| Response::silence());
    let repository = repository(&patient(SOON), &format!("{}/acme/hello", server.host()));
    assert_is_the_deadline(&repository.manifest(Selector::Tag("1")).await.unwrap_err());
    assert_eq!(server.journal().len(), 1);
    assert_is_the_deadline(&repository.head_manifest(Selector::Tag("1")).await.unwrap_err());
    assert_is_the_deadline(&repository.tags().collect(10).await.unwrap_err());
    let content = std::sync::Arc::new(BytesSource::new("application/wasm", &b"x"[..]));
    assert_is_the_deadline(&repository.put_blob(content).send().await.unwrap_err());
}

#[tokio::test]
async fn waits_between_attempts_count() {
    let server = LyingServer::start(|_, _| Response::status(503, "").header("Retry-After", "30"));
    let repository = repository(&patient(SOON), &format!("{}/acme/hello", server.host()));
    assert_is_the_deadline(&repository.manifest(Selector::Tag("1")).await.unwrap_err());
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn a_body_that_always_goes_on_ends_at_the_deadline_over_all_its_connections() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(2, 5_000_000));
    // Cut again and again, and slow: every single connection does well.
    let drip = Lie::DripBlob { piece: 1_000, interval: Duration::from_millis(5) };
    let registry = Scenario::new(artifact).lie(drip).start();
    let repository = repository(&patient(SOON), &registry.reference());
    let blob = layer_of(registry.artifact());
    let mut stream = repository.blob(&blob).open().await.unwrap();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(_piece) => {}
            Err(error) => break error,
        }
    };
    assert_is_the_deadline(&error);
    assert_is_the_deadline(&stream.next().await.unwrap().unwrap_err());
    let mut pieces = repository.blob(&blob).open_pieces_unverified().await.unwrap();
    let error = loop {
        match pieces.next().await.unwrap() {
            Ok(_piece) => {}
            Err(error) => break error,
        }
    };
    assert_is_the_deadline(&error);
}

#[tokio::test]
async fn what_is_one_operation_shares_its_time_also_with_other_tasks_of_it() {
    let server = LyingServer::start(|_, _| Response::silence());
    let (net, host) = (patient(None), server.host());
    let ask = |tag: &'static str| {
        let repository = repository(&net, &format!("{host}/acme/hello"));
        async move { repository.manifest(Selector::Tag(tag)).await.unwrap_err() }
    };
    let all = async {
        assert_is_the_deadline(&ask("1").await);
        // Nothing is sent any more.
        assert_is_the_deadline(&ask("2").await);
        assert_is_the_deadline(&tokio::spawn(same_operation(ask("3"))).await.unwrap());
    };
    one_operation(SOON, all).await;
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn what_is_done_in_time_knows_nothing_of_a_deadline() {
    let registry = Scenario::new(fixture::component()).start();
    let net = quick()
        .retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() })
        .timeouts(Timeouts { operation: Some(Duration::from_mins(10)), ..Timeouts::default() })
        .build()
        .unwrap();
    repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
    let pulled = crate::support::pull_layer(&net, &registry).await.unwrap();
    assert!(pulled == registry.artifact().layer_bytes());
}
