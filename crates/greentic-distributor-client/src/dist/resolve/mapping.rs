//! `repo://` and `store://`: names joined to the configured registry, never to a default one.

use greentic_dist_types::{MapError, map_to_registry};

use super::oci::Target;
use super::tenant::TenantPackage;
use crate::dist::client::Inner;
use crate::dist::{ArtifactSourceKind, DistError, ResolvedVia};

pub(super) fn repo(inner: &Inner, raw_ref: &str, target: &str) -> Result<Target, DistError> {
    let base = inner.options.repo_registry_base.as_deref();
    map(raw_ref, target, base, ArtifactSourceKind::Repo, ResolvedVia::RepoMapping)
}

pub(super) fn store(inner: &Inner, raw_ref: &str, target: &str) -> Result<Target, DistError> {
    if let Some(TenantPackage { tenant, reference }) = TenantPackage::parse(raw_ref, target, inner.tenants.registry())?
    {
        return Ok(Target {
            reference,
            raw_ref: raw_ref.to_owned(),
            kind: ArtifactSourceKind::Store,
            via: ResolvedVia::StoreMapping,
            tenant: Some(tenant),
        });
    }
    let base = inner.options.store_registry_base.as_deref();
    map(raw_ref, target, base, ArtifactSourceKind::Store, ResolvedVia::StoreMapping)
}

fn map(
    raw_ref: &str,
    target: &str,
    base: Option<&str>,
    kind: ArtifactSourceKind,
    via: ResolvedVia,
) -> Result<Target, DistError> {
    match map_to_registry(target, base) {
        Ok(reference) => Ok(Target { reference, raw_ref: raw_ref.to_owned(), kind, via, tenant: None }),
        Err(MapError::NoBase) => Err(DistError::ResolutionUnavailable { reference: raw_ref.to_owned() }),
        Err(MapError::Reference(error)) => Err(DistError::from_reference(raw_ref, error)),
    }
}
