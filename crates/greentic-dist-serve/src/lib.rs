//! A small OCI registry for loopback: pull, push, tags, catalog, referrers, ranges, conditional requests.
//!
//! It stands behind `greentic-dist demo` and `greentic-dist serve`, and is the honest half of the tests. It speaks plain HTTP/1.1,
//! answers no web page, refuses every address but a loopback one unless a token protects it, and keeps its content in memory or as
//! an OCI image layout in a directory, or serves a directory of packs and components, for which it is a distributor too. A running registry lives on its own thread with its own runtime, so that code with and without one can
//! start it.
//!
//! ```
//! use greentic_dist_serve::Registry;
//!
//! let registry = Registry::in_memory();
//! registry.put_blob(&b"{}"[..])?;
//! let manifest = br#"{"schemaVersion":2}"#;
//! let digest = registry.put_manifest("acme/hello", &["1"], "application/vnd.oci.image.manifest.v1+json", manifest)?;
//!
//! let running = registry.start(([127, 0, 0, 1], 0).into())?;
//! println!("{}/acme/hello@{digest}", running.host());
//! running.stop();
//! # Ok::<(), greentic_dist_serve::ServeError>(())
//! ```
//!
//! What it follows is the OCI distribution specification, version 1.1. Two things are simpler than in a big registry: a
//! blob once pushed can be read through every repository name, and nothing is collected as garbage.
//!
//! Internal: no semver promise.

mod api;
mod body;
mod connection;
mod disk;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod log;
mod name;
mod options;
mod range;
mod registry;
mod route;
mod running;
mod store;
mod tree;
mod unstuck;
mod upload;
mod utc;

pub use error::ServeError;
pub use journal::RequestRecord;
pub use log::{AccessEvent, AccessRecord};
pub use options::ServeOptions;
pub use registry::Registry;
pub use running::RunningRegistry;
pub use tree::TreeLayout;
