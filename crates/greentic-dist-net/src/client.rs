//! The handle everything starts from, and its builder.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use greentic_dist_types::{Reference, SafeText, redact_reference};
use http::HeaderValue;

use crate::caps::Limits;
use crate::config::{HttpRule, RangePolicy, RetryPolicy, Timeouts};
use crate::exchange::{Shared, header_value};
use crate::flight::Flights;
use crate::host::{EndpointMemory, HostConfig, HostSource, Liars, Profile};
use crate::http::{HttpCall, HttpGet};
use crate::limit::HostLimits;
use crate::observer::{Observer, Silent};
use crate::oci::{CredentialSource, Registries, RegistryHandle, Repository};
use crate::pool::Pools;
use crate::proxy::ProxyRule;
use crate::sent::GivenSecrets;
use crate::splay::Splay;
use crate::stats::{ClientStats, NetStats};
use crate::target_policy::TargetPolicy;
use crate::transport::Transport;
use crate::warning::Told;
use crate::{NetError, NetErrorKind, tls};

/// Longest user agent: it goes with every request.
const USER_AGENT_BYTES: usize = 256;
/// Requests at a time to one host, per lane, unless set otherwise.
const REQUESTS_PER_HOST: usize = 8;

/// Access to the network. Cheap to clone; clones share connections, tokens and counters.
///
/// Building one does no I/O: roots, proxies and connections are set up by the first request that needs them. May be used
/// from several runtimes, also short-lived ones: connections belong to the runtime that opened them and are never lent to
/// another.
#[derive(Clone, Debug)]
pub struct Net {
    transport: Shared,
    registries: Arc<Registries>,
}

/// Collects the settings of a [`Net`].
#[derive(Clone, Debug)]
#[must_use]
pub struct NetBuilder {
    offline: bool,
    timeouts: Timeouts,
    retry: RetryPolicy,
    limits: Limits,
    ranges: RangePolicy,
    http_rule: HttpRule,
    target_policy: TargetPolicy,
    credentials: Option<Arc<dyn CredentialSource>>,
    oauth2_passwords: bool,
    hosts: Vec<HostConfig>,
    host_source: Option<Arc<dyn HostSource>>,
    endpoint_memory: Option<Arc<dyn EndpointMemory>>,
    names_from_origin: bool,
    root_certificates_pem: Vec<u8>,
    user_agent: String,
    requests_per_host: usize,
    idle_per_host: Option<usize>,
    proxy: ProxyRule,
    splay: Splay,
    observer: Arc<dyn Observer>,
    secrets: GivenSecrets,
}

impl Net {
    /// Starts with the defaults: online, anonymous, HTTPS except on loopback.
    pub fn builder() -> NetBuilder {
        NetBuilder {
            offline: false,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            ranges: RangePolicy::default(),
            http_rule: HttpRule::default(),
            target_policy: TargetPolicy::default(),
            credentials: None,
            oauth2_passwords: false,
            hosts: Vec::new(),
            host_source: None,
            endpoint_memory: None,
            names_from_origin: false,
            root_certificates_pem: Vec::new(),
            user_agent: concat!("greentic-dist/", env!("CARGO_PKG_VERSION")).to_owned(),
            requests_per_host: REQUESTS_PER_HOST,
            idle_per_host: None,
            proxy: ProxyRule::System,
            splay: Splay::default(),
            observer: Arc::new(Silent),
            secrets: GivenSecrets::default(),
        }
    }

    /// The repository a reference names; its tag and digest are not looked at. Sends nothing.
    pub fn repository(&self, reference: &Reference) -> Repository {
        let Transport { http, profile, .. } = &*self.transport;
        let registry = self.registries.get(reference.registry(), http, profile);
        Repository::new(Arc::clone(&self.transport), registry, reference.repository())
    }

    /// Waits as the first request would, see [`NetBuilder::splay`]: for whoever takes a lock before it asks. Cancel-safe.
    ///
    /// # Errors
    /// `Timeout` when the time of the operation is up.
    pub async fn wait_to_begin(&self) -> Result<(), NetError> {
        let transport = &self.transport;
        if transport.offline {
            return Ok(());
        }
        let wait = async {
            transport.splay.wait(&*transport.observer).await;
            Ok(())
        };
        transport.within(wait).await
    }

    /// A registry as a whole, written as in references (`host` or `host:port`). Sends nothing.
    ///
    /// # Errors
    /// `InvalidInput` for what is no registry.
    pub fn registry(&self, name: &str) -> Result<RegistryHandle, NetError> {
        if let Err(error) = Reference::new(name, "x", None, None) {
            // What stands before an at sign may be a password: it is not repeated.
            let login = name.rsplit_once('@').map(|(_, host)| host);
            let shown = SafeText::excerpt(&redact_reference(login.unwrap_or(name)), 80);
            let what = if login.is_some() { "is no registry, with a login before it" } else { "is no registry" };
            let wrong = NetError::new(NetErrorKind::InvalidInput, format!("`{shown}` {what}"));
            return Err(match login {
                Some(_) => wrong.with_hint("logins come from the credential sources, and are no part of a name"),
                None => wrong.with_source(error),
            });
        }
        let registry = self.registries.get(name, &self.transport.http, &self.transport.profile);
        Ok(RegistryHandle::new(Arc::clone(&self.transport), registry))
    }

    /// A plain GET, about to be sent. The URL is checked when it is opened.
    pub fn get(&self, url: &str) -> HttpGet {
        HttpGet::new(Arc::clone(&self.transport), url)
    }

    /// A call of an HTTP API, about to be sent.
    pub fn call(&self, method: http::Method, url: &str) -> HttpCall {
        HttpCall::new(Arc::clone(&self.transport), method, url)
    }

    /// What was done so far, by this handle and its clones.
    pub fn stats(&self) -> NetStats {
        self.client_stats().total
    }

    /// What was done so far, by this handle and its clones, in all and with each host.
    pub fn client_stats(&self) -> ClientStats {
        self.transport.hosts.stats()
    }

    /// Whether every request fails without opening a socket.
    pub fn is_offline(&self) -> bool {
        self.transport.offline
    }
}

impl NetBuilder {
    /// Fails every request with `Offline` before a socket is opened. Default off.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// How long each phase may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How often and after which waits failed requests are made again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Caps on what a peer may send. A value above what [`Limit::most`](crate::Limit::most) says counts as that.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When a large blob comes over several connections; see [`BlobRequest::open_pieces_unverified`](crate::BlobRequest::open_pieces_unverified).
    pub fn ranges(mut self, ranges: RangePolicy) -> Self {
        self.ranges = ranges;
        self
    }

    /// Which registries are asked over plain HTTP. Default: those on loopback.
    pub fn http_rule(mut self, rule: HttpRule) -> Self {
        self.http_rule = rule;
        self
    }

    /// Where servers may send this client, and where logins may go.
    pub fn target_policy(mut self, policy: TargetPolicy) -> Self {
        self.target_policy = policy;
        self
    }

    /// Where logins come from. Default: none, everything is anonymous.
    pub fn credentials(mut self, source: Arc<dyn CredentialSource>) -> Self {
        self.credentials = Some(source);
        self
    }

    /// Posts passwords to token servers as an OAuth2 grant first, and sends them as `Basic` where that is not understood: one
    /// request more for each registry that does not. Default off: the other way round, which every token server understands.
    pub fn oauth2_passwords(mut self, first: bool) -> Self {
        self.oauth2_passwords = first;
        self
    }

    /// Configures how one registry is reached: its own host and its mirrors. A later configuration of the same registry takes
    /// the place of an earlier one, and of the one a [`HostSource`] has.
    pub fn host(mut self, config: HostConfig) -> Self {
        self.hosts.retain(|known| known.registry() != config.registry());
        self.hosts.push(config);
        self
    }

    /// Where the configuration of other registries is kept. Default: nowhere.
    pub fn host_source(mut self, source: Arc<dyn HostSource>) -> Self {
        self.host_source = Some(source);
        self
    }

    /// Where mirrors that sent wrong bytes are written down for other processes. Default: nowhere, and this process alone leaves
    /// them alone.
    pub fn endpoint_memory(mut self, memory: Arc<dyn EndpointMemory>) -> Self {
        self.endpoint_memory = Some(memory);
        self
    }

    /// Asks a registry itself what its names mean, and no mirror: a mirror that is behind then decides nothing. Content comes from
    /// mirrors as before. Default no.
    pub fn names_from_origin(mut self, only: bool) -> Self {
        self.names_from_origin = only;
        self
    }

    /// Certificates (PEM) trusted beside the platform's. Empty for none.
    pub fn root_certificates_pem(mut self, pem: Vec<u8>) -> Self {
        self.root_certificates_pem = pem;
        self
    }

    /// The `User-Agent`: 1 to 256 bytes without control characters. Default `greentic-dist/<version>`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Bodies transferred from one host at a time, and beside them as many uploads and as many short requests. Default 8; 0 counts
    /// as 1. Of the bodies at most 8 are segments of blobs that come over several connections.
    ///
    /// A host that answers 429 or 503 gets half as many from then on, at least one, and for every 20 other answers one more
    /// again. A [`BlobStream`](crate::BlobStream) holds its place until it is dropped or at its end: who opens more than there
    /// are places and reads none waits for ever.
    pub fn requests_per_host(mut self, requests: usize) -> Self {
        self.requests_per_host = requests;
        self
    }

    /// Unused connections kept to one host. Default: twice the requests at a time, so that none is opened anew after a busy moment;
    /// with 0 every request opens one.
    pub fn idle_per_host(mut self, connections: usize) -> Self {
        self.idle_per_host = Some(connections);
        self
    }

    /// Through which proxy other machines are reached. Default: as the environment and the system say.
    pub fn proxy(mut self, rule: ProxyRule) -> Self {
        self.proxy = rule;
        self
    }

    /// Waits a random time below this before the first request, so that many that are started at once do not ask at once. Drawn when
    /// the first request is about to be made: a client that asks nobody never waits. One wait for this builder, its clones and
    /// everything they build. It counts for [`Timeouts::operation`]. Default none; more than an hour counts as an hour.
    pub fn splay(mut self, time: Duration) -> Self {
        self.splay = Splay::within(time);
        self
    }

    /// Who is told about retries, resumes and warnings.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// What the clients that are built of this one and of its clones have given away as logins.
    pub const fn secrets(&self) -> &GivenSecrets {
        &self.secrets
    }

    /// Builds the handle. No I/O.
    ///
    /// # Errors
    /// `InvalidInput` when the extra certificates are none or the user agent cannot be sent; `Config` for a proxy that is none.
    pub fn build(self) -> Result<Net, NetError> {
        if self.user_agent.trim().is_empty() || self.user_agent.len() > USER_AGENT_BYTES {
            let detail = format!("the user agent has not 1 to {USER_AGENT_BYTES} bytes");
            return Err(NetError::new(NetErrorKind::InvalidInput, detail));
        }
        let user_agent: HeaderValue = header_value(&self.user_agent, "the user agent")?;
        let extra_roots = if self.root_certificates_pem.is_empty() {
            Vec::new()
        } else {
            tls::parse_roots(&self.root_certificates_pem, NetErrorKind::InvalidInput)?
        };
        let proxy = match self.proxy {
            ProxyRule::Through(proxy) => ProxyRule::Through(proxy.checked()?),
            rule => rule,
        };
        if let ProxyRule::Through(proxy) = &proxy {
            proxy.note_login(&self.secrets);
        }
        let transport = Transport {
            offline: self.offline,
            timeouts: self.timeouts,
            retry: self.retry,
            limits: self.limits.bounded(),
            ranges: self.ranges,
            http: self.http_rule,
            policy: self.target_policy,
            credentials: self.credentials,
            oauth2_passwords: self.oauth2_passwords,
            observer: self.observer,
            secrets: self.secrets,
            told: Told::default(),
            splay: self.splay,
            hosts: HostLimits::new(self.requests_per_host, self.retry),
            user_agent,
            proxy,
            hosts_config: self.hosts.into_iter().map(|config| (config.registry().to_owned(), config)).collect(),
            host_source: self.host_source,
            liars: Liars::new(self.endpoint_memory),
            names_from_origin: self.names_from_origin,
            profile: Profile::own(extra_roots),
            manifests: Flights::default(),
            changes: Flights::default(),
            blobs: Flights::default(),
            writes: AtomicU64::new(0),
            pools: Pools::new(self.idle_per_host.unwrap_or(self.requests_per_host.saturating_mul(2).max(2))),
        };
        Ok(Net { transport: Arc::new(transport), registries: Arc::default() })
    }
}
