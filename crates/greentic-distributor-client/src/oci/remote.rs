//! What a registry can be asked and told beside artifacts: lists, tags, deletion.

use greentic_dist_net::{Paged, RawManifest, ReferrersUpkeep, Repository, Selector};
use greentic_dist_types::{Digest, Reference, redact_reference};
use serde::Serialize;

use crate::dist::{DistClient, DistError};

/// Names of a registry, as many as were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// The names, in the registry's order.
    pub names: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// How much of a list is fetched, and in which portions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// At most so many names. Default: all of them.
    pub limit: Option<usize>,
    /// Names of a page, 1 to 1000. Default: what the registry likes, or the limit where that is small. Registries may send
    /// fewer or more.
    pub page_size: Option<u32>,
}

/// What a tag names now, and what it named before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TagReport {
    /// The reference the manifest was found by.
    pub reference: String,
    /// The manifest.
    pub digest: String,
    /// Its tags that were set.
    pub tags: Vec<String>,
    /// The ones of them that had named it already.
    pub unchanged: Vec<String>,
}

/// What is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "what", content = "name")]
#[non_exhaustive]
pub enum Deletion {
    /// A tag; the manifest it names stays.
    Tag(String),
    /// A manifest, and with it every tag that names it.
    Manifest(String),
}

impl DistClient {
    /// The tags of a repository. Tag and digest of the reference are not looked at.
    ///
    /// One request for each page; no page is asked for that is not needed. Cancel-safe.
    ///
    /// # Errors
    /// [`DistError::Network`]: not found for an unknown repository, otherwise by kind; [`DistError::Offline`].
    pub async fn tags(&self, repository: &Reference, options: &ListOptions) -> Result<Listing, DistError> {
        let shown = repository.name();
        let tags = self.inner.net(&shown)?.repository(repository).tags();
        listed(&shown, tags, options).await
    }

    /// The repositories of a registry (`host` or `host:port`). Most public registries keep this list
    /// to themselves.
    ///
    /// One request for each page; no page is asked for that is not needed. Cancel-safe.
    ///
    /// # Errors
    /// [`DistError::Network`] by kind: invalid input for what is no registry; [`DistError::Offline`].
    pub async fn catalog(&self, registry: &str, options: &ListOptions) -> Result<Listing, DistError> {
        let shown = redact_reference(registry);
        let net = self.inner.net(&shown)?;
        let handle = net.registry(registry).map_err(|error| DistError::from_net(&shown, error))?;
        listed(&shown, handle.catalog(), options).await
    }

    /// Gives a manifest of a registry more tags. A tag that names another manifest moves; one that names this one already is
    /// left alone.
    ///
    /// One request for the manifest, one for each tag, and one for each tag that changes. Not one step: when the future is
    /// dropped, some of the tags may be set.
    ///
    /// # Errors
    /// [`DistError::Network`] by kind; [`DistError::InvalidRef`] for what is no tag, before anything is sent.
    pub async fn tag(&self, reference: &Reference, tags: &[String]) -> Result<TagReport, DistError> {
        for tag in tags {
            let checked = Reference::new(reference.registry(), reference.repository(), Some(tag), None);
            checked.map_err(|error| DistError::from_reference(tag, error))?;
        }
        let shown = reference.to_string();
        let wrap = |error| DistError::from_net(&shown, error);
        let repository = self.inner.net(&shown)?.repository(reference).for_pushing().await.map_err(wrap)?;
        let found = repository.manifest(selector(reference)).await.map_err(wrap)?;
        let digest = found.digest;
        let mut unchanged = Vec::new();
        let mut missing = Vec::new();
        for tag in tags {
            if names(&repository, tag, digest).await.map_err(wrap)? {
                unchanged.push(tag.clone());
            } else {
                missing.push(tag.clone());
            }
        }
        if !missing.is_empty() {
            let raw = RawManifest::from(found);
            repository.put_manifest(&raw).tags(missing).send().await.map_err(wrap)?;
        }
        Ok(TagReport { digest: digest.to_string(), tags: tags.to_vec(), unchanged, reference: shown })
    }

    /// What [`DistClient::delete`] of this reference deletes: its tag, and only that, or with `manifest` the manifest it names
    /// and thereby all tags of it. One request for the digest of a tag, else none.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] when the reference has neither tag nor digest, or a digest without `manifest`;
    /// [`DistError::Network`] by kind.
    pub async fn deletion(&self, reference: &Reference, manifest: bool) -> Result<Deletion, DistError> {
        match (reference.tag(), reference.digest(), manifest) {
            (_, Some(digest), true) => Ok(Deletion::Manifest(digest.to_string())),
            (Some(tag), None, false) => Ok(Deletion::Tag(tag.to_owned())),
            (Some(tag), None, true) => {
                let shown = reference.to_string();
                let repository = self.inner.net(&shown)?.repository(reference).for_deleting();
                let head = repository.head_manifest(Selector::Tag(tag)).await;
                let head = head.map_err(|error| DistError::from_net(&shown, error))?;
                let digest = head.digest.ok_or_else(|| DistError::NotFound { reference: shown })?;
                Ok(Deletion::Manifest(digest.to_string()))
            }
            (_, Some(_), false) => Err(DistError::InvalidInput(format!(
                "`{reference}` is a digest: deleting a manifest removes all its tags, and has to be asked for as that"
            ))),
            (None, None, _) => Err(DistError::InvalidInput(format!(
                "`{reference}` names neither a tag nor a digest, and nothing is deleted by default"
            ))),
        }
    }

    /// Deletes a tag or a manifest, as [`DistClient::deletion`] says. Where a registry cannot delete a tag, its manifest is
    /// never deleted instead.
    ///
    /// # Errors
    /// [`DistError::Network`] by kind: not found, auth, and unsupported where deletion is switched off.
    pub async fn delete(&self, reference: &Reference, deletion: &Deletion) -> Result<(), DistError> {
        let shown = reference.to_string();
        let wrap = |error| DistError::from_net(&shown, error);
        let repository = self.inner.net(&shown)?.repository(reference);
        match deletion {
            Deletion::Tag(tag) => repository.delete_tag(tag).await.map_err(wrap),
            Deletion::Manifest(digest) => {
                let digest: Digest = digest.parse().map_err(|error: greentic_dist_types::ParseDigestError| {
                    DistError::InvalidInput(error.to_string())
                })?;
                let _kept_by: ReferrersUpkeep = repository.delete_manifest(&digest).await.map_err(wrap)?;
                Ok(())
            }
        }
    }
}

pub(super) fn selector(reference: &Reference) -> Selector<'_> {
    match reference.digest() {
        Some(digest) => Selector::Digest(digest),
        None => Selector::Tag(reference.tag_or_latest()),
    }
}

/// Whether a tag names a manifest.
async fn names(repository: &Repository, tag: &str, digest: Digest) -> Result<bool, greentic_dist_net::NetError> {
    match repository.head_manifest(Selector::Tag(tag)).await {
        Ok(head) => Ok(head.digest == Some(digest)),
        Err(error) if error.kind() == greentic_dist_net::NetErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn listed(shown: &str, pages: Paged<String>, options: &ListOptions) -> Result<Listing, DistError> {
    let limit = options.limit.unwrap_or(usize::MAX);
    // Not a name more than needed: registries that know the parameter stop there.
    let few = u32::try_from(limit).ok().filter(|limit| (1..=100).contains(limit));
    let pages = match options.page_size.or(few) {
        Some(entries) => pages.page_size(entries),
        None => pages,
    };
    let (names, more) = pages.first(limit).await.map_err(|error| DistError::from_net(shown, error))?;
    Ok(Listing { names, more })
}
