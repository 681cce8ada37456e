//! The log of answers and the end of the server, when nobody reads the one or takes the other.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use greentic_dist_serve::{AccessEvent, Registry, ServeOptions};

use crate::get;

#[test]
fn a_log_that_does_not_keep_up_loses_lines_and_says_how_many() {
    let (release, released) = mpsc::channel::<()>();
    let (released, events) = (Mutex::new(released), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&events);
    let options = ServeOptions::new().access_log(move |event| {
        // Waits until the other end is dropped.
        let _dropped = released.lock().unwrap().recv();
        seen.lock().unwrap().push(event.clone());
    });
    let running = Registry::in_memory().start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    for _ in 0..1_100 {
        assert_eq!(get(&running, "/v2/").status, 200);
    }
    drop(release);
    running.stop();
    let (mut told, mut lost) = (0, 0);
    for event in events.lock().unwrap().iter() {
        match event {
            AccessEvent::Answer(_) => told += 1,
            AccessEvent::Dropped(count) => lost += count,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told + lost, 1_100);
    assert!(lost > 0);
}

#[test]
fn a_log_that_blocks_for_ever_does_not_hold_up_the_end() {
    let (_never, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let options = ServeOptions::new().access_log(move |_| {
        let _dropped = released.lock().unwrap().recv();
    });
    let running = Registry::in_memory().start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    let addr = running.addr();
    for _ in 0..2 {
        assert_eq!(get(&running, "/v2/").status, 200);
    }
    running.stop();
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_refusal_is_logged_with_its_reason() {
    let (say, said) = mpsc::channel();
    let options = ServeOptions::new().access_log(move |event| {
        if let AccessEvent::Answer(record) = event {
            say.send((record.request.status, record.reason.clone())).unwrap();
        }
    });
    let running = Registry::in_memory().start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    get(&running, "/v2/");
    get(&running, "/v2/a/tags/list");
    running.stop();
    let said: Vec<_> = said.into_iter().collect();
    assert_eq!(said, [(200, None), (404, Some("repository name not known to registry".to_owned()))]);
}

/// A download that its reader does not go on with.
fn stalled(running: &greentic_dist_serve::RunningRegistry) -> TcpStream {
    let blob = running.registry().put_blob(vec![0; 64 << 20]).unwrap();
    let mut stream = TcpStream::connect(running.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[test]
fn answers_on_their_way_are_finished_within_the_grace() {
    let options = ServeOptions::new().stop_grace(Duration::from_mins(1));
    let running = Registry::in_memory().start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    let mut download = stalled(&running);
    running.begin_stop();
    // The port is closed as soon as the acceptor has ended; the download goes on.
    let mut rest = Vec::new();
    let reading = std::thread::spawn(move || download.read_to_end(&mut rest).map(|_| rest.len()));
    running.stop();
    assert!(reading.join().unwrap().unwrap() > 64 << 20);
}

#[test]
fn a_second_wish_to_stop_cuts_what_is_on_its_way() {
    let options = ServeOptions::new().stop_grace(Duration::from_hours(1));
    let running = Registry::in_memory().start_with(([127, 0, 0, 1], 0).into(), options).unwrap();
    let mut download = stalled(&running);
    running.begin_stop();
    // Returns although nobody takes the answer.
    running.stop_now();
    let mut rest = Vec::new();
    let _cut_or_reset = download.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{}", rest.len());
}
