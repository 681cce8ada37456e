//! The network crate against servers that are honest, slow, broken and hostile.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::too_many_lines
)]

mod attacks;
mod blob;
mod hosts;
mod http_get;
mod limits;
mod lists;
mod login;
mod manifest;
mod mirrors;
mod pieces;
mod push;
mod quirks_api;
mod quirks_auth;
mod quirks_transfer;
mod redirect;
mod retry;
mod support;
mod tls;
