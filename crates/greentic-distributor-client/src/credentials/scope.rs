//! What a saved login is for: a registry, or the repositories below a path of it.

use std::fmt;

use greentic_dist_net::CredentialTarget;
use greentic_dist_types::SafeText;

/// The names Docker Hub goes by: in references, in Docker's configuration, and as the host that answers.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The name under which Docker's tools keep the login for Docker Hub.
const DOCKER_HUB_URL: &str = "https://index.docker.io/v1/";
/// Longest scope, in bytes.
const SCOPE_BYTES: usize = 1 << 10;

/// The scope of a login: `host[:port]`, or `host[:port]/path`. The host is in lower case, and Docker Hub has one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope {
    host: String,
    path: String,
}

impl Scope {
    /// Reads a scope as a person writes it. `None` for what names no registry.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let path = path.trim_end_matches('/');
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'\\'));
        let is_registry = host == "localhost" || host.contains(['.', ':']);
        if !is_registry || text.len() > SCOPE_BYTES || !is_plain(text) || path.contains([':', '?', '#']) {
            return None;
        }
        Some(Self { host: one_name(host), path: path.to_owned() })
    }

    /// The scope of a key in an `auths` table: as it stands, and as a key of the oldest form, which is a URL or ends with the
    /// version of the API and means the whole host.
    fn of_key(key: &str) -> (Option<Self>, Option<Self>) {
        let (url, rest) = match key.split_once("://") {
            Some((_scheme, rest)) => (true, rest),
            None => (false, key),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        let whole_host = Self { host: one_name(host), path: String::new() };
        let oldest = (url || matches!(path, "v1" | "v2")).then_some(whole_host);
        let plain = (!url).then(|| Self { host: one_name(host), path: path.to_owned() });
        (plain, oldest)
    }

    /// The host.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The repositories below the host; empty for all.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The scopes a target is in, the most specific one first.
    pub(super) fn of_target(target: &CredentialTarget) -> Vec<Self> {
        let host = one_name(&target.host);
        let mut scopes = Vec::new();
        let mut path = target.repository.as_str();
        while !path.is_empty() {
            scopes.push(Self { host: host.clone(), path: path.to_owned() });
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
        scopes.push(Self { host, path: String::new() });
        scopes
    }

    /// What a credential helper is asked for.
    pub(super) fn server(&self) -> String {
        if self.host == DOCKER_HUB[0] { DOCKER_HUB_URL.to_owned() } else { self.host.clone() }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.is_empty() { "" } else { "/" };
        write!(f, "{}", SafeText::excerpt(&format!("{}{slash}{}", self.host, self.path), SCOPE_BYTES))
    }
}

/// The entry of a table that is for a target: the most specific path, then the host, then a key of the oldest form.
pub(super) fn find<'a, V>(
    table: &(impl Iterator<Item = (&'a str, &'a V)> + Clone),
    target: &CredentialTarget,
) -> Option<&'a V> {
    for wanted in Scope::of_target(target) {
        if let Some((_, value)) = table.clone().find(|(key, _)| Scope::of_key(key).0.as_ref() == Some(&wanted)) {
            return Some(value);
        }
    }
    let host = Some(Scope { host: one_name(&target.host), path: String::new() });
    table.clone().find(|(key, _)| Scope::of_key(key).1 == host).map(|(_, value)| value)
}

/// The host in lower case, and Docker Hub under one name. Nothing else is equal to anything else: not a host with its default
/// port, and not one that only begins alike.
fn one_name(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DOCKER_HUB.contains(&host.as_str()) { DOCKER_HUB[0].to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn found(keys: &[&str], host: &str, repository: &str) -> Option<String> {
        let table: BTreeMap<String, String> = keys.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect();
        let target = CredentialTarget::new(host, repository);
        find(&table.iter().map(|(key, value)| (key.as_str(), value)), &target).cloned()
    }

    #[test]
    fn the_most_specific_key_is_used_then_the_host_then_the_oldest_forms() {
        let keys = ["quay.io", "quay.io/org", "quay.io/org/repo", "https://quay.io/v1/", "other.io/org"];
        for (host, repository, expected) in [
            ("quay.io", "org/repo", Some("quay.io/org/repo")),
            ("quay.io", "org/repo/deep", Some("quay.io/org/repo")),
            ("quay.io", "org/other", Some("quay.io/org")),
            ("quay.io", "organisation/x", Some("quay.io")),
            ("quay.io", "", Some("quay.io")),
            ("other.io", "org/x", Some("other.io/org")),
            ("other.io", "x", None),
        ] {
            assert_eq!(found(&keys, host, repository).as_deref(), expected, "{host}/{repository}");
        }
        for oldest in ["https://quay.io/v1/", "http://quay.io", "quay.io/v1/", "quay.io/v2", "https://QUAY.io/any"] {
            assert_eq!(found(&[oldest], "quay.io", "org/repo").as_deref(), Some(oldest));
            assert_eq!(found(&[oldest, "quay.io"], "quay.io", "x").as_deref(), Some("quay.io"));
        }
        assert_eq!(
            found(&["quay.io/v1/"], "quay.io", "v1/x").as_deref(),
            Some("quay.io/v1/"),
            "an owner may be called so"
        );
    }

    #[test]
    fn a_login_is_for_exactly_its_host_and_port() {
        for key in [
            "ghcr.io.evil.example",
            "evil-ghcr.io",
            "ghcr.io:443",
            "ghcr",
            "io",
            "https://ghcr.io.evil.example/v1/",
            "",
        ] {
            assert_eq!(found(&[key], "ghcr.io", "acme/hello"), None, "{key}");
        }
        assert_eq!(found(&["localhost:5000"], "localhost:5001", "x"), None);
        assert_eq!(found(&["localhost"], "localhost:5000", "x"), None);
        assert_eq!(found(&["GHCR.io"], "ghcr.io", "x").as_deref(), Some("GHCR.io"));
    }

    #[test]
    fn quirk_a18_docker_hub_has_one_login_under_all_its_names() {
        for key in ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"] {
            for host in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
                assert_eq!(found(&[key], host, "library/alpine").as_deref(), Some(key), "{key} for {host}");
            }
            assert_eq!(found(&[key], "auth.docker.io", "x"), None, "{key}");
        }
        assert_eq!(Scope::parse("index.docker.io").unwrap().server(), "https://index.docker.io/v1/");
        assert_eq!(Scope::parse("ghcr.io/acme").unwrap().server(), "ghcr.io");
    }

    #[test]
    fn a_person_names_a_registry_by_a_dot_a_colon_or_localhost() {
        for (text, shown) in [
            ("GHCR.io", Some("ghcr.io")),
            ("localhost", Some("localhost")),
            ("127.0.0.1:5000/acme/", Some("127.0.0.1:5000/acme")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("index.docker.io", Some("docker.io")),
            ("acme", None),
            ("user@ghcr.io", None),
            ("ghcr.io/a:b", None),
            ("ghcr.io/a b", None),
            ("", None),
        ] {
            assert_eq!(Scope::parse(text).map(|scope| scope.to_string()).as_deref(), shown, "{text}");
        }
    }
}
