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
//! # let (registry, made) = (greentic_dist_serve::Registry::in_memory(), greentic_dist_testkit::fixture::component());
//! # for blob in made.blobs() {
//! #     registry.put_blob(blob.bytes.clone())?;
//! # }
//! # registry.put_manifest("acme/hello", &["1"], &made.media_type, &made.manifest_bytes)?;
//! # let running = registry.start(([127, 0, 0, 1], 0).into())?;
//! # let (host, dir) = (running.host(), tempfile::tempdir()?);
//! # let options = DistOptions { cache_dir: dir.path().join("cache"), ..DistOptions::default() };
//!
//! let client = DistClient::new(options);
//! let artifact = client.resolve_ref(&format!("{host}/acme/hello:1"))?;
//! println!("{} is at {}", artifact.digest, artifact.local_path.display());
//! # assert_eq!(artifact.wasm_bytes()?, made.layer_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod door;
mod runtime;

pub use client::DistClient;
pub(crate) use door::run;
pub(crate) use runtime::wait;
