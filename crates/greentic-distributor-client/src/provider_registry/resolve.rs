//! From what was asked for to a file of this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::Reference;

use super::cache::{Cache, Copy, First, pin_of};
use super::fetch::{self, Answer, FetchFailure, Remote};
use super::lock::{self, Held, Stop};
use super::record::CopyRecord;
use super::reference::{CatalogRef, RemoteRef};
use super::resolved::{CatalogSource, RefreshFailure, ResolvedCatalog};
use super::{CatalogOrigin, ProviderRegistryError, RegistryBases};
use crate::blocking;
use crate::dist::{DistClient, DistErrorKind, chain};
use crate::env;

/// Longest wait for another task of this client, and then for another process, that fetches the same reference.
const FETCH_WAIT: Duration = Duration::from_mins(1);
/// Longest a refresh may take where there is a copy to use instead.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an offline refresh is none.
const OFFLINE: &str = "offline mode wins over a refresh: the registry was not asked";

/// Resolves the provider catalog of one bundle. Cheap to clone.
///
/// Made by [`ProviderRegistry::builder`]; building one does no I/O.
///
/// # Example
/// ```no_run
/// use greentic_distributor_client::provider_registry::ProviderRegistry;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = ProviderRegistry::builder("/srv/bundle").refresh(true).build();
/// let reference = "oci://ghcr.io/greenticai/registries/providers:latest";
/// if let Some(resolved) = registry.resolve(None, Some(reference)).await? {
///     println!("{} providers at {}", resolved.catalog()?.providers.len(), resolved.path.display());
///     if let Some(failure) = &resolved.refresh_failure {
///         eprintln!("this is the copy of {:?} ago: {}", resolved.age, failure.message);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProviderRegistry {
    client: DistClient,
    cache: Cache,
    bases: RegistryBases,
    is_offline: bool,
    wants_refresh: bool,
    refresh_timeout: Duration,
    voice: Voice,
}

/// What is said to whoever watches the client.
#[cfg_attr(not(feature = "dist-cli"), expect(dead_code, reason = "only the command line says less"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Full,
    /// Everything, but that something else is used than what was wanted.
    NoFallback,
    Silent,
}

/// Builds a [`ProviderRegistry`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ProviderRegistryBuilder {
    bundle: PathBuf,
    client: Option<DistClient>,
    bases: Option<RegistryBases>,
    offline: bool,
    refresh: bool,
    refresh_timeout: Duration,
    voice: Voice,
}

impl ProviderRegistryBuilder {
    /// Who asks registries: logins, certificates, mirrors and offline mode are those of this client. Its cache is not used.
    /// Default: [`DistClient::default`], which reads the environment.
    pub fn client(mut self, client: DistClient) -> Self {
        self.client = Some(client);
        self
    }

    /// The registries that `repo://` and `store://` names are joined to. Default: those of the client.
    pub fn bases(mut self, bases: RegistryBases) -> Self {
        self.bases = Some(bases);
        self
    }

    /// Whether no socket may be opened. Default: as the client says. Wins over [`ProviderRegistryBuilder::refresh`].
    pub const fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Whether the registry is asked also when there is a cached copy. Default: no.
    pub const fn refresh(mut self, refresh: bool) -> Self {
        self.refresh = refresh;
        self
    }

    /// How long a refresh may take, the wait for others included, before the copy is used. Default: 15 s. Without a copy the
    /// timeouts of the client count.
    pub const fn refresh_timeout(mut self, timeout: Duration) -> Self {
        self.refresh_timeout = timeout;
        self
    }

    /// Says nothing to whoever watches the client: for a look that is not the answer to anybody.
    #[cfg(feature = "dist-cli")]
    pub(crate) const fn quiet(mut self) -> Self {
        self.voice = Voice::Silent;
        self
    }

    /// Says nothing of a copy that is used instead of what was wanted: for whoever makes a failure of that.
    #[cfg(feature = "dist-cli")]
    pub(crate) const fn without_fallback(mut self) -> Self {
        self.voice = Voice::NoFallback;
        self
    }

    /// The resolver. No I/O.
    pub fn build(self) -> ProviderRegistry {
        let client = self.client.unwrap_or_default();
        ProviderRegistry {
            cache: Cache::of_bundle(&self.bundle),
            bases: self.bases.unwrap_or_else(|| RegistryBases::of(client.options())),
            is_offline: self.offline || client.options().offline,
            wants_refresh: self.refresh,
            refresh_timeout: self.refresh_timeout,
            voice: self.voice,
            client,
        }
    }
}

/// How far a resolve gets without a registry.
enum Begun {
    Done(Option<Box<ResolvedCatalog>>),
    Ask(Box<Asking>),
}

/// What a registry is to be asked.
struct Asking {
    remote: RemoteRef,
    target: Result<Reference, ProviderRegistryError>,
    /// What is used when it does not answer.
    copy: Option<Copy>,
    /// Whether something could be used instead of its answer, which is then not waited for as long.
    has_fallback: bool,
    /// Whether a copy that somebody else brings meanwhile is not enough.
    is_refresh: bool,
}

impl ProviderRegistry {
    /// A builder for the bundle in this directory, which need not exist yet.
    pub fn builder(bundle: impl Into<PathBuf>) -> ProviderRegistryBuilder {
        ProviderRegistryBuilder {
            bundle: bundle.into(),
            client: None,
            bases: None,
            offline: false,
            refresh: false,
            refresh_timeout: REFRESH_TIMEOUT,
            voice: Voice::Full,
        }
    }

    /// Finds the catalog: the given file as it is; else what the reference leads to, a file or a registry's answer that is
    /// cached in the bundle. `None` when neither is given.
    ///
    /// Requests: 0 for files, for what is cached, and for a cached pin even with a refresh; 1 for a refresh that finds nothing
    /// new; else 2 (3 through an image index), a login apart. Several processes that fetch one reference take turns.
    ///
    /// Cancel-safe: the cache has the old copy or the new one.
    ///
    /// # Errors
    /// By kind: not found, invalid input, offline, auth, temporary, integrity, internal; see [`ProviderRegistryError`]. A
    /// refresh that fails is no error where there is a cached copy, see [`ResolvedCatalog::refresh_failure`].
    pub async fn resolve(
        &self,
        catalog_file: Option<PathBuf>,
        reference: Option<&str>,
    ) -> Result<Option<ResolvedCatalog>, ProviderRegistryError> {
        let (this, reference) = (self.clone(), reference.map(ToOwned::to_owned));
        match on_disk(move || this.begin(catalog_file, reference.as_deref())).await?? {
            Begun::Done(done) => Ok(done.map(|resolved| *resolved)),
            Begun::Ask(asking) => self.ask(*asking).await.map(Some),
        }
    }

    /// As [`ProviderRegistry::resolve`], for code that is not async: blocks the thread. What the cache answers is answered on it;
    /// for a registry it waits as everything in [`blocking`](crate::blocking) does, outside of runtimes and inside of any.
    ///
    /// # Errors
    /// As [`ProviderRegistry::resolve`].
    pub fn resolve_blocking(
        &self,
        catalog_file: Option<PathBuf>,
        reference: Option<&str>,
    ) -> Result<Option<ResolvedCatalog>, ProviderRegistryError> {
        match self.begin(catalog_file, reference)? {
            Begun::Done(done) => Ok(done.map(|resolved| *resolved)),
            Begun::Ask(asking) => {
                let asked = blocking::wait(self.ask(*asking));
                asked.map_err(ProviderRegistryError::not_run)?.map(Some)
            }
        }
    }

    /// Puts a file into the cache as the copy of a reference, see [`cache_registry_file`](super::cache_registry_file).
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, reference: &str, source: &Path) -> Result<PathBuf, ProviderRegistryError> {
        let reference = reference.trim();
        match CatalogRef::parse(reference)? {
            None => return Err(ProviderRegistryError::UnsupportedScheme { reference: reference.to_owned() }),
            Some(CatalogRef::Local(_)) => {}
            // Without a base there is no registry yet; what can name nothing never will.
            Some(CatalogRef::Remote(remote)) => match remote.locate(&self.bases) {
                Ok(_) | Err(ProviderRegistryError::NoRegistryBase { .. }) => {}
                Err(error) => return Err(error),
            },
        }
        self.cache.put(reference, source, self.client.inner.now_secs())
    }

    fn begin(&self, catalog_file: Option<PathBuf>, reference: Option<&str>) -> Result<Begun, ProviderRegistryError> {
        let done = |resolved: ResolvedCatalog| Ok(Begun::Done(Some(Box::new(resolved))));
        if let Some(path) = catalog_file {
            return done(ResolvedCatalog::of_file(path, None));
        }
        let remote = match reference.map(CatalogRef::parse).transpose()?.flatten() {
            None => return Ok(Begun::Done(None)),
            Some(CatalogRef::Local(path)) => {
                require_file(&path)?;
                return done(ResolvedCatalog::of_file(path, reference));
            }
            Some(CatalogRef::Remote(remote)) => remote,
        };
        let shelf = self.cache.look(&remote.text, First::Reference);
        if !shelf.is_indexed
            && let Some(what) = self.cache.mend()
        {
            self.warn(&remote, &what);
        }
        let target = remote.locate(&self.bases);
        // With another base a name means something else: what is cached is not it, unless a pin says so.
        let has_moved = shelf.copy.as_ref().is_some_and(|copy| has_moved(copy, target.as_ref().ok()));
        let is_refresh = (self.wants_refresh || has_moved) && pin_of(&remote.text).is_none();
        match (shelf.copy, target) {
            (Some(copy), _) if !is_refresh => {
                self.restore(&copy, &remote);
                done(self.cached(copy, &remote))
            }
            (Some(copy), _) if self.is_offline => {
                let why = if has_moved {
                    "offline, and the copy is of another registry than the base names now"
                } else {
                    OFFLINE
                };
                self.warn_of_fallback(&remote, why);
                done(self.cached(copy, &remote).stale(offline(why)))
            }
            (None, Err(error @ ProviderRegistryError::InvalidReference { .. })) => Err(error),
            (None, _) if self.is_offline => match shelf.vouched {
                Some(copy) => done(self.vouched(copy, &remote, self.wants_refresh.then(|| offline(OFFLINE)))),
                None => Err(ProviderRegistryError::Offline {
                    reference: remote.shown(),
                    cache_path: self.cache.layout().copy(&remote.text),
                    passed_over: shelf.passed_over,
                }),
            },
            (None, Err(error)) if shelf.vouched.is_none() => Err(error),
            (copy, target) => {
                let has_fallback = copy.is_some() || shelf.vouched.is_some();
                Ok(Begun::Ask(Box::new(Asking { remote, target, copy, has_fallback, is_refresh })))
            }
        }
    }

    async fn ask(&self, asking: Asking) -> Result<ResolvedCatalog, ProviderRegistryError> {
        let Asking { remote, target, copy, has_fallback, is_refresh } = asking;
        let asked = match target {
            Ok(target) if has_fallback => {
                let limit = self.refresh_timeout;
                let attempt = tokio::time::timeout(limit, self.attempt(&remote, &target, is_refresh));
                attempt.await.unwrap_or_else(|_elapsed| Err(FetchFailure::Slow { limit }))
            }
            Ok(target) => self.attempt(&remote, &target, is_refresh).await,
            Err(error) => Err(error.into()),
        };
        let failure = match asked {
            Ok(resolved) => return Ok(resolved),
            Err(failure) => failure,
        };
        // Somebody else may have had more luck meanwhile.
        let (cache, text) = (self.cache.clone(), remote.text.clone());
        let shelf = on_disk(move || cache.look(&text, First::Reference)).await?;
        let record_of = |copy: &Option<Copy>| copy.as_ref().and_then(|copy| copy.record.clone());
        let is_news = shelf.copy.is_some() && record_of(&shelf.copy) != record_of(&copy);
        match shelf.copy.or(copy) {
            Some(copy) if is_news => Ok(self.cached(copy, &remote)),
            Some(copy) => {
                let failure = RefreshFailure::from(&failure);
                self.warn_of_fallback(
                    &remote,
                    &format!("the cached copy is used, since a refresh failed: {}", failure.message),
                );
                Ok(self.cached(copy, &remote).stale(failure))
            }
            None => match shelf.vouched {
                Some(copy) => Ok(self.vouched(copy, &remote, Some((&failure).into()))),
                None => Err(ProviderRegistryError::Unavailable {
                    reference: remote.shown(),
                    cache_path: self.cache.layout().copy(&remote.text),
                    passed_over: shelf.passed_over,
                    source: Box::new(failure),
                }),
            },
        }
    }

    /// Asks the registry, in turn with whoever else fetches the same reference.
    async fn attempt(
        &self,
        remote: &RemoteRef,
        target: &Reference,
        is_refresh: bool,
    ) -> Result<ResolvedCatalog, FetchFailure> {
        // The tasks of one client one after another; of other processes those that have something to keep current.
        let path = self.cache.layout().fetch_lock(&remote.text);
        let here = tokio::time::timeout(FETCH_WAIT, self.client.inner.turn(&path.to_string_lossy())).await;
        let _here = here.map_err(|_elapsed| ProviderRegistryError::Busy { path, waited: FETCH_WAIT })?;
        let (turn, copy) = self.turn(remote).await?;
        if let Some(copy) = copy.as_ref().filter(|_| !is_refresh) {
            return Ok(self.cached(copy.clone(), remote));
        }
        // "Not modified" means something only where the copy came from.
        let here = copy.as_ref().filter(|copy| !has_moved(copy, Some(target)));
        let known = here.and_then(|copy| copy.record.as_ref());
        let known = known.filter(|known| known.origin == CatalogOrigin::Registry);
        let found = match (fetch::ask(&self.client, target, known).await?, known) {
            (Answer::Found(found), _) => found,
            (Answer::Unchanged, Some(known)) => return self.unchanged(remote, known.clone(), here).await,
            // Nobody says "not modified" who was not asked for changes.
            (Answer::Unchanged, None) => return Err(FetchFailure::NoManifest),
        };
        let (cache, text, content) = (self.cache.clone(), remote.text.clone(), found.content_digest());
        let bytes = match on_disk(move || cache.content(&text, &content)).await? {
            Some(bytes) => bytes,
            None => found.download().await?,
        };
        Remote::check(&bytes)?;
        let record = found.record(&remote.text, self.client.inner.now_secs());
        if let Some(known) = known.filter(|known| known.digest == record.digest) {
            return self.unchanged(remote, CopyRecord { fetched_at: known.fetched_at, ..record }, here).await;
        }
        let held = copy.as_ref().map(|copy| copy.bytes.as_slice());
        Remote::may_replace(held, &bytes)?;
        let (cache, noted) = (self.cache.clone(), record.clone());
        let (path, bytes) = on_disk(move || cache.publish(&noted, &bytes).map(|path| (path, bytes))).await??;
        drop(turn);
        let copy = Copy { path, bytes, digest: record.digest, record: Some(record), is_vouched: false };
        Ok(ResolvedCatalog::of_copy(copy, remote.shown(), CatalogSource::Network, self.client.inner.now_secs()))
    }

    /// Waits for its turn, and looks what those before brought. For what is not kept yet there is no lock: nothing is made on the disk
    /// before there is something to keep.
    async fn turn(&self, remote: &RemoteRef) -> Result<(Option<Held>, Option<Copy>), ProviderRegistryError> {
        let stop = Stop::default();
        let _stop = stop.on_drop();
        let (cache, text) = (self.cache.clone(), remote.text.clone());
        on_disk(move || {
            let turn = if cache.keeps(&text) {
                cache.make_dirs()?;
                Some(lock::wait(&cache.layout().fetch_lock(&text), FETCH_WAIT, &stop)?)
            } else {
                None
            };
            Ok((turn, cache.look(&text, First::Reference).copy))
        })
        .await?
    }

    /// The registry has what the cache has.
    async fn unchanged(
        &self,
        remote: &RemoteRef,
        record: CopyRecord,
        copy: Option<&Copy>,
    ) -> Result<ResolvedCatalog, FetchFailure> {
        let (this, remote, now) = (self.clone(), remote.clone(), self.client.inner.now_secs());
        let bytes = copy.map(|copy| copy.bytes.clone()).unwrap_or_default();
        on_disk(move || {
            let record = CopyRecord { checked_at: now, ..record };
            // That it could not be noted takes nothing from the copy.
            if let Err(error) = this.cache.confirm(&record, &bytes) {
                this.warn(&remote, &format!("that nothing changed could not be noted: {}", chain(&error)));
            }
            let copy = this.cache.look(&remote.text, First::Digest).copy.ok_or_else(|| {
                let source = io::Error::from(io::ErrorKind::NotFound);
                ProviderRegistryError::Cache { op: "read", path: this.cache.layout().copy(&remote.text), source }
            })?;
            let mut resolved = this.cached(copy, &remote);
            (resolved.checked_at, resolved.age) =
                (std::time::UNIX_EPOCH.checked_add(Duration::from_secs(now)), Some(Duration::ZERO));
            Ok(resolved)
        })
        .await?
    }

    /// Heals a copy by reference that is missing or wrong while the one by digest is good. Offline everything stays as it is.
    fn restore(&self, copy: &Copy, remote: &RemoteRef) {
        let is_second = copy.record.is_some() && copy.path != self.cache.layout().copy(&remote.text);
        if is_second
            && !self.is_offline
            && let Err(error) = self.cache.restore(&remote.text, &copy.bytes)
        {
            self.warn(remote, &format!("the copy by reference could not be restored: {}", chain(&error)));
        }
    }

    /// What an earlier version fetched, for want of anything better; with the reason that the registry did not prove it.
    fn vouched(&self, copy: Copy, remote: &RemoteRef, failure: Option<RefreshFailure>) -> ResolvedCatalog {
        let why = failure.as_ref().map(|failure| format!(" ({})", failure.message)).unwrap_or_default();
        self.warn_of_fallback(
            remote,
            &format!("the copy of an earlier version is used, whose bytes nothing proves{why}"),
        );
        let found = self.cached(copy, remote);
        match failure {
            Some(failure) => found.stale(failure),
            None => found,
        }
    }

    fn cached(&self, copy: Copy, remote: &RemoteRef) -> ResolvedCatalog {
        ResolvedCatalog::of_copy(copy, remote.shown(), CatalogSource::Cache, self.client.inner.now_secs())
    }

    /// Says that something else is used than what was wanted.
    fn warn_of_fallback(&self, remote: &RemoteRef, what: &str) {
        if self.voice == Voice::Full {
            self.warn(remote, what);
        }
    }

    fn warn(&self, remote: &RemoteRef, what: &str) {
        if self.voice != Voice::Silent {
            self.client.inner.warn(&format!("provider registry `{}`: {what}", remote.shown()));
        }
    }
}

/// Why an offline resolve has no newer catalog.
fn offline(why: &str) -> RefreshFailure {
    let hint = format!("offline mode comes from --offline or {}=1", env::OFFLINE);
    RefreshFailure::plain(DistErrorKind::Offline, why, vec![hint])
}

/// Whether a copy came from elsewhere than where its reference leads now.
fn has_moved(copy: &Copy, target: Option<&Reference>) -> bool {
    let came_from = copy.record.as_ref().and_then(|record| record.resolved_reference.as_ref());
    came_from.zip(target).is_some_and(|(came_from, target)| *came_from != target.to_string())
}

/// A local reference is a regular file.
fn require_file(path: &Path) -> Result<(), ProviderRegistryError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(ProviderRegistryError::LocalNotAFile { path: path.to_owned() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ProviderRegistryError::LocalMissing { path: path.to_owned() })
        }
        Err(error) => Err(ProviderRegistryError::of_source(path, error)),
    }
}

/// Work on the disk, away from the runtime's own threads.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ProviderRegistryError> {
    blocking::run(move || Ok(work())).await.map_err(ProviderRegistryError::not_run)
}
