//! A blocking HTTP/1.1 client of one request per connection, for looking at servers from outside.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Headers;
use crate::request::{invalid, read_body, read_line};

/// An answer as it arrived.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body, decoded when it was chunked; empty for `HEAD`.
    pub body: Vec<u8>,
}

impl Answer {
    /// Shorthand for `headers.get`, with the empty text for a missing field.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends one request and reads the whole answer. `target` goes on the wire as it stands, so that it may be as wrong as a
/// test wants. A body that ends early is an error of kind `InvalidData`; silence of 30 s is an error too.
///
/// # Errors
/// Whatever the socket says, and `InvalidData` for an answer that is not HTTP/1.
pub fn exchange(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(head.as_bytes())?;
    // A server that has heard enough answers and hangs up; its answer still counts.
    let sent = stream.write_all(body);
    match read_answer(&mut BufReader::new(stream), method) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

/// `GET` without a body or more headers.
///
/// # Errors
/// As [`exchange`].
pub fn get(addr: SocketAddr, target: &str) -> io::Result<Answer> {
    exchange(addr, "GET", target, &[], &[])
}

fn read_answer(reader: &mut impl BufRead, method: &str) -> io::Result<Answer> {
    let mut budget = 256 << 10;
    let (status, headers) = loop {
        let line = read_line(reader, &mut budget)?.ok_or_else(|| invalid("no answer"))?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| invalid("no status line"))?;
        let mut headers = Headers::default();
        loop {
            let line = read_line(reader, &mut budget)?.ok_or_else(|| invalid("end in mid-head"))?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header without a colon"))?;
            headers.push(name, value.trim());
        }
        if status >= 200 {
            break (status, headers);
        }
    };
    let mut body = Vec::new();
    if method != "HEAD" && !matches!(status, 204 | 304) {
        if headers.get("content-length").is_some() || headers.get("transfer-encoding").is_some() {
            body = read_body(reader, &headers)?;
        } else {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(Answer { status, headers, body })
}
