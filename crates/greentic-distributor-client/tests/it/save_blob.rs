//! Blobs as files: what an earlier process left is proven and continued, and nothing appears before it is whole.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_testkit::{LyingServer, Request, Response, fixture};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistError, DistErrorKind};
use greentic_distributor_client::oci::{
    BlobEvent, BlobRequest, Client, Descriptor, Limit, Limits, Reference, Repository, RetryPolicy, save_blob,
    save_blob_with,
};
use tempfile::TempDir;

const SIZE: usize = 3 << 20;
const PART: usize = 2 << 20;

struct Stage {
    dir: TempDir,
    server: LyingServer,
    repository: Repository,
    blob: Descriptor,
}

fn bytes() -> Vec<u8> {
    fixture::random_bytes(77, SIZE)
}

fn honest(request: &Request) -> Response {
    Response::ranged(request, "", bytes())
}

impl Stage {
    fn new(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let server = LyingServer::start(move |request, _| answer(request));
        let retry = RetryPolicy { attempts: 1, stuck_resumes: 0, resumes: 0, ..RetryPolicy::default() };
        let client = Client::builder().retry(retry).build().unwrap();
        let repository = client.repository(&Reference::parse(&format!("{}/acme/hello", server.host())).unwrap());
        let blob = Descriptor::new("application/wasm", Digest::sha256(&bytes()), SIZE as u64);
        Self { dir: tempfile::tempdir().unwrap(), server, repository, blob }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("hello.wasm")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join(format!(".sha256-{}.part", self.blob.digest.to_hex()))
    }

    async fn save(&self) -> Result<u64, DistError> {
        save_blob(&self.repository, &self.blob, &self.target(), false).await
    }

    /// What the server was asked from where.
    fn ranges(&self) -> Vec<Option<String>> {
        let entries = self.server.journal().entries();
        entries.iter().map(|entry| entry.headers.get("range").map(str::to_owned)).collect()
    }

    #[track_caller]
    fn assert_saved_alone(&self) {
        assert!(fs::read(self.target()).unwrap() == bytes());
        assert_eq!(names(self.dir.path()), ["hello.wasm"]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_an_earlier_process_left_is_hashed_and_continued() {
    for (left, range) in [
        (bytes()[..PART].to_vec(), vec![Some(format!("bytes={PART}-"))]),
        (bytes()[..1].to_vec(), vec![Some("bytes=1-".to_owned())]),
        (Vec::new(), vec![None]),
        // All of it: nothing is asked.
        (bytes(), vec![]),
        // Too much: nothing of it is believed.
        ([bytes(), vec![0]].concat(), vec![None]),
        // Wrong: found out in the end, and fetched anew.
        (vec![0; PART], vec![Some(format!("bytes={PART}-")), None]),
        (vec![0; SIZE], vec![None]),
    ] {
        let stage = Stage::new(honest);
        fs::write(stage.part(), left).unwrap();
        assert_eq!(stage.save().await.unwrap(), SIZE as u64);
        assert_eq!(stage.ranges(), range);
        stage.assert_saved_alone();
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_leaves_what_is_worth_continuing_and_never_the_file() {
    for (cut, kept) in [(PART, true), (1_000, false)] {
        let stage = Stage::new(move |request| match request.index {
            0 => honest(request).cut_after(cut),
            _ => honest(request),
        });
        let error = stage.save().await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Temporary, "{error:?}");
        assert!(!stage.target().exists());
        assert_eq!(stage.part().exists(), kept);
        let begins_at = fs::metadata(stage.part()).map_or(0, |meta| meta.len());
        stage.save().await.unwrap();
        let range = kept.then(|| format!("bytes={begins_at}-"));
        assert_eq!(stage.ranges(), [None, range]);
        stage.assert_saved_alone();
    }
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_nothing_of_them_is_kept() {
    let stage = Stage::new(|request| {
        let mut wrong = bytes();
        wrong[SIZE - 1] ^= 1;
        Response::ranged(request, "", wrong)
    });
    fs::write(stage.part(), &bytes()[..PART]).unwrap();
    let error = stage.save().await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Integrity, 8), "{error:?}");
    assert_eq!(stage.ranges(), [Some(format!("bytes={PART}-")), None]);
    assert!(names(stage.dir.path()).is_empty());
}

#[tokio::test]
async fn a_save_that_is_dropped_is_continued_and_tells_from_where() {
    let stage = Stage::new(|request| match request.index {
        0 => honest(request).stall_after(PART),
        _ => honest(request),
    });
    let (seen, mut told) = tokio::sync::watch::channel(0);
    let request = stage.repository.blob(&stage.blob).progress(move |event| {
        if let BlobEvent::Bytes { bytes } = event {
            seen.send_replace(*bytes);
        }
    });
    let target = stage.target();
    let saving = tokio::spawn(async move { save_blob_with(request, &target, false).await });
    told.wait_for(|bytes| *bytes >= PART as u64).await.unwrap();
    // What was told may be on its way to the disk.
    let written = async {
        while fs::metadata(stage.part()).unwrap().len() < PART as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), written).await.unwrap();
    saving.abort();
    assert!(saving.await.unwrap_err().is_cancelled());
    // The thread that writes ends by itself; then nobody holds the file any more.
    let part = fs::File::open(stage.part()).unwrap();
    tokio::task::spawn_blocking(move || part.lock().unwrap()).await.unwrap();
    assert_eq!(names(stage.dir.path()), [stage.part().file_name().unwrap().to_str().unwrap()]);
    assert_eq!(fs::metadata(stage.part()).unwrap().len(), PART as u64);

    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&events);
    let request = stage.repository.blob(&stage.blob).progress(move |event| {
        if !matches!(event, BlobEvent::Bytes { .. } | BlobEvent::Endpoint { .. }) {
            heard.lock().unwrap().push(format!("{event:?}"));
        }
    });
    save_blob_with(request, &stage.target(), false).await.unwrap();
    assert_eq!(stage.ranges(), [None, Some(format!("bytes={PART}-"))]);
    let expected = [format!("Started {{ offset: {PART}, size_bytes: {SIZE} }}"), "Verified".into(), "Done".into()];
    assert_eq!(*events.lock().unwrap(), expected);
    stage.assert_saved_alone();
}

#[tokio::test]
async fn a_partial_file_that_somebody_holds_is_left_to_them() {
    let stage = Stage::new(honest);
    let mut held = fs::File::create(stage.part()).unwrap();
    held.write_all(&bytes()[..PART]).unwrap();
    held.lock().unwrap();
    stage.save().await.unwrap();
    assert_eq!(stage.ranges(), [None]);
    assert!(fs::read(stage.target()).unwrap() == bytes());
    assert!(fs::read(stage.part()).unwrap() == bytes()[..PART]);
}

/// Puts something where the partial file would be, given a file that must not be touched.
#[cfg(unix)]
type Plant = fn(victim: &Path, part: &Path);

#[cfg(unix)]
#[tokio::test]
async fn links_and_files_that_others_may_write_to_are_not_continued() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let victim = |stage: &Stage| {
        let victim = stage.dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        victim
    };
    let plants: [(&str, Plant); 3] = [
        ("symbolic link", |victim, part| symlink(victim, part).unwrap()),
        ("hard link", |victim, part| fs::hard_link(victim, part).unwrap()),
        ("open to everybody", |_, part| {
            fs::write(part, &bytes()[..PART]).unwrap();
            fs::set_permissions(part, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (name, plant) in plants {
        let stage = Stage::new(honest);
        let victim = victim(&stage);
        plant(&victim, &stage.part());
        stage.save().await.unwrap();
        assert_eq!(stage.ranges(), [None], "{name}");
        assert!(fs::read(stage.target()).unwrap() == bytes(), "{name}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
        assert!(stage.part().symlink_metadata().is_ok(), "{name}: it is not ours to remove");
    }
}

#[tokio::test]
async fn a_file_that_is_there_stays_and_nothing_is_asked() {
    let stage = Stage::new(honest);
    fs::write(stage.target(), "mine").unwrap();
    let error = stage.save().await.unwrap_err();
    assert_eq!((error.kind(), stage.server.journal().len()), (DistErrorKind::InvalidInput, 0));
    assert_eq!(fs::read(stage.target()).unwrap(), b"mine");
    let nowhere = stage.dir.path().join("absent/hello.wasm");
    let error = save_blob(&stage.repository, &stage.blob, &nowhere, true).await.unwrap_err();
    assert_eq!((error.kind(), stage.server.journal().len()), (DistErrorKind::InvalidInput, 0));
    assert!(error.to_string().contains("absent/hello.wasm"), "{error}");
    save_blob(&stage.repository, &stage.blob, &stage.target(), true).await.unwrap();
    stage.assert_saved_alone();
}

/// The ends that were told.
fn ends(told: &Mutex<Vec<String>>) -> Vec<String> {
    told.lock().unwrap().clone()
}

/// A request that writes down how it ends.
fn listened(stage: &Stage, started: impl Fn() + Send + Sync + 'static) -> (BlobRequest, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&told);
    let request = stage.repository.blob(&stage.blob).progress(move |event| match event {
        BlobEvent::Started { .. } => started(),
        BlobEvent::Failed { error } => heard.lock().unwrap().push(format!("failed {:?}", error.kind())),
        BlobEvent::Verified | BlobEvent::Done => heard.lock().unwrap().push(format!("{event:?}")),
        _ => {}
    });
    (request, told)
}

#[tokio::test]
async fn a_path_that_names_no_file_is_refused_and_told_before_any_request() {
    let stage = Stage::new(honest);
    let nameless = [PathBuf::new(), stage.dir.path().join("new/"), stage.dir.path().join("new/."), "/".into()];
    for (path, replace) in nameless.iter().flat_map(|path| [(path, false), (path, true)]) {
        let (request, told) = listened(&stage, || {});
        let error = save_blob_with(request, path, replace).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::InvalidInput, 2), "{path:?}: {error:?}");
        assert!(error.to_string().contains("names no file"), "{error}");
        assert_eq!((stage.server.journal().len(), ends(&told)), (0, vec!["failed Output".to_owned()]), "{path:?}");
    }
    let (request, told) = listened(&stage, || {});
    save_blob_with(request, &stage.dir.path().join("absent/hello.wasm"), false).await.unwrap_err();
    assert_eq!((stage.server.journal().len(), ends(&told)), (0, vec!["failed Output".to_owned()]));
    assert!(names(stage.dir.path()).is_empty());
}

#[tokio::test]
async fn a_proven_file_that_finds_its_name_taken_is_told_as_a_failure_and_leaves_nothing() {
    let stage = Stage::new(honest);
    let target = stage.target();
    let (request, told) = listened(&stage, move || fs::write(&target, "theirs").unwrap());
    let error = save_blob_with(request, &stage.target(), false).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::InvalidInput, "{error:?}");
    assert_eq!(ends(&told), ["failed Output"]);
    assert_eq!(names(stage.dir.path()), ["hello.wasm"]);
    assert_eq!(fs::read(stage.target()).unwrap(), b"theirs");
}

#[tokio::test]
async fn quirk_s09_a_blob_over_the_limit_is_not_asked_for() {
    let mut stage = Stage::new(honest);
    stage.blob.size_bytes = 1 << 50;
    let error = stage.save().await.unwrap_err();
    assert!(matches!(error, DistError::TooLarge { limit_bytes, .. } if limit_bytes == 2 << 30), "{error:?}");
    assert!(error.to_string().contains(&stage.blob.digest.to_string()), "{error}");
    assert!(error.hints().concat().contains("--set-limit artifact-bytes="), "{:?}", error.hints());
    assert_eq!((stage.server.journal().len(), names(stage.dir.path())), (0, Vec::new()));
}

#[cfg(unix)]
#[tokio::test]
async fn quirk_s09_a_blob_that_has_no_room_is_not_asked_for() {
    let mut stage = Stage::new(honest);
    stage.blob.size_bytes = 1 << 60;
    let raised = stage.repository.blob(&stage.blob).max_bytes(u64::MAX);
    let error = save_blob_with(raised, &stage.target(), false).await.unwrap_err();
    assert!(matches!(error, DistError::CacheError { .. }), "{error:?}");
    let limits = Limits::default().with(Limit::ArtifactBytes, u64::MAX);
    let client = Client::builder().limits(limits).build().unwrap();
    stage.repository = client.repository(&Reference::parse(&format!("{}/acme/hello", stage.server.host())).unwrap());
    let failed = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&failed);
    let request = stage.repository.blob(&stage.blob).progress(move |event| {
        telling.lock().unwrap().push(matches!(event, BlobEvent::Failed { .. }));
    });
    let error = save_blob_with(request, &stage.target(), false).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Internal, 10), "{error:?}");
    assert!(crate::support::chain(&error).contains("1152921504606846976 bytes are needed and"), "{error:?}");
    assert_eq!(*failed.lock().unwrap(), [true]);
    assert_eq!((stage.server.journal().len(), names(stage.dir.path())), (0, Vec::new()));
    // What is there already needs no room: nothing but the last byte of this one is asked for.
    stage.blob.size_bytes = SIZE as u64;
    fs::write(stage.part(), &bytes()[..SIZE - 1]).unwrap();
    stage.save().await.unwrap();
    assert_eq!(stage.ranges(), [Some(format!("bytes={}-", SIZE - 1))]);
}
