//! How a distributor is reached.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use greentic_dist_types::redact_url;

use crate::types::{DistributorEnvironmentId, TenantCtx};

/// Configuration of a distributor client.
///
/// Built by literal in published code: the fields are fixed. `Debug` shows that there are a token and headers, and not what
/// they say.
#[derive(Clone, PartialEq, Eq)]
pub struct DistributorClientConfig {
    /// The distributor's address, e.g. `https://distributor.example`. Needed by the HTTP client only.
    pub base_url: Option<String>,
    /// The environment this client works in.
    pub environment_id: DistributorEnvironmentId,
    /// The tenant this client works for.
    pub tenant: TenantCtx,
    /// Sent as a bearer token, to the origin of `base_url` and to nobody else.
    pub auth_token: Option<String>,
    /// Headers sent with every request. One that is also set by the client replaces it.
    pub extra_headers: Option<HashMap<String, String>>,
    /// How long one request may take as a whole. `None`: no limit on the whole, only on its phases.
    pub request_timeout: Option<Duration>,
}

impl DistributorClientConfig {
    /// The same with this address.
    #[must_use]
    pub fn with_base_url(self, base_url: impl Into<String>) -> Self {
        Self { base_url: Some(base_url.into()), ..self }
    }

    /// The configuration a Greentic host configuration describes: its environment, and its read timeout as the time of a
    /// request. The tenant works in that environment; a `tenant_id` that was set apart is kept. Address, token and headers
    /// are not part of a host configuration.
    #[cfg(feature = "greentic-config")]
    pub fn from_greentic(cfg: &greentic_config_types::GreenticConfig, mut tenant: TenantCtx) -> Self {
        tenant.env = cfg.environment.env_id.clone();
        if tenant.tenant_id.as_str().is_empty() {
            tenant.tenant_id = tenant.tenant.clone();
        }
        Self {
            base_url: None,
            environment_id: DistributorEnvironmentId::from(cfg.environment.env_id.as_str()),
            tenant,
            auth_token: None,
            extra_headers: None,
            request_timeout: cfg.network.read_timeout_ms.map(Duration::from_millis),
        }
    }
}

impl fmt::Debug for DistributorClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut headers: Vec<&str> = self.extra_headers.iter().flatten().map(|(name, _value)| name.as_str()).collect();
        headers.sort_unstable();
        f.debug_struct("DistributorClientConfig")
            .field("base_url", &self.base_url.as_deref().map(redact_url))
            .field("environment_id", &self.environment_id)
            .field("tenant", &self.tenant)
            .field("auth_token", &self.auth_token.as_ref().map(|_| "[redacted]"))
            .field("extra_headers", &headers)
            .field("request_timeout", &self.request_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EnvId, TenantId};

    fn config() -> DistributorClientConfig {
        DistributorClientConfig {
            base_url: Some("https://user:hunter2@distributor.example/x?token=hunter3".to_owned()),
            environment_id: DistributorEnvironmentId::from("dev"),
            tenant: TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("acme").unwrap()),
            auth_token: Some("hunter4".to_owned()),
            extra_headers: Some(HashMap::from([("x-api-key".to_owned(), "hunter5".to_owned())])),
            request_timeout: None,
        }
    }

    #[test]
    fn d06_debug_shows_what_is_set_and_no_secret() {
        let shown = format!("{:?}", config());
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("distributor.example") && shown.contains("x-api-key"), "{shown}");
    }

    #[test]
    fn the_address_is_set_and_everything_else_kept() {
        let changed = config().with_base_url("http://127.0.0.1:1");
        assert_eq!(changed, DistributorClientConfig { base_url: Some("http://127.0.0.1:1".to_owned()), ..config() });
    }

    #[cfg(feature = "greentic-config")]
    #[test]
    fn d19_a_host_configuration_names_environment_and_timeout_and_keeps_the_tenant() {
        let cfg: greentic_config_types::GreenticConfig = serde_json::from_value(serde_json::json!({
            "schema_version": "1",
            "environment": { "env_id": "staging" },
            "paths": { "greentic_root": "/g", "state_dir": "/g/s", "cache_dir": "/g/c", "logs_dir": "/g/l" },
            "runtime": {},
            "telemetry": {},
            "network": { "read_timeout_ms": 1500 },
            "secrets": {},
        }))
        .unwrap();
        let mut tenant = TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("acme").unwrap());
        tenant.tenant_id = TenantId::new("acme-7").unwrap();
        let made = DistributorClientConfig::from_greentic(&cfg, tenant);
        assert_eq!(made.environment_id.as_str(), "staging");
        assert_eq!(made.tenant.env.as_str(), "staging");
        assert_eq!(made.tenant.tenant_id.as_str(), "acme-7");
        assert_eq!(made.request_timeout, Some(Duration::from_millis(1500)));
        assert!(made.base_url.is_none() && made.auth_token.is_none() && made.extra_headers.is_none());
    }
}
