//! Names of 0.4, each a few lines over the flow.

use std::sync::Arc;

use super::{
    ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener, CachePolicy, DistClient, DistError, DistOptions,
    IntegrationError, ResolvePolicy, ResolvedArtifact, RetentionReport, cache,
};

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
        let source = self.parse_source(reference)?;
        let descriptor = self.resolve(source, ResolvePolicy).await?;
        self.fetch(&descriptor, CachePolicy).await
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
