//! Verification: what is known about an artifact, held against a policy and an advisory.
//!
//! ```text
//! descriptor, entry, manifest ─▶ facts      facts.rs
//! facts, policy, advisory     ─▶ findings   checks.rs, advisory.rs
//! findings                    ─▶ report     report.rs
//! report                      ─▶ entry      record.rs
//! ```
//!
//! Nothing here verifies a signature, and nothing claims to: an issuer is what the publisher's manifest says, and outside of
//! development a required signature fails. `docs/verification.md` has the rules.

mod advisory;
mod checks;
mod facts;
mod open;
mod policy;
mod record;
mod report;

use greentic_dist_types::Digest;

pub use advisory::{AdvisorySet, ReleaseTrainDescriptor};
pub use policy::{VerificationEnvironment, VerificationPolicy};
pub use report::{PreliminaryDecision, VerificationCheck, VerificationOutcome, VerificationReport};

pub(super) use open::{Opened, open, open_cached};
pub(super) use record::Proven;
pub(crate) use report::Verdict;

#[cfg(feature = "dist-cli")]
use super::ArtifactSourceKind;
use super::client::Inner;
use super::{ArtifactDescriptor, DistClient, DistError, ResolvedArtifact};
use facts::Facts;

impl DistClient {
    /// Reads an advisory: JSON with the fields of [`AdvisorySet`]. `source` says where it came from and replaces what the
    /// document says about that; older advisories of the same source are noticed.
    ///
    /// # Errors
    /// [`DistError::Serde`] for a document that is no advisory; [`DistError::InvalidInput`] for one over 16 MiB.
    pub fn load_advisory_set(&self, bytes: &[u8], source: impl Into<String>) -> Result<AdvisorySet, DistError> {
        AdvisorySet::read(bytes, source.into())
    }

    /// Holds what is known of an artifact before its bytes are there against a policy: the checks `digest_allowed`,
    /// `media_type_allowed`, `issuer_allowed` and `operator_version_compatible`, and `advisory_current` where the advisory is
    /// not.
    ///
    /// Denied digests are looked for among the pin, the index that led to it, and everything the manifest names, as far as
    /// this client has seen them. Opens no socket; reads small files of the cache and writes none.
    pub fn apply_policy(
        &self,
        descriptor: &ArtifactDescriptor,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
    ) -> PreliminaryDecision {
        let facts = Facts::of_descriptor(&self.inner, descriptor);
        PreliminaryDecision::of(checks::preliminary(&self.inner, &facts, advisory, policy))
    }

    /// Verifies an artifact of the cache: the checks of [`DistClient::apply_policy`], then `content_digest_match`, for which
    /// every byte is hashed, `signature_present`, `signature_verified` and `sbom_present`.
    ///
    /// A report that did not pass is a result and not an error. It is noted in the entry when and with what outcome it was
    /// verified; an entry with wrong bytes is marked `Corrupt` and opens no more. The advisory is remembered as seen. On a cache that
    /// cannot be written to, the report is the same and nothing is noted. Synchronous; opens no socket; blocks for about a
    /// second per GiB.
    ///
    /// # Errors
    /// [`DistError::NotFound`] when the artifact has no entry in the cache; [`DistError::CacheError`] when its bytes cannot
    /// be read or the result cannot be noted; [`DistError::CorruptArtifact`] for an artifact without bytes.
    pub fn verify_artifact(
        &self,
        artifact: &ResolvedArtifact,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
    ) -> Result<VerificationReport, DistError> {
        verify(&self.inner, artifact, Proven::No, advisory, policy).map(Verdict::into_report)
    }
}

/// Brings what a reference names into the cache and verifies it. A digest is looked up there and nowhere else.
#[cfg(feature = "dist-cli")]
pub(crate) async fn verify_reference(
    client: &DistClient,
    reference: &str,
    advisory: Option<AdvisorySet>,
    policy: VerificationPolicy,
) -> Result<(std::path::PathBuf, Verdict), DistError> {
    let source = client.parse_source(reference)?;
    let pin = if source.kind == ArtifactSourceKind::CacheDigest {
        client.stat_cache(reference)?.digest
    } else {
        client.resolve_ref(reference).await?.digest
    };
    let (pin, inner) = (super::cache::parse_digest(&pin)?, std::sync::Arc::clone(&client.inner));
    crate::blocking::run(move || {
        let Opened { artifact, proven } = open_cached(&inner, &pin)?;
        let verdict = verify(&inner, &artifact, proven, advisory.as_ref(), &policy)?;
        Ok((artifact.local_path, verdict))
    })
    .await
}

/// Verifies an artifact whose bytes were proven as `proven` says.
pub(super) fn verify(
    inner: &Inner,
    artifact: &ResolvedArtifact,
    proven: Proven,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Result<Verdict, DistError> {
    let facts = Facts::of_artifact(inner, artifact);
    let mut findings = checks::preliminary(inner, &facts, advisory, policy);
    let content = checks::content(artifact, proven)?;
    let is_damaged = content.is_failed();
    findings.push(content);
    findings.extend(checks::evidence(&facts, policy));
    record::conclude(inner, artifact, findings, is_damaged, advisory, policy)
}

/// The digest of a document as compact JSON.
fn fingerprint<T: serde::Serialize>(document: &T) -> Option<String> {
    serde_json::to_vec(document).ok().map(|json| Digest::sha256(&json).to_string())
}
