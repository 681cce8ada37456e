//! Copies of blobs that come over several connections: into a directory as they come, elsewhere in their order.

use std::fs;
use std::path::Path;
use std::time::Duration;

use greentic_dist_serve::Registry;
use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::{LyingServer, Request, Response};
use greentic_distributor_client::dist::{DistClient, DistError, DistErrorKind, RangePolicy};
use greentic_distributor_client::oci::{CopyOptions, CopyReport, Place};

use crate::support::{Home, chain};

const SIZE: usize = 4 << 20;

/// Several connections at once, whatever the speed of the first.
fn eager() -> RangePolicy {
    RangePolicy { segment_bytes: 128 << 10, ..crate::child::eager() }
}

/// An answer that is slow when all of the layer is asked for, so that segments are worth it.
fn honest(request: &Request, bytes: &[u8]) -> Response {
    let answer = Response::ranged(request, "", bytes.to_vec());
    if request.header("range").is_none() { answer.drip(32 << 10, Duration::from_millis(2)) } else { answer }
}

struct Stage {
    home: Home,
    artifact: Artifact,
    server: LyingServer,
    client: DistClient,
}

impl Stage {
    /// A registry with one artifact, whose answers to requests for its layer `answer` makes.
    fn new(ranges: RangePolicy, answer: impl Fn(&Request, &[u8]) -> Response + Send + Sync + 'static) -> Self {
        let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(79, SIZE));
        let served = artifact.clone();
        let server = LyingServer::start(move |request, _| {
            let named = |digest: &greentic_dist_types::Digest| request.path.ends_with(&digest.to_string());
            if request.path.contains("/manifests/") {
                Response::ok(served.manifest_bytes.clone()).header("Content-Type", served.media_type.clone())
            } else if named(&served.config.digest) {
                Response::ok(served.config.bytes.clone())
            } else if named(&served.layer_digest()) {
                answer(request, served.layer_bytes())
            } else {
                Response::status(404, "")
            }
        });
        let home = Home::new();
        let client = home.builder().ranges(ranges).build();
        Self { home, artifact, server, client }
    }

    async fn copy_to(&self, to: &Place) -> Result<CopyReport, DistError> {
        let from = Place::parse(&format!("{}/acme/hello:1", self.server.host())).unwrap();
        let options = CopyOptions { referrers: false, ..CopyOptions::default() };
        self.client.copy(&from, to, &options).await
    }

    /// What was asked of the layer.
    fn ranges(&self) -> Vec<Option<String>> {
        let layer = self.artifact.layer_digest().to_string();
        let entries = self.server.journal().entries();
        let asked = entries.iter().filter(|entry| entry.path.ends_with(&layer));
        asked.map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
    }

    #[track_caller]
    fn assert_in(&self, layout: &Path) {
        let blob = layout.join("blobs/sha256").join(self.artifact.layer_digest().to_hex());
        assert!(fs::read(blob).unwrap() == self.artifact.layer_bytes());
        assert!(!layout.join(".partial").exists());
    }
}

fn place(kind: &str, path: &Path) -> Place {
    Place::parse(&format!("{kind}:{}", path.display())).unwrap()
}

#[tokio::test]
async fn a_large_blob_is_copied_over_several_connections_wherever_it_goes() {
    let stage = Stage::new(eager(), honest);
    let work = tempfile::tempdir().unwrap();
    let other = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
    let [layout, archive] = ["layout", "hello.tar"].map(|name| work.path().join(name));
    let there = Place::parse(&format!("{}/acme/hello:1", other.host())).unwrap();
    for to in [place("oci-layout", &layout), place("oci-archive", &archive), there.clone()] {
        stage.server.journal().clear();
        let report = stage.copy_to(&to).await.unwrap_or_else(|error| panic!("{to}: {}", chain(&error)));
        assert_eq!((report.blobs_copied, report.digest), (2, stage.artifact.manifest_digest.to_string()), "{to}");
        let asked = stage.ranges();
        assert_eq!(asked[0], None, "{to}: the first request is the plain one");
        assert!(asked.len() > 8 && asked[1..].iter().all(Option::is_some), "{to}: {asked:?}");
    }
    stage.assert_in(&layout);
    for (number, from) in [place("oci-archive", &archive), there].iter().enumerate() {
        let again = work.path().join(number.to_string());
        Home::new().client().copy(from, &place("oci-layout", &again), &CopyOptions::default()).await.unwrap();
        stage.assert_in(&again);
    }
    stage.home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn one_request_copies_what_is_small_or_what_the_server_has_no_ranges_of() {
    let large = RangePolicy { from_bytes: SIZE as u64 + 1, ..eager() };
    let whole = |_: &Request, bytes: &[u8]| Response::ok(bytes.to_vec()).drip(64 << 10, Duration::from_millis(1));
    for stage in [Stage::new(large, honest), Stage::new(eager(), whole), Stage::new(RangePolicy::default(), honest)] {
        let work = tempfile::tempdir().unwrap();
        for kind in ["oci-layout", "oci-archive"] {
            stage.copy_to(&place(kind, &work.path().join(kind))).await.unwrap();
        }
        assert_eq!(stage.ranges(), [None, None]);
        stage.assert_in(&work.path().join("oci-layout"));
    }
}

#[tokio::test]
async fn wrong_segments_are_never_in_a_layout_and_the_blob_comes_over_one_connection() {
    let stage = Stage::new(eager(), |request, bytes| match request.header("range") {
        Some(_) => Response::ranged(request, "", vec![0; bytes.len()]),
        None => honest(request, bytes),
    });
    let work = tempfile::tempdir().unwrap();
    let layout = work.path().join("layout");
    stage.copy_to(&place("oci-layout", &layout)).await.unwrap();
    let asked = stage.ranges();
    assert_eq!(asked.iter().filter(|range| range.is_none()).count(), 2, "{asked:?}");
    assert_eq!(asked.last().unwrap(), &None, "{asked:?}");
    stage.assert_in(&layout);
    // What is sent on in its order cannot be taken back: it fails.
    let archive = work.path().join("hello.tar");
    let error = stage.copy_to(&place("oci-archive", &archive)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity, "{}", chain(&error));
    assert!(!archive.exists());
}

#[tokio::test]
async fn a_blob_that_is_wrong_however_it_comes_is_copied_nowhere() {
    let stage = Stage::new(eager(), |request, bytes| honest(request, &vec![7; bytes.len()]));
    let (work, other) =
        (tempfile::tempdir().unwrap(), Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap());
    let [layout, archive] = ["layout", "hello.tar"].map(|name| work.path().join(name));
    let there = Place::parse(&format!("{}/acme/hello:1", other.host())).unwrap();
    for to in [place("oci-layout", &layout), place("oci-archive", &archive), there] {
        let error = stage.copy_to(&to).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Integrity, 8), "{to}: {}", chain(&error));
    }
    let hex = stage.artifact.layer_digest().to_hex();
    for place in ["blobs/sha256", ".partial"] {
        let names = fs::read_dir(layout.join(place)).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_str().unwrap().contains(&*hex)), "{place}");
    }
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(!index.contains("sha256:"), "{index}");
    assert!(!archive.exists());
    let written = other.journal().iter().filter(|one| one.method == "PUT" && one.path.contains("/manifests/")).count();
    assert_eq!(written, 0);
}
