//! `DistClient`: one handle on the whole flow.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use greentic_dist_net::{ClientStats, Limits, Net, NetBuilder, NetStats, Observer, one_operation};
#[cfg(feature = "dist-cli")]
use greentic_dist_net::{Credential, GivenSecrets, StaticCredentials};
use greentic_dist_store::{Proof, Store};
#[cfg(feature = "provider-registry")]
use greentic_dist_types::Digest;
use greentic_dist_types::{PlatformChoice, SafeText, SelectError};
use tokio::sync::Semaphore;

use super::endpoint_memory::CacheMemory;
use super::memo::Memo;
use super::retention::Holds;
use super::tenants::Tenants;
#[cfg(feature = "provider-registry")]
use super::turns::Turn;
use super::turns::Turns;
use super::wire::Wire;
use super::{
    ArtifactDescriptor, ArtifactOpener, ArtifactRule, ArtifactSource, CacheEntry, CachePolicy, DistClientBuilder,
    DistError, DistOptions, ResolvePolicy, ResolveRefInjector, ResolvedArtifact, cache, fetch, neighbours, resolve,
    source,
};
use crate::progress::{Event, Reporter};

/// Resolves, fetches, verifies, keeps and reopens artifacts.
///
/// Cheap to clone; all clones share connections and memory. Building one does no I/O and never fails. Async methods need
/// a tokio runtime with time and I/O enabled, may be called from several runtimes one after another, and are cancel-safe:
/// dropping a future leaves the cache whole and keeps what was downloaded for the next attempt. The other methods are
/// synchronous, need no runtime and block on the disk.
#[derive(Clone)]
pub struct DistClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: DistOptions,
    pub(crate) rule: ArtifactRule,
    pub(crate) platform: PlatformChoice,
    pub(crate) limits: Limits,
    /// The time of one call, as far as the network has a part in it.
    pub(crate) operation: Option<Duration>,
    pub(super) proof: Proof,
    pub(crate) store: Store,
    /// Other caches of this user, to be linked from before anything is downloaded.
    pub(super) neighbours: Vec<Store>,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) opener: Arc<dyn ArtifactOpener>,
    pub(super) injector: Option<Arc<dyn ResolveRefInjector>>,
    pub(super) memo: Memo,
    pub(super) turns: Turns,
    pub(super) holds: Arc<Holds>,
    pub(super) transfers: Semaphore,
    /// How many artifacts were opened from the cache.
    pub(super) cache_hits: AtomicU64,
    pub(super) tenants: Tenants,
    pub(super) net_settings: NetBuilder,
    net: OnceLock<Net>,
}

/// Transfers at once. Each holds a blocking thread of the runtime, and others must be left for the work that ends them.
const TRANSFERS: usize = 64;

impl Inner {
    pub(super) fn new(settings: DistClientBuilder) -> Self {
        let DistClientBuilder {
            options,
            platform,
            limits,
            operation,
            proof,
            reporter,
            observer,
            opener,
            injector,
            tenant_registry,
            rule,
            store,
            net,
            host_files: _,
        } = settings;
        let options = options.unwrap_or_default();
        let neighbours = neighbours::beside(&options.cache_dir, matches!(rule, ArtifactRule::Listed(_)));
        let store = Store::with_options(options.cache_dir.clone(), store);
        let memory =
            CacheMemory { store: store.clone(), neighbours: neighbours.clone(), reporter: Arc::clone(&reporter) };
        let wire = Wire { reporter: Arc::clone(&reporter), observer: observer.clone() };
        let net = net.limits(limits).offline(options.offline).observer(Arc::new(wire));
        Self {
            neighbours,
            store,
            rule,
            platform,
            limits,
            operation,
            proof,
            injector,
            tenants: Tenants::new(tenant_registry),
            memo: Memo::default(),
            turns: Turns::default(),
            holds: Arc::default(),
            transfers: Semaphore::new(TRANSFERS),
            cache_hits: AtomicU64::new(0),
            net_settings: net.endpoint_memory(Arc::new(memory)),
            reporter,
            observer,
            opener,
            net: OnceLock::new(),
            options,
        }
    }

    /// The network, built at first need: a call that is answered from the cache never gets here.
    pub(crate) fn net(&self, reference: &str) -> Result<&Net, DistError> {
        if let Some(net) = self.net.get() {
            return Ok(net);
        }
        let net = self.net_settings.clone().build().map_err(|error| DistError::from_net(reference, error))?;
        Ok(self.net.get_or_init(|| net))
    }

    /// The failure to choose something of a manifest. What the manifest says is a registry's text as any other.
    pub(crate) fn not_selected(&self, reference: &str, source: SelectError) -> DistError {
        let without_secrets = |text: &SafeText| SafeText::new(&self.net_settings.secrets().blank(text.as_str()));
        let source = match source {
            SelectError::NoLayer { seen, accepted } => SelectError::NoLayer { seen: without_secrets(&seen), accepted },
            other => other,
        };
        DistError::Selection { reference: reference.to_owned(), source }
    }

    /// Counts an artifact that was opened from the cache.
    pub(super) fn note_cache_hit(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn warn(&self, message: &str) {
        tracing::warn!("{message}");
        self.reporter.event(&Event::Warning { message });
    }

    /// The turn of the tasks of this client that work on what has this name. Cancel-safe.
    #[cfg(feature = "provider-registry")]
    pub(crate) async fn turn(&self, name: &str) -> Turn {
        self.turns.take(Digest::sha256(name.as_bytes())).await
    }

    /// Unix seconds by the store's clock.
    pub(crate) fn now_secs(&self) -> u64 {
        let now = self.store.options().clock.now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Whether the client was given a platform other than Wasm.
    pub(crate) fn has_own_platform(&self) -> bool {
        self.platform != PlatformChoice::default()
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

    /// As [`DistClient::new`], with who opens the artifacts of bundles when they are warmed.
    pub fn with_artifact_opener(options: DistOptions, opener: Arc<dyn ArtifactOpener>) -> Self {
        Self::builder().options(options).artifact_opener(opener).build()
    }

    /// A client that asks `injector` about every reference before it resolves it. No I/O, never fails.
    pub fn with_ref_injector(options: DistOptions, injector: Arc<dyn ResolveRefInjector>) -> Self {
        Self::builder().options(options).ref_injector(injector).build()
    }

    /// A builder, for everything that [`DistOptions`] cannot say.
    pub fn builder() -> DistClientBuilder {
        DistClientBuilder::new()
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
        one_operation(self.inner.operation, Box::pin(resolve::resolve(&self.inner, &source))).await
    }

    /// The endpoint that told this client what the reference of a descriptor means, the registry's own host or a mirror, as
    /// `scheme://host[:port][/path]`. `None` when nobody was asked when it was resolved last, or when it was resolved too long ago to
    /// be remembered (512 references). No I/O.
    pub fn resolved_by(&self, descriptor: &ArtifactDescriptor) -> Option<String> {
        self.inner.memo.resolved_by(descriptor)
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
        one_operation(self.inner.operation, Box::pin(fetch::fetch(&self.inner, descriptor))).await
    }

    /// Opens an artifact of the cache by its pin or by the digest of its bytes. Opens no socket; `sha256:` may be left
    /// out.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CorruptArtifact`] when the entry is not what its name promises;
    /// [`DistError::InvalidRef`] for a text that is no digest; [`DistError::CacheError`].
    pub fn open_cached(&self, digest_or_cache_key: &str) -> Result<ResolvedArtifact, DistError> {
        let opened = cache::open(&self.inner, digest_or_cache_key);
        opened.inspect(|_hit| self.inner.note_cache_hit())
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

    /// What this client and those like it have given away as logins.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn secrets(&self) -> &GivenSecrets {
        self.inner.net_settings.secrets()
    }

    /// Asks a registry whether a login is good. `false` when it wants none.
    #[cfg(feature = "dist-cli")]
    pub(crate) async fn check_login(&self, host: &str, login: Credential) -> Result<bool, DistError> {
        let about = |error| DistError::from_net(host, error);
        let logins = StaticCredentials::new().with(host, login);
        let net = self.inner.net_settings.clone().credentials(Arc::new(logins)).build().map_err(about)?;
        let answer = net.registry(host).map_err(about)?.ping().await.map_err(about)?;
        Ok(answer.wants_login)
    }

    /// What was done over the network so far, by this client and its clones: requests, retries, bytes, tokens, connections made
    /// and used again, in all and with each host; what hosts said about their limits of requests; and how many artifacts were opened
    /// from the cache instead ([`DistClient::fetch`] and [`DistClient::open_cached`], and what is built on them). All zero before the
    /// first request. No I/O.
    pub fn stats(&self) -> ClientStats {
        let own = self.inner.net.get().map(Net::client_stats).unwrap_or_default();
        let mut stats = self.inner.tenants.stats().into_iter().fold(own, std::ops::Add::add);
        stats.cache_hits = self.inner.cache_hits.load(Ordering::Relaxed);
        stats
    }

    /// [`DistClient::stats`] of all hosts together.
    pub fn net_stats(&self) -> NetStats {
        self.stats().total
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
