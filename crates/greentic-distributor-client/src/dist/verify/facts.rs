//! What is known about an artifact, from its descriptor, its entry and its manifest.

use std::collections::BTreeSet;

use greentic_dist_types::{Digest, ManifestKind, parse_kept_manifest};
use serde_json::Value;

use crate::dist::client::Inner;
use crate::dist::{ArtifactDescriptor, ResolvedArtifact};

/// What the checks are about.
pub(super) struct Facts<'a> {
    pub(super) descriptor: &'a ArtifactDescriptor,
    /// Every digest the artifact can be denied by: of its manifest, of indexes that led to it, of what the manifest names,
    /// of its bytes.
    pub(super) digests: BTreeSet<Digest>,
    /// Texts of the descriptor that should be digests and are none.
    pub(super) malformed: Vec<String>,
}

impl<'a> Facts<'a> {
    /// As far as this client and its cache know, without asking anybody.
    pub(super) fn of_descriptor(inner: &Inner, descriptor: &'a ArtifactDescriptor) -> Self {
        let mut facts = Self { descriptor, digests: BTreeSet::new(), malformed: Vec::new() };
        for text in [Some(&descriptor.digest), descriptor.manifest_digest.as_ref()].into_iter().flatten() {
            match text.parse() {
                Ok(digest) => drop(facts.digests.insert(digest)),
                Err(_) => facts.malformed.push(text.clone()),
            }
        }
        let Ok(pin) = descriptor.digest.parse::<Digest>() else { return facts };
        if let Some(known) = inner.memo.get(&pin) {
            facts.add_manifest(&known.raw);
            facts.digests.extend(known.index_digest);
        }
        // An entry that cannot be read says nothing here; opening it says why.
        if let Ok(Some(entry)) = inner.store.stat(&pin)
            && entry.pin == pin
        {
            facts.digests.insert(entry.content_digest);
            facts.digests.extend(entry.record.index_digest);
            facts.digests.extend(&entry.record.other_index_digests);
            if let Ok(Some(manifest)) = inner.store.manifest(&entry) {
                facts.add_manifest(&manifest);
            }
        }
        facts
    }

    pub(super) fn of_artifact(inner: &Inner, artifact: &'a ResolvedArtifact) -> Self {
        let mut facts = Self::of_descriptor(inner, &artifact.descriptor);
        facts.digests.insert(artifact.content());
        match artifact.digest.parse() {
            Ok(digest) => drop(facts.digests.insert(digest)),
            Err(_) => facts.malformed.push(artifact.digest.clone()),
        }
        facts
    }

    fn add_manifest(&mut self, raw: &[u8]) {
        if let Ok(ManifestKind::Image(manifest)) = parse_kept_manifest(raw) {
            self.digests.extend(manifest.config.map(|config| config.digest));
            self.digests.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
    }

    /// A text among the annotations; blank ones are none.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.descriptor.annotations.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }
}
