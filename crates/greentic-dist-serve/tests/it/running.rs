//! Starting, stopping, limits and the journal.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use greentic_dist_serve::{Registry, ServeError};
use greentic_dist_testkit::raw_client::exchange;
use greentic_dist_types::Digest;

use crate::{ask, assert_error, both, get, started};

#[test]
fn only_loopback_addresses_are_served() {
    let registry = Registry::in_memory();
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        assert!(matches!(registry.start(addr.parse().unwrap()), Err(ServeError::NotLoopback { .. })), "{addr}");
    }
    let taken = started(&registry);
    assert!(matches!(registry.start(taken.addr()), Err(ServeError::Listen { .. })));
    assert_eq!(taken.host(), taken.addr().to_string());
    assert_eq!(taken.url(), format!("http://{}", taken.addr()));
}

#[test]
fn a_stopped_registry_has_no_port_and_can_start_there_again() {
    let registry = Registry::in_memory();
    registry.put_manifest("a", &["1"], "application/vnd.oci.image.index.v1+json", b"{}").unwrap();
    let running = started(&registry);
    let addr = running.addr();
    // A connection that rests between two requests does not hold the stop up.
    let mut resting = TcpStream::connect(addr).unwrap();
    resting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    resting.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    resting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    running.stop();
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let again = registry.start(addr).unwrap();
    assert_eq!(get(&again, "/v2/a/manifests/1").status, 200);
}

#[test]
fn the_journal_tells_method_path_status_and_bytes() {
    for (running, _dir) in both() {
        let digest = running.registry().put_blob(&b"twelve bytes"[..]).unwrap();
        get(&running, "/v2/");
        get(&running, &format!("/v2/a/blobs/{digest}"));
        ask(&running, "HEAD", &format!("/v2/a/blobs/{digest}"), &[], &[]);
        get(&running, "/v2/a/tags/list?n=5");
        let seen: Vec<_> =
            running.journal().into_iter().map(|record| (record.line(), record.status, record.bytes)).collect();
        assert_eq!(running.requests(), 4);
        assert_eq!(seen[0], ("GET /v2/".to_owned(), 200, 2));
        assert_eq!(seen[1], (format!("GET /v2/a/blobs/{digest}"), 200, 12));
        assert_eq!(seen[2], (format!("HEAD /v2/a/blobs/{digest}"), 200, 0));
        assert_eq!((seen[3].0.as_str(), seen[3].1), ("GET /v2/a/tags/list?n=5", 404));
    }
}

#[test]
fn methods_a_place_does_not_know_are_refused_with_those_it_does() {
    let (running, _dir) = &both()[0];
    let digest = Digest::sha256(b"x");
    for (method, target, allow) in [
        ("POST", "/v2/".to_owned(), "GET, HEAD"),
        ("PUT", "/v2/a/tags/list".to_owned(), "GET, HEAD"),
        ("PATCH", "/v2/a/manifests/1".to_owned(), "GET, HEAD, PUT, DELETE"),
        ("PUT", format!("/v2/a/blobs/{digest}"), "GET, HEAD, DELETE"),
        ("GET", "/v2/a/blobs/uploads/".to_owned(), "POST"),
    ] {
        let answer = ask(running, method, &target, &[], &[]);
        assert_error(&answer, 405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allow);
    }
}

#[test]
fn only_names_of_this_machine_are_answered() {
    let (running, _dir) = &both()[0];
    let status = |host: &str| {
        let mut stream = TcpStream::connect(running.addr()).unwrap();
        stream.write_all(format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    for good in ["localhost", "LOCALHOST:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:80"] {
        assert_eq!(status(good), "200", "{good}");
    }
    for bad in ["example.com", "127.0.0.1.example.com", "10.0.0.1:80", "[::2]", ""] {
        assert_eq!(status(bad), "403", "{bad}");
    }
}

#[test]
fn oversized_and_broken_heads_are_refused_and_others_served_on() {
    let (running, _dir) = &both()[0];
    let long = "x".repeat(70 << 10);
    let many: Vec<(String, String)> = (0..150).map(|number| (format!("X-{number}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for headers in [vec![("X-Long", long.as_str())], many] {
        assert_eq!(exchange(running.addr(), "GET", "/v2/", &headers, &[]).unwrap().status, 431);
    }
    let mut stream = TcpStream::connect(running.addr()).unwrap();
    stream.write_all(b"\x16\x03\x01 not http\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(get(running, "/v2/").status, 200);
}

#[test]
fn an_upload_that_breaks_off_can_be_taken_up_where_it_stopped() {
    for (running, _dir) in both() {
        let location = ask(&running, "POST", "/v2/a/blobs/uploads/", &[], &[]).header("location").to_owned();
        let mut stream = TcpStream::connect(running.addr()).unwrap();
        let head = format!("PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcd");
        stream.write_all(head.as_bytes()).unwrap();
        drop(stream);
        // The server learns of the end in its own time; until then the upload is in use and unknown to others.
        let mut status = get(&running, &location);
        for _ in 0..200 {
            if status.header("range") == "0-3" {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            status = get(&running, &location);
        }
        assert_eq!((status.status, status.header("range")), (204, "0-3"));
        let digest = Digest::sha256(b"abcdefgh");
        assert_eq!(ask(&running, "PUT", &format!("{location}?digest={digest}"), &[], b"efgh").status, 201);
    }
}

#[test]
fn names_and_references_are_checked_when_seeded_too() {
    let registry = Registry::in_memory();
    let put = |name: &str, reference: &str| registry.put_manifest(name, &[reference], "x/y", b"{}");
    assert!(matches!(put("../x", "1"), Err(ServeError::Name { .. })));
    assert!(matches!(put("a", "../1"), Err(ServeError::Reference { .. })));
    assert!(matches!(put("a", &Digest::sha256(b"other").to_string()), Err(ServeError::Reference { .. })));
    assert!(put("a", &Digest::sha256(b"{}").to_string()).is_ok());
    let huge = vec![b' '; (4 << 20) + 1];
    assert!(matches!(registry.put_manifest("a", &[], "x/y", &huge), Err(ServeError::TooLarge { .. })));
}
