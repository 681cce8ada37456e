//! Uploads in chunks, and those that fail on their way.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use greentic_dist_net::{
    BlobRead, BlobSource, BoxFuture, Limit, Limits, NetErrorKind, PushedBlob, RetryPolicy, SourceError, Timeouts,
    UploadMode,
};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::{Descriptor, Digest};

use super::{START, at, created, head_line, missing, script, serving, session};
use crate::push::{honest, source, steps};
use crate::support::{descriptor, net, quick, read, repository};

const BYTES: &[u8] = b"0123456789";

const CHUNKS: UploadMode = UploadMode::Chunked { chunk_bytes: 4 };

async fn push(server: &LyingServer) -> Result<PushedBlob, NetErrorKind> {
    let upload = at(&net(), server).put_blob(source(BYTES)).check_first(false).mode(CHUNKS);
    upload.send().await.map_err(|error| error.kind())
}

/// Methods and `Content-Range`s, e.g. `PATCH 0-3`.
fn ranges(server: &LyingServer) -> Vec<String> {
    let entries = server.journal().entries();
    entries
        .iter()
        .map(|entry| {
            format!("{} {}", entry.method, entry.headers.get("content-range").unwrap_or_default()).trim_end().to_owned()
        })
        .collect()
}

fn taken(range: &str) -> Response {
    session("/s").header("Range", range)
}

#[tokio::test]
async fn quirk_p31_a_registry_that_loses_chunks_gets_the_blob_whole() {
    // Answers 201 and keeps the first chunk only: the count does not advance.
    let answers = [session("/s"), taken("0-3"), taken("0-3"), Response::status(204, ""), session("/t"), created()];
    let server = script(answers);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "PATCH 4-7", "DELETE", "POST", "PUT"]);
    let entries = server.journal().entries();
    assert_eq!(entries[5].body, BYTES);
    assert!(entries[5].target.starts_with("/t?digest="));
    // One that says nothing about its count and has the wrong bytes in the end.
    let wrong = Response::oci_error(400, "DIGEST_INVALID", "another digest");
    let (done, gone) = (session("/s"), Response::status(204, ""));
    let server = script([done.clone(), done.clone(), done.clone(), done, wrong, gone, session("/t"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    let expected = ["POST", "PATCH 0-3", "PATCH 4-7", "PATCH 8-9", "PUT", "DELETE", "POST", "PUT"];
    assert_eq!(ranges(&server), expected);
}

#[tokio::test]
async fn quirk_p32_one_request_for_all_bytes_is_the_default_and_chunks_come_only_when_it_is_too_large() {
    let server = script([session("/s"), created()]);
    at(&net(), &server).put_blob(source(BYTES)).check_first(false).send().await.unwrap();
    assert_eq!(ranges(&server), ["POST", "PUT"]);
    assert_eq!(server.journal().entries()[1].headers.get("content-length"), Some("10"));
    // Too large for a proxy in between: 16 MiB at a time.
    let big = vec![7_u8; (16 << 20) + 1];
    let too_large = serving(|request, _| match request.method.as_str() {
        "POST" => session("/s"),
        "PUT" if !request.body.is_empty() => Response::status(413, "too large"),
        "PUT" => created(),
        _ => Response::status(202, ""),
    });
    at(&net(), &too_large).put_blob(source(&big)).check_first(false).send().await.unwrap();
    let expected = ["POST", "PUT", "DELETE", "POST", "PATCH 0-16777215", "PATCH 16777216-16777216", "PUT"];
    assert_eq!(ranges(&too_large), expected);
    // What is no larger than a chunk would be as large again.
    let server = script([session("/s"), Response::status(413, "too large"), Response::status(204, "")]);
    let error = at(&net(), &server).put_blob(source(BYTES)).check_first(false).send().await.unwrap_err();
    assert_eq!(error.status(), Some(413));
}

#[tokio::test]
async fn quirk_p35_an_ambiguous_count_is_never_taken_for_progress() {
    // `0-0` for an empty session: docker-registry says so, too.
    let server = script([taken("0-0"), taken("0-3"), taken("0-7"), taken("0-9"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "PATCH 4-7", "PATCH 8-9", "PUT"]);
    // After four bytes it means that they are not there.
    let server = script([taken("0-0"), taken("0-0"), Response::status(204, ""), session("/t"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "DELETE", "POST", "PUT"]);
    // More than was sent is no better.
    let server = script([taken("0-0"), taken("0-8"), Response::status(204, ""), session("/t"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    // A part of a chunk is a step.
    let server = script([session("/s"), taken("0-1"), taken("0-5"), taken("0-9"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "PATCH 2-5", "PATCH 6-9", "PUT"]);
    assert_eq!(server.journal().entries()[2].body, b"2345");
}

#[tokio::test]
async fn quirk_p36_a_smallest_chunk_is_honoured_up_to_a_cap() {
    let least = |bytes: u64| session("/s").header("OCI-Chunk-Min-Length", bytes.to_string());
    let server = script([least(6), taken("0-5"), taken("0-9"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-5", "PATCH 6-9", "PUT"]);
    let server = script([least(64 << 20), taken("0-9"), created()]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-9", "PUT"]);
    for absurd in [(64 << 20) + 1, 1 << 40] {
        let server = script([least(absurd), Response::status(204, "")]);
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false).mode(CHUNKS);
        let error = upload.send().await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::Protocol, Some(Limit::LeastChunkBytes)), "{error}");
        assert!(error.hints().concat().contains("--set-limit least-chunk-bytes="), "{:?}", error.hints());
        assert_eq!(ranges(&server), ["POST", "DELETE"]);
    }
    // Both ways.
    for (limit, least_bytes, taken_whole) in [(65 << 20, (64 << 20) + 1, true), (5, 6, false)] {
        let limits = Limits { least_chunk_bytes: limit, ..Limits::default() };
        let server = script([least(least_bytes), taken("0-9"), created()]);
        let net = quick().limits(limits).build().unwrap();
        let sent = at(&net, &server).put_blob(source(BYTES)).check_first(false).mode(CHUNKS).send().await;
        assert_eq!(sent.is_ok(), taken_whole, "{limit}");
    }
}

#[tokio::test]
async fn quirk_p44_what_a_registry_accepts_out_of_order_is_never_sent_so() {
    if !ready("quirk_p44_what_a_registry_accepts_out_of_order_is_never_sent_so", &["docker-registry"]) {
        return;
    }
    // docker-registry takes chunks in any order with 202: only our own count keeps them right.
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let upload = repository.put_blob(source(BYTES)).mode(UploadMode::Chunked { chunk_bytes: 3 });
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(read(repository.blob(&descriptor(BYTES)).open().await.unwrap()).await.unwrap(), BYTES);
    let chunks = registry.requests().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(chunks, 4);
    // One that does refuse a chunk is asked where it stands.
    let server = script([
        session("/s"),
        taken("0-3"),
        Response::status(416, ""),
        taken("0-3"),
        taken("0-7"),
        taken("0-9"),
        created(),
    ]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "PATCH 4-7", "GET", "PATCH 4-7", "PATCH 8-9", "PUT"]);
}

#[tokio::test]
async fn a_chunk_that_was_cut_goes_on_where_the_registry_says() {
    let status = |range: &str| Response::status(204, "").header("Range", range);
    for (said, chunks) in [("0-3", vec!["4-7", "8-9"]), ("0-5", vec!["6-9"]), ("0-7", vec!["8-9"])] {
        let mut answers = vec![session("/s"), taken("0-3"), Response::reset(), status(said)];
        let mut steps = ["POST", "PATCH 0-3", "PATCH 4-7", "GET"].map(str::to_owned).to_vec();
        for chunk in chunks {
            answers.push(taken(&format!("0-{}", chunk.split_once('-').unwrap().1)));
            steps.push(format!("PATCH {chunk}"));
        }
        answers.push(created());
        steps.push("PUT".into());
        let server = script(answers);
        assert_eq!(push(&server).await, Ok(PushedBlob::Sent), "{said}");
        assert_eq!(ranges(&server), steps);
    }
    // It claims what was never sent, or knows nothing: the blob goes whole.
    for said in [status("0-9"), status("0-0"), status("gone"), Response::status(204, "")] {
        let gone = Response::status(204, "");
        let server = script([session("/s"), taken("0-3"), Response::reset(), said, gone, session("/t"), created()]);
        assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
        assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "PATCH 4-7", "GET", "DELETE", "POST", "PUT"]);
    }
}

#[tokio::test]
async fn a_session_that_is_gone_is_begun_anew_once() {
    let unknown = || Response::oci_error(404, "BLOB_UPLOAD_UNKNOWN", "gone");
    let server = script([
        session("/s"),
        taken("0-3"),
        unknown(),
        session("/t"),
        taken("0-3"),
        taken("0-7"),
        taken("0-9"),
        created(),
    ]);
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    assert_eq!(ranges(&server)[..4], ["POST", "PATCH 0-3", "PATCH 4-7", "POST"]);
    let server = serving(move |request, _| if request.method == "POST" { session("/s") } else { unknown() });
    assert_eq!(push(&server).await, Err(NetErrorKind::NotFound));
    assert_eq!(ranges(&server), ["POST", "PATCH 0-3", "POST", "PATCH 0-3"]);
}

#[tokio::test]
async fn a_cut_upload_is_begun_anew_and_its_session_cancelled() {
    let server =
        script([session("/s"), Response::reset(), Response::status(204, ""), missing(), session("/t"), created()]);
    let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    let lines = server.journal().lines();
    let put = |session: &str| format!("PUT /{session}?digest={}", Digest::sha256(BYTES));
    assert_eq!(lines, [START.into(), put("s"), "DELETE /s".into(), head_line(BYTES), START.into(), put("t")]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_out() {
    let server = serving(|request, _| match request.method.as_str() {
        "POST" => session("/s"),
        "PUT" => Response::hang_up(),
        "HEAD" => Response::ok(BYTES),
        _ => Response::status(404, ""),
    });
    let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(server.journal().count("PUT", "/s"), 1);
}

#[tokio::test]
async fn a_dead_registry_is_given_up_after_the_allowed_attempts() {
    let server = serving(|request, _| match request.method.as_str() {
        "HEAD" => missing(),
        "POST" => session("/s"),
        "DELETE" => Response::status(204, ""),
        _ => Response::status(503, ""),
    });
    let error = at(&net(), &server).put_blob(source(BYTES)).send().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (NetErrorKind::Server, Some(503), 5));
    assert_eq!(server.journal().count("PUT", "/s"), 5);
    assert_eq!(server.journal().count("DELETE", "/s"), 5);
}

#[tokio::test]
async fn quirk_a12_a_token_that_expires_during_an_upload_is_renewed_and_the_chunk_sent_again() {
    let issued = Mutex::new(0_u32);
    let server = serving(move |request, ctx| {
        let mut issued = issued.lock().unwrap();
        if request.path == "/token" {
            *issued += 1;
            return Response::ok(format!(r#"{{"token":"t{issued}"}}"#));
        }
        let shown = request.header("authorization").unwrap_or_default();
        // The first token dies with the second chunk.
        let second_chunk = request.header("content-range").is_some_and(|range| range.starts_with("4-"));
        if shown.is_empty() || (second_chunk && shown == "Bearer t1") {
            return Response::bearer_challenge(&ctx.url("/token"), "s", "");
        }
        match request.method.as_str() {
            "PUT" => created(),
            _ => session("/s"),
        }
    });
    assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
    let journal = server.journal();
    let shown: Vec<String> = journal
        .entries()
        .iter()
        .filter(|entry| entry.path == "/s")
        .map(|entry| format!("{} {} {}", entry.method, entry.status, entry.headers.get("authorization").unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            "PATCH 202 Bearer t1",
            "PATCH 401 Bearer t1",
            "PATCH 202 Bearer t2",
            "PATCH 202 Bearer t2",
            "PUT 201 Bearer t2",
        ]
    );
}

#[tokio::test]
async fn a_registry_of_our_own_takes_chunks_and_forgets_cancelled_sessions() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    repository.put_blob(source(BYTES)).mode(CHUNKS).send().await.unwrap();
    assert_eq!(steps(&registry), "HEAD 404, POST 202, PATCH 202, PATCH 202, PATCH 202, PUT 201");
    registry.stop();
}

#[tokio::test]
async fn the_start_of_an_upload_is_asked_for_again_when_it_failed_in_passing() {
    let server = script([Response::status(503, ""), Response::reset(), session("/s"), created()]);
    let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(ranges(&server), ["POST", "POST", "POST", "PUT"]);
    let dead = serving(|_, _| Response::status(503, ""));
    let error = at(&net(), &dead).put_blob(source(BYTES)).check_first(false).send().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), dead.journal().len()), (NetErrorKind::Server, 5, 5));
}

/// A server that opens sessions and reads nothing of what comes then.
fn deaf() -> (std::net::SocketAddr, std::thread::JoinHandle<usize>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0_u8; 4];
            stream.read_exact(&mut head).unwrap();
            match &head {
                b"POST" => {
                    let answer =
                        "HTTP/1.1 202 Accepted\r\nLocation: /s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    stream.write_all(answer.as_bytes()).unwrap();
                    // What follows the head is nothing; the rest of it is not missed.
                    drop(stream.shutdown(std::net::Shutdown::Write));
                    drop(stream.read_to_end(&mut Vec::new()));
                }
                b"STOP" => break,
                _ => held.push(stream),
            }
        }
        held.len()
    });
    (addr, thread)
}

#[tokio::test]
async fn a_registry_that_takes_nothing_more_of_a_body_is_given_up() {
    let (addr, server) = deaf();
    // More than a socket holds.
    let bytes = vec![7_u8; 12 << 20];
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let net = quick().retry(once).build().unwrap();
    let repository = repository(&net, &format!("{addr}/acme/hello"));
    let error = repository.put_blob(source(&bytes)).check_first(false).send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Timeout, "{error}");
    std::net::TcpStream::connect(addr).unwrap().write_all(b"STOP").unwrap();
    assert!(server.join().unwrap() >= 1);
}

/// A source that takes longer than the peer may.
#[derive(Debug)]
struct Slow(Descriptor);

struct SlowRead(u8);

impl BlobSource for Slow {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn open(&self, _: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        Box::pin(std::future::ready(Ok(Box::new(SlowRead(0)) as Box<dyn BlobRead>)))
    }
}

impl BlobRead for SlowRead {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        self.0 += 1;
        let (piece, pause) = match self.0 {
            1 => ("01234", Duration::ZERO),
            2 => ("56789", Duration::from_millis(400)),
            _ => return Box::pin(std::future::ready(None)),
        };
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            Some(Ok(piece.into()))
        })
    }
}

#[tokio::test]
async fn the_time_the_content_takes_is_not_held_against_the_registry() {
    let server = script([session("/s"), created()]);
    let impatient =
        Timeouts { idle_body: Duration::from_millis(100), headers: Duration::from_millis(300), ..Timeouts::default() };
    let net = quick().timeouts(impatient).build().unwrap();
    let upload = at(&net, &server).put_blob(Arc::new(Slow(descriptor(BYTES)))).check_first(false);
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(server.journal().entries()[1].body, BYTES);
    assert_eq!(net.stats().bytes_sent, 10);
}
