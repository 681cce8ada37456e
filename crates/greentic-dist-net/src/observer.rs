//! What an embedder may want to see while a transfer runs.

use std::fmt::Debug;
use std::time::Duration;

use greentic_dist_types::SafeText;

use crate::NetError;

/// Something that happened below a request that goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request failed and is made again after `delay`.
    Retry {
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The wait before the next one.
        delay: Duration,
        /// Why it failed.
        error: &'a NetError,
    },
    /// A body was cut or stalled and goes on from `offset` bytes.
    Resume {
        /// Bytes already delivered.
        offset: u64,
        /// Why it stopped.
        error: &'a NetError,
    },
    /// A mirror did not serve, and the next endpoint of the registry is asked. Not told of content a mirror has not.
    Fallback {
        /// The mirror.
        endpoint: &'a str,
        /// Why it did not serve.
        error: &'a NetError,
    },
    /// The first request is made after `delay`, see [`NetBuilder::splay`](crate::NetBuilder::splay).
    Splay {
        /// The wait.
        delay: Duration,
    },
    /// Something a person should know that fails nothing: a registry's `Warning` header, a header that contradicts the body.
    Warning {
        /// The host it is about.
        host: &'a str,
        /// The text, sanitised.
        text: SafeText,
    },
}

/// Receives [`Event`]s. Called on the async threads: must not block.
pub trait Observer: Send + Sync + Debug {
    /// Takes one event.
    fn event(&self, event: &Event<'_>);
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}
