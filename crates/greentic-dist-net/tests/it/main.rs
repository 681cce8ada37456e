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
mod blob_whole;
mod client_certificates;
mod deadline;
mod endpoint_memory;
mod endpoints;
mod flow_control;
mod hosts;
mod http2;
mod http_get;
mod librex;
mod limits;
mod lists;
mod login;
mod manifest;
mod mirrors;
mod pieces;
mod progress;
mod proxy;
mod push;
mod quirks_api;
mod quirks_auth;
mod quirks_transfer;
mod redirect;
mod registries_conf;
mod retry;
mod stats;
mod support;
mod tls;
mod tls_server;
mod token_life;
mod token_model;
mod trace;
