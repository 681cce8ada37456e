//! The same client for code that is not async.
//!
//! [`DistClient`] has the methods of [`dist::DistClient`](crate::dist::DistClient) that are async, as methods that wait for
//! their result; the synchronous ones are the same. They may be called from anywhere: where no runtime runs, inside a
//! current-thread runtime, inside a multi-thread runtime, and from many threads at a time. There is neither a panic nor a
//! runtime to be built by the caller: the first call that needs one starts the runtime of this module, which all clients of
//! the process share and which stays.
//!
//! What is waited for never needs the runtime it is called from. A call inside of one holds up the thread it is made on for as
//! long as it takes; other tasks of that thread wait so long. So one client should not be used with `await` by some tasks of
//! a runtime and in this way by others of the same thread: a call may then wait for a task that waits for the call.
//!
//! ```
//! use greentic_distributor_client::blocking::DistClient;
//! use greentic_distributor_client::dist::DistOptions;
//! # let made = greentic_dist_testkit::fixture::component();
//! # let running = greentic_dist_testkit::fixture::served(&made);
//! # let (host, dir) = (running.host(), tempfile::tempdir()?);
//! # let options = DistOptions { cache_dir: dir.path().join("cache"), ..DistOptions::default() };
//!
//! let client = DistClient::new(options);
//! let artifact = client.resolve_ref(&format!("{host}/acme/hello:1"))?;
//! println!("{} is at {}", artifact.digest, artifact.local_path.display());
//! # assert_eq!(artifact.wasm_bytes()?, made.layer_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Client`] is the same for the client of registries in [`oci`](crate::oci): lists are iterators, blobs are readers.
//!
//! ```
//! use std::io::Read as _;
//!
//! use greentic_distributor_client::blocking::Client;
//! use greentic_distributor_client::oci::{self, ManifestKind, Reference, Selector};
//! # let made = greentic_dist_testkit::fixture::component();
//! # let running = greentic_dist_testkit::fixture::served(&made);
//! # let host = running.host();
//!
//! let client = Client::from(oci::client().build()?);
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! for tag in repository.tags() {
//!     println!("{}", tag?);
//! }
//! let manifest = repository.manifest(Selector::Tag("1"))?;
//! let ManifestKind::Image(image) = &manifest.kind else { return Err("an index".into()) };
//! let mut bytes = Vec::new();
//! repository.open_blob(&image.layers[0])?.read_to_end(&mut bytes)?;
//! # assert_eq!(bytes, made.layer_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`compat`] has the surface of librex, for programs that used it.

mod client;
pub mod compat;
mod door;
mod oci;
mod runtime;

pub use client::DistClient;
pub(crate) use door::run;
pub use oci::{BlobReader, Client, List, Registry, Repository};
pub(crate) use runtime::wait;
