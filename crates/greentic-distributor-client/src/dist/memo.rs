//! What a resolve learned and the fetch behind it will need: manifests, and the tags that led to them.
//!
//! In memory only and bounded. A tag is written to disk when the artifact it names is in the cache, never before, so that
//! a failed pull leaves nothing behind.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use greentic_dist_store::RefRecord;
use greentic_dist_types::{Digest, Manifest};

use super::ArtifactDescriptor;

/// A manifest that was fetched and proven, and where its name came from.
#[derive(Clone, Debug)]
pub(super) struct ResolvedManifest {
    pub(super) pin: Digest,
    pub(super) raw: Bytes,
    pub(super) manifest: Manifest,
    pub(super) index_digest: Option<Digest>,
    /// The bytes of that index.
    pub(super) index: Option<Bytes>,
    pub(super) refs: Vec<RefRecord>,
}

/// Most manifests kept.
const ENTRIES: usize = 512;
/// Most bytes of manifests kept.
const BYTES: usize = 16 << 20;
/// Most tags kept with one manifest.
const REFS: usize = 64;

/// The memory of one client. Oldest first out.
#[derive(Debug, Default)]
pub(super) struct Memo(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_pin: HashMap<Digest, ResolvedManifest>,
    order: VecDeque<Digest>,
    bytes: usize,
    brought: HashSet<Digest>,
    offline: HashSet<Digest>,
    /// By reference and pin, the endpoint that said that the one means the other.
    resolved_by: HashMap<(String, String), String>,
    resolved_order: VecDeque<(String, String)>,
}

impl ResolvedManifest {
    fn size(&self) -> usize {
        self.raw.len() + self.index.as_ref().map_or(0, Bytes::len)
    }
}

impl Memo {
    /// Remembers a manifest; tags of an earlier one with the same pin are kept too.
    pub(super) fn insert(&self, mut resolved: ResolvedManifest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inner.by_pin.get_mut(&resolved.pin) {
            for record in resolved.refs.drain(..) {
                known.refs.retain(|other| other.reference != record.reference);
                if known.refs.len() < REFS {
                    known.refs.push(record);
                }
            }
            if resolved.index_digest.is_some() {
                let before = known.size();
                (known.index_digest, known.index) = (resolved.index_digest, resolved.index);
                let now = known.size();
                inner.bytes = inner.bytes.saturating_sub(before) + now;
            }
            return;
        }
        inner.bytes += resolved.size();
        inner.order.push_back(resolved.pin);
        inner.by_pin.insert(resolved.pin, resolved);
        while inner.order.len() > ENTRIES || (inner.bytes > BYTES && inner.order.len() > 1) {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(gone) = inner.by_pin.remove(&oldest) {
                inner.bytes = inner.bytes.saturating_sub(gone.size());
            }
        }
    }

    /// The tags that led to a pin and are not written down yet.
    pub(super) fn take_refs(&self, pin: &Digest) -> Vec<RefRecord> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_pin.get_mut(pin).map(|known| std::mem::take(&mut known.refs)).unwrap_or_default()
    }

    /// Notes that resolving an artifact already brought its bytes.
    pub(super) fn note_brought(&self, pin: Digest) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.brought.len() >= ENTRIES {
            inner.brought.clear();
        }
        inner.brought.insert(pin);
    }

    /// Notes whether the source of a pin forbade the network, for the fetch behind it.
    pub(super) fn note_offline(&self, pin: Digest, offline: bool) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !offline {
            inner.offline.remove(&pin);
        } else if inner.offline.len() < ENTRIES || inner.offline.contains(&pin) {
            inner.offline.insert(pin);
        }
    }

    /// Notes which endpoint said what a reference means; `None` when nobody was asked this time.
    pub(super) fn note_resolved_by(&self, descriptor: &ArtifactDescriptor, endpoint: Option<String>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (descriptor.raw_ref.clone(), descriptor.digest.clone());
        if inner.resolved_by.remove(&key).is_some() {
            inner.resolved_order.retain(|known| *known != key);
        }
        let Some(endpoint) = endpoint else { return };
        inner.resolved_order.push_back(key.clone());
        inner.resolved_by.insert(key, endpoint);
        if inner.resolved_order.len() > ENTRIES
            && let Some(oldest) = inner.resolved_order.pop_front()
        {
            inner.resolved_by.remove(&oldest);
        }
    }

    /// The endpoint that said what the reference of a descriptor means, when it was resolved last.
    pub(super) fn resolved_by(&self, descriptor: &ArtifactDescriptor) -> Option<String> {
        let key = (descriptor.raw_ref.clone(), descriptor.digest.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).resolved_by.get(&key).cloned()
    }

    /// Whether the source this pin was last resolved from forbade the network.
    pub(super) fn is_offline(&self, pin: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).offline.contains(pin)
    }

    /// Whether the bytes came with the resolve before this fetch. True once.
    pub(super) fn take_brought(&self, pin: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).brought.remove(pin)
    }

    /// The manifest that a tag, or a pinned index, led to and whose artifact was not fetched since.
    pub(super) fn named(&self, reference: &str) -> Option<ResolvedManifest> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_pin.values().find(|known| known.refs.iter().any(|record| record.reference == reference)).cloned()
    }

    /// The manifest with this pin.
    pub(super) fn get(&self, pin: &Digest) -> Option<ResolvedManifest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_pin.get(pin).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ArtifactSourceKind, ArtifactType, ResolvedVia};
    use super::*;

    fn descriptor(number: usize) -> ArtifactDescriptor {
        ArtifactDescriptor {
            artifact_type: ArtifactType::Component,
            source_kind: ArtifactSourceKind::Oci,
            raw_ref: format!("registry.example/acme/hello:{number}"),
            canonical_ref: String::new(),
            digest: "sha256:0".to_owned(),
            media_type: String::new(),
            size_bytes: 0,
            created_at: None,
            annotations: serde_json::Map::new(),
            manifest_digest: None,
            resolved_via: ResolvedVia::TagResolution,
            signature_refs: Vec::new(),
            sbom_refs: Vec::new(),
        }
    }

    #[test]
    fn who_answered_last_is_known_of_the_last_references_and_of_nobody_who_was_not_asked() {
        let memo = Memo::default();
        let say = |number, endpoint: &str| memo.note_resolved_by(&descriptor(number), Some(endpoint.to_owned()));
        (0..ENTRIES).for_each(|number| say(number, "https://a.example"));
        say(0, "https://b.example");
        assert_eq!(memo.resolved_by(&descriptor(0)).as_deref(), Some("https://b.example"));
        say(ENTRIES, "https://a.example");
        assert_eq!(memo.resolved_by(&descriptor(1)), None, "the one that was asked for longest ago");
        assert!(memo.resolved_by(&descriptor(0)).is_some() && memo.resolved_by(&descriptor(2)).is_some());
        memo.note_resolved_by(&descriptor(2), None);
        assert_eq!(memo.resolved_by(&descriptor(2)), None);
        let inner = memo.0.lock().unwrap();
        assert_eq!((inner.resolved_by.len(), inner.resolved_order.len()), (ENTRIES - 1, ENTRIES - 1));
    }
}
