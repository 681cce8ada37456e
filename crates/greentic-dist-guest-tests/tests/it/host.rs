//! A host that implements the distributor interface over a development directory.

use std::sync::OnceLock;

use greentic_dist_types::Digest;
use greentic_distributor_client::{ComponentId, DistributorSource, PackId, Version};
use greentic_distributor_dev::DevDistributorSource;
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Engine, Store};

use crate::build::guest;

wasmtime::component::bindgen!({
    path: "../greentic-dist-guest/wit",
    world: "greentic:distributor-api/imports",
    imports: { default: trappable },
});

pub(crate) use greentic::distributor_api::distributor as wit;
pub(crate) use greentic::secrets_types::types as secrets;

/// The version every pack of this host has.
const PACK_VERSION: Version = Version::new(1, 0, 0);

/// What the guest is answered from, and everything it asked.
pub(crate) struct Host {
    pub(crate) source: DevDistributorSource,
    /// Named as needed by every component and pack.
    pub(crate) secrets: Vec<wit::SecretRequirement>,
    pub(crate) asked: Vec<String>,
    pub(crate) warm: Vec<String>,
}

impl Host {
    pub(crate) fn new(source: DevDistributorSource) -> Self {
        Self { source, secrets: Vec::new(), asked: Vec::new(), warm: Vec::new() }
    }

    fn pack(&self, id: &str) -> Option<Vec<u8>> {
        self.source.fetch_pack(&PackId(id.to_owned()), &PACK_VERSION).ok()
    }
}

impl secrets::Host for Host {}

impl wit::Host for Host {
    fn resolve_component(
        &mut self,
        req: wit::ResolveComponentRequest,
    ) -> wasmtime::Result<wit::ResolveComponentResponse> {
        self.asked.push(format!(
            "resolve {} {} {} {} {} {}",
            req.tenant_id, req.environment_id, req.pack_id, req.component_id, req.version, req.extra
        ));
        let version = Version::parse(&req.version).ok();
        let bytes = version
            .and_then(|version| self.source.fetch_component(&ComponentId(req.component_id.clone()), &version).ok());
        let status = if bytes.is_some() { wit::ComponentStatus::Ready } else { wit::ComponentStatus::Failed };
        let bytes = bytes.unwrap_or_default();
        Ok(wit::ResolveComponentResponse {
            component_status: status,
            digest: Digest::sha256(&bytes).to_string(),
            artifact_location: wit::ArtifactLocation { kind: "internal".to_owned(), value: req.component_id },
            signature_summary: wit::SignatureSummary {
                verified: false,
                signer: String::new(),
                extra: "not a signature".to_owned(),
            },
            cache_info: wit::CacheInfo {
                size_bytes: u64::try_from(bytes.len())?,
                last_used_utc: String::new(),
                last_refreshed_utc: String::new(),
            },
            secret_requirements: self.secrets.clone(),
        })
    }

    fn get_pack_status(&mut self, tenant: String, environment: String, pack: String) -> wasmtime::Result<String> {
        self.asked.push(format!("status {tenant} {environment} {pack}"));
        match self.pack(&pack) {
            Some(bytes) => Ok(serde_json::json!({ "status": "ready", "size_bytes": bytes.len() }).to_string()),
            None => Ok("unknown pack".to_owned()),
        }
    }

    fn get_pack_status_v2(
        &mut self,
        tenant: String,
        environment: String,
        pack: String,
    ) -> wasmtime::Result<wit::PackStatusResponse> {
        self.asked.push(format!("status-v2 {tenant} {environment} {pack}"));
        let status = if self.pack(&pack).is_some() { "ready" } else { "missing" };
        Ok(wit::PackStatusResponse {
            status: status.to_owned(),
            secret_requirements: self.secrets.clone(),
            extra: String::new(),
        })
    }

    fn warm_pack(&mut self, tenant: String, environment: String, pack: String) -> wasmtime::Result<()> {
        self.asked.push(format!("warm {tenant} {environment} {pack}"));
        if self.pack(&pack).is_none() {
            // The interface has no failure: a host that cannot go on stops the guest.
            wasmtime::bail!("there is no pack {pack}");
        }
        self.warm.push(pack);
        Ok(())
    }
}

/// The guest, compiled once.
fn compiled() -> Option<&'static (Engine, Component)> {
    static COMPILED: OnceLock<Option<(Engine, Component)>> = OnceLock::new();
    let compile = || {
        let engine = Engine::default();
        let component = Component::from_file(&engine, guest()?).unwrap();
        Some((engine, component))
    };
    COMPILED.get_or_init(compile).as_ref()
}

/// The guest's one export.
type Ask = TypedFunc<(String, String, String, String), (Result<String, String>,)>;

/// One guest in one host.
pub(crate) struct World {
    pub(crate) store: Store<Host>,
    ask: Ask,
}

impl World {
    /// `None` where the guest cannot be built.
    pub(crate) fn start(host: Host) -> Option<Self> {
        let (engine, component) = compiled()?;
        let mut linker: Linker<Host> = Linker::new(engine);
        Imports::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |host| host).unwrap();
        // What the standard library imports of WASI: this guest asks for none of it, and a call would stop it.
        linker.define_unknown_imports_as_traps(component).unwrap();
        let mut store = Store::new(engine, host);
        let instance = linker.instantiate(&mut store, component).unwrap();
        let ask = instance.get_typed_func(&mut store, "ask").unwrap();
        Some(Self { store, ask })
    }

    /// What the guest's client said: an answer as JSON or an error as text; `Err` when the guest was stopped.
    pub(crate) fn ask(
        &mut self,
        call: &str,
        pack: &str,
        component: &str,
        version: &str,
    ) -> wasmtime::Result<Result<String, String>> {
        let arguments = (call.to_owned(), pack.to_owned(), component.to_owned(), version.to_owned());
        self.ask.call(&mut self.store, arguments).map(|(said,)| said)
    }
}
