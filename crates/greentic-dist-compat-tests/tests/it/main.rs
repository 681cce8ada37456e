//! Published programs, and how they call the client. What compiles and passes here is what they can go on doing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test has nothing better to do")]

#[cfg(feature = "component")]
mod component;
#[cfg(feature = "deployer")]
mod deployer;
#[cfg(feature = "dev")]
mod dev;
#[cfg(feature = "flow")]
mod flow;
#[cfg(feature = "hosts")]
mod hosts;
#[cfg(feature = "operator")]
mod operator;
#[cfg(feature = "runner-host")]
mod runner_host;
#[cfg(feature = "runtime-http")]
mod runtime_http;
#[cfg(feature = "setup")]
mod setup;
#[cfg(feature = "start")]
mod start;
