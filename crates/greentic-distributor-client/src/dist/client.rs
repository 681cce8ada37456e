//! `DistClient`: one handle on the whole flow, and its builder.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use greentic_dist_net::{
    CredentialSource, Event as NetEvent, HttpRule, Net, NetError, NetStats, Observer, RetryPolicy, TargetPolicy,
    Timeouts,
};
use greentic_dist_store::{Proof, Store};
use greentic_dist_types::{PlatformChoice, limits};
use tokio::sync::Semaphore;

use super::memo::Memo;
use super::turns::Turns;
use super::{
    ArtifactDescriptor, ArtifactSource, CacheEntry, CachePolicy, DistError, DistOptions, ResolvePolicy,
    ResolvedArtifact, cache, fetch, resolve, source,
};
use crate::credentials::EnvCredentials;
use crate::progress::{Event, Reporter, Silent};

/// Resolves, fetches, verifies, keeps and reopens artifacts.
///
/// Cheap to clone; all clones share connections and memory. Building one does no I/O and never fails. Async methods need
/// a tokio runtime with time and I/O enabled, may be called from several runtimes one after another, and are cancel-safe:
/// dropping a future leaves the cache whole and keeps what was downloaded for the next attempt. The other methods are
/// synchronous, need no runtime and block on the disk.
#[derive(Clone)]
pub struct DistClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) options: DistOptions,
    pub(super) platform: PlatformChoice,
    pub(super) max_artifact_bytes: u64,
    pub(super) proof: Proof,
    pub(super) store: Store,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) memo: Memo,
    pub(super) turns: Turns,
    pub(super) transfers: Semaphore,
    credentials: Arc<dyn CredentialSource>,
    timeouts: Timeouts,
    retry: RetryPolicy,
    root_certificates_pem: Option<Vec<u8>>,
    requests_per_host: usize,
    http_rule: HttpRule,
    target_policy: TargetPolicy,
    net: OnceLock<Net>,
}

/// Builds a [`DistClient`] with more than [`DistOptions`] can say.
#[must_use]
pub struct DistClientBuilder {
    options: Option<DistOptions>,
    platform: PlatformChoice,
    max_artifact_bytes: u64,
    proof: Proof,
    reporter: Arc<dyn Reporter>,
    credentials: Arc<dyn CredentialSource>,
    timeouts: Timeouts,
    retry: RetryPolicy,
    root_certificates_pem: Option<Vec<u8>>,
    requests_per_host: usize,
    http_rule: HttpRule,
    target_policy: TargetPolicy,
}

/// Requests at once to one host. Enough to keep a pull of many small artifacts busy over a slow link; a host that answers
/// 429 is asked more slowly.
const REQUESTS_PER_HOST: usize = 32;

/// Transfers at once. Each holds a blocking thread of the runtime, and others must be left for the work that ends them.
const TRANSFERS: usize = 64;

impl DistClientBuilder {
    /// The options shared with 0.4. Default: [`DistOptions::default`], which reads the environment.
    pub fn options(mut self, options: DistOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Which manifest of an image index is wanted. Default: Wasm first.
    pub fn platform(mut self, platform: PlatformChoice) -> Self {
        self.platform = platform;
        self
    }

    /// Largest artifact that is taken, in bytes. Default: 2 GiB.
    pub const fn max_artifact_bytes(mut self, bytes: u64) -> Self {
        self.max_artifact_bytes = bytes;
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

    /// Who knows the logins of registries; asked only after a registry demanded one. Default: the environment
    /// ([`EnvCredentials`]).
    pub fn credentials(mut self, credentials: Arc<dyn CredentialSource>) -> Self {
        self.credentials = credentials;
        self
    }

    /// How long each phase of a request may take. Default: connect 10 s, headers 30 s (15 s from a token server), silence in a
    /// body 30 s, and no limit on a whole body that is not slower than 1 KiB/s over 60 s.
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How often and after which waits a failed request is made again. Default: 5 attempts, full jitter from 200 ms to 10 s.
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Certificate authorities to trust beside the system's, PEM. Default: none; the system's roots (which `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` can replace) are read when the first TLS connection is made.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates_pem = Some(pem.into());
        self
    }

    /// Requests at once to one host, at least 1. Default: 32.
    pub const fn requests_per_host(mut self, requests: usize) -> Self {
        self.requests_per_host = requests;
        self
    }

    /// Which registries may be asked over plain HTTP. Default: those of this machine.
    pub fn http_rule(mut self, rule: HttpRule) -> Self {
        self.http_rule = rule;
        self
    }

    /// Where a registry may send this client: token servers on other hosts that get a login, redirects into private networks.
    /// Default: no other token server but the known ones of Docker Hub and GitLab, and no redirect from a public registry into
    /// a private network.
    pub fn target_policy(mut self, policy: TargetPolicy) -> Self {
        self.target_policy = policy;
        self
    }

    /// The client. No I/O.
    pub fn build(self) -> DistClient {
        let options = self.options.unwrap_or_default();
        let store = Store::new(options.cache_dir.clone());
        DistClient {
            inner: Arc::new(Inner {
                store,
                options,
                platform: self.platform,
                max_artifact_bytes: self.max_artifact_bytes,
                proof: self.proof,
                reporter: self.reporter,
                memo: Memo::default(),
                turns: Turns::default(),
                transfers: Semaphore::new(TRANSFERS),
                credentials: self.credentials,
                timeouts: self.timeouts,
                retry: self.retry,
                root_certificates_pem: self.root_certificates_pem,
                requests_per_host: self.requests_per_host.max(1),
                http_rule: self.http_rule,
                target_policy: self.target_policy,
                net: OnceLock::new(),
            }),
        }
    }
}

/// Tells the reporter what a person should know about the wire.
struct Wire(Arc<dyn Reporter>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Observer for Wire {
    fn event(&self, event: &NetEvent<'_>) {
        let message = match event {
            NetEvent::Retry { attempt, delay, error } => {
                format!("attempt {attempt} failed ({error}); trying again in {:.1} s", delay.as_secs_f32())
            }
            NetEvent::Resume { offset, error } => format!("the transfer stopped at byte {offset} ({error}); resuming"),
            NetEvent::Warning { host, text } => format!("{host} says: {text}"),
            _ => return,
        };
        self.0.event(&Event::Warning { message: &message });
    }
}

impl Inner {
    /// The network, built at first need: a call that is answered from the cache never gets here.
    pub(super) fn net(&self, reference: &str) -> Result<&Net, DistError> {
        if let Some(net) = self.net.get() {
            return Ok(net);
        }
        let net = self.build_net().map_err(|error| DistError::from_net(reference, error))?;
        Ok(self.net.get_or_init(|| net))
    }

    fn build_net(&self) -> Result<Net, NetError> {
        let mut builder = Net::builder()
            .offline(self.options.offline)
            .requests_per_host(self.requests_per_host)
            .http_rule(self.http_rule.clone())
            .target_policy(self.target_policy.clone())
            .timeouts(self.timeouts)
            .retry(self.retry)
            .credentials(Arc::clone(&self.credentials))
            .observer(Arc::new(Wire(Arc::clone(&self.reporter))));
        if let Some(pem) = &self.root_certificates_pem {
            builder = builder.root_certificates_pem(pem.clone());
        }
        builder.build()
    }

    pub(super) fn warn(&self, message: &str) {
        tracing::warn!("{message}");
        self.reporter.event(&Event::Warning { message });
    }

    /// Unix seconds by the store's clock.
    pub(super) fn now_secs(&self) -> u64 {
        let now = self.store.options().clock.now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    pub(super) fn is_offline(&self, source_offline: bool) -> bool {
        self.options.offline || source_offline
    }
}

impl DistClient {
    /// A client with these options and defaults for everything else. No I/O, never fails.
    pub fn new(options: DistOptions) -> Self {
        Self::builder().options(options).build()
    }

    /// A builder, for everything that [`DistOptions`] cannot say.
    pub fn builder() -> DistClientBuilder {
        DistClientBuilder {
            options: None,
            platform: PlatformChoice::default(),
            max_artifact_bytes: limits::ARTIFACT_BYTES,
            proof: Proof::Stamped,
            reporter: Arc::new(Silent),
            credentials: Arc::new(EnvCredentials),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            root_certificates_pem: None,
            requests_per_host: REQUESTS_PER_HOST,
            http_rule: HttpRule::default(),
            target_policy: TargetPolicy::default(),
        }
    }

    /// The options in force.
    pub fn options(&self) -> &DistOptions {
        &self.inner.options
    }

    /// Classifies a reference: `oci://` or a bare reference that names its registry, `https://`, `file://` or a path,
    /// `fixture://` (feature `fixture-resolver`), `repo://`, `store://`, or a digest.
    ///
    /// Looks at the file system only for a bare text that is neither a path nor a registry reference.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`].
    pub fn parse_source(&self, reference: &str) -> Result<ArtifactSource, DistError> {
        source::parse_source(reference, &self.inner.options)
    }

    /// Finds out what a source means, without moving the artifact.
    ///
    /// Requests: 0 for a digest, a file, or a pin that is in the cache; 1 for an OCI reference (2 for an image index; a
    /// tag known from an earlier fetch is revalidated by one conditional request). An `https://` source names no digest,
    /// so its bytes are fetched into the cache here and [`DistClient::fetch`] finds them there.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// By kind: invalid input, not found, offline, auth, temporary, integrity; see [`DistError`].
    pub async fn resolve(
        &self,
        source: ArtifactSource,
        _policy: ResolvePolicy,
    ) -> Result<ArtifactDescriptor, DistError> {
        resolve::resolve(&self.inner, &source).await
    }

    /// Brings the artifact of a descriptor into the cache, or finds it there, and opens it.
    ///
    /// The bytes are hashed while they are written and appear in the cache only when they are the promised ones. A
    /// transfer that was cut continues where it was, also one of another process. Processes that fetch the same bytes
    /// wait for the first one instead of fetching them again.
    ///
    /// Cancel-safe: what was downloaded is kept for the next attempt.
    ///
    /// # Errors
    /// By kind: not found, offline, auth, temporary, integrity, internal; see [`DistError`].
    pub async fn fetch(
        &self,
        descriptor: &ArtifactDescriptor,
        _policy: CachePolicy,
    ) -> Result<ResolvedArtifact, DistError> {
        fetch::fetch(&self.inner, descriptor).await
    }

    /// Opens an artifact of the cache by its pin or by the digest of its bytes. Opens no socket; `sha256:` may be left
    /// out.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CorruptArtifact`] when the entry is not what its name promises;
    /// [`DistError::InvalidRef`] for a text that is no digest; [`DistError::CacheError`].
    pub fn open_cached(&self, digest_or_cache_key: &str) -> Result<ResolvedArtifact, DistError> {
        cache::open(&self.inner, digest_or_cache_key)
    }

    /// What the cache knows of an artifact, without reading its bytes and without writing.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CacheError`] for an entry that cannot be read; [`DistError::InvalidRef`].
    pub fn stat_cache(&self, digest_or_cache_key: &str) -> Result<CacheEntry, DistError> {
        cache::stat(&self.inner, digest_or_cache_key)
    }

    /// The path of an artifact that is in the cache, proven. Opens no socket.
    ///
    /// # Errors
    /// As [`DistClient::open_cached`].
    pub async fn fetch_digest(&self, digest: &str) -> Result<PathBuf, DistError> {
        let (inner, digest) = (Arc::clone(&self.inner), digest.to_owned());
        crate::blocking::run(move || cache::open(&inner, &digest).map(|artifact| artifact.local_path)).await
    }

    /// The digests in the cache, sorted. A cache that cannot be read is empty here; [`DistClient::try_list_cache`] says why.
    pub fn list_cache(&self) -> Vec<String> {
        self.try_list_cache().unwrap_or_default()
    }

    /// The digests in the cache, sorted, by directory names alone: cheap for large caches.
    ///
    /// # Errors
    /// [`DistError::CacheError`] for a cache that cannot be read or belongs to somebody else.
    pub fn try_list_cache(&self) -> Result<Vec<String>, DistError> {
        cache::list(&self.inner)
    }

    /// The readable entries of the cache, sorted by digest.
    pub fn list_cache_entries(&self) -> Vec<CacheEntry> {
        cache::entries(&self.inner)
    }

    /// Counters of the network, all zero before the first request.
    pub fn net_stats(&self) -> NetStats {
        self.inner.net.get().map(Net::stats).unwrap_or_default()
    }
}

impl Default for DistClient {
    /// A client with [`DistOptions::default`], which reads the environment.
    fn default() -> Self {
        Self::builder().build()
    }
}

impl fmt::Debug for DistClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistClient").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for DistClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistClientBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
