//! Round trips of `resolve_component` over HTTP, one after the other on one connection.
//!
//!     cargo bench -p greentic-distributor-client --bench ask_distributor -- URL COMPONENT VERSION TIMES
//!
//! `benches/distributor.sh` starts a distributor to ask and runs this.
#![allow(clippy::print_stdout, reason = "a measurement")]

use std::error::Error;
use std::time::{Duration, Instant};

use greentic_distributor_client::{
    ComponentStatus, DistributorClient, DistributorClientConfig, DistributorEnvironmentId, EnvId,
    HttpDistributorClient, ResolveComponentRequest, TenantCtx, TenantId,
};

/// Rounds before the measured ones: the connection is opened and the distributor has hashed what it is asked for.
const WARM_UP: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [url, component, version, times] = &arguments[..] else {
        return Err("wanted: URL COMPONENT VERSION TIMES".into());
    };
    let tenant = TenantCtx::new(EnvId::new("bench")?, TenantId::new("acme")?);
    let environment = DistributorEnvironmentId::from("bench");
    let client = HttpDistributorClient::new(DistributorClientConfig {
        base_url: Some(url.clone()),
        environment_id: environment.clone(),
        tenant: tenant.clone(),
        auth_token: None,
        extra_headers: None,
        request_timeout: None,
    })?;
    let request = ResolveComponentRequest {
        tenant,
        environment_id: environment,
        pack_id: "bench".to_owned(),
        component_id: component.clone(),
        version: version.clone(),
        extra: serde_json::Value::Null,
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = runtime.block_on(async {
        let mut rounds: Vec<Duration> = Vec::new();
        for _ in 0..WARM_UP + times.parse::<usize>()? {
            let began = Instant::now();
            let answer = client.resolve_component(request.clone()).await?;
            rounds.push(began.elapsed());
            if !matches!(answer.status, ComponentStatus::Ready) {
                return Err("the distributor does not have the component".into());
            }
        }
        Ok::<_, Box<dyn Error>>(rounds.split_off(WARM_UP))
    })?;
    rounds.sort_unstable();
    let at = |percent: usize| rounds.get((rounds.len() * percent / 100).min(rounds.len().saturating_sub(1))).copied();
    let (Some(p50), Some(p99)) = (at(50), at(99)) else { return Err("TIMES must be 1 or more".into()) };
    println!("p50 {} us, p99 {} us over {} rounds", p50.as_micros(), p99.as_micros(), rounds.len());
    Ok(())
}
