//! Logins from the environment, by host.
//!
//! `GREENTIC_DIST_AUTH_<HOST>_USERNAME` with `…_PASSWORD`, or `…_TOKEN`, where `<HOST>` is the registry as references write
//! it, in upper case, with `_` for a dot or colon, `__` for a hyphen and `___` for an underscore: `127.0.0.1:5000` is
//! `127_0_0_1_5000`, `my-registry.io` is `MY__REGISTRY_IO`. Two registries never share a name, so that a login cannot reach
//! the owner of a similar one. The environment is read when a registry demands a login.

use greentic_dist_net::{BoxFuture, Credential, CredentialAnswer, CredentialSource, CredentialTarget, Login, NetError};
use greentic_dist_types::Secret;

use crate::env;

/// Logins from the environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvCredentials;

impl CredentialSource for EnvCredentials {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        Box::pin(std::future::ready(Ok(find(target).into())))
    }
}

/// The login of the environment for a registry.
pub(super) fn find(target: &CredentialTarget) -> Option<Login> {
    lookup(&target.host, env::text).map(|login| Login::ambient(login, "the environment"))
}

fn lookup(host: &str, read: impl Fn(&str) -> Option<String>) -> Option<Credential> {
    let mut name = String::with_capacity(host.len());
    for ch in host.chars() {
        match ch {
            '-' => name.push_str("__"),
            '_' => name.push_str("___"),
            _ if ch.is_ascii_alphanumeric() => name.push(ch.to_ascii_uppercase()),
            _ => name.push('_'),
        }
    }
    let read = |suffix: &str| read(&format!("{}{name}_{suffix}", env::AUTH_PREFIX));
    if let (Some(username), Some(password)) = (read("USERNAME"), read("PASSWORD")) {
        return Some(Credential::Basic { username, password: Secret::new(password) });
    }
    read("TOKEN").map(|token| Credential::Bearer(Secret::new(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_registries_do_not_share_a_login() {
        let read = |name: &str| (name == "GREENTIC_DIST_AUTH_REGISTRY_ACME_IO_TOKEN").then(|| "canary".to_owned());
        assert!(lookup("registry.acme.io", read).is_some());
        for other in ["registry-acme.io", "registry_acme.io", "registry.acme-io"] {
            assert_eq!(lookup(other, read), None, "{other}");
        }
    }

    #[test]
    fn variables_are_found_by_host_and_port_and_for_no_other_host() {
        let read = |name: &str| match name {
            "GREENTIC_DIST_AUTH_127_0_0_1_5000_USERNAME" => Some("ann".to_owned()),
            "GREENTIC_DIST_AUTH_127_0_0_1_5000_PASSWORD" | "GREENTIC_DIST_AUTH_GHCR_IO_TOKEN" => {
                Some("canary".to_owned())
            }
            _ => None,
        };
        assert!(
            matches!(lookup("127.0.0.1:5000", read), Some(Credential::Basic { username, .. }) if username == "ann")
        );
        assert!(matches!(lookup("ghcr.io", read), Some(Credential::Bearer(_))));
        assert_eq!(lookup("127.0.0.1:5001", read), None);
        assert_eq!(lookup("ghcr.io.evil.example", read), None);
    }
}
