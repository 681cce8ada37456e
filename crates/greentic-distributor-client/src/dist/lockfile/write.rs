//! `lock`: what references mean now, written down; and whether they still mean it.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use greentic_dist_types::{Digest, LockEntry, Lockfile, SafeText, SourceRef, redact_reference};

use super::replace::replace_unchanged;
use super::{LoadedLock, OtherDigests, Wanted, load, resolve_text};
use crate::blocking;
use crate::dist::client::Inner;
use crate::dist::identity::{component_id_of_path, component_id_of_url};
use crate::dist::{ArtifactDescriptor, DistClient, DistError, many, source};

/// A lock file beside what its references mean now.
#[derive(Clone, Debug)]
pub struct LockReport {
    /// The file.
    pub path: PathBuf,
    /// The entries that were looked at, in file order; new ones at the end.
    pub changes: Vec<LockChange>,
    /// Whether the file was written. It is not when nothing changed, and not when any reference could not be resolved.
    pub written: bool,
}

/// One entry of a lock file, as it is and as it would be.
#[derive(Clone, Debug)]
pub struct LockChange {
    /// Position of the entry in the file, from 0.
    pub index: usize,
    /// The entry of the file; `None` for a new one.
    pub before: Option<LockEntry>,
    /// What the reference means now, or why nobody knows.
    pub after: Result<LockEntry, Arc<DistError>>,
    /// Whether the file says nothing that is not so.
    pub is_current: bool,
}

impl LockReport {
    /// Whether every entry is current.
    pub fn is_current(&self) -> bool {
        self.changes.iter().all(|change| change.is_current)
    }

    /// The entries whose reference could not be resolved.
    pub fn failed(&self) -> impl Iterator<Item = (&LockChange, &DistError)> {
        self.changes.iter().filter_map(|change| change.after.as_ref().err().map(|error| (change, error.as_ref())))
    }
}

impl LockChange {
    /// What is asked for: the reference of the entry, or its digest.
    pub fn subject(&self) -> String {
        match (&self.after, &self.before) {
            (Ok(entry), _) | (Err(_), Some(entry)) => entry.subject(),
            (Err(error), None) => error.reference().unwrap_or_default().to_owned(),
        }
    }
}

impl DistClient {
    /// Compares a lock file with what its references mean now: one request for each tag, no artifact is moved (but a URL, whose
    /// bytes are its only identity). Writes nothing. An entry that is only a digest cannot be out of date; one without a digest
    /// is.
    ///
    /// # Errors
    /// As [`DistClient::pull_lock_items`].
    pub async fn check_lock(&self, path: &Path) -> Result<LockReport, DistError> {
        let loaded = load(path).await?;
        let changes = look(&self.inner, &loaded, |_| true).await?;
        Ok(LockReport { path: loaded.path, changes, written: false })
    }

    /// Writes what the references of a lock file mean now: of the entries with one of these names or references, or of all where
    /// none is given. The file is replaced as a whole, or stays as it was.
    ///
    /// # Errors
    /// As [`DistClient::pull_lock_items`]; [`DistError::InvalidInput`] for a name that no entry has;
    /// [`DistError::LockOutOfDate`] when somebody else changed the file meanwhile.
    pub async fn update_lock(&self, path: &Path, names: &[String]) -> Result<LockReport, DistError> {
        let mut loaded = load(path).await?;
        let is_meant = |entry: &LockEntry, name: &String| {
            entry.name.as_ref() == Some(name) || entry.reference.as_ref() == Some(name)
        };
        for name in names {
            if !loaded.lock.entries.iter().any(|entry| is_meant(entry, name)) {
                let (name, path) = (SafeText::new(&redact_reference(name)), loaded.shown());
                return Err(DistError::InvalidInput(format!(
                    "`{path}` has no entry with the name or reference `{name}`"
                )));
            }
        }
        let selected = |entry: &LockEntry| names.is_empty() || names.iter().any(|name| is_meant(entry, name));
        let changes = look(&self.inner, &loaded, selected).await?;
        let written = write(&mut loaded, &changes).await?;
        Ok(LockReport { path: loaded.path, changes, written })
    }

    /// Adds references to a lock file, which is created where there is none. A reference that is already there is updated; so is
    /// the entry called `name`, which gets the new reference. Paths are written as seen from the directory of the file, pinned
    /// image indexes as the manifest that was chosen. The file is replaced as a whole, or stays as it was.
    ///
    /// # Errors
    /// As [`DistClient::update_lock`]; [`DistError::InvalidInput`] for a name with several references.
    pub async fn add_to_lock(
        &self,
        path: &Path,
        references: &[String],
        name: Option<&str>,
    ) -> Result<LockReport, DistError> {
        if name.is_some() && references.len() != 1 {
            return Err(DistError::InvalidInput("a name goes with exactly one reference".to_owned()));
        }
        let mut loaded = match load(path).await {
            Err(DistError::NotFound { .. }) => {
                LoadedLock { path: path.to_owned(), lock: Lockfile::default(), bytes: Vec::new() }
            }
            other => other?,
        };
        let mut new = loaded.lock.entries.len();
        let mut targets: Vec<(usize, LockEntry)> = Vec::with_capacity(references.len());
        for reference in references {
            let reference = to_lock_dir(&loaded.path, reference)?;
            if redact_reference(&reference) != reference {
                self.inner.warn("a reference has a query or a login, which is written into the lock file as it is");
            }
            let known = loaded.lock.entries.iter().position(|entry| match name {
                Some(name) => entry.name.as_deref() == Some(name),
                None => entry.subject() == reference,
            });
            let mut entry = known.and_then(|known| loaded.lock.entries.get(known).cloned()).unwrap_or_default();
            entry.reference = Some(reference);
            entry.name = name.map(ToOwned::to_owned).or(entry.name);
            if let Some((_, same)) = targets.iter_mut().find(|(_, other)| other.reference == entry.reference) {
                *same = entry;
                continue;
            }
            let index = known.unwrap_or_else(|| {
                new += 1;
                new - 1
            });
            targets.push((index, entry));
        }
        targets.sort_by_key(|(index, _)| *index);
        let looked = ask(&self.inner, &loaded.path, targets).await?;
        let changes: Vec<LockChange> = looked
            .into_iter()
            .map(|change| {
                let before = loaded.lock.entries.get(change.index).cloned();
                LockChange { is_current: change.is_current && before.is_some(), before, ..change }
            })
            .collect();
        let written = write(&mut loaded, &changes).await?;
        Ok(LockReport { path: loaded.path, changes, written })
    }
}

/// Asks what the selected entries mean now.
async fn look(
    inner: &Arc<Inner>,
    loaded: &LoadedLock,
    selected: impl Fn(&LockEntry) -> bool,
) -> Result<Vec<LockChange>, DistError> {
    let entries = loaded.lock.entries.iter().cloned().enumerate().filter(|(_, entry)| selected(entry)).collect();
    ask(inner, &loaded.path, entries).await
}

async fn ask(inner: &Arc<Inner>, lock: &Path, entries: Vec<(usize, LockEntry)>) -> Result<Vec<LockChange>, DistError> {
    // All of them are checked before anybody is asked.
    let tasks = entries
        .iter()
        .map(|(_, entry)| Ok((Arc::clone(inner), Wanted::of(lock, entry)?, entry.clone())))
        .collect::<Result<Vec<_>, DistError>>()?;
    let answers =
        many::in_order(tasks, |(inner, wanted, entry)| async move { meaning(&inner, &wanted, &entry).await }).await;
    let changes = entries.into_iter().zip(answers).map(|((index, entry), answer)| {
        let answer = answer.unwrap_or(Err(DistError::Cancelled));
        let is_current = matches!(&answer, Ok((_, true)));
        LockChange { index, before: Some(entry), after: answer.map(|(now, _)| now).map_err(Arc::new), is_current }
    });
    Ok(changes.collect())
}

/// What an entry means now, and whether what it says is still so.
async fn meaning(inner: &Arc<Inner>, wanted: &Wanted, entry: &LockEntry) -> Result<(LockEntry, bool), DistError> {
    let Some(reference) = &wanted.reference else { return Ok((entry.clone(), true)) };
    let descriptor = resolve_text(inner, reference).await?;
    let others = OtherDigests::of(inner, &descriptor).await?;
    let parsed = source::classify(reference)?;
    let mut now = LockEntry {
        name: entry.name.clone().or_else(|| Some(name_of(&parsed, &descriptor))),
        digest: descriptor.digest.parse().ok(),
        content_digest: others.content,
        size_bytes: Some(descriptor.size_bytes),
        media_type: Some(descriptor.media_type.clone()),
        ..entry.clone()
    };
    match parsed {
        // Nothing but the digest is known of it.
        SourceRef::Digest(_) => now.reference = None,
        // An index leads to different manifests on different machines; the one that was chosen is what is locked.
        SourceRef::Oci(pinned) if pinned.digest().is_some_and(|pin| now.digest != Some(pin)) => {
            now.reference = Some(descriptor.canonical_ref.clone());
        }
        _ => {}
    }
    let is_current = entry.digest.is_some_and(|locked| others.name(locked, &descriptor, reference))
        && still(entry.content_digest.as_ref(), now.content_digest.as_ref())
        && still(entry.size_bytes.as_ref(), now.size_bytes.as_ref())
        && still(entry.media_type.as_ref(), now.media_type.as_ref());
    Ok((now, is_current))
}

/// What was not written down cannot be wrong.
fn still<T: PartialEq>(before: Option<&T>, now: Option<&T>) -> bool {
    before.is_none() || before == now
}

/// A name for a new entry: the last part of the repository, or the stem of a file or URL.
fn name_of(source: &SourceRef, descriptor: &ArtifactDescriptor) -> String {
    match source {
        SourceRef::File(path) | SourceRef::Bare(path) => component_id_of_path(Path::new(path)),
        SourceRef::Url(url) => {
            url.parse().map_or_else(|_| "http-component".to_owned(), |url| component_id_of_url(&url))
        }
        _ => match SourceRef::parse(&descriptor.canonical_ref) {
            Ok(SourceRef::Oci(reference)) => {
                reference.repository().rsplit('/').next().unwrap_or_else(|| reference.repository()).to_owned()
            }
            _ => descriptor.digest.parse().map_or_else(|_| descriptor.digest.clone(), |digest: Digest| digest.short()),
        },
    }
}

/// Puts the changes into the file, when all of them are known and there are any.
async fn write(loaded: &mut LoadedLock, changes: &[LockChange]) -> Result<bool, DistError> {
    let mut entries = loaded.lock.entries.clone();
    for change in changes {
        let Ok(after) = &change.after else { return Ok(false) };
        match entries.get_mut(change.index) {
            Some(entry) => *entry = after.clone(),
            None => entries.push(after.clone()),
        }
    }
    if entries == loaded.lock.entries && !loaded.bytes.is_empty() {
        return Ok(false);
    }
    loaded.lock.entries = entries;
    let text = loaded.lock.to_json().map_err(DistError::Serde)?;
    let (path, read) = (loaded.path.clone(), std::mem::take(&mut loaded.bytes));
    blocking::run(move || replace_unchanged(&path, &read, text.as_bytes())).await?;
    Ok(true)
}

/// A reference as it is written into a lock file: paths as seen from the directory of the file, unless they are absolute.
fn to_lock_dir(lock: &Path, reference: &str) -> Result<String, DistError> {
    let path = match source::classify(reference)? {
        SourceRef::File(path) if Path::new(&path).is_relative() => path,
        _ => return Ok(reference.to_owned()),
    };
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => DistError::NotFound { reference: path.display().to_string() },
        _ => DistError::io(path, error),
    };
    let dir = lock.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Real directories, so that `..` means what it says.
    let dir = dir.canonicalize().map_err(|error| failed(dir, error))?;
    let file = Path::new(&path);
    let beside = file.parent().filter(|beside| !beside.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = beside.canonicalize().map_err(|error| failed(file, error))?;
    let shared = dir.components().zip(beside.components()).take_while(|(left, right)| left == right).count();
    let mut parts: Vec<Component<'_>> = dir.components().skip(shared).map(|_| Component::ParentDir).collect();
    if parts.is_empty() {
        parts.push(Component::CurDir);
    }
    parts.extend(beside.components().skip(shared));
    parts.extend(file.file_name().map(Component::Normal));
    let relative: PathBuf = parts.into_iter().collect();
    let relative = relative.into_os_string().into_string().map_err(|_not_unicode| {
        DistError::InvalidInput(format!("`{}` lies in a directory whose name is not UTF-8", SafeText::new(&path)))
    })?;
    Ok(if cfg!(windows) { relative.replace('\\', "/") } else { relative })
}
