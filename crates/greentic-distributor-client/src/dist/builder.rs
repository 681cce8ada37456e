//! Everything a client can be told beside its options.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_net::{
    CredentialSource, HostConfig, HostSource, HttpRule, Limits, NetBuilder, Observer, ProxyRule, RangePolicy,
    RetryPolicy, TargetPolicy, Timeouts,
};
use greentic_dist_store::{Proof, StoreOptions};
use greentic_dist_types::PlatformChoice;

use super::bundle::CacheOpener;
use super::client::Inner;
use super::{ArtifactOpener, ArtifactRule, DistClient, DistOptions, ResolveRefInjector};
use crate::hosts::{HostFiles, HostsDir};
use crate::progress::{Reporter, Silent};
use crate::registries_conf::RegistriesConf;

/// Builds a [`DistClient`] with more than [`DistOptions`] can say.
#[must_use]
pub struct DistClientBuilder {
    pub(super) options: Option<DistOptions>,
    pub(super) platform: PlatformChoice,
    pub(super) limits: Limits,
    pub(super) operation: Option<Duration>,
    pub(super) proof: Proof,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) opener: Arc<dyn ArtifactOpener>,
    pub(super) injector: Option<Arc<dyn ResolveRefInjector>>,
    pub(super) tenant_registry: Option<String>,
    pub(super) rule: ArtifactRule,
    pub(super) store: StoreOptions,
    pub(super) net: NetBuilder,
    pub(super) host_files: HostFiles,
}

/// Requests at once to one host: enough to keep a pull of many small artifacts busy over a slow link.
const REQUESTS_PER_HOST: usize = 32;

impl DistClientBuilder {
    pub(super) fn new() -> Self {
        let net = crate::oci::client().requests_per_host(REQUESTS_PER_HOST);
        Self {
            options: None,
            platform: PlatformChoice::default(),
            limits: Limits::default(),
            operation: None,
            proof: Proof::Stamped,
            reporter: Arc::new(Silent),
            observer: None,
            opener: Arc::new(CacheOpener),
            injector: None,
            tenant_registry: None,
            rule: ArtifactRule::default(),
            store: StoreOptions::default(),
            net,
            host_files: HostFiles::from_env(),
        }
    }

    /// A builder with everything that `client` was built with but its options and what it was told about artifacts: who is
    /// asked, how, with which logins, and who is told.
    pub(crate) fn like(client: &DistClient) -> Self {
        let inner = &client.inner;
        Self {
            platform: inner.platform.clone(),
            limits: inner.limits,
            operation: inner.operation,
            proof: inner.proof,
            reporter: Arc::clone(&inner.reporter),
            observer: inner.observer.clone(),
            net: inner.net_settings.clone(),
            ..Self::new()
        }
    }

    /// The options shared with 0.4. Default: [`DistOptions::default`], which reads the environment.
    pub fn options(mut self, options: DistOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Which manifest of an image index is wanted. Default: Wasm first; where there is none, that for `linux/amd64` or
    /// `linux/arm64`, if they hold the same. A client that is given a platform gets no other.
    pub fn platform(mut self, platform: PlatformChoice) -> Self {
        self.platform = platform;
        self
    }

    /// Largest artifact that is taken, in bytes, and largest blob that is copied. Default: 2 GiB, or what [`DistClientBuilder::limits`] said before.
    pub const fn max_artifact_bytes(mut self, bytes: u64) -> Self {
        self.limits.artifact_bytes = bytes;
        self
    }

    /// Caps on what servers may send, the largest artifact ([`Limits::artifact_bytes`]) among them: manifests, their layers,
    /// annotations and nesting, headers, error documents, tokens, lists, redirects. Default: [`Limits::default`]. An error about one
    /// names it ([`NetError::limit`](crate::dist::NetError::limit)).
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How a cached artifact is proven when it is opened. Default: hashed once in each boot of the machine, and again
    /// whenever the file changed since.
    pub const fn proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// Who is told about progress. Default: nobody.
    pub fn reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// Who is told about requests that are made again, transfers that go on after a cut, mirrors that did not serve and warnings of
    /// servers, each with its cause: for counters and logs. Called on the async threads: must not block. The reporter is told of them
    /// in words, too. Default: nobody.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Who opens the artifacts of bundles when they are warmed. Default: nobody; the artifact is described as it is in the
    /// cache.
    pub fn artifact_opener(mut self, opener: Arc<dyn ArtifactOpener>) -> Self {
        self.opener = opener;
        self
    }

    /// Who is asked about every reference before it is resolved. Default: nobody.
    pub fn ref_injector(mut self, injector: Arc<dyn ResolveRefInjector>) -> Self {
        self.injector = Some(injector);
        self
    }

    /// Who knows the logins of registries; asked only after a registry demanded one. Default: those of this user on this machine
    /// ([`CredentialChain`](crate::dist::CredentialChain)). Replaces the default; `StaticCredentials::new()` is no login at all.
    pub fn credentials(mut self, credentials: Arc<dyn CredentialSource>) -> Self {
        self.net = self.net.credentials(credentials);
        self
    }

    /// Posts passwords to token servers as an OAuth2 grant first. Default: off, they go by `GET` as `Basic`, and by `POST` to a
    /// token server that knows nothing else.
    pub fn oauth2_passwords(mut self, first: bool) -> Self {
        self.net = self.net.oauth2_passwords(first);
        self
    }

    /// How long each phase of a request may take. Default: connect 10 s, headers 30 s (15 s from a token server), silence in a
    /// body 30 s, and no limit on a whole body that is not slower than 1 KiB/s over 60 s.
    ///
    /// [`Timeouts::operation`] is the time of one call of the client: to resolve, to fetch, to pull one of several references, to
    /// copy, to push. Work on this machine and waits for other processes are not ended by it.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.operation = timeouts.operation;
        self.net = self.net.timeouts(timeouts);
        self
    }

    /// How often and after which waits a failed request is made again. Default: 5 attempts, full jitter from 200 ms to 10 s, and
    /// all requests to one host together not more often than a fifth of them and ten at once.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.net = self.net.retry(retry);
        self
    }

    /// When a large blob is asked for over several connections at a time. Default: from 32 MiB on, four connections, where
    /// the first alone is slower than 256 MiB/s, all together are at least 15 % faster than it, and the server is not on
    /// this machine.
    pub fn ranges(mut self, ranges: RangePolicy) -> Self {
        self.net = self.net.ranges(ranges);
        self
    }

    /// Certificate authorities to trust beside the system's, PEM. Default: none; the system's roots (which `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` can replace) are read when the first TLS connection is made.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.net = self.net.root_certificates_pem(pem.into());
        self
    }

    /// How one registry is reached: its own host and its mirrors. Default: HTTPS on the host its references name, no mirror.
    pub fn host(mut self, config: HostConfig) -> Self {
        self.net = self.net.host(config);
        self
    }

    /// A tree of host configurations as containerd has them in `/etc/containerd/certs.d`, for registries that
    /// [`DistClientBuilder::host`] says nothing about. Default: `GREENTIC_DIST_HOSTS_DIR`, else none. No directory is read
    /// unless it is named here or there.
    pub fn hosts_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.host_files = self.host_files.hosts_dir(HostsDir::new(dir));
        self.with_host_files()
    }

    /// The `registries.conf` of the containers tools, for registries that neither [`DistClientBuilder::host`] nor a directory of the
    /// tree says anything about; see [`HostFiles`]. Default: `GREENTIC_DIST_REGISTRIES_CONF`, else `CONTAINERS_REGISTRIES_CONF`,
    /// else none. No file is read unless it is named here or there, the system's neither.
    pub fn registries_conf(mut self, conf: RegistriesConf) -> Self {
        self.host_files = self.host_files.registries_conf(conf);
        self.with_host_files()
    }

    fn with_host_files(self) -> Self {
        let files = self.host_files.clone();
        self.host_source(Arc::new(files))
    }

    /// Waits a random time below this before the first request, so that a fleet that is told to fetch something at once does not ask
    /// at once. A client that finds everything in its cache, or is offline, never waits; clients that are built like this one for
    /// packs and components share its wait. It counts for [`Timeouts::operation`], and no lock of an artifact is held meanwhile. Default none; more
    /// than an hour counts as an hour.
    pub fn splay(mut self, time: Duration) -> Self {
        self.net = self.net.splay(time);
        self
    }

    /// Asks a registry itself what its tags mean, and no mirror, so that a mirror that is behind decides nothing. Content comes from
    /// mirrors as before. Default no.
    pub fn names_from_origin(mut self, only: bool) -> Self {
        self.net = self.net.names_from_origin(only);
        self
    }

    /// Where the configuration of registries is kept instead of in files.
    pub fn host_source(mut self, source: Arc<dyn HostSource>) -> Self {
        self.net = self.net.host_source(source);
        self
    }

    /// Through which proxy other machines are reached. Default: as the environment (`HTTPS_PROXY` and its like) and the system say.
    /// A proxy that cannot be used fails every request with the kind `Config`.
    pub fn proxy(mut self, rule: ProxyRule) -> Self {
        self.net = self.net.proxy(rule);
        self
    }

    /// Requests at once to one host, at least 1. Default: 32. A host that answers 429 or 503 gets half as many from then on, and
    /// for every 20 other answers one more again.
    pub fn requests_per_host(mut self, requests: usize) -> Self {
        self.net = self.net.requests_per_host(requests.max(1));
        self
    }

    /// Which registries may be asked over plain HTTP. Default: those of this machine.
    pub fn http_rule(mut self, rule: HttpRule) -> Self {
        self.net = self.net.http_rule(rule);
        self
    }

    /// The `User-Agent` of every request. Default: `greentic-dist/<version>`. One that is empty, longer than 256 bytes or holds
    /// control characters fails every request with the kind `InvalidInput`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.net = self.net.user_agent(user_agent);
        self
    }

    /// Where a registry may send this client: token servers on other hosts that get a login, redirects into private networks.
    /// Default: no other token server but the known ones of Docker Hub and GitLab, and no redirect from a public registry into
    /// a private network.
    pub fn target_policy(mut self, policy: TargetPolicy) -> Self {
        self.net = self.net.target_policy(policy);
        self
    }

    /// Where the packages of `store://greentic-biz/…` are, for tests of this project: the logins of tenants go there.
    #[doc(hidden)]
    pub fn tenant_registry_for_tests(mut self, registry: impl Into<String>) -> Self {
        self.tenant_registry = Some(registry.into());
        self
    }

    /// What the client takes out of a manifest, for the fetchers.
    pub(crate) fn artifact_rule(mut self, rule: ArtifactRule) -> Self {
        self.rule = rule;
        self
    }

    /// How the cache directory is used, for the fetchers.
    pub(crate) fn store_options(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// The client. No I/O.
    pub fn build(self) -> DistClient {
        DistClient { inner: Arc::new(Inner::new(self)) }
    }
}

impl fmt::Debug for DistClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistClientBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
