//! What happens when an endpoint fails: one test for each way, with the requests everybody saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use greentic_dist_net::{
    BlobSource, BytesSource, Capabilities, HostConfig, HostEndpoint, Net, NetError, NetErrorKind, Proxy, ProxyRule,
    ReferrersUpkeep, Repository, Selector, Timeouts,
};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Part, Scenario};
use greentic_dist_testkit::serve::Registry;
use greentic_dist_testkit::{LyingServer, Response};

use crate::support::{Recorder, layer_of, quick, read, read_unverified, repository, with_login};

const SIZE: usize = 300_000;
const CANARY: &str = "canary-mirror-51";

/// An address no other test uses: who lied is remembered by the whole process.
pub fn own_ip() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 77, high, low))
}

fn artifact() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(77, SIZE))
}

fn origin() -> LyingRegistry {
    Scenario::new(artifact()).start()
}

fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    lies.into_iter().fold(Scenario::new(artifact()).on(own_ip()), Scenario::lie).start()
}

/// A URL where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind(SocketAddr::new(own_ip(), 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn config(origin: &LyingRegistry, mirrors: &[(String, Capabilities)]) -> HostConfig {
    mirrors.iter().fold(HostConfig::new(origin.host()), |config, (url, capabilities)| {
        config.mirror(HostEndpoint::new(url.clone()).capabilities(*capabilities))
    })
}

fn behind(origin: &LyingRegistry, mirrors: &[(String, Capabilities)]) -> Net {
    quick().host(config(origin, mirrors)).build().unwrap()
}

fn pulling(mirror: &LyingRegistry) -> (String, Capabilities) {
    (mirror.url(), Capabilities::PULL)
}

fn resolving(mirror: &LyingRegistry) -> (String, Capabilities) {
    (mirror.url(), Capabilities::READ)
}

async fn manifest(net: &Net, origin: &LyingRegistry) -> Result<(), NetError> {
    let digest = origin.artifact().manifest_digest;
    repository(net, &origin.reference()).manifest(Selector::Digest(digest)).await.map(drop)
}

async fn blob(net: &Net, origin: &LyingRegistry) -> Result<(), NetError> {
    let repository = repository(net, &origin.reference());
    let bytes = read(repository.blob(&layer_of(origin.artifact())).open().await?).await?;
    assert!(bytes == origin.artifact().layer_bytes());
    Ok(())
}

fn tagged(net: &Net, origin: &LyingRegistry) -> Repository {
    repository(net, &origin.reference())
}

/// Method, path and range of each request.
fn seen(registry: &LyingRegistry) -> Vec<String> {
    let name = |target: &str| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let what = if path.contains("/blobs/") { "blob" } else { "manifest" };
        format!("{what}{}{query}", if query.is_empty() { "" } else { "?" })
    };
    let line = |entry: greentic_dist_testkit::JournalEntry| {
        let range = entry.headers.get("range").map(|range| format!(" {range}")).unwrap_or_default();
        format!("{} {}{range}", entry.method, name(&entry.target))
    };
    registry.journal().entries().into_iter().map(line).collect()
}

fn ns(origin: &LyingRegistry) -> String {
    format!("?ns={}", origin.host().replace(':', "%3A"))
}

#[tokio::test]
async fn mirror_serves_content_by_digest_and_the_origin_is_not_asked() {
    let (origin, near) = (origin(), mirror([]));
    let net = behind(&origin, &[pulling(&near)]);
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!(seen(&near), [format!("GET manifest{}", ns(&origin)), format!("GET blob{}", ns(&origin))]);
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn mirror_without_resolve_is_not_asked_what_a_name_means() {
    let (origin, near) = (origin(), mirror([]));
    let net = behind(&origin, &[pulling(&near)]);
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    tagged(&net, &origin).head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(seen(&origin), ["GET manifest", "HEAD manifest"]);
    assert!(near.journal().is_empty());
}

#[tokio::test]
async fn mirror_with_resolve_answers_for_names_and_a_stale_one_is_believed() {
    let (origin, near) = (origin(), mirror([]));
    let newer = fixture::artifact("application/wasm", fixture::random_bytes(78, 10));
    origin.publish(&newer, "1");
    let net = behind(&origin, &[resolving(&near)]);
    let found = tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(found.digest, near.artifact().manifest_digest);
    assert!(origin.journal().is_empty());
    // A pin is immune: it names its bytes.
    let pinned = tagged(&net, &origin).manifest(Selector::Digest(newer.manifest_digest)).await.unwrap();
    assert_eq!(pinned.digest, newer.manifest_digest);
}

#[tokio::test]
async fn mirrors_are_asked_in_their_order() {
    let (origin, first, second) = (origin(), mirror([]), mirror([]));
    let net = behind(&origin, &[pulling(&first), pulling(&second)]);
    manifest(&net, &origin).await.unwrap();
    first.lie(Lie::status(Part::All, 404));
    manifest(&net, &origin).await.unwrap();
    assert_eq!((first.journal().len(), second.journal().len(), origin.journal().len()), (2, 1, 0));
}

#[tokio::test]
async fn mirror_that_refuses_the_connection_is_passed_over() {
    let origin = origin();
    let net = behind(&origin, &[(nobody(), Capabilities::READ)]);
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(seen(&origin), ["GET manifest", "GET blob", "GET manifest"]);
}

#[tokio::test]
async fn mirror_whose_name_does_not_resolve_is_passed_over() {
    let origin = origin();
    let net = behind(&origin, &[("http://mirror.invalid".to_owned(), Capabilities::PULL)]);
    manifest(&net, &origin).await.unwrap();
    assert_eq!(seen(&origin), ["GET manifest"]);
}

#[tokio::test]
async fn mirror_whose_tls_fails_is_passed_over() {
    let (origin, plain) = (origin(), mirror([]));
    let url = plain.url().replace("http://", "https://");
    let net = behind(&origin, &[(url, Capabilities::PULL)]);
    manifest(&net, &origin).await.unwrap();
    assert_eq!((seen(&origin), plain.journal().len()), (vec!["GET manifest".to_owned()], 0));
}

#[tokio::test]
async fn mirror_that_does_not_answer_in_time_is_passed_over() {
    let (origin, silent) = (origin(), mirror([Lie::Silence { on: Part::All }]));
    let timeouts = Timeouts { headers: Duration::from_millis(200), ..Timeouts::default() };
    let net = quick().timeouts(timeouts).host(config(&origin, &[pulling(&silent)])).build().unwrap();
    manifest(&net, &origin).await.unwrap();
    assert_eq!((silent.journal().len(), origin.journal().len()), (1, 1));
}

#[tokio::test]
async fn mirror_that_cannot_be_reached_three_times_in_a_row_is_left_alone() {
    let (origin, resetting) = (origin(), nobody());
    let recorder = Arc::new(Recorder::default());
    let config = config(&origin, &[(resetting.clone(), Capabilities::PULL)]);
    let net = quick().observer(Arc::clone(&recorder) as _).host(config).build().unwrap();
    for _ in 0..5 {
        manifest(&net, &origin).await.unwrap();
    }
    assert_eq!(recorder.lines(), vec![format!("fallback {resetting}"); 3], "the fourth and fifth do not ask it");
    // What is not asked is told when everything fails.
    origin.lie(Lie::status(Part::All, 404));
    let error = manifest(&net, &origin).await.unwrap_err();
    assert_eq!(error.endpoints()[0].endpoint, resetting);
    assert!(error.to_string().contains("several times in a row"), "{error}");
}

#[tokio::test]
async fn mirror_that_has_not_the_content_is_a_normal_miss() {
    let (origin, empty) = (origin(), mirror([Lie::status(Part::All, 404)]));
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::clone(&recorder) as _).host(config(&origin, &[pulling(&empty)])).build().unwrap();
    for _ in 0..4 {
        manifest(&net, &origin).await.unwrap();
        blob(&net, &origin).await.unwrap();
    }
    assert_eq!((empty.journal().len(), origin.journal().len()), (1, 8));
    assert!(recorder.lines().is_empty(), "{:?}", recorder.lines());
    // No penalty: it is asked as soon as nobody else has it.
    let digest = fixture::artifact("application/wasm", b"nobody has it".to_vec()).manifest_digest;
    let error = tagged(&net, &origin).manifest(Selector::Digest(digest)).await.unwrap_err();
    assert_eq!((error.kind(), error.endpoints().len()), (NetErrorKind::NotFound, 1), "{error}");
    assert_eq!(empty.journal().len(), 2);
}

/// An artifact of one manifest and four blobs, the same at all of these.
async fn pull_five(net: &Net, origin: &LyingRegistry, blobs: &[Artifact; 4]) {
    manifest(net, origin).await.unwrap();
    for wanted in blobs {
        let repository = repository(net, &origin.reference());
        assert!(read(repository.blob(&layer_of(wanted)).open().await.unwrap()).await.unwrap() == wanted.layer_bytes());
    }
}

fn four_blobs(at: &[&LyingRegistry]) -> [Artifact; 4] {
    let blobs = [1, 2, 3, 4].map(|seed| fixture::artifact("application/wasm", fixture::random_bytes(seed, 2_000)));
    for (registry, (number, artifact)) in at.iter().flat_map(|at| blobs.iter().enumerate().map(move |blob| (at, blob)))
    {
        registry.publish(artifact, &format!("blob-{number}"));
    }
    blobs
}

#[tokio::test]
async fn mirror_that_served_is_asked_first_for_the_rest_of_a_repository_the_one_before_it_has_nothing_of() {
    let (origin, empty, full) = (origin(), mirror([Lie::status(Part::All, 404)]), mirror([]));
    let blobs = four_blobs(&[&origin, &full]);
    let net = behind(&origin, &[pulling(&empty), pulling(&full)]);
    pull_five(&net, &origin, &blobs).await;
    assert_eq!((empty.journal().len(), full.journal().len(), origin.journal().len()), (1, 5, 0));
    // Two that refuse everybody cost one question each.
    for status in [401, 403, 500, 503] {
        let origin = self::origin();
        let refuse = || mirror([Lie::status(Part::All, status)]);
        let (one, other) = (refuse(), refuse());
        let blobs = four_blobs(&[&origin]);
        let net = behind(&origin, &[pulling(&one), pulling(&other)]);
        pull_five(&net, &origin, &blobs).await;
        assert_eq!((one.journal().len(), other.journal().len(), origin.journal().len()), (1, 1, 5), "{status}");
    }
}

#[tokio::test]
async fn mirror_that_has_nothing_of_one_repository_is_asked_first_for_others() {
    let (origin, empty) = (origin(), mirror([Lie::status(Part::All, 404)]));
    let net = behind(&origin, &[pulling(&empty)]);
    blob(&net, &origin).await.unwrap();
    let other = repository(&net, &format!("{}/acme/other", origin.host()));
    other.manifest(Selector::Digest(origin.artifact().manifest_digest)).await.unwrap_err();
    let journal = empty.journal();
    assert_eq!((journal.count("GET", "/v2/acme/hello/"), journal.count("GET", "/v2/acme/other/")), (1, 1));
}

#[tokio::test]
async fn mirror_that_lacks_one_blob_of_what_it_serves_is_asked_first_for_the_next() {
    let (origin, near) = (origin(), mirror([]));
    let [first, second, ..] = four_blobs(&[&origin]);
    near.publish(&second, "second");
    let net = behind(&origin, &[pulling(&near)]);
    manifest(&net, &origin).await.unwrap();
    for wanted in [&first, &second] {
        let blob = repository(&net, &origin.reference()).blob(&layer_of(wanted));
        read(blob.open().await.unwrap()).await.unwrap();
    }
    assert_eq!((near.journal().len(), seen(&origin)), (3, vec!["GET blob".to_owned()]));
}

#[tokio::test]
async fn mirror_that_has_nothing_is_asked_for_names_in_its_order_all_the_same() {
    let (origin, empty) = (origin(), mirror([Lie::status(Part::All, 404)]));
    let net = behind(&origin, &[resolving(&empty)]);
    for _ in 0..2 {
        blob(&net, &origin).await.unwrap();
        tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    }
    let query = ns(&origin);
    let manifest = format!("GET manifest{query}");
    assert_eq!(seen(&empty), [format!("GET blob{query}"), manifest.clone(), manifest]);
    assert_eq!(seen(&origin), ["GET blob", "GET manifest", "GET blob", "GET manifest"]);
}

#[tokio::test]
async fn mirror_that_had_nothing_serves_what_the_origin_cannot_and_is_asked_first_from_then_on() {
    let (origin, slow) = (origin(), mirror([Lie::Status { on: Part::All, status: 404, times: 1, retry_after: None }]));
    let net = behind(&origin, &[pulling(&slow)]);
    manifest(&net, &origin).await.unwrap();
    // It has been filled meanwhile, and the registry is gone.
    origin.lie(Lie::status(Part::All, 500));
    blob(&net, &origin).await.unwrap();
    let asked = origin.journal().len();
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!((slow.journal().len(), origin.journal().len()), (4, asked));
}

#[tokio::test]
async fn mirror_that_lied_or_has_no_pull_is_not_asked_late_either() {
    let (origin, liar, naming) = (origin(), mirror([]), mirror([]));
    let resolve_only = Capabilities { pull: false, ..Capabilities::READ };
    let net = behind(&origin, &[pulling(&liar), (naming.url(), resolve_only)]);
    liar.lie(Lie::Status { on: Part::All, status: 404, times: 1, retry_after: None });
    manifest(&net, &origin).await.unwrap();
    // Asked as the last one it sends wrong bytes: from then on it is asked for nothing.
    origin.lie(Lie::status(Part::All, 404));
    liar.lie(Lie::WrongManifestEchoed);
    for _ in 0..2 {
        let error = manifest(&net, &origin).await.unwrap_err();
        assert_eq!(error.endpoints()[0].error.kind(), NetErrorKind::Integrity, "{error}");
    }
    assert_eq!((liar.journal().len(), naming.journal().len()), (2, 0));
}

#[tokio::test]
async fn mirror_does_not_decide_that_a_tag_does_not_exist() {
    let (origin, empty) = (origin(), mirror([Lie::status(Part::All, 404)]));
    let net = behind(&origin, &[resolving(&empty)]);
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    let error = tagged(&net, &origin).manifest(Selector::Tag("2")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::NotFound, Some(404)));
    assert!(error.url().unwrap().contains(&origin.host()), "the origin's word is the final one: {error}");
}

#[tokio::test]
async fn mirror_that_has_not_a_tag_of_an_unreachable_origin_makes_no_not_found() {
    let empty = mirror([Lie::status(Part::All, 404)]);
    let gone = nobody().replace("http://", "");
    let config = HostConfig::new(gone.clone()).mirror(HostEndpoint::new(empty.url()).capabilities(Capabilities::READ));
    let net = quick().host(config).build().unwrap();
    let error = repository(&net, &format!("{gone}/acme/hello")).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Connect, "{error}");
    assert!(error.is_transient());
    assert_eq!(error.endpoints()[0].error.kind(), NetErrorKind::NotFound);
}

#[tokio::test]
async fn mirror_serves_while_the_origin_is_down() {
    let near = mirror([]);
    let gone = nobody().replace("http://", "");
    let config = HostConfig::new(gone.clone()).mirror(HostEndpoint::new(near.url()).capabilities(Capabilities::READ));
    let net = quick().host(config).build().unwrap();
    let repository = repository(&net, &format!("{gone}/acme/hello"));
    repository.manifest(Selector::Tag("1")).await.unwrap();
    let bytes = read(repository.blob(&layer_of(near.artifact())).open().await.unwrap()).await.unwrap();
    assert!(bytes == near.artifact().layer_bytes());
}

#[tokio::test]
async fn mirror_that_refuses_access_is_passed_over_and_warned_about_once() {
    for status in [401, 403] {
        let (origin, closed) = (origin(), mirror([Lie::status(Part::All, status)]));
        let recorder = Arc::new(Recorder::default());
        let net =
            quick().observer(Arc::clone(&recorder) as _).host(config(&origin, &[resolving(&closed)])).build().unwrap();
        for _ in 0..3 {
            tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
        }
        let warnings = recorder.lines().into_iter().filter(|line| line.starts_with("warning")).count();
        assert_eq!((warnings, closed.journal().len()), (1, 3), "{status}: {:?}", recorder.lines());
    }
}

#[tokio::test]
async fn mirror_never_sees_the_login_of_the_origin() {
    for auth in [Auth::basic("ann", CANARY), Auth::bearer("ann", CANARY)] {
        let origin = Scenario::new(artifact()).auth(auth.clone()).start();
        let asking = Scenario::new(artifact()).on(own_ip()).auth(auth).start();
        let net =
            with_login(&origin.host(), "ann", CANARY).host(config(&origin, &[resolving(&asking)])).build().unwrap();
        manifest(&net, &origin).await.unwrap();
        blob(&net, &origin).await.unwrap();
        tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
        assert!(origin.journal().contains(CANARY));
        assert!(!asking.journal().is_empty() && !asking.journal().contains(CANARY));
        assert!(!asking.journal().any_header_contains("Bearer"));
    }
}

#[tokio::test]
async fn mirror_gets_its_own_login_and_the_origin_does_not() {
    let closed = Scenario::new(artifact()).on(own_ip()).auth(Auth::basic("ann", CANARY)).start();
    let origin = origin();
    let net = with_login(&closed.host(), "ann", CANARY).host(config(&origin, &[pulling(&closed)])).build().unwrap();
    manifest(&net, &origin).await.unwrap();
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert!(closed.journal().contains(CANARY));
    assert!(!origin.journal().contains(CANARY));
}

fn overloaded(status: u16, times: u32, retry_after: Option<&str>) -> Lie {
    Lie::Status { on: Part::All, status, times, retry_after: retry_after.map(str::to_owned) }
}

#[tokio::test]
async fn mirror_that_asks_for_a_short_wait_is_waited_for() {
    for status in [429, 503] {
        let (origin, busy) = (origin(), mirror([overloaded(status, 1, Some("0"))]));
        let net = behind(&origin, &[pulling(&busy)]);
        manifest(&net, &origin).await.unwrap();
        assert_eq!((busy.journal().len(), origin.journal().len()), (2, 0), "{status}");
    }
}

#[tokio::test]
async fn mirror_that_says_a_short_wait_in_its_message_is_waited_for() {
    let artifact = artifact();
    let bytes = artifact.manifest_bytes.clone();
    let busy = LyingServer::start_on(own_ip(), move |request, _| match request.index {
        0 => Response::oci_error(429, "TOOMANYREQUESTS", "retry-after: 880µs, allowed: 44000/minute"),
        _ => Response::ok(bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE),
    });
    let origin = origin();
    let net = behind(&origin, &[(busy.url(), Capabilities::PULL)]);
    manifest(&net, &origin).await.unwrap();
    assert_eq!((busy.journal().len(), origin.journal().len()), (2, 0));
}

#[tokio::test]
async fn mirror_that_asks_for_a_long_wait_or_none_is_passed_over_at_once() {
    for (status, retry_after) in [(429, Some("3")), (503, Some("3600")), (503, None), (500, None), (502, None)] {
        let (origin, busy) = (origin(), mirror([overloaded(status, Lie::ALWAYS, retry_after)]));
        let net = behind(&origin, &[pulling(&busy)]);
        manifest(&net, &origin).await.unwrap();
        assert_eq!((busy.journal().len(), origin.journal().len()), (1, 1), "{status} {retry_after:?}");
    }
}

#[tokio::test]
async fn mirror_that_cuts_a_body_early_leaves_the_rest_to_the_next_endpoint() {
    for lie in [Lie::cut_every(50_000), Lie::ResetBlob { after: 0, times: Lie::ALWAYS }] {
        let (origin, cutting) = (origin(), mirror([lie.clone()]));
        let net = behind(&origin, &[pulling(&cutting)]);
        blob(&net, &origin).await.unwrap();
        assert_eq!(cutting.journal().len(), 1, "{lie:?}");
        let range = origin.journal().header_of(0, "range");
        let expected = matches!(lie, Lie::CutBlob { .. }).then(|| "bytes=50000-".to_owned());
        assert_eq!((range, origin.journal().len()), (expected, 1), "{lie:?}");
    }
}

#[tokio::test]
async fn mirror_that_brings_good_pieces_between_cuts_is_resumed_itself() {
    let (origin, cutting) = (origin(), mirror([Lie::cut_every(120_000)]));
    let net = behind(&origin, &[pulling(&cutting)]);
    blob(&net, &origin).await.unwrap();
    let query = ns(&origin);
    assert_eq!(
        seen(&cutting),
        [
            format!("GET blob{query}"),
            format!("GET blob{query} bytes=120000-"),
            format!("GET blob{query} bytes=240000-")
        ]
    );
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn mirror_that_stalls_leaves_the_rest_to_the_next_endpoint() {
    let (origin, stalling) = (origin(), mirror([Lie::StallBlob { after: 1_000, times: Lie::ALWAYS }]));
    let net = behind(&origin, &[pulling(&stalling)]);
    blob(&net, &origin).await.unwrap();
    assert_eq!(seen(&origin), ["GET blob bytes=1000-"]);
}

#[tokio::test]
async fn mirror_that_ends_a_chunked_body_early_leaves_the_rest_to_the_next_endpoint() {
    let artifact = artifact();
    let part = artifact.layer_bytes()[..1_000].to_vec();
    let short = LyingServer::start_on(own_ip(), move |_, _| Response::ok(part.clone()).chunked());
    let origin = origin();
    let net = behind(&origin, &[(short.url(), Capabilities::PULL)]);
    blob(&net, &origin).await.unwrap();
    assert_eq!((short.journal().len(), seen(&origin)), (1, vec!["GET blob bytes=1000-".to_owned()]));
}

#[tokio::test]
async fn mirror_that_answers_a_web_page_for_a_manifest_is_passed_over() {
    let page = LyingServer::start_on(own_ip(), |_, _| {
        Response::ok("<html>please log in</html>").header("Content-Type", "text/html")
    });
    let origin = origin();
    let net = behind(&origin, &[(page.url(), Capabilities::READ)]);
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!((page.journal().len(), origin.journal().len()), (1, 1));
    // A name has no digest that would prove the lie: the mirror is asked again next time.
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(page.journal().len(), 2);
}

#[tokio::test]
async fn mirror_with_an_oversized_manifest_is_passed_over() {
    let (origin, endless) = (origin(), mirror([Lie::EndlessManifest]));
    let net = behind(&origin, &[resolving(&endless)]);
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!((endless.journal().len(), origin.journal().len()), (1, 1));
}

/// Pulls something from behind a liar twice: it is asked once, named, and then left alone by every client.
async fn quarantined(lie: Lie, pull: impl AsyncFn(&Net, &LyingRegistry) -> Result<(), NetError>) {
    let (origin, liar) = (origin(), mirror([lie.clone()]));
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::clone(&recorder) as _).host(config(&origin, &[pulling(&liar)])).build().unwrap();
    pull(&net, &origin).await.unwrap_or_else(|error| panic!("{lie:?}: {error}"));
    let lines = recorder.lines();
    let named = lines.iter().any(|line| line.starts_with("warning") && line.contains(&liar.url()));
    assert!(named, "{lie:?}: {lines:?}");
    let asked = liar.journal().len();
    pull(&net, &origin).await.unwrap();
    let another_client = behind(&origin, &[pulling(&liar)]);
    pull(&another_client, &origin).await.unwrap();
    assert_eq!(liar.journal().len(), asked, "{lie:?}: a liar is not asked again");
}

#[tokio::test]
async fn mirror_with_a_wrong_manifest_is_quarantined() {
    for lie in [Lie::WrongManifestEchoed, Lie::PaddedManifest] {
        quarantined(lie, manifest).await;
    }
}

#[tokio::test]
async fn mirror_with_a_blob_of_another_length_is_quarantined() {
    for lie in [Lie::ShortBlob(0), Lie::ShortBlob(1_000), Lie::OverLongBlob(1)] {
        quarantined(lie, blob).await;
    }
}

#[tokio::test]
async fn mirror_with_wrong_bytes_is_quarantined_and_the_next_try_goes_elsewhere() {
    for lie in [Lie::WrongBlob, Lie::OverLongBlobChunked(10), Lie::EndlessBlob] {
        let (origin, liar) = (origin(), mirror([lie.clone()]));
        let net = behind(&origin, &[pulling(&liar)]);
        let error = blob(&net, &origin).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Integrity, "{lie:?}");
        assert_eq!(error.endpoints()[0].endpoint, liar.url(), "{lie:?}: {error}");
        blob(&net, &origin).await.unwrap();
        assert_eq!((liar.journal().len(), origin.journal().len()), (1, 1), "{lie:?}");
    }
}

#[tokio::test]
async fn mirror_whose_bytes_the_consumer_found_wrong_is_quarantined() {
    let (origin, liar) = (origin(), mirror([Lie::WrongBlob]));
    let net = behind(&origin, &[pulling(&liar)]);
    let layer = layer_of(origin.artifact());
    let mut stream = tagged(&net, &origin).blob(&layer).open_unverified().await.unwrap();
    while let Some(piece) = stream.next().await {
        piece.unwrap();
    }
    let error = stream.refute();
    assert_eq!((error.kind(), error.endpoints()[0].endpoint.clone()), (NetErrorKind::Integrity, liar.url()));
    blob(&net, &origin).await.unwrap();
    assert_eq!((liar.journal().len(), origin.journal().len()), (1, 1));
}

#[tokio::test]
async fn mirror_is_not_blamed_for_bytes_that_were_there_before() {
    let (origin, honest) = (origin(), mirror([]));
    let net = behind(&origin, &[pulling(&honest)]);
    let layer = layer_of(origin.artifact());
    let request = tagged(&net, &origin).blob(&layer).from_offset(1_000);
    let mut stream = request.open_unverified().await.unwrap();
    while let Some(piece) = stream.next().await {
        piece.unwrap();
    }
    let error = stream.refute();
    assert!(error.endpoints().is_empty());
    blob(&net, &origin).await.unwrap();
    assert_eq!((honest.journal().len(), origin.journal().len()), (2, 0));
}

#[tokio::test]
async fn mirrors_and_origin_that_all_lie_are_all_named() {
    let (first, second) = (mirror([Lie::PaddedManifest]), mirror([Lie::WrongManifestEchoed]));
    let origin = Scenario::new(artifact()).lie(Lie::WrongManifestEchoed).start();
    let net = behind(&origin, &[pulling(&first), pulling(&second)]);
    let error = manifest(&net, &origin).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    let named: Vec<_> = error.endpoints().iter().map(|failure| failure.endpoint.clone()).collect();
    assert_eq!(named, [first.url(), second.url()]);
    for host in [first.url(), second.url(), origin.url()] {
        assert!(error.to_string().contains(&host), "{error}");
    }
}

#[tokio::test]
async fn mirror_that_ignores_ranges_is_read_again_from_its_start() {
    let (origin, plain) = (origin(), mirror([Lie::RangeIgnored, Lie::CutBlob { after: 120_000, times: 1 }]));
    let net = behind(&origin, &[pulling(&plain)]);
    blob(&net, &origin).await.unwrap();
    let query = ns(&origin);
    assert_eq!(seen(&plain), [format!("GET blob{query}"), format!("GET blob{query} bytes=120000-")]);
    assert!(origin.journal().is_empty());
}

#[tokio::test]
async fn mirror_with_wrong_ranges_leaves_the_rest_to_the_next_endpoint() {
    for lie in [Lie::WrongContentRange, Lie::NoContentRange, Lie::RangeRefused(416), Lie::RangeRefused(400)] {
        let (origin, wrong) = (origin(), mirror([lie.clone(), Lie::CutBlob { after: 120_000, times: 1 }]));
        let net = behind(&origin, &[pulling(&wrong)]);
        blob(&net, &origin).await.unwrap();
        assert_eq!((wrong.journal().len(), seen(&origin)), (2, vec!["GET blob bytes=120000-".to_owned()]), "{lie:?}");
    }
}

#[tokio::test]
async fn mirror_that_redirects_to_a_metadata_service_or_in_a_circle_is_passed_over() {
    for to in ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd"] {
        let evil = LyingServer::start_on(own_ip(), move |_, _| Response::redirect(307, to));
        let origin = origin();
        let net = behind(&origin, &[(evil.url(), Capabilities::PULL)]);
        blob(&net, &origin).await.unwrap();
        assert_eq!((evil.journal().len(), origin.journal().len()), (1, 1), "{to}");
    }
    let (origin, looping) = (origin(), mirror([Lie::RedirectLoop]));
    blob(&behind(&origin, &[pulling(&looping)]), &origin).await.unwrap();
    assert_eq!(origin.journal().len(), 1);
}

#[tokio::test]
async fn a_stream_from_a_mirror_survives_the_end_of_the_mirror() {
    let (origin, near) = (origin(), mirror([Lie::cut_every(100_000)]));
    let net = behind(&origin, &[pulling(&near)]);
    let stream = tagged(&net, &origin).blob(&layer_of(origin.artifact())).open_unverified().await.unwrap();
    // The connection is there, the next one will be refused.
    let server = near;
    server.lie(Lie::status(Part::All, 503));
    let bytes = read_unverified(stream).await.unwrap();
    assert!(bytes == origin.artifact().layer_bytes());
    assert_eq!(seen(&origin), ["GET blob bytes=100000-"]);
}

#[tokio::test]
async fn mirror_with_resolve_goes_on_with_a_list_it_began() {
    let pages = LyingServer::start_on(own_ip(), |request, _| match request.param("last") {
        None => Response::ok(r#"{"name":"acme/hello","tags":["a"]}"#)
            .header("Link", "</v2/acme/hello/tags/list?last=a>; rel=\"next\""),
        Some(_) => Response::ok(r#"{"name":"acme/hello","tags":["b"]}"#),
    });
    let origin = origin();
    let net = behind(&origin, &[(pages.url(), Capabilities::READ)]);
    let tags = tagged(&net, &origin).tags().collect(10).await.unwrap();
    assert_eq!(tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((pages.journal().len(), origin.journal().len()), (2, 0));
}

#[tokio::test]
async fn mirror_is_not_asked_for_a_catalog_nor_to_delete_anything() {
    let (origin, near) = (origin(), mirror([]));
    let net = behind(&origin, &[(near.url(), Capabilities::ALL)]);
    let listed = net.registry(&origin.host()).unwrap().catalog().collect(10).await;
    assert_eq!(listed.unwrap_err().kind(), NetErrorKind::Unsupported);
    let deleted = tagged(&net, &origin).delete_manifest(&origin.artifact().manifest_digest).await;
    assert_eq!(deleted.unwrap(), ReferrersUpkeep::NotNeeded);
    assert!(near.journal().is_empty());
    assert_eq!(
        origin.journal().entries().iter().map(|entry| entry.method.clone()).collect::<Vec<_>>(),
        ["GET", "GET", "DELETE"]
    );
}

#[tokio::test]
async fn uploads_go_to_the_origin_unless_a_mirror_takes_them() {
    let serve = |ip| Registry::in_memory().start((ip, 0).into()).unwrap();
    let blob: Arc<dyn BlobSource> = Arc::new(BytesSource::new("application/wasm", b"\0asm".as_slice()));
    for (capabilities, at_mirror) in [(Capabilities::READ, false), (Capabilities::ALL, true)] {
        let (own, near) = (serve(own_ip()), serve(own_ip()));
        let config = HostConfig::new(own.host())
            .mirror(HostEndpoint::new(format!("http://{}", near.host())).capabilities(capabilities));
        let net = quick().host(config).build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", own.host()));
        repository.put_blob(Arc::clone(&blob)).send().await.unwrap();
        let requests = |running: &greentic_dist_testkit::serve::RunningRegistry| running.journal().len();
        assert_eq!((requests(&own) > 0, requests(&near) > 0), (!at_mirror, at_mirror));
        own.stop();
        near.stop();
    }
}

#[tokio::test]
async fn what_a_push_or_a_deletion_asks_first_is_asked_where_it_goes() {
    // A mirror that has everything already, or says so.
    let (origin, near) = (origin(), mirror([]));
    origin.publish(&fixture::artifact("application/wasm", "another"), "1");
    let net = behind(&origin, &[resolving(&near)]);
    let at_mirror = near.artifact().manifest_digest;
    for (repository, digest) in [
        (tagged(&net, &origin), Some(at_mirror)),
        (tagged(&net, &origin).for_pushing().await.unwrap(), None),
        (tagged(&net, &origin).for_deleting(), None),
    ] {
        near.journal().clear();
        let head = repository.head_manifest(Selector::Tag("1")).await.unwrap();
        repository.manifest(Selector::Digest(head.digest.unwrap())).await.unwrap();
        repository.head_blob(&layer_of(near.artifact()).digest).await.unwrap();
        assert_eq!(head.digest == Some(at_mirror), digest.is_some());
        assert_eq!(near.journal().is_empty(), digest.is_none(), "{:?}", near.journal().lines());
    }
}

#[tokio::test]
async fn mirror_that_has_not_the_blob_is_asked_once_however_often_the_rest_is_fetched() {
    let near = mirror([Lie::Status { on: Part::Blob, status: 404, times: 1, retry_after: None }]);
    let origin = Scenario::new(artifact()).lie(Lie::CutBlob { after: 50_000, times: 4 }).start();
    let net = behind(&origin, &[pulling(&near)]);
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!(near.journal().len(), 2);
    assert!(origin.journal().len() > 2, "{:?}", origin.journal().lines());
    // The next blob may be there.
    blob(&net, &origin).await.unwrap();
    assert_eq!(near.journal().len(), 3);
}

/// A mirror that has the artifact and says whose it is.
fn speaking_for(namespace: &'static str) -> LyingServer {
    LyingServer::start_on(own_ip(), move |request, _| {
        let artifact = artifact();
        let body = if request.target.contains("/blobs/") {
            artifact.layer_bytes().to_vec()
        } else {
            artifact.manifest_bytes.clone()
        };
        Response::ok(body).header("Content-Type", fixture::MANIFEST_TYPE).header("OCI-Namespace", namespace)
    })
}

#[tokio::test]
async fn mirror_that_answers_for_another_registry_decides_nothing_about_names() {
    let (origin, near) = (origin(), speaking_for("other.example"));
    let recorder = Arc::new(Recorder::default());
    let config = config(&origin, &[(near.url(), Capabilities::READ)]);
    let net = quick().host(config).observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    tagged(&net, &origin).head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!((near.journal().len(), seen(&origin)), (2, vec!["GET manifest".to_owned(), "HEAD manifest".to_owned()]));
    let told = recorder.lines().into_iter().filter(|line| line.contains("answers for `other.example`")).count();
    assert_eq!(told, 1, "once: {:?}", recorder.lines());
    // Content proves itself, whoever it is said to be from.
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!(origin.journal().len(), 2);
}

#[tokio::test]
async fn mirror_that_answers_for_a_secret_is_warned_of_without_it() {
    let (origin, near) = (origin(), speaking_for("Canary-Mirror-51.example"));
    let recorder = Arc::new(Recorder::default());
    let config = config(&origin, &[(near.url(), Capabilities::READ)]);
    let proxy = Proxy::new("http://proxy.test:1").login("ann", "Canary-Mirror-51");
    let net = quick().host(config).observer(Arc::<Recorder>::clone(&recorder)).proxy(ProxyRule::Through(proxy));
    tagged(&net.build().unwrap(), &origin).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!((near.journal().len(), origin.journal().len()), (1, 1));
    let lines = recorder.lines().join(" ");
    assert!(lines.contains("answers for `[redacted].example`"), "{lines}");
    assert!(!lines.to_ascii_lowercase().contains(CANARY), "{lines}");
}

#[tokio::test]
async fn mirror_that_answers_for_the_registry_by_any_of_its_names_is_believed() {
    for (registry, namespace) in [("registry.example", "Registry.EXAMPLE"), ("docker.io", "registry-1.docker.io")] {
        let near = speaking_for(namespace);
        let net = quick()
            .host(HostConfig::new(registry).mirror(HostEndpoint::new(near.url()).capabilities(Capabilities::READ)));
        let repository = repository(&net.build().unwrap(), &format!("{registry}/acme/hello"));
        repository.manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(near.journal().len(), 1);
    }
}

#[tokio::test]
async fn names_can_be_asked_of_the_registry_itself_while_content_comes_from_a_mirror() {
    let (origin, near) = (origin(), mirror([]));
    let net = quick().host(config(&origin, &[resolving(&near)])).names_from_origin(true).build().unwrap();
    tagged(&net, &origin).manifest(Selector::Tag("1")).await.unwrap();
    tagged(&net, &origin).tags().collect(10).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!((seen(&near), origin.journal().len()), (vec![format!("GET blob{}", ns(&origin))], 2));
}
