//! Every request a server saw, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::{Headers, Request};

/// One request in a [`Journal`].
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// When the last byte of the request was read.
    pub at: SystemTime,
    /// The method as sent.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// The target up to the first `?`.
    pub path: String,
    /// The header fields as sent.
    pub headers: Headers,
    /// The body as sent.
    pub body: Vec<u8>,
    /// Number of the connection it came on.
    pub connection: usize,
    /// The status that was answered; 0 for raw bytes or no answer yet.
    pub status: u16,
    /// Bytes of the answer's body handed to the socket so far, framing of chunks included.
    pub body_bytes_sent: u64,
}

impl JournalEntry {
    /// `METHOD target`, e.g. `GET /v2/acme/hello/manifests/1`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// The requests of one server, shared: a clone sees what comes later too.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<JournalEntry>>>);

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Vec<JournalEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far, in order of arrival.
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.lock().clone()
    }

    /// How many requests there were.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything so far; the numbers of later requests start again at 0.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many requests had this method and a path that starts with `path_prefix`.
    pub fn count(&self, method: &str, path_prefix: &str) -> usize {
        self.lock().iter().filter(|entry| entry.method == method && entry.path.starts_with(path_prefix)).count()
    }

    /// How many requests, of any method, had a path that contains `part` (`/blobs/`, `/manifests/`).
    pub fn count_containing(&self, part: &str) -> usize {
        self.lock().iter().filter(|entry| entry.path.contains(part)).count()
    }

    /// One line per request, `METHOD target`, in order.
    pub fn lines(&self) -> Vec<String> {
        self.lock().iter().map(JournalEntry::line).collect()
    }

    /// Whether `canary` stands anywhere a peer could read it: in a request line, a header or a body, as it is or in the
    /// base64 of a header value such as `Basic`'s.
    pub fn contains(&self, canary: &str) -> bool {
        self.lock().iter().any(|entry| {
            entry.target.contains(canary)
                || entry.body.windows(canary.len().max(1)).any(|window| window == canary.as_bytes())
                || header_contains(&entry.headers, canary)
        })
    }

    /// Whether `canary` stands in any header value of any request, as it is or in the base64 of a `Basic` credential.
    pub fn any_header_contains(&self, canary: &str) -> bool {
        self.lock().iter().any(|entry| header_contains(&entry.headers, canary))
    }

    /// The `Authorization` header of request `index` in this journal.
    pub fn authorization_of(&self, index: usize) -> Option<String> {
        self.header_of(index, "authorization")
    }

    /// A header of request `index` in this journal.
    pub fn header_of(&self, index: usize, name: &str) -> Option<String> {
        self.lock().get(index)?.headers.get(name).map(str::to_owned)
    }

    /// Body bytes handed to the socket over all answers to paths that contain `part`.
    pub fn body_bytes_sent(&self, part: &str) -> u64 {
        self.lock().iter().filter(|entry| entry.path.contains(part)).map(|entry| entry.body_bytes_sent).sum()
    }

    /// Adds a request and returns its number.
    pub(crate) fn record(&self, request: &Request) -> usize {
        let mut entries = self.lock();
        entries.push(JournalEntry {
            at: SystemTime::now(),
            method: request.method.clone(),
            target: request.target.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            connection: request.connection,
            status: 0,
            body_bytes_sent: 0,
        });
        entries.len() - 1
    }

    pub(crate) fn answered(&self, index: usize, status: u16) {
        if let Some(entry) = self.lock().get_mut(index) {
            entry.status = status;
        }
    }

    pub(crate) fn sent(&self, index: usize, bytes: usize) {
        if let Some(entry) = self.lock().get_mut(index) {
            entry.body_bytes_sent += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }
}

fn header_contains(headers: &Headers, canary: &str) -> bool {
    headers.iter().any(|(_, value)| {
        value.contains(canary)
            || value.split(' ').next_back().and_then(decode_base64).is_some_and(|plain| plain.contains(canary))
    })
}

/// Decodes standard base64, for looking into `Basic` credentials. `None` for anything else.
pub(crate) fn decode_base64(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bits = 0_u32;
    let mut held = 0_u32;
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(value)) & 0x3ff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_a_basic_credential_is_read() {
        assert_eq!(decode_base64("YWxpY2U6aHVudGVyMg==").as_deref(), Some("alice:hunter2"));
        assert_eq!(decode_base64("not base64!"), None);
    }
}
