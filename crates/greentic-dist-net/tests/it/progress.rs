//! What is told about a blob on its way.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use greentic_dist_net::{BlobEvent, BlobRequest, NetErrorKind, RetryPolicy};
use greentic_dist_testkit::{LyingServer, Request, Response, fixture};
use greentic_dist_types::Digest;
use tokio::io::AsyncWrite;

use crate::support::{descriptor, net, quick, read, read_unverified, repository};

const SIZE: usize = 200_000;

fn bytes() -> Vec<u8> {
    fixture::random_bytes(31, SIZE)
}

/// The events in words, those of bytes left out but for the last in a row.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub fn hear(&self, request: BlobRequest) -> BlobRequest {
        let told = Arc::clone(&self.0);
        request.progress(move |event| {
            let line = match event {
                // See `endpoints.rs`.
                BlobEvent::Endpoint { .. } => return,
                BlobEvent::Started { offset, size_bytes } => format!("started {offset}/{size_bytes}"),
                BlobEvent::Bytes { bytes } => format!("bytes {bytes}"),
                BlobEvent::Retry { attempt, error, .. } => format!("retry {attempt} {:?}", error.status()),
                BlobEvent::Resume { offset, .. } => format!("resume {offset}"),
                BlobEvent::Verified => "verified".to_owned(),
                BlobEvent::Done => "done".to_owned(),
                BlobEvent::Failed { error } => format!("failed {:?}", error.kind()),
                other => format!("{other:?}"),
            };
            let mut told = told.lock().unwrap();
            if line.starts_with("bytes ") && told.last().is_some_and(|last| last.starts_with("bytes ")) {
                told.pop();
            }
            told.push(line);
        })
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// What was told since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn request(server: &LyingServer, told: &Told) -> BlobRequest {
    told.hear(repository(&net(), &format!("{}/acme/hello", server.host())).blob(&descriptor(&bytes())))
}

fn serving(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> LyingServer {
    LyingServer::start(move |request, _| answer(request))
}

#[tokio::test]
async fn a_blob_that_fails_once_and_is_cut_once_tells_every_step_to_its_proven_end() {
    let server = serving(|request| match request.index {
        0 => Response::status(503, ""),
        1 => Response::ranged(request, "", bytes()).cut_after(70_000),
        _ => Response::ranged(request, "", bytes()),
    });
    let told = Told::default();
    assert!(read(request(&server, &told).open().await.unwrap()).await.unwrap() == bytes());
    assert_eq!(
        told.lines(),
        ["retry 1 Some(503)", "started 0/200000", "bytes 70000", "resume 70000", "bytes 200000", "verified", "done"]
    );
}

#[tokio::test]
async fn every_way_to_take_a_blob_tells_the_same() {
    let server = serving(|request| Response::ranged(request, "", bytes()));
    let whole = ["started 0/200000", "bytes 200000", "verified", "done"];
    let told = Told::default();
    request(&server, &told).bytes(u64::MAX).await.unwrap();
    assert_eq!(told.lines(), whole);
    let told = Told::default();
    request(&server, &told).to_writer(Vec::new()).await.unwrap();
    assert_eq!(told.lines(), whole);
    let told = Told::default();
    let mut pieces = request(&server, &told).open_pieces_unverified().await.unwrap();
    while let Some(piece) = pieces.next().await {
        piece.unwrap();
    }
    assert_eq!(told.lines(), whole[..2]);
    pieces.confirm();
    assert_eq!(told.lines(), whole);

    // Who hashes says how it ended, and the end is told once.
    let told = Told::default();
    let mut rest = request(&server, &told).from_offset(50_000).open_unverified().await.unwrap();
    while let Some(piece) = rest.next().await {
        piece.unwrap();
    }
    rest.confirm();
    rest.refute();
    assert_eq!(told.lines(), ["started 50000/200000", "bytes 200000", "verified", "done"]);
    let told = Told::default();
    let rest = request(&server, &told).from_offset(200_000).open_unverified().await.unwrap();
    rest.refute();
    rest.confirm();
    assert_eq!(told.lines(), ["started 200000/200000", "failed Integrity"]);
    assert!(read_unverified(rest).await.unwrap().is_empty());

    // What the descriptor carries, and what is empty.
    let mut inline = descriptor(b"at hand");
    inline.data = Some(Box::from(&b"at hand"[..]));
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let told = Told::default();
    told.hear(repository.blob(&inline)).bytes(7).await.unwrap();
    assert_eq!(told.lines(), ["started 0/7", "bytes 7", "verified", "done"]);
}

/// A writer that takes bytes and fails to bring them anywhere, at once or when it is flushed.
struct Full {
    at_once: bool,
}

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(if self.at_once { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_consumer_that_fails_is_told_as_a_failure_and_never_as_done() {
    let server = serving(|request| Response::ranged(request, "", bytes()));
    for at_once in [true, false] {
        let told = Told::default();
        let error = request(&server, &told).to_writer(Full { at_once }).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Output);
        let lines = told.lines();
        assert_eq!(lines.last().unwrap(), "failed Output", "{lines:?}");
        assert!(!lines.iter().any(|line| line == "done"), "{lines:?}");
    }

    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let told = Told::default();
    let mut stream = request(&server, &told).open_unverified().await.unwrap();
    while let Some(piece) = stream.next().await {
        piece.unwrap();
    }
    stream.abandon(full());
    stream.confirm();
    assert_eq!(told.lines(), ["started 0/200000", "bytes 200000", "failed Output"]);
    let told = Told::default();
    let pieces = request(&server, &told).open_pieces_unverified().await.unwrap();
    pieces.abandon(full());
    assert_eq!(told.lines(), ["started 0/200000", "failed Output"]);
    let told = Told::default();
    request(&server, &told).abandon(full());
    assert_eq!(told.lines(), ["failed Output"]);
}

#[tokio::test]
async fn wrong_bytes_and_refusals_are_told_as_failures_and_never_as_proven() {
    let server = serving(|request| {
        let mut wrong = bytes();
        wrong[0] ^= 1;
        Response::ranged(request, "", wrong)
    });
    let told = Told::default();
    assert!(read(request(&server, &told).open().await.unwrap()).await.is_err());
    let lines = told.lines();
    assert_eq!(
        (lines.first().unwrap().as_str(), lines.last().unwrap().as_str()),
        ("started 0/200000", "failed Integrity")
    );
    assert!(!lines.iter().any(|line| line == "verified" || line == "done"), "{lines:?}");

    let absent = serving(|_| Response::status(404, ""));
    let told = Told::default();
    assert_eq!(request(&absent, &told).open().await.unwrap_err().kind(), NetErrorKind::NotFound);
    assert_eq!(told.lines(), ["failed NotFound"]);

    let down = serving(|_| Response::status(500, ""));
    let strict = quick().retry(RetryPolicy { attempts: 2, ..RetryPolicy::default() }).build().unwrap();
    let told = Told::default();
    let blob = repository(&strict, &format!("{}/acme/hello", down.host())).blob(&descriptor(&bytes()));
    assert_eq!(blob.digest(), Digest::sha256(&bytes()));
    assert_eq!(blob.name(), format!("{}/acme/hello@{}", down.host(), Digest::sha256(&bytes())));
    told.hear(blob).open().await.unwrap_err();
    assert_eq!(told.lines(), ["retry 1 Some(500)", "failed Server"]);
}

#[tokio::test]
async fn a_blob_that_is_too_large_for_the_memory_it_is_read_into_is_told_as_failed() {
    let server = serving(|_| Response::ok(bytes()));
    let (limited, refused) = (Told::default(), Told::default());
    request(&server, &limited).bytes(10).await.unwrap_err();
    request(&server, &refused).max_bytes(10).bytes(u64::MAX).await.unwrap_err();
    assert_eq!(
        (limited.lines(), refused.lines()),
        (vec!["failed TooLarge".to_owned()], vec!["failed TooLarge".to_owned()])
    );
    assert!(server.journal().is_empty());
}
