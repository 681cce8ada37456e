//! What is known about one registry: its address, its scheme, its logins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;

use crate::NetError;
use crate::config::{HttpRule, is_loopback};
use crate::exchange::parse_url;
use crate::oci::auth::RegistryAuth;

/// Most registries remembered; beyond it the table starts anew.
const REGISTRIES: usize = 1_024;

/// One registry, shared by all its repositories.
#[derive(Debug)]
pub(crate) struct Registry {
    /// As references write it: the key for logins.
    name: String,
    /// The host that answers its API.
    api_host: String,
    plain_http: bool,
    loopback: bool,
    speaks_tls: AtomicBool,
    refuses_head: AtomicBool,
    refuses_single_post: AtomicBool,
    ignores_tag_parameters: AtomicBool,
    auth: RegistryAuth,
}

impl Registry {
    fn new(name: &str, http: &HttpRule) -> Self {
        let api_host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        Self {
            name: name.to_owned(),
            api_host: api_host.to_owned(),
            plain_http: http.allows_registry(api_host),
            loopback: Url::parse(&format!("http://{api_host}/")).is_ok_and(|url| is_loopback(&url)),
            speaks_tls: AtomicBool::new(false),
            refuses_head: AtomicBool::new(false),
            refuses_single_post: AtomicBool::new(false),
            ignores_tag_parameters: AtomicBool::new(false),
            auth: RegistryAuth::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn auth(&self) -> &RegistryAuth {
        &self.auth
    }

    /// The URL of a path, which starts with a slash and is made of validated parts.
    pub(crate) fn url(&self, path: &str) -> Result<Url, NetError> {
        let scheme = if self.is_plain() { "http" } else { "https" };
        parse_url(&format!("{scheme}://{}{path}", self.api_host))
    }

    /// Whether it is asked over plain HTTP now.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain_http && !self.speaks_tls.load(Ordering::Relaxed)
    }

    pub(crate) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether HTTPS is worth a try after an unintelligible answer over HTTP.
    pub(crate) fn may_speak_tls(&self) -> bool {
        self.loopback && self.is_plain()
    }

    pub(crate) fn set_tls(&self, speaks_tls: bool) {
        self.speaks_tls.store(speaks_tls, Ordering::Relaxed);
    }

    /// Whether it was seen to answer no HEAD.
    pub(crate) fn refuses_head(&self) -> bool {
        self.refuses_head.load(Ordering::Relaxed)
    }

    pub(crate) fn set_refuses_head(&self) {
        self.refuses_head.store(true, Ordering::Relaxed);
    }

    /// Whether it was seen to take no blob in the request that opens an upload.
    pub(crate) fn refuses_single_post(&self) -> bool {
        self.refuses_single_post.load(Ordering::Relaxed)
    }

    pub(crate) fn set_refuses_single_post(&self) {
        self.refuses_single_post.store(true, Ordering::Relaxed);
    }

    /// Whether it was seen to set no tag but the one in the path of a request.
    pub(crate) fn ignores_tag_parameters(&self) -> bool {
        self.ignores_tag_parameters.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ignores_tag_parameters(&self) {
        self.ignores_tag_parameters.store(true, Ordering::Relaxed);
    }
}

/// All registries of one [`Net`](crate::Net).
#[derive(Debug, Default)]
pub(crate) struct Registries(Mutex<HashMap<String, Arc<Registry>>>);

impl Registries {
    pub(crate) fn get(&self, name: &str, http: &HttpRule) -> Arc<Registry> {
        let key = name.to_ascii_lowercase();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REGISTRIES && !known.contains_key(&key) {
            known.clear();
        }
        let registry = known.entry(key).or_insert_with_key(|key| Arc::new(Registry::new(key, http)));
        Arc::clone(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_is_asked_at_its_api_host_and_kept_under_its_own_name() {
        let registry = Registry::new("docker.io", &HttpRule::Loopback);
        assert_eq!(registry.url("/v2/x").unwrap().as_str(), "https://registry-1.docker.io/v2/x");
        assert_eq!(registry.name(), "docker.io");
    }

    #[test]
    fn loopback_registries_start_with_http_and_may_turn_to_tls() {
        let registry = Registry::new("[::1]:5000", &HttpRule::Loopback);
        assert_eq!(registry.url("/v2/").unwrap().as_str(), "http://[::1]:5000/v2/");
        assert!(registry.may_speak_tls());
        registry.set_tls(true);
        assert_eq!(registry.url("/v2/").unwrap().as_str(), "https://[::1]:5000/v2/");
        assert!(!registry.may_speak_tls());
        assert!(!Registry::new("ghcr.io", &HttpRule::Loopback).may_speak_tls());
    }

    #[test]
    fn spellings_of_a_host_share_one_state() {
        let registries = Registries::default();
        let one = registries.get("GHCR.io", &HttpRule::Loopback);
        assert!(Arc::ptr_eq(&one, &registries.get("ghcr.io", &HttpRule::Loopback)));
    }
}
