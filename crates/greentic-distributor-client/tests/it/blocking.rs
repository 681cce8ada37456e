//! The facade for code that is not async: outside of any runtime, inside of both kinds, and from many threads.

use std::fs;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use greentic_dist_serve::Registry;
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_distributor_client::blocking::{Client, DistClient};
use greentic_distributor_client::dist::{
    CachePolicy, DistErrorKind, Event, LockMode, Reporter, ResolvePolicy, VerificationPolicy,
};
use greentic_distributor_client::oci::{
    self, BlobEvent, BlobRequest, BlobSource as _, BlobUpload, BytesSource, CopyOptions, Deletion, ErrorClass,
    ErrorKind, ImageManifest, ListOptions, ManifestKind, Place, PlatformChoice, PushOptions, PushedBlob, RawManifest,
    Reference, Selector, UploadMode,
};

use crate::bundles::{back_to, staging, warming};
use crate::support::{Home, assert_delivers, assert_fails, other, registry, sample};

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

/// Everything a program does with artifacts, without an `await`.
fn life_of_an_artifact() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    let client = DistClient::from(home.builder());

    let source = client.parse_source(&registry.reference()).unwrap();
    let descriptor = client.resolve(source, ResolvePolicy).unwrap();
    assert_delivers(&client.fetch(&descriptor, CachePolicy).unwrap(), &sample());
    assert_delivers(&client.open_cached(&descriptor.digest).unwrap(), &sample());
    assert_delivers(&client.resolve_ref(&registry.reference()).unwrap(), &sample());
    assert_delivers(&client.ensure_cached(&registry.reference_to("2")).unwrap(), &other(2));
    assert!(client.fetch_digest(&descriptor.digest).unwrap().is_file());
    assert_eq!(client.inspect(&registry.reference()).unwrap().digest, descriptor.digest);
    let both = client.pull_all(&[registry.reference(), registry.reference_to("none")]).unwrap();
    assert_delivers(both[0].as_ref().unwrap(), &sample());
    assert_eq!(both[1].as_ref().unwrap_err().kind(), DistErrorKind::NotFound);

    let lock = home.outside().join("pack.lock.json");
    assert!(client.add_to_lock(&lock, &[registry.reference()], None).unwrap().written);
    assert!(client.check_lock(&lock).unwrap().is_current());
    assert_delivers(&client.pull_lock(&lock).unwrap()[0], &sample());
    assert_eq!(client.pull_lock_items(&lock, LockMode::Locked).unwrap().items.len(), 1);
    registry.publish(&other(2), "1");
    assert!(!client.check_lock(&lock).unwrap().is_current());
    assert!(client.update_lock(&lock, &[]).unwrap().written);
    assert_delivers(&client.pull_lock(&lock).unwrap()[0], &other(2));

    let policy = VerificationPolicy::default();
    let staged = client.stage_bundle(&staging(&registry.pinned()), None, &policy, CachePolicy).unwrap();
    let pin = registry.artifact().manifest_digest.to_string();
    assert_eq!(staged.bundle_id, format!("bundle:{pin}"));
    client.warm_bundle(&warming(&pin), None, &policy).unwrap();
    client.rollback_bundle(&back_to(&pin), None, &policy).unwrap();
    assert_eq!(client.list_bundles().unwrap().len(), 1);
}

/// Everything the OCI part does with registries, without an `await`.
fn life_of_a_repository() {
    let registry = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
    let home = Home::new();
    let client = DistClient::from(home.client());
    let file = home.outside().join("hello.wasm");
    fs::write(&file, fixture::component_bytes()).unwrap();
    let place = |name: &str| Place::parse(&format!("{}/{name}", registry.host())).unwrap();
    let reference = |name: &str| Reference::parse(&format!("{}/{name}", registry.host())).unwrap();

    let pushed = client.push(&file, &place("acme/hello:1"), &PushOptions::default()).unwrap();
    assert_eq!(client.describe(&place("acme/hello:1")).unwrap().digest, pushed.digest);
    assert_eq!(client.tag(&reference("acme/hello:1"), &["2".to_owned()]).unwrap().digest, pushed.digest);
    assert_eq!(client.tags(&reference("acme/hello"), &ListOptions::default()).unwrap().names, ["1", "2"]);
    client.copy(&place("acme/hello:1"), &place("mirror/hello:1"), &CopyOptions::default()).unwrap();
    let all = client.catalog(&registry.host(), &ListOptions::default()).unwrap().names;
    assert_eq!(all, ["acme/hello", "mirror/hello"]);
    let deletion = client.deletion(&reference("acme/hello:2"), false).unwrap();
    assert_eq!(deletion, Deletion::Tag("2".to_owned()));
    client.delete(&reference("acme/hello:2"), &deletion).unwrap();
    assert_eq!(client.tags(&reference("acme/hello"), &ListOptions::default()).unwrap().names, ["1"]);
    assert_fails(client.tags(&reference("acme/none"), &ListOptions::default()), DistErrorKind::NotFound, 3);
}

/// The same request by request, with lists that are iterators and blobs that are readers.
fn life_of_a_manifest() {
    let made = sample();
    let registry = fixture::served(&made);
    let client = Client::from(oci::Client::builder().build().unwrap());
    assert!(!client.registry(&registry.host()).unwrap().ping().unwrap().wants_login);
    let names: Result<Vec<String>, _> = client.registry(&registry.host()).unwrap().catalog().page_size(1).collect();
    assert_eq!(names.unwrap(), ["acme/hello"]);
    let repository = client.repository(&Reference::parse(&format!("{}/acme/hello", registry.host())).unwrap());

    assert_eq!(repository.resolve(Selector::Tag("1")).unwrap().digest, made.manifest_digest);
    assert_eq!(repository.head_manifest(Selector::Tag("1")).unwrap().digest, Some(made.manifest_digest));
    let manifest = repository.manifest(Selector::Tag("1")).unwrap();
    let again = repository.manifest_if_changed("1", manifest.etag.as_deref(), &manifest.digest).unwrap();
    assert!(again.is_none());
    let said = repository.revalidate("1", manifest.etag.as_deref(), &manifest.digest).unwrap();
    assert_eq!((said.changed.is_none(), said.served_by), (true, format!("http://{}", registry.host())));
    let image = repository.image(Selector::Tag("1"), &PlatformChoice::default()).unwrap();
    let ManifestKind::Image(image) = &image.manifest.kind else { panic!("an image") };
    let layer = &image.layers[0];
    assert_eq!(repository.head_blob(&layer.digest).unwrap().unwrap().size_bytes, Some(layer.size_bytes));
    assert!(repository.blob_bytes(layer, layer.size_bytes).unwrap() == made.layer_bytes());
    assert_eq!(repository.blob_bytes(layer, 1).unwrap_err().kind(), ErrorKind::TooLarge);
    let (mut whole, mut part) = (Vec::new(), Vec::new());
    repository.open_blob(layer).unwrap().read_to_end(&mut whole).unwrap();
    repository.open_blob_range(layer, 10..5_000).unwrap().read_to_end(&mut part).unwrap();
    assert!(whole == made.layer_bytes() && part == made.layer_bytes()[10..5_000]);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.wasm");
    assert_eq!(repository.save_blob(layer, &path, false).unwrap(), layer.size_bytes);
    assert!(fs::read(&path).unwrap() == made.layer_bytes());
    assert_fails(repository.save_blob(layer, &path, false), DistErrorKind::InvalidInput, 2);
    repository.save_blob(layer, &path, true).unwrap();
    let ends = Arc::new(AtomicUsize::new(0));
    let count = |request: BlobRequest| {
        let ends = Arc::clone(&ends);
        request.progress(move |event| {
            if matches!(event, BlobEvent::Verified | BlobEvent::Done) {
                ends.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    repository.save_blob_with(layer, &path, true, count).unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 2);
    repository.open_blob_with(layer, count).unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 4);

    let content = BytesSource::new("text/plain", &b"signed"[..]);
    let mut signature = ImageManifest::new(image.config.clone().unwrap(), vec![content.descriptor().clone()]);
    signature.artifact_type = Some("application/vnd.acme.signature".to_owned());
    signature.subject = Some(repository.resolve(Selector::Tag("1")).unwrap());
    assert_eq!(repository.put_blob(Arc::new(content.clone())).unwrap(), PushedBlob::Sent);
    let chunked = |upload: BlobUpload| upload.mode(UploadMode::Chunked { chunk_bytes: 0 });
    assert_eq!(repository.put_blob_with(Arc::new(content.clone()), chunked).unwrap(), PushedBlob::Existed);
    let pushed = repository.put_manifest(&RawManifest::image(&signature).unwrap(), &["signed", "other"]).unwrap();
    let found = repository.referrers(&made.manifest_digest, signature.artifact_type.as_deref(), 10).unwrap();
    assert_eq!(found.iter().map(|one| one.digest).collect::<Vec<_>>(), [pushed.digest]);
    let tags: Result<Vec<String>, _> = repository.tags().after("1").collect();
    assert_eq!(tags.unwrap(), ["other", "signed"]);
    repository.delete_tag("other").unwrap();
    repository.delete_manifest(&pushed.digest).unwrap();
    repository.delete_blob(&content.descriptor().digest).unwrap();
    let error = repository.manifest(Selector::Digest(pushed.digest)).unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::NotFound, ErrorClass::NotFound));
    assert!(client.inner().client_stats().total.requests > 15);
}

#[test]
fn the_blocking_client_works_where_no_runtime_runs() {
    life_of_an_artifact();
    life_of_a_repository();
    life_of_a_manifest();
}

#[test]
fn the_blocking_client_works_inside_a_current_thread_runtime() {
    current_thread().block_on(async {
        life_of_an_artifact();
        life_of_a_repository();
        life_of_a_manifest();
    });
}

#[test]
fn the_blocking_client_works_inside_a_multi_thread_runtime_on_all_its_threads() {
    let runtime = multi_thread(1);
    runtime.block_on(async { life_of_an_artifact() });
    runtime.block_on(async { tokio::spawn(async { life_of_a_repository() }).await }).unwrap();
    runtime.block_on(async { tokio::task::spawn_blocking(life_of_an_artifact).await }).unwrap();
    runtime.block_on(async { tokio::spawn(async { life_of_a_manifest() }).await }).unwrap();
}

#[test]
fn a_blob_that_is_wrong_fails_its_reader_before_its_end() {
    let registry = Scenario::new(sample()).lie(Lie::WrongBlob).start();
    let client = Client::from(oci::Client::builder().build().unwrap());
    let repository = client.repository(&Reference::parse(&registry.reference()).unwrap());
    let ManifestKind::Image(image) = repository.manifest(Selector::Tag("1")).unwrap().kind else { panic!("an image") };
    let mut read = Vec::new();
    let error = repository.open_blob(&image.layers[0]).unwrap().read_to_end(&mut read).unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<oci::Error>()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(read.len() < sample().layer_bytes().len());
    // And becomes no file.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.wasm");
    assert_fails(repository.save_blob(&image.layers[0], &path, false), DistErrorKind::Integrity, 8);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_client_for_registries_shares_what_the_distributor_client_knows_and_counts() {
    let (home, registry) = (Home::new(), registry());
    let client = DistClient::from(home.client());
    let repository = client.oci().unwrap().repository(&Reference::parse(&registry.reference()).unwrap());
    repository.manifest(Selector::Tag("1")).unwrap();
    client.resolve_ref(&registry.reference()).unwrap();
    let stats = client.stats();
    let host = &stats.hosts[&registry.host()];
    assert_eq!((stats.total, host.requests), (*host, 3), "{:?}", registry.journal().lines());
    assert_eq!((host.connections_opened, host.connections_reused), (1, 2));
    let offline = DistClient::from(home.offline());
    let repository = offline.oci().unwrap().repository(&Reference::parse(&registry.reference()).unwrap());
    assert_eq!(repository.manifest(Selector::Tag("1")).unwrap_err().kind(), ErrorKind::Offline);
}

#[test]
fn many_threads_with_and_without_runtimes_share_one_blocking_client_and_one_download() {
    let (home, registry) = (Home::new(), registry());
    let client = DistClient::from(home.client());
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (client, reference) = (client.clone(), registry.pinned());
            let pull = move || assert_delivers(&client.resolve_ref(&reference).unwrap(), &sample());
            scope.spawn(move || match number % 3 {
                0 => pull(),
                1 => current_thread().block_on(async { pull() }),
                _ => multi_thread(1).block_on(async { tokio::spawn(async move { pull() }).await }).unwrap(),
            });
        }
    });
    assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
}

/// Asks the client about the cache whenever it is told something: a callback that comes from a task of the client itself.
#[derive(Default)]
struct Curious {
    client: Mutex<Option<DistClient>>,
    answers: Mutex<Vec<DistErrorKind>>,
}

impl Reporter for Curious {
    fn event(&self, _: &Event<'_>) {
        let Some(client) = self.client.lock().unwrap().clone() else { return };
        let unknown = format!("sha256:{}", "0".repeat(64));
        self.answers.lock().unwrap().push(client.fetch_digest(&unknown).unwrap_err().kind());
    }
}

#[test]
fn a_callback_of_the_client_may_use_the_client() {
    let (home, registry) = (Home::new(), registry());
    let curious = Arc::new(Curious::default());
    let client = DistClient::from(home.builder().reporter(Arc::<Curious>::clone(&curious)));
    *curious.client.lock().unwrap() = Some(client.clone());
    let references: Vec<String> = (0..8)
        .map(|number| {
            registry.publish(&other(number), &format!("t{number}"));
            registry.reference_to(&format!("t{number}"))
        })
        .collect();
    for result in client.pull_all(&references).unwrap() {
        result.unwrap();
    }
    let answers = curious.answers.lock().unwrap();
    assert!(answers.len() >= 8 && answers.iter().all(|kind| *kind == DistErrorKind::NotFound), "{answers:?}");
    drop(answers);
    // The reporter holds the client that holds the reporter.
    curious.client.lock().unwrap().take();
}
