use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use greentic_dist_net::{
    BlobRead, BlobSource, BoxFuture, BytesSource, NetErrorKind, PushedBlob, RawManifest, ReferrersUpkeep, Repository,
    Selector, SourceError, StreamSource, UploadMode,
};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::serve::{Registry, RunningRegistry};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST, WASM};
use greentic_dist_types::{Algorithm, Descriptor, Digest, ManifestKind};

use crate::support::{descriptor, net, quick, read, repository, until};

pub fn honest() -> RunningRegistry {
    Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap()
}

pub fn lines(registry: &RunningRegistry) -> Vec<String> {
    registry.journal().iter().map(greentic_dist_testkit::serve::RequestRecord::line).collect()
}

/// The methods and statuses of the requests so far, e.g. `HEAD 404, POST 202, PUT 201`.
pub fn steps(registry: &RunningRegistry) -> String {
    let steps =
        registry.journal().iter().map(|record| format!("{} {}", record.method, record.status)).collect::<Vec<_>>();
    steps.join(", ")
}

pub fn source(bytes: &[u8]) -> Arc<dyn BlobSource> {
    Arc::new(BytesSource::new(WASM, Bytes::copy_from_slice(bytes)))
}

/// A manifest with one layer; both blobs are pushed already.
pub async fn with_blobs(repository: &Repository, layer: &[u8], extra: &str) -> RawManifest {
    for blob in [&b"{}"[..], layer] {
        repository.put_blob(source(blob)).send().await.unwrap();
    }
    manifest(layer, extra)
}

pub fn manifest(layer: &[u8], extra: &str) -> RawManifest {
    let (config, digest) = (Digest::sha256(b"{}"), Digest::sha256(layer));
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"{WASM}","digest":"{digest}","size":{}}}]{extra}}}"#,
        layer.len()
    );
    RawManifest::new(body).unwrap()
}

#[tokio::test]
async fn a_blob_costs_three_requests_and_one_when_it_is_there() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let bytes = vec![7_u8; 300_000];
    assert_eq!(repository.put_blob(source(&bytes)).send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(steps(&registry), "HEAD 404, POST 202, PUT 201");
    assert_eq!(repository.put_blob(source(&bytes)).send().await.unwrap(), PushedBlob::Existed);
    assert_eq!(registry.requests(), 4);
    assert_eq!(read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap(), bytes);
    // What is known to be missing is not asked for.
    repository.put_blob(source(b"other")).check_first(false).send().await.unwrap();
    assert!(steps(&registry).ends_with("POST 202, PUT 201"));
    registry.stop();
}

#[tokio::test]
async fn a_blob_is_pushed_in_one_request_in_two_and_in_chunks() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    for (mode, expected) in [
        (UploadMode::Single, "POST 201"),
        (UploadMode::Whole, "POST 202, PUT 201"),
        (UploadMode::Chunked { chunk_bytes: 4 }, "POST 202, PATCH 202, PATCH 202, PATCH 202, PUT 201"),
        (UploadMode::Chunked { chunk_bytes: 10 }, "POST 202, PATCH 202, PUT 201"),
        (UploadMode::Chunked { chunk_bytes: 0 }, "POST 202, PATCH 202, PUT 201"),
    ] {
        let before = registry.journal().len();
        let bytes = format!("{:?}", expected.len() + before);
        let bytes = format!("{bytes:0>10}");
        let upload = repository.put_blob(source(bytes.as_bytes())).check_first(false).mode(mode);
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
        let steps: Vec<String> =
            registry.journal()[before..].iter().map(|record| format!("{} {}", record.method, record.status)).collect();
        assert_eq!(steps.join(", "), expected);
        let pulled = repository.blob(&descriptor(bytes.as_bytes())).open().await.unwrap();
        assert_eq!(read(pulled).await.unwrap(), bytes.as_bytes());
    }
    registry.stop();
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_without_its_bytes() {
    let registry = honest();
    let net = net();
    let bytes = b"shared content";
    repository(&net, &format!("{}/acme/from", registry.host())).put_blob(source(bytes)).send().await.unwrap();
    let before = registry.journal().len();
    let to = repository(&net, &format!("{}/acme/to", registry.host()));
    let pushed = to.put_blob(source(bytes)).check_first(false).mount_from("acme/from").send().await.unwrap();
    assert_eq!(pushed, PushedBlob::Mounted);
    let digest = Digest::sha256(bytes);
    assert_eq!(lines(&registry)[before..], [format!("POST /v2/acme/to/blobs/uploads/?mount={digest}&from=acme/from")]);
    let error = to.put_blob(source(bytes)).check_first(false).mount_from("../x&y").send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::InvalidInput);
    registry.stop();
}

#[tokio::test]
async fn bytes_that_are_not_the_promised_ones_are_an_integrity_error_and_leave_no_session() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let wrong = BytesSource::described(descriptor(b"hello"), &b"hullo"[..]);
    let error = repository.put_blob(Arc::new(wrong)).send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity, "{error}");
    let short = BytesSource::described(descriptor(b"hello"), &b"hell"[..]);
    let error = repository.put_blob(Arc::new(short)).check_first(false).send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity, "{error}");
    assert!(registry.journal().iter().filter(|record| record.method == "DELETE").count() >= 1);
    registry.stop();
}

/// Fails with this error after a few bytes.
#[derive(Debug)]
struct Broken(Descriptor, AtomicU64);

struct BrokenRead(bool);

impl BlobSource for Broken {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn open(&self, _: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(Box::new(BrokenRead(false)) as Box<dyn BlobRead>)))
    }
}

impl BlobRead for BrokenRead {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        let first = !std::mem::replace(&mut self.0, true);
        Box::pin(std::future::ready(Some(if first { Ok("abc".into()) } else { Err("the disk is gone".into()) })))
    }
}

#[tokio::test]
async fn content_that_cannot_be_read_is_told_as_such_and_not_sent_again() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let broken = Arc::new(Broken(descriptor(b"abcdef"), AtomicU64::new(0)));
    let error = repository.put_blob(Arc::clone(&broken) as Arc<dyn BlobSource>).send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Source);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
    assert_eq!(broken.1.load(Ordering::Relaxed), 1);
    registry.stop();
}

/// Yields its bytes in small pieces, once.
struct Pieces(Vec<Bytes>);

impl BlobRead for Pieces {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        let next = if self.0.is_empty() { None } else { Some(Ok(self.0.remove(0))) };
        Box::pin(async move {
            tokio::task::yield_now().await;
            next
        })
    }
}

#[tokio::test]
async fn content_that_can_be_read_once_is_pushed_in_every_mode() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    for (index, mode) in
        [UploadMode::Single, UploadMode::Whole, UploadMode::Chunked { chunk_bytes: 3 }].into_iter().enumerate()
    {
        let bytes = format!("streamed {index}");
        let pieces = bytes.as_bytes().chunks(2).map(Bytes::copy_from_slice).collect();
        let once = StreamSource::new(descriptor(bytes.as_bytes()), Pieces(pieces));
        let sent = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&sent);
        let upload = repository.put_blob(Arc::new(once)).mode(mode).on_sent(move |position| {
            seen.store(position, Ordering::Relaxed);
        });
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent, "{mode:?}");
        assert_eq!(sent.load(Ordering::Relaxed), bytes.len() as u64);
        let pulled = repository.blob(&descriptor(bytes.as_bytes())).open().await.unwrap();
        assert_eq!(read(pulled).await.unwrap(), bytes.as_bytes());
    }
    registry.stop();
}

#[tokio::test]
async fn progress_is_told_in_small_steps_also_for_content_in_memory() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let bytes = vec![9_u8; (1 << 20) + 1];
    let positions = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&positions);
    let upload = repository.put_blob(source(&bytes)).on_sent(move |position| seen.lock().unwrap().push(position));
    upload.send().await.unwrap();
    let steps: Vec<u64> = (1..=4).map(|step| step * (256 << 10)).chain([(1 << 20) + 1]).collect();
    assert_eq!(*positions.lock().unwrap(), steps);
    assert_eq!(read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap(), bytes);
    registry.stop();
}

#[tokio::test]
async fn content_that_can_be_read_once_is_not_sent_twice() {
    let server = LyingServer::start(|request, _| match request.method.as_str() {
        "HEAD" => Response::status(404, ""),
        "POST" => Response::status(202, "").header("Location", "/session"),
        "PUT" => Response::oci_error(503, "UNAVAILABLE", "come back"),
        _ => Response::status(204, ""),
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let once = StreamSource::new(descriptor(b"abcd"), Pieces(vec!["abcd".into()]));
    let error = repository.put_blob(Arc::new(once)).send().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Server, Some(503)));
    assert_eq!(server.journal().count("PUT", "/session"), 1);
}

#[tokio::test]
async fn a_blob_goes_from_one_registry_to_another_without_being_held() {
    let (from, to) = (honest(), honest());
    let net = quick().requests_per_host(1).build().unwrap();
    let source = repository(&net, &format!("{}/acme/from", from.host()));
    let bytes = vec![3_u8; 400_000];
    source.put_blob(self::source(&bytes)).send().await.unwrap();
    let copied = |to: Repository| {
        let blob = source.blob_source(&descriptor(&bytes));
        async move { to.put_blob(Arc::new(blob)).send().await }
    };
    assert_eq!(copied(repository(&net, &format!("{}/acme/to", to.host()))).await.unwrap(), PushedBlob::Sent);
    // Also within one registry, with one request at a time of each kind.
    assert_eq!(copied(repository(&net, &format!("{}/acme/other", from.host()))).await.unwrap(), PushedBlob::Existed);
    from.stop();
    to.stop();
}

#[tokio::test]
async fn an_upload_that_is_dropped_cancels_its_session() {
    let begun = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&begun);
    let server = LyingServer::start(move |request, _| match request.method.as_str() {
        "HEAD" => Response::status(404, ""),
        "POST" => Response::status(202, "").header("Location", "/session?state=1"),
        "PUT" => {
            *seen.lock().unwrap() = true;
            Response::silence()
        }
        _ => Response::status(204, ""),
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let task = tokio::spawn(async move { repository.put_blob(source(b"abcd")).send().await });
    until(|| *begun.lock().unwrap()).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until(|| server.journal().count("DELETE", "/session") > 0).await;
    assert_eq!(server.journal().lines().last().unwrap(), "DELETE /session?state=1");
}

#[tokio::test]
async fn chunks_and_mounts_that_are_dropped_cancel_the_session_where_it_stands() {
    for way in ["chunks", "mount"] {
        let begun = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&begun);
        let server = LyingServer::start(move |request, _| match (request.method.as_str(), request.path.as_str()) {
            ("HEAD", _) => Response::status(404, ""),
            ("POST", _) => Response::status(202, "").header("Location", "/session?state=1"),
            ("PATCH", _) if request.param("state") == Some("1") => {
                Response::status(202, "").header("Location", "/session?state=2").header("Range", "0-1")
            }
            ("PATCH" | "PUT", _) => {
                *seen.lock().unwrap() = true;
                Response::silence()
            }
            _ => Response::status(204, ""),
        });
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let upload = repository.put_blob(source(b"abcd"));
        let (upload, end) = if way == "chunks" {
            (upload.mode(UploadMode::Chunked { chunk_bytes: 2 }), "DELETE /session?state=2")
        } else {
            (upload.mount_from("acme/other"), "DELETE /session?state=1")
        };
        let task = tokio::spawn(upload.send());
        until(|| *begun.lock().unwrap()).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled(), "{way}");
        until(|| server.journal().count("DELETE", "/session") > 0).await;
        assert_eq!(server.journal().lines().last().unwrap(), end, "{way}");
    }
}

#[tokio::test]
async fn a_session_instead_of_a_mount_is_cancelled_where_the_blob_is_there() {
    let server = LyingServer::start(|request, _| match request.method.as_str() {
        "HEAD" => Response::status(200, "").header("Content-Length", "4"),
        "POST" => Response::status(202, "").header("Location", "/session"),
        _ => Response::status(204, ""),
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let pushed = repository.put_blob(source(b"abcd")).mount_from("acme/other").send().await.unwrap();
    assert_eq!(pushed, PushedBlob::Existed);
    let digest = descriptor(b"abcd").digest;
    let expected = [
        format!("POST /v2/acme/hello/blobs/uploads/?mount={digest}&from=acme/other"),
        format!("HEAD /v2/acme/hello/blobs/{digest}"),
        "DELETE /session".to_owned(),
    ];
    assert_eq!(server.journal().lines(), expected);
}

#[tokio::test]
async fn a_manifest_is_pushed_by_digest_by_tag_and_by_many_tags() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    let pushed = repository.put_manifest(&manifest).send().await.unwrap();
    assert_eq!((pushed.digest, pushed.referrers), (*manifest.digest(), ReferrersUpkeep::NotNeeded));
    repository.put_manifest(&manifest).tag("1").send().await.unwrap();
    let tags: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    repository.put_manifest(&manifest).tags(&tags).send().await.unwrap();
    for tag in tags.iter().map(String::as_str).chain(["1"]) {
        let pulled = repository.manifest(Selector::Tag(tag)).await.unwrap();
        assert_eq!((pulled.digest, &pulled.raw), (*manifest.digest(), manifest.bytes()), "{tag}");
    }
    let error = repository.put_manifest(&manifest).tag("no tag").send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::InvalidInput);
    registry.stop();
}

#[tokio::test]
async fn everything_is_pushed_to_docker_registry_and_comes_back() {
    if !ready("everything_is_pushed_to_docker_registry_and_comes_back", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    for (index, mode) in
        [UploadMode::Whole, UploadMode::Single, UploadMode::Chunked { chunk_bytes: 50_000 }].into_iter().enumerate()
    {
        let bytes = vec![u8::try_from(index).unwrap(); 120_001];
        assert_eq!(repository.put_blob(source(&bytes)).mode(mode).send().await.unwrap(), PushedBlob::Sent, "{mode:?}");
        assert_eq!(repository.put_blob(source(&bytes)).send().await.unwrap(), PushedBlob::Existed);
        assert_eq!(read(repository.blob(&descriptor(&bytes)).open().await.unwrap()).await.unwrap(), bytes);
    }
    let manifest = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&manifest).tags(["1", "latest"]).send().await.unwrap();
    for tag in ["1", "latest"] {
        assert_eq!(repository.manifest(Selector::Tag(tag)).await.unwrap().digest, *manifest.digest());
    }
    let subject = format!(
        r#","artifactType":"a/sbom","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{}}}"#,
        manifest.digest(),
        manifest.bytes().len()
    );
    let referrer = with_blobs(&repository, b"sbom", &subject).await;
    let pushed = repository.put_manifest(&referrer).send().await.unwrap();
    assert_eq!(pushed.referrers, ReferrersUpkeep::Tag);
    let tag = format!("sha256-{}", manifest.digest().to_hex());
    let list = repository.manifest(Selector::Tag(&tag)).await.unwrap();
    let ManifestKind::Index(index) = list.kind else { panic!("an index") };
    assert_eq!(list.media_type, OCI_INDEX);
    assert_eq!(index.manifests, [referrer.descriptor()]);
    // Again: nothing is written twice.
    let before = registry.requests().len();
    repository.put_manifest(&referrer).send().await.unwrap();
    let methods: Vec<String> =
        registry.requests_after(before, 2).iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["PUT", "GET"]);
}

#[tokio::test]
async fn a_sha512_blob_and_manifest_are_pushed_under_their_own_digest_and_sha384_ones_too() {
    for algorithm in [Algorithm::Sha384, Algorithm::Sha512] {
        pushed_under_its_own_digest(algorithm).await;
    }
}

async fn pushed_under_its_own_digest(algorithm: Algorithm) {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let digest = Digest::of(algorithm, b"content");
    let blob = BytesSource::described(Descriptor::new(WASM, digest, 7), &b"content"[..]);
    repository.put_blob(Arc::new(blob)).send().await.unwrap();
    assert!(lines(&registry)[1].ends_with(&format!("?digest-algorithm={algorithm}")));
    assert_eq!(
        read(repository.blob(&Descriptor::new(WASM, digest, 7)).open().await.unwrap()).await.unwrap(),
        b"content"
    );
    let manifest = with_blobs(&repository, b"layer", "").await.with_algorithm(algorithm);
    repository.put_manifest(&manifest).tags(["a", "b"]).send().await.unwrap();
    let pulled = repository.manifest(Selector::Digest(*manifest.digest())).await.unwrap();
    assert_eq!(&pulled.raw, manifest.bytes());
    assert_eq!(&repository.manifest(Selector::Tag("b")).await.unwrap().raw, manifest.bytes());
    registry.stop();
}
