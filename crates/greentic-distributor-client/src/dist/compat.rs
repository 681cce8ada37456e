//! Names of 0.4, each a few lines over the flow.

use std::path::PathBuf;
use std::sync::Arc;

use greentic_dist_net::one_operation;
use greentic_dist_types::{SafeText, SourceRef, redact_reference};

use super::{
    ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener, ArtifactType, CachePolicy, DistClient, DistError,
    DistOptions, IntegrationError, ResolvePolicy, ResolvedArtifact, RetentionReport, cache, source,
};

/// What [`DistClient::resolve_ref_request`] is asked for.
#[deprecated(note = "call `DistClient::resolve_ref`")]
#[derive(Clone, Debug)]
pub struct ResolveRefRequest {
    /// The reference.
    pub reference: String,
}

/// What [`DistClient::resolve_component`] is asked for.
#[deprecated(note = "call `DistClient::resolve_ref`")]
#[derive(Clone, Debug, Default)]
pub struct ResolveComponentRequest {
    /// The reference.
    pub reference: String,
    /// Who asks. Not used: references say whose packages they mean.
    pub tenant: Option<String>,
    /// For which pack. Not used.
    pub pack: Option<String>,
    /// In which environment. Not used.
    pub environment: Option<String>,
}

/// An artifact of a registry in the cache, as 0.4 described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciCacheInspection {
    /// The pin.
    pub digest: String,
    /// Directory of the entry.
    pub cache_dir: PathBuf,
    /// The artifact's file.
    pub artifact_path: PathBuf,
    /// What the artifact is for.
    pub artifact_type: ArtifactType,
    /// Media type of the layer that is the artifact.
    pub selected_media_type: String,
    /// Whether this call fetched it.
    pub fetched: bool,
}

/// Earlier name of [`ArtifactOpenRequest`].
#[deprecated(note = "use `ArtifactOpenRequest`")]
pub type BundleOpenRequest = ArtifactOpenRequest;

/// Earlier name of [`ArtifactOpenOutput`].
#[deprecated(note = "use `ArtifactOpenOutput`")]
pub type BundleOpenOutput = ArtifactOpenOutput;

/// Earlier form of [`ArtifactOpener`]; whoever implements it is one.
#[deprecated(note = "implement `ArtifactOpener`")]
pub trait BundleOpener: Send + Sync {
    /// As [`ArtifactOpener::open`].
    ///
    /// # Errors
    /// As [`ArtifactOpener::open`].
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError>;
}

#[expect(deprecated, reason = "the bridge from the earlier name")]
impl<T: BundleOpener + ?Sized> ArtifactOpener for T {
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError> {
        BundleOpener::open(self, artifact, request)
    }
}

impl DistClient {
    /// [`DistClient::resolve_ref`] with the reference in a struct.
    ///
    /// # Errors
    /// As [`DistClient::resolve_ref`].
    #[deprecated(note = "call `resolve_ref`")]
    #[expect(deprecated, reason = "names of 0.4 that stay")]
    pub async fn resolve_ref_request(&self, request: ResolveRefRequest) -> Result<ResolvedArtifact, DistError> {
        self.resolve_ref(&request.reference).await
    }

    /// [`DistClient::resolve_ref`] for a component.
    ///
    /// # Errors
    /// As [`DistClient::resolve_ref`].
    #[deprecated(note = "call `resolve_ref`")]
    #[expect(deprecated, reason = "names of 0.4 that stay")]
    pub async fn resolve_component(&self, request: ResolveComponentRequest) -> Result<ResolvedArtifact, DistError> {
        self.resolve_ref(&request.reference).await
    }

    /// Brings an artifact of a registry into the cache, or finds it there, and tells where its files are. Offline it is found
    /// there or not at all. [`DistClient::inspect`] tells more, and of every kind of source.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] for a reference that names no registry; otherwise as [`DistClient::resolve_ref`].
    pub async fn pull_oci_with_details(&self, reference: &str) -> Result<OciCacheInspection, DistError> {
        match source::classify(reference)? {
            SourceRef::Oci(_) | SourceRef::Repo(_) | SourceRef::Store(_) | SourceRef::Digest(_) => {}
            _ => {
                return Err(DistError::InvalidInput(format!(
                    "`{}` names no artifact of a registry",
                    SafeText::new(&redact_reference(reference))
                )));
            }
        }
        let artifact = self.resolve_ref(reference).await?;
        Ok(OciCacheInspection {
            cache_dir: artifact.local_path.parent().map(ToOwned::to_owned).unwrap_or_default(),
            artifact_path: artifact.local_path,
            artifact_type: artifact.descriptor.artifact_type,
            selected_media_type: artifact.descriptor.media_type,
            fetched: artifact.fetched,
            digest: artifact.digest,
        })
    }

    /// [`DistClient::with_artifact_opener`] for an opener of the earlier form.
    #[deprecated(note = "use `DistClient::with_artifact_opener`")]
    #[expect(deprecated, reason = "the bridge from the earlier name")]
    pub fn with_bundle_opener<T: BundleOpener + 'static>(options: DistOptions, opener: Arc<T>) -> Self {
        Self::with_artifact_opener(options, opener)
    }
}

impl DistClient {
    /// Parses, resolves and fetches in one call. Same errors and guarantees as the three.
    ///
    /// # Errors
    /// As [`DistClient::parse_source`], [`DistClient::resolve`] and [`DistClient::fetch`].
    pub async fn resolve_ref(&self, reference: &str) -> Result<ResolvedArtifact, DistError> {
        let both = async {
            let source = self.parse_source(reference)?;
            let descriptor = self.resolve(source, ResolvePolicy).await?;
            self.fetch(&descriptor, CachePolicy).await
        };
        one_operation(self.inner.operation, Box::pin(both)).await
    }

    /// [`DistClient::resolve_ref`], and the artifact's file is there when it returns.
    ///
    /// # Errors
    /// As [`DistClient::resolve_ref`]; [`DistError::NotFound`] when the file is already gone again.
    pub async fn ensure_cached(&self, reference: &str) -> Result<ResolvedArtifact, DistError> {
        let artifact = self.resolve_ref(reference).await?;
        if artifact.wasm_bytes.is_some() || artifact.local_path.exists() {
            return Ok(artifact);
        }
        Err(DistError::NotFound { reference: reference.to_owned() })
    }

    /// Earlier name of [`DistClient::remove`].
    ///
    /// # Errors
    /// As [`DistClient::remove`].
    pub fn evict_cache(&self, digests: &[String]) -> Result<RetentionReport, DistError> {
        self.remove(digests)
    }

    /// Removes entries by digest with their bundle records, whatever state those are in. Every digest is checked before
    /// anything is touched; unknown ones are no error. What somebody works on or holds a lease of stays.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] for a text that is no digest; [`DistError::CacheError`], also for the first entry that stays,
    /// after all others are gone.
    pub fn remove_cached(&self, digests: &[String]) -> Result<(), DistError> {
        let parsed = digests.iter().map(|digest| cache::parse_digest(digest)).collect::<Result<Vec<_>, _>>()?;
        let removed = parsed
            .iter()
            .map(|pin| self.inner.store.remove(pin).map_err(|error| DistError::from_store(&pin.to_string(), error)));
        // All of them, whatever becomes of one.
        let failed: Vec<DistError> = removed.filter_map(Result::err).collect();
        failed.into_iter().next().map_or(Ok(()), Err)
    }
}
