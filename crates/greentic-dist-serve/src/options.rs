//! How a registry serves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_types::Secret;

use crate::log::{AccessEvent, Listener};

/// How long answers on their way may take when the registry stops, when nothing else is said.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What [`Registry::start_with`](crate::Registry::start_with) can be told beside the address.
#[derive(Clone)]
#[must_use]
pub struct ServeOptions {
    pub(crate) token: Option<Secret>,
    pub(crate) access_log: Option<Listener>,
    pub(crate) stop_grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { token: None, access_log: None, stop_grace: STOP_GRACE }
    }
}

impl ServeOptions {
    /// No token, no log, two seconds to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers only requests with this token, as a bearer token or as the password of any user. Addresses other than loopback
    /// need one. The connection is plain HTTP: where others can listen, something that speaks TLS belongs in front of it.
    pub fn token(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    /// Told about every answer, on a thread of its own, which may block: answers do not wait for it. Up to 1 024 of them wait to
    /// be told; those beyond are counted, and their number is told.
    pub fn access_log(mut self, log: impl Fn(&AccessEvent) + Send + Sync + 'static) -> Self {
        self.access_log = Some(Arc::new(log));
        self
    }

    /// How long answers on their way may take when the registry stops, before they are cut. Two seconds when this is not said.
    pub const fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("token", &self.token)
            .field("access_log", &self.access_log.is_some())
            .field("stop_grace", &self.stop_grace)
            .finish()
    }
}
