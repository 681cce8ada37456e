//! Names, hashes and pure decisions: everything the distributor client knows without doing I/O.
//!
//! Reading order follows an artifact: a [`SourceRef`] is what the user typed, a [`Reference`] names an OCI artifact, a
//! [`Manifest`] lists its layers, [`select_layer`] chooses one, a [`Digest`] says what its bytes must be, and a
//! [`Verifier`] proves them while they pass.
//!
//! Rules of this crate: no sockets, no files, no clock, no async runtime; it builds for wasm32. Internal: the public
//! promise is made by `greentic-distributor-client`.

mod artifact_id;
mod bundle;
mod digest;
mod hasher;
mod kind;
pub mod limits;
mod lock;
mod manifest;
pub mod media_type;
mod platform;
mod redact;
mod reference;
mod registry_map;
mod safe_text;
mod secret;
mod select;
mod source_ref;
mod verify;

pub use artifact_id::{artifact_readings, refuse_artifact_id, refuse_artifact_version};
pub use bundle::{BundleId, BundleLifecycleState, ParseBundleIdError};
pub use digest::{Algorithm, Digest, ParseDigestError};
pub use hasher::Hasher;
pub use kind::{ArtifactSourceKind, ArtifactType, CacheEntryState};
pub use lock::{Extra, LOCK_SCHEMA_VERSION, LockEntry, LockError, LockProblem, Lockfile};
pub use manifest::{
    Counted, Descriptor, Index, Manifest, ManifestError, ManifestKind, ManifestLimits, parse_kept_manifest,
    parse_layout_index, parse_manifest, parse_manifest_within,
};
pub use platform::{ParsePlatformError, Platform, PlatformChoice};
pub use redact::{redact_reference, redact_url};
pub use reference::{ParseReferenceError, Reference, ReferenceProblem, is_explicit_registry};
pub use registry_map::{MapError, map_to_registry};
pub use safe_text::SafeText;
pub use secret::Secret;
pub use select::{LayerChoice, LayerRule, SelectError, select_exactly, select_layer, select_platform, select_portable};
pub use source_ref::{ParseSourceError, SourceRef};
pub use verify::{Mismatch, Verified, Verifier, VerifyReader};
