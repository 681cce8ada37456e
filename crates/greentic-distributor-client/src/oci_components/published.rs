//! What lies beside a component in its entry: the component manifest, and the name it gives to the component.

use std::path::PathBuf;

use greentic_dist_store::{Entry, SecondName, Sidecar, Store, StoreError, StoreErrorKind};
use greentic_dist_types::media_type::{COMPONENT_MANIFEST, essence};
use greentic_dist_types::{Digest, ManifestKind, limits, parse_manifest};

use super::wasm_name;
use crate::dist::{DistError, chain};
use crate::registry_client::Named;

/// What was found beside a component that proved itself.
pub(super) enum Published {
    /// All of it is what the manifest says; the component is at this path.
    Whole(PathBuf),
    /// Something is not, and why.
    Damaged(String),
}

/// Proves the component manifest of an entry and gives the component the name that stands there. Blocks.
///
/// `path` is the component under its fixed name. Where the name cannot be made, as in a cache that cannot be written to, that
/// is where it is.
pub(super) fn look(store: &Store, reference: &str, named: &Named, path: PathBuf) -> Result<Published, DistError> {
    let wrap = |error| DistError::from_store(reference, error);
    let pin = named.manifest.unwrap_or(named.digest);
    // Removed since it was opened: whoever opens the path finds out.
    let Some(entry) = store.stat(&pin).map_err(wrap)? else { return Ok(Published::Whole(path)) };
    let name = if essence(&named.media_type) == COMPONENT_MANIFEST {
        Some(SecondName::component_manifest())
    } else {
        match component_manifest(store, &entry).map_err(wrap)? {
            Found::Nothing => None,
            Found::Damaged(reason) => return Ok(Published::Damaged(reason)),
            Found::Bytes(bytes) => wasm_name::read(&bytes)
                .map_err(|source| DistError::ComponentManifest { reference: reference.to_owned(), source })?,
        }
    };
    let Some(name) = name else { return Ok(Published::Whole(path)) };
    Ok(Published::Whole(store.name_artifact(&entry, &name).unwrap_or_else(|error| {
        tracing::debug!(%error, "a component is handed out under its fixed name");
        path
    })))
}

/// Puts the entry of a component aside, so that the next fetch brings it anew. Blocks.
pub(super) fn put_aside(store: &Store, reference: &str, named: &Named) -> Result<(), DistError> {
    let pin = named.manifest.unwrap_or(named.digest);
    let why = "its component manifest is not the published one";
    store.quarantine(&pin, why).map_err(|error| DistError::from_store(reference, error))
}

enum Found {
    Nothing,
    Bytes(Vec<u8>),
    Damaged(String),
}

/// The component manifest of an entry, held against the digest that the entry's manifest names it by. Of an entry that a client
/// of the host brought, no manifest is here that would tell it.
fn component_manifest(store: &Store, entry: &Entry) -> Result<Found, StoreError> {
    let promised = promised(store, entry)?;
    let bytes = match store.sidecar(entry, Sidecar::ComponentManifest) {
        Ok(bytes) => bytes,
        Err(error) if *error.kind() == StoreErrorKind::Corrupt => return Ok(Found::Damaged(chain(&error))),
        Err(error) => return Err(error),
    };
    Ok(match (promised, bytes) {
        (Some(promised), Some(bytes)) => match Digest::of(promised.algorithm(), &bytes) {
            actual if actual == promised => Found::Bytes(bytes),
            actual => Found::Damaged(format!("its component manifest hashes to {actual} instead of {promised}")),
        },
        (Some(_), None) => Found::Damaged("its component manifest is missing".to_owned()),
        (None, Some(bytes)) if entry.record.vouched || entry.pin == entry.content_digest => Found::Bytes(bytes),
        // The manifest names none; somebody else put it there.
        (None, _) => Found::Nothing,
    })
}

/// The digest of the component manifest that is kept beside the component; one that is too large is not.
fn promised(store: &Store, entry: &Entry) -> Result<Option<Digest>, StoreError> {
    let Some(raw) = store.manifest(entry)? else { return Ok(None) };
    let Ok(ManifestKind::Image(manifest)) = parse_manifest(&raw, None) else { return Ok(None) };
    let layer = manifest.component_manifest_layer().filter(|layer| layer.size_bytes <= limits::SIDECAR_BYTES);
    Ok(layer.map(|layer| layer.digest))
}
