//! What is known of a cached copy: where it came from, what it is, and what proves it.

use greentic_dist_types::{Algorithm, Digest, ManifestKind, parse_kept_manifest};
use serde::{Deserialize, Serialize};

use super::fetch::catalog_layer;

/// The version that is written. A record of another one is left alone and believed nothing.
const FORMAT_VERSION: u32 = 1;
/// Most bytes of the manifest and the indexes, together, that are kept as the proof of a pinned reference. Catalogs have some hundred.
pub(super) const PROOF_BYTES: usize = 1 << 20;
/// Largest record that is read, in bytes: a proof, escaped.
pub(super) const RECORD_BYTES: u64 = 4 << 20;

/// Where a copy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogOrigin {
    /// A registry.
    Registry,
    /// A file of this machine, see [`cache_registry_file`](super::cache_registry_file).
    File,
}

/// The facts about the copy of one reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyRecord {
    pub(super) format_version: u32,
    /// The reference as it was given.
    pub(super) reference: String,
    /// What was asked for at which registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resolved_reference: Option<String>,
    /// The digest of the manifest; of a file, that of its bytes.
    pub(super) digest: Digest,
    /// The digest of the index that led to the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) index_digest: Option<Digest>,
    /// The digest of the bytes.
    pub(super) content_digest: Digest,
    pub(super) size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// When the bytes came, in Unix seconds.
    pub(super) fetched_at: u64,
    /// When the registry last said that they are the current ones.
    pub(super) checked_at: u64,
    pub(super) origin: CatalogOrigin,
    /// The manifest itself, for pinned references, whose pin proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<String>,
    /// The index itself, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<String>,
    /// The indexes between that one and the manifest, the outer ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inner_indexes: Vec<String>,
}

impl CopyRecord {
    /// Of something a registry sent.
    pub(super) fn of_registry(reference: &str, digest: Digest, content_digest: Digest, now: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            reference: reference.to_owned(),
            resolved_reference: None,
            digest,
            index_digest: None,
            content_digest,
            size_bytes: 0,
            media_type: None,
            etag: None,
            fetched_at: now,
            checked_at: now,
            origin: CatalogOrigin::Registry,
            manifest: None,
            index: None,
            inner_indexes: Vec::new(),
        }
    }

    /// Of a file with these bytes.
    pub(super) fn of_file(reference: &str, bytes: &[u8], now: u64) -> Self {
        let digest = Digest::sha256(bytes);
        Self {
            size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            origin: CatalogOrigin::File,
            ..Self::of_registry(reference, digest, digest, now)
        }
    }

    /// Reads the record of a reference; `None` for what is not one of this version about this very reference.
    pub(super) fn parse(bytes: &[u8], reference: &str) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.format_version == FORMAT_VERSION && record.reference == reference).then_some(record)
    }

    /// Reads a record about any reference.
    pub(super) fn parse_any(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.format_version == FORMAT_VERSION)
    }

    /// What the registry's name stood for: the index, where there is one.
    pub(super) fn named(&self) -> Digest {
        self.index_digest.unwrap_or(self.digest)
    }

    /// Without the proofs, for the index of the cache.
    pub(super) fn facts(&self) -> Self {
        Self { manifest: None, index: None, inner_indexes: Vec::new(), ..self.clone() }
    }

    /// Whether these are the bytes of the record and, for a pinned reference, whether the pin proves them.
    pub(super) fn vouches_for(&self, bytes: &[u8], pin: Option<Digest>) -> bool {
        u64::try_from(bytes.len()) == Ok(self.size_bytes)
            && Digest::of(self.content_digest.algorithm(), bytes) == self.content_digest
            && pin.is_none_or(|pin| self.is_proven_by(pin))
    }

    /// From the pin over the indexes and the manifest to the bytes: each named by the digest of the one before.
    fn is_proven_by(&self, pin: Digest) -> bool {
        if pin == self.content_digest {
            return true;
        }
        let has = |text: &Option<String>, digest: Digest| {
            text.as_ref().is_some_and(|text| Digest::of(digest.algorithm(), text.as_bytes()) == digest)
        };
        let leads_to_manifest = pin == self.digest
            || (Some(pin) == self.index_digest && has(&self.index, pin) && self.indexes_lead_to_manifest());
        leads_to_manifest && has(&self.manifest, self.digest) && self.manifest_names_content()
    }

    fn indexes_lead_to_manifest(&self) -> bool {
        let Some(mut outer) = self.index.as_ref() else { return false };
        for inner in &self.inner_indexes {
            let digests = Algorithm::ALL.map(|algorithm| Digest::of(algorithm, inner.as_bytes()));
            if !names(outer, |digest| digests.contains(&digest)) {
                return false;
            }
            outer = inner;
        }
        names(outer, |digest| digest == self.digest)
    }

    fn manifest_names_content(&self) -> bool {
        match self.manifest.as_ref().map(|manifest| parse_kept_manifest(manifest.as_bytes())) {
            Some(Ok(ManifestKind::Image(manifest))) => {
                catalog_layer(&manifest).is_ok_and(|layer| layer.digest == self.content_digest)
            }
            _ => false,
        }
    }
}

/// Whether this is an index with an entry of such a digest.
fn names(index: &str, is_it: impl Fn(Digest) -> bool) -> bool {
    match parse_kept_manifest(index.as_bytes()) {
        Ok(ManifestKind::Index(index)) => index.manifests.iter().any(|entry| is_it(entry.digest)),
        _ => false,
    }
}
