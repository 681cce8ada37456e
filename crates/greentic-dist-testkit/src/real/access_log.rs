//! The access log of a web server, in the common format: `… "GET /path HTTP/1.1" 200 123 …`.

use std::fmt;

/// One request as the server logged it when it had answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: String,
    /// The status code.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: u64,
}

impl LoggedRequest {
    /// Reads a line of the log; `None` for a line that is no request.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, path, protocol) = (words.next()?, words.next()?, words.next()?);
        let mut numbers = rest.split(' ');
        let status = numbers.next()?.parse().ok()?;
        let bytes = numbers.next()?.parse().unwrap_or(0);
        Some(Self { method: method.to_owned(), path: path.to_owned(), protocol: protocol.to_owned(), status, bytes })
    }

    /// Whether it is a GET of a manifest.
    pub fn is_manifest_get(&self) -> bool {
        self.method == "GET" && self.path.contains("/manifests/")
    }

    /// Whether it is a GET of a blob.
    pub fn is_blob_get(&self) -> bool {
        self.method == "GET" && self.path.contains("/blobs/")
    }
}

impl fmt::Display for LoggedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.path, self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_registry_and_of_nginx_are_read() {
        let line =
            "127.0.0.1 - - [21/Nov/2025:02:58:37 +0000] \"GET /v2/acme/hello/manifests/1 HTTP/1.1\" 200 412 \"\" \"x\"";
        let request = LoggedRequest::parse(line).unwrap();
        assert_eq!(request.to_string(), "GET /v2/acme/hello/manifests/1 200");
        assert_eq!((request.bytes, request.protocol.as_str()), (412, "HTTP/1.1"));
        assert!(request.is_manifest_get() && !request.is_blob_get());
        assert_eq!(LoggedRequest::parse("time=\"2025\" level=info msg=\"listening on\""), None);
    }
}
