//! Names of 0.4, each a few lines over the flow.

use super::{CachePolicy, DistClient, DistError, ResolvePolicy, ResolvedArtifact};

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

    /// Removes entries by digest. Every digest is checked before anything is touched; unknown ones are no error.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] for a text that is no digest; [`DistError::CacheError`].
    pub fn remove_cached(&self, digests: &[String]) -> Result<(), DistError> {
        self.remove(digests).map(|_| ())
    }
}
