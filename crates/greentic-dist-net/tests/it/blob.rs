use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{NetError, NetErrorKind, SlowestBody, Timeouts};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Scenario};
use greentic_dist_testkit::serve::Registry;
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::{Digest, Mismatch};

use crate::push::source;
use crate::support::{
    Recorder, described, descriptor, layer_of, net, pull_layer, quick, read, read_unverified, repository,
};

const SIZE: usize = 300_000;

fn random() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(7, SIZE))
}

fn lying(lie: Lie) -> LyingRegistry {
    Scenario::new(random()).lie(lie).start()
}

/// Pulls the blob of a registry that tells this lie and expects the right bytes.
async fn survives(lie: Lie) -> (LyingRegistry, greentic_dist_net::NetStats) {
    let registry = lying(lie.clone());
    let net = net();
    let bytes = pull_layer(&net, &registry).await.unwrap_or_else(|error| panic!("{lie:?}: {error}"));
    assert!(bytes == registry.artifact().layer_bytes(), "{lie:?}: wrong bytes");
    let stats = net.stats();
    (registry, stats)
}

/// Pulls the blob of a registry that tells this lie and expects a failure of this kind.
async fn fails(lie: Lie, kind: NetErrorKind) -> (LyingRegistry, NetError) {
    let registry = lying(lie.clone());
    let error = pull_layer(&net(), &registry).await.err().unwrap_or_else(|| panic!("{lie:?} was not noticed"));
    assert_eq!(error.kind(), kind, "{lie:?}: {error}");
    (registry, error)
}

fn ranges(registry: &LyingRegistry) -> Vec<Option<String>> {
    registry.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn an_honest_registry_is_read_to_the_end() {
    let registry = Registry::in_memory();
    let bytes = fixture::random_bytes(1, 5_000_000);
    let digest = registry.put_blob(bytes.clone()).unwrap();
    let empty = registry.put_blob(Vec::new()).unwrap();
    let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
    let repository = repository(&net(), &format!("{}/acme/hello", running.host()));

    let stream = repository.blob(&described(digest, bytes.len())).open().await.unwrap();
    assert_eq!((stream.digest(), stream.size_bytes(), stream.offset()), (digest, 5_000_000, 0));
    assert!(read(stream).await.unwrap() == bytes);
    assert!(read(repository.blob(&described(empty, 0)).open().await.unwrap()).await.unwrap().is_empty());
    running.stop();
}

#[tokio::test]
async fn wrong_bytes_are_never_handed_out_to_the_end() {
    let (registry, error) = fails(Lie::WrongBlob, NetErrorKind::Integrity).await;
    let expected = registry.artifact().layer_digest();
    assert!(matches!(error.mismatch(), Some(Mismatch::Digest { expected: named, .. }) if named == expected));
    assert!(error.url().unwrap().contains("/blobs/"));

    // The consumer that stops at the error has got less than the whole.
    let net = net();
    let repository = repository(&net, &registry.reference());
    let mut stream = repository.blob(&layer_of(registry.artifact())).open().await.unwrap();
    let mut got = 0;
    let end = loop {
        match stream.next().await.expect("an error, not an end") {
            Ok(piece) => got += piece.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(end.kind(), NetErrorKind::Integrity);
    assert!(got < SIZE);
    let again = stream.next().await.unwrap().unwrap_err();
    assert_eq!(again.kind(), NetErrorKind::Integrity, "and it stays refused");
}

#[tokio::test]
async fn an_unverified_stream_hands_out_what_came_and_only_as_much_as_promised() {
    let registry = lying(Lie::WrongBlob);
    let net = net();
    let repository = repository(&net, &registry.reference());
    let request = repository.blob(&layer_of(registry.artifact()));
    let wrong = read_unverified(request.clone().open_unverified().await.unwrap()).await.unwrap();
    assert!(wrong.len() == SIZE && wrong != registry.artifact().layer_bytes());
    let also = read_unverified(request.open().await.unwrap().into_unverified()).await.unwrap();
    assert!(also == wrong);
}

#[tokio::test]
async fn a_length_that_differs_from_the_promise_is_refused_before_the_body() {
    let size = u64::try_from(SIZE).unwrap();
    let (_, short) = fails(Lie::ShortBlob(1_000), NetErrorKind::Integrity).await;
    assert_eq!(short.mismatch(), Some(Mismatch::Short { expected: size, actual: 1_000 }));
    let (_, long) = fails(Lie::OverLongBlob(1), NetErrorKind::Integrity).await;
    assert_eq!(long.mismatch(), Some(Mismatch::Long { expected: size }));
}

#[tokio::test]
async fn excess_bytes_behind_the_promised_size_are_refused_and_not_read_on() {
    let size = u64::try_from(SIZE).unwrap();
    for lie in [Lie::OverLongBlobChunked(1), Lie::OverLongBlobChunked(100_000), Lie::EndlessBlob] {
        let registry = lying(lie.clone());
        let net = net();
        let error = pull_layer(&net, &registry).await.unwrap_err();
        assert_eq!(error.mismatch(), Some(Mismatch::Long { expected: size }), "{lie:?}: {error}");
        assert!(net.stats().bytes_received < size + 1_000_000, "{lie:?}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_fine_when_its_bytes_are() {
    let (registry, _) = survives(Lie::ChunkedBlob).await;
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn a_cut_body_goes_on_at_the_right_byte() {
    for after in [0, 1, SIZE / 2, SIZE - 1] {
        for lie in [Lie::CutBlob { after, times: 1 }, Lie::ResetBlob { after, times: 1 }] {
            let (registry, stats) = survives(lie.clone()).await;
            assert_eq!(stats.resumes, 1, "{lie:?}");
            let seen = ranges(&registry);
            assert_eq!((seen.len(), &seen[0]), (2, &None), "{lie:?}");
            if matches!(lie, Lie::CutBlob { .. }) {
                let range = (after > 0).then(|| format!("bytes={after}-"));
                assert_eq!(seen[1], range, "{lie:?}");
            }
        }
    }
}

#[tokio::test]
async fn quirk_p24_a_stalled_body_goes_on_over_another_connection() {
    let (registry, stats) = survives(Lie::StallBlob { after: SIZE / 3, times: 1 }).await;
    assert_eq!(stats.resumes, 1);
    assert_eq!(ranges(&registry)[1], Some(format!("bytes={}-", SIZE / 3)));
}

#[tokio::test]
async fn a_body_cut_again_and_again_completes_without_reading_a_byte_twice() {
    let (registry, stats) = survives(Lie::cut_every(20_000)).await;
    assert_eq!(stats.resumes, 14);
    let sent = registry.journal().body_bytes_sent("/blobs/");
    assert_eq!(sent, u64::try_from(SIZE).unwrap());
    assert_eq!(stats.bytes_received, sent);
}

#[tokio::test]
async fn a_body_that_brings_nothing_any_more_is_given_up() {
    let (registry, error) = fails(Lie::CutBlob { after: 0, times: Lie::ALWAYS }, NetErrorKind::Interrupted).await;
    assert_eq!(registry.journal().len(), 6, "one request and five resumes");
    assert!(error.is_transient());
    fails(Lie::StallBlob { after: 0, times: Lie::ALWAYS }, NetErrorKind::Timeout).await;
}

#[tokio::test]
async fn resumes_are_reported_with_their_offset() {
    let registry = lying(Lie::CutBlob { after: 1_000, times: 2 });
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    pull_layer(&net, &registry).await.unwrap();
    assert_eq!(recorder.lines(), ["resume 1000", "resume 2000"]);
}

#[tokio::test]
async fn quirk_p17_a_server_that_ignores_ranges_is_read_from_the_start_and_nothing_is_handed_out_twice() {
    let registry =
        Scenario::new(random()).lie(Lie::RangeIgnored).lie(Lie::CutBlob { after: SIZE / 2, times: 1 }).start();
    assert!(pull_layer(&net(), &registry).await.unwrap() == registry.artifact().layer_bytes());
    assert_eq!(ranges(&registry), [None, Some(format!("bytes={}-", SIZE / 2))]);
}

#[tokio::test]
async fn quirk_p17_a_server_without_ranges_that_always_cuts_is_given_up_after_a_few_rounds() {
    let registry = Scenario::new(random())
        .lie(Lie::RangeIgnored)
        .lie(Lie::CutBlob { after: SIZE / 2, times: Lie::ALWAYS })
        .start();
    let error = pull_layer(&net(), &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Interrupted);
    // Every round costs all bytes again: there are only so many, and after the first no range is asked for any more.
    let half = Some(format!("bytes={}-", SIZE / 2));
    assert_eq!(ranges(&registry), [None, half, None, None, None, None]);
}

#[tokio::test]
async fn quirk_p18_a_partial_answer_that_is_not_the_asked_part_is_not_used() {
    for lie in [Lie::WrongContentRange, Lie::NoContentRange] {
        let registry = Scenario::new(random()).lie(lie.clone()).lie(Lie::CutBlob { after: 5_000, times: 1 }).start();
        let bytes = pull_layer(&net(), &registry).await.unwrap_or_else(|error| panic!("{lie:?}: {error}"));
        assert!(bytes == registry.artifact().layer_bytes(), "{lie:?}");
        assert_eq!(ranges(&registry), [None, Some("bytes=5000-".into()), None], "{lie:?}");
    }
    // A part of a whole that has another size than the descriptor says.
    let bytes = fixture::random_bytes(8, 50_000);
    let whole = bytes.clone();
    let server = LyingServer::start(move |request, _| match (request.index, request.header("range")) {
        (0, _) => Response::ok(whole.clone()).cut_after(5_000),
        (_, Some(_)) => Response::status(206, whole[5_000..].to_vec())
            .header("Content-Range", format!("bytes 5000-{}/{}", whole.len() - 1, whole.len() + 1)),
        _ => Response::ok(whole.clone()),
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    assert!(read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap() == bytes);
    let journal = server.journal();
    let seen: Vec<_> = (0..journal.len()).map(|index| journal.header_of(index, "range")).collect();
    assert_eq!(seen, [None, Some("bytes=5000-".to_owned()), None]);
}

#[tokio::test]
async fn a_partial_answer_with_wrong_bytes_under_a_right_header_is_caught_by_the_digest() {
    let registry =
        Scenario::new(random()).lie(Lie::WrongRangeBytes).lie(Lie::CutBlob { after: 5_000, times: 1 }).start();
    let error = pull_layer(&net(), &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
}

#[tokio::test]
async fn quirk_p20_a_server_that_fails_on_ranges_is_asked_without() {
    for status in [400, 416] {
        let registry =
            Scenario::new(random()).lie(Lie::RangeRefused(status)).lie(Lie::CutBlob { after: 5_000, times: 1 }).start();
        assert!(pull_layer(&net(), &registry).await.unwrap() == registry.artifact().layer_bytes(), "{status}");
        assert_eq!(ranges(&registry), [None, Some("bytes=5000-".to_owned()), None], "{status}");
    }
}

/// Two blobs of a registry that cuts the first answer of each.
fn two_cut(lie: Lie) -> (LyingRegistry, [Artifact; 2]) {
    let both = [random(), fixture::artifact("application/wasm", fixture::random_bytes(9, SIZE))];
    let registry = Scenario::new(both[0].clone()).lie(lie).start();
    registry.publish(&both[1], "other");
    (registry, both)
}

/// Reads a blob whose first answer is cut after 5,000 bytes; says which ranges were asked for.
async fn read_cut(net: &greentic_dist_net::Net, registry: &LyingRegistry, artifact: &Artifact) -> Vec<Option<String>> {
    let before = ranges(registry).len();
    registry.lie(Lie::CutBlob { after: 5_000, times: 1 });
    let blob = repository(net, &registry.reference()).blob(&layer_of(artifact));
    assert!(read(blob.open().await.unwrap()).await.unwrap() == artifact.layer_bytes());
    ranges(registry).split_off(before)
}

#[tokio::test]
async fn quirk_p17_a_host_without_ranges_is_asked_for_none_by_the_next_blob_either() {
    let part = Some("bytes=5000-".to_owned());
    for (lie, first) in [
        (Lie::RangeIgnored, vec![None, part.clone()]),
        (Lie::WrongContentRange, vec![None, part.clone(), None]),
        (Lie::NoContentRange, vec![None, part.clone(), None]),
        (Lie::RangeRefused(400), vec![None, part.clone(), None]),
        (Lie::RangeRefused(416), vec![None, part.clone(), None]),
    ] {
        let (registry, [one, other]) = two_cut(lie.clone());
        let net = net();
        assert_eq!(read_cut(&net, &registry, &one).await, first, "{lie:?}");
        assert_eq!(read_cut(&net, &registry, &other).await, [None, None], "{lie:?}");
        // Nor for a part: the whole is read, in one request, and given up where the part ends.
        let repository = repository(&net, &registry.reference());
        let mut middle = repository.blob(&layer_of(&other)).open_range(1_000..2_000).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = middle.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert!(bytes == other.layer_bytes()[1_000..2_000], "{lie:?}");
        assert_eq!(ranges(&registry).split_off(first.len() + 2), [None], "{lie:?}");
        // What a client has seen is its own.
        assert_eq!(read_cut(&self::net(), &registry, &other).await, first, "{lie:?}");
    }
}

#[tokio::test]
async fn a_host_that_has_sent_a_part_is_asked_for_parts_after_an_odd_answer_too() {
    let part = Some("bytes=5000-".to_owned());
    let (registry, [one, other]) = two_cut(Lie::CutBlob { after: 5_000, times: 0 });
    let net = net();
    assert_eq!(read_cut(&net, &registry, &one).await, [None, part.clone()]);
    registry.lie(Lie::RangeIgnored);
    assert_eq!(read_cut(&net, &registry, &other).await, [None, part.clone()]);
    registry.be_honest();
    assert_eq!(read_cut(&net, &registry, &one).await, [None, part]);
}

#[tokio::test]
async fn a_registry_whose_storage_has_no_ranges_is_remembered_by_the_one_who_redirects() {
    let both = [fixture::random_bytes(11, 50_000), fixture::random_bytes(12, 50_000)];
    let contents: Vec<_> = both.iter().map(|bytes| (Digest::sha256(bytes).to_string(), bytes.clone())).collect();
    let storage = LyingServer::start_on([127, 0, 0, 3].into(), move |request, ctx| {
        let (_, bytes) = contents.iter().find(|(digest, _)| request.path.contains(digest.as_str())).unwrap();
        let asked = ctx.journal().entries().iter().filter(|entry| entry.target == request.path).count();
        let answer = Response::ok(bytes.clone());
        if asked == 1 { answer.cut_after(5_000) } else { answer }
    });
    let target = storage.url();
    let server = LyingServer::start(move |request, _| Response::redirect(307, format!("{target}{}", request.path)));
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    for bytes in &both {
        assert!(&read(repository.blob(&descriptor(bytes)).open().await.unwrap()).await.unwrap() == bytes);
    }
    let seen = |server: &LyingServer| -> Vec<Option<String>> {
        server.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
    };
    let once = [None, Some("bytes=5000-".to_owned()), None, None];
    assert_eq!(seen(&server), once);
    assert_eq!(seen(&storage), once);
}

#[tokio::test]
async fn a_host_that_was_not_asked_for_a_part_is_not_taken_for_one_without() {
    let bytes = fixture::random_bytes(13, 50_000);
    let (cut, whole) = (bytes.clone(), bytes.clone());
    // One storage has no ranges, the other has.
    let without = LyingServer::start_on([127, 0, 0, 4].into(), move |request, _| {
        let answer = Response::ok(cut.clone());
        if request.index == 0 { answer.cut_after(5_000) } else { answer }
    });
    let with =
        LyingServer::start_on([127, 0, 0, 5].into(), move |request, _| Response::ranged(request, "", whole.clone()));
    let targets = [without.url(), with.url()];
    let server = LyingServer::start(move |request, _| {
        let target = &targets[usize::from(request.index > 1)];
        Response::redirect(307, format!("{target}{}", request.path))
    });
    let net = net();
    let of =
        |server: &LyingServer| repository(&net, &format!("{}/acme/hello", server.host())).blob(&descriptor(&bytes));
    assert!(read(of(&server).open().await.unwrap()).await.unwrap() == bytes);
    for server in [&server, &with] {
        let rest = of(server).from_offset(20_000).open_unverified().await.unwrap();
        assert!(read_unverified(rest).await.unwrap() == bytes[20_000..]);
    }
    let seen = |server: &LyingServer| -> Vec<Option<String>> {
        server.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
    };
    assert_eq!(seen(&server), [None, Some("bytes=5000-".to_owned()), None]);
    assert_eq!(seen(&with), [None, Some("bytes=20000-".to_owned())]);
}

#[tokio::test]
async fn a_blob_goes_on_at_another_replica_that_calls_its_version_otherwise() {
    let bytes = fixture::random_bytes(14, 50_000);
    let whole = bytes.clone();
    let server = LyingServer::start(move |request, _| {
        let answer = Response::ranged(request, &format!("\"{}\"", request.index), whole.clone());
        if request.index == 0 { answer.cut_after(5_000) } else { answer }
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    assert!(read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap() == bytes);
    assert_eq!(server.journal().header_of(1, "range").as_deref(), Some("bytes=5000-"));
    assert_eq!((server.journal().header_of(1, "if-range"), server.journal().len()), (None, 2));
}

#[tokio::test]
async fn quirk_p19_the_body_behind_a_416_is_never_waited_for() {
    let bytes = fixture::random_bytes(3, 50_000);
    let (whole, digest) = (bytes.clone(), Digest::sha256(&bytes));
    let server = LyingServer::start(move |request, _| {
        if request.header("range").is_some() {
            // Announces the whole blob and sends one line, as docker-registry 2.8 does.
            return Response::status(416, whole.clone()).stall_after(33);
        }
        let answer = Response::ok(whole.clone());
        if request.index == 0 { answer.cut_after(10_000) } else { answer }
    });
    let net = quick().timeouts(Timeouts { idle_body: Duration::from_mins(10), ..Timeouts::default() }).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let stream = repository.blob(&described(digest, 50_000)).open().await.unwrap();
    assert!(read(stream).await.unwrap() == bytes);
    let journal = server.journal();
    let seen: Vec<_> = (0..journal.len()).map(|index| journal.header_of(index, "range")).collect();
    assert_eq!(seen, [None, Some("bytes=10000-".to_owned()), None]);
    if !ready("quirk_p19_the_body_behind_a_416_is_never_waited_for", &["docker-registry"]) {
        return;
    }
    // docker-registry itself, asked for what is behind the end of its blob.
    let registry = DockerRegistry::open();
    let repository = crate::support::repository(&net, &format!("{}/acme/hello", registry.host()));
    repository.put_blob(source(&bytes)).send().await.unwrap();
    let beyond = repository.blob(&described(digest, 60_000)).from_offset(55_000);
    assert_eq!(beyond.open_unverified().await.unwrap_err().kind(), NetErrorKind::Integrity);
    // Three of the push, the last of which was answered before the first of these.
    let asked: Vec<_> = registry.requests_after(0, 5).into_iter().map(|one| (one.method, one.status)).collect();
    let mut gets: Vec<_> = asked.iter().filter(|(method, _)| method == "GET").map(|(_, status)| *status).collect();
    // Each is logged when its connection is done with, in no order.
    gets.sort_unstable();
    assert_eq!((asked.len(), gets), (5, vec![200, 416]), "{asked:?}");
}

#[tokio::test]
async fn a_transfer_can_start_in_the_middle_when_the_consumer_hashes() {
    let registry = Scenario::new(random()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let request = repository.blob(&layer_of(registry.artifact()));
    let stream = request.clone().from_offset(100_000).open_unverified().await.unwrap();
    assert_eq!(stream.offset(), 100_000);
    assert!(read_unverified(stream).await.unwrap() == registry.artifact().layer_bytes()[100_000..]);
    assert_eq!(ranges(&registry), [Some("bytes=100000-".into())]);
    registry.journal().clear();

    // Everything is there already: no request.
    let size = u64::try_from(SIZE).unwrap();
    let done = request.clone().from_offset(size).open_unverified().await.unwrap();
    assert!(read_unverified(done).await.unwrap().is_empty());
    let beyond = request.clone().from_offset(size + 1).open_unverified().await.unwrap_err();
    assert_eq!(beyond.kind(), NetErrorKind::InvalidInput);
    let middle = request.from_offset(1).open().await.unwrap_err();
    assert_eq!(middle.kind(), NetErrorKind::InvalidInput, "a middle cannot be verified");
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn starting_in_the_middle_works_without_ranges_too() {
    let registry = lying(Lie::RangeIgnored);
    let net = net();
    let repository = repository(&net, &registry.reference());
    let request = repository.blob(&layer_of(registry.artifact())).from_offset(100_000);
    let rest = read_unverified(request.open_unverified().await.unwrap()).await.unwrap();
    assert!(rest == registry.artifact().layer_bytes()[100_000..]);
}

#[tokio::test]
async fn a_transfer_goes_on_after_its_future_was_dropped() {
    let registry = lying(Lie::DripBlob { piece: 30_000, interval: Duration::from_millis(20) });
    let net = net();
    let repository = repository(&net, &registry.reference());
    let mut stream = repository.blob(&layer_of(registry.artifact())).open().await.unwrap();
    let mut all = Vec::new();
    loop {
        // Gives up the future again and again, in the middle of waiting for bytes.
        match tokio::time::timeout(Duration::from_millis(3), stream.next()).await {
            Ok(Some(piece)) => all.extend_from_slice(&piece.unwrap()),
            Ok(None) => break,
            Err(_elapsed) => {}
        }
    }
    assert!(all == registry.artifact().layer_bytes());
}

#[tokio::test]
async fn a_body_slower_than_the_slowest_allowed_is_given_up() {
    let registry = lying(Lie::DripBlob { piece: 10, interval: Duration::from_millis(10) });
    let slowest = SlowestBody { bytes: 1 << 20, window: Duration::from_millis(100) };
    let net = quick().timeouts(Timeouts { slowest_body: Some(slowest), ..Timeouts::default() }).build().unwrap();
    let error = pull_layer(&net, &registry).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Timeout);
    assert!(error.is_transient(), "the network may be better later");
    assert_eq!(registry.journal().len(), 1, "another connection would be as slow now");
}

#[tokio::test]
async fn a_part_of_a_blob_is_read_alone_where_there_are_ranges_and_cut_out_where_there_are_none() {
    for (lie, requests) in [(None, 1), (Some(Lie::RangeIgnored), 2), (Some(Lie::RangeRefused(416)), 3)] {
        let scenario = Scenario::new(random());
        let registry = lie.iter().cloned().fold(scenario, Scenario::lie).start();
        let net = net();
        let repository = repository(&net, &registry.reference());
        let layer = layer_of(registry.artifact());
        let mut part = repository.blob(&layer).open_range(1_000..70_000).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = part.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(part.remaining(), 0);
        assert_eq!(all, registry.artifact().layer_bytes()[1_000..70_000], "{lie:?}");
        assert_eq!(registry.journal().len(), requests, "{lie:?}");
        assert_eq!(registry.journal().header_of(0, "range").as_deref(), Some("bytes=1000-69999"));
        let mut nothing = repository.blob(&layer).open_range(5..5).await.unwrap();
        assert!(nothing.next().await.is_none());
        assert_eq!(registry.journal().len(), requests);
        for beyond in [0..layer.size_bytes + 1, layer.size_bytes + 1..layer.size_bytes + 1] {
            let error = repository.blob(&layer).open_range(beyond).await.unwrap_err();
            assert_eq!(error.kind(), NetErrorKind::InvalidInput);
        }
    }
}

#[tokio::test]
async fn other_bytes_are_another_blob_and_an_unknown_blob_is_not_found() {
    let registry = Scenario::new(random()).start();
    let error = repository(&net(), &registry.reference()).blob(&descriptor(b"never pushed")).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
    assert!(error.has_code("BLOB_UNKNOWN"));
}

#[tokio::test]
async fn offline_opens_no_socket() {
    let registry = Scenario::new(random()).start();
    let net = quick().offline(true).build().unwrap();
    assert!(net.is_offline());
    let error = pull_layer(&net, &registry).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Offline, 0));
    assert!(error.to_string().contains("offline"), "{error}");
    assert_eq!(registry.server().connections(), 0);
    assert_eq!(net.stats(), greentic_dist_net::NetStats::default());
}

/// The blob of the registry's layer, its size not known beforehand.
async fn read_unsized(registry: &LyingRegistry, max_bytes: u64) -> Result<(Option<u64>, Vec<u8>), NetError> {
    let (net, digest) = (net(), registry.artifact().layer_digest());
    let mut stream = repository(&net, &registry.reference()).open_unsized_unverified(digest, max_bytes).await?;
    assert_eq!(stream.digest(), digest);
    let (announced, mut all) = (stream.size_bytes(), Vec::new());
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok((announced, all))
}

#[tokio::test]
async fn a_blob_of_unknown_size_takes_one_request_and_says_what_was_announced() {
    let registry = Scenario::new(random()).start();
    let (announced, bytes) = read_unsized(&registry, 1 << 20).await.unwrap();
    assert_eq!(announced, Some(SIZE as u64));
    assert!(bytes == registry.artifact().layer_bytes());
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());

    let chunked = lying(Lie::ChunkedBlob);
    let (announced, bytes) = read_unsized(&chunked, 1 << 20).await.unwrap();
    assert_eq!(announced, None);
    assert!(bytes == chunked.artifact().layer_bytes());
}

#[tokio::test]
async fn a_blob_of_unknown_size_goes_on_after_a_cut_and_never_beyond_its_limit() {
    let cut = lying(Lie::CutBlob { after: 100_000, times: 1 });
    let (_, bytes) = read_unsized(&cut, 1 << 20).await.unwrap();
    assert!(bytes == cut.artifact().layer_bytes());
    assert_eq!(ranges(&cut), [None, Some("bytes=100000-".to_owned())]);

    for registry in [Scenario::new(random()).start(), lying(Lie::EndlessBlob), lying(Lie::ChunkedBlob)] {
        let error = read_unsized(&registry, 100_000).await.unwrap_err();
        assert_eq!(error.mismatch(), Some(Mismatch::TooLarge { limit: 100_000 }), "{error}");
    }
    let missing = Scenario::new(random()).start();
    let nothing = Digest::sha256(b"nothing");
    let error = repository(&net(), &missing.reference()).open_unsized_unverified(nothing, 1).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
}

/// Takes so many bytes and then fails, as a full disk does.
struct Full {
    room: usize,
    got: Vec<u8>,
}

impl tokio::io::AsyncWrite for Full {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let take = bytes.len().min(self.room);
        if take == 0 {
            return std::task::Poll::Ready(Err(std::io::ErrorKind::StorageFull.into()));
        }
        self.room -= take;
        self.got.extend_from_slice(&bytes[..take]);
        std::task::Poll::Ready(Ok(take))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_blob_comes_whole_into_memory_or_a_writer_whatever_cuts_it() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(8, 200_000));
    let registry = Scenario::new(artifact).lie(Lie::cut_every(70_000)).start();
    let repository = repository(&net(), &registry.reference());
    let blob = layer_of(registry.artifact());
    assert!(repository.blob(&blob).bytes(200_000).await.unwrap() == registry.artifact().layer_bytes());
    let mut written = Vec::new();
    assert_eq!(repository.blob(&blob).to_writer(&mut written).await.unwrap(), 200_000);
    assert!(written == registry.artifact().layer_bytes());
    registry.journal().clear();
    let error = repository.blob(&blob).bytes(199_999).await.unwrap_err();
    assert_eq!((error.kind(), registry.journal().len()), (NetErrorKind::TooLarge, 0));
}

#[tokio::test]
async fn a_wrong_blob_is_never_written_to_its_end_and_a_full_writer_is_no_fault_of_the_network() {
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(8, 200_000));
    let registry = Scenario::new(artifact).lie(Lie::WrongBlob).start();
    let repository = repository(&net(), &registry.reference());
    let blob = layer_of(registry.artifact());
    let mut written = Vec::new();
    let error = repository.blob(&blob).to_writer(&mut written).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert!(written.len() < 200_000, "{}", written.len());
    registry.be_honest();
    let mut full = Full { room: 1_000, got: Vec::new() };
    let error = repository.blob(&blob).to_writer(&mut full).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (NetErrorKind::Output, greentic_dist_net::NetErrorClass::Config));
    assert!(!error.is_transient() && full.got.len() == 1_000);
}
