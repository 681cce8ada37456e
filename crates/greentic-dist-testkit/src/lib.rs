//! Servers that misbehave on purpose, fixtures, and process helpers, for the tests of the Greentic distributor client.
//!
//! - [`LyingServer`] speaks HTTP/1.1 over a raw socket and does exactly what a test tells it: wrong lengths, cut,
//!   stalled, dripped and endless bodies, resets, redirects. Its [`Journal`] keeps every request with its headers.
//! - [`scenario`] puts an OCI artifact behind such a server and names the ways a registry can lie about it.
//! - [`fixture`] makes a real Wasm component, manifests, indexes and OCI image layouts.
//! - [`content`] makes every shape of OCI content that has to be carried unchanged.
//! - [`conformance`] asks a registry everything the distribution specification demands.
//! - [`tree`] takes snapshots of directories, to say "the cache did not change" and show what did.
//! - [`trace`] writes down everything that is traced and logged, to show that no secret is.
//! - [`real`] starts Debian's `docker-registry` and runs `skopeo`, where they are installed.
//! - [`raw_client`] asks a server one thing and shows the answer as it is.
//! - [`Proxy`] forwards to a real server at a chosen rate and counts bytes.
//! - [`process`] runs a program with a clean environment, kills it at a chosen moment, measures its memory.
//!
//! The honest registry is `greentic-dist-serve`, re-exported as [`serve`].
//!
//! Everything here panics when the machine cannot do what a test needs (no free port, no temp directory): a test has
//! nothing better to do with such an error. Nothing here is published.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::missing_panics_doc, reason = "the crate's documentation says it once for all")]

pub use greentic_dist_serve as serve;

pub mod conformance;
pub mod content;
pub mod fixture;
mod journal;
pub mod process;
mod proxy;
pub mod raw_client;
pub mod real;
mod request;
mod response;
pub mod scenario;
mod server;
pub mod trace;
pub mod tree;

pub use journal::{Journal, JournalEntry};
pub use proxy::Proxy;
pub use request::{Headers, Request};
pub use response::{Response, Step};
pub use server::{Ctx, LyingServer};
pub use tree::TreeSnapshot;
