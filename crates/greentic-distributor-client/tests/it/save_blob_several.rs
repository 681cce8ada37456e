//! Blobs as files that come over several connections: every byte in its place, and nothing lost or believed that was not proven.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use greentic_dist_testkit::{LyingServer, Request, Response, fixture};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistError, DistErrorKind};
use greentic_distributor_client::oci::{
    BlobEvent, Client, Descriptor, RangePolicy, Reference, Repository, save_blob, save_blob_with,
};
use tempfile::TempDir;

const SIZE: usize = 4 << 20;
const SEGMENT: u64 = 128 << 10;

fn bytes() -> Vec<u8> {
    fixture::random_bytes(78, SIZE)
}

/// Several connections at once, whatever the speed of the first.
fn eager() -> RangePolicy {
    RangePolicy { segment_bytes: SEGMENT, ..crate::child::eager() }
}

/// An honest answer that is slow when the rest of the blob is asked for, so that segments are worth it.
fn honest(request: &Request, bytes: &[u8]) -> Response {
    let answer = Response::ranged(request, "", bytes.to_vec());
    let is_open = request.header("range").is_none_or(|range| range.ends_with('-'));
    if is_open { answer.drip(32 << 10, Duration::from_millis(2)) } else { answer }
}

struct Stage {
    dir: TempDir,
    server: LyingServer,
    repository: Repository,
    blob: Descriptor,
}

impl Stage {
    fn new(ranges: RangePolicy, answer: impl Fn(&Request, &[u8]) -> Response + Send + Sync + 'static) -> Self {
        let content = bytes();
        let server = LyingServer::start(move |request, _| answer(request, &content));
        let client = Client::builder().retry(crate::support::quick_retries()).ranges(ranges).build().unwrap();
        let repository = client.repository(&Reference::parse(&format!("{}/acme/hello", server.host())).unwrap());
        let blob = Descriptor::new("application/wasm", Digest::sha256(&bytes()), SIZE as u64);
        Self { dir: tempfile::tempdir().unwrap(), server, repository, blob }
    }

    fn target_in(&self, dir: &Path) -> PathBuf {
        assert!(dir.is_dir() && self.dir.path().is_dir());
        dir.join("hello.wasm")
    }

    fn part_in(&self, dir: &Path) -> PathBuf {
        dir.join(format!(".sha256-{}.part", self.blob.digest.to_hex()))
    }

    async fn save_in(&self, dir: &Path) -> Result<u64, DistError> {
        save_blob(&self.repository, &self.blob, &self.target_in(dir), false).await
    }

    async fn save(&self) -> Result<u64, DistError> {
        self.save_in(self.dir.path()).await
    }

    fn ranges(&self) -> Vec<Option<String>> {
        let entries = self.server.journal().entries();
        entries.iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
    }

    /// The ranges that say where they end.
    fn segments(&self) -> Vec<String> {
        self.ranges().into_iter().flatten().filter(|range| !range.ends_with('-')).collect()
    }

    #[track_caller]
    fn assert_saved_alone_in(&self, dir: &Path) {
        assert!(fs::read(self.target_in(dir)).unwrap() == bytes());
        assert_eq!(names(dir), ["hello.wasm"]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_large_blob_is_saved_over_several_connections() {
    let stage = Stage::new(eager(), honest);
    assert_eq!(stage.save().await.unwrap(), SIZE as u64);
    assert_eq!(stage.ranges()[0], None, "the first request is the plain one");
    assert!(stage.segments().len() > 8, "{:?}", stage.ranges());
    stage.assert_saved_alone_in(stage.dir.path());
}

#[tokio::test]
async fn one_request_saves_what_is_small_or_what_the_server_has_no_ranges_of() {
    let large = RangePolicy { from_bytes: SIZE as u64 + 1, ..eager() };
    let whole = |_: &Request, bytes: &[u8]| Response::ok(bytes.to_vec()).drip(64 << 10, Duration::from_millis(1));
    for stage in [Stage::new(large, honest), Stage::new(eager(), whole), Stage::new(RangePolicy::default(), honest)] {
        stage.save().await.unwrap();
        assert_eq!(stage.ranges(), [None]);
        stage.assert_saved_alone_in(stage.dir.path());
    }
}

#[tokio::test]
async fn wrong_segments_are_never_placed_and_the_blob_comes_over_one_connection() {
    let stage = Stage::new(eager(), |request, bytes| match request.header("range") {
        Some(_) => Response::ranged(request, "", vec![0; bytes.len()]),
        None => honest(request, bytes),
    });
    stage.save().await.unwrap();
    let asked = stage.ranges();
    assert!(!stage.segments().is_empty());
    assert_eq!((asked[0].as_ref(), asked.last().unwrap().as_ref()), (None, None), "{asked:?}");
    assert_eq!(asked.iter().filter(|range| range.is_none()).count(), 2, "{asked:?}");
    stage.assert_saved_alone_in(stage.dir.path());
}

#[tokio::test]
async fn bytes_that_are_wrong_over_one_connection_too_are_refused_and_nothing_stays() {
    let stage = Stage::new(eager(), |request, bytes| honest(request, &vec![7; bytes.len()]));
    let error = stage.save().await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Integrity, 8), "{error:?}");
    assert!(crate::support::chain(&error).contains("the bytes hash to"), "{}", crate::support::chain(&error));
    assert_eq!(stage.ranges().iter().filter(|range| range.is_none()).count(), 2);
    assert!(names(stage.dir.path()).is_empty());
}

/// What a partial file with holes says at its end: up to where there is none.
fn noted(part: &[u8]) -> Option<usize> {
    let note = part.get(SIZE..)?;
    str::from_utf8(note).ok()?.strip_suffix('\n')?.parse().ok()
}

#[tokio::test]
async fn a_file_with_holes_that_a_kill_or_a_drop_left_is_continued_from_its_first_hole() {
    const STALLED: usize = 2 << 20;
    // Nobody else answers before the first connection has brought what it brings; what is asked of others may begin before its end.
    let brought = Arc::new((Mutex::new(0), Condvar::new()));
    let awaited = Arc::clone(&brought);
    let stage = Stage::new(eager(), move |request, bytes| {
        if request.index == 0 {
            return Response::ranged(request, "", bytes.to_vec()).stall_after(STALLED);
        }
        drop(awaited.1.wait_while(awaited.0.lock().unwrap(), |bytes| *bytes < STALLED as u64).unwrap());
        honest(request, bytes)
    });
    let (seen, mut told) = tokio::sync::watch::channel(0);
    let request = stage.repository.blob(&stage.blob).progress(move |event| {
        if let BlobEvent::Bytes { bytes } = event {
            *brought.0.lock().unwrap() = *bytes;
            brought.1.notify_all();
            seen.send_replace(*bytes);
        }
    });
    let target = stage.target_in(stage.dir.path());
    let saving = tokio::spawn(async move { save_blob_with(request, &target, false).await });
    // The first connection stands still, and so little is missing that nobody takes that over.
    told.wait_for(|bytes| *bytes >= SIZE as u64 - SEGMENT / 8).await.unwrap();
    let part = stage.part_in(stage.dir.path());
    // What a kill would leave now.
    let left = fs::read(&part).unwrap();
    let upto = noted(&left).expect("it says that it has holes");
    assert!(left[..upto] == bytes()[..upto]);
    saving.abort();
    assert!(saving.await.unwrap_err().is_cancelled());
    // The thread that writes ends by itself; then nobody holds the file any more.
    let open = fs::File::open(&part).unwrap();
    tokio::task::spawn_blocking(move || open.lock().unwrap()).await.unwrap();
    let kept = fs::read(&part).unwrap();
    assert!(kept.len() >= upto && kept == bytes()[..kept.len()], "what a drop leaves has no hole and no note");
    let first_hole = kept.len();

    let mut garbled = left.clone();
    garbled[SIZE] = b'x';
    for (left, first) in [
        (None, Some(format!("bytes={first_hole}-"))),
        (Some(left), Some(upto).filter(|upto| *upto > 0).map(|upto| format!("bytes={upto}-"))),
        (Some(garbled), None),
    ] {
        stage.server.journal().clear();
        let dir = tempfile::tempdir().unwrap();
        let dir = match &left {
            None => stage.dir.path(),
            Some(left) => {
                fs::write(stage.part_in(dir.path()), left).unwrap();
                dir.path()
            }
        };
        stage.save_in(dir).await.unwrap();
        assert_eq!(stage.ranges()[0], first);
        assert!(!stage.segments().is_empty());
        stage.assert_saved_alone_in(dir);
    }
}
