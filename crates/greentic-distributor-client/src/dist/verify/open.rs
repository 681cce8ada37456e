//! Opening an artifact that is about to be verified: hashed from end to end, whatever a stamp says.

use greentic_dist_store::Proof;
use greentic_dist_types::Digest;

use super::Proven;
use crate::dist::client::Inner;
use crate::dist::{DistError, ResolvedArtifact, cache};

/// An artifact, and what hashing it gave.
pub(in crate::dist) struct Opened {
    pub(in crate::dist) artifact: ResolvedArtifact,
    pub(in crate::dist) proven: Proven,
}

/// Opens the entry of a pin; `None` when there is none. Wrong bytes are no error here: the verification says so in its report.
pub(in crate::dist) fn open(inner: &Inner, pin: &Digest) -> Result<Option<Opened>, DistError> {
    let wrap = |error| DistError::from_store(&pin.to_string(), error);
    let error = match inner.store.open(pin, Proof::Full) {
        // Found by the digest of its bytes: the entry of another pin.
        Ok(open) => {
            let Some(open) = open.filter(|open| open.entry.pin == *pin) else { return Ok(None) };
            inner.store.touch(&open.entry);
            let artifact = ResolvedArtifact::from_entry(&open.entry, false, cache::hints(inner));
            return Ok(Some(Opened { artifact, proven: Proven::Whole(open.entry.content_digest) }));
        }
        Err(error) => error,
    };
    let Some(mismatch) = error.mismatch().copied() else { return Err(wrap(error)) };
    match inner.store.stat(pin) {
        Ok(Some(entry)) if entry.pin == *pin => {
            let artifact = ResolvedArtifact::from_entry(&entry, false, cache::hints(inner));
            Ok(Some(Opened { artifact, proven: Proven::Wrong(mismatch) }))
        }
        _ => Err(wrap(error)),
    }
}

/// As [`open`], where the artifact must be there.
pub(in crate::dist) fn open_cached(inner: &Inner, pin: &Digest) -> Result<Opened, DistError> {
    open(inner, pin)?.ok_or_else(|| DistError::NotFound { reference: pin.to_string() })
}
