//! What a verification leaves behind: three fields of the entry, its state when the bytes are wrong, and the advisory as seen.

use greentic_dist_types::{CacheEntryState, Digest, Mismatch};
use serde_json::json;

use super::checks::SIGNATURE_VERIFIED;
use super::report::{About, Finding, Verdict};
use super::{AdvisorySet, VerificationPolicy, fingerprint};
use crate::dist::client::Inner;
use crate::dist::{CacheEntry, DistError, ResolvedArtifact, StoreErrorKind, cache};

/// What is known of the bytes before a verification.
#[derive(Clone, Copy, Debug)]
pub(in crate::dist) enum Proven {
    /// Nothing: they are hashed.
    No,
    /// They were hashed from end to end just now, and have this digest.
    Whole(Digest),
    /// They were just found to be wrong.
    Wrong(Mismatch),
}

/// Makes the verdict and notes it in the entry.
pub(super) fn conclude(
    inner: &Inner,
    artifact: &ResolvedArtifact,
    findings: Vec<Finding>,
    is_damaged: bool,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Result<Verdict, DistError> {
    let pin = cache::parse_digest(&artifact.digest)?;
    let wrap = |error| DistError::from_store(&artifact.digest, error);
    let entry = inner
        .store
        .stat(&pin)
        .map_err(wrap)?
        .filter(|entry| entry.pin == pin)
        .ok_or_else(|| DistError::NotFound { reference: artifact.digest.clone() })?;
    // Bytes that are elsewhere say nothing about those of the entry.
    let is_damaged = is_damaged && artifact.wasm_bytes.is_none() && artifact.wasm_path.as_ref() == Some(&entry.path);
    let signature = findings.iter().find(|finding| finding.check.name == SIGNATURE_VERIFIED);
    let summary =
        signature.map(|finding| json!({ "outcome": finding.check.outcome.name(), "detail": finding.check.detail }));
    let now = inner.now_secs();
    let noted = inner.store.update(&entry.pin, &mut |record| {
        record.last_verified_at = Some(now);
        record.advisory_epoch = advisory.and_then(|advisory| advisory.version.parse().ok());
        record.signature_summary.clone_from(&summary);
        if is_damaged {
            record.state = CacheEntryState::Corrupt;
        }
    });
    // Entries of older layouts are never written to, and have no notes.
    tolerate(inner, noted.map(|_| ()).map_err(wrap))?;
    if let Some(advisory) = advisory {
        tolerate(inner, advisory.remember(inner))?;
    }
    let about = About {
        artifact_digest: artifact.descriptor.digest.clone(),
        canonical_ref: artifact.descriptor.canonical_ref.clone(),
        policy_fingerprint: policy.fingerprint(),
        advisory_version: advisory.map(|advisory| advisory.version.clone()),
        cache_entry_fingerprint: fingerprint(&CacheEntry::from_store(entry)),
    };
    Ok(Verdict::of(about, findings))
}

/// A cache that may not be written to still verifies; what was found is not noted there.
fn tolerate(inner: &Inner, noted: Result<(), DistError>) -> Result<(), DistError> {
    match noted {
        Err(error) if error.store_kind() == Some(StoreErrorKind::Permission) => {
            inner.warn(&format!("the verification is not noted in the cache: {}", crate::dist::error::chain(&error)));
            Ok(())
        }
        other => other,
    }
}
