//! The other caches of this user: bytes are linked from them before anything is downloaded, and offline they are asked where no
//! registry may be.
//!
//! Only what proves itself counts: a manifest by the digest that is asked for, bytes by the digest in that manifest. A cache that
//! cannot be read, or that others may write to, has nothing.

use std::path::Path;
use std::sync::Arc;

use greentic_dist_store::{ArtifactFile, Sidecar, Store, StoreOptions};
use greentic_dist_types::{Descriptor, Digest};

use super::DistError;
use super::artifact_rule::{KeptManifest, manifest_of};
use super::client::Inner;
use super::memo::ResolvedManifest;
use crate::{blocking, paths};

/// The caches of this user beside the one at `own`. A client with a directory of its own choosing has none, a fetcher has
/// those that are used by default.
pub(super) fn beside(own: &Path, is_fetcher: bool) -> Vec<Store> {
    let defaults = [(paths::cache_root(), ArtifactFile::Component), (paths::pack_cache_root(), ArtifactFile::Pack)];
    if !is_fetcher && defaults.iter().all(|(root, _)| root != own) {
        return Vec::new();
    }
    let others = defaults.into_iter().filter(|(root, _)| root != own);
    let opened = others.map(|(root, artifact_file)| {
        Store::with_options(root, StoreOptions { artifact_file, ..StoreOptions::default() })
    });
    opened.collect()
}

/// The manifest of an entry with this pin, proven by it. Blocks.
pub(super) fn kept_manifest(inner: &Inner, pin: &Digest) -> Option<KeptManifest> {
    inner.neighbours.iter().find_map(|store| {
        let entry = store.stat(pin).ok().flatten().filter(|entry| entry.pin == *pin)?;
        manifest_of(store, &entry).ok().flatten()
    })
}

/// As [`kept_manifest`], for a fetch.
pub(super) async fn manifest(inner: &Arc<Inner>, pin: Digest) -> Result<Option<ResolvedManifest>, DistError> {
    let inner = Arc::clone(inner);
    blocking::run(move || {
        Ok(kept_manifest(&inner, &pin).map(|KeptManifest { manifest, raw }| ResolvedManifest {
            pin,
            raw: raw.into(),
            manifest,
            index_digest: None,
            index: None,
            refs: Vec::new(),
        }))
    })
    .await
}

/// Whether one of them, or this cache under another pin, says that it has this content.
pub(super) async fn have(inner: &Arc<Inner>, content: Digest) -> Result<bool, DistError> {
    let inner = Arc::clone(inner);
    blocking::run(move || {
        let mut stores = std::iter::once(&inner.store).chain(&inner.neighbours);
        Ok(stores.any(|store| store.find_content(&content).is_ok_and(|found| found.is_some())))
    })
    .await
}

/// The component manifest that this layer of a manifest is, proven by its digest. Blocks.
pub(super) fn component_manifest(inner: &Inner, pin: &Digest, layer: &Descriptor) -> Option<Vec<u8>> {
    inner.neighbours.iter().find_map(|store| {
        let entry = store.stat(pin).ok().flatten()?;
        let bytes = store.sidecar(&entry, Sidecar::ComponentManifest).ok().flatten()?;
        (Digest::of(layer.digest.algorithm(), &bytes) == layer.digest).then_some(bytes)
    })
}
