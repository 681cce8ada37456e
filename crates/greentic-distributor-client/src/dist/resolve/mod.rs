//! One file for each kind of source: what a reference means, as a pinned descriptor.

pub(super) mod file;
#[cfg(feature = "fixture-resolver")]
pub(super) mod fixture;
pub(super) mod https;
mod mapping;
pub(super) mod oci;
mod tenant;

use std::sync::Arc;

use greentic_dist_types::SourceRef;

use super::client::Inner;
use super::entry::descriptor_of;
use super::{ArtifactDescriptor, ArtifactSource, ArtifactSourceKind, DistError, ResolvedVia, source};
use crate::blocking;

pub(super) async fn resolve(inner: &Arc<Inner>, source: &ArtifactSource) -> Result<ArtifactDescriptor, DistError> {
    let descriptor = by_kind(inner, source).await?;
    if let Ok(pin) = descriptor.digest.parse() {
        inner.memo.note_offline(pin, source.transport_hints.offline);
    }
    Ok(descriptor)
}

/// What can be told about a source without asking anybody and without looking at a disk.
pub(super) fn check(raw_ref: &str, source: &SourceRef) -> Result<(), DistError> {
    match source {
        SourceRef::Store(target) => tenant::TenantPackage::parse(raw_ref, target).map(|_| ()),
        _ => Ok(()),
    }
}

async fn by_kind(inner: &Arc<Inner>, source: &ArtifactSource) -> Result<ArtifactDescriptor, DistError> {
    let raw_ref = source.raw_ref.as_str();
    let offline = inner.is_offline(source.transport_hints.offline);
    match source::classify(raw_ref)? {
        SourceRef::Digest(digest) => cached(inner, raw_ref, digest).await,
        SourceRef::Oci(reference) => {
            let via = if reference.digest().is_some() { ResolvedVia::Direct } else { ResolvedVia::TagResolution };
            let target = oci::Target { reference, raw_ref: raw_ref.to_owned(), kind: ArtifactSourceKind::Oci, via };
            oci::resolve(inner, &target, offline).await
        }
        SourceRef::Repo(target) => {
            let target = mapping::repo(inner, raw_ref, &target)?;
            oci::resolve(inner, &target, offline).await
        }
        SourceRef::Store(target) => {
            let target = mapping::store(inner, raw_ref, &target)?;
            oci::resolve(inner, &target, offline).await
        }
        SourceRef::Url(url) => {
            let (entry, moved) = https::fetch_url(inner, &url, offline).await?;
            if moved {
                inner.memo.note_brought(entry.pin);
            }
            Ok(ArtifactDescriptor { raw_ref: raw_ref.to_owned(), ..descriptor_of(&entry) })
        }
        SourceRef::File(path) | SourceRef::Bare(path) => {
            file::resolve(inner, raw_ref, path.into(), ArtifactSourceKind::File, ResolvedVia::File).await
        }
        #[cfg(feature = "fixture-resolver")]
        SourceRef::Fixture(name) => {
            let path = fixture::locate(inner, &name)?;
            file::resolve(inner, raw_ref, path, ArtifactSourceKind::Fixture, ResolvedVia::Fixture).await
        }
        // Refused by `classify` in this build.
        #[cfg(not(feature = "fixture-resolver"))]
        SourceRef::Fixture(_) => Err(DistError::InvalidInput("this build has no `fixture-resolver` feature".into())),
    }
}

async fn cached(
    inner: &Arc<Inner>,
    raw_ref: &str,
    digest: greentic_dist_types::Digest,
) -> Result<ArtifactDescriptor, DistError> {
    let (inner, raw_ref) = (Arc::clone(inner), raw_ref.to_owned());
    blocking::run(move || {
        let entry = inner.store.stat(&digest).map_err(|error| DistError::from_store(&raw_ref, error))?;
        entry.map(|entry| descriptor_of(&entry)).ok_or(DistError::NotFound { reference: raw_ref })
    })
    .await
}
