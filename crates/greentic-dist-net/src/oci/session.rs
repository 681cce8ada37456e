//! One upload session: where it goes on, and that it does not stay behind.

use std::time::Duration;

use greentic_dist_types::{Algorithm, Digest};
use http::{HeaderName, Method, StatusCode, header};

use super::auth::{Access, Action};
use super::location::{handed, with_digest};
use super::repository::Repository;
use crate::exchange::{Ask, Collected, Handed, Shared, Target};
use crate::{NetError, NetErrorKind};

/// How long the end of an abandoned session may take.
const CANCEL: Duration = Duration::from_secs(5);
/// Statuses with which registries accept a write (`201`, but `200`, `202` and `204` are seen, too).
pub(super) const WRITTEN: &[StatusCode] =
    &[StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];

const MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// An open upload session. Dropped before [`Session::finished`], it is cancelled in the background as far as that is possible.
#[derive(Debug)]
pub(super) struct Session {
    transport: Shared,
    location: Handed,
    min_chunk_bytes: u64,
    is_open: bool,
}

impl Session {
    /// Starts a session (`POST …/blobs/uploads/`, end-4a).
    ///
    /// # Errors
    /// `Unsupported` where the registry takes no uploads; otherwise by cause.
    pub(super) async fn begin(repository: &Repository, digest: &Digest) -> Result<Self, NetError> {
        let query = match digest.algorithm() {
            Algorithm::Sha256 => String::new(),
            // The registry hashes while the bytes arrive (end-4c); one that does not know the parameter ignores it.
            other @ (Algorithm::Sha384 | Algorithm::Sha512) => format!("?digest-algorithm={other}"),
        };
        let path = format!("/v2/{}/blobs/uploads/{query}", repository.repository());
        let access = repository.access_for(Action::Push);
        let target = Target::Registry(access.clone(), path);
        let answer = repository.transport().tell(&Ask::new(Method::POST, target, &[StatusCode::ACCEPTED])).await;
        Self::of(repository, &access, &answer.map_err(unsupported)?)
    }

    /// The session that an answer of status 202 opened.
    pub(super) fn of(repository: &Repository, access: &Access, answer: &Collected) -> Result<Self, NetError> {
        let transport = repository.transport();
        let location = answer.header(header::LOCATION).ok_or_else(|| {
            NetError::new(NetErrorKind::Protocol, "the registry opened an upload and did not say where it goes on")
                .for_request(&Method::POST, &answer.url)
        })?;
        let location = handed(transport, access, answer, location, "upload location")?;
        let min_chunk_bytes = answer.header(MIN_LENGTH).and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self { transport: Shared::clone(transport), location, min_chunk_bytes, is_open: true })
    }

    /// The smallest chunk the registry takes, in bytes; the last one may be smaller.
    pub(super) const fn min_chunk_bytes(&self) -> u64 {
        self.min_chunk_bytes
    }

    /// A request to the session as it stands.
    pub(super) fn ask(&self, method: Method, accept: &'static [StatusCode]) -> Ask {
        Ask::new(method, Target::Handed(Box::new(self.location.clone())), accept)
    }

    /// The request that ends the session with the digest of everything in it.
    pub(super) fn commit(&self, digest: &Digest) -> Ask {
        let mut location = self.location.clone();
        location.url = with_digest(&location.url, digest);
        Ask::new(Method::PUT, Target::Handed(Box::new(location)), WRITTEN)
    }

    /// Takes the location an answer of this session names. One that names none leaves it where it was.
    pub(super) fn follow(&mut self, answer: &Collected) -> Result<(), NetError> {
        if let Some(next) = answer.header(header::LOCATION) {
            self.location = handed(&self.transport, &self.location.access, answer, next, "upload location")?;
        }
        Ok(())
    }

    /// The registry has taken everything, or has forgotten it: there is nothing left to cancel.
    pub(super) fn finished(mut self) {
        self.is_open = false;
    }

    /// Tells the registry that nothing more will come (`DELETE`, end-14). What it answers changes nothing.
    pub(super) async fn cancel(mut self) {
        self.is_open = false;
        cancel(&self.transport, self.ask(Method::DELETE, WRITTEN)).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Without a runtime there is nobody who could send it; the registry forgets such sessions by itself after a while.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (transport, ask) = (Shared::clone(&self.transport), self.ask(Method::DELETE, WRITTEN));
            drop(runtime.spawn(async move { cancel(&transport, ask).await }));
        }
    }
}

async fn cancel(transport: &Shared, ask: Ask) {
    if let Ok(Err(error)) = tokio::time::timeout(CANCEL, transport.tell_once(&ask)).await {
        tracing::debug!(%error, "an upload session could not be cancelled");
    }
}

/// A registry that answers a write with 405 or 501 takes none.
pub(super) fn unsupported(error: NetError) -> NetError {
    match error.status() {
        Some(405 | 501) => error
            .with_kind(NetErrorKind::Unsupported)
            .with_hint("the registry takes no uploads here: is it a mirror or a read-only address?"),
        _ => error,
    }
}
