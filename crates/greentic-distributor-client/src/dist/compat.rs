//! Names of 0.4, each a few lines over the flow.

use super::{
    ArtifactDescriptor, CachePolicy, DistClient, DistError, DistOptions, ResolvePolicy, ResolvedArtifact,
    RetentionReport, cache,
};

impl DistClient {
    /// Parses, resolves and fetches in one call. Same errors and guarantees as the three.
    ///
    /// # Errors
    /// As [`DistClient::parse_source`], [`DistClient::resolve`] and [`DistClient::fetch`].
    pub async fn resolve_ref(&self, reference: &str) -> Result<ResolvedArtifact, DistError> {
        let source = self.parse_source(reference)?;
        let descriptor: ArtifactDescriptor = self.resolve(source, ResolvePolicy).await?;
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

    /// Removes entries by digest and reports what that did. Entries in use by a pull are refused and listed.
    ///
    /// # Errors
    /// [`DistError::InvalidRef`] for a text that is no digest, before anything is touched; [`DistError::CacheError`].
    pub fn remove(&self, digests: &[String]) -> Result<RetentionReport, DistError> {
        cache::remove(&self.inner, digests)
    }

    /// Removes dead temporary files, old partial downloads and entries that can never be opened again; returns the digests
    /// of the latter, sorted. What another process is working on stays.
    ///
    /// # Errors
    /// [`DistError::CacheError`].
    pub fn gc(&self) -> Result<Vec<String>, DistError> {
        cache::gc(&self.inner)
    }

    /// Hashes a cached artifact from its first to its last byte again, whatever was proven before.
    ///
    /// # Errors
    /// [`DistError::NotFound`]; [`DistError::CorruptArtifact`]; [`DistError::InvalidRef`].
    pub fn verify_cached(&self, digest: &str) -> Result<(), DistError> {
        let parsed = cache::parse_digest(digest)?;
        cache::verify_full(&self.inner, &parsed)?.ok_or_else(|| DistError::NotFound { reference: parsed.to_string() })
    }
}

impl Default for DistClient {
    fn default() -> Self {
        Self::new(DistOptions::default())
    }
}
