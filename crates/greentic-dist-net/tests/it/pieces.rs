//! Blobs over several connections at a time.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use greentic_dist_net::{
    BlobPieces, HostConfig, HostEndpoint, NetBuilder, NetError, NetErrorKind, RangePolicy, RetryPolicy, Timeouts,
};
use greentic_dist_testkit::{LyingServer, Request, Response, Step, fixture};
use greentic_dist_types::Digest;

use crate::support::{described, quick, repository, with_login};

const SIZE: usize = 1 << 20;
const SEGMENT: u64 = 64 << 10;

fn blob() -> Vec<u8> {
    fixture::random_bytes(11, SIZE)
}

/// Segments at once, whatever the speed of the first connection.
fn eager() -> RangePolicy {
    RangePolicy {
        from_bytes: 256 << 10,
        segment_bytes: SEGMENT,
        look: Duration::ZERO,
        fast_bytes_per_second: u64::MAX,
        trial: Duration::ZERO,
        loopback: true,
        ..RangePolicy::default()
    }
}

fn several() -> NetBuilder {
    quick().ranges(eager())
}

/// An honest answer that is slow when the whole blob is asked for, so that segments are worth it.
fn honest(request: &Request, blob: &[u8]) -> Response {
    slow_whole(request, Response::ranged(request, "", blob.to_vec()))
}

fn slow_whole(request: &Request, answer: Response) -> Response {
    if request.header("range").is_none() { answer.drip(16 << 10, Duration::from_millis(2)) } else { answer }
}

/// A registry with one blob, whose answers to its blob requests `answer` makes.
fn registry(answer: impl Fn(&Request, &[u8]) -> Response + Send + Sync + 'static) -> LyingServer {
    let blob = blob();
    LyingServer::start(move |request, _| answer(request, &blob))
}

async fn open(net: NetBuilder, server: &LyingServer) -> Result<BlobPieces, NetError> {
    open_with(&net.build().unwrap(), server).await
}

async fn open_with(net: &greentic_dist_net::Net, server: &LyingServer) -> Result<BlobPieces, NetError> {
    let blob = blob();
    let repository = repository(net, &format!("{}/acme/hello", server.host()));
    repository.blob(&described(Digest::sha256(&blob), blob.len())).open_pieces_unverified().await
}

/// All bytes, each of which must come once.
async fn collect(mut pieces: BlobPieces) -> Result<Vec<u8>, NetError> {
    let size = usize::try_from(pieces.size_bytes()).unwrap();
    let (mut bytes, mut came) = (vec![0; size], vec![false; size]);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let at = usize::try_from(piece.offset).unwrap();
        assert!(!came[at..at + piece.bytes.len()].contains(&true), "bytes at {at} came twice");
        came[at..at + piece.bytes.len()].fill(true);
        bytes[at..at + piece.bytes.len()].copy_from_slice(&piece.bytes);
    }
    assert!(!came.contains(&false), "bytes are missing");
    Ok(bytes)
}

/// The right bytes come, and this is what was asked for, in order.
async fn right_bytes(net: NetBuilder, server: &LyingServer) -> Vec<Option<String>> {
    let bytes = collect(open(net, server).await.unwrap()).await.unwrap();
    assert!(bytes == blob(), "wrong bytes");
    ranges(server)
}

fn ranges(server: &LyingServer) -> Vec<Option<String>> {
    server.journal().entries().iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
}

/// The first ranges that were asked for, of which a server remembers that it treated them differently.
#[derive(Clone, Default)]
struct Chosen(Arc<Mutex<Vec<String>>>);

impl Chosen {
    fn is_one_of(&self, most: usize, request: &Request) -> bool {
        let Some(range) = request.header("range") else { return false };
        let mut chosen = self.0.lock().unwrap();
        let room = chosen.len() < most;
        if room {
            chosen.push(range.to_owned());
        }
        room
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.lock().unwrap().iter().map(|range| bounds(range)).collect()
    }
}

/// The first byte of a range and the one behind its last.
fn bounds(range: &str) -> (u64, u64) {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    (first.parse().unwrap(), last.parse::<u64>().unwrap() + 1)
}

/// What was asked for as a range.
fn segments(asked: &[Option<String>]) -> Vec<(u64, u64)> {
    asked.iter().flatten().map(|range| bounds(range)).collect()
}

#[tokio::test]
async fn a_large_blob_comes_in_bounded_segments_from_the_tail_of_a_window() {
    // No byte comes over the first connection until the others were asked.
    let server = registry(|request, blob| {
        if request.header("range").is_some() {
            return Response::ranged(request, "", blob.to_vec());
        }
        let head = format!("HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n", blob.len());
        let delay = Step::Delay(Duration::from_millis(200));
        Response::raw([Step::Bytes(head.into()), delay, Step::Bytes(blob.to_vec().into())])
    });
    let asked = right_bytes(several(), &server).await;
    assert_eq!(asked[0], None, "the first request is the plain one");
    let segments = segments(&asked);
    // The window is eight segments long.
    for number in [5, 6, 7] {
        assert!(segments.contains(&(number * SEGMENT, (number + 1) * SEGMENT)), "{number} in {segments:?}");
    }
    assert!(segments.iter().all(|(from, to)| from < to && to - from <= SEGMENT));
    // Everything but what the first connection brought was asked for as a range, and nothing twice but the tails of the slow.
    let total: u64 = segments.iter().map(|(from, to)| to - from).sum();
    assert!(total <= SIZE as u64 + SIZE as u64 / 4, "{total}");
    // Each connection is used again for the next segment.
    assert!(server.connections() <= 8, "{} connections", server.connections());
}

#[tokio::test]
async fn one_connection_is_enough_where_more_would_be_none_of_the_servers_or_none_the_faster() {
    let no_ranges = |request: &Request, blob: &[u8]| slow_whole(request, Response::ok(blob.to_vec()));
    let none = move |request: &Request, blob: &[u8]| no_ranges(request, blob).header("Accept-Ranges", "none");
    let alone = RangePolicy { connections: 1, ..eager() };
    let large = RangePolicy { from_bytes: SIZE as u64 + 1, ..eager() };
    let fast = RangePolicy { fast_bytes_per_second: 0, ..eager() };
    let far = RangePolicy { loopback: false, ..eager() };
    for (server, policy) in [
        (registry(no_ranges), eager()),
        (registry(none), eager()),
        (registry(honest), alone),
        (registry(honest), large),
        (registry(honest), fast),
        (registry(honest), far),
        (registry(honest), RangePolicy::default()),
    ] {
        assert_eq!(right_bytes(quick().ranges(policy), &server).await, [None], "{policy:?}");
    }
}

#[tokio::test]
async fn a_blob_begun_before_goes_on_over_several_connections_without_asking_for_a_byte_again() {
    let from = 100_001;
    let server = registry(|request, blob| {
        let answer = Response::ranged(request, "", blob.to_vec());
        let is_open = request.header("range").is_some_and(|range| range.ends_with('-'));
        if is_open { answer.drip(4 << 10, Duration::from_millis(2)) } else { answer }
    });
    let blob = blob();
    let net = several().build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let request = repository.blob(&described(Digest::sha256(&blob), blob.len()));
    let mut pieces = request.from_offset(from).open_pieces_unverified().await.unwrap();
    let (mut lowest, mut total) = (u64::MAX, 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        let at = usize::try_from(piece.offset).unwrap();
        assert!(piece.bytes == blob[at..at + piece.bytes.len()]);
        (lowest, total) = (lowest.min(piece.offset), total + piece.bytes.len());
    }
    assert_eq!((lowest, total), (from, blob.len() - usize::try_from(from).unwrap()));
    let asked = ranges(&server);
    assert_eq!(asked[0], Some(format!("bytes={from}-")));
    assert!(asked.len() > 4 && segments(&asked[1..]).iter().all(|(first, _)| *first > from));
}

#[tokio::test]
async fn a_segment_that_is_cut_goes_on_where_it_was_and_no_further_than_its_end() {
    let chosen = Chosen::default();
    let server = registry({
        let chosen = chosen.clone();
        move |request, blob| {
            let answer = honest(request, blob);
            if chosen.is_one_of(2, request) { answer.cut_after(1_000) } else { answer }
        }
    });
    let asked = right_bytes(several(), &server).await;
    let cut = chosen.ranges();
    assert_eq!(cut.len(), 2);
    for (from, to) in cut {
        assert!(asked.contains(&Some(format!("bytes={}-{}", from + 1_000, to - 1))), "{from}-{to} in {asked:?}");
    }
}

/// A partial answer that says of itself what it likes.
fn partial(blob: &[u8], first: u64, last: u64, says: String) -> Response {
    let bytes = blob[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec();
    Response::status(206, bytes).header("Content-Range", says)
}

#[tokio::test]
async fn a_server_whose_ranges_are_none_is_read_over_its_first_connection_and_remembered() {
    type Lie = fn(&Request, &[u8], u64, u64) -> Response;
    let lies: [(&str, Lie); 8] = [
        ("the whole", |_, blob, _, _| Response::ok(blob.to_vec())),
        ("416", |_, blob, _, _| Response::status(416, "").header("Content-Range", format!("bytes */{}", blob.len()))),
        ("405", |_, _, _, _| Response::status(405, "")),
        ("no Content-Range", |_, blob, first, _| {
            Response::status(206, blob[usize::try_from(first).unwrap()..].to_vec())
        }),
        ("another start", |_, blob, first, last| {
            partial(blob, first, last, format!("bytes {}-{}/{SIZE}", first + 1, last + 1))
        }),
        ("another end", |_, blob, first, last| {
            partial(blob, first, last - 1, format!("bytes {first}-{}/{SIZE}", last - 1))
        }),
        ("another whole", |_, blob, first, last| {
            partial(blob, first, last, format!("bytes {first}-{last}/{}", SIZE + 1))
        }),
        ("more than it says", |_, blob, first, last| {
            partial(blob, first, (last + 10).min(SIZE as u64 - 1), format!("bytes {first}-{last}/{SIZE}")).chunked()
        }),
    ];
    for (name, lie) in lies {
        let server = registry(move |request, blob| match request.range(SIZE as u64) {
            Some(Some((first, last))) => lie(request, blob, first, last),
            _ => honest(request, blob),
        });
        let net = several().build().unwrap();
        for time in ["first", "second"] {
            let bytes = collect(open_with(&net, &server).await.unwrap()).await.unwrap();
            assert!(bytes == blob(), "{name}, the {time} time");
        }
        let asked = ranges(&server);
        let plain = asked.iter().filter(|range| range.is_none()).count();
        assert_eq!(plain, 2, "{name}: the first connection goes on, {asked:?}");
        assert_eq!(asked.last(), Some(&None), "{name}: it is remembered, {asked:?}");
        assert!(asked.len() <= 5, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn a_server_that_fails_segments_is_read_over_its_first_connection() {
    let server =
        registry(
            |request, blob| {
                if request.header("range").is_some() { Response::status(500, "") } else { honest(request, blob) }
            },
        );
    let quickly = Duration::from_millis(1);
    let retry = RetryPolicy { attempts: 3, base: quickly, cap: quickly, ..RetryPolicy::default() };
    let asked = right_bytes(several().retry(retry), &server).await;
    // Each of the three other connections gives up after its attempts, or when the first has everything.
    assert_eq!(asked.iter().filter(|range| range.is_none()).count(), 1, "{asked:?}");
    assert!((2..=1 + 3 * 3).contains(&asked.len()), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_is_too_busy_for_segments_is_read_over_its_first_connection() {
    // Every refusal halves what the host gets at a time, down to the first connection's own turn.
    let server = registry(|request, blob| {
        let busy = request.header("range").is_some();
        if busy { Response::status(429, "").header("Retry-After", "0") } else { honest(request, blob) }
    });
    let asked = right_bytes(several().requests_per_host(4), &server).await;
    assert_eq!(asked.iter().filter(|range| range.is_none()).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn segments_are_asked_for_where_the_redirect_led_and_anew_when_that_expires() {
    let issued = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let storage = {
        let (blob, refused) = (blob(), Arc::clone(&refused));
        LyingServer::start(move |request, _| {
            // The first signature is good for the first request and three segments.
            let is_old = request.target.ends_with("sig=1");
            if is_old && request.header("range").is_some() && request.index > 3 {
                refused.fetch_add(1, Ordering::SeqCst);
                return Response::status(403, "<Error>expired</Error>");
            }
            let answer = Response::ranged(request, "", blob.clone()).without_header("Accept-Ranges");
            if request.header("range").is_none() { answer.drip(8 << 10, Duration::from_millis(5)) } else { answer }
        })
    };
    let registry = {
        let (issued, base) = (Arc::clone(&issued), storage.url());
        LyingServer::start(move |request, _| {
            if request.header("authorization").is_none() {
                return Response::basic_challenge("registry");
            }
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            Response::redirect(307, format!("{base}/stored?sig={number}"))
        })
    };
    let net = with_login(&registry.host(), "ada", "canary-password").ranges(eager()).build().unwrap();
    let bytes = collect(open_with(&net, &registry).await.unwrap()).await.unwrap();
    assert!(bytes == blob());
    let lines = storage.journal().lines();
    assert!(lines[..4].iter().all(|line| line == "GET /stored?sig=1"), "{lines:?}");
    // Whoever found it expired asked the registry at most once, or took what it had answered somebody else.
    let (renewed, refused) = (issued.load(Ordering::SeqCst) - 1, refused.load(Ordering::SeqCst));
    assert!((1..=refused).contains(&renewed), "{renewed} times, refused {refused} times");
    assert!(lines.last().unwrap() != "GET /stored?sig=1", "{lines:?}");
    assert!(!storage.journal().contains("canary-password"));
    assert!(storage.journal().entries().iter().all(|entry| entry.headers.get("authorization").is_none()));
}

/// A client that is patient beyond any test: nothing that stands still ends by itself.
fn patient() -> NetBuilder {
    let long = Duration::from_mins(10);
    several().timeouts(Timeouts { headers: long, idle_body: long, ..Timeouts::default() })
}

/// How a server treats a request for a range, by its number.
type Treatment = fn(usize, Response) -> Response;

#[tokio::test]
async fn what_segments_do_not_bring_comes_over_the_first_connection() {
    let treatments: [(&str, Treatment); 8] = [
        ("stands still after its header", |_, answer| answer.stall_after(0)),
        ("stands still in the middle", |_, answer| answer.stall_after(1_000)),
        ("no answer", |_, _| Response::silence()),
        ("403", |_, _| Response::status(403, "expired")),
        ("every second one is refused", |number, answer| {
            if number.is_multiple_of(2) { answer } else { Response::status(403, "expired") }
        }),
        ("one stands still", |number, answer| if number == 0 { answer.stall_after(1) } else { answer }),
        ("reset", |_, _| Response::reset()),
        ("hung up", |_, _| Response::hang_up()),
    ];
    for (name, treat) in treatments {
        let number = AtomicUsize::new(0);
        let server = registry(move |request, blob| {
            let answer = honest(request, blob);
            if request.header("range").is_none() {
                return answer;
            }
            treat(number.fetch_add(1, Ordering::SeqCst), answer)
        });
        let body = async { collect(open(patient(), &server).await.unwrap()).await.unwrap() };
        let bytes = tokio::time::timeout(Duration::from_mins(1), body).await;
        assert!(bytes.unwrap_or_else(|_| panic!("{name}: it stands still")) == blob(), "{name}");
        let asked = ranges(&server);
        assert!(asked.len() > 1, "{name}: several were tried, {asked:?}");
        assert_eq!(asked.iter().filter(|range| range.is_none()).count(), 1, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn ranges_that_fail_after_they_had_proven_themselves_fail_no_body() {
    const LARGE: usize = 6 << 20;
    let blob = fixture::random_bytes(12, LARGE);
    for good in [6, 24] {
        let (served, number) = (blob.clone(), AtomicUsize::new(0));
        let server = LyingServer::start(move |request, _| match request.header("range") {
            Some(_) if number.fetch_add(1, Ordering::SeqCst) >= good => Response::status(403, "expired"),
            _ => honest(request, &served),
        });
        let net = several().build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        let pieces = repository.blob(&described(Digest::sha256(&blob), LARGE)).open_pieces_unverified().await.unwrap();
        assert!(collect(pieces).await.unwrap() == blob, "{good}");
        let plain = ranges(&server).iter().filter(|range| range.is_none()).count();
        assert!(plain <= 2, "{good}: it is asked for anew once, if at all");
    }
}

#[tokio::test]
async fn connections_that_bring_no_more_are_given_up_and_not_tried_again() {
    let policy = RangePolicy {
        look: Duration::from_millis(200),
        trial: Duration::from_millis(1),
        gain_percent: u32::MAX,
        ..eager()
    };
    let judged = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let server = registry({
        let judged = Arc::clone(&judged);
        move |request, blob| {
            let answer = Response::ranged(request, "", blob.to_vec());
            if request.header("range").is_none() {
                return answer.drip(2 << 10, Duration::from_millis(1));
            }
            // No segment ends before it was judged whether they help.
            while !judged.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            answer
        }
    });
    let patient = Timeouts { headers: Duration::from_mins(1), ..Timeouts::default() };
    let net = quick().timeouts(patient).ranges(policy).build().unwrap();
    let mut pieces = open_with(&net, &server).await.unwrap();
    let mut left = SIZE;
    let mut until = None;
    while left > 0 {
        if until.is_none() && server.journal().len() > 1 {
            until = Some(tokio::time::Instant::now() + Duration::from_millis(50));
        }
        let next = match until {
            // The trial is shorter, so that it is over when nothing came until then.
            Some(until) if !judged.load(Ordering::SeqCst) => tokio::time::timeout_at(until, pieces.next()).await,
            _ => Ok(pieces.next().await),
        };
        match next {
            Ok(piece) => left -= piece.unwrap().unwrap().bytes.len(),
            Err(_) => judged.store(true, Ordering::SeqCst),
        }
    }
    let requests = server.journal().len();
    assert!(requests > 1, "several were tried");
    assert!(collect(open_with(&net, &server).await.unwrap()).await.unwrap() == blob());
    assert_eq!(server.journal().len(), requests + 1);
}

#[tokio::test]
async fn connections_that_help_are_opened_at_once_for_the_next_blob() {
    let policy =
        RangePolicy { look: Duration::from_millis(40), trial: Duration::from_millis(40), gain_percent: 0, ..eager() };
    let server = registry(honest);
    let net = quick().ranges(policy).build().unwrap();
    assert!(collect(open_with(&net, &server).await.unwrap()).await.unwrap() == blob());
    let before = server.journal().len();
    let mut pieces = open_with(&net, &server).await.unwrap();
    let _first = pieces.next().await.unwrap().unwrap();
    let _second = pieces.next().await.unwrap().unwrap();
    drop(pieces);
    // The plain one and the three others, without a look.
    assert!(server.journal().len() > before, "asked");
}

#[tokio::test]
async fn a_host_without_room_for_another_transfer_is_asked_for_none() {
    let server = registry(honest);
    assert_eq!(right_bytes(several().requests_per_host(1), &server).await, [None]);
}

#[tokio::test]
async fn dropped_half_way_all_connections_end_and_their_places_are_free() {
    let server = registry(|request, blob| honest(request, blob).drip(4 << 10, Duration::from_millis(2)));
    let net = several().requests_per_host(4).build().unwrap();
    for _ in 0..3 {
        let mut pieces = open_with(&net, &server).await.unwrap();
        while server.journal().len() < 4 {
            let _piece = pieces.next().await.unwrap().unwrap();
        }
        drop(pieces);
        let requests = server.journal().len();
        tokio::task::yield_now().await;
        assert_eq!(server.journal().len(), requests);
        server.journal().clear();
    }
    assert!(collect(open_with(&net, &server).await.unwrap()).await.unwrap() == blob());
}

#[test]
fn a_task_that_has_used_up_its_turn_is_given_what_is_there_and_then_waits() {
    let (tell, told) = std::sync::mpsc::channel();
    // On a thread of its own: what never gives its turn back can be told from outside only.
    std::thread::spawn(move || {
        let server = registry(honest);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let given = runtime.block_on(async {
            let mut pieces = open(several(), &server).await.unwrap();
            let (mut bytes, mut left, mut given) = (vec![0; SIZE], SIZE, 0);
            while left > 0 {
                let at_the_end_of_a_turn = poll_fn(|context| {
                    while pin!(tokio::task::coop::consume_budget()).poll(context).is_ready() {}
                    Poll::Ready(pin!(pieces.next()).poll(context))
                });
                let piece = match at_the_end_of_a_turn.await {
                    Poll::Ready(piece) => {
                        given += 1;
                        piece
                    }
                    Poll::Pending => pieces.next().await,
                };
                let piece = piece.unwrap().unwrap();
                let at = usize::try_from(piece.offset).unwrap();
                bytes[at..at + piece.bytes.len()].copy_from_slice(&piece.bytes);
                left -= piece.bytes.len();
            }
            assert!(bytes == blob());
            given
        });
        tell.send(given).unwrap();
    });
    let given = told.recv_timeout(Duration::from_mins(1)).expect("it ends");
    assert!(given > 0, "pieces were there when the turn was over");
}

#[tokio::test]
async fn a_blob_fails_where_its_first_connection_fails_for_good() {
    let server = registry(|request, blob| match request.header("range") {
        None => Response::ranged(request, "", blob.to_vec()).cut_after(100_000),
        Some(_) => Response::status(404, ""),
    });
    let error = collect(open(several(), &server).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
}

#[tokio::test]
async fn a_host_may_be_configured_for_one_connection_or_for_one_request_at_a_time() {
    for setting in [
        |endpoint: HostEndpoint| endpoint.parallel_ranges(false),
        |endpoint: HostEndpoint| endpoint.requests_at_once(1),
    ] {
        let server = registry(honest);
        let config = HostConfig::new(server.host()).origin(setting(HostEndpoint::new(server.url())));
        assert_eq!(right_bytes(several().host(config), &server).await, [None]);
        // Another host is none of its business.
        let other = registry(honest);
        let config = HostConfig::new(server.host()).origin(setting(HostEndpoint::new(server.url())));
        assert!(right_bytes(several().host(config), &other).await.len() > 1);
    }
}

#[tokio::test]
async fn blobs_at_once_have_eight_connections_from_one_host_with_their_segments() {
    // No segment ever ends, so that all that are asked for are there at once; the whole blobs come slowly.
    let server = registry(|request, blob| match request.header("range") {
        Some(_) => Response::ranged(request, "", blob.to_vec()).stall_after(1),
        None => Response::ranged(request, "", blob.to_vec()).drip(1 << 10, Duration::from_millis(5)),
    });
    let patient = Timeouts { idle_body: Duration::from_secs(30), ..Timeouts::default() };
    let net = several().timeouts(patient).requests_per_host(32).build().unwrap();
    let mut blobs = Vec::new();
    for _ in 0..4 {
        blobs.push(open_with(&net, &server).await.unwrap());
    }
    let segments = || ranges(&server).into_iter().flatten().count();
    let read = read_all(&mut blobs);
    let watch = async {
        while segments() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Twelve are wanted; eight of them never begin beside the four first connections.
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::select! {
        () = read => panic!("segments that stand still bring nothing"),
        () = watch => {}
    }
    assert_eq!((segments(), server.journal().len()), (4, 8));
}

/// Reads all of them at the same time, as far as they come.
async fn read_all(blobs: &mut [BlobPieces]) {
    poll_fn(|context| {
        for blob in blobs.iter_mut() {
            while let Poll::Ready(Some(piece)) = pin!(blob.next()).poll(context) {
                piece.unwrap();
            }
        }
        Poll::<()>::Pending
    })
    .await;
}

/// All bytes of a blob that is read in order, with at most so many of them in memory.
async fn in_order(net: NetBuilder, server: &LyingServer, from: u64, ahead: u64) -> Result<Vec<u8>, NetError> {
    let (net, blob) = (net.build().unwrap(), blob());
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let request = repository.blob(&described(Digest::sha256(&blob), blob.len())).read_ahead(ahead);
    let mut stream = request.from_offset(from).open_unverified().await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        assert_eq!(stream.offset(), from + bytes.len() as u64 + piece.as_ref().map_or(0, bytes::Bytes::len) as u64);
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_blob_that_is_read_in_order_comes_over_several_connections_and_little_of_it_waits() {
    // Eight segments of 8 KiB may be ahead.
    let ahead = 64 << 10;
    for (from, first) in [(0, None), (100_001, Some("bytes=100001-".to_owned()))] {
        let server = registry(|request, blob| {
            let answer = Response::ranged(request, "", blob.to_vec());
            let is_open = request.header("range").is_none_or(|range| range.ends_with('-'));
            if is_open { answer.drip(4 << 10, Duration::from_millis(2)) } else { answer }
        });
        let bytes = in_order(several(), &server, from, ahead).await.unwrap();
        assert!(bytes == blob()[usize::try_from(from).unwrap()..], "wrong bytes from {from}");
        let asked = ranges(&server);
        assert_eq!(asked[0], first);
        let segments = segments(&asked[1..]);
        assert!(segments.len() > 8, "{asked:?}");
        assert!(segments.iter().all(|(first, end)| end - first <= ahead / 8), "{segments:?}");
        let total: u64 = segments.iter().map(|(first, end)| end - first).sum();
        assert!(total <= SIZE as u64 - from + SIZE as u64 / 4, "{total}");
    }
}

#[tokio::test]
async fn a_blob_that_is_read_in_order_comes_over_one_connection_unless_its_reader_has_room() {
    for (server, policy, ahead) in [
        (registry(honest), eager(), 0),
        (registry(|request, blob| slow_whole(request, Response::ok(blob.to_vec()))), eager(), 64 << 10),
        (registry(honest), RangePolicy { from_bytes: SIZE as u64 + 1, ..eager() }, 64 << 10),
        // Segments would be smaller than it pays.
        (registry(honest), eager(), SEGMENT / 4 - 1),
    ] {
        let bytes = in_order(quick().ranges(policy), &server, 0, ahead).await.unwrap();
        assert!(bytes == blob());
        assert_eq!(ranges(&server), [None], "{policy:?}");
    }
}

#[tokio::test]
async fn a_blob_that_is_read_in_order_is_proven_before_its_last_piece() {
    let server = registry(|request, blob| {
        let bytes = if request.header("range").is_some() { vec![0; blob.len()] } else { blob.to_vec() };
        slow_whole(request, Response::ranged(request, "", bytes))
    });
    let (net, blob) = (several().build().unwrap(), blob());
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let request = repository.blob(&described(Digest::sha256(&blob), blob.len())).read_ahead(64 << 10);
    let mut stream = request.open().await.unwrap();
    let mut came = 0;
    let error = loop {
        match stream.next().await {
            Some(Ok(piece)) => came += piece.len(),
            Some(Err(error)) => break error,
            None => panic!("wrong bytes were handed out to their end"),
        }
    };
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert!(came < SIZE, "the last piece is held back");
    assert!(ranges(&server).len() > 1, "segments brought wrong bytes");
}
