//! A program that asks a distributor, and asks for that by the earlier name of the feature.
//!
//! Features: `reqwest` without the default ones.

use greentic_dist_compat_tests::{Machine, short_lived};
use greentic_dist_testkit::serve::{Registry, TreeLayout};
use greentic_distributor_client::{
    DistributorClient, DistributorClientConfig, DistributorEnvironmentId, DistributorError, EnvId,
    HttpDistributorClient, PackStatusResponse, TenantCtx, TenantId,
};

fn client(base_url: String) -> HttpDistributorClient {
    let tenant = TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("tenant-a").unwrap());
    let config = DistributorClientConfig {
        base_url: None,
        environment_id: DistributorEnvironmentId::from("dev"),
        tenant,
        auth_token: None,
        extra_headers: None,
        request_timeout: None,
    };
    HttpDistributorClient::new(config.with_base_url(base_url)).unwrap()
}

#[test]
fn the_status_of_a_pack_is_asked_for_and_a_missing_one_is_told_apart() {
    let machine = Machine::new();
    machine.file("tree/packs/kit-1.0.0.gtpack", b"pack");
    let registry = Registry::over_tree(machine.at("tree"), TreeLayout::Flat).unwrap();
    let distributor = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
    let client = client(distributor.url());
    let tenant = TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("tenant-a").unwrap());
    let env = DistributorEnvironmentId::from("dev");

    let status: serde_json::Value = short_lived(client.get_pack_status(&tenant, &env, "kit")).unwrap();
    assert_eq!(status["status"], "ready");
    let PackStatusResponse { status, secret_requirements, extra } =
        short_lived(client.get_pack_status_v2(&tenant, &env, "kit")).unwrap();
    assert_eq!((status.as_str(), secret_requirements), ("ready", None));
    assert_eq!(extra["versions"][0], "1.0.0");
    short_lived(client.warm_pack(&tenant, &env, "kit")).unwrap();
    let missing = short_lived(client.warm_pack(&tenant, &env, "other"));
    assert!(matches!(missing, Err(DistributorError::NotFound)), "{missing:?}");
}
