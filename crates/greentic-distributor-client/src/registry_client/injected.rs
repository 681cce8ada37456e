//! Artifacts that a client of the host brings: found in the cache, or taken into it.

use greentic_dist_store::{
    Entry, EntryDraft, EntryRecord, Expected, OpenEntry, Proof, RefRecord, Sidecar, Store, StoreError, StoreErrorKind,
};
use greentic_dist_types::{Digest, SafeText, media_type};

use super::answer::Answer;
use super::asked::Asked;
use super::fetcher::{FetchRules, Fetched, Fetcher, Named};
use super::{FetchError, PulledImage};
use crate::blocking;
use crate::dist::artifact_rule::{expect_taken, manifest_of};
use crate::dist::entry::snapshot;
use crate::dist::identity::canonical_oci;
use crate::dist::{ArtifactSourceKind, Beside, DistError, Documents, chain};

impl Fetcher {
    /// What the cache has for a reference, proven; `None` when the client is to be asked. A tag is known offline only.
    pub(crate) async fn find(&self, asked: &Asked) -> Result<Option<Fetched>, FetchError> {
        let work = {
            let (store, rules, asked) = (self.store.clone(), self.rules.clone(), asked.clone());
            move || Ok(find(&store, &rules, &asked))
        };
        blocking::run(work).await.map_err(|error| FetchError::from_dist(error, asked))?
    }

    /// Proves what the client returned, without keeping it.
    pub(crate) async fn look_at(&self, asked: &Asked, image: PulledImage) -> Result<Named, FetchError> {
        let work = {
            let (rules, asked) = (self.rules.clone(), asked.clone());
            move || Ok(Answer::check(&asked, image, &rules.listed.layers, None).map(|answer| answer.describe()))
        };
        blocking::run(work).await.map_err(|error| FetchError::from_dist(error, asked))?
    }

    /// Proves what the client returned and keeps it.
    pub(crate) async fn take(&self, asked: &Asked, image: PulledImage) -> Result<Fetched, FetchError> {
        let work = {
            let (store, rules, asked) = (self.store.clone(), self.rules.clone(), asked.clone());
            move || Ok(take(&store, &rules, &asked, image))
        };
        blocking::run(work).await.map_err(|error| FetchError::from_dist(error, asked))?
    }
}

impl Answer {
    fn describe(&self) -> Named {
        Named {
            digest: self.named,
            manifest: self.manifest,
            media_type: self.layer.media_type.clone(),
            size_bytes: self.size_bytes(),
        }
    }
}

fn find(store: &Store, rules: &FetchRules, asked: &Asked) -> Result<Option<Fetched>, FetchError> {
    let pins = match asked.pin() {
        Some(pin) => vec![pin],
        None if !rules.offline => return Ok(None),
        None => remembered(store, asked)?,
    };
    for pin in &pins {
        if let Some(found) = find_pin(store, rules, asked, pin)? {
            return Ok(Some(found));
        }
    }
    match pins.first() {
        _ if !rules.offline => Ok(None),
        Some(pin) => Err(FetchError::OfflineMissing { digest: pin.to_string() }),
        None => Err(FetchError::OfflineTag),
    }
}

fn find_pin(store: &Store, rules: &FetchRules, asked: &Asked, pin: &Digest) -> Result<Option<Fetched>, FetchError> {
    match store.open(pin, Proof::Stamped) {
        Ok(Some(OpenEntry { entry, .. })) if entry.pin == *pin => {
            let kept = manifest_of(store, &entry).map_err(|error| of_store(error, asked))?;
            let refused = |error| FetchError::from_dist(error, asked);
            if let Some(kept) = &kept {
                rules.listed.expect_kept_type(&asked.text, &kept.raw).map_err(refused)?;
            }
            expect_taken(&entry, &asked.text, kept.as_ref(), |manifest| rules.listed.layers.select(manifest))
                .map_err(refused)?;
            store.touch(&entry);
            Ok(Some(fetched(store, &entry, false)))
        }
        Ok(_) => Ok(None),
        Err(error) if *error.kind() == StoreErrorKind::Corrupt && !rules.offline => {
            let reason = SafeText::new(&chain(&error)).to_string();
            tracing::warn!(%pin, reason, "a damaged cached copy is fetched again");
            Ok(None)
        }
        Err(error) => Err(of_store(error, asked)),
    }
}

/// What a tag led to when it was last asked for: what a client of the host said, then what a registry did.
fn remembered(store: &Store, asked: &Asked) -> Result<Vec<Digest>, FetchError> {
    let mut pins = Vec::new();
    for key in [said_key(asked), asked.target().memory_key()] {
        pins.extend(store.recall(&key).map_err(|error| of_store(error, asked))?.map(|record| record.pin));
    }
    Ok(pins)
}

/// The name under which `refs/` remembers what a client of the host said about a tag: apart from what registries proved, which it
/// must not replace.
fn said_key(asked: &Asked) -> String {
    format!("{} of a client", asked.target().memory_key())
}

fn take(store: &Store, rules: &FetchRules, asked: &Asked, image: PulledImage) -> Result<Fetched, FetchError> {
    let wants_manifest = rules.listed.artifact_type == greentic_dist_types::ArtifactType::Component;
    let beside = wants_manifest.then_some(media_type::COMPONENT_MANIFEST);
    let answer = Answer::check(asked, image, &rules.listed.layers, beside)?;
    let now = store.options().clock.now();
    let now = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let draft = draft(rules, asked, &answer, now).map_err(|error| FetchError::from_dist(error, asked))?;
    let entry = keep(store, &answer, draft).map_err(|error| of_store(error, asked))?;
    if asked.pin().is_none() {
        let record = RefRecord::new(said_key(asked), answer.named, now);
        // A tag that cannot be written down is not known offline; the artifact is here.
        if let Err(error) = store.remember(&record) {
            tracing::debug!(%error, "a tag was not remembered");
        }
    }
    // What is here now: an entry with a proof may have been first, and stays.
    Ok(fetched(store, &entry, true))
}

/// What the entry of an answer will say.
fn draft(rules: &FetchRules, asked: &Asked, answer: &Answer, now: u64) -> Result<EntryDraft, DistError> {
    let Answer { named, manifest, content, layer, component_manifest } = answer;
    let canonical = canonical_oci(&asked.reference, named);
    let source = snapshot(&asked.text, &canonical, ArtifactSourceKind::Oci);
    let mut record = EntryRecord::new(rules.listed.artifact_type, source, layer.media_type.as_str());
    record.content_type = Some(layer.media_type.clone());
    record.manifest_digest = *manifest;
    record.component_id = Some(asked.reference.name());
    record.vouched = named != content;
    let mut sidecars = Documents::new();
    if let Some(bytes) = component_manifest {
        sidecars.push((Sidecar::ComponentManifest, bytes.clone()));
    }
    sidecars.extend((rules.listed.beside)(&Beside {
        reference: &asked.text,
        named: *named,
        manifest: *manifest,
        media_type: &layer.media_type,
        size_bytes: answer.size_bytes(),
        now,
        component_manifest: component_manifest.as_deref(),
    })?);
    Ok(EntryDraft { pin: Some(*named), manifest: None, record, sidecars })
}

/// Writes the bytes as any others: hashed while they are written, and published by one rename.
fn keep(store: &Store, answer: &Answer, draft: EntryDraft) -> Result<Entry, StoreError> {
    let lock = store.lock(&answer.content, &mut |_| {})?;
    let expected = Expected { digest: answer.content, size_bytes: answer.size_bytes() };
    let mut ingest = store.ingest(&lock, expected)?;
    let from = usize::try_from(ingest.offset()).unwrap_or(usize::MAX);
    ingest.write(answer.layer.data.get(from..).unwrap_or_default())?;
    let published = store.publish(ingest.finish()?.stage(draft)?)?;
    Ok(published.entry)
}

fn fetched(store: &Store, entry: &Entry, from_network: bool) -> Fetched {
    let record = &entry.record;
    Fetched {
        named: Named {
            digest: entry.pin,
            manifest: record.manifest_digest,
            media_type: record.media_type.clone(),
            size_bytes: record.size_bytes,
        },
        // Handed out as it lies where it cannot be given the name.
        path: store.own_name(entry).unwrap_or_else(|_| entry.path.clone()),
        content: entry.content_digest,
        from_network,
    }
}

fn of_store(error: StoreError, asked: &Asked) -> FetchError {
    FetchError::from_dist(DistError::from_store(&asked.text, error), asked)
}
