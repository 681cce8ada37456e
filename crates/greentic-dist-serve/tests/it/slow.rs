//! Peers that take their time: they hold little, and nobody else waits for them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use greentic_dist_serve::{Registry, TreeLayout};
use greentic_dist_types::Digest;

use crate::{get, started};

/// Sends bytes as they are and returns what comes until the end.
pub(crate) fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn row_84_two_hundred_and_fifty_six_slow_clients_keep_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("packs")).unwrap();
    // Larger than what sockets hold, so that an answer nobody takes stays on its way.
    let large = fs::File::create(dir.path().join("packs/large-1.0.0.gtpack")).unwrap();
    large.set_len(64 << 20).unwrap();
    fs::write(dir.path().join("packs/kit-1.0.0.gtpack"), b"kit").unwrap();
    let running = started(&Registry::over_tree(dir.path(), TreeLayout::Flat).unwrap());
    let manifest = get(&running, "/v2/packs/large/manifests/1.0.0").json();
    let blob = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();

    let resident_before = resident_kib();
    let slow: Vec<TcpStream> = (0..256)
        .map(|index| {
            let mut stream = TcpStream::connect(running.addr()).unwrap();
            // Half of them never end their head, half of them take nothing of a large answer.
            let head = format!("GET /v2/packs/large/blobs/{blob} HTTP/1.1\r\nHost: localhost\r\n");
            let end: &str = if index % 2 == 0 { "" } else { "\r\n" };
            stream.write_all(format!("{head}{end}").as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        let answer = get(&running, &format!("/v2/packs/kit/blobs/{}", Digest::sha256(b"kit")));
        assert_eq!(answer.body, b"kit");
    }
    // The answers that are on their way hold a small piece each, and no thread: 128 of 64 KiB, the first few more.
    if let (Some(before), Some(after)) = (resident_before, resident_kib()) {
        let grown = after.saturating_sub(before);
        assert!(grown < 40 << 10, "256 slow clients cost {grown} KiB");
    }
    drop(slow);
    // They are gone, and a whole answer still comes.
    let whole = get(&running, &format!("/v2/packs/large/blobs/{blob}"));
    assert_eq!(whole.body.len(), 64 << 20);
}

/// Resident memory of this process in KiB, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}
