//! What is known about one registry: its address, its scheme, its logins, and the mirrors that are asked before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::OnceCell;
use url::Url;

use super::health::{Absence, Circuit, is_quarantined, quarantine};
use super::holding::Holdings;
use super::route::{Named, Part, Rename, Routes};
use crate::config::{HttpRule, is_loopback};
use crate::exchange::parse_url;
use crate::host::{Capabilities, HostConfig, HostEndpoint, Profile, Scheme};
use crate::oci::auth::{Access, Action, RegistryAuth};
use crate::transport::Transport;
use crate::{NetError, NetErrorKind};

/// Most registries remembered; beyond it the table starts anew.
const REGISTRIES: usize = 1_024;
/// The registry whose API is on another host than its references say, and which counts what is pulled, but no HEAD.
const DOCKER_HUB: &str = "docker.io";
/// What every path of the API begins with.
const API: &str = "/v2";

/// One host that serves the API of a registry, shared by all its repositories: the registry's own, or a mirror.
#[derive(Debug)]
pub(crate) struct Registry {
    /// As references write it; of a mirror, the host that is contacted.
    name: String,
    /// What a mirror is asked for; `None` for the registry's own host, which is asked for everything.
    capabilities: Option<Capabilities>,
    unconfigured: Site,
    configured: OnceLock<Site>,
    routes: OnceCell<Routes>,
    /// The names its repositories have, where they are not those of the registry.
    rename: Option<Rename>,
    /// What it has named, when it is asked for content of nothing else.
    named: Option<Named>,
    holdings: Holdings,
    speaks_tls: AtomicBool,
    speaks_http: AtomicBool,
    refuses_head: AtomicBool,
    refuses_single_post: AtomicBool,
    ignores_tag_parameters: AtomicBool,
    warned: AtomicBool,
    circuit: Circuit,
    auth: RegistryAuth,
}

/// Where an endpoint is and how it is reached.
#[derive(Clone, Debug)]
struct Site {
    /// The key for logins: the host that is contacted, as references write it.
    login_host: String,
    /// The host that answers the API.
    api_host: String,
    /// What stands in the place of [`API`].
    root: String,
    /// The registry whose content a mirror is told to give.
    namespace: Option<String>,
    plain_http: bool,
    /// Whether TLS is tried where plain HTTP is not understood.
    either_scheme: bool,
    /// Whether plain HTTP is tried where nobody speaks TLS.
    http_too: bool,
    loopback: bool,
    /// Whether a HEAD costs nothing where a GET does.
    prefers_head: bool,
    may_split: bool,
    profile: Arc<Profile>,
}

impl Site {
    /// A registry at the host its references name.
    fn of(name: &str, http: &HttpRule, profile: &Arc<Profile>) -> Self {
        let api_host = if name == DOCKER_HUB { "registry-1.docker.io" } else { name };
        let loopback = Url::parse(&format!("http://{api_host}/")).is_ok_and(|url| is_loopback(&url));
        Self {
            login_host: name.to_owned(),
            api_host: api_host.to_owned(),
            root: API.to_owned(),
            namespace: None,
            plain_http: http.allows_registry(api_host),
            either_scheme: loopback,
            http_too: false,
            loopback,
            prefers_head: name == DOCKER_HUB,
            may_split: true,
            profile: Arc::clone(profile),
        }
    }

    /// An endpoint of a configuration, which serves the content of `namespace`.
    fn configured(endpoint: &HostEndpoint, namespace: &str, transport: &Transport) -> Result<Self, NetError> {
        let wrong = |why| NetError::new(NetErrorKind::Config, why);
        let address = endpoint.address().map_err(wrong)?;
        // Docker Hub is one registry, whichever of its hosts is written.
        let login_host = match address.authority.as_str() {
            "registry-1.docker.io" | "index.docker.io" => DOCKER_HUB,
            other => other,
        };
        let profile = Profile::of(endpoint, &transport.profile)?;
        let site = Self::of(login_host, &transport.http, &profile);
        Ok(Self {
            root: address.root,
            namespace: (endpoint.namespace_query && login_host != namespace).then(|| namespace.to_owned()),
            plain_http: address.scheme.map_or(site.plain_http, |scheme| scheme == Scheme::Http),
            either_scheme: address.scheme.is_none() && site.either_scheme,
            http_too: address.scheme.is_none() && endpoint.http_too,
            prefers_head: endpoint.prefer_head.unwrap_or(site.prefers_head),
            may_split: endpoint.parallel_ranges,
            api_host: address.authority,
            ..site
        })
    }
}

impl Registry {
    fn new(name: &str, site: Site, capabilities: Option<Capabilities>) -> Self {
        Self {
            name: name.to_owned(),
            capabilities,
            unconfigured: site,
            configured: OnceLock::new(),
            routes: OnceCell::new(),
            rename: None,
            named: None,
            holdings: Holdings::default(),
            speaks_tls: AtomicBool::new(false),
            speaks_http: AtomicBool::new(false),
            refuses_head: AtomicBool::new(false),
            refuses_single_post: AtomicBool::new(false),
            ignores_tag_parameters: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            circuit: Circuit::default(),
            auth: RegistryAuth::default(),
        }
    }

    fn site(&self) -> &Site {
        self.configured.get().unwrap_or(&self.unconfigured)
    }

    /// The registry as references write it.
    pub(crate) fn reference_name(&self) -> &str {
        &self.name
    }

    /// The host that is contacted, as references write it: the key for logins.
    pub(crate) fn name(&self) -> &str {
        &self.site().login_host
    }

    pub(crate) const fn auth(&self) -> &RegistryAuth {
        &self.auth
    }

    /// The URL of a path, which is made of validated parts. One below `/v2` is led to where the endpoint has its API.
    pub(crate) fn url(&self, path: &str) -> Result<Url, NetError> {
        let Some(rest) = path.strip_prefix(API) else { return parse_url(&format!("{}{path}", self.base())) };
        let site = self.site();
        let mut url = parse_url(&format!("{}{}{rest}", self.base(), site.root))?;
        if let Some(namespace) = &site.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Scheme and host.
    fn base(&self) -> String {
        let scheme = if self.is_plain() { "http" } else { "https" };
        format!("{scheme}://{}", self.site().api_host)
    }

    /// The endpoint as people know it: scheme, host, and path where it has one of its own.
    pub(crate) fn address(&self) -> String {
        let root = &self.site().root;
        format!("{}{}", self.base(), root.strip_suffix(API).unwrap_or(root))
    }

    /// The registry a mirror is told to speak for.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.site().namespace.as_deref()
    }

    /// Whether a large blob may come over several connections.
    pub(crate) fn may_split(&self) -> bool {
        self.site().may_split
    }

    /// How connections to it are made.
    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.site().profile
    }

    /// What it is asked for, when it is a mirror.
    pub(crate) const fn capabilities(&self) -> Option<Capabilities> {
        self.capabilities
    }

    /// The mirrors of this registry in their order, found out when the first request asks for them. From then on the
    /// registry itself is where its configuration says.
    ///
    /// # Errors
    /// `Config`, and those of the [`HostSource`](crate::HostSource).
    pub(crate) async fn mirrors(&self, transport: &Transport) -> Result<&[Arc<Self>], NetError> {
        Ok(self.routes(transport).await?.map_or(&[], |routes| &routes.mirrors))
    }

    async fn routes(&self, transport: &Transport) -> Result<Option<&Routes>, NetError> {
        if self.capabilities.is_some() || transport.hosts_are_default() {
            return Ok(None);
        }
        self.routes.get_or_try_init(|| self.configure(transport)).await.map(Some)
    }

    /// How many mirrors there are, as far as it is known.
    pub(crate) fn known_mirrors(&self) -> usize {
        self.routes.get().map_or(0, |routes| routes.mirrors.len())
    }

    /// The registry as it answers for a repository: itself, or a part of it. Finds out which parts there are.
    ///
    /// # Errors
    /// `Refused` for what is blocked; otherwise as [`Registry::mirrors`].
    pub(crate) async fn answering(
        self: &Arc<Self>,
        transport: &Transport,
        access: &Access,
    ) -> Result<Arc<Self>, NetError> {
        let Some(routes) = self.routes(transport).await? else { return Ok(Arc::clone(self)) };
        let part = routes.part_of(&access.repository);
        let blocked = part.map_or(routes.blocked.as_ref(), Part::blocked);
        if let Some(why) = blocked {
            let name = if access.repository.is_empty() { String::new() } else { format!("/{}", access.repository) };
            return Err(NetError::new(NetErrorKind::Refused, format!("`{}{name}` is blocked: {why}", self.name)));
        }
        Ok(Arc::clone(part.filter(|part| part.is_for(&access.action)).map_or(self, |part| &part.registry)))
    }

    /// As [`Registry::answering`], as far as it is known.
    pub(crate) fn known_answering(&self, repository: &str, action: &Action) -> &Self {
        let part = self.routes.get().and_then(|routes| routes.part_of(repository));
        part.filter(|part| part.is_for(action)).map_or(self, |part| &part.registry)
    }

    async fn configure(&self, transport: &Transport) -> Result<Routes, NetError> {
        let Some(config) = transport.host_config(&self.name).await? else { return Ok(Routes::default()) };
        config.check()?;
        let mirrors = self.mirrors_of(&config, "", transport)?;
        if let Some(origin) = &config.origin {
            let site = self.site_of(&config, origin, transport)?;
            self.configured.get_or_init(|| site);
        }
        let parts = config.parts.iter().map(|(path, part)| self.part(path, part, transport));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let notes = config.parts.iter().flat_map(|(_, part)| &part.notes);
        config.notes.iter().chain(notes).for_each(|note| transport.warn(&self.name, note.as_str().into()));
        Ok(Routes::new(mirrors, parts, config.blocked))
    }

    fn site_of(&self, config: &HostConfig, endpoint: &HostEndpoint, transport: &Transport) -> Result<Site, NetError> {
        let site = Site::configured(endpoint, &self.name, transport);
        let site = site.map_err(|error| config.wrong(&error).with_source(error))?;
        if let Some(requests) = endpoint.requests_at_once {
            let scheme = if site.plain_http { "http" } else { "https" };
            transport.hosts.set(&parse_url(&format!("{scheme}://{}/", site.api_host))?, requests);
        }
        Ok(site)
    }

    fn mirrors_of(&self, config: &HostConfig, path: &str, transport: &Transport) -> Result<Vec<Arc<Self>>, NetError> {
        let mirror = |endpoint: &HostEndpoint| {
            let site = self.site_of(config, endpoint, transport)?;
            let rename = Rename::of(path, endpoint).map_err(|why| config.wrong(why))?;
            let named = endpoint.named_only.then(Named::default);
            let name = site.login_host.clone();
            Ok(Arc::new(Self { rename, named, ..Self::new(&name, site, Some(endpoint.capabilities)) }))
        };
        config.mirrors.iter().map(mirror).collect()
    }

    fn part(&self, path: &str, config: &HostConfig, transport: &Transport) -> Result<Part, NetError> {
        let (site, rename) = match &config.origin {
            Some(origin) => {
                (self.site_of(config, origin, transport)?, Rename::of(path, origin).map_err(|why| config.wrong(why))?)
            }
            None => (self.site().clone(), None),
        };
        let reads_only = config.reads_only || rename.is_some();
        let routes = Routes::new(self.mirrors_of(config, path, transport)?, Vec::new(), config.blocked.clone());
        let registry = Self { rename, routes: OnceCell::new_with(Some(routes)), ..Self::new(&self.name, site, None) };
        Ok(Part { path: path.to_owned(), reads_only, registry: Arc::new(registry) })
    }

    /// Why nothing may be asked of it.
    pub(super) fn known_block(&self) -> Option<&String> {
        self.routes.get()?.blocked.as_ref()
    }

    /// The name a repository has at this endpoint; `None` when it can have none there.
    pub(crate) fn renamed(&self, repository: &str) -> Option<String> {
        match &self.rename {
            Some(rename) if !repository.is_empty() => rename.of_repository(repository),
            _ => Some(repository.to_owned()),
        }
    }

    /// Whether it is asked for content of a repository, which is written as it is there.
    pub(crate) fn has_named(&self, repository: &str) -> bool {
        self.named.as_ref().is_none_or(|named| named.contains(repository))
    }

    /// Notes that it has said what a name in a repository means.
    pub(crate) fn names(&self, repository: &str) {
        if let Some(named) = &self.named {
            named.add(repository);
        }
    }

    /// Notes that it has served something of a repository, which is written as it is there.
    pub(crate) fn serves(&self, repository: &str) {
        self.holdings.serves(repository, Instant::now());
    }

    /// Notes that another endpoint had what this one had not.
    pub(crate) fn lacks(&self, repository: &str) {
        self.holdings.lacks(repository, Instant::now());
    }

    /// Whether other endpoints are asked for content of a repository first.
    pub(crate) fn is_without(&self, repository: &str) -> bool {
        self.holdings.is_without(repository, Instant::now())
    }

    /// Why this endpoint is not asked now; `None` when it is.
    pub(crate) fn absence(&self) -> Option<Absence> {
        let now = Instant::now();
        if is_quarantined(&self.address(), now) {
            Some(Absence::Lied)
        } else if self.circuit.admits(now) {
            None
        } else {
            Some(Absence::Unreachable)
        }
    }

    /// Notes what came of a request: whether the endpoint answered at all.
    pub(crate) fn answered(&self, answered: bool) {
        if answered {
            self.circuit.answered();
        } else {
            self.circuit.failed(Instant::now());
        }
    }

    /// Notes that a mirror sent wrong bytes. Nobody asks it for a while.
    pub(crate) fn quarantine(&self) {
        quarantine(&self.address(), Instant::now());
    }

    /// Whether this is the first warning about this endpoint's refusal.
    pub(crate) fn warns_first(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Whether it is asked over plain HTTP now.
    pub(crate) fn is_plain(&self) -> bool {
        let starts_plain = self.site().plain_http && !self.speaks_tls.load(Ordering::Relaxed);
        starts_plain || self.speaks_http.load(Ordering::Relaxed)
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.site().loopback
    }

    /// Whether HTTPS is worth a try after an unintelligible answer over HTTP.
    pub(crate) fn may_speak_tls(&self) -> bool {
        self.site().either_scheme && self.is_plain()
    }

    pub(crate) fn set_tls(&self, speaks_tls: bool) {
        self.speaks_tls.store(speaks_tls, Ordering::Relaxed);
    }

    /// Whether plain HTTP may be tried where HTTPS found nobody who speaks TLS.
    pub(crate) fn may_speak_http(&self) -> bool {
        self.site().http_too && !self.speaks_tls.load(Ordering::Relaxed)
    }

    pub(crate) fn set_http(&self, speaks_http: bool) {
        self.speaks_http.store(speaks_http, Ordering::Relaxed);
    }

    /// Notes over which scheme it has answered: who has spoken TLS is not asked without it later.
    pub(crate) fn answered_over(&self, scheme: &str) {
        if scheme == "https" && self.site().http_too {
            self.set_tls(true);
        }
    }

    /// Whether a HEAD costs nothing where a GET does.
    pub(crate) fn prefers_head(&self) -> bool {
        self.site().prefers_head
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
    pub(crate) fn get(&self, name: &str, http: &HttpRule, profile: &Arc<Profile>) -> Arc<Registry> {
        let key = name.to_ascii_lowercase();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REGISTRIES && !known.contains_key(&key) {
            known.clear();
        }
        let registry =
            known.entry(key).or_insert_with_key(|key| Arc::new(Registry::new(key, Site::of(key, http, profile), None)));
        Arc::clone(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> Registry {
        Registry::new(name, Site::of(name, &HttpRule::Loopback, &Profile::own(Vec::new())), None)
    }

    #[test]
    fn docker_hub_is_asked_at_its_api_host_and_kept_under_its_own_name() {
        let registry = registry("docker.io");
        assert_eq!(registry.url("/v2/x").unwrap().as_str(), "https://registry-1.docker.io/v2/x");
        assert_eq!(registry.name(), "docker.io");
        assert!(registry.prefers_head());
    }

    #[test]
    fn loopback_registries_start_with_http_and_may_turn_to_tls() {
        let local = registry("[::1]:5000");
        assert_eq!(local.url("/v2/").unwrap().as_str(), "http://[::1]:5000/v2/");
        assert!(local.may_speak_tls());
        local.set_tls(true);
        assert_eq!(local.url("/v2/").unwrap().as_str(), "https://[::1]:5000/v2/");
        assert!(!local.may_speak_tls());
        assert!(!registry("ghcr.io").may_speak_tls() && !registry("ghcr.io").prefers_head());
    }

    #[test]
    fn spellings_of_a_host_share_one_state() {
        let (registries, profile) = (Registries::default(), Profile::own(Vec::new()));
        let one = registries.get("GHCR.io", &HttpRule::Loopback, &profile);
        assert!(Arc::ptr_eq(&one, &registries.get("ghcr.io", &HttpRule::Loopback, &profile)));
    }
}
