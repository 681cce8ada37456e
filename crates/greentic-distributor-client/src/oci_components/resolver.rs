//! `OciComponentResolver`: from references to components, all of them or one.

use std::collections::HashMap;
use std::path::PathBuf;

use greentic_dist_store::Proof;
use greentic_dist_types::{Digest, LayerRule, ParseDigestError};
use tokio::sync::Semaphore;

use super::bounded::{OnFailure, Work, in_order};
use super::published::{self, Damage, Published};
use super::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, DefaultRegistryClient, OciComponentError,
    PulledImage, RegistryClient, ResolvedComponent, ResolvedComponentDescriptor,
};
use crate::blocking;
use crate::registry_client::{Asked, FetchError, Fetched, Fetcher, Named};

/// Resolves the components a pack names, and brings them into a cache directory.
///
/// Making one does no I/O. `Send` and `Sync`; may be used from several tasks at once and from several runtimes on several
/// threads, also current-thread ones.
#[derive(Debug)]
pub struct OciComponentResolver<C: RegistryClient = DefaultRegistryClient> {
    client: C,
    preferred: Vec<String>,
    layers: LayerRule,
    fetcher: Fetcher,
    /// Whole artifacts of a client of the host that may be in memory at once.
    pulls: Semaphore,
}

/// Pulls of a client of the host at once: each holds an artifact in memory.
const PULLS: usize = 4;

impl Default for OciComponentResolver<DefaultRegistryClient> {
    /// A resolver with [`ComponentResolveOptions::default`], which reads the environment.
    fn default() -> Self {
        Self::new(ComponentResolveOptions::default())
    }
}

impl<C: RegistryClient> OciComponentResolver<C> {
    /// A resolver with the client's default. No I/O.
    pub fn new(opts: ComponentResolveOptions) -> Self {
        Self::with_client(C::default_client(), opts)
    }

    /// A resolver that asks `client`. No I/O.
    pub fn with_client(client: C, opts: ComponentResolveOptions) -> Self {
        let preferred = opts.preferred_layer_media_types.clone();
        let layers = LayerRule::new(&preferred, &[]);
        Self { client, preferred, layers, fetcher: Fetcher::new(opts.into_rules()), pulls: Semaphore::new(PULLS) }
    }

    /// Resolves the references of an extension, up to 32 at once; the results are in their order.
    ///
    /// Eager: all components are in the cache afterwards. Lazy: no layer is moved. A component that is in the cache already is
    /// proven and told as always; of the others only the manifest is asked for, [`ResolvedComponent::path`] is where
    /// `component.wasm` will be, and [`OciComponentResolver::fetch`] brings it. (A client of the host hands over whole artifacts
    /// also for this; they are not kept.)
    ///
    /// It is as if the references were resolved one after the other: the failure that is told is the first one in their order,
    /// and what stands behind it is given up where it was. What was brought stays in the cache, and a transfer that was given
    /// up goes on where it stopped the next time. [`OciComponentResolver::resolve_each`] goes on and tells all failures.
    ///
    /// A reference that stands there several times is resolved once. A reference that is none, and a tag where they are not allowed, is told before anybody is asked. Cancel-safe.
    ///
    /// # Errors
    /// By kind, see [`OciComponentError::kind`]: invalid input, not found, offline, auth, policy, temporary, integrity, internal.
    pub async fn resolve_refs(
        &self,
        extension: &ComponentsExtension,
    ) -> Result<Vec<ResolvedComponent>, OciComponentError> {
        self.all(extension, |asked| async move { self.by_mode(&asked, extension.mode).await }).await
    }

    /// As [`OciComponentResolver::resolve_refs`], with one result for each reference: one failure does not stop the others.
    ///
    /// Cancel-safe.
    pub async fn resolve_each(
        &self,
        extension: &ComponentsExtension,
    ) -> Vec<Result<ResolvedComponent, OciComponentError>> {
        self.each(extension, |asked| async move { self.by_mode(&asked, extension.mode).await }).await
    }

    /// What the references of an extension mean, whatever its mode; as [`OciComponentResolver::resolve_descriptor`] for each, up to
    /// 32 at once, in their order.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`OciComponentResolver::resolve_refs`].
    pub async fn resolve_descriptors(
        &self,
        extension: &ComponentsExtension,
    ) -> Result<Vec<ResolvedComponentDescriptor>, OciComponentError> {
        self.all(extension, |asked| async move { self.describe(&asked).await }).await
    }

    /// As [`OciComponentResolver::resolve_descriptors`], with one result for each reference: one failure does not stop the
    /// others.
    ///
    /// Cancel-safe.
    pub async fn describe_each(
        &self,
        extension: &ComponentsExtension,
    ) -> Vec<Result<ResolvedComponentDescriptor, OciComponentError>> {
        self.each(extension, |asked| async move { self.describe(&asked).await }).await
    }

    /// What a reference means: its manifest is asked for, no layer, and nothing is written.
    ///
    /// One request, two for an image index; none for a pin whose component is in the cache, or that was resolved before. A tag
    /// whose component is in the cache is asked about by one conditional request. Cancel-safe.
    ///
    /// # Errors
    /// As [`OciComponentResolver::resolve_refs`].
    pub async fn resolve_descriptor(&self, reference: &str) -> Result<ResolvedComponentDescriptor, OciComponentError> {
        self.describe(&self.ask(reference)?).await
    }

    /// Brings the component of a reference into the cache, or finds it there.
    ///
    /// A pin that is in the cache costs no request, a tag one. Bytes are hashed while they are written and appear under their
    /// name as a whole or not at all; a cached component is proven again before its path is returned. Processes that fetch the
    /// same component wait for the first of them. Cancel-safe.
    ///
    /// # Errors
    /// As [`OciComponentResolver::resolve_refs`].
    pub async fn resolve_ref(&self, reference: &str) -> Result<ResolvedComponent, OciComponentError> {
        self.bring(&self.ask(reference)?).await
    }

    /// Brings a component that was resolved before, such as one of a lazy extension: exactly the one that was resolved, also where
    /// its tag means another one by now.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`OciComponentResolver::resolve_refs`]; `DigestMismatch` when a client of the host returns another one by now.
    pub async fn fetch(&self, component: &ResolvedComponent) -> Result<ResolvedComponent, OciComponentError> {
        let reference = component.original_reference.as_str();
        let asked = self.ask(reference)?;
        let pin: Digest = component.resolved_digest.parse().map_err(|error: ParseDigestError| {
            OciComponentError::of(reference, FetchError::InvalidReference { reason: error.to_string() })
        })?;
        self.bring(&asked.pinned(pin)).await
    }

    fn ask(&self, reference: &str) -> Result<Asked, OciComponentError> {
        self.fetcher.ask(reference).map_err(|error| OciComponentError::of(reference, error))
    }

    /// Does the same with all references, those that stand there again but once, up to the first failure in their order. What is no
    /// reference is told before anything is done.
    async fn all<T, F>(
        &self,
        extension: &ComponentsExtension,
        resolve: impl Fn(Asked) -> F,
    ) -> Result<Vec<T>, OciComponentError>
    where
        T: Clone,
        F: Future<Output = Result<T, OciComponentError>> + Send,
    {
        let asked: Vec<Asked> = extension.refs.iter().map(|text| self.ask(text)).collect::<Result<_, _>>()?;
        let (firsts, positions) = firsts(asked);
        let works = firsts.into_iter().map(|asked| -> Work<'_, _, _> { Box::pin(resolve(asked)) });
        let found = in_order(works, OnFailure::Stop).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(positions.into_iter().filter_map(|at| found.get(at).cloned()).collect())
    }

    /// Does the same with each reference, whatever becomes of the others.
    async fn each<T, F>(
        &self,
        extension: &ComponentsExtension,
        resolve: impl Fn(Asked) -> F,
    ) -> Vec<Result<T, OciComponentError>>
    where
        T: Send,
        F: Future<Output = Result<T, OciComponentError>> + Send,
    {
        let works = extension.refs.iter().map(|text| -> Work<'_, _, _> {
            match self.ask(text) {
                Ok(asked) => Box::pin(resolve(asked)),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        });
        in_order(works, OnFailure::GoOn).await
    }

    async fn by_mode(&self, asked: &Asked, mode: ComponentsMode) -> Result<ResolvedComponent, OciComponentError> {
        match mode {
            ComponentsMode::Eager => self.bring(asked).await,
            ComponentsMode::Lazy => self.announce(asked).await,
        }
    }

    /// The component, in the cache, under the name its publisher gave it.
    async fn bring(&self, asked: &Asked) -> Result<ResolvedComponent, OciComponentError> {
        let fetched = self.fetch_once(asked).await?;
        match self.look_at(asked, &fetched).await? {
            Published::Whole(path) => Ok(resolved(asked, fetched.named, path, fetched.from_network)),
            Published::Damaged(damage) if self.fetcher.is_offline() => Err(corrupt(asked, damage)),
            Published::Damaged(damage) => {
                self.heal(asked, &fetched, damage).await?;
                match self.look_at(asked, &fetched).await? {
                    Published::Whole(path) => Ok(resolved(asked, fetched.named, path, true)),
                    Published::Damaged(damage) => Err(corrupt(asked, damage)),
                }
            }
        }
    }

    async fn fetch_once(&self, asked: &Asked) -> Result<Fetched, OciComponentError> {
        let of = |error| OciComponentError::of(asked.text(), error);
        if let Some(client) = self.client.streaming() {
            return self.fetcher.fetch(client, asked).await.map_err(of);
        }
        if let Some(found) = self.fetcher.find(asked).await.map_err(of)? {
            return Ok(found);
        }
        let _permit = self.pulls.acquire().await;
        self.fetcher.take(asked, self.pull(asked).await?).await.map_err(of)
    }

    /// The component when it is in the cache, else where it will be.
    async fn announce(&self, asked: &Asked) -> Result<ResolvedComponent, OciComponentError> {
        let of = |error| OciComponentError::of(asked.text(), error);
        let (named, found) = if let Some(client) = self.client.streaming() {
            let resolved = self.fetcher.resolve(client, asked).await.map_err(of)?;
            let named = resolved.named.clone();
            let is_here = self.is_here(named.manifest.unwrap_or(named.digest)).await;
            (named, if is_here { Some(self.fetcher.bring(resolved, asked).await.map_err(of)?) } else { None })
        } else {
            match self.fetcher.find(asked).await.map_err(of)? {
                Some(found) => (found.named.clone(), Some(found)),
                None => (self.glance(asked).await?, None),
            }
        };
        if let Some(found) = found {
            match self.look_at(asked, &found).await? {
                Published::Whole(path) => return Ok(resolved(asked, named, path, found.from_network)),
                Published::Damaged(damage) if self.fetcher.is_offline() => return Err(corrupt(asked, damage)),
                // Healed when it is asked for.
                Published::Damaged(_) => {}
            }
        }
        let path = self.fetcher.store().artifact_path(&named.manifest.unwrap_or(named.digest));
        Ok(resolved(asked, named, path, false))
    }

    /// Whether the cache has an entry that proves itself. Offline the entry itself says why not.
    async fn is_here(&self, pin: Digest) -> bool {
        if self.fetcher.is_offline() {
            return true;
        }
        let store = self.fetcher.store().clone();
        let opened = blocking::run(move || Ok(store.open(&pin, Proof::Stamped).is_ok_and(|open| open.is_some()))).await;
        opened.unwrap_or(false)
    }

    async fn describe(&self, asked: &Asked) -> Result<ResolvedComponentDescriptor, OciComponentError> {
        let of = |error| OciComponentError::of(asked.text(), error);
        let (named, fetched_from_network) = match self.client.streaming() {
            Some(client) => {
                let resolved = self.fetcher.resolve(client, asked).await.map_err(of)?;
                (resolved.named, resolved.from_network)
            }
            None => match self.fetcher.find(asked).await.map_err(of)? {
                Some(found) => (found.named, false),
                None => (self.glance(asked).await?, true),
            },
        };
        let Named { digest, manifest, media_type, size_bytes } = named;
        Ok(ResolvedComponentDescriptor {
            original_reference: asked.text().to_owned(),
            resolved_digest: digest.to_string(),
            media_type,
            size_bytes,
            fetched_from_network,
            manifest_digest: manifest.map(|digest| digest.to_string()),
        })
    }

    /// What a client of the host has for a reference; its bytes are let go.
    async fn glance(&self, asked: &Asked) -> Result<Named, OciComponentError> {
        let _permit = self.pulls.acquire().await;
        let image = self.pull(asked).await?;
        let looked = self.fetcher.look_at(asked, image).await;
        looked.map_err(|error| OciComponentError::of(asked.text(), error))
    }

    /// What a client of the host returns, when there may be a component in it.
    async fn pull(&self, asked: &Asked) -> Result<PulledImage, OciComponentError> {
        let of = |error| OciComponentError::of(asked.text(), error);
        let preferred: Vec<&str> = self.preferred.iter().map(String::as_str).collect();
        let image =
            self.client.pull(asked.reference(), &preferred).await.map_err(|error| of(FetchError::Pull(error)))?;
        let is_one = image.layers.iter().any(|layer| self.layers.accepts(&layer.media_type));
        if image.layers.is_empty() || is_one {
            return Ok(image);
        }
        let seen: Vec<&str> = image.layers.iter().take(12).map(|layer| layer.media_type.as_str()).collect();
        Err(of(FetchError::NoUsableLayer(self.layers.refusal(&seen.join(", ")))))
    }

    /// The files of a proven entry beside the artifact.
    async fn look_at(&self, asked: &Asked, fetched: &Fetched) -> Result<Published, OciComponentError> {
        let (store, listed) = (self.fetcher.store().clone(), self.fetcher.listed().clone());
        let (reference, named, path) = (asked.text().to_owned(), fetched.named.clone(), fetched.path.clone());
        blocking::run(move || published::look(&store, &listed, &reference, &named, path))
            .await
            .map_err(|error| OciComponentError::of(asked.text(), FetchError::from_dist(error, asked)))
    }

    /// Brings the component manifest of a cached component anew.
    async fn heal(&self, asked: &Asked, fetched: &Fetched, damage: Box<Damage>) -> Result<(), OciComponentError> {
        let of = |error| OciComponentError::of(asked.text(), error);
        let Damage { reason, layer } = *damage;
        tracing::warn!(reference = asked.text(), reason, "a cached component manifest is fetched again");
        let bytes = if let Some(client) = self.client.streaming() {
            self.fetcher.small_blob(client, asked, &layer).await.map_err(of)?
        } else {
            let is_it = |bytes: &Vec<u8>| Digest::of(layer.digest.algorithm(), bytes) == layer.digest;
            let found = self.pull(asked).await?.layers.into_iter().map(|layer| layer.data).find(is_it);
            found.ok_or_else(|| of(FetchError::Corrupt { reason }))?
        };
        let (store, named, reference) = (self.fetcher.store().clone(), fetched.named.clone(), asked.text().to_owned());
        blocking::run(move || published::heal(&store, &reference, &named, &bytes))
            .await
            .map_err(|error| of(FetchError::from_dist(error, asked)))
    }
}

/// The references without those that stand there again, and for each reference which of them it is.
fn firsts(asked: Vec<Asked>) -> (Vec<Asked>, Vec<usize>) {
    let (mut firsts, mut positions, mut known) = (Vec::new(), Vec::with_capacity(asked.len()), HashMap::new());
    for one in asked {
        positions.push(*known.entry(one.text().to_owned()).or_insert(firsts.len()));
        if positions.last() == Some(&firsts.len()) {
            firsts.push(one);
        }
    }
    (firsts, positions)
}

fn corrupt(asked: &Asked, damage: Box<Damage>) -> OciComponentError {
    OciComponentError::of(asked.text(), FetchError::Corrupt { reason: damage.reason })
}

fn resolved(asked: &Asked, named: Named, path: PathBuf, fetched_from_network: bool) -> ResolvedComponent {
    ResolvedComponent {
        original_reference: asked.text().to_owned(),
        resolved_digest: named.digest.to_string(),
        media_type: named.media_type,
        path,
        fetched_from_network,
        manifest_digest: named.manifest.map(|digest| digest.to_string()),
    }
}
