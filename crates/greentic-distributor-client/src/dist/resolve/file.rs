//! Files of this machine: hashed to resolve them, copied into the cache to fetch them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_store::{Entry, EntryDraft};
use greentic_dist_types::{Algorithm, SafeText, SourceRef, Verified, Verifier, media_type};

use crate::dist::client::Inner;
use crate::dist::identity::{canonical_file, component_id_of_path};
use crate::dist::{ArtifactDescriptor, ArtifactSourceKind, ArtifactType, DistError, ResolvedVia, fetch, source};
use crate::{blocking, regular_file};

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;

pub(crate) async fn resolve(
    inner: &Arc<Inner>,
    raw_ref: &str,
    path: PathBuf,
    kind: ArtifactSourceKind,
    via: ResolvedVia,
) -> Result<ArtifactDescriptor, DistError> {
    let (raw_ref, limit) = (raw_ref.to_owned(), inner.limits.artifact_bytes);
    blocking::run(move || {
        let mut verifier = Verifier::measuring(Algorithm::Sha256, limit);
        copy(&path, limit, |chunk| verifier.update(chunk).map_err(|_too_large| too_large(&path, limit)))?;
        let verified = verifier.finish().map_err(|_too_large| too_large(&path, limit))?;
        Ok(describe(&raw_ref, &path, kind, via, verified))
    })
    .await
}

/// Copies the file of a descriptor into the cache, proving while it copies that it is still the one that was resolved. The
/// flag says whether the copy is new there.
pub(crate) async fn ingest(inner: &Arc<Inner>, descriptor: &ArtifactDescriptor) -> Result<(Entry, bool), DistError> {
    let path = path_of(inner, descriptor)?;
    let (inner, descriptor) = (Arc::clone(inner), descriptor.clone());
    blocking::run(move || {
        let limit = inner.limits.artifact_bytes;
        let wrap = |error| DistError::from_store(&descriptor.raw_ref, error);
        let mut ingest = inner.store.ingest_measured(limit).map_err(wrap)?;
        copy(&path, limit, |chunk| ingest.write(chunk).map_err(wrap))?;
        let blob = ingest.finish().map_err(wrap)?;
        let verified = blob.verified();
        if !descriptor.digest.is_empty() && descriptor.digest != verified.digest().to_string() {
            return Err(DistError::CorruptArtifact {
                reference: descriptor.raw_ref.clone(),
                reason: format!(
                    "the file changed since it was resolved: expected {}, now {}",
                    descriptor.digest,
                    verified.digest()
                ),
            });
        }
        let described = describe(&descriptor.raw_ref, &path, descriptor.source_kind, descriptor.resolved_via, verified);
        let mut record = fetch::record(&described);
        record.content_digest = Some(verified.digest());
        record.component_id = Some(component_id_of_path(&path));
        record.describe_artifact_ref = describe_sibling(&path);
        let staged =
            blob.stage(EntryDraft { pin: None, manifest: None, record, sidecars: Vec::new() }).map_err(wrap)?;
        let published = inner.store.publish(staged).map_err(wrap)?;
        Ok((published.entry, published.fresh))
    })
    .await
}

fn path_of(inner: &Inner, descriptor: &ArtifactDescriptor) -> Result<PathBuf, DistError> {
    match source::classify(&descriptor.raw_ref)? {
        SourceRef::File(path) => Ok(path.into()),
        #[cfg(feature = "fixture-resolver")]
        SourceRef::Fixture(name) => super::fixture::locate(inner, &name),
        _ => {
            let _ = inner;
            Err(DistError::InvalidInput(format!("`{}` names no file", SafeText::new(&descriptor.raw_ref))))
        }
    }
}

/// Reads a regular file in chunks. Devices, pipes and directories are refused before a byte is read.
fn copy(path: &Path, limit: u64, mut take: impl FnMut(&[u8]) -> Result<(), DistError>) -> Result<(), DistError> {
    let failed = |error| DistError::io(path, error);
    let mut file = open_regular(path)?;
    if file.metadata().map_err(failed)?.len() > limit {
        return Err(too_large(path, limit));
    }
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok(());
        }
        take(buffer.get(..count).unwrap_or(&[]))?;
    }
}

/// Opens a regular file; devices, pipes and directories are refused.
pub(crate) fn open_regular(path: &Path) -> Result<File, DistError> {
    regular_file::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DistError::NotFound { reference: regular_file::shown(path) },
        io::ErrorKind::InvalidInput => {
            DistError::InvalidInput(format!("`{}` is not a regular file", SafeText::new(&regular_file::shown(path))))
        }
        _ => DistError::io(path, error),
    })
}

fn too_large(path: &Path, limit_bytes: u64) -> DistError {
    DistError::TooLarge { reference: path.display().to_string(), limit_bytes }
}

fn describe(
    raw_ref: &str,
    path: &Path,
    source_kind: ArtifactSourceKind,
    resolved_via: ResolvedVia,
    verified: Verified,
) -> ArtifactDescriptor {
    ArtifactDescriptor {
        artifact_type: ArtifactType::Component,
        source_kind,
        raw_ref: raw_ref.to_owned(),
        canonical_ref: canonical_file(path, &verified.digest()),
        digest: verified.digest().to_string(),
        media_type: media_type::WASM.to_owned(),
        size_bytes: verified.size_bytes(),
        created_at: None,
        annotations: serde_json::Map::new(),
        manifest_digest: None,
        resolved_via,
        signature_refs: Vec::new(),
        sbom_refs: Vec::new(),
    }
}

/// The `describe.cbor` beside a component, where there is one.
fn describe_sibling(path: &Path) -> Option<String> {
    let sibling = path.with_file_name("describe.cbor");
    sibling.is_file().then(|| sibling.display().to_string())
}
