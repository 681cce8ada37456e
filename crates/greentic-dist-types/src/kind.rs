//! What an artifact is, where it came from, and in which state its cache entry is.
//!
//! The variant names are the JSON of `entry.json` and of the public types, verbatim: renaming one breaks caches.

use serde::{Deserialize, Serialize};

/// What an artifact is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArtifactType {
    /// A bundle: a pack that is staged, warmed and rolled back as a unit.
    Bundle,
    /// A pack (`.gtpack`).
    Pack,
    /// A WebAssembly component.
    Component,
}

/// The kind of source a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArtifactSourceKind {
    /// An OCI registry, `oci://` or a reference that names its registry.
    Oci,
    /// A plain `https://` (or allowed loopback `http://`) URL.
    Https,
    /// A file on this machine.
    File,
    /// A file of the configured fixture directory.
    Fixture,
    /// `repo://`, mapped to the configured repository registry.
    Repo,
    /// `store://`, mapped to the configured store registry.
    Store,
    /// A digest: something that is in the cache already.
    CacheDigest,
}

/// The state of a cache entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CacheEntryState {
    /// Not all bytes are there.
    Partial,
    /// Complete.
    Ready,
    /// The bytes were found not to be the right ones.
    Corrupt,
    /// Removed by retention.
    Evicted,
}
