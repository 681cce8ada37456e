//! From a descriptor to an entry: a hit, a link to bytes that are here under another name, or a verified transfer.

use std::sync::Arc;

use greentic_dist_net::{FetchedManifest, Selector};
use greentic_dist_store::{DigestLock, Entry, EntryDraft, EntryRecord, Expected, Ingest, Published, Sidecar};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Reference, SafeText, SourceRef, limits, redact_url};
use serde_json::{Map, Value};

use super::client::Inner;
use super::entry::snapshot;
use super::memo::ResolvedManifest;
use super::transfer;
use super::{
    ArtifactDescriptor, ArtifactSourceKind, DistError, DistErrorKind, ResolvedArtifact, cache, resolve, source,
};
use crate::blocking;
use crate::progress::Event;

/// Times the same bytes are asked for from the start when what came was wrong: once more, in case a cache between was
/// stale, and then it is the registry's answer.
const TRIES: u32 = 2;

pub(super) async fn fetch(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<ResolvedArtifact, DistError> {
    let shown = descriptor.raw_ref.as_str();
    if !descriptor.digest.is_empty() {
        let pin = cache::parse_digest(&descriptor.digest)?;
        if let Some(mut hit) = open_or_quarantine(inner, pin, shown, false).await? {
            hit.fetched = inner.memo.take_brought(&pin);
            remember(inner, &pin).await?;
            // A lost record is written again from the descriptor. The bytes are fine, so that a failure costs nothing; for
            // a URL it would cost the bytes again.
            let lost = hit.is_rebuilt() && !inner.is_offline(false);
            return match descriptor.source_kind {
                ArtifactSourceKind::Https | ArtifactSourceKind::CacheDigest => Ok(hit),
                _ if lost => Ok(bring_anew(inner, descriptor).await.unwrap_or(hit)),
                _ => Ok(hit),
            };
        }
    }
    bring_anew(inner, descriptor).await
}

/// Fetches as if nothing were in the cache; bytes that are there under the right digest are still not moved again.
async fn bring_anew(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<ResolvedArtifact, DistError> {
    let shown = descriptor.raw_ref.as_str();
    match descriptor.source_kind {
        ArtifactSourceKind::CacheDigest => Err(DistError::NotFound { reference: descriptor.digest.clone() }),
        ArtifactSourceKind::Oci | ArtifactSourceKind::Repo | ArtifactSourceKind::Store => {
            fetch_oci(inner, descriptor).await
        }
        ArtifactSourceKind::Https => {
            let (entry, fetched) = resolve::https::fetch_url(inner, shown, false).await?;
            expect_pin(descriptor, &entry)?;
            Ok(ResolvedArtifact::from_entry(&entry, fetched, cache::hints(inner)))
        }
        ArtifactSourceKind::File | ArtifactSourceKind::Fixture => {
            let entry = resolve::file::ingest(inner, descriptor).await?;
            expect_pin(descriptor, &entry)?;
            Ok(ResolvedArtifact::from_entry(&entry, true, cache::hints(inner)))
        }
    }
}

/// Opens a cached entry. A damaged one is moved out of the way while the network is there to bring it again, and an exact
/// error when it is not.
pub(super) async fn open_or_quarantine(
    inner: &Arc<Inner>,
    pin: Digest,
    shown: &str,
    source_offline: bool,
) -> Result<Option<ResolvedArtifact>, DistError> {
    let offline = inner.is_offline(source_offline);
    let (inner, shown) = (Arc::clone(inner), shown.to_owned());
    blocking::run(move || match cache::try_open(&inner, &pin, &shown) {
        Err(DistError::CorruptArtifact { reason, .. }) if !offline => {
            let reason = SafeText::new(&reason);
            inner.warn(&format!("the cached copy of {pin} is damaged ({reason}); fetching it again"));
            inner.store.quarantine(&pin, "damaged").map_err(|error| DistError::from_store(&shown, error))?;
            Ok(None)
        }
        other => other,
    })
    .await
}

fn expect_pin(descriptor: &ArtifactDescriptor, entry: &Entry) -> Result<(), DistError> {
    let actual = entry.pin.to_string();
    if descriptor.digest.is_empty() || descriptor.digest == actual {
        return Ok(());
    }
    Err(DistError::CorruptArtifact {
        reference: redact_url(&descriptor.raw_ref),
        reason: format!("the source changed since it was resolved: expected {}, now {actual}", descriptor.digest),
    })
}

async fn fetch_oci(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<ResolvedArtifact, DistError> {
    let shown = descriptor.raw_ref.as_str();
    if inner.is_offline(false) {
        return Err(DistError::Offline { reference: shown.to_owned() });
    }
    let reference = pinned_reference(descriptor)?;
    let pin = cache::parse_digest(&descriptor.digest)?;
    let resolved = manifest_for(inner, shown, &reference, pin).await?;
    let layer = resolve::oci::component_layer(inner, shown, &resolved.manifest)?;
    let sidecars = sidecars(inner, shown, &reference, &resolved).await?;
    let draft = Draft { descriptor: descriptor.clone(), reference, resolved, layer, sidecars };
    let mut tries = 0;
    let published = loop {
        tries += 1;
        match bring(inner, shown, &draft).await {
            Err(error) if tries < TRIES && error.kind() == DistErrorKind::Integrity => {
                inner.warn(&format!("{}; asking once more", SafeText::new(&super::error::chain(&error))));
            }
            other => break other?,
        }
    };
    remember(inner, &pin).await?;
    inner.reporter.event(&Event::Finished { reference: shown, bytes: draft.layer.size_bytes });
    Ok(ResolvedArtifact::from_entry(&published.entry, published.fresh, cache::hints(inner)))
}

/// Everything an entry will say about where its bytes came from.
#[derive(Clone)]
struct Draft {
    descriptor: ArtifactDescriptor,
    reference: Reference,
    resolved: ResolvedManifest,
    layer: Descriptor,
    sidecars: Vec<(Sidecar, Vec<u8>)>,
}

/// One attempt under the lock of the bytes: whoever held it before may have brought them.
async fn bring(inner: &Arc<Inner>, shown: &str, draft: &Draft) -> Result<Published, DistError> {
    let content = draft.layer.digest;
    let lock = transfer::lock(inner, shown, content).await?;
    let expected = Expected { digest: content, size_bytes: draft.layer.size_bytes };
    let prepared = {
        let (inner, shown, draft) = (Arc::clone(inner), shown.to_owned(), draft.clone());
        blocking::run(move || {
            let wrap = |error| DistError::from_store(&shown, error);
            if let Ok(Some(open)) = inner.store.open(&draft.resolved.pin, inner.proof)
                && !open.entry.rebuilt
            {
                return Ok(Prepared::Here(Box::new(Published { entry: open.entry, fresh: false })));
            }
            if let Ok(Some(other)) = inner.store.find_content(&content)
                && let Ok(entry) = inner.store.adopt(&lock, &other, draft.entry())
            {
                return Ok(Prepared::Here(Box::new(Published { entry, fresh: true })));
            }
            let ingest = inner.store.ingest(&lock, expected).map_err(wrap)?;
            Ok(Prepared::Missing(Box::new((ingest, lock))))
        })
        .await?
    };
    let (ingest, lock) = match prepared {
        Prepared::Here(published) => return Ok(*published),
        Prepared::Missing(missing) => *missing,
    };
    let offset = ingest.offset();
    inner.reporter.event(&Event::Started {
        reference: shown,
        total_bytes: Some(draft.layer.size_bytes),
        resumed_at: offset,
    });
    let stream = inner
        .net(shown)?
        .repository(&draft.reference)
        .blob(&draft.layer)
        .from_offset(offset)
        .open_unverified()
        .await
        .map_err(|error| DistError::from_net(shown, error))?;
    let entry = draft.clone();
    transfer::stream_into_store(inner, shown, stream, ingest, lock, move |_| entry.entry()).await
}

enum Prepared {
    Here(Box<Published>),
    Missing(Box<(Ingest, DigestLock)>),
}

impl Draft {
    fn entry(&self) -> EntryDraft {
        let descriptor = &self.descriptor;
        let mut record = record(descriptor);
        if record.annotations.is_empty() {
            record.annotations = resolve::oci::annotations(&self.resolved.manifest);
        }
        record.content_digest = Some(self.layer.digest);
        record.manifest_digest = Some(self.resolved.pin);
        record.index_digest = self.resolved.index_digest;
        record.component_id = Some(self.reference.name());
        record.abi_version = self.sidecars.first().and_then(|(_, bytes)| abi_version(bytes));
        EntryDraft {
            pin: Some(self.resolved.pin),
            manifest: Some(self.resolved.raw.to_vec()),
            record,
            sidecars: self.sidecars.clone(),
        }
    }
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
    record.resolved_via = Some(format!("{:?}", descriptor.resolved_via));
    record
}

/// Where the bytes are asked for: the canonical reference, which is pinned, so that a tag that moved since changes nothing.
fn pinned_reference(descriptor: &ArtifactDescriptor) -> Result<Reference, DistError> {
    match source::classify(&descriptor.canonical_ref)? {
        SourceRef::Oci(reference) if reference.digest().is_some() => Ok(reference),
        _ => Err(DistError::InvalidInput(format!(
            "the descriptor of `{}` has no pinned canonical reference (`{}`)",
            SafeText::new(&descriptor.raw_ref),
            SafeText::new(&descriptor.canonical_ref)
        ))),
    }
}

/// The manifest of a pin: remembered from the resolve, else fetched.
async fn manifest_for(
    inner: &Arc<Inner>,
    shown: &str,
    reference: &Reference,
    pin: Digest,
) -> Result<ResolvedManifest, DistError> {
    if let Some(known) = inner.memo.get(&pin) {
        return Ok(known);
    }
    let FetchedManifest { raw, kind, .. } = inner
        .net(shown)?
        .repository(reference)
        .manifest(Selector::Digest(pin))
        .await
        .map_err(|error| DistError::from_net(shown, error))?;
    match kind {
        ManifestKind::Image(manifest) => {
            let resolved = ResolvedManifest { pin, raw, manifest: *manifest, index_digest: None, refs: Vec::new() };
            inner.memo.insert(resolved.clone());
            Ok(resolved)
        }
        ManifestKind::Index(_) => Err(DistError::InvalidInput(format!(
            "`{}` is an image index; resolve it first, so that one of its manifests is chosen",
            SafeText::new(shown)
        ))),
    }
}

/// The component manifest that travels as a layer beside the component, when there is one of a sane size.
async fn sidecars(
    inner: &Arc<Inner>,
    shown: &str,
    reference: &Reference,
    resolved: &ResolvedManifest,
) -> Result<Vec<(Sidecar, Vec<u8>)>, DistError> {
    let Some(layer) = resolved.manifest.component_manifest_layer() else { return Ok(Vec::new()) };
    if layer.size_bytes > limits::SIDECAR_BYTES {
        inner.warn(&format!("the component manifest of `{}` is too large and was left out", SafeText::new(shown)));
        return Ok(Vec::new());
    }
    let wrap = |error| DistError::from_net(shown, error);
    let mut stream = inner.net(shown)?.repository(reference).blob(layer).open().await.map_err(wrap)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(wrap)?);
    }
    Ok(vec![(Sidecar::ComponentManifest, bytes)])
}

/// `abi_version` of a component manifest: the top-level key only, and only when it is a version.
fn abi_version(component_manifest: &[u8]) -> Option<String> {
    let value: Map<String, Value> = serde_json::from_slice(component_manifest).ok()?;
    let text = value.get("abi_version")?.as_str()?;
    let is_version = text.len() <= 64
        && text.split('.').count() == 3
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_version.then(|| text.to_owned())
}

/// Writes down which tags led to an artifact, now that it is here.
async fn remember(inner: &Arc<Inner>, pin: &Digest) -> Result<(), DistError> {
    let refs = inner.memo.take_refs(pin);
    if refs.is_empty() {
        return Ok(());
    }
    let inner = Arc::clone(inner);
    blocking::run(move || {
        for record in &refs {
            // A tag that cannot be written down costs a request later, not the artifact now.
            if let Err(error) = inner.store.remember(record) {
                tracing::debug!(%error, "a tag was not remembered");
            }
        }
        Ok(())
    })
    .await
}
