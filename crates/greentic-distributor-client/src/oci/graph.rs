//! What belongs to an artifact: its manifests, their children, what refers to them. Found before anything is moved.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use greentic_dist_net::{BlobRequest, BlobSource, BoxFuture, Limit, Limits, RateLimit, same_operation};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, PlatformChoice, SafeText, media_type, select_exactly};
use tokio::task::JoinSet;

use crate::dist::{DistError, DistErrorKind};

/// Questions about manifests at a time.
pub(crate) const QUESTIONS: usize = 8;
/// What cosign and its peers append to the name they derive from a digest.
const ATTACHED: [&str; 3] = ["sig", "att", "sbom"];

/// A manifest with its bytes, proven against its digest.
#[derive(Clone, Debug)]
pub(crate) struct ProvenManifest {
    pub(crate) raw: Bytes,
    pub(crate) digest: Digest,
    /// What whoever led here calls it, else the type its body says or has the shape of.
    pub(crate) media_type: String,
    pub(crate) kind: ManifestKind,
}

/// A manifest and the name it has in a layout's index.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) descriptor: Descriptor,
    pub(crate) name: Option<String>,
}

/// Whether a source could say what refers to a manifest. None is an answer, silence is not.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Found(Vec<Descriptor>),
    CouldNotAsk(SafeText),
}

/// Where an artifact is copied from. Cheap to share among tasks.
pub(crate) trait Source: Send + Sync + fmt::Debug {
    /// What the place names.
    fn root(&self) -> BoxFuture<'_, Result<ProvenManifest, DistError>>;
    /// The manifest a descriptor names; it has the descriptor's digest, size and media type.
    fn manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<ProvenManifest, DistError>>;
    /// The manifest a tag of the same place names.
    fn tagged<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<Option<ProvenManifest>, DistError>>;
    /// The manifests whose subject this is.
    fn referrers(&self, subject: Digest) -> BoxFuture<'_, Result<Asked, DistError>>;

    /// What it said last about its limit of requests.
    fn rate_limit(&self) -> Option<RateLimit> {
        None
    }
    /// Content, to be read as often as needed.
    fn blob(&self, descriptor: &Descriptor) -> Arc<dyn BlobSource>;

    /// The same content as a request, where it comes from a registry.
    fn request(&self, descriptor: &Descriptor) -> Option<BlobRequest> {
        let _ = descriptor;
        None
    }
}

/// One manifest of a [`Graph`].
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) manifest: ProvenManifest,
    pub(crate) role: Role,
}

/// Why a manifest belongs to an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is what was asked for.
    Root,
    /// An index names it.
    Child,
    /// It refers to another manifest by its subject.
    Referrer,
    /// Its tag is derived from another manifest's digest.
    Attached(String),
}

/// Everything that belongs to an artifact. Children come before their index, and what is referred to before what refers.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) root: Digest,
    pub(crate) nodes: Vec<Node>,
    /// Why nobody knows whether something refers to the artifact, where that could not be asked.
    pub(crate) could_not_ask: Option<SafeText>,
    /// What stands in a list of what refers to it, or has a name by which it does, and is not there: digests and tags.
    pub(crate) gone: BTreeSet<String>,
}

/// How much may belong to an artifact, and what errors about that name.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// The place.
    pub(crate) shown: String,
    pub(crate) limits: Limits,
}

impl Bounds {
    fn exceeded(&self, limit: Limit) -> DistError {
        DistError::from_net(&self.shown, self.limits.exceeded(limit))
    }

    /// Refuses manifests that are too many, or too much.
    fn check(&self, count: usize, bytes: u64) -> Result<(), DistError> {
        if count > self.limits.copy_manifests {
            return Err(self.exceeded(Limit::CopyManifests));
        }
        if bytes > self.limits.copy_manifest_bytes {
            return Err(self.exceeded(Limit::CopyManifestBytes));
        }
        Ok(())
    }
}

/// The manifests that are held at a time, of all subjects together: those of the artifact, and those that are not sorted out yet.
#[derive(Debug)]
struct Budget {
    bounds: Bounds,
    /// Manifests, and their bytes.
    held: Mutex<(usize, u64)>,
}

impl Budget {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, held: Mutex::new((0, 0)) }
    }

    /// Takes room for one more; refused where there is none.
    fn take(&self, bytes: u64) -> Result<(), DistError> {
        let mut held = self.lock();
        let after = (held.0 + 1, held.1.saturating_add(bytes));
        self.bounds.check(after.0, after.1)?;
        *held = after;
        Ok(())
    }

    /// Refuses what there would be no room for.
    fn check(&self, wanted: &[Descriptor]) -> Result<(), DistError> {
        let (count, bytes) = *self.lock();
        let bytes = wanted.iter().fold(bytes, |bytes, one| bytes.saturating_add(one.size_bytes));
        self.bounds.check(count + wanted.len(), bytes)
    }

    fn give_back(&self, count: usize, bytes: u64) {
        let mut held = self.lock();
        *held = (held.0.saturating_sub(count), held.1.saturating_sub(bytes));
    }

    fn lock(&self) -> MutexGuard<'_, (usize, u64)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvenManifest {
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.raw.len() as u64)
    }

    /// Config and layers, but those that registries do not keep.
    pub(crate) fn blobs(&self) -> Vec<&Descriptor> {
        let ManifestKind::Image(image) = &self.kind else { return Vec::new() };
        let all = image.config.iter().chain(&image.layers);
        all.filter(|blob| !media_type::is_non_distributable(&blob.media_type)).collect()
    }

    /// As an entry of a layout's index.
    pub(crate) fn named(&self, name: Option<&str>) -> Named {
        let mut descriptor = self.descriptor();
        descriptor.artifact_type = self.kind.artifact_type().map(ToOwned::to_owned);
        Named { descriptor, name: name.map(ToOwned::to_owned) }
    }

    fn children(&self) -> &[Descriptor] {
        match &self.kind {
            ManifestKind::Index(index) => &index.manifests,
            ManifestKind::Image(_) => &[],
        }
    }
}

/// The manifest another one refers to.
pub(crate) fn subject_of(kind: &ManifestKind) -> Option<Digest> {
    kind.subject().map(|subject| subject.digest)
}

/// The tag under which registries without a referrers API keep what refers to a manifest (distribution-spec, "Referrers Tag
/// Schema").
pub(crate) fn referrers_tag(digest: Digest) -> String {
    let hex = digest.to_hex();
    format!("{}-{}", digest.algorithm(), hex.get(..64).unwrap_or(&hex))
}

impl Graph {
    /// Finds everything that belongs to what a source names.
    ///
    /// With a platform, an index is narrowed to its one manifest. Cancel-safe.
    ///
    /// # Errors
    /// The source's; [`DistError::Network`] with the limit for indexes nested too deeply and for more manifests than are taken.
    pub(crate) async fn find(
        source: &Arc<dyn Source>,
        bounds: Bounds,
        platform: Option<&PlatformChoice>,
        with_referrers: bool,
    ) -> Result<Self, DistError> {
        let mut root = source.root().await?;
        if let Some(platform) = platform {
            root = narrow(source, &bounds, root, platform).await?;
        }
        let source = Arc::clone(source);
        let budget = Arc::new(Budget::new(bounds));
        let mut finder = Finder { source, budget, found: HashMap::new(), gone: BTreeSet::new() };
        let digest = root.digest;
        finder.close(vec![(root, Role::Root)]).await?;
        let mut could_not_ask = None;
        if with_referrers {
            could_not_ask = finder.attach(digest).await?;
        }
        Ok(Self { root: digest, nodes: ordered(&finder.found, digest), could_not_ask, gone: finder.gone })
    }

    /// Every blob of every manifest, each once, sorted by digest.
    pub(crate) fn blobs(&self) -> BTreeMap<Digest, Descriptor> {
        let all = self.nodes.iter().flat_map(|node| node.manifest.blobs());
        all.map(|blob| (blob.digest, blob.clone())).collect()
    }

    /// The manifest that was asked for.
    pub(crate) fn root_manifest(&self) -> Option<&ProvenManifest> {
        self.nodes.iter().map(|node| &node.manifest).find(|manifest| manifest.digest == self.root)
    }
}

/// Goes down through indexes to the manifest of a platform.
async fn narrow(
    source: &Arc<dyn Source>,
    bounds: &Bounds,
    root: ProvenManifest,
    platform: &PlatformChoice,
) -> Result<ProvenManifest, DistError> {
    let mut current = root;
    let mut depth = 0;
    loop {
        let ManifestKind::Index(index) = &current.kind else { return Ok(current) };
        depth += 1;
        if depth > bounds.limits.index_depth {
            return Err(bounds.exceeded(Limit::IndexDepth));
        }
        let chosen = select_exactly(index, platform)
            .map_err(|source| DistError::Selection { reference: current.digest.to_string(), source })?
            .clone();
        current = source.manifest(&chosen).await?;
    }
}

/// What was found so far.
struct Finder {
    source: Arc<dyn Source>,
    budget: Arc<Budget>,
    found: HashMap<Digest, Node>,
    gone: BTreeSet<String>,
}

impl Finder {
    /// Adds manifests and all their children, level by level.
    async fn close(&mut self, starts: Vec<(ProvenManifest, Role)>) -> Result<(), DistError> {
        let mut level = starts;
        let mut depth = 0;
        loop {
            let mut wanted: Vec<Descriptor> = Vec::new();
            for (manifest, role) in level {
                if self.found.contains_key(&manifest.digest) {
                    continue;
                }
                wanted.extend(manifest.children().iter().cloned());
                self.add(manifest, role)?;
            }
            let mut seen: HashSet<Digest> = self.found.keys().copied().collect();
            wanted.retain(|child| seen.insert(child.digest));
            if wanted.is_empty() {
                return Ok(());
            }
            depth += 1;
            if depth > self.budget.bounds.limits.index_depth {
                return Err(self.budget.bounds.exceeded(Limit::IndexDepth));
            }
            // Refused before any of them is asked for.
            self.budget.check(&wanted)?;
            let source = Arc::clone(&self.source);
            let fetched = gather(wanted, QUESTIONS, move |child| {
                let source = Arc::clone(&source);
                async move { source.manifest(&child).await }
            });
            level = fetched.await?.into_iter().map(|manifest| (manifest, Role::Child)).collect();
        }
    }

    fn add(&mut self, manifest: ProvenManifest, role: Role) -> Result<(), DistError> {
        self.budget.take(manifest.raw.len() as u64)?;
        self.found.insert(manifest.digest, Node { manifest, role });
        Ok(())
    }

    /// Adds what refers to the manifests that are there, and what refers to that. Returns why it could not be asked.
    async fn attach(&mut self, root: Digest) -> Result<Option<SafeText>, DistError> {
        let mut silent = None;
        let mut asked: HashSet<Digest> = HashSet::new();
        let mut steps = 0;
        loop {
            let ask: Vec<Digest> = ordered(&self.found, root)
                .iter()
                .filter(|node| !matches!(node.role, Role::Attached(_)))
                .map(|node| node.manifest.digest)
                .filter(|digest| asked.insert(*digest))
                .collect();
            if ask.is_empty() {
                return Ok(silent);
            }
            if steps > self.budget.bounds.limits.referrer_depth {
                return Err(self.budget.bounds.exceeded(Limit::ReferrerDepth));
            }
            steps += 1;
            let (source, budget) = (Arc::clone(&self.source), Arc::clone(&self.budget));
            let answers = gather(ask, QUESTIONS, move |digest| {
                let (source, budget) = (Arc::clone(&source), Arc::clone(&budget));
                async move { around(&source, &budget, digest).await }
            });
            for answer in answers.await? {
                answer.release(&self.budget);
                if let Some(why) = answer.silence {
                    silent.get_or_insert(why);
                }
                self.gone.extend(answer.gone);
                let referrers = answer.referrers.into_iter().map(|manifest| (manifest, Role::Referrer));
                let attached = answer.attached.into_iter().map(|(tag, manifest)| (manifest, Role::Attached(tag)));
                let starts = referrers.chain(attached).collect();
                self.close(starts).await?;
            }
        }
    }
}

/// Children before their index, the subject before what refers to it; apart from that by digest, so that the same content gives the
/// same order.
fn ordered(found: &HashMap<Digest, Node>, root: Digest) -> Vec<Node> {
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    visit(found, root, &mut seen, &mut order);
    let mut rest: Vec<&Node> = found.values().filter(|node| node.role != Role::Child).collect();
    rest.sort_by_key(|node| node.manifest.digest);
    for node in &rest {
        visit(found, node.manifest.digest, &mut seen, &mut order);
    }
    order
}

/// Adds a manifest after everything it names. Digests make cycles impossible: no manifest can name one that names it. How long a
/// chain is decides whoever published it, so that none of it stands on the stack of this thread.
fn visit(found: &HashMap<Digest, Node>, start: Digest, seen: &mut HashSet<Digest>, order: &mut Vec<Node>) {
    let mut waiting = vec![(start, false)];
    while let Some((digest, is_ready)) = waiting.pop() {
        let Some(node) = found.get(&digest) else { continue };
        if is_ready {
            order.push(node.clone());
        } else if seen.insert(digest) {
            waiting.push((digest, true));
            waiting.extend(node.manifest.children().iter().rev().map(|child| (child.digest, false)));
            waiting.extend(subject_of(&node.manifest.kind).map(|subject| (subject, false)));
        }
    }
}

/// What stands around one manifest.
struct Around {
    referrers: Vec<ProvenManifest>,
    attached: Vec<(String, ProvenManifest)>,
    silence: Option<SafeText>,
    gone: Vec<String>,
}

impl Around {
    /// Gives back the room of its manifests, to be taken again by those that are kept.
    fn release(&self, budget: &Budget) {
        let all = || self.referrers.iter().chain(self.attached.iter().map(|(_, manifest)| manifest));
        budget.give_back(all().count(), all().fold(0, |sum: u64, one| sum.saturating_add(one.raw.len() as u64)));
    }
}

/// Finds what stands around one manifest. What it holds of that is taken from the budget that all subjects share.
async fn around(source: &Arc<dyn Source>, budget: &Budget, subject: Digest) -> Result<Around, DistError> {
    let mut around = Around { referrers: Vec::new(), attached: Vec::new(), silence: None, gone: Vec::new() };
    match source.referrers(subject).await? {
        Asked::Found(mut entries) => {
            let mut seen = HashSet::new();
            entries.retain(|entry| seen.insert(entry.digest));
            let bytes = entries.iter().fold(0, |sum: u64, one| sum.saturating_add(one.size_bytes));
            budget.bounds.check(entries.len(), bytes)?;
            for entry in entries {
                budget.take(entry.size_bytes)?;
                match if_there(source.manifest(&entry).await)? {
                    Some(manifest) if subject_of(&manifest.kind) == Some(subject) => {
                        around.referrers.push(manifest);
                        continue;
                    }
                    // What does not say that it refers to the subject is somebody's mistake, not a referrer.
                    Some(_) => {}
                    None => around.gone.push(entry.digest.to_string()),
                }
                budget.give_back(1, entry.size_bytes);
            }
        }
        Asked::CouldNotAsk(why) => around.silence = Some(why),
    }
    let tag = referrers_tag(subject);
    for suffix in ATTACHED {
        let tag = format!("{tag}.{suffix}");
        match if_there(source.tagged(&tag).await)? {
            Some(Some(manifest)) => {
                // Nobody knows how large it is before it is there: those that are on their way are not counted.
                budget.take(manifest.raw.len() as u64)?;
                around.attached.push((tag, manifest));
            }
            Some(None) => {}
            None => around.gone.push(tag),
        }
    }
    Ok(around)
}

/// What was listed, unless it is not there: lists of what refers to something outlive what they list. Whatever else went wrong
/// leaves open whether it is there.
fn if_there<T>(listed: Result<T, DistError>) -> Result<Option<T>, DistError> {
    match listed {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == DistErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does the same with each of several things, a few at a time, and returns the results in their order.
pub(crate) async fn gather<T, R, F>(items: Vec<T>, at_once: usize, work: impl Fn(T) -> F) -> Result<Vec<R>, DistError>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, DistError>> + Send + 'static,
{
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut items = items.into_iter().enumerate();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < at_once {
            let Some((position, item)) = items.next() else { break };
            let working = work(item);
            tasks.spawn(same_operation(async move { (position, working.await) }));
        }
        let Some(joined) = tasks.join_next().await else { break };
        match joined {
            Ok((position, result)) => {
                if let Some(slot) = results.get_mut(position) {
                    *slot = Some(result?);
                }
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => return Err(DistError::Cancelled),
            },
        }
    }
    results.into_iter().map(|slot| slot.ok_or(DistError::Cancelled)).collect()
}

#[cfg(test)]
mod tests {
    use greentic_dist_types::{Index, media_type};

    use super::*;

    fn named(text: &str) -> Descriptor {
        Descriptor::new(media_type::OCI_INDEX, Digest::sha256(text.as_bytes()), 1)
    }

    /// An index of this name, with a subject and children.
    fn node(name: &str, subject: Option<&str>, children: &[&str]) -> (Digest, Node) {
        let mut index = Index::new(children.iter().map(|child| named(child)).collect());
        index.subject = subject.map(|subject| Box::new(named(subject)));
        let Descriptor { digest, media_type, .. } = named(name);
        let manifest = ProvenManifest { raw: Bytes::new(), digest, media_type, kind: ManifestKind::Index(index) };
        (digest, Node { manifest, role: Role::Child })
    }

    #[test]
    fn what_is_named_comes_before_what_names_it() {
        let mut found = HashMap::from([
            node("root", Some("subject"), &["b", "a", "shared", "absent"]),
            node("subject", None, &["shared"]),
            node("a", Some("b"), &[]),
            node("b", None, &["shared"]),
            node("shared", None, &[]),
        ]);
        let (digest, mut referrer) = node("referrer", Some("root"), &[]);
        referrer.role = Role::Referrer;
        found.insert(digest, referrer);
        let order: Vec<Digest> =
            ordered(&found, named("root").digest).iter().map(|node| node.manifest.digest).collect();
        assert_eq!(order, ["shared", "subject", "b", "a", "root", "referrer"].map(|name| named(name).digest));
    }

    #[test]
    fn a_chain_of_subjects_of_any_length_is_put_in_order() {
        const LENGTH: usize = 50_000;
        let names: Vec<String> = (0..LENGTH).map(|number| number.to_string()).collect();
        let subject = |number: usize| number.checked_sub(1).map(|before| names[before].as_str());
        let found = (0..LENGTH).map(|number| node(&names[number], subject(number), &[])).collect();
        let order = ordered(&found, named(&names[LENGTH - 1]).digest);
        assert_eq!(order.len(), LENGTH);
        assert_eq!(order[0].manifest.digest, named(&names[0]).digest);
    }
}
