//! From a descriptor to an entry: a hit, or the bytes brought by the way of their source.

use std::sync::Arc;

use greentic_dist_store::{Entry, EntryRecord};
use greentic_dist_types::{Digest, SafeText, redact_url};

use super::artifact_rule::{expect_taken, manifest_of};
use super::client::Inner;
use super::entry::snapshot;
use super::{
    ArtifactDescriptor, ArtifactSourceKind, DistError, ResolvedArtifact, cache, fetch_oci, resolve, retention,
};
use crate::blocking;

/// Fetches, and makes room for what that brought.
pub(crate) async fn fetch(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<ResolvedArtifact, DistError> {
    let _wanted = cache::parse_digest(&descriptor.digest).ok().map(|pin| inner.holds.hold(pin));
    let mut artifact = get(inner, descriptor).await?;
    artifact.set_resolved_by(inner.memo.resolved_by(descriptor));
    if artifact.fetched {
        let _brought = cache::parse_digest(&artifact.digest).ok().map(|pin| inner.holds.hold(pin));
        retention::cap::keep(inner).await;
    } else {
        inner.note_cache_hit();
    }
    Ok(artifact)
}

async fn get(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<ResolvedArtifact, DistError> {
    let shown = shown_ref(descriptor);
    if descriptor.digest.is_empty() {
        return bring(inner, descriptor, &shown, inner.is_offline(false)).await;
    }
    let pin = cache::parse_digest(&descriptor.digest)?;
    let offline = inner.is_offline(inner.memo.is_offline(&pin));
    let Some(mut hit) = open_whole(inner, pin, &shown, offline).await? else {
        return bring(inner, descriptor, &shown, offline).await;
    };
    hit.fetched = inner.memo.take_brought(&pin);
    remember(inner, &pin).await?;
    // A lost record is written again from the descriptor. The bytes are fine, so that a failure costs nothing; for a URL
    // it would cost the bytes again.
    let rewritable = !matches!(descriptor.source_kind, ArtifactSourceKind::Https | ArtifactSourceKind::CacheDigest);
    if hit.is_rebuilt() && rewritable && !offline {
        return Ok(bring(inner, descriptor, &shown, offline).await.unwrap_or(hit));
    }
    Ok(hit)
}

/// The reference as it may be shown: a URL without its secrets.
fn shown_ref(descriptor: &ArtifactDescriptor) -> String {
    match descriptor.source_kind {
        ArtifactSourceKind::Https => redact_url(&descriptor.raw_ref),
        _ => descriptor.raw_ref.clone(),
    }
}

/// Fetches as if nothing were in the cache; bytes that are there under the right digest are still not moved again.
async fn bring(
    inner: &Arc<Inner>,
    descriptor: &ArtifactDescriptor,
    shown: &str,
    offline: bool,
) -> Result<ResolvedArtifact, DistError> {
    let mut served_by = Vec::new();
    let (entry, fetched) = match descriptor.source_kind {
        ArtifactSourceKind::CacheDigest => return Err(DistError::NotFound { reference: descriptor.digest.clone() }),
        ArtifactSourceKind::Oci | ArtifactSourceKind::Repo | ArtifactSourceKind::Store => {
            if offline {
                let adopted = fetch_oci::adopt(inner, descriptor).await?;
                (adopted.ok_or_else(|| DistError::Offline { reference: shown.to_owned() })?, false)
            } else {
                let brought = fetch_oci::fetch(inner, descriptor).await?;
                served_by = brought.served_by;
                (brought.entry, brought.fresh)
            }
        }
        // The address was written down without its secrets; asking for that would ask for something else.
        ArtifactSourceKind::Https if descriptor.raw_ref.contains('…') => {
            return Err(DistError::NotFound { reference: shown.to_owned() });
        }
        ArtifactSourceKind::Https => resolve::https::fetch_url(inner, &descriptor.raw_ref, offline).await?,
        ArtifactSourceKind::File | ArtifactSourceKind::Fixture => resolve::file::ingest(inner, descriptor).await?,
    };
    expect_pin(descriptor, shown, &entry)?;
    Ok(ResolvedArtifact::from_entry(&entry, fetched, cache::hints(inner)).served(served_by))
}

/// Opens a cached entry. A damaged one is an exact error offline; online it is as good as none, and what is fetched takes
/// its place. One that holds another layer than this client takes is refused.
pub(super) async fn open_whole(
    inner: &Arc<Inner>,
    pin: Digest,
    shown: &str,
    offline: bool,
) -> Result<Option<ResolvedArtifact>, DistError> {
    let (inner, shown) = (Arc::clone(inner), shown.to_owned());
    blocking::run(move || match cache::try_open_entry(&inner, &pin, &shown) {
        Err(DistError::CorruptArtifact { reason, .. }) if !offline => {
            let reason = SafeText::new(&reason);
            inner.warn(&format!("the cached copy of {pin} is damaged ({reason}); fetching it again"));
            Ok(None)
        }
        Ok(Some(entry)) => {
            let kept = manifest_of(&inner.store, &entry).ok().flatten();
            expect_taken(&entry, &shown, kept.as_ref(), |manifest| inner.rule.taken(manifest))?;
            Ok(Some(ResolvedArtifact::from_entry(&entry, false, cache::hints(&inner))))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

fn expect_pin(descriptor: &ArtifactDescriptor, shown: &str, entry: &Entry) -> Result<(), DistError> {
    let actual = entry.pin.to_string();
    if descriptor.digest.is_empty() || descriptor.digest == actual {
        return Ok(());
    }
    Err(DistError::CorruptArtifact {
        reference: shown.to_owned(),
        reason: format!("the source changed since it was resolved: expected {}, now {actual}", descriptor.digest),
    })
}

/// The parts of a record that every source fills the same way.
pub(super) fn record(descriptor: &ArtifactDescriptor) -> EntryRecord {
    let source = snapshot(&descriptor.raw_ref, &descriptor.canonical_ref, descriptor.source_kind);
    let mut record = EntryRecord::new(descriptor.artifact_type, source, descriptor.media_type.as_str());
    record.content_type = Some(descriptor.media_type.clone());
    record.size_bytes = descriptor.size_bytes;
    record.created_at = descriptor.created_at;
    record.annotations.clone_from(&descriptor.annotations);
    record.signature_refs.clone_from(&descriptor.signature_refs);
    record.sbom_refs.clone_from(&descriptor.sbom_refs);
    record.resolved_via =
        serde_json::to_value(descriptor.resolved_via).ok().and_then(|value| value.as_str().map(ToOwned::to_owned));
    record
}

/// Writes down which tags led to an artifact, now that it is here.
pub(super) async fn remember(inner: &Arc<Inner>, pin: &Digest) -> Result<(), DistError> {
    let refs = inner.memo.take_refs(pin);
    if refs.is_empty() {
        return Ok(());
    }
    let (inner, pin) = (Arc::clone(inner), *pin);
    blocking::run(move || {
        for record in &refs {
            // A tag that cannot be written down costs a request later, not the artifact now.
            if let Err(error) = inner.store.remember(record) {
                tracing::debug!(%error, "a tag was not remembered");
            }
            if let Some(index) = record.index_digest {
                note_index(&inner, &pin, index);
            }
        }
        Ok(())
    })
    .await
}

/// Most indexes that are noted beside the first one.
const OTHER_INDEXES: usize = 16;

/// Notes in an entry that another index led to it, so that an advisory against that index finds it.
fn note_index(inner: &Inner, pin: &Digest, index: Digest) {
    let is_noted =
        |record: &EntryRecord| record.index_digest == Some(index) || record.other_index_digests.contains(&index);
    let Ok(Some(entry)) = inner.store.stat(pin) else { return };
    if entry.pin != *pin || is_noted(&entry.record) {
        return;
    }
    let noted = inner.store.update(pin, &mut |record| {
        if record.index_digest.is_none() {
            record.index_digest = Some(index);
        } else {
            record.other_index_digests.push(index);
            let too_many = record.other_index_digests.len().saturating_sub(OTHER_INDEXES);
            record.other_index_digests.drain(..too_many);
        }
    });
    if let Err(error) = noted {
        tracing::debug!(%error, "an index was not noted");
    }
}
