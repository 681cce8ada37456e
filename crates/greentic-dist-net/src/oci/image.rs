//! From a tag to one artifact, through an index where there is one.

use greentic_dist_types::{
    Descriptor, Digest, Index, Manifest, ManifestKind, Mismatch, PlatformChoice, SelectError, select_exactly,
    select_platform, select_portable,
};

use super::manifest::FetchedManifest;
use super::repository::{Repository, Selector};
use crate::{Limit, NetError, NetErrorKind};

/// One artifact's manifest, and the index it was found in.
#[derive(Clone, Debug)]
pub struct FetchedImage {
    /// What the tag or digest named, when that was an index: the outermost one.
    pub index: Option<FetchedManifest>,
    /// The indexes between that one and the manifest, the outer ones first; none where indexes are not nested.
    pub inner_indexes: Vec<FetchedManifest>,
    /// The image manifest.
    pub manifest: FetchedManifest,
}

impl Repository {
    /// Fetches the image manifest a tag or digest stands for, choosing from an index by `platform` (Wasm first).
    ///
    /// One request, one more per index. An index is followed to a depth of
    /// [`Limits::index_depth`](crate::Limits); what an index points to must have the digest, size and media type the index
    /// says. Cancel-safe.
    ///
    /// # Errors
    /// With a [`SelectError`](greentic_dist_types::SelectError) as source, `NotFound` when no manifest is for the platform and
    /// `InvalidInput` when several are and the variant has to be named;
    /// `Protocol` for indexes that are nested too deeply, point to themselves or lie about types; `Integrity` for sizes;
    /// otherwise as [`Repository::manifest`].
    pub async fn image(&self, selector: Selector<'_>, platform: &PlatformChoice) -> Result<FetchedImage, NetError> {
        let both = async {
            let found = self.manifest(selector).await?;
            self.follow(found, platform).await
        };
        self.transport().within(both).await
    }

    /// Goes on from a manifest that is at hand as [`Repository::image`] does: no request for an image manifest.
    ///
    /// # Errors
    /// As [`Repository::image`].
    pub async fn follow(&self, found: FetchedManifest, platform: &PlatformChoice) -> Result<FetchedImage, NetError> {
        let (image, _) =
            self.descend(found, |index| select_platform(index, platform).map(|entry| (entry, None))).await?;
        Ok(image)
    }

    /// As [`Repository::follow`], and the only entry of an index is not taken when it says that it is for another platform.
    ///
    /// # Errors
    /// As [`Repository::image`].
    pub async fn follow_exactly(
        &self,
        found: FetchedManifest,
        platform: &PlatformChoice,
    ) -> Result<FetchedImage, NetError> {
        let (image, _) =
            self.descend(found, |index| select_exactly(index, platform).map(|entry| (entry, None))).await?;
        Ok(image)
    }

    /// As [`Repository::follow`], for content that is the same on every platform: where an index has nothing for `platform`, what
    /// it has for `linux/amd64` is taken, else for `linux/arm64`, on every machine alike. Where it has both, they must hold the
    /// same by what `content` tells of a manifest, which costs one more request.
    ///
    /// # Errors
    /// As [`Repository::image`]; `NotFound` with [`SelectError::DifferentContent`] as source when the two hold different content.
    pub async fn follow_portable<T: PartialEq>(
        &self,
        found: FetchedManifest,
        platform: &PlatformChoice,
        content: impl Fn(&Manifest) -> T,
    ) -> Result<FetchedImage, NetError> {
        let (image, others) = self.descend(found, |index| select_portable(index, platform)).await?;
        let content = |manifest: &FetchedManifest| match &manifest.kind {
            ManifestKind::Image(manifest) => Some(content(manifest)),
            ManifestKind::Index(_) => None,
        };
        for other in others {
            let child = self.manifest(Selector::Digest(other.digest)).await?;
            child.check_against(&other)?;
            let named = other.platform.unwrap_or_default();
            let named =
                PlatformChoice { os: vec![named.os], architecture: vec![named.architecture], variant: named.variant };
            if content(&self.follow(child, &named).await?.manifest) != content(&image.manifest) {
                let why = SelectError::DifferentContent { wanted: platform.in_words() };
                return Err(unusable(why).with_hint("name the manifest of one platform by its digest"));
            }
        }
        Ok(image)
    }

    /// Goes down to an image manifest by the first of what `choose` finds in each index. The second part are the others.
    async fn descend(
        &self,
        found: FetchedManifest,
        choose: impl Fn(&Index) -> Result<(&Descriptor, Option<&Descriptor>), SelectError>,
    ) -> Result<(FetchedImage, Vec<Descriptor>), NetError> {
        let mut current = found;
        let mut indexes: Vec<FetchedManifest> = Vec::new();
        let (mut visited, mut others): (Vec<Digest>, Vec<Descriptor>) = (Vec::new(), Vec::new());
        loop {
            let ManifestKind::Index(index) = &current.kind else {
                let mut indexes = indexes.into_iter();
                let (index, inner_indexes) = (indexes.next(), indexes.collect());
                return Ok((FetchedImage { index, inner_indexes, manifest: current }, others));
            };
            visited.push(current.digest);
            if visited.len() > self.transport().limits.index_depth {
                return Err(self.transport().limits.exceeded(Limit::IndexDepth));
            }
            let (chosen, other) = choose(index).map_err(unusable)?;
            let chosen = chosen.clone();
            others.extend(other.cloned());
            if visited.contains(&chosen.digest) {
                return Err(NetError::new(NetErrorKind::Protocol, "an index points to itself"));
            }
            let child = self.manifest(Selector::Digest(chosen.digest)).await?;
            child.check_against(&chosen)?;
            indexes.push(std::mem::replace(&mut current, child));
        }
    }
}

fn unusable(why: SelectError) -> NetError {
    let kind = match why {
        SelectError::SeveralVariants { .. } => NetErrorKind::InvalidInput,
        _ => NetErrorKind::NotFound,
    };
    NetError::new(kind, "the index has no usable manifest").with_source(why)
}

impl FetchedManifest {
    /// Refuses a manifest that is not what the descriptor that led to it says: its size, and its media type. Its digest is proven
    /// already.
    ///
    /// # Errors
    /// `Integrity` for the size; `Protocol` for the media type.
    pub fn check_against(&self, descriptor: &Descriptor) -> Result<(), NetError> {
        let (expected, actual) = (descriptor.size_bytes, u64::try_from(self.raw.len()).unwrap_or(u64::MAX));
        let wrong = |error: NetError| error.with_detail(format!("{} is not what its index says", self.digest));
        if actual != expected {
            return Err(wrong(NetError::integrity(if actual > expected {
                Mismatch::Long { expected }
            } else {
                Mismatch::Short { expected, actual }
            })));
        }
        let said = Some(self.media_type.as_str()).filter(|_| self.is_typed);
        let called = self.kind.check_called(&descriptor.media_type, said);
        called.map_err(|error| wrong(NetError::new(NetErrorKind::Protocol, "").with_source(error)))
    }
}
