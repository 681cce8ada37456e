//! Names wherever they are: the tags of a repository, and the names in the index of a layout.

use std::path::Path;

use greentic_dist_types::{Digest, SafeText};

use super::layout::{DirWriter, Layout};
use super::place::is_name;
use super::{Deletion, ListOptions, Listing, Place, PlaceKind, TagReport};
use crate::blocking;
use crate::dist::{DistClient, DistError};

impl DistClient {
    /// The tags of the repository of a place, or the names in the index of a layout, each once and in its order, those that carry
    /// signatures among them. Tag and digest of the place are not looked at. Of a layout only the limit of `options` counts.
    ///
    /// Requests as of [`DistClient::tags`], of a layout none. Cancel-safe.
    ///
    /// # Errors
    /// As [`DistClient::tags`]; [`DistError::Layout`] by kind.
    pub async fn tags_at(&self, place: &Place, options: &ListOptions) -> Result<Listing, DistError> {
        let (path, is_archive) = match &place.kind {
            PlaceKind::Registry(repository) => return self.tags(repository, options).await,
            PlaceKind::Layout { path, .. } => (path.clone(), false),
            PlaceKind::Archive { path, .. } => (path.clone(), true),
        };
        let open = move || Ok(if is_archive { Layout::open_archive(&path)? } else { Layout::open_dir(&path)? });
        let mut names = blocking::run(open).await?.names();
        let limit = options.limit.unwrap_or(usize::MAX);
        let more = names.len() > limit;
        names.truncate(limit);
        Ok(Listing { names, more })
    }

    /// Gives a manifest more tags, as [`DistClient::tag`]; in the directory of a layout more names. A name that stands for another
    /// manifest moves. The index is replaced as a whole, under the lock that every writer of this crate takes.
    ///
    /// # Errors
    /// As [`DistClient::tag`]; [`DistError::Layout`] by kind; [`DistError::InvalidInput`] for an archive, which is only read, and for
    /// what is no name.
    pub async fn tag_at(&self, place: &Place, tags: &[String]) -> Result<TagReport, DistError> {
        let (path, name, digest) = match &place.kind {
            PlaceKind::Registry(reference) => return self.tag(reference, tags).await,
            PlaceKind::Layout { path, name, digest } => (path.clone(), name.clone(), *digest),
            PlaceKind::Archive { .. } => return Err(only_read(place)),
        };
        if let Some(wrong) = tags.iter().find(|tag| !is_name(tag)) {
            let shown = SafeText::excerpt(wrong, 160);
            return Err(DistError::InvalidInput(format!("`{shown}` is no tag")));
        }
        let wanted = tags.to_vec();
        let (digest, unchanged) = blocking::run(move || {
            let layout = Layout::open_dir(&path)?;
            let manifest = layout.resolve(name.as_deref(), digest)?;
            let is_there = |tag: &&String| layout.digest_of(tag) == Some(manifest.digest);
            let (unchanged, missing): (Vec<&String>, Vec<&String>) = wanted.iter().partition(is_there);
            if !missing.is_empty() {
                let named: Vec<_> = missing.into_iter().map(|tag| manifest.named(Some(tag))).collect();
                DirWriter::open(&path)?.name(&named)?;
            }
            Ok((manifest.digest, unchanged.into_iter().cloned().collect()))
        })
        .await?;
        let reference = place.to_string();
        Ok(TagReport { reference, digest: digest.to_string(), tags: tags.to_vec(), unchanged })
    }

    /// What [`DistClient::delete_at`] of this place deletes, by the rules of [`DistClient::deletion`].
    ///
    /// # Errors
    /// As [`DistClient::deletion`]; [`DistError::Layout`] by kind; [`DistError::InvalidInput`] for an archive, which is only read.
    pub async fn deletion_at(&self, place: &Place, manifest: bool) -> Result<Deletion, DistError> {
        let (path, name, digest) = match &place.kind {
            PlaceKind::Registry(reference) => return self.deletion(reference, manifest).await,
            PlaceKind::Layout { path, name, digest } => (path.clone(), name.clone(), *digest),
            PlaceKind::Archive { .. } => return Err(only_read(place)),
        };
        match (name, digest, manifest) {
            (_, Some(_), false) => Err(DistError::InvalidInput(format!(
                "`{place}` is a digest: deleting a manifest removes all its tags, and has to be asked for as that"
            ))),
            (None, None, _) => Err(DistError::InvalidInput(format!(
                "`{place}` names neither a tag nor a digest, and nothing is deleted by default"
            ))),
            (name, digest, is_manifest) => {
                let found =
                    blocking::run(move || Ok(Layout::open_dir(&path)?.resolve(name.as_deref(), digest)?.digest));
                let found = found.await?;
                Ok(match place.tag().filter(|_| !is_manifest) {
                    Some(tag) => Deletion::Tag(tag.to_owned()),
                    None => Deletion::Manifest(found.to_string()),
                })
            }
        }
    }

    /// Deletes a tag or a manifest, as [`DistClient::delete`]; of the directory of a layout from its index alone: a name goes and
    /// its manifest stays, or a manifest with all its names. Content is never removed.
    ///
    /// # Errors
    /// As [`DistClient::delete`]; [`DistError::Layout`] by kind; [`DistError::InvalidInput`] for an archive, which is only read.
    pub async fn delete_at(&self, place: &Place, deletion: &Deletion) -> Result<(), DistError> {
        let path = match &place.kind {
            PlaceKind::Registry(reference) => return self.delete(reference, deletion).await,
            PlaceKind::Layout { path, .. } => path.clone(),
            PlaceKind::Archive { .. } => return Err(only_read(place)),
        };
        let deletion = deletion.clone();
        blocking::run(move || {
            let writer = opened(&path)?;
            match deletion {
                Deletion::Tag(name) => Ok(writer.unname(&name)?),
                Deletion::Manifest(digest) => {
                    let digest: Digest = digest.parse().map_err(|error: greentic_dist_types::ParseDigestError| {
                        DistError::InvalidInput(error.to_string())
                    })?;
                    Ok(writer.forget(digest)?)
                }
            }
        })
        .await
    }
}

/// A layout that is there, open for writing.
fn opened(path: &Path) -> Result<DirWriter, DistError> {
    // A writer makes one where there is none.
    Layout::open_dir(path)?;
    Ok(DirWriter::open(path)?)
}

fn only_read(place: &Place) -> DistError {
    DistError::InvalidInput(format!(
        "`{place}` is an archive, which is written as a whole: copy it to a directory (`oci-layout:DIR`) and change that"
    ))
}
