//! The distributor API as a trait: what a runtime asks a distributor.

use async_trait::async_trait;
use serde_json::Value;

use crate::DistributorError;
use crate::types::{
    DistributorEnvironmentId, PackStatusResponse, ResolveComponentRequest, ResolveComponentResponse, TenantCtx,
};

/// A distributor, however it is reached. Object-safe.
#[async_trait]
pub trait DistributorClient: Send + Sync {
    /// Where a component is and whether it is ready.
    ///
    /// # Errors
    /// [`DistributorError::NotFound`], [`DistributorError::PermissionDenied`], otherwise by cause.
    async fn resolve_component(
        &self,
        req: ResolveComponentRequest,
    ) -> Result<ResolveComponentResponse, DistributorError>;

    /// The status of a pack, as the distributor writes it.
    ///
    /// # Errors
    /// As [`DistributorClient::resolve_component`].
    async fn get_pack_status(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<Value, DistributorError>;

    /// The status of a pack with the secrets it needs.
    ///
    /// # Errors
    /// As [`DistributorClient::resolve_component`].
    async fn get_pack_status_v2(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<PackStatusResponse, DistributorError>;

    /// Asks the distributor to have a pack ready.
    ///
    /// # Errors
    /// As [`DistributorClient::resolve_component`].
    async fn warm_pack(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<(), DistributorError>;
}
