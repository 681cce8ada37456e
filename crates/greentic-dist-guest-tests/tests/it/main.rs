//! All four calls of the distributor API through a real component boundary, success and failure.
//!
//! The guest is built for `wasm32-wasip2` when the tests start. Where that target is not installed the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod build;
mod calls;
mod host;
