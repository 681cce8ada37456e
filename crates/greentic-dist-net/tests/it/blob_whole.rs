//! Blobs that are read into memory: one request for everybody who asks at the same time.

use greentic_dist_net::{BlobRequest, NetError, NetErrorKind, Repository};
use greentic_dist_testkit::{LyingServer, Request, Response, fixture};
use greentic_dist_types::Descriptor;

use crate::progress::Told;
use crate::support::{described, descriptor, net, read, repository, until};

const SIZE: usize = 200_000;

fn content() -> Vec<u8> {
    fixture::random_bytes(41, SIZE)
}

/// A registry that has the blob under its own digest and nothing else.
fn holding(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> (LyingServer, Repository, Descriptor) {
    let blob = descriptor(&content());
    let path = format!("/v2/acme/hello/blobs/{}", blob.digest);
    let server = LyingServer::start(move |request, _| {
        if request.path == path { answer(request) } else { Response::oci_error(404, "BLOB_UNKNOWN", "gone") }
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    (server, repository, blob)
}

async fn whole(request: BlobRequest) -> Result<bytes::Bytes, NetError> {
    request.bytes(u64::MAX).await
}

#[tokio::test]
async fn the_same_blob_read_into_memory_twice_at_once_is_asked_for_once() {
    let (server, repository, blob) = holding(|request| Response::ranged(request, "", content()));
    let same = || whole(repository.blob(&blob));
    let (one, other, third) = tokio::join!(same(), same(), same());
    let one = one.unwrap();
    assert!(one == content() && other.unwrap() == one && third.unwrap() == one);
    assert_eq!(server.journal().len(), 1);
    assert!(same().await.unwrap() == content());
    assert_eq!(server.journal().len(), 2, "nothing is kept");

    // A stream is its own request, and another client asks for itself.
    let stream = async { read(repository.blob(&blob).open().await?).await };
    let stranger = crate::support::repository(&net(), &format!("{}/acme/hello", server.host()));
    let (one, stream, strange) = tokio::join!(same(), stream, whole(stranger.blob(&blob)));
    assert!(one.unwrap() == stream.unwrap() && strange.unwrap() == content());
    assert_eq!(server.journal().len(), 5);

    // So does whoever is about to write.
    let pushing = repository.for_pushing().await.unwrap();
    let (one, other) = tokio::join!(same(), whole(pushing.blob(&blob)));
    assert!(one.unwrap() == other.unwrap());
    assert_eq!(server.journal().len(), 7);
}

#[tokio::test]
async fn only_the_same_question_gets_the_same_answer() {
    let (server, repository, blob) = holding(|request| Response::ranged(request, "", content()));
    // The limit is the caller's own, and is looked at before anybody is joined.
    let small = repository.blob(&blob).bytes(10);
    let (whole_one, small) = tokio::join!(whole(repository.blob(&blob)), small);
    assert_eq!((whole_one.unwrap().len(), small.unwrap_err().kind()), (SIZE, NetErrorKind::TooLarge));
    assert_eq!(server.journal().len(), 1);

    // Whose descriptor says another size is refused what is right for others.
    let wrong = repository.blob(&described(blob.digest, SIZE - 1));
    let (right, wrong) = tokio::join!(whole(repository.blob(&blob)), whole(wrong));
    assert_eq!((right.unwrap().len(), wrong.unwrap_err().kind()), (SIZE, NetErrorKind::Integrity));
    assert_eq!(server.journal().len(), 3);

    // Another repository may be another matter, and failures are shared.
    let elsewhere = crate::support::repository(&net(), &format!("{}/acme/other", server.host()));
    let gone = || whole(elsewhere.blob(&blob));
    let (one, other) = tokio::join!(gone(), gone());
    assert_eq!((one.unwrap_err().kind(), other.unwrap_err().kind()), (NetErrorKind::NotFound, NetErrorKind::NotFound));
    assert_eq!(server.journal().len(), 4);

    // A part of a blob cannot be proven, with or without company.
    let middle = repository.blob(&blob).from_offset(1);
    let (right, middle) = tokio::join!(whole(repository.blob(&blob)), whole(middle));
    assert_eq!((right.unwrap().len(), middle.unwrap_err().kind()), (SIZE, NetErrorKind::InvalidInput));
    assert_eq!(server.journal().len(), 5);
}

#[tokio::test]
async fn when_the_one_who_reads_goes_away_another_one_reads() {
    // The first answer stops in its middle and never comes to an end.
    let (server, repository, blob) = holding(|request| match request.index {
        0 => Response::ranged(request, "", content()).stall_after(SIZE / 2),
        _ => Response::ranged(request, "", content()),
    });
    let journal = server.journal();
    let (mut first, told) = (Box::pin(whole(repository.blob(&blob))), Told::default());
    let second = told.hear(repository.blob(&blob));
    tokio::select! {
        biased;
        _ = &mut first => panic!("half a blob is none"),
        () = until(|| !journal.is_empty()) => {}
    }
    let mut second = Box::pin(whole(second));
    tokio::select! {
        biased;
        _ = &mut second => panic!("nobody has read it"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(journal.len(), 1);
    drop(first);
    assert!(second.await.unwrap() == content());
    assert_eq!(journal.len(), 2);
    assert_eq!(told.take(), ["started 0/200000", "bytes 200000", "verified", "done"]);
}

#[tokio::test]
async fn who_shares_a_request_is_told_of_its_end() {
    let (server, repository, blob) = holding(|request| match request.index {
        0 => Response::status(503, ""),
        _ => Response::ranged(request, "", content()),
    });
    let (reads, shares) = (Told::default(), Told::default());
    let (one, other) =
        tokio::join!(whole(reads.hear(repository.blob(&blob))), whole(shares.hear(repository.blob(&blob))));
    assert!(one.unwrap() == other.unwrap());
    assert_eq!(server.journal().len(), 2);
    let plain = ["started 0/200000", "bytes 200000", "verified", "done"];
    assert_eq!(reads.take(), [&["retry 1 Some(503)"][..], &plain].concat());
    assert_eq!(shares.take(), plain);

    let gone = crate::support::repository(&net(), &format!("{}/acme/other", server.host()));
    let (one, other) = tokio::join!(whole(reads.hear(gone.blob(&blob))), whole(shares.hear(gone.blob(&blob))));
    assert!(one.is_err() && other.is_err());
    assert_eq!((reads.take(), shares.take()), (vec!["failed NotFound".to_owned()], vec!["failed NotFound".to_owned()]));
}
