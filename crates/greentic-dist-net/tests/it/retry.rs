use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{BytesSource, Net, NetErrorKind, RetryPolicy, Selector, Timeouts};
use greentic_dist_testkit::scenario::{Lie, Part, Scenario, retry_after_date};
use greentic_dist_testkit::{LyingServer, Response, fixture};

use crate::support::{Recorder, layer_of, net, pull_layer, quick, repository, until};

async fn ask(net: &Net, reference: &str) -> Result<(), greentic_dist_net::NetError> {
    repository(net, reference).manifest(Selector::Tag("1")).await.map(drop)
}

#[tokio::test]
async fn a_burst_of_server_errors_shorter_than_the_attempts_is_ridden_out() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let registry = Scenario::new(fixture::component()).lie(Lie::burst(Part::Manifest, status, 4)).start();
        let net = net();
        ask(&net, &registry.reference()).await.unwrap();
        assert_eq!(registry.journal().len(), 5, "{status}");
        assert_eq!(net.stats().retries, 4, "{status}");
    }
}

#[tokio::test]
async fn a_longer_burst_fails_after_five_attempts_with_the_last_answer() {
    let registry = Scenario::new(fixture::component()).lie(Lie::burst(Part::Manifest, 503, 6)).start();
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let error = ask(&net, &registry.reference()).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (NetErrorKind::Server, Some(503), 5));
    assert!(error.is_transient());
    assert_eq!(registry.journal().len(), 5);
    assert_eq!(recorder.lines(), ["retry 1", "retry 2", "retry 3", "retry 4"]);
}

fn rate_limited(retry_after: String, times: u32) -> Lie {
    Lie::Status { on: Part::Manifest, status: 429, times, retry_after: Some(retry_after) }
}

#[tokio::test]
async fn both_forms_of_retry_after_are_waited_for() {
    let date = retry_after_date(Duration::from_millis(1_200));
    for value in ["1".to_owned(), date] {
        let registry = Scenario::new(fixture::component()).lie(rate_limited(value.clone(), 1)).start();
        let recorder = Arc::new(Recorder::default());
        let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
        ask(&net, &registry.reference()).await.unwrap();
        // The backoff of this test would be four milliseconds at most.
        assert!(recorder.longest_wait() > Duration::from_millis(100), "{value}: {:?}", recorder.longest_wait());
    }
}

#[tokio::test]
async fn a_wait_beyond_the_cap_fails_at_once_and_says_how_long() {
    for value in ["3600".to_owned(), retry_after_date(Duration::from_hours(1))] {
        let registry = Scenario::new(fixture::component()).lie(rate_limited(value, Lie::ALWAYS)).start();
        let error = ask(&net(), &registry.reference()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (NetErrorKind::RateLimited, 1));
        let wait = error.retry_after().unwrap();
        assert!(wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_602), "{wait:?}");
        assert!(error.hints()[0].starts_with("try again in 3"), "{:?}", error.hints());
        assert_eq!(registry.journal().len(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_that_makes_no_sense_is_replaced_by_the_backoff() {
    for value in ["-1", "soon", ""] {
        let registry = Scenario::new(fixture::component()).lie(rate_limited(value.into(), 2)).start();
        ask(&net(), &registry.reference()).await.unwrap();
        assert_eq!(registry.journal().len(), 3, "{value}");
    }
}

#[tokio::test]
async fn a_reset_before_the_answer_is_tried_again() {
    let registry = Scenario::new(fixture::component()).lie(Lie::ResetInstead { on: Part::Manifest, times: 3 }).start();
    ask(&net(), &registry.reference()).await.unwrap();
    assert_eq!(registry.journal().len(), 4);
}

#[tokio::test]
async fn a_server_that_only_resets_is_given_up() {
    let registry =
        Scenario::new(fixture::component()).lie(Lie::ResetInstead { on: Part::Manifest, times: Lie::ALWAYS }).start();
    let error = ask(&net(), &registry.reference()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Interrupted, 5));
    assert_eq!(registry.journal().len(), 5);
}

#[tokio::test]
async fn a_silent_server_times_out_and_is_given_up() {
    let registry = Scenario::new(fixture::component()).lie(Lie::Silence { on: Part::Manifest }).start();
    let net = quick().timeouts(Timeouts { headers: Duration::from_millis(50), ..Default::default() }).build().unwrap();
    let error = ask(&net, &registry.reference()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Timeout, 5));
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_refused_connection_on_loopback_is_tried_twice() {
    let gone = LyingServer::start(|_, _| Response::ok(""));
    let host = gone.host();
    gone.stop();
    let net = net();
    let error = ask(&net, &format!("{host}/acme/hello:1")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Connect, 2));
    assert!(!error.hints().is_empty());
    assert!(error.to_string().contains(&host), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_a_dead_host() {
    let error = ask(&net(), "registry.invalid:5000/acme/hello:1").await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Dns, 2), "{error:?}");
}

#[tokio::test]
async fn quirk_p25_a_kept_connection_that_the_server_closed_meanwhile_costs_no_attempt() {
    let artifact = fixture::component();
    // Answers, keeps the connection open, and resets it on its second request.
    let server = LyingServer::start(move |request, ctx| {
        let on_this = ctx.journal().entries().iter().filter(|entry| entry.connection == request.connection).count();
        if on_this > 1 {
            return Response::hang_up();
        }
        Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
    });
    let net = quick().retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() }).build().unwrap();
    for _ in 0..3 {
        ask(&net, &format!("{}/acme/hello:1", server.host())).await.unwrap();
    }
    assert_eq!(net.stats().retries, 0);
}

#[tokio::test]
async fn a_cancelled_request_leaves_the_client_usable() {
    let stall = Lie::StallBlob { after: 1, times: Lie::ALWAYS };
    let registry = Scenario::new(fixture::component()).lie(stall).start();
    // Patient: whoever waits is the one who gives up.
    let patient = Timeouts { idle_body: Duration::from_hours(1), ..Timeouts::default() };
    let net = quick().timeouts(patient).build().unwrap();
    for asked in 1..=3 {
        let journal = registry.journal();
        tokio::select! {
            ended = pull_layer(&net, &registry) => panic!("it ended: {ended:?}"),
            () = until(|| journal.len() == asked) => {}
        }
    }
    registry.be_honest();
    assert_eq!(pull_layer(&net, &registry).await.unwrap(), registry.artifact().layer_bytes());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_looked_up_twice_and_once_where_that_is_set() {
    // "No such name" and "ask later" are one answer of the system's resolver, told apart by nothing but text.
    for (set, attempts) in [(RetryPolicy::default().dns_attempts, 2), (1, 1)] {
        let retry = RetryPolicy { base: Duration::from_millis(1), dns_attempts: set, ..RetryPolicy::default() };
        let net = quick().retry(retry).build().unwrap();
        let error = ask(&net, "no-such-host.invalid/acme/hello").await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Dns, attempts), "{error}");
    }
}

#[tokio::test]
async fn a_failure_says_which_host_and_repository_were_asked_for_what() {
    let registry = Scenario::new(fixture::component()).lie(Lie::status(Part::All, 404)).start();
    let (net, host) = (net(), registry.host());
    let repository = repository(&net, &registry.reference());
    let about = |error: greentic_dist_net::NetError| {
        let host = error.host().unwrap_or_default().to_owned();
        (host, error.repository().map(str::to_owned), error.operation().unwrap_or_default())
    };
    let layer = layer_of(registry.artifact());
    let name = Some("acme/hello".to_owned());
    let source = BytesSource::new("application/wasm", &b"new"[..]);
    for (error, op) in [
        (repository.manifest(Selector::Tag("1")).await.map(drop).unwrap_err(), "manifest"),
        (repository.head_manifest(Selector::Tag("1")).await.map(drop).unwrap_err(), "manifest"),
        (repository.blob(&layer).open().await.map(drop).unwrap_err(), "blob"),
        (repository.tags().collect(1).await.map(drop).unwrap_err(), "tags"),
        (repository.put_blob(Arc::new(source)).check_first(false).send().await.map(drop).unwrap_err(), "upload"),
        (repository.delete_tag("1").await.unwrap_err(), "manifest"),
    ] {
        assert_eq!(about(error), (host.clone(), name.clone(), op));
    }
    let error = net.registry(&host).unwrap().ping().await.map(drop).unwrap_err();
    assert_eq!(about(error), (host.clone(), None, "ping"));
    // A body that ends too early, and one that is wrong.
    for (lie, kind) in [
        (Lie::CutBlob { after: 0, times: Lie::ALWAYS }, NetErrorKind::Interrupted),
        (Lie::WrongBlob, NetErrorKind::Integrity),
    ] {
        registry.be_honest();
        registry.lie(lie);
        let error = pull_layer(&net, &registry).await.unwrap_err();
        assert_eq!((error.kind(), error.hints().len()), (kind, 1), "{error}");
        assert_eq!(about(error), (host.clone(), name.clone(), "blob"));
    }
    let error = net.get(&format!("http://{host}/x")).allow_loopback_http(true).open().await.map(drop);
    assert_eq!(about(error.unwrap_err()), (host, None, "url"));
}
