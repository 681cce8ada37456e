//! From one place to another: everything that belongs to an artifact, byte for byte.

use std::sync::Arc;

use greentic_dist_net::one_operation;
use greentic_dist_types::{PlatformChoice, Reference};
use serde::Serialize;

use super::graph::{Bounds, Graph, Role, Source};
use super::layout::{DirWriter, Layout};
use super::registry::{RegistrySink, RegistrySource};
use super::source::LayoutSource;
use super::{Place, PlaceKind, room, sink};
use crate::blocking;
use crate::dist::{DistClient, DistError};

/// Blobs at a time unless set otherwise.
pub(super) const JOBS: usize = 4;
/// Most blobs at a time.
const MOST_JOBS: usize = 16;
/// How many of those that are listed and not there a warning names.
const WARNED_OF: usize = 5;

/// What is copied, and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Of an index, only the manifest of this platform. Default: the index with all its manifests.
    pub platform: Option<PlatformChoice>,
    /// Whether what refers to the artifact is copied, too: referrers, and the tags `sha256-<hex>.sig`, `.att` and `.sbom`.
    /// Default on.
    pub referrers: bool,
    /// Blobs at a time. Default 4, at most 16. An archive is written one blob after the other whatever this says.
    pub jobs: usize,
    /// Whether an archive that is there is replaced. Default off. A directory is added to, never replaced.
    pub replace: bool,
    /// Whether a registry is not asked what it has, because it is known to have nothing of it: two requests for each blob
    /// and one for each manifest, instead of three and one or two. What is there is then sent again. Default off.
    pub assume_missing: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { platform: None, referrers: true, jobs: JOBS, replace: false, assume_missing: false }
    }
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopyReport {
    /// Digest of what was copied: of the index or manifest that the source names, or of the chosen one.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The names it has at the destination.
    pub tags: Vec<String>,
    /// Manifests that were written.
    pub manifests_copied: usize,
    /// Manifests that were there.
    pub manifests_present: usize,
    /// Blobs that were transferred.
    pub blobs_copied: usize,
    /// Blobs that were there.
    pub blobs_present: usize,
    /// Blobs that the registry took from another of its repositories.
    pub blobs_mounted: usize,
    /// Bytes of blobs that were transferred.
    pub bytes_copied: u64,
    /// Manifests that refer to the artifact, signatures by tag included.
    pub referrers: usize,
    /// What is listed as referring to it and not there any more: it was left out.
    pub referrers_gone: usize,
    /// Why nobody knows whether something refers to it, where the source could not be asked.
    pub referrers_unknown: Option<String>,
}

/// Everything a sink needs to know.
pub(super) struct Job {
    pub(super) source: Arc<dyn Source>,
    pub(super) graph: Graph,
    /// The tags or names of the root at the destination.
    pub(super) names: Vec<String>,
    pub(super) jobs: usize,
    pub(super) replace: bool,
    /// Whether a registry is not asked for what it may have.
    pub(super) assume_missing: bool,
    pub(super) client: DistClient,
}

impl DistClient {
    /// Copies an artifact between registries, directories and archives, in any direction: the manifest, or the index with
    /// all its manifests, every blob, and what refers to it. No byte is changed, none is kept in the cache, and memory does
    /// not grow with the size of a blob.
    ///
    /// Blobs that are at the destination are not transferred; in a directory they are hashed first, and one that is damaged
    /// is replaced. A tag is written last, when everything below it is there. The destination's tag is the one `to` names,
    /// else the one `from` names; with neither, the artifact is there by digest alone. A digest in `to` must be the
    /// artifact's.
    ///
    /// Into a registry, a manifest with one tag costs one request where it is there under that tag, else 3 for each blob that
    /// is missing and one for the manifest; a blob that the same registry has in the repository of the source costs one.
    ///
    /// Cancel-safe: a dropped copy leaves no tag behind. A directory keeps what was transferred and goes on from there; an
    /// archive is written anew.
    ///
    /// What belongs to the artifact is found first, within the limits of nesting, of manifests and of referrers
    /// ([`Limits::index_depth`](crate::oci::Limits), `copy_manifests`, `copy_manifest_bytes`, `referrers`, `referrer_depth`). What is
    /// listed as a referrer and not there any more is left out, told to the reporter and counted.
    ///
    /// No blob is asked for when one of them is larger than [`Limits::artifact_bytes`](crate::oci::Limits), or when they have no
    /// room together on the file system of a directory or archive; what a directory has of them counts as there.
    ///
    /// # Errors
    /// [`DistError::Network`] and [`DistError::Layout`] by their kinds; [`DistError::Selection`] when an index has no
    /// manifest for the platform; [`DistError::InvalidInput`] for a digest in `to` that is another; [`DistError::TooLarge`];
    /// [`DistError::CacheError`] where there is no room.
    pub async fn copy(&self, from: &Place, to: &Place, options: &CopyOptions) -> Result<CopyReport, DistError> {
        one_operation(self.inner.operation, Box::pin(self.copy_now(from, to, options))).await
    }

    async fn copy_now(&self, from: &Place, to: &Place, options: &CopyOptions) -> Result<CopyReport, DistError> {
        let source = self.source_at(from).await?;
        let bounds = Bounds { shown: from.shown.clone(), limits: self.inner.limits };
        let graph = Graph::find(&source, bounds, options.platform.as_ref(), options.referrers).await?;
        if let Some(expected) = to.digest().filter(|expected| *expected != graph.root) {
            return Err(DistError::InvalidInput(format!("`{to}` names {expected}, and `{from}` is {}", graph.root)));
        }
        room::check_sizes(&graph, &from.shown, self.inner.limits.artifact_bytes)?;
        if let Some(why) = &graph.could_not_ask {
            self.inner.warn(&format!("whether something refers to `{from}` could not be asked: {why}"));
        }
        if !graph.gone.is_empty() {
            let named: Vec<&str> = graph.gone.iter().take(WARNED_OF).map(String::as_str).collect();
            let more = if graph.gone.len() > WARNED_OF { ", …" } else { "" };
            self.inner.warn(&format!(
                "of what refers to `{from}`, {} are listed and not there any more; left out: {}{more}",
                graph.gone.len(),
                named.join(", ")
            ));
        }
        let names = to.tag().or_else(|| from.tag()).map(ToOwned::to_owned);
        let job = Job {
            source,
            graph,
            names: names.into_iter().collect(),
            jobs: options.jobs.clamp(1, MOST_JOBS),
            replace: options.replace,
            assume_missing: options.assume_missing,
            client: self.clone(),
        };
        let mount_from = if let PlaceKind::Registry(from) = &from.kind { Some(from) } else { None };
        job.run(to, mount_from).await
    }

    pub(crate) async fn source_at(&self, place: &Place) -> Result<Arc<dyn Source>, DistError> {
        let (path, name, digest, is_archive) = match &place.kind {
            PlaceKind::Layout { path, name, digest } => (path.clone(), name.clone(), *digest, false),
            PlaceKind::Archive { path, name, digest } => (path.clone(), name.clone(), *digest, true),
            PlaceKind::Registry(reference) => {
                return Ok(Arc::new(RegistrySource::new(self, reference, &place.shown)?));
            }
        };
        let open = move || Ok(if is_archive { Layout::open_archive(&path)? } else { Layout::open_dir(&path)? });
        Ok(Arc::new(LayoutSource::new(blocking::run(open).await?, name, digest)))
    }
}

impl Job {
    /// Brings everything to a place.
    pub(super) async fn run(&self, to: &Place, mount_from: Option<&Reference>) -> Result<CopyReport, DistError> {
        let mut report = self.report();
        match &to.kind {
            PlaceKind::Layout { path, .. } => {
                room::check_dir(&self.graph, path).await?;
                let path = path.clone();
                let writer = blocking::run(move || Ok(DirWriter::open(&path)?)).await?;
                sink::into_dir(self, writer, &mut report).await?;
            }
            PlaceKind::Archive { path, .. } => {
                room::check_archive(&self.graph, path).await?;
                sink::into_archive(self, path, &mut report).await?;
            }
            PlaceKind::Registry(reference) => {
                let mut sink = RegistrySink::new(&self.client, reference, &to.shown)?;
                if let Some(from) = mount_from {
                    sink = sink.mounting_from(from);
                }
                sink.receive(self, &mut report).await?;
            }
        }
        Ok(report)
    }

    fn report(&self) -> CopyReport {
        let root = self.graph.root_manifest();
        let is_around = |role: &Role| matches!(role, Role::Referrer | Role::Attached(_));
        CopyReport {
            digest: self.graph.root.to_string(),
            media_type: root.map(|root| root.media_type.clone()).unwrap_or_default(),
            tags: self.names.clone(),
            referrers: self.graph.nodes.iter().filter(|node| is_around(&node.role)).count(),
            referrers_gone: self.graph.gone.len(),
            referrers_unknown: self.graph.could_not_ask.as_ref().map(ToString::to_string),
            ..CopyReport::default()
        }
    }
}
