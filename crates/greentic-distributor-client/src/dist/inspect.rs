//! What there is to know about a reference, for people: `greentic-dist inspect`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::Selector;
use greentic_dist_store::RefRecord;
use greentic_dist_types::Digest;
use serde::Serialize;

use super::error::chain;
use super::resolve::oci::{Target, layer_of};
use super::source::classify;
use super::{
    ArtifactDescriptor, ArtifactSourceKind, ArtifactType, CachePolicy, DistClient, DistError, ResolvePolicy,
    ResolvedArtifact, cache, resolve,
};
use crate::blocking;
use crate::oci::ArtifactDescription;
use crate::oci::describe::asked;
use crate::oci::graph::{ProvenManifest, Source};
use crate::oci::registry::RegistrySource;

/// An artifact and the files beside it in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactInspection {
    /// The reference as typed.
    pub reference: String,
    /// The pin.
    pub digest: String,
    /// Digest of the artifact's bytes.
    pub content_digest: String,
    /// The reference it was asked for by, with its digest.
    pub canonical_ref: String,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// Media type of the artifact.
    pub media_type: String,
    /// Size of the artifact in bytes.
    pub size_bytes: u64,
    /// Whether the artifact is in the cache.
    pub cached: bool,
    /// Directory of the entry, whether it is there or not.
    pub cache_dir: PathBuf,
    /// The artifact's file, whether it is there or not.
    pub artifact_path: PathBuf,
    /// The component manifest beside it, where there is one.
    pub component_manifest_path: Option<PathBuf>,
    /// The raw OCI manifest, where there is one.
    pub manifest_path: Option<PathBuf>,
    /// The publisher's annotations.
    pub annotations: serde_json::Map<String, serde_json::Value>,
    /// Whether this call brought it, which it does for what has no manifest to be described by.
    pub fetched: bool,
    /// The endpoint that said what the reference means, as [`DistClient::resolved_by`] has it.
    pub resolved_by: Option<String>,
    /// What its OCI manifest says, and what is said about it; `None` for what has no such manifest.
    pub oci: Option<ArtifactDescription>,
}

/// What a reference turned out to be.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// An artifact of ours.
    Artifact(Box<ArtifactInspection>),
    /// Something that has a good manifest and is no artifact of ours, and why it is none.
    Other(
        #[cfg_attr(not(feature = "dist-cli"), expect(dead_code, reason = "only the command line shows it"))]
        Box<ArtifactDescription>,
        DistError,
    ),
}

impl DistClient {
    /// Reports what is known about a reference, and fetches no artifact from a registry.
    ///
    /// Requests for a reference of a registry: one for its manifest (conditional for a tag that is in the cache, none for a pin
    /// that is), one more for the chosen manifest of an index, and for each of them one or two for its referrers. What is in the cache
    /// is opened and proven; a damaged entry is fetched again. Offline the manifest in the cache is described, and what refers to it
    /// is unknown. Files and URLs, which have no manifest, are brought into the cache as [`DistClient::fetch`] does. Cancel-safe.
    ///
    /// # Errors
    /// As [`DistClient::resolve`] and [`DistClient::fetch`].
    pub async fn inspect(&self, reference: &str) -> Result<ArtifactInspection, DistError> {
        match self.look_at(reference).await? {
            Inspected::Artifact(found) => Ok(*found),
            Inspected::Other(_, error) => Err(error),
        }
    }

    /// As [`DistClient::inspect`]; what is no artifact of ours is described by the manifest that said so.
    pub(crate) async fn look_at(&self, reference: &str) -> Result<Inspected, DistError> {
        let source = self.parse_source(reference)?;
        let target =
            classify(reference).and_then(|source| resolve::registry_target(&self.inner, reference, &source)).ok();
        let descriptor = match (self.resolve(source, ResolvePolicy).await, &target) {
            (Err(error @ DistError::Selection { .. }), Some(target)) => {
                let pin = target.reference.digest();
                let known = pin.and_then(|pin| self.inner.memo.get(&pin));
                let Some(known) = known.or_else(|| self.inner.memo.named(&target.memory_key())) else {
                    return Err(error);
                };
                let described = self.described(Some(target), known.pin, None).await;
                let Some(described) = described else { return Err(error) };
                return Ok(Inspected::Other(Box::new(described), error));
            }
            (descriptor, _) => descriptor?,
        };
        let resolved_by = self.resolved_by(&descriptor);
        let found = match self.uncached(&descriptor).await? {
            Some(found) => found,
            None => self.cached(&descriptor).await?,
        };
        let pin = cache::parse_digest(&found.digest)?;
        let manifest = found.manifest_path.as_ref().and_then(|path| std::fs::read(path).ok()).map(Bytes::from);
        let oci = self.described(target.as_ref(), pin, manifest).await;
        let reference = reference.to_owned();
        Ok(Inspected::Artifact(Box::new(ArtifactInspection { reference, resolved_by, oci, ..found })))
    }

    /// An artifact of a registry that is not here, as the manifest that was just resolved tells it. `None` for everything else.
    async fn uncached(&self, descriptor: &ArtifactDescriptor) -> Result<Option<ArtifactInspection>, DistError> {
        let in_registry = matches!(
            descriptor.source_kind,
            ArtifactSourceKind::Oci | ArtifactSourceKind::Repo | ArtifactSourceKind::Store
        );
        let Ok(pin) = cache::parse_digest(&descriptor.digest) else { return Ok(None) };
        let Some(known) = self.inner.memo.get(&pin).filter(|_| in_registry) else { return Ok(None) };
        let inner = Arc::clone(&self.inner);
        // An entry that cannot be read is told by whoever opens it.
        let is_here = blocking::run(move || Ok(!matches!(inner.store.stat(&pin), Ok(None)))).await?;
        if is_here {
            return Ok(None);
        }
        let layer = layer_of(&self.inner, &descriptor.raw_ref, descriptor.artifact_type, &known.manifest)?;
        let artifact_path = self.inner.store.artifact_path(&pin);
        Ok(Some(ArtifactInspection {
            content_digest: layer.digest.to_string(),
            cached: false,
            cache_dir: artifact_path.parent().map(ToOwned::to_owned).unwrap_or_default(),
            artifact_path,
            component_manifest_path: None,
            manifest_path: None,
            fetched: false,
            ..ArtifactInspection::of(descriptor)
        }))
    }

    /// An artifact that is in the cache, or that only fetching it tells about.
    async fn cached(&self, descriptor: &ArtifactDescriptor) -> Result<ArtifactInspection, DistError> {
        let artifact: ResolvedArtifact = self.fetch(descriptor, CachePolicy).await?;
        let dir = artifact.local_path.parent().map(ToOwned::to_owned).unwrap_or_default();
        let beside = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        Ok(ArtifactInspection {
            content_digest: artifact.content_digest(),
            canonical_ref: descriptor.canonical_ref.clone(),
            cached: true,
            component_manifest_path: beside("component.manifest.json"),
            manifest_path: beside("manifest.json"),
            artifact_path: artifact.local_path.clone(),
            fetched: artifact.fetched,
            digest: artifact.digest.clone(),
            cache_dir: dir,
            ..ArtifactInspection::of(&artifact.descriptor)
        })
    }

    /// What the manifest of a pin says, with the index that led to it, and what refers to them. The manifests are those at hand.
    async fn described(
        &self,
        target: Option<&Target>,
        pin: Digest,
        cached: Option<Bytes>,
    ) -> Option<ArtifactDescription> {
        let raw = self.inner.memo.get(&pin).map(|known| known.raw).or(cached)?;
        let image = ProvenManifest::at_hand(raw, pin)?;
        let Some(target) = target else {
            return Some(ArtifactDescription::unasked(&image, None, "a digest of the cache names no registry"));
        };
        let index = self.index_to(target, pin).await;
        let (root, chosen) = match &index {
            Ok(Some(index)) => (index, Some(&image)),
            _ => (&image, None),
        };
        let answer = match &index {
            Err(error) => Err(chain(error)),
            Ok(_) if self.inner.is_offline(false) => Err("offline".to_owned()),
            Ok(_) => self.ask_about(target, root, chosen).await.map_err(|error| chain(&error)),
        };
        Some(answer.unwrap_or_else(|why| ArtifactDescription::unasked(root, chosen, &why)))
    }

    async fn ask_about(
        &self,
        target: &Target,
        root: &ProvenManifest,
        chosen: Option<&ProvenManifest>,
    ) -> Result<ArtifactDescription, DistError> {
        let net = self.inner.net_for(target.tenant.as_deref(), &target.raw_ref).await?;
        let repository = net.repository(&target.reference);
        let source: Arc<dyn Source> = Arc::new(RegistrySource::of(repository, &target.reference, &target.raw_ref));
        asked(&source, root, chosen).await
    }

    /// The index by which a reference led to a pin: from the resolve before this, from the note about the reference, else asked
    /// for by its digest.
    async fn index_to(&self, target: &Target, pin: Digest) -> Result<Option<ProvenManifest>, DistError> {
        if target.reference.digest() == Some(pin) {
            return Ok(None);
        }
        let key = target.memory_key();
        let known = self.inner.memo.get(&pin);
        let noted = known.as_ref().and_then(|known| known.refs.iter().find(|record| record.reference == key)).cloned();
        let noted: Option<RefRecord> = if noted.is_some() {
            noted
        } else {
            let inner = Arc::clone(&self.inner);
            blocking::run(move || inner.store.recall(&key).map_err(|error| DistError::from_store(&key, error))).await?
        };
        let Some(noted) = noted.filter(|noted| noted.pin == pin) else { return Ok(None) };
        let Some(digest) = noted.index_digest else { return Ok(None) };
        let at_hand = known.and_then(|known| known.index).into_iter().chain(noted.index.map(Bytes::from));
        let mut proven = at_hand.filter(|raw| Digest::of(digest.algorithm(), raw) == digest);
        if let Some(index) = proven.find_map(|raw| ProvenManifest::at_hand(raw, digest)) {
            return Ok(Some(index));
        }
        let net = self.inner.net_for(target.tenant.as_deref(), &target.raw_ref).await?;
        let found = net.repository(&target.reference).manifest(Selector::Digest(digest)).await;
        Ok(Some(found.map_err(|error| DistError::from_net(&target.raw_ref, error))?.into()))
    }
}

impl ArtifactInspection {
    /// What a descriptor says.
    fn of(descriptor: &ArtifactDescriptor) -> Self {
        Self {
            reference: descriptor.raw_ref.clone(),
            digest: descriptor.digest.clone(),
            content_digest: String::new(),
            canonical_ref: descriptor.canonical_ref.clone(),
            artifact_type: descriptor.artifact_type,
            media_type: descriptor.media_type.clone(),
            size_bytes: descriptor.size_bytes,
            cached: false,
            cache_dir: PathBuf::new(),
            artifact_path: PathBuf::new(),
            component_manifest_path: None,
            manifest_path: None,
            annotations: descriptor.annotations.clone(),
            fetched: false,
            resolved_by: None,
            oci: None,
        }
    }
}
