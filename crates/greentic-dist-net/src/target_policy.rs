//! Where a server may send us: the one decision for redirects and token realms.
//!
//! Attacks and rules: a realm or redirect to an attacker's host, to a metadata service, to the inner network, from
//! HTTPS down to HTTP.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use greentic_dist_types::{SafeText, redact_url};
use url::{Host, Url};

use crate::config::HttpRule;
use crate::{NetError, NetErrorKind};

/// Longest URL a server may send us to, in bytes.
const URL_BYTES: usize = 8 << 10;

/// How near an address is. Ordered: what is nearer may be reached only from something at least as near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// This machine.
    Loopback,
    /// Private and shared address space.
    Private,
    /// The internet.
    Public,
}

/// The nearest thing a name may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Guard {
    /// The host the caller named: any address.
    Own,
    /// A host another server named: nothing nearer than this, and never a link-local or metadata address.
    AtLeast(Reach),
}

/// What a person can do where a public server leads into an inner network.
pub(crate) const ALLOW_PRIVATE: &str =
    "if that server may lead into this network, e.g. to a cache of its own there, allow it: --allow-private-targets";

/// Why a place is not gone to, and what a person can do about it where there is something.
#[derive(Debug)]
pub(crate) struct Refused {
    why: String,
    remedy: Option<Cow<'static, str>>,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, remedy: None }
    }
}

impl Refused {
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// Adds what can be done about it to the error that tells it.
    pub(crate) fn advise(&self, error: NetError) -> NetError {
        match &self.remedy {
            Some(remedy) => error.with_hint(remedy.clone()),
            None => error,
        }
    }

    /// The error about `what`, which led there.
    pub(crate) fn into_error(self, what: &str) -> NetError {
        self.advise(NetError::new(NetErrorKind::Refused, format!("{what} was refused ({})", self.why)))
    }
}

/// Which hosts may be trusted beyond the rules that hold for all.
#[derive(Clone, Debug, Default)]
pub struct TargetPolicy {
    trusted_realms: Vec<(String, String)>,
    allow_private_targets: bool,
    allow_passwords_over_http: bool,
    http_logins: Vec<String>,
    http_realms: Vec<String>,
}

/// Token hosts that are known to belong to another host's registry.
const KNOWN_REALMS: &[(&str, &str)] = &[("docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

impl TargetPolicy {
    /// The rules alone: credentials go to the registry's own host, private targets are reached only from private registries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends credentials for `registry` also to the token server on `realm_host` (`host` or `host:port`).
    #[must_use]
    pub fn trust_realm(mut self, registry: impl Into<String>, realm_host: impl Into<String>) -> Self {
        let pair = (registry.into().to_ascii_lowercase(), realm_host.into().to_ascii_lowercase());
        self.trusted_realms.push(pair);
        self
    }

    /// Lets `registry`, which is asked over HTTPS, name a token server over plain HTTP: what a registry behind a proxy does
    /// that does not know of its own TLS. A login is then sent in clear text, to the registry's own host or one that is
    /// trusted for it.
    #[must_use]
    pub fn allow_http_realm(mut self, registry: impl Into<String>) -> Self {
        self.http_realms.push(registry.into().to_ascii_lowercase());
        self
    }

    /// Lets public registries redirect into private address space. Link-local and metadata addresses stay refused.
    #[must_use]
    pub fn allow_private_targets(mut self, allow: bool) -> Self {
        self.allow_private_targets = allow;
        self
    }

    /// Sends passwords and tokens in clear text to registries that are configured for plain HTTP and are not on loopback.
    #[must_use]
    pub fn allow_passwords_over_http(mut self, allow: bool) -> Self {
        self.allow_passwords_over_http = allow;
        self
    }

    /// As [`TargetPolicy::allow_passwords_over_http`], for one registry (`host` or `host:port`) and its token server.
    #[must_use]
    pub fn allow_http_login(mut self, registry: impl Into<String>) -> Self {
        self.http_logins.push(registry.into().to_ascii_lowercase());
        self
    }

    pub(crate) fn passwords_over_http(&self, registry: &str) -> bool {
        self.allow_passwords_over_http || self.http_logins.iter().any(|named| named == registry)
    }

    pub(crate) fn allows_http_realm(&self, registry: &str) -> bool {
        self.http_realms.iter().any(|named| named == registry)
    }

    /// Decides whether `registry` at `from`, which is as near as `reach`, may send us to the token server at `realm`.
    pub(crate) fn check_realm(
        &self,
        registry: &str,
        from: &Url,
        reach: Reach,
        realm: &Url,
        http: &HttpRule,
    ) -> Result<Guard, Refused> {
        if from.scheme() == "https" && realm.scheme() == "http" {
            if !self.allows_http_realm(registry) {
                let why = format!(
                    "{} would leave HTTPS, over which {registry} is asked; it may stand behind a proxy and not know of its TLS",
                    redact_url(realm.as_str())
                );
                let remedy = format!(
                    "if its login may go to that server in clear text, allow it: --allow-http-realm {registry}"
                );
                return Err(Refused { why, remedy: Some(remedy.into()) });
            }
            return self.check_place(from, reach, realm);
        }
        self.check(from, reach, realm, http)
    }

    /// Decides whether a server at `from`, which is as near as `reach`, may send us to `to`.
    ///
    /// Returns the guard for the names `to` resolves to, or the reason for the refusal.
    pub(crate) fn check(&self, from: &Url, reach: Reach, to: &Url, http: &HttpRule) -> Result<Guard, Refused> {
        let shown = || redact_url(to.as_str());
        match (from.scheme(), to.scheme()) {
            (_, "https") => {}
            ("https", "http") => return Err(format!("{} would leave HTTPS", shown()).into()),
            (_, "http") if http.allows(to) || (same_host(from, to) && from.port() == to.port()) => {}
            (_, "http") => return Err(format!("{} is plain HTTP", shown()).into()),
            (_, other) => return Err(format!("`{}` is not a web address", SafeText::excerpt(other, 24)).into()),
        }
        self.check_place(from, reach, to)
    }

    /// The part of the decision that is about the place, whatever the scheme.
    fn check_place(&self, from: &Url, reach: Reach, to: &Url) -> Result<Guard, Refused> {
        let shown = || redact_url(to.as_str());
        if to.as_str().len() > URL_BYTES {
            return Err(format!("a URL of {} bytes is too long", to.as_str().len()).into());
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err(format!("{} carries a user name", shown()).into());
        }
        if same_host(from, to) {
            return Ok(Guard::Own);
        }
        let nearest = if self.allow_private_targets { Reach::Loopback } else { reach };
        let guard = Guard::AtLeast(nearest);
        let ip = match to.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain("localhost")) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(Host::Domain(_)) => None,
            None => return Err(format!("{} names no host", shown()).into()),
        };
        match ip {
            Some(ip) if !guard.admits(ip) => {
                let why = format!("{} is an address of an inner network", shown());
                // Those of link-local and metadata services stay refused.
                Err(Refused { why, remedy: reach_of(ip).map(|_reach| ALLOW_PRIVATE.into()) })
            }
            _ => Ok(guard),
        }
    }

    /// Whether credentials for `registry` (as written in references) may go to the token server at `realm`.
    ///
    /// The same host and port always; the same name over HTTPS, whose certificate proves it, on another port; known pairs;
    /// and what the user trusts.
    pub(crate) fn may_send_credentials(&self, registry: &str, registry_url: &Url, realm: &Url) -> bool {
        if registry_url.origin() == realm.origin() {
            return true;
        }
        if realm.scheme() == "http" && self.allows_http_realm(registry) && same_host(registry_url, realm) {
            return true;
        }
        let named = matches!(realm.host(), Some(Host::Domain(name)) if name != "localhost");
        if named && realm.scheme() == "https" && same_host(registry_url, realm) {
            return true;
        }
        let host = realm.host_str().unwrap_or_default();
        let with_port = format!("{host}:{}", realm.port_or_known_default().unwrap_or_default());
        if realm.scheme() == "https" && KNOWN_REALMS.contains(&(registry, host)) && realm.port().is_none() {
            return true;
        }
        self.trusted_realms.iter().any(|(trusting, trusted)| {
            trusting == registry && (*trusted == with_port || (*trusted == host && realm.port().is_none()))
        })
    }
}

impl Guard {
    /// Whether an address may be connected to.
    pub(crate) fn admits(self, ip: IpAddr) -> bool {
        match self {
            Self::Own => true,
            Self::AtLeast(nearest) => reach_of(ip).is_some_and(|reach| reach >= nearest),
        }
    }
}

fn same_host(one: &Url, other: &Url) -> bool {
    one.host().is_some() && one.host() == other.host()
}

/// How near an address is; `None` for one that no server may send us to.
pub(crate) fn reach_of(ip: IpAddr) -> Option<Reach> {
    match ip {
        IpAddr::V4(ip) => reach_of_v4(ip),
        IpAddr::V6(ip) => reach_of_v6(ip),
    }
}

fn reach_of_v4(ip: Ipv4Addr) -> Option<Reach> {
    let [a, b, ..] = ip.octets();
    match (a, b) {
        (127, _) => Some(Reach::Loopback),
        (0 | 224..=255, _) | (169, 254) => None,
        (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (198, 18..=19) => Some(Reach::Private),
        _ => Some(Reach::Public),
    }
}

fn reach_of_v6(ip: Ipv6Addr) -> Option<Reach> {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);
    if ip == METADATA || ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    let segments = ip.segments();
    let [first, second, ..] = segments;
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in IPv6: mapped, compatible, NAT64 and 6to4 addresses are as near as what they stand for.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            embedded(high, low)
        }
        _ if first & 0xffc0 == 0xfe80 => None,
        _ if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 || (first, second) == (0x64, 0xff9b) => {
            Some(Reach::Private)
        }
        _ => Some(Reach::Public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn check(from: &str, reach: Reach, to: &str) -> Result<Guard, Refused> {
        TargetPolicy::new().check(&url(from), reach, &url(to), &HttpRule::Loopback)
    }

    #[test]
    fn row_43_addresses_are_as_near_as_what_they_stand_for() {
        for (text, reach) in [
            ("127.8.8.8", Some(Reach::Loopback)),
            ("::1", Some(Reach::Loopback)),
            ("::ffff:127.0.0.1", Some(Reach::Loopback)),
            ("64:ff9b::7f00:1", Some(Reach::Loopback)),
            ("2002:7f00:1::", Some(Reach::Loopback)),
            ("10.1.2.3", Some(Reach::Private)),
            ("172.31.0.1", Some(Reach::Private)),
            ("172.32.0.1", Some(Reach::Public)),
            ("100.64.0.1", Some(Reach::Private)),
            ("fd12::1", Some(Reach::Private)),
            ("fec0::1", Some(Reach::Private)),
            ("169.254.169.254", None),
            ("::ffff:169.254.169.254", None),
            ("fe80::1", None),
            ("fd00:ec2::254", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("140.82.121.34", Some(Reach::Public)),
            ("2606:50c0::1", Some(Reach::Public)),
        ] {
            assert_eq!(reach_of(text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn row_52_a_public_registry_cannot_send_us_into_the_inner_network() {
        for to in [
            "https://10.0.0.1/x",
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[fd00:ec2::254]/",
            "https://[::ffff:10.0.0.1]/",
            "https://0.0.0.0/",
            "https://2130706433/",
            "https://0x7f.1/",
        ] {
            assert!(check("https://ghcr.io/v2/", Reach::Public, to).is_err(), "{to}");
        }
        let guard = check("https://ghcr.io/v2/", Reach::Public, "https://cdn.example/x").unwrap();
        assert!(!guard.admits("10.0.0.1".parse().unwrap()) && guard.admits("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn row_52_a_refusal_says_what_can_be_done_unless_nothing_can() {
        let hints = |to: &str| {
            let refused = check("https://ghcr.io/v2/", Reach::Public, to).unwrap_err();
            refused.into_error("a redirect").hints().concat()
        };
        for to in ["https://10.0.0.1/x", "https://127.0.0.1/x", "https://[fd12::1]/"] {
            assert!(hints(to).ends_with("--allow-private-targets"), "{to}");
        }
        for to in ["https://169.254.169.254/latest", "https://[fd00:ec2::254]/", "http://ghcr.io/x"] {
            assert_eq!(hints(to), "", "{to}");
        }
    }

    #[test]
    fn near_registries_reach_what_is_as_near_or_farther() {
        assert!(check("http://127.0.0.1:5000/", Reach::Loopback, "http://127.0.0.2:5001/x").is_ok());
        assert!(check("http://127.0.0.1:5000/", Reach::Loopback, "https://10.0.0.1/x").is_ok());
        assert!(check("https://10.0.0.1/", Reach::Private, "https://10.0.0.2/x").is_ok());
        assert!(check("https://10.0.0.1/", Reach::Private, "https://127.0.0.1/x").is_err());
        assert!(check("http://127.0.0.1:5000/", Reach::Loopback, "https://169.254.169.254/x").is_err());
        let open = TargetPolicy::new().allow_private_targets(true);
        let from = url("https://ghcr.io/");
        assert!(open.check(&from, Reach::Public, &url("https://10.0.0.1/"), &HttpRule::Loopback).is_ok());
        assert!(open.check(&from, Reach::Public, &url("https://169.254.0.1/"), &HttpRule::Loopback).is_err());
    }

    #[test]
    fn row_42_https_is_never_left_and_other_schemes_are_refused() {
        for to in ["http://ghcr.io/x", "http://127.0.0.1/x", "file:///etc/passwd", "ftp://ghcr.io/", "data:,x"] {
            assert!(check("https://ghcr.io/v2/", Reach::Public, to).is_err(), "{to}");
        }
        assert!(check("https://ghcr.io/", Reach::Public, "https://u:p@cdn.example/").is_err());
        assert!(check("http://127.0.0.1:5000/", Reach::Loopback, "http://cdn.example/").is_err());
        let long = format!("https://cdn.example/{}", "a".repeat(9_000));
        assert!(check("https://ghcr.io/", Reach::Public, &long).is_err());
    }

    #[test]
    fn row_41_credentials_go_to_the_registry_itself_and_to_what_is_trusted() {
        let policy = TargetPolicy::new().trust_realm("127.0.0.1:5000", "127.0.0.1:5001");
        for (registry, base, realm, allowed) in [
            ("ghcr.io", "https://ghcr.io/", "https://ghcr.io/token", true),
            ("r.example:5000", "https://r.example:5000/", "https://r.example:5001/auth", true),
            ("ghcr.io", "https://ghcr.io/", "https://evil.example/token", false),
            ("ghcr.io", "https://ghcr.io/", "https://ghcr.io.evil.example/token", false),
            ("docker.io", "https://registry-1.docker.io/", "https://auth.docker.io/token", true),
            ("docker.io", "https://registry-1.docker.io/", "https://auth.docker.io:8443/token", false),
            ("evil.example", "https://evil.example/", "https://auth.docker.io/token", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5000/token", true),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5002/token", false),
            ("localhost:5000", "https://localhost:5000/", "https://localhost:5002/token", false),
        ] {
            assert_eq!(policy.may_send_credentials(registry, &url(base), &url(realm)), allowed, "{registry} {realm}");
        }
    }
}
