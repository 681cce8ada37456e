//! The lying server does what it is told, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use greentic_dist_testkit::{LyingServer, Response, Step};

fn connect(server: &LyingServer) -> TcpStream {
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn exchange(server: &LyingServer, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

#[test]
fn an_honest_answer_has_a_length_and_its_body() {
    let server = LyingServer::start(|_, _| Response::ok("hello").header("X-A", "b"));
    let answer = exchange(&server, &get("/v2/"));
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello");
}

#[test]
fn two_requests_share_a_kept_connection_and_head_has_no_body() {
    let server = LyingServer::start(|_, _| Response::ok("hello"));
    let answer = exchange(&server, &format!("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n{}", get("/b?c=d%2Fe")));
    assert_eq!(answer.matches("Content-Length: 5").count(), 2);
    assert_eq!(answer.matches("hello").count(), 1);
    assert_eq!(server.connections(), 1);
    assert_eq!(server.journal().lines(), ["HEAD /a", "GET /b?c=d%2Fe"]);
    assert_eq!(server.journal().count("GET", "/b"), 1);
}

#[test]
fn the_journal_keeps_headers_bodies_and_what_was_sent() {
    let server = LyingServer::start(|request, _| Response::ok(request.body.clone()));
    let answer = exchange(
        &server,
        "POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert!(answer.ends_with("\r\n\r\nabcde"));
    let journal = server.journal();
    assert!(journal.any_header_contains("hunter2"));
    assert!(!journal.any_header_contains("hunter3"));
    assert!(journal.contains("abcd"));
    assert_eq!(journal.authorization_of(0).unwrap(), "Basic YWxpY2U6aHVudGVyMg==");
    assert_eq!(journal.authorization_of(1), None);
    assert_eq!(journal.entries()[0].status, 200);
    assert_eq!(journal.body_bytes_sent("/x"), 5);
}

#[test]
fn a_cut_body_ends_early_and_keeps_its_promise_in_the_head() {
    let server = LyingServer::start(|_, _| Response::ok("0123456789").cut_after(4));
    let answer = exchange(&server, &get("/"));
    assert!(answer.contains("Content-Length: 10\r\n") && answer.ends_with("\r\n\r\n0123"), "{answer}");
}

#[test]
fn a_reset_body_ends_with_a_reset() {
    let server = LyingServer::start(|_, _| Response::ok("0123456789").reset_after(4));
    let mut stream = connect(&server);
    stream.write_all(get("/").as_bytes()).unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_stalled_body_stays_open_until_the_server_stops() {
    let server = LyingServer::start(|_, _| Response::ok("0123456789").stall_after(4));
    let mut stream = connect(&server);
    stream.write_all(get("/").as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"0123") {
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(matches!(stream.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    server.stop();
    assert_eq!(stream.read(&mut byte).unwrap_or(0), 0);
}

#[test]
fn an_endless_body_goes_on_until_the_peer_hangs_up() {
    let server = LyingServer::start(|_, _| Response::ok("start").endless());
    let mut stream = connect(&server);
    stream.write_all(get("/").as_bytes()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    stream.read_exact(&mut buffer).unwrap();
    drop(stream);
    assert!(server.journal().body_bytes_sent("/") >= 1 << 19);
}

#[test]
fn lengths_lie_when_told_to() {
    let server = LyingServer::start(|request, _| match request.path.as_str() {
        "/long" => Response::ok("abc").over_long(2),
        "/chunked" => Response::ok("abc").over_long(2).chunked(),
        "/lie" => Response::ok("abc").wrong_content_length(2),
        "/close" => Response::ok("abc").until_close(),
        "/drip" => Response::ok("abc").drip(1, Duration::from_millis(1)),
        _ => Response::raw([Step::Bytes("garbage".into()), Step::Fin]),
    });
    assert!(exchange(&server, &get("/long")).ends_with("Content-Length: 5\r\n\r\nabcxx"));
    assert!(exchange(&server, &get("/chunked")).ends_with("Transfer-Encoding: chunked\r\n\r\n5\r\nabcxx\r\n0\r\n\r\n"));
    assert!(exchange(&server, &get("/lie")).ends_with("Content-Length: 2\r\n\r\nabc"));
    assert!(exchange(&server, &get("/close")).ends_with("Connection: close\r\n\r\nabc"));
    assert!(exchange(&server, &get("/drip")).ends_with("Content-Length: 3\r\n\r\nabc"));
    assert_eq!(exchange(&server, &get("/raw")), "garbage");
}

#[test]
fn ranges_are_answered_as_asked() {
    let server = LyingServer::start(|request, _| Response::ranged(request, "\"e\"", "0123456789"));
    let ranged = |range: &str, more: &str| {
        exchange(&server, &format!("GET / HTTP/1.1\r\nRange: {range}\r\n{more}Connection: close\r\n\r\n"))
    };
    assert!(ranged("bytes=4-", "").contains("206 Partial Content\r\nContent-Range: bytes 4-9/10\r\n"));
    assert!(ranged("bytes=4-5", "").ends_with("\r\n\r\n45"));
    assert!(ranged("bytes=-3", "").ends_with("\r\n\r\n789"));
    assert!(ranged("bytes=10-", "").contains("416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\n"));
    assert!(ranged("bytes=4-", "If-Range: \"other\"\r\n").starts_with("HTTP/1.1 200 OK"));
    assert!(ranged("bytes=4-", "If-Range: \"e\"\r\n").starts_with("HTTP/1.1 206"));
}
