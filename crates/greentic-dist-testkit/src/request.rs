//! One HTTP/1.1 request as it arrived, read from a raw socket with caps.

use std::fmt;
use std::io::{self, BufRead, Read};

/// Most bytes of a request line and its headers together.
const HEAD_BYTES: u64 = 128 << 10;
/// Most bytes of a request body.
const BODY_BYTES: u64 = 256 << 20;

/// Header fields in the order they arrived, names compared without regard to case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Names and values in the order and the spelling they arrived in.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Removes every field called `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// One request as the server read it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, ... as sent.
    pub method: String,
    /// The request target as sent: path and query, nothing decoded.
    pub target: String,
    /// The target up to the first `?`, not decoded.
    pub path: String,
    /// The pairs of the query, percent-decoded, in order.
    pub query: Vec<(String, String)>,
    /// The header fields.
    pub headers: Headers,
    /// The body, decoded when it was chunked.
    pub body: Vec<u8>,
    /// How many requests the server read before this one, over all connections.
    pub index: usize,
    /// Number of the connection it came on, from 0 in the order of acceptance.
    pub connection: usize,
}

impl Request {
    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Shorthand for `headers.get`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The range `bytes=first-last` (or `first-`, or `-suffix`) of a body of `total` bytes as `(first, last)`, both
    /// inclusive. `None` when there is no `Range` header or it has another form; `Some(None)` when it cannot be satisfied.
    pub fn range(&self, total: u64) -> Option<Option<(u64, u64)>> {
        let (first, last) = self.header("range")?.trim().strip_prefix("bytes=")?.split_once('-')?;
        if first.is_empty() {
            let suffix = last.parse::<u64>().ok()?.min(total);
            return Some((suffix > 0).then(|| (total - suffix, total - 1)));
        }
        let first = first.parse::<u64>().ok()?;
        let last = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()? };
        Some((first < total && first <= last).then(|| (first, last.min(total - 1))))
    }

    /// Reads the next request. `Ok(None)` when the peer closed the connection between two requests.
    ///
    /// `on_continue` is called when the peer waits for `100 Continue` before it sends its body.
    pub(crate) fn read(
        reader: &mut impl BufRead,
        connection: usize,
        on_continue: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        let mut budget = HEAD_BYTES;
        let line = loop {
            match read_line(reader, &mut budget)? {
                None => return Ok(None),
                Some(line) if line.is_empty() => {}
                Some(line) => break line,
            }
        };
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(invalid("request line has not three words"));
        };
        if !version.starts_with("HTTP/1.") {
            return Err(invalid("not HTTP/1"));
        }
        let mut headers = Headers::default();
        loop {
            let line = read_line(reader, &mut budget)?.ok_or_else(|| invalid("end in mid-head"))?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header without a colon"))?;
            headers.push(name, value.trim());
        }
        if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            on_continue()?;
        }
        let body = read_body(reader, &headers)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            path: path.to_owned(),
            query: parse_query(query),
            headers,
            body,
            index: 0,
            connection,
        }))
    }
}

pub(crate) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One line without its end. `None` at the end of the input.
pub(crate) fn read_line(reader: &mut impl BufRead, budget: &mut u64) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(*budget).read_until(b'\n', &mut line)?;
    if read == 0 {
        return if *budget == 0 { Err(invalid("head too large")) } else { Ok(None) };
    }
    *budget -= u64::try_from(read).unwrap_or(u64::MAX);
    if line.pop() != Some(b'\n') {
        return Err(invalid("end in mid-line"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

pub(crate) fn read_body(reader: &mut impl BufRead, headers: &Headers) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
        loop {
            let mut budget = 1 << 10;
            let line = read_line(reader, &mut budget)?.ok_or_else(|| invalid("end in mid-body"))?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_bad| invalid("bad chunk size"))?;
            if size == 0 {
                while read_line(reader, &mut budget)?.is_some_and(|line| !line.is_empty()) {}
                return Ok(body);
            }
            read_exactly(reader, size, &mut body)?;
            read_line(reader, &mut budget)?;
        }
    }
    if let Some(length) = headers.get("content-length") {
        let length = length.parse::<u64>().map_err(|_bad| invalid("bad Content-Length"))?;
        read_exactly(reader, length, &mut body)?;
    }
    Ok(body)
}

fn read_exactly(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let held = u64::try_from(body.len()).unwrap_or(u64::MAX);
    if held.saturating_add(length) > BODY_BYTES {
        return Err(invalid("body too large"));
    }
    let read = reader.by_ref().take(length).read_to_end(body)?;
    if u64::try_from(read).ok() == Some(length) { Ok(()) } else { Err(invalid("end in mid-body")) }
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, pair.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
