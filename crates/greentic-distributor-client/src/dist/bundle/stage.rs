//! Staging: an artifact is fetched, verified and written down.

use std::sync::Arc;

use greentic_dist_store as store;
use greentic_dist_types::{BundleId, CacheEntryState, Digest, SafeText};
use serde::{Deserialize, Serialize};

use super::error::BundleError;
use super::{AccessMode, BundleLifecycleState};
use crate::blocking;
use crate::dist::client::Inner;
use crate::dist::transfer::{self, Held};
use crate::dist::verify::{self, Proven};
use crate::dist::{
    AdvisorySet, ArtifactDescriptor, CacheEntry, CachePolicy, DistClient, DistError, IntegrationError,
    ResolvedArtifact, VerificationPolicy, VerificationReport, cache, fetch, resolve, source,
};

/// How often an artifact is fetched that is evicted, or found to be damaged, before it is written down.
const TRIES: u32 = 3;

/// What to stage. All but the reference is echoed in the result and has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageBundleInput {
    /// The reference: anything [`DistClient::parse_source`] takes.
    pub bundle_ref: String,
    /// How it is meant to be used.
    pub requested_access_mode: AccessMode,
    /// The name of the policy it is verified by.
    pub verification_policy_ref: String,
    /// The name of the policy of the cache.
    pub cache_policy_ref: String,
    /// Whom it is for.
    pub tenant: Option<String>,
    /// Whom of them it is for.
    pub team: Option<String>,
}

/// Who staged what for whom, for an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageAuditFields {
    /// When, unix seconds.
    pub staged_at: u64,
    /// How it is meant to be used.
    pub requested_access_mode: AccessMode,
    /// The name of the policy it was verified by.
    pub verification_policy_ref: String,
    /// The name of the policy of the cache.
    pub cache_policy_ref: String,
    /// Whom it is for.
    pub tenant: Option<String>,
    /// Whom of them it is for.
    pub team: Option<String>,
}

/// A bundle that is staged.
#[derive(Debug)]
pub struct StageBundleResult {
    /// The name of the bundle: `bundle:` and the pin. The same for the same artifact.
    pub bundle_id: String,
    /// The reference with its digest.
    pub canonical_ref: String,
    /// What the reference resolved to.
    pub descriptor: ArtifactDescriptor,
    /// The artifact, proven.
    pub resolved_artifact: ResolvedArtifact,
    /// The verification it passed. Its warnings also say when the bundle was in use already and keeps its state.
    pub verification_report: VerificationReport,
    /// Its entry in the cache, with this verification noted.
    pub cache_entry: CacheEntry,
    /// Who staged it for whom.
    pub stage_audit_fields: StageAuditFields,
}

impl DistClient {
    /// Stages a bundle: resolves and fetches a reference, verifies the artifact, and writes a record that keeps it from being
    /// evicted.
    ///
    /// When this returns `Ok`, the artifact and its record survive a power cut, and warm and rollback need no network. A new
    /// bundle, and one that was `Inactive`, is `Staged`; a bundle that is in use keeps its state, and a warning says so.
    /// Staging the same artifact again gives the same bundle. What did not pass the verification stays in the cache
    /// without a record.
    ///
    /// Cancel-safe: a record that is being written when the future is dropped is written, or not, as a whole.
    ///
    /// # Errors
    /// The code of the step that failed: as for [`DistClient::resolve`] and [`DistClient::fetch`], or that of the first check that failed,
    /// with `details.failed_checks`; `BundleOpenFailed` for a record or a cache that cannot be written or read.
    pub async fn stage_bundle(
        &self,
        input: &StageBundleInput,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
        _cache_policy: CachePolicy,
    ) -> Result<StageBundleResult, IntegrationError> {
        stage(self, input, advisory, policy).await.map_err(IntegrationError::from)
    }
}

/// As [`DistClient::stage_bundle`].
pub(crate) async fn stage(
    client: &DistClient,
    input: &StageBundleInput,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Result<StageBundleResult, BundleError> {
    let inner = &client.inner;
    let source = source::parse_source(&input.bundle_ref, &inner.options)?;
    let descriptor = resolve::resolve(inner, &source).await?;
    let pin = cache::parse_digest(&descriptor.digest)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let fetched = fetch::fetch(inner, &descriptor).await?.fetched;
        // From here to the record nobody evicts it: whoever would takes this lock first.
        let lock = transfer::lock(inner, &input.bundle_ref, pin).await?;
        let work = Staging {
            inner: Arc::clone(inner),
            input: input.clone(),
            descriptor: descriptor.clone(),
            advisory: advisory.cloned(),
            policy: policy.clone(),
            fetched,
            may_retry: tries < TRIES && !inner.is_offline(source.transport_hints.offline),
        };
        let staged = blocking::run(move || {
            let staged = work.run(&pin);
            drop::<Held>(lock);
            Ok(staged)
        });
        if let Some(staged) = staged.await?? {
            return Ok(staged);
        }
    }
}

/// The work under the lock of the pin.
struct Staging {
    inner: Arc<Inner>,
    input: StageBundleInput,
    descriptor: ArtifactDescriptor,
    advisory: Option<AdvisorySet>,
    policy: VerificationPolicy,
    fetched: bool,
    may_retry: bool,
}

impl Staging {
    /// `None` when the artifact has to be fetched once more.
    fn run(self, pin: &Digest) -> Result<Option<StageBundleResult>, BundleError> {
        let inner = &self.inner;
        let wrap = |error| DistError::from_store(&self.input.bundle_ref, error);
        let opened = verify::open(inner, pin)?;
        let Some(verify::Opened { mut artifact, proven }) = opened else {
            if self.may_retry {
                return Ok(None);
            }
            return Err(DistError::NotFound { reference: pin.to_string() }.into());
        };
        if let (Proven::Wrong(mismatch), true) = (proven, self.may_retry) {
            let reference = SafeText::new(&self.input.bundle_ref);
            inner.warn(&format!("the cached copy of `{reference}` is damaged ({mismatch}); fetching it again"));
            inner.store.update(pin, &mut |record| record.state = CacheEntryState::Corrupt).map_err(wrap)?;
            return Ok(None);
        }
        artifact.fetched = self.fetched;
        let verdict = verify::verify(inner, &artifact, proven, self.advisory.as_ref(), &self.policy)?;
        let mut report = verdict.accepted()?;
        let entry = inner.store.stat(pin).map_err(wrap)?;
        let Some(entry) = entry else { return Err(DistError::NotFound { reference: pin.to_string() }.into()) };
        inner.store.make_durable(&entry).map_err(wrap)?;
        report.warnings.extend(self.write_down(&entry)?);
        let Self { inner, input, descriptor, .. } = self;
        Ok(Some(StageBundleResult {
            bundle_id: BundleId::of(*pin).to_string(),
            canonical_ref: descriptor.canonical_ref.clone(),
            descriptor,
            resolved_artifact: artifact,
            verification_report: report,
            cache_entry: CacheEntry::from_store(entry),
            stage_audit_fields: StageAuditFields {
                staged_at: inner.now_secs(),
                requested_access_mode: input.requested_access_mode,
                verification_policy_ref: input.verification_policy_ref,
                cache_policy_ref: input.cache_policy_ref,
                tenant: input.tenant,
                team: input.team,
            },
        }))
    }

    /// Writes the record. A warning when the bundle is in use already.
    fn write_down(&self, entry: &store::Entry) -> Result<Option<String>, DistError> {
        let wrap = |error| DistError::from_store(&self.input.bundle_ref, error);
        let bundle_id = BundleId::of(entry.pin);
        let lock = self.inner.store.lock_bundles(&mut |_| ()).map_err(wrap)?;
        let old = self.inner.store.bundle(&bundle_id).map_err(wrap)?;
        let old_state = old.as_ref().map(|old| old.lifecycle_state);
        let lifecycle_state = old_state.filter(|state| state.protects()).unwrap_or(BundleLifecycleState::Staged);
        let record = store::BundleRecord {
            format_version: 0,
            bundle_id,
            cache_key: entry.pin,
            canonical_ref: self.descriptor.canonical_ref.clone(),
            source_kind: self.descriptor.source_kind,
            fetched_at: entry.record.fetched_at,
            lifecycle_state,
            extra: old.map(|old| old.extra).unwrap_or_default(),
        };
        self.inner.store.put_bundle(&lock, &record).map_err(wrap)?;
        Ok((lifecycle_state != BundleLifecycleState::Staged)
            .then(|| format!("the bundle is {lifecycle_state:?} already, and stays so")))
    }
}
