//! `DistClient`, for code that is not async.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::{Client, wait};
use crate::dist::{
    self, AdvisorySet, ArtifactDescriptor, ArtifactInspection, ArtifactSource, CachePolicy, DistClientBuilder,
    DistError, DistOptions, DownloadedStoreArtifact, IntegrationError, LockMode, LockPull, LockReport,
    OciCacheInspection, ResolvePolicy, ResolvedArtifact, SavedStoreArtifact, StageBundleInput, StageBundleResult,
    StoreDownload, VerificationPolicy,
};
use crate::oci::{
    ArtifactDescription, CopyOptions, CopyReport, Deletion, ListOptions, Listing, Place, PushOptions, PushReport,
    Reference, TagReport,
};

/// Resolves, fetches, verifies, keeps and reopens artifacts, and waits for it.
///
/// Every method waits on the calling thread and may be called from anywhere, see the [module](super). Cheap to clone; clones,
/// and the async client it is made of, share connections and memory. What is synchronous already (`open_cached`, `stat_cache`,
/// `warm_bundle`, `rollback_bundle`, `verify_artifact`, `gc` and others) is the method of [`dist::DistClient`], which this type
/// dereferences to.
///
/// Besides the errors of the method it waits for, each may fail with [`DistError::NoRuntime`], when the system has no thread to
/// spare. Nothing can be cancelled; timeouts and retries are those of the client.
#[derive(Clone, Debug, Default)]
pub struct DistClient(dist::DistClient);

impl From<dist::DistClient> for DistClient {
    fn from(client: dist::DistClient) -> Self {
        Self(client)
    }
}

impl From<DistClientBuilder> for DistClient {
    fn from(builder: DistClientBuilder) -> Self {
        Self(builder.build())
    }
}

impl Deref for DistClient {
    type Target = dist::DistClient;

    fn deref(&self) -> &dist::DistClient {
        &self.0
    }
}

impl DistClient {
    /// A client with these options and defaults for everything else. No I/O, never fails; `DistClient::from` takes a client or a
    /// builder with more.
    pub fn new(options: DistOptions) -> Self {
        Self(dist::DistClient::new(options))
    }

    /// The client for registries that this one uses; see [`dist::DistClient::oci`]. No I/O.
    ///
    /// # Errors
    /// As there.
    pub fn oci(&self) -> Result<Client, DistError> {
        self.0.oci().map(Client::from)
    }

    /// The async client this one is made of.
    pub fn into_inner(self) -> dist::DistClient {
        self.0
    }

    /// Finds out what a source means, without moving the artifact; see [`dist::DistClient::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, source: ArtifactSource, policy: ResolvePolicy) -> Result<ArtifactDescriptor, DistError> {
        wait(self.0.resolve(source, policy))?
    }

    /// Brings the artifact of a descriptor into the cache, or finds it there, and opens it; see [`dist::DistClient::fetch`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch(&self, descriptor: &ArtifactDescriptor, policy: CachePolicy) -> Result<ResolvedArtifact, DistError> {
        wait(self.0.fetch(descriptor, policy))?
    }

    /// Parses, resolves and fetches a reference; see [`dist::DistClient::resolve_ref`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve_ref(&self, reference: &str) -> Result<ResolvedArtifact, DistError> {
        wait(self.0.resolve_ref(reference))?
    }

    /// As [`DistClient::resolve_ref`], and the artifact is there in the end; see [`dist::DistClient::ensure_cached`].
    ///
    /// # Errors
    /// As there.
    pub fn ensure_cached(&self, reference: &str) -> Result<ResolvedArtifact, DistError> {
        wait(self.0.ensure_cached(reference))?
    }

    /// Several references at a time, their results in order; see [`dist::DistClient::pull_all`].
    ///
    /// # Errors
    /// [`DistError::NoRuntime`]; all others are in the results.
    pub fn pull_all(&self, references: &[String]) -> Result<Vec<Result<ResolvedArtifact, DistError>>, DistError> {
        wait(self.0.pull_all(references))
    }

    /// The path of an artifact that is in the cache, proven; see [`dist::DistClient::fetch_digest`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch_digest(&self, digest: &str) -> Result<PathBuf, DistError> {
        wait(self.0.fetch_digest(digest))?
    }

    /// What an artifact is made of, fetched where it has to be; see [`dist::DistClient::inspect`].
    ///
    /// # Errors
    /// As there.
    pub fn inspect(&self, reference: &str) -> Result<ArtifactInspection, DistError> {
        wait(self.0.inspect(reference))?
    }

    /// Fetches an artifact of a registry and says where its files are; see [`dist::DistClient::pull_oci_with_details`].
    ///
    /// # Errors
    /// As there.
    pub fn pull_oci_with_details(&self, reference: &str) -> Result<OciCacheInspection, DistError> {
        wait(self.0.pull_oci_with_details(reference))?
    }

    /// Fetches everything a lock file names; see [`dist::DistClient::pull_lock`].
    ///
    /// # Errors
    /// As there.
    pub fn pull_lock(&self, path: &Path) -> Result<Vec<ResolvedArtifact>, DistError> {
        wait(self.0.pull_lock(path))?
    }

    /// Fetches everything a lock file names and reports each entry; see [`dist::DistClient::pull_lock_items`].
    ///
    /// # Errors
    /// As there.
    pub fn pull_lock_items(&self, path: &Path, mode: LockMode) -> Result<LockPull, DistError> {
        wait(self.0.pull_lock_items(path, mode))?
    }

    /// Whether a lock file still says what its references mean; see [`dist::DistClient::check_lock`].
    ///
    /// # Errors
    /// As there.
    pub fn check_lock(&self, path: &Path) -> Result<LockReport, DistError> {
        wait(self.0.check_lock(path))?
    }

    /// Resolves the entries of a lock file anew; see [`dist::DistClient::update_lock`].
    ///
    /// # Errors
    /// As there.
    pub fn update_lock(&self, path: &Path, names: &[String]) -> Result<LockReport, DistError> {
        wait(self.0.update_lock(path, names))?
    }

    /// Adds references to a lock file; see [`dist::DistClient::add_to_lock`].
    ///
    /// # Errors
    /// As there.
    pub fn add_to_lock(&self, path: &Path, references: &[String], name: Option<&str>) -> Result<LockReport, DistError> {
        wait(self.0.add_to_lock(path, references, name))?
    }

    /// Fetches and verifies the artifact of a bundle and records it; see [`dist::DistClient::stage_bundle`].
    ///
    /// # Errors
    /// As there.
    pub fn stage_bundle(
        &self,
        input: &StageBundleInput,
        advisory: Option<&AdvisorySet>,
        policy: &VerificationPolicy,
        cache_policy: CachePolicy,
    ) -> Result<StageBundleResult, IntegrationError> {
        wait(self.0.stage_bundle(input, advisory, policy, cache_policy)).map_err(IntegrationError::from)?
    }

    /// A package of the store, into memory; see [`dist::DistClient::download_store_artifact`].
    ///
    /// # Errors
    /// As there.
    pub fn download_store_artifact(&self, reference: &str) -> Result<DownloadedStoreArtifact, DistError> {
        wait(self.0.download_store_artifact(reference))?
    }

    /// A package of the store, into a file; see [`dist::DistClient::save_store_artifact`].
    ///
    /// # Errors
    /// As there.
    pub fn save_store_artifact(
        &self,
        reference: &str,
        download: StoreDownload,
    ) -> Result<SavedStoreArtifact, DistError> {
        wait(self.0.save_store_artifact(reference, download))?
    }

    /// The tags of a repository; see [`dist::DistClient::tags`].
    ///
    /// # Errors
    /// As there.
    pub fn tags(&self, repository: &Reference, options: &ListOptions) -> Result<Listing, DistError> {
        wait(self.0.tags(repository, options))?
    }

    /// The repositories of a registry; see [`dist::DistClient::catalog`].
    ///
    /// # Errors
    /// As there.
    pub fn catalog(&self, registry: &str, options: &ListOptions) -> Result<Listing, DistError> {
        wait(self.0.catalog(registry, options))?
    }

    /// Gives a manifest of a registry more tags; see [`dist::DistClient::tag`].
    ///
    /// # Errors
    /// As there.
    pub fn tag(&self, reference: &Reference, tags: &[String]) -> Result<TagReport, DistError> {
        wait(self.0.tag(reference, tags))?
    }

    /// What [`DistClient::delete`] of a reference deletes; see [`dist::DistClient::deletion`].
    ///
    /// # Errors
    /// As there.
    pub fn deletion(&self, reference: &Reference, manifest: bool) -> Result<Deletion, DistError> {
        wait(self.0.deletion(reference, manifest))?
    }

    /// Deletes a tag or a manifest; see [`dist::DistClient::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, reference: &Reference, deletion: &Deletion) -> Result<(), DistError> {
        wait(self.0.delete(reference, deletion))?
    }

    /// The names at a place, a layout's too; see [`dist::DistClient::tags_at`].
    ///
    /// # Errors
    /// As there.
    pub fn tags_at(&self, place: &Place, options: &ListOptions) -> Result<Listing, DistError> {
        wait(self.0.tags_at(place, options))?
    }

    /// Gives a manifest at a place more tags; see [`dist::DistClient::tag_at`].
    ///
    /// # Errors
    /// As there.
    pub fn tag_at(&self, place: &Place, tags: &[String]) -> Result<TagReport, DistError> {
        wait(self.0.tag_at(place, tags))?
    }

    /// What [`DistClient::delete_at`] of a place deletes; see [`dist::DistClient::deletion_at`].
    ///
    /// # Errors
    /// As there.
    pub fn deletion_at(&self, place: &Place, manifest: bool) -> Result<Deletion, DistError> {
        wait(self.0.deletion_at(place, manifest))?
    }

    /// Deletes a tag or a manifest at a place; see [`dist::DistClient::delete_at`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_at(&self, place: &Place, deletion: &Deletion) -> Result<(), DistError> {
        wait(self.0.delete_at(place, deletion))?
    }

    /// Pushes a file as an artifact; see [`dist::DistClient::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&self, file: &Path, to: &Place, options: &PushOptions) -> Result<PushReport, DistError> {
        wait(self.0.push(file, to, options))?
    }

    /// Copies an artifact from one place to another; see [`dist::DistClient::copy`].
    ///
    /// # Errors
    /// As there.
    pub fn copy(&self, from: &Place, to: &Place, options: &CopyOptions) -> Result<CopyReport, DistError> {
        wait(self.0.copy(from, to, options))?
    }

    /// Describes an artifact without fetching its content; see [`dist::DistClient::describe`].
    ///
    /// # Errors
    /// As there.
    pub fn describe(&self, place: &Place) -> Result<ArtifactDescription, DistError> {
        wait(self.0.describe(place))?
    }
}
