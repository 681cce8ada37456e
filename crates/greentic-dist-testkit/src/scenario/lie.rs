//! The ways a registry can lie, by name.

use std::time::{Duration, SystemTime};

use crate::Response;

/// A part of a registry that a [`Lie::Status`] can stand in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `/v2/<name>/manifests/...`
    Manifest,
    /// `/v2/<name>/blobs/...`
    Blob,
    /// `/token`
    Token,
    /// `/v2/<name>/tags/list`
    Tags,
    /// Every request.
    All,
}

/// One way to be wrong. Several may hold at once: one about the bytes and one about how they travel, for example.
///
/// `times` counts the answers the lie applies to; [`Lie::ALWAYS`] never runs out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Lie {
    /// Another status instead of an answer, `times` times, then fine: 404, 401, 403, 429, 500, ...
    Status {
        /// Where.
        on: Part,
        /// The status.
        status: u16,
        /// How often.
        times: u32,
        /// The `Retry-After` header as it stands: seconds, or a date from [`retry_after_date`].
        retry_after: Option<String>,
    },
    /// The connection is reset instead of an answer.
    ResetInstead {
        /// Where.
        on: Part,
        /// How often.
        times: u32,
    },
    /// The request is read and never answered.
    Silence {
        /// Where.
        on: Part,
    },
    /// Every answer waits before its first byte.
    Slow(Duration),

    /// Blob bytes of the right size with one bit flipped in the middle.
    WrongBlob,
    /// A well-formed answer with only the first bytes of the blob.
    ShortBlob(usize),
    /// A well-formed answer with the blob and this many bytes more, as `Content-Length` says.
    OverLongBlob(usize),
    /// The same in chunks, so that no length announces it.
    OverLongBlobChunked(usize),
    /// The blob, then more bytes without end, in chunks.
    EndlessBlob,
    /// The right blob in chunks, without a length.
    ChunkedBlob,
    /// The connection ends after this many bytes of each blob answer. `Range` works unless another lie says no.
    CutBlob {
        /// Bytes of each answer.
        after: usize,
        /// How often.
        times: u32,
    },
    /// The same with a reset.
    ResetBlob {
        /// Bytes of each answer.
        after: usize,
        /// How often.
        times: u32,
    },
    /// The same with an open, silent socket.
    StallBlob {
        /// Bytes of each answer.
        after: usize,
        /// How often.
        times: u32,
    },
    /// Blob bytes in small pieces with pauses.
    DripBlob {
        /// Bytes per piece.
        piece: usize,
        /// The pause.
        interval: Duration,
    },
    /// `Range` is ignored: `200` and the whole blob.
    RangeIgnored,
    /// `206` with the right bytes under a `Content-Range` that starts one byte later.
    WrongContentRange,
    /// `206` with a right `Content-Range` and the bytes from the start of the blob.
    WrongRangeBytes,
    /// `206` without a `Content-Range`.
    NoContentRange,
    /// This status for every request with a `Range`.
    RangeRefused(u16),
    /// Blobs are redirected to `{base}/blob/<digest>`; [`blob_host`](super::blob_host) answers there.
    RedirectBlob {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// `http://host:port` of the other server.
        base: String,
    },
    /// Blobs are redirected to this URL as it stands, a signature in its query included.
    RedirectBlobTo {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The whole URL.
        url: String,
    },
    /// Manifests are redirected to the same path on `base`.
    RedirectManifest {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// `http://host:port` of the other server.
        base: String,
    },
    /// Blobs are redirected to themselves, for ever.
    RedirectLoop,

    /// Every manifest request answers another artifact's manifest whose blobs exist too, under a
    /// `Docker-Content-Digest` that repeats the digest that was asked for.
    WrongManifestEchoed,
    /// One byte of white space after the manifest; the header tells the right digest.
    PaddedManifest,
    /// `Docker-Content-Digest` is this text on manifests, whatever they are.
    DigestHeader(String),
    /// No `Docker-Content-Digest` at all.
    NoDigestHeader,
    /// The manifest's `Content-Type` is this text.
    ContentType(String),
    /// No `ETag` and no `304`.
    NoEtag,
    /// The `ETag` is weak: `W/"..."`.
    WeakEtag,
    /// Every manifest request is answered `304`, asked for or not.
    UnaskedNotModified,
    /// `HEAD` of a manifest answers this status; `GET` works.
    HeadRefused(u16),
    /// The connection ends after this many bytes of each manifest.
    CutManifest {
        /// Bytes of each answer.
        after: usize,
        /// How often.
        times: u32,
    },
    /// The manifest stops after this many bytes with the socket open.
    StallManifest(usize),
    /// The manifest, then more bytes without end.
    EndlessManifest,
    /// The tag answers an index that names one manifest; asking for that manifest answers the index again, and so on,
    /// each time under a header that repeats the digest asked for.
    IndexLoop,

    /// The challenge names this realm.
    Realm(String),
    /// The token endpoint answers this document.
    TokenBody(String),
    /// The token endpoint never ends its answer.
    EndlessToken,
    /// Every token is refused by the registry that issued it.
    TokenRefused,
    /// `tags/list` answers one page and this `Link` header, e.g. `<http://127.0.0.2:1/v2/x/tags/list>; rel="next"`.
    TagsLink(String),
}

impl Lie {
    /// For `times`: as long as the server runs.
    pub const ALWAYS: u32 = u32::MAX;

    /// `status` on `on`, always, without `Retry-After`.
    pub const fn status(on: Part, status: u16) -> Self {
        Self::Status { on, status, times: Self::ALWAYS, retry_after: None }
    }

    /// `status` on `on`, `times` times, then fine.
    pub const fn burst(on: Part, status: u16, times: u32) -> Self {
        Self::Status { on, status, times, retry_after: None }
    }

    /// The connection is cut every `after` bytes of a blob, with `Range` working.
    pub const fn cut_every(after: usize) -> Self {
        Self::CutBlob { after, times: Self::ALWAYS }
    }

    /// What answers `part` before the registry has a say. Counts `times` down.
    pub(super) fn intercept(&mut self, part: Part) -> Option<Response> {
        let stands = |on: Part| on == Part::All || on == part;
        match self {
            Self::Status { on, status, times, retry_after } if stands(*on) => {
                let (code, message) = error_of(*status);
                let answer = Response::oci_error(*status, code, message);
                take(times).then(|| match retry_after {
                    Some(value) => answer.header("Retry-After", value.clone()),
                    None => answer,
                })
            }
            Self::ResetInstead { on, times } if stands(*on) => take(times).then(Response::reset),
            Self::Silence { on } if stands(*on) => Some(Response::silence()),
            _ => None,
        }
    }
}

/// Takes one of `times`; the largest number never runs out.
pub(super) fn take(times: &mut u32) -> bool {
    match *times {
        0 => false,
        u32::MAX => true,
        _ => {
            *times -= 1;
            true
        }
    }
}

fn error_of(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("UNAUTHORIZED", "authentication required"),
        403 => ("DENIED", "requested access to the resource is denied"),
        404 => ("NAME_UNKNOWN", "repository name not known to registry"),
        429 => ("TOOMANYREQUESTS", "too many requests"),
        503 => ("UNAVAILABLE", "service unavailable"),
        _ => ("UNKNOWN", "unknown error"),
    }
}

/// A `Retry-After` value in its date form, `after` from now, rounded up to the next whole second.
pub fn retry_after_date(after: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + after + Duration::from_millis(999))
}
