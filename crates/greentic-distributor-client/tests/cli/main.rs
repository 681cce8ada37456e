//! The built `greentic-dist`, as people and scripts meet it: exit codes, the two streams, JSON, the cache directory.
#![cfg(all(feature = "dist-cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod allowances;
mod auth;
mod auth_crash;
mod bundle;
mod bundle_crash;
mod cache;
mod catalog;
mod catalog_crash;
mod components;
mod credentials;
mod demo;
mod directory;
mod documented;
mod environment;
mod inspect;
mod json;
mod lock;
mod machine;
mod manage;
mod mirrors;
mod offline;
mod pack;
mod peers;
mod publish;
mod secrets;
mod serve;
mod share;
mod signals;
mod splay;
mod store;
mod text;
mod verify;
