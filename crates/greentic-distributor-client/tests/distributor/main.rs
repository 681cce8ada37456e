//! The distributor API: the trait's two clients, and sources.
#![allow(clippy::unwrap_used, clippy::panic)]

mod chain;
mod documents;
#[cfg(feature = "http-runtime")]
mod http;
mod wit;
