//! `pull --lock`: every entry of a lock file brought into the cache, or the reason why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_types::LockEntry;

use super::{OtherDigests, Wanted, firsts, load, resolve_text};
use crate::dist::client::Inner;
use crate::dist::{DistClient, DistError, ResolvedArtifact, fetch, many};

/// How strictly a lock file is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// A digest that is in the cache is used without asking anybody. A reference that must be asked and no longer means the
    /// locked digest is an integrity failure. An entry without a digest is whatever its reference means now.
    #[default]
    Pinned,
    /// Every entry must have a digest, and every reference must still mean it, also where the artifact is in the cache: one
    /// request for each tag. Anything else is [`DistError::LockOutOfDate`]. Offline nobody can be asked, and only the digests
    /// are demanded.
    Locked,
}

/// What became of a lock file.
#[derive(Clone, Debug)]
pub struct LockPull {
    /// The file.
    pub path: PathBuf,
    /// One item for each entry, in file order.
    pub items: Vec<LockPullItem>,
}

/// What became of one entry of a lock file.
#[derive(Clone, Debug)]
pub struct LockPullItem {
    /// Position of the entry in the file, from 0.
    pub index: usize,
    /// The entry as the file has it.
    pub entry: LockEntry,
    /// The artifact, or why there is none. Equal entries share one outcome.
    pub result: Result<ResolvedArtifact, Arc<DistError>>,
}

impl LockPull {
    /// The items that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&LockPullItem, &DistError)> {
        self.items.iter().filter_map(|item| item.result.as_ref().err().map(|error| (item, error.as_ref())))
    }

    /// The artifacts in file order, or the first failure.
    ///
    /// # Errors
    /// That of the first entry that failed.
    pub fn into_artifacts(self) -> Result<Vec<ResolvedArtifact>, DistError> {
        let mut artifacts = Vec::with_capacity(self.items.len());
        let mut first = None;
        for item in self.items {
            match item.result {
                Ok(artifact) => artifacts.push(artifact),
                Err(error) if first.is_none() => first = Some(error),
                // Those of equal entries go here, which leaves the first one alone with its error.
                Err(_) => {}
            }
        }
        match first {
            None => Ok(artifacts),
            Some(error) => Err(Arc::into_inner(error).unwrap_or(DistError::Cancelled)),
        }
    }
}

impl DistClient {
    /// Pulls every entry of a lock file, up to 32 at once, equal ones once; the artifacts come in file order.
    ///
    /// The whole file is checked before anything is asked for. One failure does not stop the others: what they brought is in
    /// the cache when this returns; [`DistClient::pull_lock_items`] tells all outcomes. Relative paths are meant from the
    /// directory of the file. Cancel-safe as [`DistClient::fetch`].
    ///
    /// # Errors
    /// [`DistError::NotFound`] for a missing file, [`DistError::InvalidLock`] for one that cannot be believed; else that of the
    /// first entry that failed.
    pub async fn pull_lock(&self, path: &Path) -> Result<Vec<ResolvedArtifact>, DistError> {
        self.pull_lock_items(path, LockMode::Pinned).await?.into_artifacts()
    }

    /// [`DistClient::pull_lock`] with a choice of strictness, and with the outcome of every entry.
    ///
    /// # Errors
    /// [`DistError::NotFound`] for a missing file, [`DistError::InvalidLock`] for one that cannot be believed,
    /// [`DistError::InvalidRef`] or [`DistError::InvalidInput`] for an entry this client can never take. Nothing was asked for
    /// then.
    pub async fn pull_lock_items(&self, path: &Path, mode: LockMode) -> Result<LockPull, DistError> {
        let loaded = load(path).await?;
        let wanted = loaded.wanted()?;
        // All of them are to be there when this returns, whatever the cap says.
        let _together = self.inner.holds.group();
        let firsts = firsts(&wanted);
        let shown: Arc<str> = loaded.shown().into();
        let tasks = wanted.into_iter().enumerate().filter(|(position, _)| firsts.get(*position) == Some(position)).map(
            |(index, wanted)| Task { inner: Arc::clone(&self.inner), lock: Arc::clone(&shown), index, wanted, mode },
        );
        let mut brought =
            many::in_order(tasks, |task| async move { (task.index, task.pull().await) }).await.into_iter();
        let mut items: Vec<LockPullItem> = Vec::with_capacity(loaded.lock.entries.len());
        for (index, entry) in loaded.lock.entries.into_iter().enumerate() {
            let first = firsts.get(index).copied().unwrap_or(index);
            let result = match items.get(first) {
                Some(same) => same.result.clone().map(|mut artifact| {
                    artifact.fetched = false;
                    artifact
                }),
                None => match brought.next().flatten() {
                    Some((_, result)) => result.map_err(Arc::new),
                    None => Err(Arc::new(DistError::Cancelled)),
                },
            };
            items.push(LockPullItem { index, entry, result });
        }
        Ok(LockPull { path: loaded.path, items })
    }
}

/// One entry on its way.
struct Task {
    inner: Arc<Inner>,
    lock: Arc<str>,
    index: usize,
    wanted: Wanted,
    mode: LockMode,
}

impl Task {
    async fn pull(&self) -> Result<ResolvedArtifact, DistError> {
        let inner = &self.inner;
        let subject = self.wanted.subject();
        let locked = self.mode == LockMode::Locked;
        let Some(digest) = self.wanted.digest else {
            if locked {
                return Err(self.out_of_date(&format!("`{}` has no digest", self.wanted.shown())));
            }
            let descriptor = resolve_text(inner, &subject).await?;
            return self.expect_content(fetch::fetch(inner, &descriptor).await?);
        };
        let offline = inner.is_offline(false);
        let ask = locked && !offline;
        if !ask && let Some(hit) = fetch::open_whole(inner, digest, &self.wanted.shown(), offline).await? {
            // Nor is what was here already to go while the others come.
            let _kept = hit.digest.parse().ok().map(|pin| inner.holds.hold(pin));
            return self.expect_content(hit);
        }
        let descriptor = resolve_text(inner, &subject).await?;
        if let Some(reference) = &self.wanted.reference
            && !OtherDigests::of(inner, &descriptor).await?.name(digest, &descriptor, reference)
        {
            let moved = format!("`{}` is locked to {digest} and now means {}", self.wanted.shown(), descriptor.digest);
            return Err(if locked { self.out_of_date(&moved) } else { self.corrupt(&moved) });
        }
        self.expect_content(fetch::fetch(inner, &descriptor).await?)
    }

    fn expect_content(&self, artifact: ResolvedArtifact) -> Result<ResolvedArtifact, DistError> {
        match self.wanted.content_digest {
            Some(locked) if artifact.content_digest() != locked.to_string() => Err(self.corrupt(&format!(
                "its bytes are locked to {locked}, and {} has the bytes {}",
                artifact.digest,
                artifact.content_digest()
            ))),
            _ => Ok(artifact),
        }
    }

    fn out_of_date(&self, reason: &str) -> DistError {
        DistError::LockOutOfDate { path: self.lock.to_string(), reason: format!("entry {}: {reason}", self.index) }
    }

    fn corrupt(&self, reason: &str) -> DistError {
        DistError::CorruptArtifact {
            reference: self.wanted.shown(),
            reason: format!("entry {} of `{}`: {reason}", self.index, self.lock),
        }
    }
}
