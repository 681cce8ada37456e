//! `greentic-dev`: a client of its own for packs, and answers of a distributor that it makes itself.
//!
//! Features: `pack-fetch` without the default ones.

use std::collections::HashMap;

use async_trait::async_trait;
use greentic_dist_compat_tests::{Machine, bytes_at, short_lived};
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::oci_packs::{
    PulledImage, PulledLayer, Reference, RegistryClient, RegistryClientError,
};
use greentic_distributor_client::{
    ArtifactLocation, CacheInfo, ComponentDigest, ComponentStatus, DistributorClient, DistributorEnvironmentId,
    DistributorError, EnvId, OciPackError, OciPackFetcher, PackFetchOptions, PackStatusResponse,
    ResolveComponentRequest, ResolveComponentResponse, SignatureSummary, TenantCtx, TenantId,
};
use serde_json::{Value, json};

/// Packs by the whole reference.
#[derive(Clone, Default)]
struct Shelf(HashMap<String, PulledImage>);

#[async_trait]
impl RegistryClient for Shelf {
    fn default_client() -> Self {
        Self::default()
    }

    async fn pull(
        &self,
        reference: &Reference,
        _accepted_manifest_types: &[&str],
    ) -> Result<PulledImage, RegistryClientError> {
        let missing = || RegistryClientError::GenericError(Some(format!("{} is not on the shelf", reference.whole())));
        self.0.get(&reference.whole()).cloned().ok_or_else(missing)
    }
}

#[test]
fn a_client_of_its_own_is_asked_for_packs() {
    let bytes = fixture::random_bytes(9, 4_000);
    let digest = Digest::sha256(&bytes).to_string();
    let layer = PulledLayer {
        media_type: "application/vnd.acme.pack.v1+tar+gzip".to_owned(),
        data: bytes.clone(),
        digest: Some(digest.clone()),
    };
    let image = PulledImage { digest: Some(digest.clone()), layers: vec![layer] };
    let shelf = Shelf(HashMap::from([("registry.example/acme/kit:1".to_owned(), image)]));
    let machine = Machine::new();
    let opts = PackFetchOptions { allow_tags: true, cache_dir: machine.cache(), ..PackFetchOptions::default() };
    let fetcher = OciPackFetcher::with_client(shelf.clone(), opts.clone());
    let pack = short_lived(fetcher.fetch_pack_to_cache("registry.example/acme/kit:1")).unwrap();
    assert_eq!(
        (pack.resolved_digest.as_str(), pack.media_type.as_str()),
        (digest.as_str(), "application/vnd.acme.pack.v1+tar+gzip")
    );
    assert!(pack.fetched_from_network);
    assert_eq!(bytes_at(&pack.path), bytes);
    // By its digest nobody is asked any more.
    let nobody = OciPackFetcher::<Shelf>::new(opts);
    let again = short_lived(nobody.fetch_pack_to_cache(&format!("registry.example/acme/kit@{digest}"))).unwrap();
    assert_eq!((again.path, again.fetched_from_network), (pack.path, false));
    let error = short_lived(nobody.fetch_pack_to_cache("registry.example/acme/other:1")).unwrap_err();
    assert!(matches!(&error, OciPackError::PullFailed { .. }), "{error:?}");
    assert!(error.to_string().contains("registry.example/acme/other:1 is not on the shelf"), "{error}");
}

/// All six fields.
fn answer(reference: &str) -> ResolveComponentResponse {
    ResolveComponentResponse {
        status: ComponentStatus::Ready,
        digest: ComponentDigest::from(format!("sha256:{}", "a".repeat(64))),
        artifact: ArtifactLocation::OciReference { reference: reference.to_owned() },
        signature: SignatureSummary { verified: false, signer: String::new(), extra: Value::Null },
        cache: CacheInfo { size_bytes: 7, last_used_utc: String::new(), last_refreshed_utc: String::new() },
        secret_requirements: None,
    }
}

/// A distributor that knows one component.
struct Local;

#[async_trait]
impl DistributorClient for Local {
    async fn resolve_component(
        &self,
        req: ResolveComponentRequest,
    ) -> Result<ResolveComponentResponse, DistributorError> {
        match req.component_id.as_str() {
            "part" => Ok(answer("registry.example/acme/part:1")),
            _ => Err(DistributorError::NotFound),
        }
    }

    async fn get_pack_status(
        &self,
        _tenant: &TenantCtx,
        _env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<Value, DistributorError> {
        Ok(json!({ "status": pack_id }))
    }

    async fn get_pack_status_v2(
        &self,
        _tenant: &TenantCtx,
        _env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<PackStatusResponse, DistributorError> {
        Ok(PackStatusResponse { status: pack_id.to_owned(), secret_requirements: None, extra: Value::Null })
    }

    async fn warm_pack(
        &self,
        _tenant: &TenantCtx,
        _env: &DistributorEnvironmentId,
        _pack_id: &str,
    ) -> Result<(), DistributorError> {
        Err(DistributorError::PermissionDenied)
    }
}

#[test]
fn a_distributor_of_its_own_answers_with_what_it_writes_down() {
    let client: Box<dyn DistributorClient> = Box::new(Local);
    let tenant = TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("tenant-a").unwrap());
    let env = DistributorEnvironmentId::from("dev");
    let request = |component: &str| ResolveComponentRequest {
        tenant: tenant.clone(),
        environment_id: env.clone(),
        pack_id: "kit".to_owned(),
        component_id: component.to_owned(),
        version: "1.0.0".to_owned(),
        extra: Value::Null,
    };
    let answered = short_lived(client.resolve_component(request("part"))).unwrap();
    let text = serde_json::to_string(&answered).unwrap();
    assert_eq!(serde_json::from_str::<ResolveComponentResponse>(&text).unwrap(), answered);
    assert!(matches!(short_lived(client.resolve_component(request("x"))), Err(DistributorError::NotFound)));
    assert_eq!(short_lived(client.get_pack_status(&tenant, &env, "kit")).unwrap()["status"], "kit");
    assert_eq!(short_lived(client.get_pack_status_v2(&tenant, &env, "kit")).unwrap().status, "kit");
    let refused = short_lived(client.warm_pack(&tenant, &env, "kit"));
    assert!(matches!(refused, Err(DistributorError::PermissionDenied)));
}
