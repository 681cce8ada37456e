//! OCI artifacts on their way into the cache: a link to bytes that are here under another name, or a verified transfer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_net::{BlobEvent, FetchedManifest, Net, Selector};
use greentic_dist_store::{Entry, EntryDraft, Expected, Ingest, Published, Sidecar, StoreError};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Reference, SafeText, SourceRef, limits};

use super::artifact_rule::other_layer;
use super::client::Inner;
use super::component_manifest::Facts;
use super::memo::ResolvedManifest;
use super::transfer::Held;
use super::{
    ArtifactDescriptor, Beside, DistError, DistErrorKind, cache, fetch, neighbours, resolve, source, transfer,
};
use crate::blocking;
use crate::progress::Event;

/// Times the same bytes are asked for from the start when what came was wrong: once more, in case a cache between was
/// stale, and then it is the registry's answer. Each mirror that lied makes room for one try more.
const TRIES: usize = 2;

/// An artifact that is in the cache now.
pub(super) struct Brought {
    pub(super) entry: Entry,
    /// Whether this call brought it.
    pub(super) fresh: bool,
    /// The endpoints that sent its bytes.
    pub(super) served_by: Vec<String>,
}

/// Brings the artifact of a pinned descriptor into the cache.
pub(super) async fn fetch(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<Brought, DistError> {
    let shown = descriptor.raw_ref.as_str();
    let reference = pinned_reference(descriptor)?;
    let pin = cache::parse_digest(&descriptor.digest)?;
    let net = inner.net_for(resolve::tenant_of(inner, descriptor).as_deref(), shown).await?;
    let resolved = manifest_for(inner, &net, shown, &reference, pin).await?;
    let wanted = Arc::new(Wanted::new(inner, descriptor, reference, resolved)?);
    let mut tries = 0;
    let published = loop {
        tries += 1;
        // What was put together from parts and is wrong is asked for in one.
        let way = if tries == 1 { Way::Fastest } else { Way::Simplest };
        match bring(inner, shown, &net, &wanted, way).await {
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
    let served_by = std::mem::take(&mut *wanted.senders());
    Ok(Brought { entry: published.entry, fresh: published.fresh, served_by })
}

fn mirrors(inner: &Inner, shown: &str, wanted: &Wanted) -> Result<usize, DistError> {
    Ok(inner.net(shown)?.repository(&wanted.reference).mirrors())
}

/// Brings the artifact of a pinned descriptor from the other caches of this user. `None` when none of them has all of it. Opens no
/// socket.
pub(super) async fn adopt(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<Option<Entry>, DistError> {
    let shown = descriptor.raw_ref.as_str();
    let reference = pinned_reference(descriptor)?;
    let pin = cache::parse_digest(&descriptor.digest)?;
    let resolved = match inner.memo.get(&pin) {
        Some(known) => Some(known),
        None => neighbours::manifest(inner, pin).await?,
    };
    let Some(resolved) = resolved else { return Ok(None) };
    let wanted = Arc::new(Wanted::new(inner, descriptor, reference, resolved)?);
    let content = wanted.layer.digest;
    if !neighbours::have(inner, content).await? {
        return Ok(None);
    }
    let look = {
        let (inner, wanted) = (Arc::clone(inner), Arc::clone(&wanted));
        move |lock: Held| {
            if let Some(published) = already_here(&inner, &wanted) {
                return Ok(Some(published.entry));
            }
            let mut sidecars = Vec::new();
            if let Some(layer) = component_manifest(&inner, &wanted).filter(|layer| is_kept(layer)) {
                let Some(bytes) = neighbours::component_manifest(&inner, &pin, layer) else { return Ok(None) };
                sidecars.push((Sidecar::ComponentManifest, bytes));
            }
            sidecars.extend(wanted.beside(&inner, sidecars.first())?);
            Ok(link(&inner, &wanted, &sidecars, &lock))
        }
    };
    let entry = transfer::lock_then(inner, shown, content, look).await?;
    let Some(entry) = entry else { return Ok(None) };
    if entry.content_digest != content {
        return Err(other_layer(&entry, shown));
    }
    fetch::remember(inner, &pin).await?;
    Ok(Some(entry))
}

/// What is to be brought, and everything an entry will say about where it came from.
struct Wanted {
    descriptor: ArtifactDescriptor,
    reference: Reference,
    resolved: ResolvedManifest,
    layer: Descriptor,
    /// The endpoints that sent bytes in the present attempt.
    served_by: Mutex<Vec<String>>,
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
async fn bring(
    inner: &Arc<Inner>,
    shown: &str,
    net: &Net,
    wanted: &Arc<Wanted>,
    way: Way,
) -> Result<Published, DistError> {
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
            let sidecars = sidecars(inner, shown, net, wanted).await?;
            let (inner, shown, wanted) = (Arc::clone(inner), shown.to_owned(), Arc::clone(wanted));
            blocking::run(move || prepare(&inner, &shown, &wanted, sidecars, lock)).await?
        }
    };
    let missing = match prepared {
        Prepared::Here(published) => return Ok(*published),
        Prepared::Missing(missing) => *missing,
    };
    inner.reporter.event(&Event::Started {
        reference: shown,
        total_bytes: Some(wanted.layer.size_bytes),
        resumed_at: missing.ingest.offset(),
    });
    let result = transfer(inner, shown, net, wanted, way, missing).await;
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
    /// The bytes are to be brought.
    Missing(Box<Missing>),
}

/// Bytes on their way in.
struct Missing {
    ingest: Ingest,
    lock: Held,
    /// What they are kept with.
    sidecars: Sidecars,
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
    if let Some(entry) = link(inner, wanted, &sidecars, &lock) {
        return Ok(Prepared::Here(Box::new(Published { entry, fresh: true })));
    }
    let expected = Expected { digest: wanted.layer.digest, size_bytes: wanted.layer.size_bytes };
    let ingest = inner.store.ingest(lock.lock(), expected).map_err(|error| DistError::from_store(shown, error))?;
    Ok(Prepared::Missing(Box::new(Missing { ingest, lock, sidecars })))
}

/// Publishes the entry with bytes that are here under another pin, or in another cache of this user. A copy that cannot be linked is
/// as good as none. Blocks.
fn link(inner: &Inner, wanted: &Wanted, sidecars: &Sidecars, lock: &Held) -> Option<Entry> {
    std::iter::once(&inner.store).chain(&inner.neighbours).find_map(|store| {
        let other = store.find_content(&wanted.layer.digest).ok().flatten()?;
        let linked = inner.store.adopt_from(lock.lock(), store, &other, wanted.entry(sidecars.clone()));
        let why = |error: &StoreError| {
            let why = SafeText::new(&super::error::chain(error)).to_string();
            tracing::debug!(pin = %other.pin, why, "bytes of another entry are not linked");
        };
        linked.inspect_err(why).ok()
    })
}

async fn transfer(
    inner: &Arc<Inner>,
    shown: &str,
    net: &Net,
    wanted: &Arc<Wanted>,
    way: Way,
    missing: Missing,
) -> Result<Published, DistError> {
    let Missing { ingest, lock, sidecars } = missing;
    wanted.senders().clear();
    let watched = Arc::clone(wanted);
    let request = net.repository(&wanted.reference).blob(&wanted.layer).from_offset(ingest.offset());
    let request = request.progress(move |event| watched.note(event));
    let wrap = |error| DistError::from_net(shown, error);
    let wanted = Arc::clone(wanted);
    let draft = move |_| wanted.entry(sidecars);
    match way {
        Way::Fastest => {
            let pieces = request.open_pieces_unverified().await.map_err(wrap)?;
            transfer::stream_into_store(inner, shown, pieces, ingest, lock, draft).await
        }
        Way::Simplest => {
            let stream = request.open_unverified().await.map_err(wrap)?;
            transfer::stream_into_store(inner, shown, stream, ingest, lock, draft).await
        }
    }
}

impl Wanted {
    fn new(
        inner: &Inner,
        descriptor: &ArtifactDescriptor,
        reference: Reference,
        resolved: ResolvedManifest,
    ) -> Result<Self, DistError> {
        let (shown, artifact_type) = (&descriptor.raw_ref, descriptor.artifact_type);
        let layer = resolve::oci::layer_of(inner, shown, artifact_type, &resolved.manifest)?;
        Ok(Self { descriptor: descriptor.clone(), reference, resolved, layer, served_by: Mutex::default() })
    }

    fn senders(&self) -> MutexGuard<'_, Vec<String>> {
        self.served_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an endpoint that sends bytes.
    fn note(&self, event: &BlobEvent<'_>) {
        let BlobEvent::Endpoint { endpoint } = event else { return };
        let mut senders = self.senders();
        if !senders.iter().any(|known| known == endpoint) {
            senders.push((*endpoint).to_owned());
        }
    }

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
            let resolved =
                ResolvedManifest { pin, raw, manifest: *manifest, index_digest: None, index: None, refs: Vec::new() };
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

/// Whether a component manifest is of a size that is kept.
const fn is_kept(layer: &Descriptor) -> bool {
    layer.size_bytes <= limits::SIDECAR_BYTES
}

/// Fetches the component manifest, when there is one of a sane size.
async fn sidecars(inner: &Arc<Inner>, shown: &str, net: &Net, wanted: &Wanted) -> Result<Sidecars, DistError> {
    let Some(layer) = component_manifest(inner, wanted) else { return Ok(Vec::new()) };
    if !is_kept(layer) {
        inner.warn(&format!("the component manifest of `{}` is too large and was left out", SafeText::new(shown)));
        return Ok(Vec::new());
    }
    let wrap = |error| DistError::from_net(shown, error);
    let repository = net.repository(&wanted.reference);
    let mut stream = repository.blob(layer).open().await.map_err(wrap)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(wrap)?);
    }
    Ok(vec![(Sidecar::ComponentManifest, bytes)])
}
