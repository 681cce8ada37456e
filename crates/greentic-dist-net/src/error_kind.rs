//! The kinds of failures, the coarser classes of them, and what to do where nothing more is known.

use std::time::Duration;

/// What kind of failure a [`NetError`](crate::NetError) is. Decide by this, never by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetErrorKind {
    /// The server says the thing does not exist (404, 410), or an index has no manifest for the wanted platform.
    NotFound,
    /// A login is needed or the one given was rejected.
    Unauthorized,
    /// The login is known and may not do this (403, 451).
    Forbidden,
    /// Too many requests (429), or a wait longer than the cap was asked for.
    RateLimited,
    /// The peer was silent or slow for longer than allowed.
    Timeout,
    /// No connection could be made.
    Connect,
    /// The host name could not be resolved.
    Dns,
    /// The TLS handshake failed: an untrusted, expired or foreign certificate, or no TLS at all on the other side.
    Tls,
    /// The connection ended in the middle of an answer.
    Interrupted,
    /// The server failed (5xx).
    Server,
    /// The answer breaks the protocol or is not what was asked for.
    Protocol,
    /// The answer is larger than the limit in force.
    TooLarge,
    /// The bytes are not the promised ones; [`NetError::mismatch`](crate::NetError::mismatch) says how.
    Integrity,
    /// The registry does not offer what was asked for: deletion, a catalog, upload in chunks.
    Unsupported,
    /// Somebody else changed the same thing at the same time, again and again.
    Conflict,
    /// The content that was to be sent could not be read.
    Source,
    /// What came could not be written to where the caller wanted it.
    Output,
    /// Refused by this client's own rules: a redirect, a token realm, a downgrade, a plain-text password.
    Refused,
    /// The caller asked for something that cannot be asked.
    InvalidInput,
    /// A setting of this client cannot be used: a host configuration, a certificate, a proxy.
    Config,
    /// Offline mode: no socket was opened.
    Offline,
}

impl NetErrorKind {
    /// Whether failures of this kind usually pass by themselves. [`NetError::is_transient`](crate::NetError::is_transient) knows more.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Timeout
                | Self::Connect
                | Self::Dns
                | Self::Interrupted
                | Self::Server
                | Self::Conflict
        )
    }

    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::NotFound => "nothing was found",
            Self::Unauthorized => "a login is needed",
            Self::Forbidden => "access was denied",
            Self::RateLimited => "the server asks to slow down",
            Self::Timeout => "the server did not answer in time",
            Self::Connect => "no connection could be made",
            Self::Dns => "the host name could not be resolved",
            Self::Tls => "the TLS handshake failed",
            Self::Interrupted => "the connection ended too early",
            Self::Server => "the server failed",
            Self::Protocol => "the answer breaks the protocol",
            Self::TooLarge => "the answer is too large",
            Self::Integrity => "the bytes are not the promised ones",
            Self::Unsupported => "the registry does not offer this",
            Self::Conflict => "somebody else changed the same thing at the same time",
            Self::Source => "the content could not be read",
            Self::Output => "what came could not be written",
            Self::Refused => "the request was refused by policy",
            Self::InvalidInput => "the request is invalid",
            Self::Config => "a setting of this client cannot be used",
            Self::Offline => "offline mode is on and no connection was made",
        }
    }
}

/// The few classes a caller may want to tell apart, coarser than [`NetErrorKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetErrorClass {
    /// No answer came, or not all of it: connection, name, TLS, silence, an end in the middle.
    Network,
    /// A login is needed, was rejected, or may not do this.
    Authentication,
    /// It does not exist.
    NotFound,
    /// Too many requests.
    RateLimit {
        /// How long the server asks to wait, when it says so.
        retry_after: Option<Duration>,
    },
    /// The server failed.
    Server,
    /// What was asked or answered is not valid: bytes, sizes, documents, references, places this client does not go to.
    Validation,
    /// A setting of this client cannot be used, or a place of the caller's not be written to.
    Config,
    /// Offline mode.
    Offline,
}

/// What to do about wrong bytes.
pub const WRONG_BYTES: &str = "wrong bytes are never kept; when trying again ends the same way, the registry, or a proxy before it, has \
other bytes than the digest promises, and the publisher has to push it again";

impl NetErrorKind {
    /// The next step where nothing more is known than the kind of the failure; `None` where there is none worth a line.
    pub(crate) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::NotFound => Some(
                "check the name, and the tag or digest; many registries also say so of what is there, to who is not logged in",
            ),
            Self::Forbidden => Some("the login may not do this: ask whoever runs the registry for the right to it"),
            Self::Timeout => {
                Some("try again; where it stays so, look for a proxy or a firewall that holds the connection back")
            }
            Self::Connect | Self::Dns => Some("check the host name, the port, the network and the proxy settings"),
            Self::Tls => Some(
                "check the clock of this machine, and for which names and until when the server's certificate is valid",
            ),
            Self::Interrupted => {
                Some("try again; where it stays so, look for a proxy or a firewall that ends connections early")
            }
            Self::Server => Some("the server has a problem of its own: try again later, or ask whoever runs it"),
            Self::Protocol => {
                Some("check that the address is that of a registry, and that no proxy or login page answers for it")
            }
            Self::Integrity => Some(WRONG_BYTES),
            Self::Conflict => Some("try again when nobody else is writing there"),
            Self::Unauthorized
            | Self::RateLimited
            | Self::TooLarge
            | Self::Unsupported
            | Self::Source
            | Self::Output
            | Self::Refused
            | Self::InvalidInput
            | Self::Config
            | Self::Offline => None,
        }
    }
}
