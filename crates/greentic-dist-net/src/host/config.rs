//! What may be configured for a registry, checked when it is used.

use std::fmt::{self, Debug};
use std::time::Duration;

use greentic_dist_types::{Reference, SafeText, Secret, redact_url};
use http::{HeaderName, HeaderValue, header};
use url::{Host, Url};

use crate::oci::BoxFuture;
use crate::{NetError, NetErrorKind};

/// Most mirrors of one registry.
const MIRRORS: usize = 32;
/// Most extra header fields of one endpoint.
const HEADERS: usize = 32;
/// Most parts of one registry.
const PARTS: usize = 1_024;

/// Header fields that this client sets itself, or that would carry a login past the credential sources.
const RESERVED_HEADERS: &[HeaderName] = &[
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where the configuration of registries is kept. Asked once for each registry, before its first request.
pub trait HostSource: Send + Sync + Debug {
    /// The configuration of a registry, written as in references (lower case); `None` when there is none.
    ///
    /// # Errors
    /// Any [`NetError`], usually of kind `Config`: requests to that registry fail with it.
    fn host<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<HostConfig>, NetError>>;
}

/// How one registry is reached.
///
/// Mirrors are asked in their order and before the registry's own host, each for what it is capable of. Bytes are trusted
/// from nobody; names (tags, lists) only from endpoints that may resolve; a login goes to the host it is for.
#[derive(Clone, Debug)]
#[must_use]
pub struct HostConfig {
    pub(crate) registry: String,
    pub(crate) origin: Option<HostEndpoint>,
    pub(crate) mirrors: Vec<HostEndpoint>,
    pub(crate) notes: Vec<String>,
    /// Paths, and how what is at or below each is reached.
    pub(crate) parts: Vec<(String, Self)>,
    pub(crate) reads_only: bool,
    pub(crate) blocked: Option<String>,
}

impl HostConfig {
    /// The configuration of a registry, named as references name it (`ghcr.io`, `127.0.0.1:5000`).
    pub fn new(registry: impl Into<String>) -> Self {
        let registry = registry.into().to_ascii_lowercase();
        Self {
            registry,
            origin: None,
            mirrors: Vec::new(),
            notes: Vec::new(),
            parts: Vec::new(),
            reads_only: false,
            blocked: None,
        }
    }

    /// The registry it is for.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// How the registry's own host is reached, when that was said.
    pub const fn origin_endpoint(&self) -> Option<&HostEndpoint> {
        self.origin.as_ref()
    }

    /// How the registry's own host is reached. Default: HTTPS on the host in the reference, or as the
    /// [`HttpRule`](crate::HttpRule) says. Its capabilities do not matter: it has them all.
    pub fn origin(mut self, endpoint: HostEndpoint) -> Self {
        self.origin = Some(endpoint);
        self
    }

    /// Adds a mirror behind those already added; at most 32.
    pub fn mirror(mut self, endpoint: HostEndpoint) -> Self {
        self.mirrors.push(endpoint);
        self
    }

    /// Adds something that a person is told when the configuration is used the first time.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Reaches the repositories at `path` and below it as `part` says, and only so: none of the registry's own mirrors counts
    /// for them. Of several parts the longest path counts; an empty one is every repository. At most 1024 parts, without parts of
    /// their own. A part without an origin is at the registry's own host.
    pub fn part(mut self, path: impl Into<String>, part: Self) -> Self {
        self.parts.push((path.into(), part));
        self
    }

    /// Makes a part count for what is read alone: what is pushed or deleted goes where it would go without the part. Default no.
    /// Always so where the origin has another [`HostEndpoint::repository_path`].
    pub const fn reads_only(mut self, reads_only: bool) -> Self {
        self.reads_only = reads_only;
        self
    }

    /// Refuses whatever is asked of the registry or of this part of it: requests fail with kind `Refused`, and `why` is told. A part
    /// with a longer path is not refused. Default: nothing is.
    pub fn blocked(mut self, why: impl Into<String>) -> Self {
        self.blocked = Some(why.into());
        self
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn without_notes(mut self) -> Self {
        self.notes.clear();
        self
    }

    pub(crate) fn check(&self) -> Result<(), NetError> {
        if self.mirrors.len() > MIRRORS {
            return Err(self.wrong(format!("it has more than {MIRRORS} mirrors")));
        }
        if self.parts.len() > PARTS {
            return Err(self.wrong(format!("it has more than {PARTS} parts")));
        }
        for (path, part) in &self.parts {
            part.check()?;
            if !part.parts.is_empty() {
                return Err(self.wrong("a part of it has parts"));
            }
            if !path.is_empty() {
                check_path(path).map_err(|why| self.wrong(why))?;
            }
        }
        Ok(())
    }

    pub(crate) fn wrong(&self, why: impl fmt::Display) -> NetError {
        let registry = SafeText::new(&self.registry);
        NetError::new(NetErrorKind::Config, format!("the host configuration of `{registry}` cannot be used: {why}"))
    }
}

/// Whether a path may stand at the beginning of the name of a repository.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let checked = Reference::new("localhost", path, None, None);
    checked.map(drop).map_err(|_wrong| format!("`{}` is no path of repositories", SafeText::excerpt(path, 96)))
}

/// What an endpoint is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Content by its digest: it is verified, whoever sends it.
    pub pull: bool,
    /// Names: tags, lists. What it says is believed.
    pub resolve: bool,
    /// Uploads.
    pub push: bool,
    /// What refers to a manifest.
    pub referrers: bool,
}

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self { pull: false, resolve: false, push: false, referrers: false };
    /// Content by its digest only.
    pub const PULL: Self = Self { pull: true, ..Self::NONE };
    /// Everything that reads.
    pub const READ: Self = Self { pull: true, resolve: true, push: false, referrers: true };
    /// Everything.
    pub const ALL: Self = Self { push: true, ..Self::READ };
}

/// One host that serves a registry's API: the registry's own, or a mirror. `Debug` shows no header value and no key.
#[derive(Clone)]
#[must_use]
pub struct HostEndpoint {
    pub(crate) url: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) override_path: bool,
    pub(crate) roots_pem: Vec<Vec<u8>>,
    pub(crate) identities: Vec<(Vec<u8>, Secret)>,
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) namespace_query: bool,
    pub(crate) prefer_head: Option<bool>,
    pub(crate) repository_path: Option<String>,
    pub(crate) http_too: bool,
    pub(crate) named_only: bool,
    pub(crate) parallel_ranges: bool,
    pub(crate) http1_only: bool,
    pub(crate) requests_at_once: Option<usize>,
}

impl HostEndpoint {
    /// An endpoint at `https://host[:port][/path]`, `http://…`, or `host[:port]`, which is HTTPS except where the
    /// [`HttpRule`](crate::HttpRule) says otherwise. A path goes before `/v2/`.
    ///
    /// Default: content by digest only ([`Capabilities::PULL`]), no extra certificate or header, the client's own connect
    /// timeout.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            capabilities: Capabilities::PULL,
            override_path: false,
            roots_pem: Vec::new(),
            identities: Vec::new(),
            headers: Vec::new(),
            connect_timeout: None,
            namespace_query: true,
            prefer_head: None,
            repository_path: None,
            http_too: false,
            named_only: false,
            parallel_ranges: true,
            http1_only: false,
            requests_at_once: None,
        }
    }

    /// What the endpoint is asked for.
    pub const fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The URL's path stands in the place of `/v2` instead of before it. Default no.
    pub const fn override_path(mut self, override_path: bool) -> Self {
        self.override_path = override_path;
        self
    }

    /// Adds certificate authorities (PEM) that this host's certificate may be from, beside the platform's.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots_pem.push(pem.into());
        self
    }

    /// Adds a certificate (chain, PEM) with its private key (PEM), shown to this host and to no other: no redirect target, no
    /// token server of another origin, no proxy. Of several, at most 8, the first whose key the server can check is shown.
    pub fn client_certificate_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Secret>) -> Self {
        self.identities.push((certificate.into(), key.into()));
        self
    }

    /// Adds a header field that is sent to this origin and to no other; at most 32. Treated as a secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Longest time for a connection, TLS included. Default: the client's.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Whether a mirror is told whose content is wanted by `?ns=<registry>`. Default yes.
    pub const fn namespace_query(mut self, send: bool) -> Self {
        self.namespace_query = send;
        self
    }

    /// Whether the registry counts reading a manifest against a limit, and asking for its digest (HEAD) not: whoever has a tag's
    /// manifest already then asks first whether it is still that one, and reads it only when it changed. Default: only for
    /// Docker Hub. Counts for the registry's own host.
    pub const fn prefer_head(mut self, prefer: bool) -> Self {
        self.prefer_head = Some(prefer);
        self
    }

    /// The path at which the repositories are there: of a registry's endpoint it goes before their names, of a
    /// [part](HostConfig::part)'s endpoint into the place of the part's path. A login is asked for by the name the repository has
    /// there. Default: they have the same names. Counts for mirrors, and for the origin of a part.
    pub fn repository_path(mut self, path: impl Into<String>) -> Self {
        self.repository_path = Some(path.into());
        self
    }

    /// Lets a host whose URL has no scheme be asked over plain HTTP where HTTPS finds nobody who speaks TLS. A certificate that is
    /// not trusted stays an error, and whoever has answered over HTTPS is never asked otherwise by the same client. Default no.
    pub const fn http_too(mut self, http_too: bool) -> Self {
        self.http_too = http_too;
        self
    }

    /// Asks a mirror for content by digest only in repositories in which it has said what a name means, to the same client.
    /// Default no.
    pub const fn named_only(mut self, named_only: bool) -> Self {
        self.named_only = named_only;
        self
    }

    /// Whether a large blob may come over several connections at a time, see [`RangePolicy`](crate::RangePolicy). Default yes.
    pub const fn parallel_ranges(mut self, parallel_ranges: bool) -> Self {
        self.parallel_ranges = parallel_ranges;
        self
    }

    /// Speaks HTTP/1.1 and nothing newer to this host. Default no.
    pub const fn http1_only(mut self, http1_only: bool) -> Self {
        self.http1_only = http1_only;
        self
    }

    /// Requests at a time to this host, as [`NetBuilder::requests_per_host`](crate::NetBuilder::requests_per_host) has them for every
    /// host; 0 counts as 1, and more than 1024 as 1024. Default: the client's. Of several registries with one host the one that is asked last for the first time decides.
    pub const fn requests_at_once(mut self, requests: usize) -> Self {
        self.requests_at_once = Some(requests);
        self
    }

    /// The URL's parts: the scheme where it is written, the authority, and the path before `/v2/` or in its place.
    pub(crate) fn address(&self) -> Result<Address, String> {
        let shown = || redact_url(&self.url);
        let (scheme, text) = match self.url.split_once("://") {
            Some(("http", _)) => (Some(Scheme::Http), self.url.clone()),
            Some(("https", _)) => (Some(Scheme::Https), self.url.clone()),
            Some(_) => return Err(format!("`{}` is neither http nor https", shown())),
            None => (None, format!("https://{}", self.url)),
        };
        let url = Url::parse(&text).map_err(|error| format!("`{}` is not a URL: {error}", shown()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{}` carries a user name; logins come from the credential sources", shown()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("`{}` has a query or a fragment", shown()));
        }
        let Some(host) = url.host() else { return Err(format!("`{}` names no host", shown())) };
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => format!("[{ip}]"),
        };
        let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/');
        let root = if self.override_path { path.to_owned() } else { format!("{path}/v2") };
        Ok(Address { scheme, authority, root })
    }

    pub(crate) fn checked_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        if self.headers.len() > HEADERS {
            return Err(format!("it has more than {HEADERS} header fields"));
        }
        let check = |(name, value): &(String, Secret)| {
            let shown = SafeText::excerpt(name, 64);
            let parsed =
                HeaderName::try_from(name.as_str()).map_err(|_error| format!("`{shown}` is no header name"))?;
            if RESERVED_HEADERS.contains(&parsed) {
                return Err(format!("the header `{shown}` cannot be set; logins come from the credential sources"));
            }
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_secret| format!("the value of the header `{shown}` cannot be sent"))?;
            value.set_sensitive(true);
            Ok((parsed, value))
        };
        self.headers.iter().map(check).collect()
    }
}

impl Debug for HostEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostEndpoint")
            .field("url", &redact_url(&self.url))
            .field("capabilities", &self.capabilities)
            .field("override_path", &self.override_path)
            .field("repository_path", &self.repository_path)
            .field("http_too", &self.http_too)
            .field("named_only", &self.named_only)
            .field("parallel_ranges", &self.parallel_ranges)
            .field("http1_only", &self.http1_only)
            .field("requests_at_once", &self.requests_at_once)
            .field("headers", &self.headers)
            .field("connect_timeout", &self.connect_timeout)
            .field("has_client_certificate", &!self.identities.is_empty())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Option<Scheme>,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// What stands in the place of `/v2`, no slash at its end.
    pub(crate) root: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(url: &str, override_path: bool) -> String {
        HostEndpoint::new(url).override_path(override_path).address().unwrap().root
    }

    #[test]
    fn a_path_goes_before_v2_or_in_its_place() {
        assert_eq!(root("https://m.example", false), "/v2");
        assert_eq!(root("https://m.example/", false), "/v2");
        assert_eq!(root("https://m.example/ghcr-remote", false), "/ghcr-remote/v2");
        assert_eq!(root("https://m.example/v2/proxy/ghcr/", true), "/v2/proxy/ghcr");
        let address = HostEndpoint::new("[::1]:5000/x").address().unwrap();
        assert_eq!((address.scheme, address.authority.as_str(), address.root.as_str()), (None, "[::1]:5000", "/x/v2"));
        assert_eq!(HostEndpoint::new("https://M.example:443").address().unwrap().authority, "m.example");
    }

    #[test]
    fn urls_that_name_no_endpoint_are_refused() {
        for wrong in
            ["", "ftp://m.example", "https://", "https://u:canary@m.example", "https://m/?x=canary", "https://m/#x"]
        {
            let why = HostEndpoint::new(wrong).address().unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn headers_that_this_client_sets_itself_are_refused_and_values_never_shown() {
        for (name, value) in [
            ("Host", "x"),
            ("authorization", "canary"),
            ("Cookie", "canary"),
            ("Content-Length", "1"),
            ("range", "x"),
            ("a b", "x"),
            ("X-A", "canary\r\nX-B: 1"),
            ("", "x"),
        ] {
            let endpoint = HostEndpoint::new("https://m.example").header(name, value);
            let why = endpoint.checked_headers().unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
        let endpoint = HostEndpoint::new("https://m.example").header("X-Key", "canary");
        assert!(!format!("{endpoint:?} {:?}", endpoint.checked_headers()).contains("canary"));
        let key = endpoint.client_certificate_pem(b"x".to_vec(), "canary");
        assert!(!format!("{key:?}").contains("canary"));
    }
}
