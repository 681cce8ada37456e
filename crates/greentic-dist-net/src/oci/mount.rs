//! Taking a blob over from another repository of the same registry, without its bytes.

use std::sync::Arc;

use greentic_dist_types::{Digest, Reference};
use http::{Method, StatusCode};

use super::auth::Action;
use super::repository::Repository;
use super::session::Session;
use crate::exchange::{Ask, Target};
use crate::{NetError, NetErrorKind};

/// What came of the wish to mount a blob.
#[derive(Debug)]
pub(super) enum Mount {
    /// The repository has the blob now.
    Done,
    /// The registry wants the bytes after all, and opened a session for them.
    Session(Session),
    /// The registry did not like the question; it is asked for a session in the ordinary way.
    Refused,
}

/// Asks for a mount (`POST …/blobs/uploads/?mount=…&from=…`, end-11).
///
/// # Errors
/// Only those that an ordinary upload would meet as well.
pub(super) async fn mount(repository: &Repository, digest: &Digest, from: &Arc<str>) -> Result<Mount, NetError> {
    let path = format!("/v2/{}/blobs/uploads/?mount={digest}&from={from}", repository.repository());
    let access = repository.access_for(Action::PushMounting { from: Arc::clone(from) });
    let target = Target::Registry(access.clone(), path);
    let ask = Ask::new(Method::POST, target, &[StatusCode::CREATED, StatusCode::ACCEPTED]);
    match repository.transport().tell(&ask).await {
        Ok(answer) if answer.status == StatusCode::CREATED => Ok(Mount::Done),
        Ok(answer) => Session::of(repository, &access, &answer).map(Mount::Session),
        // No right to read the other repository, no such repository, no mounts across them: the bytes are at hand.
        Err(error)
            if !error.is_transient() && error.status().is_some_and(|status| (400..500).contains(&status))
                || error.kind() == NetErrorKind::Unauthorized =>
        {
            tracing::debug!(%error, "a mount was refused");
            Ok(Mount::Refused)
        }
        Err(error) => Err(error),
    }
}

/// A repository name that may stand in a URL.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn checked(registry: &str, repository: &str) -> Result<Arc<str>, NetError> {
    match Reference::new(registry, repository, None, None) {
        Ok(reference) => Ok(reference.repository().into()),
        Err(error) => {
            Err(NetError::new(NetErrorKind::InvalidInput, "this is no repository to mount from").with_source(error))
        }
    }
}
