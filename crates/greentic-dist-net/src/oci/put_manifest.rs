//! Pushing a manifest: its exact bytes, under a digest and any number of tags.

use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_types::media_type::is_non_distributable;
use greentic_dist_types::{
    Algorithm, Descriptor, Digest, ManifestError, ManifestKind, ManifestLimits, Mismatch, Reference, SafeText,
    parse_manifest_within,
};
use http::{HeaderName, Method, header};

use super::auth::Action;
use super::manifest::{FetchedManifest, digest_hint, type_of};
use super::referrers_tag::{self, Change};
use super::repository::{Repository, Selector};
use super::session::{WRITTEN, unsupported};
use super::source::BlobSource;
use crate::exchange::{Ask, Collected, header_value};
use crate::payload::Payload;
use crate::{NetError, NetErrorKind};

/// Most tags set by one request: registries limit the length of a URL.
const TAGS_PER_REQUEST: usize = 10;
/// Most tags an answer is believed to have set.
const TOLD_TAGS: usize = 64;

const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest or index about to be pushed: bytes that are never written anew.
#[derive(Clone, Debug)]
pub struct RawManifest {
    bytes: Bytes,
    digest: Digest,
    media_type: String,
    kind: ManifestKind,
}

impl RawManifest {
    /// Reads the bytes of a manifest. Its media type is the one it names, else the OCI one of its shape.
    ///
    /// # Errors
    /// [`ManifestError`] for what this client would refuse to pull.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, ManifestError> {
        Self::typed(bytes, "")
    }

    /// Reads the bytes of a manifest of a media type that it may not name itself.
    ///
    /// # Errors
    /// [`ManifestError`] for what no client would pull, whatever its limits, and for another type than the one it names.
    pub fn typed(bytes: impl Into<Bytes>, media_type: &str) -> Result<Self, ManifestError> {
        let bytes = bytes.into();
        let said = Some(media_type).filter(|media_type| !media_type.is_empty());
        // What is sent is the caller's own: it may be as large as any client can be told to take.
        let kind = parse_manifest_within(&bytes, said, &ManifestLimits::MOST)?;
        let (media_type, _) = type_of(&bytes, Some(media_type), &kind);
        let digest = Digest::sha256(&bytes);
        Ok(Self { bytes, digest, media_type, kind })
    }

    /// Names the manifest by a digest of this algorithm. Default SHA-256.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.digest = Digest::of(algorithm, &self.bytes);
        self
    }

    /// The bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the bytes.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The bytes, understood.
    pub const fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The manifest this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.kind {
            ManifestKind::Image(manifest) => manifest.subject.as_ref(),
            ManifestKind::Index(index) => index.subject.as_deref(),
        }
    }

    /// Digest, size and media type.
    pub(super) fn plain_descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    /// The manifest as a list of referrers shows it: with its artifact type (an image without one has that of its config) and
    /// its annotations.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = self.plain_descriptor();
        match &self.kind {
            ManifestKind::Image(manifest) => {
                let artifact_type = manifest.artifact_type.clone().filter(|kind| !kind.is_empty());
                descriptor.artifact_type =
                    artifact_type.or_else(|| manifest.config.as_ref().map(|config| config.media_type.clone()));
                descriptor.annotations.clone_from(&manifest.annotations);
            }
            ManifestKind::Index(index) => {
                descriptor.artifact_type = index.artifact_type.clone().filter(|kind| !kind.is_empty());
                descriptor.annotations.clone_from(&index.annotations);
            }
        }
        descriptor
    }
}

impl From<FetchedManifest> for RawManifest {
    /// The manifest as it came, to be pushed elsewhere under the digest it was fetched by.
    fn from(fetched: FetchedManifest) -> Self {
        let FetchedManifest { raw, digest, media_type, kind, .. } = fetched;
        Self { bytes: raw, digest, media_type, kind }
    }
}

/// A manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedManifest {
    /// The digest it can be pulled by.
    pub digest: Digest,
    /// Who keeps the list of what refers to its subject.
    pub referrers: ReferrersUpkeep,
}

/// Who keeps the list of the manifests that refer to a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersUpkeep {
    /// The manifest has no subject.
    NotNeeded,
    /// The registry (it has the referrers API).
    Registry,
    /// This client, in an index under the subject's tag (distribution-spec, "Referrers Tag Schema").
    Tag,
}

/// A manifest about to be pushed; made by [`Repository::put_manifest`].
#[derive(Debug)]
#[must_use]
pub struct ManifestUpload<'a> {
    repository: &'a Repository,
    manifest: &'a RawManifest,
    tags: Vec<String>,
    blobs: Vec<Arc<dyn BlobSource>>,
}

impl Repository {
    /// A manifest to be pushed into this repository. Sends nothing yet.
    pub const fn put_manifest<'a>(&'a self, manifest: &'a RawManifest) -> ManifestUpload<'a> {
        ManifestUpload { repository: self, manifest, tags: Vec::new(), blobs: Vec::new() }
    }
}

impl ManifestUpload<'_> {
    /// One tag more that is to name the manifest. Without any it is named by its digest alone.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self
    }

    /// More tags.
    pub fn tags(self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        tags.into_iter().fold(self, Self::tag)
    }

    /// Blobs of the manifest that are pushed once more, and the manifest after them, when the registry does not have them
    /// although it said so: it may have collected them meanwhile.
    pub fn blobs(mut self, blobs: impl IntoIterator<Item = Arc<dyn BlobSource>>) -> Self {
        self.blobs.extend(blobs);
        self
    }

    /// Pushes the manifest.
    ///
    /// Requests: 1 with no tag or one. With several, 1 where the registry sets tags by parameter (`?tag=`, answered with
    /// `OCI-Tag`), else 1 for each, and one more the first time. A manifest with a subject costs 3 more where the registry does
    /// not keep the list of referrers itself: read it, write it, see that it stayed.
    ///
    /// Repeatable: what is there already is written again. Not one step: when the future is dropped, some of the tags may be
    /// set, or the manifest may be there without standing in the list of its subject.
    ///
    /// # Errors
    /// `InvalidInput` for what is no tag; `NotFound` when blobs or manifests are missing in the registry, whatever the status by
    /// which it says so; `Integrity` when it stores other bytes; `Conflict` when others kept changing the list of referrers;
    /// `TooLarge` when the list of referrers would be longer than this client reads it (the manifest is there then, and the list as it
    /// was); `Unsupported` where the registry takes no pushes, or wants a layer that stays with its publisher; otherwise by cause.
    pub async fn send(self) -> Result<PushedManifest, NetError> {
        let repository = self.repository.for_pushing().await?;
        let there = ManifestUpload { repository: &repository, ..self };
        repository.transport().within(there.send_there()).await
    }

    async fn send_there(self) -> Result<PushedManifest, NetError> {
        for tag in &self.tags {
            check_tag(self.repository, tag)?;
        }
        let answer = match Box::pin(self.put()).await {
            Err(error) if misses_blobs(&error) && !self.blobs_missed(&error).is_empty() => {
                self.push_blobs_again(&error).await?;
                Box::pin(self.put()).await
            }
            other => other,
        };
        let answer = answer.map_err(|error| self.explain(error))?;
        self.confirm(&answer).await?;
        let referrers = match self.manifest.subject() {
            None => ReferrersUpkeep::NotNeeded,
            Some(_) if answer.headers.contains_key(OCI_SUBJECT) => ReferrersUpkeep::Registry,
            Some(subject) => {
                let change = Change::Add(Box::new(self.manifest.descriptor()));
                referrers_tag::change(self.repository, Action::Push, &subject.digest, &change).await?;
                ReferrersUpkeep::Tag
            }
        };
        Ok(PushedManifest { digest: self.manifest.digest, referrers })
    }

    /// The manifest under its digest and all its tags. The last answer.
    async fn put(&self) -> Result<Collected, NetError> {
        let digest = self.manifest.digest;
        let is_canonical = digest.algorithm() == Algorithm::Sha256;
        match &*self.tags {
            [] => return self.put_as(Selector::Digest(digest), &[]).await,
            [only] if is_canonical => return self.put_as(Selector::Tag(only), &[]).await,
            _ => {}
        }
        let mut last = None;
        for tags in self.tags.chunks(TAGS_PER_REQUEST) {
            let mut missing: Vec<&String> = tags.iter().collect();
            if !self.repository.known().ignores_tag_parameters() {
                let answer = self.put_as(Selector::Digest(digest), tags).await?;
                let set = told_tags(&answer);
                if set.is_empty() {
                    self.repository.known().set_ignores_tag_parameters();
                }
                missing.retain(|tag| !set.contains(*tag));
                last = Some(answer);
            } else if !is_canonical && last.is_none() {
                last = Some(self.put_as(Selector::Digest(digest), &[]).await?);
            }
            for tag in missing {
                last = Some(self.put_as(Selector::Tag(tag), &[]).await?);
            }
        }
        last.ok_or_else(|| NetError::new(NetErrorKind::InvalidInput, "nothing was pushed"))
    }

    async fn put_as(&self, selector: Selector<'_>, tags: &[String]) -> Result<Collected, NetError> {
        let mut path = self.repository.manifest_path(selector);
        for (index, tag) in tags.iter().enumerate() {
            path.push_str(if index == 0 { "?tag=" } else { "&tag=" });
            path.push_str(tag);
        }
        let mut ask = Ask::new(Method::PUT, self.repository.target_for(Action::Push, path), WRITTEN);
        ask.set(header::CONTENT_TYPE, Some(header_value(&self.manifest.media_type, "the media type")?));
        ask.body = Payload::Bytes(self.manifest.bytes.clone());
        self.repository.transport().tell(&ask).await.map_err(unsupported)
    }

    /// Whether the registry has the bytes it was sent, when it names them otherwise.
    async fn confirm(&self, answer: &Collected) -> Result<(), NetError> {
        let digest = self.manifest.digest;
        let Some(told) = digest_hint(&answer.headers) else { return Ok(()) };
        if told == Digest::of(told.algorithm(), &self.manifest.bytes) {
            return Ok(());
        }
        match self.repository.manifest_for(Action::Push, Selector::Digest(digest)).await {
            Ok(_) => {
                let text = "the registry named a pushed manifest by another digest, and has it under the right one";
                self.repository.transport().warn(self.repository.registry(), SafeText::new(text));
                Ok(())
            }
            Err(error) if error.kind() == NetErrorKind::NotFound => {
                Err(NetError::integrity(Mismatch::Digest { expected: digest, actual: told })
                    .with_detail("the registry stored other bytes than the manifest it was sent")
                    .for_request(&Method::PUT, &answer.url))
            }
            Err(error) => Err(error),
        }
    }

    /// The blobs that the registry named; all of them when it named none, or so many that it may have named only some.
    fn blobs_missed(&self, error: &NetError) -> Vec<&Arc<dyn BlobSource>> {
        let named = error.digests();
        let some = (1..8).contains(&named.len());
        self.blobs.iter().filter(|blob| !some || named.contains(&blob.descriptor().digest)).collect()
    }

    async fn push_blobs_again(&self, error: &NetError) -> Result<(), NetError> {
        for blob in self.blobs_missed(error) {
            self.repository.put_blob(Arc::clone(blob)).check_first(false).send().await?;
        }
        Ok(())
    }

    /// Says of a registry that does not take the manifest what it misses, and whether that was to be expected.
    fn explain(&self, error: NetError) -> NetError {
        let layers = match &self.manifest.kind {
            ManifestKind::Image(image) => image.layers.as_slice(),
            ManifestKind::Index(_) => &[],
        };
        let stays = |layer: &&Descriptor| is_non_distributable(&layer.media_type);
        let error = match error.status() {
            Some(400 | 500) if layers.iter().any(|layer| stays(&layer)) => error.with_hint(
                "some registries take no manifest with a layer that stays with its publisher: push to another one, or without \
                 that layer",
            ),
            _ => error,
        };
        if !misses_blobs(&error) {
            return error;
        }
        let error = error.with_transient(false);
        let wanted = layers.iter().filter(stays).find(|layer| error.digests().contains(&layer.digest));
        match (wanted.map(|layer| layer.digest), error.digests().first().copied()) {
            (Some(layer), _) => {
                let detail = format!("it wants the layer {layer}, which stays with its publisher");
                error.with_kind(NetErrorKind::Unsupported).with_detail(detail)
            }
            (None, Some(named)) => {
                let detail = format!("it has no {named}, which the manifest names");
                error.with_kind(NetErrorKind::NotFound).with_detail(detail)
            }
            (None, None) => error.with_kind(NetErrorKind::NotFound),
        }
    }
}

/// Whether a registry refused a manifest because it does not have what it names.
fn misses_blobs(error: &NetError) -> bool {
    error.has_code("MANIFEST_BLOB_UNKNOWN") || error.has_code("BLOB_UNKNOWN")
}

/// The tags an answer says it has set, however it lists them.
fn told_tags(answer: &Collected) -> Vec<String> {
    let values = answer.headers.get_all(OCI_TAG).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).take(TOLD_TAGS).map(|tag| tag.trim().to_owned()).collect()
}

/// Refuses what is no tag before it stands in a URL.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn check_tag(repository: &Repository, tag: &str) -> Result<(), NetError> {
    match Reference::new(repository.registry(), repository.repository(), Some(tag), None) {
        Ok(_) => Ok(()),
        Err(error) => {
            let detail = format!("`{}` is no tag", SafeText::excerpt(tag, 60));
            Err(NetError::new(NetErrorKind::InvalidInput, detail).with_source(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referrer_is_shown_with_its_type_and_annotations() {
        let config = Digest::sha256(b"{}");
        let image = |extra: &str| {
            let body = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"a/config","digest":"{config}","size":2}},"layers":[],"annotations":{{"k":"v"}}{extra}}}"#
            );
            RawManifest::new(body).unwrap()
        };
        let plain = image("").descriptor();
        assert_eq!(plain.artifact_type.as_deref(), Some("a/config"));
        assert_eq!(plain.annotations.get("k").map(String::as_str), Some("v"));
        assert_eq!(image(r#","artifactType":"a/b""#).descriptor().artifact_type.as_deref(), Some("a/b"));
        assert_eq!(image(r#","artifactType":"""#).descriptor().artifact_type.as_deref(), Some("a/config"));
        let index = RawManifest::new(r#"{"schemaVersion":2,"manifests":[],"artifactType":"a/b"}"#).unwrap();
        assert_eq!(index.descriptor().artifact_type.as_deref(), Some("a/b"));
        assert_eq!(index.media_type(), greentic_dist_types::media_type::OCI_INDEX);
    }

    #[test]
    fn a_manifest_of_another_type_than_it_names_is_not_pushed() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(RawManifest::typed(index, greentic_dist_types::media_type::OCI_MANIFEST).is_err());
        assert!(RawManifest::new("{}").is_err());
        let docker = RawManifest::typed(index, greentic_dist_types::media_type::DOCKER_INDEX).unwrap();
        assert_eq!(docker.media_type(), greentic_dist_types::media_type::DOCKER_INDEX);
    }
}
