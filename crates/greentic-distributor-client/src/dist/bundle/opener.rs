//! What makes a verified artifact usable: a seam for runtimes.

use serde::{Deserialize, Serialize};

use super::{BundleManifestSummary, BundleOpenMode};
use crate::dist::{IntegrationError, ResolvedArtifact};

/// What an opener is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactOpenRequest {
    /// The bundle.
    pub bundle_id: String,
    /// Whether to open nothing and only say what would be opened.
    pub dry_run: bool,
    /// Whether to try the artifact out.
    pub smoke_test: bool,
}

/// What an opener opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactOpenOutput {
    /// What the artifact is.
    pub bundle_manifest_summary: BundleManifestSummary,
    /// How it was opened.
    pub bundle_open_mode: BundleOpenMode,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Opens artifacts that were verified: what a runtime gives to
/// [`DistClient::with_artifact_opener`](crate::dist::DistClient::with_artifact_opener).
pub trait ArtifactOpener: Send + Sync {
    /// Opens an artifact whose bytes were hashed and verified just now. Called synchronously by
    /// [`DistClient::warm_bundle`](crate::dist::DistClient::warm_bundle).
    ///
    /// # Errors
    /// Whatever keeps it from being opened; the caller of `warm_bundle` gets it unchanged.
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError>;
}

/// The opener of a client that was given none: it says what is in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheOpener;

impl ArtifactOpener for CacheOpener {
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError> {
        let warnings = if request.smoke_test {
            vec!["nothing was tried out: this client has no opener of a runtime".to_owned()]
        } else {
            Vec::new()
        };
        Ok(ArtifactOpenOutput {
            bundle_manifest_summary: BundleManifestSummary::of(artifact),
            bundle_open_mode: if request.dry_run { BundleOpenMode::CacheReuse } else { BundleOpenMode::Userspace },
            warnings,
        })
    }
}
