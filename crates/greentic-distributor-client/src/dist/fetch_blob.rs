//! Blobs by their digest alone: one request, no manifest.

use std::io::Read as _;
use std::sync::Arc;

use greentic_dist_net::Net;
use greentic_dist_store::{
    Entry, EntryDraft, EntryRecord, Expected, Ingest, OpenEntry, Proof, Published, Sidecar, StoreError,
};
use greentic_dist_types::{Descriptor, Digest, Reference, SafeText, media_type};
use serde_json::json;

use super::client::Inner;
use super::entry::snapshot;
use super::error::chain;
use super::transfer::{self, Held};
use super::{ArtifactSourceKind, ArtifactType, DistError, DistErrorKind};
use crate::blocking;
use crate::progress::Event;

/// Times the same bytes are asked for from the start when what came was wrong.
const TRIES: u32 = 2;

/// The cached blob, hashed now; `None` when there is none.
pub(crate) async fn open(inner: &Arc<Inner>, digest: Digest) -> Result<Option<OpenEntry>, StoreError> {
    let inner = Arc::clone(inner);
    let opened = blocking::run(move || {
        let opened = inner.store.open(&digest, Proof::Full);
        if let Ok(Some(open)) = &opened {
            inner.store.touch(&open.entry);
        }
        Ok(opened)
    });
    // A runtime that shuts down drops whoever asked, too.
    opened.await.unwrap_or(Ok(None))
}

/// Brings the blob that a pinned reference names into the cache, or finds that somebody else just did.
///
/// The caller found nothing whole there. The flag says whether this call brought it.
pub(crate) async fn fetch(
    inner: &Arc<Inner>,
    shown: &str,
    reference: &Reference,
    digest: Digest,
) -> Result<(Entry, bool), DistError> {
    let net = inner.net(shown)?.clone();
    // Nobody else waits for a lock while this client waits for its time.
    net.wait_to_begin().await.map_err(|error| DistError::from_net(shown, error))?;
    let mut tries = 0;
    loop {
        tries += 1;
        match bring(inner, &net, shown, reference, digest).await {
            Err(error) if error.kind() == DistErrorKind::Integrity && tries < TRIES => {
                inner.warn(&format!("{}; asking once more", SafeText::new(&chain(&error))));
            }
            other => return other.map(|published| (published.entry, published.fresh)),
        }
    }
}

async fn bring(
    inner: &Arc<Inner>,
    net: &Net,
    shown: &str,
    reference: &Reference,
    digest: Digest,
) -> Result<Published, DistError> {
    let lock = transfer::lock(inner, shown, digest).await?;
    if let Ok(Some(open)) = open(inner, digest).await {
        return Ok(Published { entry: open.entry, fresh: false });
    }
    let repository = net.repository(reference);
    let wrap = |error| DistError::from_net(shown, error);
    let stream = repository.open_unsized_unverified(digest, inner.limits.artifact_bytes).await.map_err(wrap)?;
    let announced = stream.size_bytes();
    let (ingest, lock) = ingest(inner, shown, digest, announced, lock).await?;
    inner.reporter.event(&Event::Started { reference: shown, total_bytes: announced, resumed_at: ingest.offset() });
    let (record, now) = (record(shown, reference, digest), inner.now_secs());
    let draft = move |verified: greentic_dist_types::Verified| draft(record, digest, verified.size_bytes(), now);
    let result = match announced {
        // Bytes of an earlier attempt are here: only the rest is asked for.
        Some(size_bytes) if ingest.offset() > 0 => {
            drop(stream);
            let layer = Descriptor::new(media_type::OCTET_STREAM, digest, size_bytes);
            let rest = repository.blob(&layer).from_offset(ingest.offset()).open_unverified().await.map_err(wrap)?;
            transfer::stream_into_store(inner, shown, rest, ingest, lock, draft).await
        }
        _ => transfer::stream_into_store(inner, shown, stream, ingest, lock, draft).await,
    };
    inner.reporter.event(&match &result {
        Ok(published) => Event::Finished { reference: shown, bytes: published.entry.record.size_bytes },
        Err(_) => Event::Failed { reference: shown },
    });
    result
}

/// Begins to take the blob in: where its size is announced, so that a cut one is continued by whoever comes next.
async fn ingest(
    inner: &Arc<Inner>,
    shown: &str,
    digest: Digest,
    announced: Option<u64>,
    lock: Held,
) -> Result<(Ingest, Held), DistError> {
    let (inner, shown) = (Arc::clone(inner), shown.to_owned());
    blocking::run(move || {
        let ingest = match announced {
            Some(size_bytes) => inner.store.ingest(lock.lock(), Expected { digest, size_bytes }),
            None => inner.store.ingest_measured_as(digest.algorithm(), inner.limits.artifact_bytes),
        };
        Ok((ingest.map_err(|error| DistError::from_store(&shown, error))?, lock))
    })
    .await
}

/// The blob that a pinned reference names, in memory: verified, and not kept in the cache.
pub(crate) async fn read(inner: &Arc<Inner>, reference: &Reference, digest: Digest) -> Result<Vec<u8>, DistError> {
    let shown = reference.to_string();
    let wrap = |error| DistError::from_net(&shown, error);
    let repository = inner.net(&shown)?.repository(reference);
    let mut stream = repository.open_unsized_unverified(digest, inner.limits.artifact_bytes).await.map_err(wrap)?;
    let (mut bytes, mut hasher) = (Vec::new(), digest.hasher());
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(wrap)?;
        hasher.update(&piece);
        bytes.extend_from_slice(&piece);
    }
    if hasher.finish() != digest {
        return Err(DistError::from_net(&shown, stream.refute()));
    }
    Ok(bytes)
}

/// The bytes of an open entry.
pub(crate) fn read_open(open: &mut OpenEntry) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(open.entry.record.size_bytes).unwrap_or_default());
    open.file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts bytes that are in memory into the cache, when they are the ones of the digest.
pub(crate) async fn store(
    inner: &Arc<Inner>,
    shown: &str,
    reference: &Reference,
    digest: Digest,
    media_type: Option<String>,
    bytes: Vec<u8>,
) -> Result<Entry, DistError> {
    let lock = transfer::lock(inner, shown, digest).await?;
    let mut record = record(shown, reference, digest);
    if let Some(media_type) = media_type {
        record.media_type.clone_from(&media_type);
        record.content_type = Some(media_type);
    }
    let (inner, shown) = (Arc::clone(inner), shown.to_owned());
    blocking::run(move || {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let put = || -> Result<Entry, StoreError> {
            let mut ingest = inner.store.ingest(lock.lock(), Expected { digest, size_bytes })?;
            ingest.restart()?;
            ingest.write(&bytes)?;
            let staged = ingest.finish()?.stage(draft(record, digest, size_bytes, inner.now_secs()))?;
            Ok(inner.store.publish(staged)?.entry)
        };
        put().map_err(|error| DistError::from_store(&shown, error))
    })
    .await
}

fn record(shown: &str, reference: &Reference, digest: Digest) -> EntryRecord {
    let canonical = format!("oci://{}", reference.pinned(digest));
    let source = snapshot(shown, &canonical, ArtifactSourceKind::Oci);
    let mut record = EntryRecord::new(ArtifactType::Component, source, media_type::OCTET_STREAM);
    record.content_digest = Some(digest);
    record
}

/// The entry of a blob is named by its digest; beside it lies what earlier readers of this directory look at.
fn draft(mut record: EntryRecord, digest: Digest, size_bytes: u64, now: u64) -> EntryDraft {
    record.fetched_at = now;
    let metadata = json!({
        "digest": digest.to_string(),
        "size_bytes": size_bytes,
        "media_type": record.content_type,
        "fetched_at_unix_seconds": now,
    });
    let metadata = format!("{metadata:#}\n").into_bytes();
    EntryDraft { pin: Some(digest), manifest: None, record, sidecars: vec![(Sidecar::Metadata, metadata)] }
}
