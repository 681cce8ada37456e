//! The logins of tenants, each for the one registry that has their packages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use greentic_dist_net::{ClientStats, Credential, Net, StaticCredentials};
use greentic_dist_types::{Digest, Secret};

use super::DistError;
use super::client::Inner;
use super::error::chain;
use super::resolve::tenant::REGISTRY;
use crate::store_auth;

/// Most tenants whose connections are kept; beyond it they are made anew.
const TENANTS: usize = 64;

/// Access to the network on behalf of tenants.
#[derive(Debug)]
pub(super) struct Tenants {
    registry: String,
    nets: Mutex<HashMap<String, Opened>>,
}

/// The network as one tenant sees it. It knows that login and no other, and that login is for one registry.
#[derive(Debug)]
struct Opened {
    /// Tells whether the login was replaced, without keeping it.
    token: Digest,
    net: Net,
}

impl Tenants {
    /// With packages in `registry`; in the registry of the store where none is named.
    pub(super) fn new(registry: Option<String>) -> Self {
        Self { registry: registry.unwrap_or_else(|| REGISTRY.to_owned()), nets: Mutex::default() }
    }

    /// The registry with the packages.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// The counters of all tenants.
    pub(super) fn stats(&self) -> Vec<ClientStats> {
        self.nets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|opened| opened.net.client_stats())
            .collect()
    }
}

impl Inner {
    /// The network for a tenant, with the login that is saved for it now; for nobody in particular without one.
    pub(super) async fn net_for(&self, tenant: Option<&str>, shown: &str) -> Result<Net, DistError> {
        let Some(tenant) = tenant else { return self.net(shown).cloned() };
        let (auth, state) = (&self.options.store_auth_path, &self.options.store_state_path);
        let login = store_auth::load_login(auth, state, tenant).await;
        let login =
            login.map_err(|error| DistError::StoreAuth(format!("`{shown}` needs a login: {}", chain(&error))))?;
        self.tenant_net(tenant, &login.username, Secret::new(login.token), shown)
    }

    /// The network for a tenant with this token. Nothing is saved.
    pub(super) fn tenant_net(
        &self,
        tenant: &str,
        username: &str,
        token: Secret,
        shown: &str,
    ) -> Result<Net, DistError> {
        let identity = Digest::sha256(token.expose().as_bytes());
        let mut nets = self.tenants.nets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = nets.get(tenant).filter(|opened| opened.token == identity) {
            return Ok(opened.net.clone());
        }
        let login = Credential::Basic { username: username.to_owned(), password: token };
        let logins = StaticCredentials::new().with(&self.tenants.registry, login);
        let net = self.net_settings.clone().credentials(Arc::new(logins)).build();
        let net = net.map_err(|error| DistError::from_net(shown, error))?;
        if nets.len() >= TENANTS {
            nets.clear();
        }
        nets.insert(tenant.to_owned(), Opened { token: identity, net: net.clone() });
        Ok(net)
    }
}
