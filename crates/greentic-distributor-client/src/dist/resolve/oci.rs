//! OCI references: a pin that is here costs no request, a tag costs one.

use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{FetchedImage, FetchedManifest, NetError, Repository, Selector};
use greentic_dist_store::{Entry, RefRecord};
use greentic_dist_types::media_type::{ManifestType, essence, manifest_type};
use greentic_dist_types::{
    Descriptor, Digest, Index, LayerChoice, Manifest, ManifestKind, Reference, SafeText, SelectError,
    parse_kept_manifest, select_exactly, select_portable,
};
use serde_json::{Map, Value};

use crate::blocking;
use crate::dist::artifact_rule::{KeptManifest, manifest_of};
use crate::dist::client::Inner;
use crate::dist::entry::descriptor_of;
use crate::dist::identity::canonical_oci;
use crate::dist::memo::ResolvedManifest;
use crate::dist::{ArtifactDescriptor, ArtifactSourceKind, ArtifactType, DistError, ResolvedVia, neighbours};

/// Largest image index that is remembered with a tag, in bytes: a record holds it as a JSON text.
const REMEMBERED_INDEX_BYTES: usize = 96 << 10;

/// A reference with its registry, and how it came to be.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) reference: Reference,
    pub(crate) raw_ref: String,
    pub(crate) kind: ArtifactSourceKind,
    pub(crate) via: ResolvedVia,
    /// Whose login opens it, for packages of a tenant.
    pub(crate) tenant: Option<String>,
}

impl Target {
    /// The name under which `refs/` remembers what this reference resolved to. A pinned index has one too, since its
    /// entry is named by the chosen manifest.
    pub(crate) fn memory_key(&self) -> String {
        match self.reference.digest() {
            Some(digest) => format!("oci://{}@{digest}", self.reference.name()),
            None => format!("oci://{}:{}", self.reference.name(), self.reference.tag_or_latest()),
        }
    }

    fn selector(&self) -> Selector<'_> {
        match self.reference.digest() {
            Some(digest) => Selector::Digest(digest),
            None => Selector::Tag(self.reference.tag_or_latest()),
        }
    }
}

/// What the cache knows of a target before anybody is asked.
struct Known {
    memory: Option<RefRecord>,
    descriptor: Option<ArtifactDescriptor>,
}

impl Known {
    /// The index that led to what is known, where there was one.
    fn index_digest(&self) -> Option<Digest> {
        self.memory.as_ref().and_then(|memory| memory.index_digest)
    }
}

pub(crate) async fn resolve(
    inner: &Arc<Inner>,
    target: &Target,
    offline: bool,
) -> Result<ArtifactDescriptor, DistError> {
    let Resolution { descriptor, resolved_by, .. } = resolve_named(inner, target, offline).await?;
    inner.memo.note_resolved_by(&descriptor, resolved_by);
    Ok(descriptor)
}

/// What a reference means, and how that is known.
pub(crate) struct Resolution {
    pub(crate) descriptor: ArtifactDescriptor,
    /// The index that the reference names, where it names one.
    pub(crate) index_digest: Option<Digest>,
    /// Whether no manifest had to be fetched.
    pub(crate) from_cache: bool,
    /// The endpoint that said what the reference means, where one was asked.
    pub(crate) resolved_by: Option<String>,
}

/// As [`resolve`], with what fetchers tell beside the descriptor.
pub(crate) async fn resolve_named(inner: &Arc<Inner>, target: &Target, offline: bool) -> Result<Resolution, DistError> {
    if target.reference.digest().is_none() && !inner.options.allow_tags {
        return Err(DistError::TagNotAllowed { reference: target.raw_ref.clone() });
    }
    let known = recall(inner, target, offline).await?;
    let is_pin = target.reference.digest().is_some();
    if let Some(descriptor) = known.descriptor.as_ref()
        && (is_pin || offline)
    {
        return Ok(cached(descriptor, known.index_digest()));
    }
    if let Some(descriptor) = remembered(inner, target)? {
        return Ok(cached(&descriptor, None));
    }
    if offline && let Some(resolution) = of_neighbours(inner, target).await? {
        return Ok(resolution);
    }
    // A missing login is told first, as it is worth knowing in any case.
    let net = inner.net_for(target.tenant.as_deref(), &target.raw_ref).await?;
    if offline {
        return Err(DistError::Offline { reference: target.raw_ref.clone() });
    }
    let repository = net.repository(&target.reference);
    let wrap = |error| DistError::from_net(&target.raw_ref, error);
    // Only a tag whose artifact is here can be answered by "not modified".
    let found = match (&known.memory, &known.descriptor) {
        (Some(memory), Some(descriptor)) => {
            let named = memory.index_digest.unwrap_or(memory.pin);
            let tag = target.reference.tag_or_latest();
            let said = repository.revalidate(tag, memory.etag.as_deref(), &named).await.map_err(wrap)?;
            let Some(manifest) = said.changed else {
                note_pinned_index(inner, target, memory).await?;
                let resolved_by = Some(said.served_by);
                return Ok(Resolution { resolved_by, ..cached(descriptor, known.index_digest()) });
            };
            manifest
        }
        _ => repository.manifest(target.selector()).await.map_err(wrap)?,
    };
    let resolved_by = Some(found.served_by.clone());
    let content = |manifest: &Manifest| inner.rule.taken(manifest).ok().map(|choice| choice.layer.digest);
    let image = image_of(inner, &repository, found, content).await.map_err(wrap)?;
    let index_digest = image.index.as_ref().map(|index| index.digest);
    let descriptor = describe(inner, target, image)?;
    if let Some(memory) = known.memory.filter(|_| !is_pin)
        && memory.pin.to_string() != descriptor.digest
    {
        let raw_ref = SafeText::excerpt(&target.raw_ref, 200);
        inner.warn(&format!("`{raw_ref}` was {} and is now {}", memory.pin, descriptor.digest));
    }
    Ok(Resolution { descriptor, index_digest, from_cache: false, resolved_by })
}

/// Goes on from a manifest to the image for this client. Artifacts are the same on every platform, so that a common one does where
/// an index has none for Wasm, if it holds what the others hold by `content`; who was given a platform gets no other.
pub(crate) async fn image_of<T: PartialEq>(
    inner: &Inner,
    repository: &Repository,
    found: FetchedManifest,
    content: impl Fn(&Manifest) -> T,
) -> Result<FetchedImage, NetError> {
    if inner.has_own_platform() {
        return repository.follow_exactly(found, &inner.platform).await;
    }
    repository.follow_portable(found, &inner.platform, content).await
}

/// The entry of an index that [`image_of`] goes on with, and the other one that must hold the same, where there is one.
fn entries_of<'a>(inner: &Inner, index: &'a Index) -> Result<(&'a Descriptor, Option<&'a Descriptor>), SelectError> {
    if inner.has_own_platform() {
        return select_exactly(index, &inner.platform).map(|entry| (entry, None));
    }
    select_portable(index, &inner.platform)
}

/// The entry of an index that [`image_of`] goes on with, unless that takes a look at another one first.
pub(crate) fn certain_entry<'a>(inner: &Inner, index: &'a Index) -> Option<&'a Descriptor> {
    entries_of(inner, index).ok().filter(|(_, other)| other.is_none()).map(|(entry, _)| entry)
}

fn cached(descriptor: &ArtifactDescriptor, index_digest: Option<Digest>) -> Resolution {
    Resolution { descriptor: descriptor.clone(), index_digest, from_cache: true, resolved_by: None }
}

/// The descriptor of a pinned manifest that this client fetched before: a fetcher is often asked what a pin means, and then for
/// the artifact.
fn remembered(inner: &Inner, target: &Target) -> Result<Option<ArtifactDescriptor>, DistError> {
    let pin = target.reference.digest().filter(|_| inner.rule.listed().is_some());
    let Some(known) = pin.and_then(|pin| inner.memo.get(&pin)) else { return Ok(None) };
    descriptor_from(inner, target, &known.pin, &known.manifest).map(Some)
}

/// Looks into the cache: the entry of a pin, or of what a tag meant when it was last asked.
async fn recall(inner: &Arc<Inner>, target: &Target, offline: bool) -> Result<Known, DistError> {
    let (inner, target) = (Arc::clone(inner), target.clone());
    blocking::run(move || {
        let wrap = |error| DistError::from_store(&target.raw_ref, error);
        let as_asked = |entry: &Entry, pin: &Digest| {
            let mut descriptor = match of_this_rule(&inner, &target, entry) {
                Some(descriptor) => descriptor?,
                None => descriptor_of(entry),
            };
            descriptor.raw_ref.clone_from(&target.raw_ref);
            descriptor.source_kind = target.kind;
            descriptor.resolved_via = target.via;
            descriptor.canonical_ref = canonical_oci(&target.reference, pin);
            Ok::<_, DistError>(descriptor)
        };
        if let Some(pin) = target.reference.digest()
            && let Some(entry) = stat_tolerant(&inner, &pin, offline).map_err(wrap)?
            && entry.pin == pin
        {
            return Ok(Known { memory: None, descriptor: Some(as_asked(&entry, &pin)?) });
        }
        let memory = inner.store.recall(&target.memory_key()).map_err(wrap)?;
        let proven = memory.and_then(|memory| proven_pin(&inner, &target, &memory).map(|pin| (memory, pin)));
        let Some((memory, pin)) = proven else {
            return Ok(Known { memory: None, descriptor: None });
        };
        let entry = stat_tolerant(&inner, &pin, offline).map_err(wrap)?.filter(|entry| entry.pin == pin);
        let as_asked = |entry: Entry| {
            if let Some(listed) = inner.rule.listed() {
                kept_indexes(&memory).try_for_each(|raw| listed.expect_kept_type(&target.raw_ref, raw.as_bytes()))?;
            }
            as_asked(&entry, &pin)
        };
        let descriptor = match entry.map(as_asked).transpose() {
            // What a tag meant is of no use to this client; the registry is asked what it means now.
            Err(_) if !offline && target.reference.digest().is_none() => None,
            other => other?,
        };
        Ok(Known { memory: Some(memory), descriptor })
    })
    .await
}

/// What a reference means by the other caches of this user: the manifest of a pin, or of what a tag meant to the client that was
/// asked for it last. What this cache itself remembers of a tag comes first, then the others in their order.
async fn of_neighbours(inner: &Arc<Inner>, target: &Target) -> Result<Option<Resolution>, DistError> {
    let (inner, target) = (Arc::clone(inner), target.clone());
    blocking::run(move || {
        let key = target.memory_key();
        let memories = std::iter::once(&inner.store).chain(&inner.neighbours).filter_map(|store| {
            let memory = store.recall(&key).ok().flatten()?;
            proven_pin(&inner, &target, &memory).map(|pin| (pin, Some(memory)))
        });
        // No memory is needed for the pin of a manifest.
        let pins = target.reference.digest().map(|pin| (pin, None)).into_iter().chain(memories);
        for (pin, memory) in pins {
            let Some(kept) = neighbours::kept_manifest(&inner, &pin) else { continue };
            if let Some(listed) = inner.rule.listed() {
                let indexes = memory.iter().flat_map(kept_indexes).map(str::as_bytes);
                let mut kept = indexes.chain([kept.raw.as_slice()]);
                kept.try_for_each(|raw| listed.expect_kept_type(&target.raw_ref, raw))?;
            }
            let descriptor = descriptor_from(&inner, &target, &pin, &kept.manifest)?;
            let index_digest = memory.as_ref().and_then(|memory| memory.index_digest);
            let KeptManifest { manifest, raw } = kept;
            let index = memory.as_ref().and_then(|memory| memory.index.clone()).map(Bytes::from);
            let refs = memory.into_iter().collect();
            inner.memo.insert(ResolvedManifest { pin, raw: raw.into(), manifest, index_digest, index, refs });
            return Ok(Some(Resolution { descriptor, index_digest, from_cache: true, resolved_by: None }));
        }
        Ok(None)
    })
    .await
}

/// The descriptor by this client's rule, when an entry holds another layer than that rule takes of its manifest, and the error
/// when it takes no such manifest. What a reference means does not depend on who asked first.
fn of_this_rule(inner: &Inner, target: &Target, entry: &Entry) -> Option<Result<ArtifactDescriptor, DistError>> {
    // Damage is told by whoever opens the entry.
    let kept = manifest_of(&inner.store, entry).ok()??;
    if let Some(Err(error)) = inner.rule.listed().map(|listed| listed.expect_kept_type(&target.raw_ref, &kept.raw)) {
        return Some(Err(error));
    }
    match inner.rule.taken(&kept.manifest) {
        Ok(choice) if choice.layer.digest == entry.content_digest => None,
        _ => Some(descriptor_from(inner, target, &entry.pin, &kept.manifest)),
    }
}

/// What a remembered reference leads to for this client's platform. A pin that names an index is believed only with the
/// index that proves it: a digest that a person wrote is never answered by a note alone.
fn proven_pin(inner: &Inner, target: &Target, memory: &RefRecord) -> Option<Digest> {
    let Some(named) = memory.index_digest else {
        return target.reference.digest().is_none().then_some(memory.pin);
    };
    if target.reference.digest().is_some_and(|asked| asked != named) {
        return None;
    }
    let same_platform = memory.extra.get(PLATFORM).and_then(Value::as_str) == Some(&inner.platform.to_string());
    // For a tag, which nobody pinned, the choice made for this very platform holds where an index was too large to be kept.
    let noted = || (target.reference.digest().is_none() && same_platform).then_some(memory.pin);
    let mut current = named;
    for raw in kept_indexes(memory) {
        if Digest::of(current.algorithm(), raw.as_bytes()) != current {
            return None;
        }
        let Ok(ManifestKind::Index(index)) = parse_kept_manifest(raw.as_bytes()) else { return None };
        let (entry, other) = entries_of(inner, &index).ok()?;
        // That the common platforms hold the same is known where this very choice was made before.
        if other.is_some() && !same_platform {
            return None;
        }
        current = entry.digest;
        if manifest_type(&essence(&entry.media_type)) != ManifestType::Index {
            return Some(current);
        }
    }
    noted()
}

/// The indexes that a reference led through, the outermost one first, as far as they are kept.
fn kept_indexes(memory: &RefRecord) -> impl Iterator<Item = &str> {
    let inner = memory.extra.get(INNER_INDEXES).and_then(Value::as_array).into_iter().flatten();
    memory.index.as_deref().into_iter().chain(inner.filter_map(Value::as_str))
}

/// What is remembered of the index that a tag led to, under its digest: that is what people are told, and ask for offline.
fn of_pinned_index(target: &Target, of_tag: &RefRecord, index: Digest) -> Option<RefRecord> {
    let key = format!("oci://{}@{index}", target.reference.name());
    let is_tag = target.reference.digest().is_none();
    // Without the index nothing would prove it.
    (is_tag && of_tag.index.is_some()).then(|| RefRecord { reference: key, etag: None, ..of_tag.clone() })
}

/// Remembers a pinned index whose tag was remembered by a version that did not.
async fn note_pinned_index(inner: &Arc<Inner>, target: &Target, of_tag: &RefRecord) -> Result<(), DistError> {
    let record = of_tag.index_digest.and_then(|index| of_pinned_index(target, of_tag, index));
    let Some(record) = record else { return Ok(()) };
    let inner = Arc::clone(inner);
    blocking::run(move || {
        if let Ok(None) = inner.store.recall(&record.reference)
            && let Err(error) = inner.store.remember(&record)
        {
            tracing::debug!(%error, "a pinned index was not remembered");
        }
        Ok(())
    })
    .await
}

/// The field of a remembered reference that says for which platform an index was narrowed.
const PLATFORM: &str = "platform";
/// The field of a remembered reference with the indexes below its index, where indexes are nested.
const INNER_INDEXES: &str = "inner_indexes";

/// A damaged entry is no entry here: online it is fetched again, offline `fetch` says exactly what is wrong with it.
fn stat_tolerant(inner: &Inner, pin: &Digest, offline: bool) -> Result<Option<Entry>, greentic_dist_store::StoreError> {
    use greentic_dist_store::StoreErrorKind;
    match inner.store.stat(pin) {
        Err(error) if matches!(error.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Missing) && !offline => Ok(None),
        other => other,
    }
}

/// Makes the descriptor of a proven manifest and remembers it for the fetch.
fn describe(inner: &Inner, target: &Target, image: FetchedImage) -> Result<ArtifactDescriptor, DistError> {
    expect_manifest_types(inner, target, &image)?;
    let FetchedImage { index, inner_indexes, manifest } = image;
    let FetchedManifest { raw, digest: pin, etag, kind, .. } = manifest;
    let ManifestKind::Image(parsed) = kind else {
        return Err(DistError::InvalidInput(format!("`{}` did not lead to an image manifest", target.raw_ref)));
    };
    // One that is no artifact of ours is remembered all the same: it can be described.
    let descriptor = descriptor_from(inner, target, &pin, &parsed);
    let index_digest = index.as_ref().map(|index| index.digest);
    // A pin that is its own manifest needs no memory: its entry is named after it.
    let refs = if target.reference.digest() == Some(pin) {
        Vec::new()
    } else {
        let mut record = RefRecord::new(target.memory_key(), pin, inner.now_secs());
        record.index_digest = index_digest;
        // What is too large to be kept is asked for again next time.
        let mut room = REMEMBERED_INDEX_BYTES;
        let mut kept = index.iter().chain(&inner_indexes).map_while(|index| {
            room = room.checked_sub(index.raw.len())?;
            String::from_utf8(index.raw.to_vec()).ok()
        });
        record.index = kept.next();
        let inner_indexes: Vec<_> = kept.map(Value::String).collect();
        if !inner_indexes.is_empty() {
            record.extra.insert(INNER_INDEXES.to_owned(), Value::Array(inner_indexes));
        }
        if index.is_some() {
            record.extra.insert(PLATFORM.to_owned(), Value::String(inner.platform.to_string()));
        }
        record.etag = index.as_ref().map_or(etag, |index| index.etag.clone());
        let pinned = index_digest.and_then(|index| of_pinned_index(target, &record, index));
        std::iter::once(record).chain(pinned).collect()
    };
    let index = index.map(|index| index.raw);
    inner.memo.insert(ResolvedManifest { pin, raw, manifest: *parsed, index_digest, index, refs });
    descriptor
}

/// The descriptor of the artifact that a proven manifest holds.
fn descriptor_from(
    inner: &Inner,
    target: &Target,
    pin: &Digest,
    manifest: &Manifest,
) -> Result<ArtifactDescriptor, DistError> {
    let (artifact_type, layer) = choose(inner, target, manifest)?;
    Ok(ArtifactDescriptor {
        artifact_type,
        source_kind: target.kind,
        raw_ref: target.raw_ref.clone(),
        canonical_ref: canonical_oci(&target.reference, pin),
        digest: pin.to_string(),
        media_type: layer.media_type.clone(),
        size_bytes: layer.size_bytes,
        created_at: None,
        annotations: annotations(manifest),
        manifest_digest: Some(pin.to_string()),
        resolved_via: target.via,
        signature_refs: Vec::new(),
        sbom_refs: Vec::new(),
    })
}

/// Whether what came is of a manifest type that a fetcher takes.
fn expect_manifest_types(inner: &Inner, target: &Target, image: &FetchedImage) -> Result<(), DistError> {
    let Some(listed) = inner.rule.listed() else { return Ok(()) };
    let mut came = image.index.iter().chain(&image.inner_indexes).chain([&image.manifest]);
    came.try_for_each(|found| listed.expect_manifest_type(&target.raw_ref, &found.media_type))
}

/// The publisher's annotations, as descriptors and records have them.
pub(crate) fn annotations(manifest: &Manifest) -> Map<String, Value> {
    manifest.annotations.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

/// What the manifest holds, and the layer that it is. The packages of a tenant may be packs whose type does not say so.
fn choose(inner: &Inner, target: &Target, manifest: &Manifest) -> Result<(ArtifactType, Descriptor), DistError> {
    if let Some(listed) = inner.rule.listed() {
        return Ok((listed.artifact_type, layer_of(inner, &target.raw_ref, listed.artifact_type, manifest)?));
    }
    let (artifact_type, choice) = match manifest.artifact_layer() {
        Ok((ArtifactType::Pack, choice)) if target.tenant.is_some() => (ArtifactType::Bundle, choice),
        Ok(found) => found,
        Err(source) => match manifest.pack_layer() {
            Ok(choice) if target.tenant.is_some() => (ArtifactType::Bundle, choice),
            _ => return Err(inner.not_selected(&target.raw_ref, source)),
        },
    };
    let layer = within_limit(inner, &target.raw_ref, &choice)?;
    Ok((artifact_type, layer))
}

/// The layer that is an artifact of this type, within the limit: the same that was chosen when it was resolved.
pub(crate) fn layer_of(
    inner: &Inner,
    shown: &str,
    artifact_type: ArtifactType,
    manifest: &Manifest,
) -> Result<Descriptor, DistError> {
    let choice = inner.rule.choose(artifact_type, manifest);
    let choice = choice.map_err(|source| inner.not_selected(shown, source))?;
    within_limit(inner, shown, &choice)
}

pub(crate) fn within_limit(inner: &Inner, shown: &str, choice: &LayerChoice<'_>) -> Result<Descriptor, DistError> {
    if choice.layer.size_bytes > inner.limits.artifact_bytes {
        return Err(DistError::TooLarge { reference: shown.to_owned(), limit_bytes: inner.limits.artifact_bytes });
    }
    tracing::debug!(reference = shown, media_type = %choice.layer.media_type, reason = %choice.reason, "layer chosen");
    Ok(choice.layer.clone())
}
