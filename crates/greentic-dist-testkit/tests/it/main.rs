//! The testkit tests itself: a liar that is honest by mistake would make every test that relies on it green.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod fixture;
mod process;
mod real;
mod scenario;
mod server;
mod tls_front;
