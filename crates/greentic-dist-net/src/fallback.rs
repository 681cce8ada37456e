//! From one endpoint of a registry to the next: mirrors in their order, the registry's own host, then mirrors that had nothing lately.
//!
//! Content is by digest, so it may come from anybody; names are asked of endpoints that may resolve; everything else is
//! asked of the registry's own host. What a mirror says is never the last word: only the registry's own "not found" is final, and
//! when everybody fails the error lists each.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_types::SafeText;
use http::{HeaderName, Method};
use url::Url;

use crate::body::Odd;
use crate::error::EndpointFailure;
use crate::exchange::{Ask, Collected, Target};
use crate::host::HostConfig;
use crate::need::Need;
use crate::observer::Event;
use crate::oci::{Absence, Registry};
use crate::transport::{Reply, Transport};
use crate::{NetError, NetErrorKind};

/// The registry whose content an answer is (distribution-spec, proxying).
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// A mirror, with the question as it is asked there.
type At = (Arc<Registry>, Ask);

/// Whom one question goes to.
struct Endpoints {
    need: Need,
    /// The mirrors in their order.
    mirrors: Vec<At>,
    /// Mirrors that had nothing of this repository a short while ago: asked when everybody else has failed.
    last: Vec<At>,
    /// The question as it is asked of the registry itself, when that is another place than it says.
    own: Option<Box<Ask>>,
}

/// Notes that a mirror has answered.
fn served(need: Need, mirror: &Registry, ask: &Ask) {
    mirror.answered(true);
    tracing::debug!(mirror = mirror.address(), ?need, "a mirror answered");
    let Some(access) = ask.registry() else { return };
    mirror.serves(&access.repository);
    if need == Need::Name {
        mirror.names(&access.repository);
    }
}

/// A mirror that another endpoint had to be asked after.
struct Passed {
    mirror: Arc<Registry>,
    /// The repository of which it had not the content that was asked for, as far as its answer says so.
    lacks: Option<Arc<str>>,
}

impl Passed {
    fn of(need: Need, (mirror, ask): &At, error: &NetError) -> Self {
        let answered = error.status().is_some_and(|status| status >= 400);
        let access = ask.registry().filter(|_| need == Need::Content && answered);
        Self { mirror: Arc::clone(mirror), lacks: access.map(|access| Arc::clone(&access.repository)) }
    }
}

/// What one question, or one body over all its connections, has met on its way. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detour(Arc<Mutex<Met>>);

#[derive(Debug, Default)]
struct Met {
    /// Mirrors that are not asked again.
    left: Vec<Arc<Registry>>,
    /// Mirrors that sent a part of what was wanted.
    served: Vec<Arc<Registry>>,
    failures: Vec<EndpointFailure>,
}

impl Detour {
    fn met(&self) -> MutexGuard<'_, Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a mirror's failure; the next endpoint is asked.
    ///
    /// # Errors
    /// The failure itself when it is not about the mirror.
    fn note(&self, transport: &Transport, mirror: &Registry, error: NetError) -> Result<(), NetError> {
        if is_about_nobody(&error) {
            return Err(error);
        }
        let (address, kind) = (mirror.address(), error.kind());
        mirror.answered(!is_unreachable(&error));
        if matches!(kind, NetErrorKind::Unauthorized | NetErrorKind::Forbidden) && mirror.warns_first() {
            let text = format!("the mirror {address} refuses access; the next endpoint is asked");
            transport.warn(mirror.name(), SafeText::new(&text));
        }
        if kind == NetErrorKind::Integrity {
            mirror.quarantine();
            transport.liars.found(&address);
            tracing::warn!(mirror = %address, %error, "quarantined: it sent wrong bytes");
            let text = format!("the mirror {address} sent wrong bytes and is not asked for 10 minutes: {error}");
            transport.warn(mirror.name(), SafeText::new(&text));
        } else if kind != NetErrorKind::NotFound {
            tracing::debug!(mirror = %address, %error, "asking the next endpoint");
            transport.observer.event(&Event::Fallback { endpoint: &address, error: &error });
        }
        self.list(address, error);
        Ok(())
    }

    fn list(&self, endpoint: String, error: NetError) {
        let failures = &mut self.met().failures;
        if !failures.iter().any(|failure| failure.endpoint == endpoint) {
            failures.push(EndpointFailure { endpoint, error });
        }
    }

    fn serves(&self, mirror: &Arc<Registry>) {
        let served = &mut self.met().served;
        if !served.iter().any(|known| Arc::ptr_eq(known, mirror)) {
            served.push(Arc::clone(mirror));
        }
    }

    fn has_left(&self, mirror: &Arc<Registry>) -> bool {
        self.met().left.iter().any(|left| Arc::ptr_eq(left, mirror))
    }

    /// Another endpoint has what these mirrors had not: they are not asked again on the way of this body, and later than others
    /// for more of the repository.
    fn skip(&self, passed: Vec<Passed>) {
        for Passed { mirror, lacks } in passed {
            if let Some(repository) = lacks {
                mirror.lacks(&repository);
            }
            self.met().left.push(mirror);
        }
    }

    /// Whether a mirror may be asked now. One that may not is listed as a failure.
    fn admits(&self, mirror: &Registry) -> bool {
        let absence = mirror.absence();
        if let Some(absence) = absence {
            self.list(mirror.address(), not_asked(absence));
        }
        absence.is_none()
    }

    /// Gives up a mirror in the middle of a body: what is left comes from another endpoint.
    pub(crate) fn leave(&self, transport: &Transport, mirror: &Arc<Registry>, error: NetError) {
        // Offline mode does not begin in the middle of a body.
        drop(self.note(transport, mirror, error));
        self.met().left.push(Arc::clone(mirror));
    }

    /// Puts every mirror that sent a part of wrong bytes into quarantine. Which one lied cannot be told.
    pub(crate) fn refute(&self, transport: &Transport, error: &NetError) {
        let served = std::mem::take(&mut self.met().served);
        for mirror in served {
            self.leave(transport, &mirror, error.clone());
        }
    }

    /// Adds the mirrors that did not serve to the failure of the registry's own host.
    pub(crate) fn conclude(&self, error: NetError) -> NetError {
        let failures = self.met().failures.clone();
        if failures.is_empty() || error.kind() == NetErrorKind::Offline {
            error
        } else {
            error.with_endpoints(failures)
        }
    }
}

/// Where the bytes of a body came from.
#[derive(Clone, Debug)]
pub(crate) struct Blame {
    pub(crate) detour: Detour,
    is_whole: bool,
    odd: Odd,
}

impl Blame {
    /// For a body that came by `detour`; `is_whole` when nothing of it was there before. `odd` is what its answer said.
    pub(crate) fn new(detour: &Detour, is_whole: bool, odd: &Odd) -> Self {
        Self { detour: detour.clone(), is_whole, odd: odd.clone() }
    }

    /// The error about wrong bytes, with every mirror that sent some of them: they are not asked for a while.
    pub(crate) fn refute(&self, transport: &Transport, error: NetError) -> NetError {
        if self.is_whole {
            self.detour.refute(transport, &error);
        }
        self.detour.conclude(self.odd.explain(error))
    }
}

/// Whether no endpoint is to blame: nothing was sent. Where a host has no room, another segment brings what this one would have.
fn is_about_nobody(error: &NetError) -> bool {
    let has_no_room = error.kind() == NetErrorKind::RateLimited && error.status().is_none();
    error.kind() == NetErrorKind::Offline || has_no_room
}

/// Whether the endpoint did not answer at all.
fn is_unreachable(error: &NetError) -> bool {
    use NetErrorKind as K;
    error.status().is_none() && matches!(error.kind(), K::Connect | K::Dns | K::Tls | K::Timeout)
}

impl Transport {
    /// Sends until an accepted status answers, from whichever endpoint; the body is still to come. `detour` is a new one, or
    /// that of a body that has come a part of its way.
    ///
    /// Cancel-safe: dropping the future gives up the request, its retries and its other endpoints.
    ///
    /// # Errors
    /// By cause, with the failures of the mirrors in it; see [`NetErrorKind`].
    pub(crate) async fn open(&self, ask: &Ask, detour: &Detour) -> Result<Reply, NetError> {
        let opened = self.within(self.open_somewhere(ask, detour)).await;
        if !matches!(ask.method, Method::GET | Method::HEAD) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    async fn open_somewhere(&self, ask: &Ask, detour: &Detour) -> Result<Reply, NetError> {
        let Endpoints { need, mirrors, last, own } = Box::pin(self.endpoints_for(ask, detour)).await?;
        let mut passed = Vec::new();
        let reply = match self.open_at_a_mirror(need, mirrors, &mut passed, detour).await? {
            Some(reply) => reply,
            None => match self.open_at(own.as_deref().unwrap_or(ask)).await {
                Ok(mut reply) => {
                    reply.elsewhere = own.as_deref().and_then(Ask::registry).cloned();
                    reply
                }
                Err(error) if is_about_nobody(&error) => return Err(detour.conclude(error)),
                Err(error) => match self.open_at_a_mirror(need, last, &mut passed, detour).await? {
                    Some(reply) => reply,
                    None => return Err(detour.conclude(error)),
                },
            },
        };
        detour.skip(passed);
        ask.tell_of(&reply);
        Ok(reply)
    }

    /// The answer of the first of these mirrors that has one.
    async fn open_at_a_mirror(
        &self,
        need: Need,
        mirrors: Vec<At>,
        passed: &mut Vec<Passed>,
        detour: &Detour,
    ) -> Result<Option<Reply>, NetError> {
        for at in mirrors {
            let (mirror, ask) = &at;
            if !detour.admits(mirror) {
                continue;
            }
            let opened = self.open_at(ask).await.and_then(|reply| {
                self.check_namespace(need, mirror, reply.header(NAMESPACE), &reply.url)?;
                Ok(reply)
            });
            match opened {
                Ok(mut reply) => {
                    served(need, mirror, ask);
                    detour.serves(mirror);
                    reply.mirror = Some(Arc::clone(mirror));
                    reply.elsewhere = ask.registry().cloned();
                    return Ok(Some(reply));
                }
                Err(error) => {
                    passed.push(Passed::of(need, &at, &error));
                    detour.note(self, mirror, error)?;
                }
            }
            self.liars.write_down().await;
        }
        Ok(None)
    }

    /// Sends until an accepted status answers with a whole body of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Transport::open`], and `TooLarge`.
    pub(crate) async fn collect(&self, ask: &Ask, limit: u64) -> Result<Collected, NetError> {
        self.collect_as(ask, limit, Ok).await
    }

    /// As [`Transport::collect`], for a body that must make sense: what cannot be understood counts as a failure of the
    /// endpoint it came from.
    pub(crate) async fn collect_as<T: Send>(
        &self,
        ask: &Ask,
        limit: u64,
        understand: impl Fn(Collected) -> Result<T, NetError> + Send + Sync,
    ) -> Result<T, NetError> {
        self.within(self.collect_somewhere(ask, limit, understand)).await
    }

    async fn collect_somewhere<T>(
        &self,
        ask: &Ask,
        limit: u64,
        understand: impl Fn(Collected) -> Result<T, NetError> + Send + Sync,
    ) -> Result<T, NetError> {
        let detour = Detour::default();
        let Endpoints { need, mirrors, last, own } = Box::pin(self.endpoints_for(ask, &detour)).await?;
        let mut passed = Vec::new();
        let understood = match self.collect_at_a_mirror(need, mirrors, limit, &understand, &mut passed, &detour).await?
        {
            Some(understood) => understood,
            None => match self.collect_at_own(ask, own.as_deref(), limit, &understand).await {
                Ok(understood) => understood,
                Err(error) if is_about_nobody(&error) => return Err(detour.conclude(error)),
                Err(error) => {
                    let late = self.collect_at_a_mirror(need, last, limit, &understand, &mut passed, &detour).await?;
                    late.ok_or_else(|| detour.conclude(error))?
                }
            },
        };
        detour.skip(passed);
        Ok(understood)
    }

    async fn collect_at_own<T>(
        &self,
        ask: &Ask,
        own: Option<&Ask>,
        limit: u64,
        understand: &(impl Fn(Collected) -> Result<T, NetError> + Send + Sync),
    ) -> Result<T, NetError> {
        let collected = self.collect_at(own.unwrap_or(ask), limit).await?;
        understand(match own {
            Some(own) => Collected { elsewhere: own.registry().cloned(), ..collected },
            None => collected,
        })
    }

    /// What the first of these mirrors answers that answers something to be understood.
    async fn collect_at_a_mirror<T>(
        &self,
        need: Need,
        mirrors: Vec<At>,
        limit: u64,
        understand: &(impl Fn(Collected) -> Result<T, NetError> + Send + Sync),
        passed: &mut Vec<Passed>,
        detour: &Detour,
    ) -> Result<Option<T>, NetError> {
        for at in mirrors {
            let (mirror, ask) = &at;
            if !detour.admits(mirror) {
                continue;
            }
            let collected = self.collect_at(ask, limit).await.and_then(|collected| {
                self.check_namespace(need, mirror, collected.header(NAMESPACE), &collected.url)?;
                understand(Collected { elsewhere: ask.registry().cloned(), ..collected })
            });
            match collected {
                Ok(understood) => {
                    served(need, mirror, ask);
                    return Ok(Some(understood));
                }
                Err(error) => {
                    passed.push(Passed::of(need, &at, &error));
                    detour.note(self, mirror, error)?;
                }
            }
            self.liars.write_down().await;
        }
        Ok(None)
    }

    /// Checks that what a mirror says about names is about those of the registry that it was told to speak for, as far as it says
    /// so. Content proves itself.
    ///
    /// # Errors
    /// `Protocol`, for the next endpoint to be asked.
    fn check_namespace(&self, need: Need, mirror: &Registry, said: Option<&str>, url: &Url) -> Result<(), NetError> {
        let (Some(asked), Some(said)) = (mirror.namespace(), said) else { return Ok(()) };
        let is_hub = |name: &str| matches!(name, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        let name = said.trim().to_ascii_lowercase();
        if name == asked || (is_hub(&name) && is_hub(asked)) || !matches!(need, Need::Name | Need::Referrers) {
            return Ok(());
        }
        let shown = SafeText::excerpt(&self.secrets.known().blank(said.trim()), 96);
        let text = format!("the mirror {} answers for `{shown}` and not for `{asked}`", mirror.address());
        self.warn(mirror.name(), SafeText::new(&text));
        let detail = format!("the answer is about the registry `{shown}`, and `{asked}` was asked for");
        Err(NetError::new(NetErrorKind::Protocol, detail).for_request(&Method::GET, url))
    }

    /// Whom to ask.
    async fn endpoints_for(&self, ask: &Ask, detour: &Detour) -> Result<Endpoints, NetError> {
        let mut endpoints = Endpoints { need: Need::Own, mirrors: Vec::new(), last: Vec::new(), own: None };
        let Target::Registry(access, path) = &ask.target else { return Ok(endpoints) };
        if self.offline {
            return Ok(endpoints);
        }
        let need = Need::of(&access.action, path);
        endpoints.need = need;
        let registry = access.registry.answering(self, access).await?;
        let mirrors = registry.mirrors(self).await?;
        if need != Need::Own && !mirrors.is_empty() {
            self.liars.write_down().await;
            self.liars.recall().await;
        }
        for mirror in mirrors {
            let is_fit = mirror.capabilities().is_some_and(|capabilities| need.is_met_by(capabilities));
            if need == Need::Name && self.names_from_origin {
                continue;
            }
            if !is_fit || detour.has_left(mirror) {
                continue;
            }
            let Some(at) = ask.at(mirror) else { continue };
            let is_so =
                |is: fn(&Registry, &str) -> bool| at.registry().is_some_and(|access| is(mirror, &access.repository));
            if need == Need::Content && !is_so(Registry::has_named) {
                continue;
            }
            let is_late = need == Need::Content && is_so(Registry::is_without);
            let asked = if is_late { &mut endpoints.last } else { &mut endpoints.mirrors };
            asked.push((Arc::clone(mirror), at));
        }
        if !Arc::ptr_eq(&registry, &access.registry) {
            endpoints.own = Some(Box::new(ask.at(&registry).ok_or_else(|| {
                let detail = format!(
                    "the repository `{}` can have no name at {}, where the host configuration says it is",
                    access.repository,
                    registry.address()
                );
                NetError::new(NetErrorKind::Config, detail)
            })?));
        }
        Ok(endpoints)
    }

    /// What is configured for a registry, in code or elsewhere.
    ///
    /// # Errors
    /// Those of the [`HostSource`](crate::HostSource).
    pub(crate) async fn host_config(&self, registry: &str) -> Result<Option<HostConfig>, NetError> {
        match (self.hosts_config.get(registry), &self.host_source) {
            (Some(config), _) => Ok(Some(config.clone())),
            (None, Some(source)) => source.host(registry).await,
            (None, None) => Ok(None),
        }
    }

    /// Whether nothing is configured for any registry.
    pub(crate) fn hosts_are_default(&self) -> bool {
        self.hosts_config.is_empty() && self.host_source.is_none()
    }
}

fn not_asked(absence: Absence) -> NetError {
    match absence {
        Absence::Unreachable => {
            NetError::new(NetErrorKind::Connect, "not asked, because it could not be reached several times in a row")
        }
        Absence::Lied => {
            NetError::new(NetErrorKind::Integrity, "not asked, because it sent wrong bytes in the last 10 minutes")
        }
    }
}
