//! A distributor across the component boundary (WIT world `greentic:distributor-api@1.0.0`).

use async_trait::async_trait;
use serde_json::Value;

use crate::types::{
    ArtifactLocation, CacheInfo, ComponentDigest, ComponentStatus, DistributorEnvironmentId, PackStatusResponse,
    ResolveComponentRequest, ResolveComponentResponse, SecretFormat, SecretKey, SecretRequirement, SecretScope,
    SignatureSummary, TenantCtx,
};
use crate::{DistributorClient, DistributorError, wit};

/// The reason of a failed component: the interface carries the failure and not why.
const FAILED: &str = "failed";

/// The functions of the distributor interface, however they are reached.
///
/// A guest uses [`GeneratedDistributorApiBindings`]; tests and other hosts bring their own.
#[async_trait]
pub trait DistributorApiBindings: Send + Sync {
    /// `resolve-component`.
    ///
    /// # Errors
    /// Whatever keeps the call from being made; the interface itself has no failure.
    async fn resolve_component(
        &self,
        req: wit::ResolveComponentRequest,
    ) -> Result<wit::ResolveComponentResponse, anyhow::Error>;

    /// `get-pack-status`.
    ///
    /// # Errors
    /// As [`DistributorApiBindings::resolve_component`].
    async fn get_pack_status(
        &self,
        tenant_id: &str,
        environment_id: &str,
        pack_id: &str,
    ) -> Result<String, anyhow::Error>;

    /// `get-pack-status-v2`.
    ///
    /// # Errors
    /// As [`DistributorApiBindings::resolve_component`].
    async fn get_pack_status_v2(
        &self,
        tenant_id: &str,
        environment_id: &str,
        pack_id: &str,
    ) -> Result<wit::PackStatusResponse, anyhow::Error>;

    /// `warm-pack`.
    ///
    /// # Errors
    /// As [`DistributorApiBindings::resolve_component`].
    async fn warm_pack(&self, tenant_id: &str, environment_id: &str, pack_id: &str) -> Result<(), anyhow::Error>;
}

/// The imports a guest is linked with.
///
/// Only on `wasm32`, inside a host that implements the world: a call traps in a host that does not. Everywhere else each
/// call is an error that says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct GeneratedDistributorApiBindings;

#[cfg(target_arch = "wasm32")]
#[async_trait]
impl DistributorApiBindings for GeneratedDistributorApiBindings {
    async fn resolve_component(
        &self,
        req: wit::ResolveComponentRequest,
    ) -> Result<wit::ResolveComponentResponse, anyhow::Error> {
        Ok(wit::resolve_component(&req))
    }

    async fn get_pack_status(
        &self,
        tenant_id: &str,
        environment_id: &str,
        pack_id: &str,
    ) -> Result<String, anyhow::Error> {
        Ok(wit::get_pack_status(tenant_id, environment_id, pack_id))
    }

    async fn get_pack_status_v2(
        &self,
        tenant_id: &str,
        environment_id: &str,
        pack_id: &str,
    ) -> Result<wit::PackStatusResponse, anyhow::Error> {
        Ok(wit::get_pack_status_v2(tenant_id, environment_id, pack_id))
    }

    async fn warm_pack(&self, tenant_id: &str, environment_id: &str, pack_id: &str) -> Result<(), anyhow::Error> {
        wit::warm_pack(tenant_id, environment_id, pack_id);
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn no_imports<T>() -> Result<T, anyhow::Error> {
    Err(anyhow::anyhow!(
        "the imports of the distributor API exist on wasm32 only; use the HTTP client, or bindings of your own"
    ))
}

#[cfg(not(target_arch = "wasm32"))]
#[async_trait]
impl DistributorApiBindings for GeneratedDistributorApiBindings {
    async fn resolve_component(
        &self,
        _: wit::ResolveComponentRequest,
    ) -> Result<wit::ResolveComponentResponse, anyhow::Error> {
        no_imports()
    }

    async fn get_pack_status(&self, _: &str, _: &str, _: &str) -> Result<String, anyhow::Error> {
        no_imports()
    }

    async fn get_pack_status_v2(&self, _: &str, _: &str, _: &str) -> Result<wit::PackStatusResponse, anyhow::Error> {
        no_imports()
    }

    async fn warm_pack(&self, _: &str, _: &str, _: &str) -> Result<(), anyhow::Error> {
        no_imports()
    }
}

/// A [`DistributorClient`] over the WIT interface.
///
/// Of a tenant context only the `tenant_id` crosses the boundary. The interface's free texts (`extra`, the pack status) are
/// read as JSON where they are JSON, as null where they are empty, and as plain text otherwise.
///
/// ```
/// use greentic_distributor_client::{
///     DistributorClient, DistributorEnvironmentId, DistributorError, GeneratedDistributorApiBindings, TenantCtx,
///     WitDistributorClient,
/// };
///
/// async fn warm(tenant: &TenantCtx, pack: &str) -> Result<(), DistributorError> {
///     let client = WitDistributorClient::new(GeneratedDistributorApiBindings);
///     client.warm_pack(tenant, &DistributorEnvironmentId::from("prod"), pack).await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct WitDistributorClient<B: DistributorApiBindings> {
    bindings: B,
}

impl<B: DistributorApiBindings> WitDistributorClient<B> {
    /// A client that calls through these bindings.
    pub const fn new(bindings: B) -> Self {
        Self { bindings }
    }
}

#[async_trait]
impl<B: DistributorApiBindings> DistributorClient for WitDistributorClient<B> {
    async fn resolve_component(
        &self,
        req: ResolveComponentRequest,
    ) -> Result<ResolveComponentResponse, DistributorError> {
        let answer = self.bindings.resolve_component(request(req)?).await.map_err(failed)?;
        response(answer)
    }

    async fn get_pack_status(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<Value, DistributorError> {
        let answer = self.bindings.get_pack_status(tenant.tenant_id.as_str(), env.as_str(), pack_id).await;
        answer.map(free_text).map_err(failed)
    }

    async fn get_pack_status_v2(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<PackStatusResponse, DistributorError> {
        let answer = self.bindings.get_pack_status_v2(tenant.tenant_id.as_str(), env.as_str(), pack_id).await;
        let wit::PackStatusResponse { status, secret_requirements, extra } = answer.map_err(failed)?;
        Ok(PackStatusResponse {
            status,
            secret_requirements: Some(requirements(secret_requirements)?),
            extra: free_text(extra),
        })
    }

    async fn warm_pack(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<(), DistributorError> {
        self.bindings.warm_pack(tenant.tenant_id.as_str(), env.as_str(), pack_id).await.map_err(failed)
    }
}

/// The failure of a call, with its causes: nobody downstream sees the chain.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> DistributorError {
    DistributorError::Wit(format!("{error:#}"))
}

fn request(req: ResolveComponentRequest) -> Result<wit::ResolveComponentRequest, DistributorError> {
    Ok(wit::ResolveComponentRequest {
        tenant_id: req.tenant.tenant_id.into(),
        environment_id: req.environment_id.0,
        pack_id: req.pack_id,
        component_id: req.component_id,
        version: req.version,
        extra: serde_json::to_string(&req.extra)?,
    })
}

fn response(answer: wit::ResolveComponentResponse) -> Result<ResolveComponentResponse, DistributorError> {
    let wit::ResolveComponentResponse {
        component_status,
        digest,
        artifact_location,
        signature_summary,
        cache_info,
        secret_requirements,
    } = answer;
    Ok(ResolveComponentResponse {
        status: match component_status {
            wit::ComponentStatus::Pending => ComponentStatus::Pending,
            wit::ComponentStatus::Ready => ComponentStatus::Ready,
            wit::ComponentStatus::Failed => ComponentStatus::Failed { reason: FAILED.to_owned() },
        },
        digest: ComponentDigest(digest),
        artifact: location(artifact_location),
        signature: SignatureSummary {
            verified: signature_summary.verified,
            signer: signature_summary.signer,
            extra: free_text(signature_summary.extra),
        },
        cache: CacheInfo {
            size_bytes: cache_info.size_bytes,
            last_used_utc: cache_info.last_used_utc,
            last_refreshed_utc: cache_info.last_refreshed_utc,
        },
        secret_requirements: Some(requirements(secret_requirements)?),
    })
}

/// The kinds are matched exactly; what nobody here knows is the distributor's own business.
fn location(location: wit::ArtifactLocation) -> ArtifactLocation {
    let wit::ArtifactLocation { kind, value } = location;
    match kind.as_str() {
        "file" | "file_path" => ArtifactLocation::FilePath { path: value },
        "oci" | "oci_reference" => ArtifactLocation::OciReference { reference: value },
        _ => ArtifactLocation::DistributorInternal { handle: value },
    }
}

/// A text that may be JSON: what it says, null when it is empty, and otherwise the text itself.
fn free_text(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn requirements(asked: Vec<wit::SecretRequirement>) -> Result<Vec<SecretRequirement>, DistributorError> {
    asked.into_iter().map(requirement).collect()
}

fn requirement(asked: wit::SecretRequirement) -> Result<SecretRequirement, DistributorError> {
    let wit::SecretRequirement { key, required, description, scope, format, schema, examples } = asked;
    // The type is `non_exhaustive`: it can be filled, not built.
    let mut requirement = SecretRequirement::default();
    requirement.key = SecretKey::parse(&key)
        .map_err(|error| DistributorError::InvalidResponse(format!("the secret key {key:?} is invalid: {error}")))?;
    requirement.required = required;
    requirement.description = description;
    requirement.scope = scope.map(|scope| SecretScope { env: scope.env, tenant: scope.tenant, team: scope.team });
    // The enum has no public path in the bindings, so its number is read.
    requirement.format = format.map(|format| secret_format(format as u8)).transpose()?;
    requirement.schema = schema.map(|schema| serde_json::from_str(&schema)).transpose()?;
    requirement.examples = examples;
    Ok(requirement)
}

fn secret_format(number: u8) -> Result<SecretFormat, DistributorError> {
    match number {
        0 => Ok(SecretFormat::Bytes),
        1 => Ok(SecretFormat::Text),
        2 => Ok(SecretFormat::Json),
        other => Err(DistributorError::InvalidResponse(format!("the secret format {other} is unknown"))),
    }
}
