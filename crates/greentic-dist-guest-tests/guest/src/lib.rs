//! A guest as a real one would be: the public crate without its features, its WIT client, and one export that uses it.
#![cfg(target_arch = "wasm32")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use greentic_distributor_client::{
    DistributorClient, DistributorEnvironmentId, DistributorError, EnvId, GeneratedDistributorApiBindings,
    ResolveComponentRequest, TenantCtx, TenantId, WitDistributorClient,
};
use serde::Serialize;

wit_bindgen::generate!({ path: "wit", world: "probe" });

struct Probe;
export!(Probe);

impl Guest for Probe {
    fn ask(call: String, pack: String, component: String, version: String) -> Result<String, String> {
        let tenant = match (EnvId::new("dev"), TenantId::new("acme")) {
            (Ok(env), Ok(tenant)) => TenantCtx::new(env, tenant),
            _ => return Err("the tenant is none".to_owned()),
        };
        let client = WitDistributorClient::new(GeneratedDistributorApiBindings);
        let env = DistributorEnvironmentId::from("edge");
        match call.as_str() {
            "resolve-component" => told(now(client.resolve_component(ResolveComponentRequest {
                tenant,
                environment_id: env,
                pack_id: pack,
                component_id: component,
                version,
                extra: serde_json::json!({ "asked by": "a guest" }),
            }))),
            "get-pack-status" => told(now(client.get_pack_status(&tenant, &env, &pack))),
            "get-pack-status-v2" => told(now(client.get_pack_status_v2(&tenant, &env, &pack))),
            "warm-pack" => told(now(client.warm_pack(&tenant, &env, &pack))),
            other => Err(format!("there is no call `{other}`")),
        }
    }
}

fn told<T: Serialize>(answer: Option<Result<T, DistributorError>>) -> Result<String, String> {
    let answer = answer.ok_or_else(|| "the call waits, and nothing can wake it".to_owned())?;
    answer
        .map_err(|error| error.to_string())
        .and_then(|value| serde_json::to_string(&value).map_err(|error| error.to_string()))
}

/// The calls of the host are synchronous: their futures are ready when they are first asked.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
