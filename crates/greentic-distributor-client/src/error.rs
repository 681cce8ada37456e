//! Failures of the distributor API, over WIT, over HTTP and from sources.

use std::io;

/// Why a distributor or a source did not answer.
///
/// Every message is complete in one line, the cause included, since embedders print just that. No message and no `Debug`
/// holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributorError {
    /// A file could not be read.
    #[error("i/o error: {0}")]
    Io(#[from] io::Error),
    /// The distributor could not be reached, or the exchange with it broke. [`NetError::kind`] says how.
    ///
    /// [`NetError::kind`]: greentic_dist_net::NetError::kind
    #[cfg(feature = "http-runtime")]
    #[error("http error: {0}")]
    Http(#[from] greentic_dist_net::NetError),
    /// The call across the component boundary failed.
    #[error("wit error: {0}")]
    Wit(String),
    /// The distributor answered something that cannot be used, or the configuration cannot.
    #[error("invalid response: {0}")]
    InvalidResponse(String),
    /// There is no such pack or component.
    #[error("not found")]
    NotFound,
    /// The distributor refuses: no token, a wrong one, or not enough rights.
    #[error("permission denied")]
    PermissionDenied,
    /// The distributor answered with a status that has no variant of its own.
    #[cfg(feature = "http-runtime")]
    #[error("unexpected status {status}: {body}")]
    Status {
        /// The status.
        status: http::StatusCode,
        /// What it said: at most 64 KiB, sanitised for display.
        body: String,
    },
    /// A text that should be JSON is none, or not of the expected shape.
    #[error("serialization error: {0}")]
    Serde(#[from] serde_json::Error),
    /// Anything else, in the words of who implements a source or a client.
    #[error("{0}")]
    Other(String),
}
