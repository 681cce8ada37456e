//! Registries as sources and destinations.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greentic_dist_net::{
    BlobRequest, BlobSource, BoxFuture, FetchedManifest, Limit, NetError, NetErrorKind, PushedBlob, RateLimit,
    RawManifest, Repository, Selector,
};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Reference, SafeText};

use super::copy::{CopyReport, Job};
use super::graph::{Asked, Node, ProvenManifest, QUESTIONS, Role, Source, gather, subject_of};
use super::sink::{Moved, shown, skipped};
use crate::dist::{DistClient, DistError};
use crate::progress::{Event, SkipReason};

/// Size in bytes up to which a config is sent without asking for it: a question costs as much as half of sending it.
const SENT_UNASKED: u64 = 64 << 10;

/// One artifact of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistrySource {
    repository: Repository,
    reference: Reference,
    shown: String,
}

impl RegistrySource {
    pub(crate) fn new(client: &DistClient, reference: &Reference, shown: &str) -> Result<Self, DistError> {
        Ok(Self::of(client.inner.net(shown)?.repository(reference), reference, shown))
    }

    pub(crate) fn of(repository: Repository, reference: &Reference, shown: &str) -> Self {
        Self { repository, reference: reference.clone(), shown: shown.to_owned() }
    }

    fn wrap(&self, error: NetError) -> DistError {
        DistError::from_net(&self.shown, error)
    }
}

/// What refers to a manifest. A registry that refuses to say so, or says nothing intelligible, leaves that unknown; one that
/// does not answer fails, and so does one that says more than the limit, which can be raised.
pub(super) async fn referrers(repository: &Repository, subject: &Digest) -> Result<Asked, NetError> {
    let found = match repository.referrers(subject, None).await {
        Ok(found) => found.all().await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(Asked::Found(found)),
        Err(error) if error.is_transient() || error.kind() == NetErrorKind::Offline => Err(error),
        Err(error) if error.limit() == Some(Limit::Referrers) => Err(error),
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
            let found =
                self.repository.manifest(Selector::Digest(entry.digest)).await.map_err(|error| self.wrap(error))?;
            found.check_against(entry).map_err(|error| self.wrap(error))?;
            Ok(found.into())
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

    fn rate_limit(&self) -> Option<RateLimit> {
        self.repository.rate_limit()
    }

    fn referrers(&self, subject: Digest) -> BoxFuture<'_, Result<Asked, DistError>> {
        Box::pin(async move { referrers(&self.repository, &subject).await.map_err(|error| self.wrap(error)) })
    }

    fn blob(&self, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        Arc::new(self.repository.blob_source(descriptor))
    }

    fn request(&self, descriptor: &Descriptor) -> Option<BlobRequest> {
        Some(self.repository.blob(descriptor))
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

/// A manifest that the destination is asked about.
struct Question {
    digest: Digest,
    tags: Vec<String>,
    probe: Probe,
}

/// What else is asked where the first tag does not name the manifest: whether it is there under another one.
enum Probe {
    /// Nothing: it names no blobs, and no question would spare the PUT that sets the tag.
    Nothing,
    /// The manifest itself. Where its blobs would be mounted, that spares a request for each of them.
    Manifest,
    /// A layer, and the manifest where that is there: a layer that is missing is asked for only once.
    Layer(Box<Descriptor>),
}

/// What is missing of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    /// The manifest itself.
    manifest: bool,
    /// Tags that name nothing or another manifest.
    tags: Vec<String>,
    /// A layer, and whether it is there.
    probed: Option<(Digest, bool)>,
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
    ///
    /// A manifest with one tag and N blobs that are all missing costs 3N+1 requests: three for each blob and the PUT. The one
    /// question about the manifest is made up for by its config, which is sent unasked: what belongs to a manifest that is
    /// missing is hardly ever there, and small.
    pub(super) async fn receive(&self, job: &Job, report: &mut CopyReport) -> Result<(), DistError> {
        let questions: Vec<Question> = job.graph.nodes.iter().map(|node| self.question(job, node)).collect();
        let missing = if job.assume_missing {
            let unseen = |question: Question| Missing { manifest: true, tags: question.tags, probed: None };
            questions.into_iter().map(unseen).collect()
        } else {
            let sink = self.clone();
            let looking = gather(questions, QUESTIONS, move |question| {
                let sink = sink.clone();
                async move { sink.look(question).await }
            });
            looking.await?
        };
        let blobs = Self::missing_blobs(job, &missing, report);
        let sink = self.clone();
        let pushed = gather(blobs, job.jobs, move |(content, ask)| {
            let sink = sink.clone();
            async move { sink.push_blob(content, ask).await }
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

    /// The blobs that have to be brought, each with whether it is worth asking for it first. Counts those that are there.
    fn missing_blobs(job: &Job, missing: &[Missing], report: &mut CopyReport) -> Vec<(Arc<dyn BlobSource>, bool)> {
        let nodes = || job.graph.nodes.iter().zip(missing);
        // A registry has the blobs of the manifests it has.
        let mut seen: HashSet<Digest> = HashSet::new();
        for blob in nodes().filter(|(_, missing)| !missing.manifest).flat_map(|(node, _)| node.manifest.blobs()) {
            if seen.insert(blob.digest) {
                skipped(&job.client, &shown(blob), SkipReason::ManifestPresent);
            }
        }
        let probed = missing.iter().filter_map(|one| one.probed).filter(|(_, there)| *there);
        let probed: HashSet<Digest> = probed.map(|(digest, _)| digest).collect();
        for blob in nodes().flat_map(|(node, _)| node.manifest.blobs()) {
            if probed.contains(&blob.digest) && seen.insert(blob.digest) {
                skipped(&job.client, &shown(blob), SkipReason::Present);
            }
        }
        report.blobs_present += seen.len();
        let mut blobs = Vec::new();
        for (node, missing) in nodes().filter(|(_, missing)| missing.manifest) {
            for blob in node.manifest.blobs() {
                if seen.insert(blob.digest) {
                    let known = job.assume_missing || missing.probed.is_some_and(|(digest, _)| digest == blob.digest);
                    let unasked = known || (is_config(&node.manifest, blob) && blob.size_bytes <= SENT_UNASKED);
                    blobs.push((job.content(blob), !unasked));
                }
            }
        }
        blobs
    }

    fn question(&self, job: &Job, node: &Node) -> Question {
        let probe = match &node.manifest.kind {
            // A mount is a question as well.
            ManifestKind::Image(_) if self.mount_from.is_some() => Probe::Manifest,
            ManifestKind::Image(_) => {
                let layer = node.manifest.blobs().into_iter().find(|blob| !is_config(&node.manifest, blob));
                layer.map_or(Probe::Nothing, |layer| Probe::Layer(Box::new(layer.clone())))
            }
            ManifestKind::Index(_) => Probe::Nothing,
        };
        Question { digest: node.manifest.digest, tags: job.tags_of(node), probe }
    }

    /// Whether a manifest is there, under its tags. One request where its first tag names it, or where it has none; one more
    /// where that tag does not and a layer of it is missing: then so is the manifest, whatever its tags name. Where blobs are
    /// mounted, that one more asks for the manifest by its digest.
    async fn look(&self, asked: Question) -> Result<Missing, DistError> {
        let Question { digest, tags, probe } = asked;
        let Some((first, others)) = tags.split_first() else {
            let there = self.head(Selector::Digest(digest), digest).await?;
            return Ok(Missing { manifest: !there, tags, probed: None });
        };
        let mut unset = Vec::new();
        if !self.head(Selector::Tag(first), digest).await? {
            let (asked, probed) = match probe {
                Probe::Nothing => (false, None),
                Probe::Manifest => (true, None),
                Probe::Layer(layer) => {
                    let there = self.has_blob(&layer).await?;
                    (there, Some((layer.digest, there)))
                }
            };
            if !asked || !self.head(Selector::Digest(digest), digest).await? {
                return Ok(Missing { manifest: true, tags, probed });
            }
            unset.push(first.clone());
        }
        for tag in others {
            if !self.head(Selector::Tag(tag), digest).await? {
                unset.push(tag.clone());
            }
        }
        Ok(Missing { manifest: false, tags: unset, probed: None })
    }

    /// Whether a blob is there. Where that cannot be asked, the upload decides.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, DistError> {
        let repository = self.repository.for_pushing().await.map_err(|error| self.wrap(error))?;
        match repository.head_blob(&blob.digest).await {
            Ok(head) => Ok(head.is_some_and(|head| head.size_bytes.is_none_or(|size| size == blob.size_bytes))),
            Err(error) if matches!(error.status(), Some(400 | 403 | 405 | 501)) => Ok(false),
            Err(error) => Err(self.wrap(error)),
        }
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

    /// Pushes a blob, and where it may be there only when it is not.
    async fn push_blob(&self, content: Arc<dyn BlobSource>, ask: bool) -> Result<(Moved, u64), DistError> {
        let blob = content.descriptor().clone();
        let (name, size_bytes) = (shown(&blob), blob.size_bytes);
        let mut upload = self.repository.put_blob(content).check_first(ask);
        if let Some(from) = &self.mount_from {
            upload = upload.mount_from(from);
        }
        let begun = Arc::default();
        let progress = Progress { client: self.client.clone(), name: Arc::from(name), size_bytes, begun };
        let telling = progress.clone();
        let pushed = upload.on_sent(move |bytes| telling.sent(bytes)).send().await;
        let moved = match &pushed {
            Ok(PushedBlob::Existed) => Moved::Present,
            Ok(PushedBlob::Mounted) => Moved::Mounted,
            Ok(_) | Err(_) => Moved::Copied,
        };
        progress.ended(pushed.is_ok(), moved, self.mount_from.as_deref());
        pushed.map_err(|error| self.wrap(error))?;
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
    /// Whether bytes were sent.
    begun: Arc<AtomicBool>,
}

impl Progress {
    fn sent(&self, bytes: u64) {
        self.begun.store(true, Ordering::Relaxed);
        self.client.inner.reporter.event(&Event::Sent { reference: &self.name, bytes, total_bytes: self.size_bytes });
    }

    fn ended(&self, well: bool, moved: Moved, mount_from: Option<&str>) {
        let reference = &*self.name;
        self.client.inner.reporter.event(&match moved {
            _ if !well => Event::Failed { reference },
            // Somebody else, or an attempt whose answer was lost, may have brought it while it was sent.
            _ if self.begun.load(Ordering::Relaxed) => Event::Finished { reference, bytes: self.size_bytes },
            Moved::Present => Event::Skipped { reference, reason: SkipReason::Present },
            Moved::Mounted => Event::Mounted { reference, from: mount_from.unwrap_or_default() },
            Moved::Copied => Event::Finished { reference, bytes: self.size_bytes },
        });
    }
}

/// Whether a blob is the config of a manifest.
fn is_config(manifest: &ProvenManifest, blob: &Descriptor) -> bool {
    let ManifestKind::Image(image) = &manifest.kind else { return false };
    image.config.as_ref().is_some_and(|config| config.digest == blob.digest)
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
