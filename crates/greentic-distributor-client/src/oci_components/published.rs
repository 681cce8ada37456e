//! What lies beside a component in its entry: the component manifest, and the name it gives to the component.

use std::path::PathBuf;

use greentic_dist_store::{Entry, SecondName, Sidecar, Store, StoreError, StoreErrorKind};
use greentic_dist_types::media_type::{COMPONENT_MANIFEST, essence};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, limits, parse_kept_manifest};

use super::wasm_name;
use crate::dist::{DistError, Listed, chain};
use crate::registry_client::{Found, Named, complete};

/// What was found beside a component that proved itself.
pub(super) enum Published {
    /// All of it is what the manifest says; the component is at this path.
    Whole(PathBuf),
    /// The component manifest is not the published one.
    Damaged(Box<Damage>),
}

/// What is wrong with the component manifest of an entry.
pub(super) struct Damage {
    pub(super) reason: String,
    /// The layer that it is.
    pub(super) layer: Descriptor,
}

/// Proves the component manifest of an entry and gives the component the name that stands there. Blocks.
///
/// `path` is the component under its fixed name. Where the name cannot be made, as in a cache that cannot be written to, that
/// is where it is. What `listed` keeps beside a component is written where it is missing.
pub(super) fn look(
    store: &Store,
    listed: &Listed,
    reference: &str,
    named: &Named,
    path: PathBuf,
) -> Result<Published, DistError> {
    let wrap = |error| DistError::from_store(reference, error);
    let pin = named.manifest.unwrap_or(named.digest);
    // Removed since it was opened: whoever opens the path finds out.
    let Some(entry) = store.stat(&pin).map_err(wrap)? else { return Ok(Published::Whole(path)) };
    let mut found = Found { reference, named, entry: &entry, component_manifest: None };
    let bytes;
    let name = if essence(&named.media_type) == COMPONENT_MANIFEST {
        Some(SecondName::component_manifest())
    } else {
        match component_manifest(store, &entry).map_err(wrap)? {
            Kept::Nothing => None,
            Kept::Damaged(damage) => return Ok(Published::Damaged(damage)),
            Kept::Bytes(kept) => {
                bytes = kept;
                found.component_manifest = Some(&bytes);
                wasm_name::read(&bytes)
                    .map_err(|source| DistError::ComponentManifest { reference: reference.to_owned(), source })?
            }
        }
    };
    complete(store, listed, &found);
    let Some(name) = name else { return Ok(Published::Whole(path)) };
    Ok(Published::Whole(store.name_artifact(&entry, &name).unwrap_or_else(|error| {
        tracing::debug!(%error, "a component is handed out under its fixed name");
        path
    })))
}

/// Puts the published component manifest where a damaged one was. The component itself is fine and stays. Blocks.
pub(super) fn heal(store: &Store, reference: &str, named: &Named, bytes: &[u8]) -> Result<(), DistError> {
    let wrap = |error| DistError::from_store(reference, error);
    let pin = named.manifest.unwrap_or(named.digest);
    match store.stat(&pin).map_err(wrap)? {
        Some(entry) => store.put_sidecar(&entry, Sidecar::ComponentManifest, bytes).map_err(wrap),
        None => Ok(()),
    }
}

enum Kept {
    Nothing,
    Bytes(Vec<u8>),
    Damaged(Box<Damage>),
}

/// The component manifest of an entry, held against the digest that the entry's manifest names it by. Of an entry that a client
/// of the host brought, no manifest is here that would tell it.
fn component_manifest(store: &Store, entry: &Entry) -> Result<Kept, StoreError> {
    let read = store.sidecar(entry, Sidecar::ComponentManifest);
    let Some(layer) = promised(store, entry)? else {
        // The manifest names none: what is there was put there by somebody else.
        let is_told = entry.record.vouched || entry.pin == entry.content_digest;
        return Ok(read?.filter(|_| is_told).map_or(Kept::Nothing, Kept::Bytes));
    };
    let reason = match read {
        Ok(Some(bytes)) => match Digest::of(layer.digest.algorithm(), &bytes) {
            actual if actual == layer.digest => return Ok(Kept::Bytes(bytes)),
            actual => format!("its component manifest hashes to {actual} instead of {}", layer.digest),
        },
        Ok(None) => "its component manifest is missing".to_owned(),
        Err(error) if *error.kind() == StoreErrorKind::Corrupt => chain(&error),
        Err(error) => return Err(error),
    };
    Ok(Kept::Damaged(Box::new(Damage { reason, layer })))
}

/// The layer that is the component manifest kept beside the component; one that is too large is not.
fn promised(store: &Store, entry: &Entry) -> Result<Option<Descriptor>, StoreError> {
    let Some(raw) = store.manifest(entry)? else { return Ok(None) };
    let Ok(ManifestKind::Image(manifest)) = parse_kept_manifest(&raw) else { return Ok(None) };
    let layer = manifest.component_manifest_layer().filter(|layer| layer.size_bytes <= limits::SIDECAR_BYTES);
    Ok(layer.cloned())
}
