//! Registries as sources and destinations.

use std::collections::HashSet;
use std::sync::Arc;

use greentic_dist_net::{
    BlobSource, BoxFuture, FetchedManifest, NetError, NetErrorKind, PushedBlob, RawManifest, Repository, Selector,
};
use greentic_dist_types::{Descriptor, Digest, Reference, SafeText};

use super::copy::{CopyReport, Job};
use super::graph::{Asked, Node, ProvenManifest, QUESTIONS, Role, Source, gather, subject_of};
use super::sink::{Moved, shown};
use crate::dist::{DistClient, DistError};
use crate::progress::Event;

/// Most referrers of one manifest.
const REFERRERS: usize = 10_000;

/// One artifact of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistrySource {
    repository: Repository,
    reference: Reference,
    shown: String,
}

impl RegistrySource {
    pub(crate) fn new(client: &DistClient, reference: &Reference, shown: &str) -> Result<Self, DistError> {
        let repository = client.inner.net(shown)?.repository(reference);
        Ok(Self { repository, reference: reference.clone(), shown: shown.to_owned() })
    }

    fn wrap(&self, error: NetError) -> DistError {
        DistError::from_net(&self.shown, error)
    }
}

/// What refers to a manifest. A registry that refuses to say so, or says nothing intelligible, leaves that unknown; one that
/// does not answer fails.
pub(super) async fn referrers(repository: &Repository, subject: &Digest) -> Result<Asked, NetError> {
    let found = match repository.referrers(subject, None).await {
        Ok(found) => found.pages.collect(REFERRERS).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(Asked::Found(found)),
        Err(error) if error.is_transient() || error.kind() == NetErrorKind::Offline => Err(error),
        Err(error) => Ok(Asked::CouldNotAsk(SafeText::new(&error.to_string()))),
    }
}

impl From<FetchedManifest> for ProvenManifest {
    fn from(fetched: FetchedManifest) -> Self {
        Self { raw: fetched.raw, digest: fetched.digest, media_type: fetched.media_type, kind: fetched.kind }
    }
}

impl Source for RegistrySource {
    fn root(&self) -> BoxFuture<'_, Result<ProvenManifest, DistError>> {
        Box::pin(async move {
            let selector = match self.reference.digest() {
                Some(digest) => Selector::Digest(digest),
                None => Selector::Tag(self.reference.tag_or_latest()),
            };
            Ok(self.repository.manifest(selector).await.map_err(|error| self.wrap(error))?.into())
        })
    }

    fn manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<ProvenManifest, DistError>> {
        Box::pin(async move {
            let found = self.repository.manifest(Selector::Digest(entry.digest)).await;
            let found: ProvenManifest = found.map_err(|error| self.wrap(error))?.into();
            if found.raw.len() as u64 != entry.size_bytes {
                let reason = format!(
                    "what names {} says {} bytes, and it has {}",
                    entry.digest,
                    entry.size_bytes,
                    found.raw.len()
                );
                return Err(DistError::CorruptArtifact { reference: self.shown.clone(), reason });
            }
            Ok(found)
        })
    }

    fn tagged<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<Option<ProvenManifest>, DistError>> {
        Box::pin(async move {
            match self.repository.manifest(Selector::Tag(tag)).await {
                Ok(found) => Ok(Some(found.into())),
                Err(error) if error.kind() == NetErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.wrap(error)),
            }
        })
    }

    fn referrers(&self, subject: Digest) -> BoxFuture<'_, Result<Asked, DistError>> {
        Box::pin(async move { referrers(&self.repository, &subject).await.map_err(|error| self.wrap(error)) })
    }

    fn blob(&self, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        Arc::new(self.repository.blob_source(descriptor))
    }
}

/// A repository that is copied or pushed into.
#[derive(Clone)]
pub(super) struct RegistrySink {
    client: DistClient,
    repository: Repository,
    shown: String,
    /// A repository of the same registry that has the blobs.
    mount_from: Option<String>,
}

/// What is missing of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    /// The manifest itself.
    manifest: bool,
    /// Tags that name nothing or another manifest.
    tags: Vec<String>,
}

impl RegistrySink {
    pub(super) fn new(client: &DistClient, reference: &Reference, shown: &str) -> Result<Self, DistError> {
        let repository = client.inner.net(shown)?.repository(reference);
        Ok(Self { client: client.clone(), repository, shown: shown.to_owned(), mount_from: None })
    }

    /// Blobs are taken over from this repository of the same registry where it lets them.
    pub(super) fn mounting_from(mut self, from: &Reference) -> Self {
        let same_registry = from.registry().eq_ignore_ascii_case(self.repository.registry());
        if same_registry && from.repository() != self.repository.repository() {
            self.mount_from = Some(from.repository().to_owned());
        }
        self
    }

    pub(super) fn wrap(&self, error: NetError) -> DistError {
        DistError::from_net(&self.shown, error)
    }

    /// Copies everything: what is there is asked first, blobs go several at a time, manifests after what they name.
    pub(super) async fn receive(&self, job: &Job, report: &mut CopyReport) -> Result<(), DistError> {
        let questions: Vec<(Digest, Vec<String>)> =
            job.graph.nodes.iter().map(|node| (node.manifest.digest, job.tags_of(node))).collect();
        let sink = self.clone();
        let missing = gather(questions, QUESTIONS, move |(digest, tags)| {
            let sink = sink.clone();
            async move { sink.look(digest, tags).await }
        });
        let missing = missing.await?;
        let mut seen: HashSet<Digest> = HashSet::new();
        let mut blobs: Vec<Arc<dyn BlobSource>> = Vec::new();
        for (node, missing) in job.graph.nodes.iter().zip(&missing) {
            for blob in node.manifest.blobs() {
                if !seen.insert(blob.digest) {
                    continue;
                }
                if missing.manifest {
                    blobs.push(job.content(blob));
                } else {
                    // A registry has the blobs of the manifests it has.
                    report.blobs_present += 1;
                }
            }
        }
        let sink = self.clone();
        let pushed = gather(blobs, job.jobs, move |content| {
            let sink = sink.clone();
            async move { sink.push_blob(content).await }
        });
        for (moved, size_bytes) in pushed.await? {
            report.count(moved, size_bytes);
        }
        for (node, missing) in job.graph.nodes.iter().zip(&missing) {
            self.push_manifest(job, node, missing).await?;
            if missing.manifest {
                report.manifests_copied += 1;
            } else {
                report.manifests_present += 1;
            }
        }
        Ok(())
    }

    /// Whether a manifest is there, under its tags: one request for each tag, and one more unless a tag names it.
    async fn look(&self, digest: Digest, tags: Vec<String>) -> Result<Missing, DistError> {
        let asked = tags.len();
        let mut unset = Vec::new();
        for tag in tags {
            if !self.head(Selector::Tag(&tag), digest).await? {
                unset.push(tag);
            }
        }
        let is_named = unset.len() < asked;
        let manifest = !is_named && !self.head(Selector::Digest(digest), digest).await?;
        Ok(Missing { manifest, tags: unset })
    }

    /// Whether a tag or digest names exactly this manifest where it would be pushed to. A digest of another algorithm says
    /// nothing.
    pub(super) async fn head(&self, selector: Selector<'_>, digest: Digest) -> Result<bool, DistError> {
        let repository = self.repository.for_pushing().await.map_err(|error| self.wrap(error))?;
        match repository.head_manifest(selector).await {
            Ok(head) => Ok(match (selector, head.digest) {
                (_, Some(told)) => told == digest,
                (Selector::Digest(_), None) => true,
                (Selector::Tag(_), None) => false,
            }),
            Err(error) if error.kind() == NetErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.wrap(error)),
        }
    }

    /// Pushes a blob unless it is there.
    pub(super) async fn push_blob(&self, content: Arc<dyn BlobSource>) -> Result<(Moved, u64), DistError> {
        let blob = content.descriptor().clone();
        let (name, size_bytes) = (shown(&blob), blob.size_bytes);
        let mut upload = self.repository.put_blob(content);
        if let Some(from) = &self.mount_from {
            upload = upload.mount_from(from);
        }
        let progress = Progress { client: self.client.clone(), name: Arc::from(name), size_bytes };
        let telling = progress.clone();
        let pushed = upload.on_sent(move |bytes| telling.sent(bytes)).send().await;
        progress.ended(pushed.is_ok());
        let moved = match pushed.map_err(|error| self.wrap(error))? {
            PushedBlob::Existed => Moved::Present,
            PushedBlob::Mounted => Moved::Mounted,
            _ => Moved::Copied,
        };
        Ok((moved, size_bytes))
    }

    async fn push_manifest(&self, job: &Job, node: &Node, missing: &Missing) -> Result<(), DistError> {
        let manifest = &node.manifest;
        // What refers to something may be there without standing in the list of its subject: a copy that was cut.
        let is_listed = subject_of(&manifest.kind).is_none();
        if !missing.manifest && missing.tags.is_empty() && is_listed {
            return Ok(());
        }
        let raw = self.raw(manifest)?;
        let blobs = manifest.blobs().into_iter().map(|blob| job.content(blob));
        let upload = self.repository.put_manifest(&raw).tags(&missing.tags).blobs(blobs);
        upload.send().await.map_err(|error| self.wrap(error))?;
        Ok(())
    }

    /// A manifest as it is pushed: the bytes it came as, under the digest it came by.
    pub(super) fn raw(&self, manifest: &ProvenManifest) -> Result<RawManifest, DistError> {
        let raw = RawManifest::typed(manifest.raw.clone(), &manifest.media_type);
        let raw = raw.map_err(|error| DistError::CorruptArtifact {
            reference: self.shown.clone(),
            reason: format!("{} is no usable manifest: {error}", manifest.digest),
        })?;
        Ok(raw.with_algorithm(manifest.digest.algorithm()))
    }
}

/// Tells the reporter about a blob, once it turns out that bytes of it are sent.
#[derive(Clone)]
struct Progress {
    client: DistClient,
    name: Arc<str>,
    size_bytes: u64,
}

impl Progress {
    fn sent(&self, bytes: u64) {
        self.client.inner.reporter.event(&Event::Sent { reference: &self.name, bytes, total_bytes: self.size_bytes });
    }

    fn ended(&self, well: bool) {
        self.client.inner.reporter.event(&if well {
            Event::Finished { reference: &self.name, bytes: self.size_bytes }
        } else {
            Event::Failed { reference: &self.name }
        });
    }
}

impl Job {
    /// The tags a manifest has at the destination.
    fn tags_of(&self, node: &Node) -> Vec<String> {
        match &node.role {
            Role::Root => self.names.clone(),
            Role::Attached(tag) => vec![tag.clone()],
            Role::Child | Role::Referrer => Vec::new(),
        }
    }
}
