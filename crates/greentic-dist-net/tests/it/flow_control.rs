//! How much is asked of a host that has too much to do, or is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greentic_dist_net::{NetErrorClass, NetErrorKind, RetryPolicy, Selector};
use greentic_dist_testkit::scenario::{Lie, Part, Scenario};
use greentic_dist_testkit::{LyingServer, Response, fixture};

use crate::support::{layer_of, net, quick, read, repository};

#[tokio::test]
async fn a_host_that_is_down_is_not_hammered_by_many_tasks() {
    let server = LyingServer::start(|_, _| Response::status(503, "down"));
    let (net, began) = (net(), Instant::now());
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let repository = repository(&net, &format!("{}/acme/hello{number}", server.host()));
            tokio::spawn(async move { repository.manifest(Selector::Tag("1")).await.unwrap_err() })
        })
        .collect();
    let mut given_up = 0;
    for task in tasks {
        let error = task.await.unwrap();
        assert_eq!((error.kind(), error.is_transient()), (NetErrorKind::Server, true));
        given_up += usize::from(error.hints().iter().any(|hint| hint.contains("many requests to this host")));
    }
    // 50 questions, 20 % of them again, and a burst of 10, of which one comes back with every second.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let asked = server.journal().len();
    assert!((60..=70 + seconds).contains(&asked), "{asked} requests in {seconds} s");
    assert_eq!(usize::try_from(net.stats().retries).unwrap(), asked - 50);
    assert!(given_up >= 40, "{given_up}");
}

#[tokio::test]
async fn one_question_has_all_its_attempts_and_what_fails_at_one_host_is_no_other_hosts_matter() {
    let net = net();
    for _ in 0..4 {
        let down = LyingServer::start(|_, _| Response::status(503, "down"));
        for _ in 0..2 {
            let repository = repository(&net, &format!("{}/acme/hello", down.host()));
            assert_eq!(repository.manifest(Selector::Tag("1")).await.unwrap_err().attempts(), 5);
        }
    }
}

#[tokio::test]
async fn the_budget_can_be_set_and_a_wait_that_the_server_asks_for_costs_none_of_it() {
    let policy = RetryPolicy { budget_percent: 0, budget_burst: 0, ..RetryPolicy::default() };
    let net = quick().retry(policy).build().unwrap();
    let down = LyingServer::start(|_, _| Response::status(503, "down"));
    let error =
        repository(&net, &format!("{}/acme/hello", down.host())).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.attempts(), down.journal().len()), (1, 1));
    let lie = Lie::Status { on: Part::Manifest, status: 503, times: 4, retry_after: Some("0".into()) };
    let busy = Scenario::new(fixture::component()).lie(lie).start();
    repository(&net, &busy.reference()).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(busy.journal().len(), 5);
}

#[tokio::test]
async fn a_host_that_answers_429_gets_half_as_many_requests_at_a_time() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(2, 50_000));
    let lie = Lie::Status { on: Part::Manifest, status: 429, times: 1, retry_after: Some("0".into()) };
    let drip = Lie::DripBlob { piece: 10_000, interval: Duration::from_millis(10) };
    let registry = Scenario::new(artifact).lie(lie).lie(drip).start();
    let net = quick().requests_per_host(8).build().unwrap();
    let repository = repository(&net, &registry.reference());
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let blob = layer_of(registry.artifact());
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let request = repository.blob(&blob);
            tokio::spawn(async move { read(request.open().await.unwrap()).await.unwrap().len() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 50_000);
    }
    // One connection for each transfer at a time; the first one was there before.
    assert!(registry.server().connections() <= 4, "{}", registry.server().connections());
}

#[tokio::test]
async fn a_host_that_refuses_everything_over_a_limit_is_served_to_the_end() {
    // Refuses what comes while two requests are at work, as a small registry behind a proxy does.
    let at_work = Arc::new(AtomicUsize::new(0));
    let artifact = fixture::component();
    let server = LyingServer::start(move |_, _| {
        if at_work.fetch_add(1, Ordering::SeqCst) >= 2 {
            at_work.fetch_sub(1, Ordering::SeqCst);
            return Response::status(429, "slow down").header("Retry-After", "0");
        }
        std::thread::sleep(Duration::from_millis(2));
        at_work.fetch_sub(1, Ordering::SeqCst);
        Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
    });
    let retry = RetryPolicy { attempts: 50, ..RetryPolicy::default() };
    let net = quick().requests_per_host(16).retry(retry).build().unwrap();
    let tasks: Vec<_> = (0..60)
        .map(|number| {
            let repository = repository(&net, &format!("{}/acme/hello{number}", server.host()));
            tokio::spawn(async move { repository.manifest(Selector::Tag("1")).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_rate_limit_error_carries_the_limit_that_the_server_told() {
    let server = LyingServer::start(|_, _| {
        Response::oci_error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
            .header("ratelimit-limit", "100;w=21600")
            .header("ratelimit-remaining", "0;w=21600")
            .header("docker-ratelimit-source", "192.0.2.1")
    });
    let error =
        repository(&net(), &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.class(), NetErrorClass::RateLimit { retry_after: None });
    let limit = error.rate_limit().unwrap();
    assert_eq!((limit.limit, limit.remaining, limit.window), (Some(100), Some(0), Some(Duration::from_hours(6))));
    assert!(error.hints().contains(&"the server allows 100 requests in 6 h".to_owned()), "{:?}", error.hints());
}

#[tokio::test]
async fn a_limit_that_is_reset_later_than_is_waited_for_fails_at_once_with_the_wait() {
    let server = LyingServer::start(|_, _| {
        Response::status(429, "enough").header("RateLimit-Remaining", "0").header("RateLimit-Reset", "3600")
    });
    let error =
        repository(&net(), &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.class(), NetErrorClass::RateLimit { retry_after: Some(Duration::from_hours(1)) });
    assert_eq!((error.attempts(), server.journal().len()), (1, 1));
    assert_eq!(error.hints()[0], "try again in 3600 s");
}

#[tokio::test]
async fn headers_about_a_limit_mean_nothing_on_another_answer() {
    let server = LyingServer::start(|_, _| {
        Response::status(404, "").header("RateLimit-Remaining", "0").header("RateLimit-Reset", "3600")
    });
    let error =
        repository(&net(), &format!("{}/acme/hello", server.host())).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.rate_limit(), error.retry_after()), (NetErrorKind::NotFound, None, None));
}
