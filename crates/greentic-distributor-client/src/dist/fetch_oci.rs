//! OCI artifacts on their way into the cache: a link to bytes that are here under another name, or a verified transfer.

use std::sync::Arc;

use greentic_dist_net::{FetchedManifest, Net, Selector};
use greentic_dist_store::{Entry, EntryDraft, Expected, Ingest, Published, Sidecar};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Reference, SafeText, SourceRef, limits};

use super::artifact_rule::other_layer;
use super::client::Inner;
use super::component_manifest::Facts;
use super::memo::ResolvedManifest;
use super::transfer::Held;
use super::{ArtifactDescriptor, Beside, DistError, DistErrorKind, cache, fetch, resolve, source, transfer};
use crate::blocking;
use crate::progress::Event;

/// Times the same bytes are asked for from the start when what came was wrong: once more, in case a cache between was
/// stale, and then it is the registry's answer. Each mirror that lied makes room for one try more.
const TRIES: usize = 2;

/// Brings the artifact of a pinned descriptor into the cache. The flag says whether this call did.
pub(super) async fn fetch(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<(Entry, bool), DistError> {
    let shown = descriptor.raw_ref.as_str();
    let reference = pinned_reference(descriptor)?;
    let pin = cache::parse_digest(&descriptor.digest)?;
    let net = inner.net_for(resolve::tenant_of(inner, descriptor).as_deref(), shown).await?;
    let resolved = manifest_for(inner, &net, shown, &reference, pin).await?;
    let layer = resolve::oci::layer_of(inner, shown, descriptor.artifact_type, &resolved.manifest)?;
    let wanted = Arc::new(Wanted { descriptor: descriptor.clone(), reference, net, resolved, layer });
    let mut tries = 0;
    let published = loop {
        tries += 1;
        // What was put together from parts and is wrong is asked for in one.
        let way = if tries == 1 { Way::Fastest } else { Way::Simplest };
        match bring(inner, shown, &wanted, way).await {
            Err(error)
                if error.kind() == DistErrorKind::Integrity && tries < TRIES + mirrors(inner, shown, &wanted)? =>
            {
                inner.warn(&format!("{}; asking once more", SafeText::new(&super::error::chain(&error))));
            }
            other => break other?,
        }
    };
    // Whoever published under this pin meanwhile, or before, may have taken another layer.
    if published.entry.content_digest != wanted.layer.digest {
        return Err(other_layer(&published.entry, shown));
    }
    fetch::remember(inner, &pin).await?;
    Ok((published.entry, published.fresh))
}

fn mirrors(inner: &Inner, shown: &str, wanted: &Wanted) -> Result<usize, DistError> {
    Ok(inner.net(shown)?.repository(&wanted.reference).mirrors())
}

/// What is to be brought, and everything an entry will say about where it came from.
struct Wanted {
    descriptor: ArtifactDescriptor,
    reference: Reference,
    net: Net,
    resolved: ResolvedManifest,
    layer: Descriptor,
}

/// How bytes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Over several connections, where that is faster.
    Fastest,
    /// From the first byte to the last.
    Simplest,
}

/// What is kept beside the artifact: first the component manifest that travels as a layer, where there is one.
type Sidecars = super::Documents;

/// One attempt under the lock of the bytes: whoever held it before may have brought them.
async fn bring(inner: &Arc<Inner>, shown: &str, wanted: &Arc<Wanted>, way: Way) -> Result<Published, DistError> {
    let is_alone = component_manifest(inner, wanted).is_none();
    let look = {
        let (inner, shown, wanted) = (Arc::clone(inner), shown.to_owned(), Arc::clone(wanted));
        move |lock| match already_here(&inner, &wanted) {
            Some(published) => Ok(Looked::Done(Prepared::Here(Box::new(published)))),
            None if is_alone => prepare(&inner, &shown, &wanted, Vec::new(), lock).map(Looked::Done),
            None => Ok(Looked::Locked(lock)),
        }
    };
    let prepared = match transfer::lock_then(inner, shown, wanted.layer.digest, look).await? {
        Looked::Done(prepared) => prepared,
        Looked::Locked(lock) => {
            let sidecars = sidecars(inner, shown, wanted).await?;
            let (inner, shown, wanted) = (Arc::clone(inner), shown.to_owned(), Arc::clone(wanted));
            blocking::run(move || prepare(&inner, &shown, &wanted, sidecars, lock)).await?
        }
    };
    let (ingest, lock, sidecars) = match prepared {
        Prepared::Here(published) => return Ok(*published),
        Prepared::Missing(missing) => *missing,
    };
    inner.reporter.event(&Event::Started {
        reference: shown,
        total_bytes: Some(wanted.layer.size_bytes),
        resumed_at: ingest.offset(),
    });
    let result = transfer(inner, shown, wanted, way, sidecars, ingest, lock).await;
    inner.reporter.event(&match &result {
        Ok(_) => Event::Finished { reference: shown, bytes: wanted.layer.size_bytes },
        Err(_) => Event::Failed { reference: shown },
    });
    result
}

/// The entry, when it is whole. One whose record was lost is written anew. Blocks.
fn already_here(inner: &Inner, wanted: &Wanted) -> Option<Published> {
    let open = inner.store.open(&wanted.resolved.pin, inner.proof).ok().flatten();
    open.filter(|open| !open.entry.rebuilt).map(|open| Published { entry: open.entry, fresh: false })
}

enum Prepared {
    /// The entry is here, or is now: its bytes were under another pin.
    Here(Box<Published>),
    /// The bytes are to be brought, and kept with these documents.
    Missing(Box<(Ingest, Held, Sidecars)>),
}

/// What the first look under the lock came to.
enum Looked {
    Done(Prepared),
    /// The entry is not here, and a document is to be brought before its bytes.
    Locked(Held),
}

/// Links bytes that are here under another pin, or begins to take them in. Blocks.
fn prepare(
    inner: &Inner,
    shown: &str,
    wanted: &Wanted,
    mut sidecars: Sidecars,
    lock: Held,
) -> Result<Prepared, DistError> {
    sidecars.extend(wanted.beside(inner, sidecars.first())?);
    let expected = Expected { digest: wanted.layer.digest, size_bytes: wanted.layer.size_bytes };
    // A copy that cannot be linked is no reason to fail: the registry has the bytes.
    for store in std::iter::once(&inner.store).chain(&inner.neighbours) {
        if let Ok(Some(other)) = store.find_content(&expected.digest)
            && let Ok(entry) = inner.store.adopt_from(lock.lock(), store, &other, wanted.entry(sidecars.clone()))
        {
            return Ok(Prepared::Here(Box::new(Published { entry, fresh: true })));
        }
    }
    let ingest = inner.store.ingest(lock.lock(), expected).map_err(|error| DistError::from_store(shown, error))?;
    Ok(Prepared::Missing(Box::new((ingest, lock, sidecars))))
}

async fn transfer(
    inner: &Arc<Inner>,
    shown: &str,
    wanted: &Arc<Wanted>,
    way: Way,
    sidecars: Sidecars,
    ingest: Ingest,
    lock: Held,
) -> Result<Published, DistError> {
    let request = wanted.net.repository(&wanted.reference).blob(&wanted.layer).from_offset(ingest.offset());
    let wrap = |error| DistError::from_net(shown, error);
    let wanted = Arc::clone(wanted);
    let draft = move |_| wanted.entry(sidecars);
    match way {
        Way::Fastest => {
            let pieces = request.open_pieces().await.map_err(wrap)?;
            transfer::stream_into_store(inner, shown, pieces, ingest, lock, draft).await
        }
        Way::Simplest => {
            let stream = request.open_unverified().await.map_err(wrap)?;
            transfer::stream_into_store(inner, shown, stream, ingest, lock, draft).await
        }
    }
}

impl Wanted {
    /// What a fetcher keeps beside the artifact.
    fn beside(&self, inner: &Inner, component_manifest: Option<&(Sidecar, Vec<u8>)>) -> Result<Sidecars, DistError> {
        let Some(listed) = inner.rule.listed() else { return Ok(Vec::new()) };
        (listed.beside)(&Beside {
            reference: &self.descriptor.raw_ref,
            named: self.resolved.index_digest.unwrap_or(self.resolved.pin),
            manifest: Some(self.resolved.pin),
            media_type: &self.layer.media_type,
            size_bytes: self.layer.size_bytes,
            now: inner.now_secs(),
            component_manifest: component_manifest.map(|(_, bytes)| bytes.as_slice()),
        })
    }

    fn entry(&self, sidecars: Sidecars) -> EntryDraft {
        let manifest = sidecars.iter().find(|(sidecar, _)| *sidecar == Sidecar::ComponentManifest);
        let facts = manifest.map(|(_, bytes)| Facts::read(bytes)).unwrap_or_default();
        let mut record = fetch::record(&self.descriptor);
        record.content_digest = Some(self.layer.digest);
        record.manifest_digest = Some(self.resolved.pin);
        record.index_digest = self.resolved.index_digest;
        record.component_id = Some(facts.component_id.unwrap_or_else(|| self.reference.name()));
        record.abi_version = facts.abi_version;
        record.describe_artifact_ref = facts.describe_artifact_ref;
        EntryDraft { pin: Some(self.resolved.pin), manifest: Some(self.resolved.raw.to_vec()), record, sidecars }
    }
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
    net: &Net,
    shown: &str,
    reference: &Reference,
    pin: Digest,
) -> Result<ResolvedManifest, DistError> {
    if let Some(known) = inner.memo.get(&pin) {
        return Ok(known);
    }
    let FetchedManifest { raw, kind, .. } = net
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

/// The layer that is the component manifest, where there is one and it is wanted.
fn component_manifest<'a>(inner: &Inner, wanted: &'a Wanted) -> Option<&'a Descriptor> {
    wanted.resolved.manifest.component_manifest_layer().filter(|_| inner.rule.wants_component_manifest())
}

/// Fetches the component manifest, when there is one of a sane size.
async fn sidecars(inner: &Arc<Inner>, shown: &str, wanted: &Wanted) -> Result<Sidecars, DistError> {
    let Some(layer) = component_manifest(inner, wanted) else { return Ok(Vec::new()) };
    if layer.size_bytes > limits::SIDECAR_BYTES {
        inner.warn(&format!("the component manifest of `{}` is too large and was left out", SafeText::new(shown)));
        return Ok(Vec::new());
    }
    let wrap = |error| DistError::from_net(shown, error);
    let repository = wanted.net.repository(&wanted.reference);
    let mut stream = repository.blob(layer).open().await.map_err(wrap)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(wrap)?);
    }
    Ok(vec![(Sidecar::ComponentManifest, bytes)])
}
