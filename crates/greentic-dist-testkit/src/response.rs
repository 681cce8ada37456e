//! What a [`LyingServer`](crate::LyingServer) answers: an HTTP message with a fate, or raw steps.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::{Headers, Request};

/// Size of one piece of a chunked or endless body.
const PIECE_BYTES: usize = 16 << 10;

/// One thing done with the socket.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes.
    Bytes(Bytes),
    /// Writes these bytes again and again until the peer hangs up or the server stops.
    Repeat(Bytes),
    /// Waits.
    Delay(Duration),
    /// Writes `piece` bytes at a time with a pause after each.
    Drip {
        /// What is written.
        bytes: Bytes,
        /// Bytes per write, at least one.
        piece: usize,
        /// The pause after each write.
        interval: Duration,
    },
    /// Keeps the socket open and silent until the peer hangs up or the server stops.
    Stall,
    /// Closes the socket with a reset.
    Rst,
    /// Closes the socket in the ordinary way.
    Fin,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    LengthLie(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    Cut(usize),
    Reset(usize),
    Stall(usize),
    Drip(usize, Duration),
    Endless,
}

#[derive(Clone, Debug)]
struct Message {
    status: u16,
    headers: Headers,
    body: Bytes,
    framing: Framing,
    fate: Fate,
    delay: Duration,
}

#[derive(Clone, Debug)]
enum Shape {
    Message(Message),
    Raw(Vec<Step>),
}

/// An answer: a message built with the methods below, or [`Response::raw`] steps.
///
/// A message is honest until told otherwise: it has a `Content-Length`, an answer to `HEAD` has no body, and the
/// connection stays open for the next request.
#[derive(Clone, Debug)]
#[must_use]
pub struct Response(Shape);

/// What to write for one answer.
pub(crate) struct Plan {
    pub(crate) status: u16,
    pub(crate) delay: Duration,
    pub(crate) head: Bytes,
    pub(crate) steps: Vec<Step>,
    pub(crate) keep_alive: bool,
}

impl Response {
    /// `status` with a body.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self(Shape::Message(Message {
            status,
            headers: Headers::default(),
            body: body.into(),
            framing: Framing::Length,
            fate: Fate::Whole,
            delay: Duration::ZERO,
        }))
    }

    /// `200` with a body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    /// `status` with an OCI error document of one error.
    pub fn oci_error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::status(status, body.to_string()).header("Content-Type", "application/json")
    }

    /// A redirect without a body.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::status(status, Bytes::new()).header("Location", location)
    }

    /// `304` with an `ETag`.
    pub fn not_modified(etag: impl Into<String>) -> Self {
        Self::status(304, Bytes::new()).header("ETag", etag)
    }

    /// `401` with a bearer challenge. An empty `scope` leaves the parameter out.
    pub fn bearer_challenge(realm: &str, service: &str, scope: &str) -> Self {
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        if !scope.is_empty() {
            let _ = write!(challenge, ",scope=\"{scope}\"");
        }
        Self::oci_error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", challenge)
    }

    /// `401` with a basic challenge.
    pub fn basic_challenge(realm: &str) -> Self {
        Self::oci_error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", format!("Basic realm=\"{realm}\""))
    }

    /// The honest answer to a request for `body`, with `Range` (one range, `206` or `416`) and `If-Range` obeyed.
    pub fn ranged(request: &Request, etag: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let total = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let same = request.header("if-range").is_none_or(|value| value == etag);
        let answer = match request.range(total).filter(|_| same) {
            None => Self::ok(body),
            Some(None) => Self::status(416, Bytes::new()).header("Content-Range", format!("bytes */{total}")),
            Some(Some((first, last))) => {
                let from = usize::try_from(first).unwrap_or(usize::MAX);
                let to = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
                Self::status(206, body.slice(from..to)).header("Content-Range", format!("bytes {first}-{last}/{total}"))
            }
        };
        let answer = if etag.is_empty() { answer } else { answer.header("ETag", etag) };
        answer.header("Accept-Ranges", "bytes")
    }

    /// Exactly these steps, no head written for you. The connection is closed after them.
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Shape::Raw(steps.into_iter().collect()))
    }

    /// Accepts the request and never answers.
    pub fn silence() -> Self {
        Self::raw([Step::Stall])
    }

    /// Resets the connection instead of answering.
    pub fn reset() -> Self {
        Self::raw([Step::Rst])
    }

    /// Closes the connection instead of answering.
    pub fn hang_up() -> Self {
        Self::raw([Step::Fin])
    }

    fn edit(mut self, change: impl FnOnce(&mut Message)) -> Self {
        if let Shape::Message(message) = &mut self.0 {
            change(message);
        }
        self
    }

    /// Adds a header field. Fields may be repeated; a `Content-Length` given here replaces the computed one.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(|message| message.headers.push(name, value))
    }

    /// Removes the header fields called `name` that were added before.
    pub fn without_header(self, name: &str) -> Self {
        self.edit(|message| message.headers.remove(name))
    }

    /// Waits before the first byte of the answer.
    pub fn delay(self, delay: Duration) -> Self {
        self.edit(|message| message.delay = delay)
    }

    /// Sends the body chunked, without a `Content-Length`.
    pub fn chunked(self) -> Self {
        self.edit(|message| message.framing = Framing::Chunked)
    }

    /// Sends the body without length or chunks; its end is the end of the connection.
    pub fn until_close(self) -> Self {
        self.edit(|message| message.framing = Framing::UntilClose)
    }

    /// Says `Content-Length: length`, sends the body as it is, closes the connection.
    pub fn wrong_content_length(self, length: u64) -> Self {
        self.edit(|message| message.framing = Framing::LengthLie(length))
    }

    /// Announces the whole body, sends its first `bytes`, closes in the ordinary way.
    pub fn cut_after(self, bytes: usize) -> Self {
        self.edit(|message| message.fate = Fate::Cut(bytes))
    }

    /// Announces the whole body, sends its first `bytes`, resets the connection.
    pub fn reset_after(self, bytes: usize) -> Self {
        self.edit(|message| message.fate = Fate::Reset(bytes))
    }

    /// Announces the whole body, sends its first `bytes`, then nothing, with the socket open.
    pub fn stall_after(self, bytes: usize) -> Self {
        self.edit(|message| message.fate = Fate::Stall(bytes))
    }

    /// Sends the whole body, `piece` bytes at a time, with a pause after each.
    pub fn drip(self, piece: usize, interval: Duration) -> Self {
        self.edit(|message| message.fate = Fate::Drip(piece, interval))
    }

    /// Sends `extra` more bytes than the body has, framed consistently: the message is right, the promise about it is not.
    pub fn over_long(self, extra: usize) -> Self {
        self.edit(|message| {
            let mut longer = BytesMut::from(&message.body[..]);
            longer.resize(longer.len() + extra, b'x');
            message.body = longer.freeze();
        })
    }

    /// Sends the body chunked and goes on with more chunks until the peer hangs up or the server stops.
    pub fn endless(self) -> Self {
        self.edit(|message| message.fate = Fate::Endless)
    }

    pub(crate) fn plan(self, head_request: bool) -> Plan {
        match self.0 {
            Shape::Raw(steps) => {
                Plan { status: 0, delay: Duration::ZERO, head: Bytes::new(), steps, keep_alive: false }
            }
            Shape::Message(message) => message.plan(head_request),
        }
    }
}

impl Message {
    fn plan(mut self, head_request: bool) -> Plan {
        if matches!(self.fate, Fate::Endless) {
            self.framing = Framing::Chunked;
        }
        let head = self.head();
        let bodiless = head_request || matches!(self.status, 100..=199 | 204 | 304);
        let steps = if bodiless { Vec::new() } else { self.steps() };
        let said_close = self.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let reusable = matches!(self.fate, Fate::Whole | Fate::Drip(..))
            && matches!(self.framing, Framing::Length | Framing::Chunked)
            && self.headers.get("content-length").is_none();
        Plan { status: self.status, delay: self.delay, head, steps, keep_alive: !said_close && (bodiless || reusable) }
    }

    fn head(&self) -> Bytes {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in self.headers.iter() {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.headers.get("content-length").is_none() {
            match self.framing {
                Framing::Length if matches!(self.status, 100..=199 | 204 | 304) => {}
                Framing::Length => {
                    let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
                }
                Framing::LengthLie(length) => {
                    let _ = write!(head, "Content-Length: {length}\r\n");
                }
                Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
                Framing::UntilClose => head.push_str("Connection: close\r\n"),
            }
        }
        head.push_str("\r\n");
        Bytes::from(head)
    }

    fn steps(&self) -> Vec<Step> {
        let upto = |bytes: usize| self.body.slice(..bytes.min(self.body.len()));
        match self.fate {
            Fate::Whole => vec![Step::Bytes(self.framed(&self.body, true))],
            Fate::Cut(bytes) => vec![Step::Bytes(self.framed(&upto(bytes), false)), Step::Fin],
            Fate::Reset(bytes) => vec![Step::Bytes(self.framed(&upto(bytes), false)), Step::Rst],
            Fate::Stall(bytes) => vec![Step::Bytes(self.framed(&upto(bytes), false)), Step::Stall],
            Fate::Drip(piece, interval) => vec![Step::Drip { bytes: self.framed(&self.body, true), piece, interval }],
            Fate::Endless => {
                let more = Bytes::from(vec![b'x'; PIECE_BYTES]);
                vec![Step::Bytes(self.framed(&self.body, false)), Step::Repeat(self.framed(&more, false))]
            }
        }
    }

    fn framed(&self, body: &Bytes, end: bool) -> Bytes {
        if !matches!(self.framing, Framing::Chunked) {
            return body.clone();
        }
        let mut out = BytesMut::new();
        for piece in body.chunks(PIECE_BYTES) {
            out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        if end {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        out.freeze()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
