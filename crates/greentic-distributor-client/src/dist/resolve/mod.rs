//! One file for each kind of source: what a reference means, as a pinned descriptor.

pub(crate) mod file;
#[cfg(feature = "fixture-resolver")]
pub(super) mod fixture;
pub(super) mod https;
mod mapping;
pub(crate) mod oci;
pub(super) mod tenant;

use std::sync::Arc;

use greentic_dist_types::{Reference, SafeText, SourceRef, redact_reference};

use super::client::Inner;
use super::entry::descriptor_of;
use super::injector::{self, Asked};
use super::{ArtifactDescriptor, ArtifactSource, ArtifactSourceKind, DistError, ResolvedVia, source};
use crate::blocking;
use tenant::TenantPackage;

pub(super) async fn resolve(inner: &Arc<Inner>, source: &ArtifactSource) -> Result<ArtifactDescriptor, DistError> {
    let descriptor = match injector::ask(inner, source).await? {
        Asked::Source(source) => by_kind(inner, &source).await?,
        Asked::Descriptor(descriptor) => descriptor,
    };
    if let Ok(pin) = descriptor.digest.parse() {
        inner.memo.note_offline(pin, source.transport_hints.offline);
    }
    Ok(descriptor)
}

/// What can be told about a source without asking anybody and without looking at a disk.
pub(super) fn check(raw_ref: &str, source: &SourceRef) -> Result<(), DistError> {
    match source {
        SourceRef::Store(target) => TenantPackage::parse(raw_ref, target, tenant::REGISTRY).map(|_| ()),
        _ => Ok(()),
    }
}

/// Whose login opens the artifact of a descriptor.
pub(super) fn tenant_of(inner: &Inner, descriptor: &ArtifactDescriptor) -> Option<String> {
    let Ok(SourceRef::Store(target)) = SourceRef::parse(&descriptor.raw_ref) else { return None };
    let package = TenantPackage::parse(&descriptor.raw_ref, &target, inner.tenants.registry()).ok()??;
    Some(package.tenant)
}

/// Where a `store://` name is, and whose login opens it.
pub(super) fn store_target(inner: &Inner, raw_ref: &str, target: &str) -> Result<oci::Target, DistError> {
    mapping::store(inner, raw_ref, target)
}

/// The reference in a registry that a `repo://` or `store://` name stands for.
pub(super) fn mapped(inner: &Inner, raw_ref: &str, source: &SourceRef) -> Result<Reference, DistError> {
    registry_target(inner, raw_ref, source).map(|target| target.reference)
}

/// The artifact in a registry that a reference stands for.
pub(super) fn registry_target(inner: &Inner, raw_ref: &str, source: &SourceRef) -> Result<oci::Target, DistError> {
    match source {
        SourceRef::Repo(target) => mapping::repo(inner, raw_ref, target),
        SourceRef::Store(target) => mapping::store(inner, raw_ref, target),
        SourceRef::Oci(reference) => Ok(oci::Target {
            reference: reference.clone(),
            raw_ref: raw_ref.to_owned(),
            kind: ArtifactSourceKind::Oci,
            via: if reference.digest().is_some() { ResolvedVia::Direct } else { ResolvedVia::TagResolution },
            tenant: None,
        }),
        _ => Err(DistError::InvalidInput(format!("`{}` names no registry", SafeText::new(&redact_reference(raw_ref))))),
    }
}

async fn by_kind(inner: &Arc<Inner>, source: &ArtifactSource) -> Result<ArtifactDescriptor, DistError> {
    let raw_ref = source.raw_ref.as_str();
    let offline = inner.is_offline(source.transport_hints.offline);
    match source::classify(raw_ref)? {
        SourceRef::Digest(digest) => cached(inner, raw_ref, digest).await,
        source @ (SourceRef::Oci(_) | SourceRef::Repo(_) | SourceRef::Store(_)) => {
            oci::resolve(inner, &registry_target(inner, raw_ref, &source)?, offline).await
        }
        SourceRef::Url(url) => {
            let (entry, moved) = https::fetch_url(inner, &url, offline).await?;
            if moved {
                inner.memo.note_brought(entry.pin);
            }
            Ok(ArtifactDescriptor { raw_ref: raw_ref.to_owned(), ..descriptor_of(&entry) })
        }
        SourceRef::File(path) | SourceRef::Bare(path) => {
            if matches!(SourceRef::parse(raw_ref), Ok(SourceRef::Bare(_))) {
                let name = SafeText::excerpt(raw_ref, 200);
                inner.warn(&format!("`{name}` names no registry and is read as a file; `./{name}` says so"));
            }
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
