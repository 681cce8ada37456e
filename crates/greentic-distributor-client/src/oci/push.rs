//! A file as an artifact: pushed to a registry, or written into a layout.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{BlobSource, BoxFuture, BytesSource, one_operation};
use greentic_dist_types::{Descriptor, Digest, Reference};
use serde::Serialize;
use serde_json::Value;

use super::artifact::{Artifact, PushKind, Said};
use super::copy::{JOBS, Job};
use super::graph::{Asked, Bounds, Graph, ProvenManifest, Source};
use super::source::FileBlob;
use super::{Place, PlaceKind};
use crate::blocking;
use crate::dist::{DistClient, DistError};

/// What is said about a file that is pushed, and how it is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// What it is. Default: told by its content (WebAssembly, a zip) or its name (`.gtpack`).
    pub kind: Option<PushKind>,
    /// Annotations of the manifest: keys of at most 256 bytes without white space, 32 KiB in all.
    pub annotations: BTreeMap<String, String>,
    /// Who made it; stands in the config of WebAssembly.
    pub author: Option<String>,
    /// When it was made, in Unix seconds; stands in the config of WebAssembly and among the annotations. Default: the epoch in
    /// the config, which must have one, and no annotation, so that the same file always gives the same artifact.
    pub created: Option<u64>,
    /// Tags beside the one of the reference.
    pub tags: Vec<String>,
    /// Only says what would be pushed: no request is made and nothing is written. Default off.
    pub dry_run: bool,
    /// Whether an archive that is there is replaced. Default off.
    pub replace: bool,
    /// Whether a registry is not asked what it has, because it is known to have nothing of it. Default off.
    pub assume_missing: bool,
}

/// What a push did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PushReport {
    /// The place as written.
    pub reference: String,
    /// Digest of the manifest: the pin.
    pub digest: String,
    /// The reference pinned to the digest; of a layout, its path and the digest.
    pub pinned: String,
    /// What the file was pushed as.
    pub kind: PushKind,
    /// The names it has there.
    pub tags: Vec<String>,
    /// Media type of the layer.
    pub media_type: String,
    /// Digest of the file.
    pub content_digest: String,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// Whether the manifest was there already.
    pub existed: bool,
    /// Blobs that were sent.
    pub blobs_copied: usize,
    /// Blobs that were there.
    pub blobs_present: usize,
    /// Whether nothing was sent because nothing was to be sent.
    pub dry_run: bool,
}

impl DistClient {
    /// Pushes a file as an artifact: a WebAssembly component or module in the layout that the ecosystem reads (config
    /// `application/vnd.wasm.config.v0+json`, layer `application/wasm`), a Greentic pack, or a catalog.
    ///
    /// The same file and options always give the same digest. What is there is not sent again: a second push costs one HEAD
    /// for each tag. The first one costs 7 requests with one tag or none: 3 for each of the two blobs and one for the manifest;
    /// with [`PushOptions::assume_missing`] it costs 5. The file is read twice and never held in memory; one that changes
    /// meanwhile fails the push.
    ///
    /// Cancel-safe: a dropped push sets no tag.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] for a file that is not what it is to be pushed as, for unusable annotations and tags;
    /// [`DistError::CacheError`] for a file that cannot be read, and for a layout that has no room; [`DistError::Network`] and [`DistError::Layout`] by kind.
    pub async fn push(&self, file: &Path, to: &Place, options: &PushOptions) -> Result<PushReport, DistError> {
        one_operation(self.inner.operation, Box::pin(self.push_now(file, to, options))).await
    }

    async fn push_now(&self, file: &Path, to: &Place, options: &PushOptions) -> Result<PushReport, DistError> {
        let names = names(to, options)?;
        let said = Said {
            kind: options.kind,
            annotations: options.annotations.clone(),
            author: options.author.clone(),
            created: options.created,
        };
        let path = file.to_owned();
        let artifact = blocking::run(move || Artifact::of(&path, &said)).await?;
        let digest = artifact.manifest.digest;
        if let Some(expected) = to.digest().filter(|expected| *expected != digest) {
            return Err(DistError::InvalidInput(format!("`{to}` names {expected}, and the artifact is {digest}")));
        }
        let document = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let mut report = PushReport {
            reference: to.shown.clone(),
            digest: digest.to_string(),
            pinned: to.pinned(digest),
            kind: artifact.kind,
            tags: names.clone(),
            media_type: artifact.layer.media_type.clone(),
            content_digest: artifact.layer.digest.to_string(),
            size_bytes: artifact.layer.size_bytes,
            manifest: document(&artifact.manifest.raw),
            config: document(&artifact.config),
            existed: false,
            blobs_copied: 0,
            blobs_present: 0,
            dry_run: options.dry_run,
        };
        if options.dry_run {
            return Ok(report);
        }
        let source: Arc<dyn Source> = Arc::new(FileSource(Arc::new(artifact)));
        let bounds = Bounds { shown: to.shown.clone(), limits: self.inner.limits };
        let graph = Graph::find(&source, bounds, None, false).await?;
        let job = Job {
            source,
            graph,
            names,
            jobs: JOBS,
            replace: options.replace,
            assume_missing: options.assume_missing,
            client: self.clone(),
        };
        let copied = job.run(to, None).await?;
        report.existed = copied.manifests_copied == 0;
        report.blobs_copied = copied.blobs_copied;
        report.blobs_present = copied.blobs_present;
        Ok(report)
    }
}

/// The names of the artifact: the reference's, `latest` in a registry where it has none and no digest, and the further ones.
fn names(to: &Place, options: &PushOptions) -> Result<Vec<String>, DistError> {
    let mut names: Vec<String> = to.tag().map(ToOwned::to_owned).into_iter().collect();
    if let PlaceKind::Registry(reference) = &to.kind {
        if names.is_empty() && reference.digest().is_none() && options.tags.is_empty() {
            names.push(reference.tag_or_latest().to_owned());
        }
        for tag in &options.tags {
            Reference::new(reference.registry(), reference.repository(), Some(tag), None)
                .map_err(|error| DistError::from_reference(tag, error))?;
        }
    }
    for tag in &options.tags {
        if !names.contains(tag) {
            names.push(tag.clone());
        }
    }
    Ok(names)
}

/// A file and the documents made of it.
#[derive(Clone, Debug)]
struct FileSource(Arc<Artifact>);

impl Source for FileSource {
    fn root(&self) -> BoxFuture<'_, Result<ProvenManifest, DistError>> {
        Box::pin(std::future::ready(Ok(self.0.manifest.clone())))
    }

    fn manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<ProvenManifest, DistError>> {
        Box::pin(std::future::ready(Err(DistError::NotFound { reference: entry.digest.to_string() })))
    }

    fn tagged<'a>(&'a self, _tag: &'a str) -> BoxFuture<'a, Result<Option<ProvenManifest>, DistError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn referrers(&self, _subject: Digest) -> BoxFuture<'_, Result<Asked, DistError>> {
        Box::pin(std::future::ready(Ok(Asked::Found(Vec::new()))))
    }

    fn blob(&self, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        if descriptor.digest == self.0.layer.digest {
            return Arc::new(FileBlob::new(self.0.path.clone(), descriptor.clone()));
        }
        let config: Bytes = self.0.config.clone();
        Arc::new(BytesSource::described(descriptor.clone(), config))
    }
}
