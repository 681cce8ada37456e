use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{Limit, Limits, NetErrorKind, Selector};
use greentic_dist_testkit::scenario::{Lie, Scenario, hostile};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::{Mismatch, limits};

use crate::support::{layer_of, net, quick, read, repository};

#[tokio::test]
async fn a_manifest_over_the_cap_is_refused_by_its_length_alone() {
    let artifact = fixture::component();
    let huge = hostile::huge_manifest(&artifact, 5 << 20);
    let registry = Scenario::new(artifact).start();
    registry.publish_document(&huge, Some("huge"));
    let net = net();
    let error = repository(&net, &registry.reference()).manifest(Selector::Tag("huge")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert_eq!(error.mismatch(), Some(Mismatch::TooLarge { limit: limits::MANIFEST_BYTES }));
    assert_eq!(net.stats().bytes_received, 0);
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn an_endless_manifest_is_cut_off_at_the_cap() {
    let registry = Scenario::new(fixture::component()).lie(Lie::EndlessManifest).start();
    let net = net();
    let error = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    assert!(net.stats().bytes_received < limits::MANIFEST_BYTES + (1 << 20));
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn the_cap_on_manifests_can_be_lowered() {
    let registry = Scenario::new(fixture::component()).start();
    let net = quick().limits(Limits { manifest_bytes: 10, ..Limits::default() }).build().unwrap();
    let error = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::TooLarge { limit: 10 }));
}

#[tokio::test]
async fn the_caps_on_manifests_can_be_raised_to_64_mib_and_an_error_names_the_one_that_was_met() {
    let artifact = fixture::component();
    let huge = hostile::padded_manifest(&artifact, 5 << 20);
    let many = hostile::many_layers(&artifact, 1_500);
    let registry = Scenario::new(artifact).start();
    registry.publish_document(&huge, Some("huge"));
    registry.publish_document(&many, Some("many"));
    let ask = |net: greentic_dist_net::Net, tag: &'static str| {
        let repository = repository(&net, &registry.reference());
        async move { repository.manifest(Selector::Tag(tag)).await }
    };
    for (tag, limit, cause) in [
        ("huge", Limit::ManifestBytes, "the content is larger than the limit of 4194304 bytes"),
        ("many", Limit::Layers, "the manifest has more than 1000 layers"),
    ] {
        let error = ask(net(), tag).await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(limit)), "{error}");
        assert!(error.to_string().contains(&format!("`{limit}`")), "{error}");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), cause);
        let raise = format!("--set-limit {limit}={}", Limits::default().get(limit) * 2);
        assert!(error.hints().concat().contains(&raise), "{:?}", error.hints());
        let raised = Limits::default().with(limit, Limits::default().get(limit) * 2);
        ask(quick().limits(raised).build().unwrap(), tag).await.unwrap();
        // Whatever is asked for, there is an end.
        let no_end = quick().limits(Limits::default().with(limit, u64::MAX)).build().unwrap();
        ask(no_end, tag).await.unwrap();
    }
    let beyond = quick().limits(Limits { manifest_bytes: u64::MAX, ..Limits::default() }).build().unwrap();
    let endless = Scenario::new(fixture::component()).lie(Lie::EndlessManifest).start();
    let error = repository(&beyond, &endless.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.mismatch(), Some(Mismatch::TooLarge { limit: 64 << 20 }));
}

#[tokio::test]
async fn an_endless_error_body_is_neither_read_nor_waited_for() {
    let server = LyingServer::start(|_, _| Response::status(404, "never ").endless());
    let net = net();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::NotFound, Some(404)));
    assert!(net.stats().bytes_received < 1 << 20);
}

#[tokio::test]
async fn hostile_text_of_a_server_is_shown_without_control_characters() {
    let server = LyingServer::start(|_, _| {
        Response::oci_error(404, "MANIFEST_UNKNOWN", "gone\u{1b}]52;c;ZXZpbA==\u{7}\r\nERROR forged\u{202e}")
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let shown = repository.manifest(Selector::Tag("1")).await.unwrap_err().to_string();
    assert!(shown.contains("gone") && !shown.chars().any(|ch| ch.is_control() || ch == '\u{202e}'), "{shown:?}");
}

#[tokio::test]
async fn headers_without_end_are_too_large() {
    use greentic_dist_testkit::Step;
    let flood = |_: &greentic_dist_testkit::Request, _: &greentic_dist_testkit::Ctx| {
        Response::raw([
            Step::Bytes("HTTP/1.1 200 OK\r\n".into()),
            Step::Repeat("X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".into()),
        ])
    };
    let server = LyingServer::start(flood);
    let net = quick().http_rule(greentic_dist_net::HttpRule::Also(vec![])).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge, "{error:?}");
}

#[tokio::test]
async fn one_host_gets_only_so_many_transfers_at_a_time() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(2, 50_000));
    let registry =
        Scenario::new(artifact).lie(Lie::DripBlob { piece: 10_000, interval: Duration::from_millis(10) }).start();
    let net = quick().requests_per_host(2).build().unwrap();
    let repository = repository(&net, &registry.reference());
    let blob = layer_of(registry.artifact());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let request = repository.blob(&blob);
            tokio::spawn(async move { read(request.open().await.unwrap()).await.unwrap().len() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 50_000);
    }
    assert!(registry.server().connections() <= 2, "{}", registry.server().connections());
}

#[tokio::test]
async fn a_manifest_does_not_wait_for_streams_its_caller_holds() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(2, 5_000_000));
    let registry = Scenario::new(artifact).start();
    let net = quick().requests_per_host(1).build().unwrap();
    let repository = repository(&net, &registry.reference());
    let held = repository.blob(&layer_of(registry.artifact())).open().await.unwrap();
    repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(read(held).await.unwrap().len(), 5_000_000);
}

#[test]
fn connections_are_never_lent_from_one_runtime_to_another() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = || {
        let repository = repository(&net, &registry.reference());
        async move { repository.manifest(Selector::Tag("1")).await.map(drop) }
    };
    // A runtime that is gone, one that is alive and never polled again, and a multi-threaded one.
    runtime().block_on(ask()).unwrap();
    let idle = runtime();
    idle.block_on(ask()).unwrap();
    for _ in 0..6 {
        runtime().block_on(ask()).unwrap();
    }
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    many.block_on(ask()).unwrap();
    idle.block_on(ask()).unwrap();
    assert_eq!(net.stats().retries, 0);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let registry = Scenario::new(fixture::component()).start();
    let repository = repository(&net(), &registry.reference());
    let mut future = Box::pin(repository.manifest(Selector::Tag("1")));
    let waker = std::task::Waker::noop();
    let outcome = future.as_mut().poll(&mut std::task::Context::from_waker(waker));
    let std::task::Poll::Ready(Err(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.kind(), NetErrorKind::InvalidInput);
}

#[test]
fn building_a_client_needs_no_runtime_and_checks_its_settings() {
    assert!(quick().build().is_ok());
    for bad in ["a\r\nb", "", " ", &"a".repeat(257)] {
        let bad_agent = quick().user_agent(bad).build().unwrap_err();
        assert_eq!(bad_agent.kind(), NetErrorKind::InvalidInput, "{bad:?}");
    }
    let bad_roots = quick().root_certificates_pem(b"no certificate".to_vec()).build().unwrap_err();
    assert_eq!(bad_roots.kind(), NetErrorKind::InvalidInput);
    let shared: Arc<greentic_dist_net::Net> = Arc::new(quick().requests_per_host(0).build().unwrap());
    assert!(!shared.is_offline());
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_before_anything_is_sent() {
    let registry = Scenario::new(fixture::component()).start();
    let layer = layer_of(registry.artifact());
    let size = layer.size_bytes;
    let limited = |limit| quick().limits(Limits { blob_bytes: limit, ..Limits::default() }).build().unwrap();
    let blob = |net: &greentic_dist_net::Net| repository(net, &registry.reference()).blob(&layer);
    let net = limited(size - 1);
    let errors = [
        blob(&net).open().await.map(drop).unwrap_err(),
        blob(&net).bytes(size).await.map(drop).unwrap_err(),
        blob(&net).to_writer(&mut Vec::new()).await.map(drop).unwrap_err(),
        blob(&net).open_unverified().await.map(drop).unwrap_err(),
        blob(&net).open_range(0..1).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(Limit::BlobBytes)), "{error}");
        assert!(error.hints().concat().contains("--set-limit blob-bytes="), "{:?}", error.hints());
    }
    // One blob alone: whoever calls knows the limit.
    let unlimited = limited(u64::MAX);
    let error = blob(&unlimited).max_bytes(size - 1).open().await.unwrap_err();
    let mismatch = Some(Mismatch::TooLarge { limit: size - 1 });
    assert_eq!((error.kind(), error.limit(), error.mismatch()), (NetErrorKind::TooLarge, None, mismatch));
    let error = blob(&unlimited).max_bytes(size - 1).bytes(size).await.unwrap_err();
    assert_eq!(error.mismatch(), mismatch);
    assert!(registry.journal().is_empty());
    for (net, most) in [(limited(size), u64::MAX), (limited(u64::MAX), size)] {
        let read = read(blob(&net).max_bytes(most).open().await.unwrap()).await.unwrap();
        assert!(read == registry.artifact().layer_bytes());
    }
}
