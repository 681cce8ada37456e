//! Manifests: found by tag or digest, hashed always.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use greentic_dist_types::media_type::{self, ManifestType};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Mismatch, SafeText, parse_manifest_within};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::auth::Action;
use super::put_manifest::RawManifest;
use super::repository::{Repository, Selector};
use crate::exchange::{Ask, Collected, header_value};
use crate::transport::ManifestQuestion;
use crate::{Limit, Limits, NetError, NetErrorKind, RateLimit};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a registry says about a manifest without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest. Computed when the manifest had to be fetched to know it; otherwise the registry's word, a hint that is
    /// never proof.
    pub digest: Option<Digest>,
    /// The size in bytes.
    pub size_bytes: Option<u64>,
    /// The media type.
    pub media_type: Option<String>,
    /// The `ETag` as sent, for [`Repository::manifest_if_changed`].
    pub etag: Option<String>,
    /// What the registry says about its limit of requests, where it says anything.
    pub rate_limit: Option<RateLimit>,
}

/// A manifest or index with the exact bytes it came as.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The bytes, unchanged.
    pub raw: Bytes,
    /// The digest of the bytes: with the algorithm that was asked for, else SHA-256. Computed, never taken from a header.
    pub digest: Digest,
    /// The media type: the server's word where it is a manifest type, else the body's, else the one of its shape.
    pub media_type: String,
    /// The `ETag` as sent, for [`Repository::manifest_if_changed`].
    pub etag: Option<String>,
    /// The bytes, understood.
    pub kind: ManifestKind,
    /// The endpoint that sent it, the registry's own or a mirror: `scheme://host[:port][/path]`, wherever it redirected. Of a manifest
    /// that was asked for by its tag, the one whose word it is what the tag means.
    pub served_by: String,
    /// Whether somebody said what `media_type` is, or it was only told by the shape.
    pub(crate) is_typed: bool,
}

/// What a registry says about a tag whose manifest is known.
#[derive(Clone, Debug)]
pub struct Revalidated {
    /// The manifest, when the tag means another one now.
    pub changed: Option<FetchedManifest>,
    /// The endpoint that said so, as [`FetchedManifest::served_by`] has it.
    pub served_by: String,
}

impl Repository {
    /// Asks what a tag or digest is without fetching it; fetches it where the registry does not answer that.
    ///
    /// One request, or two where HEAD is refused or tells no digest. Cancel-safe.
    ///
    /// # Errors
    /// By cause; `NotFound` for an unknown tag, digest or repository.
    pub async fn head_manifest(&self, selector: Selector<'_>) -> Result<ManifestHead, NetError> {
        self.transport().within(self.ask_head(selector)).await
    }

    async fn ask_head(&self, selector: Selector<'_>) -> Result<ManifestHead, NetError> {
        if !self.known().refuses_head() {
            let mut ask = self.ask(selector);
            ask.method = Method::HEAD;
            match self.transport().collect(&ask, 0).await {
                Ok(head) => {
                    let head = head_of(&head.headers);
                    let consistent = match (selector, head.digest) {
                        (Selector::Digest(pin), Some(told)) => pin == told || pin.algorithm() != told.algorithm(),
                        (_, told) => told.is_some(),
                    };
                    if consistent {
                        return Ok(head);
                    }
                }
                Err(error) => match error.status() {
                    Some(400 | 405 | 501) => self.known().set_refuses_head(),
                    // The answer to a GET says why.
                    Some(403) => {}
                    _ => return Err(error),
                },
            }
        }
        let manifest = self.manifest(selector).await?;
        Ok(ManifestHead {
            digest: Some(manifest.digest),
            size_bytes: u64::try_from(manifest.raw.len()).ok(),
            media_type: Some(manifest.media_type),
            etag: manifest.etag,
            rate_limit: self.rate_limit(),
        })
    }

    /// What a tag or digest names, as a descriptor: digest, size and media type.
    ///
    /// One HEAD; one GET more where that is refused or does not tell all three, and then the digest is computed. The digest of an
    /// answer to HEAD is the registry's word, which whoever fetches by it proves. Cancel-safe.
    ///
    /// # Errors
    /// By cause; `NotFound` for an unknown tag, digest or repository.
    pub async fn resolve(&self, selector: Selector<'_>) -> Result<Descriptor, NetError> {
        self.transport().within(self.resolve_now(selector)).await
    }

    async fn resolve_now(&self, selector: Selector<'_>) -> Result<Descriptor, NetError> {
        let head = self.head_manifest(selector).await?;
        let wanted = match selector {
            Selector::Digest(pin) => Some(pin),
            Selector::Tag(_) => head.digest,
        };
        let is_manifest =
            |kind: &String| matches!(media_type::manifest_type(kind), ManifestType::Image | ManifestType::Index);
        if let (Some(digest), Some(size_bytes), Some(kind)) =
            (wanted, head.size_bytes, head.media_type.filter(is_manifest))
        {
            return Ok(Descriptor::new(kind, digest, size_bytes));
        }
        let manifest = self.manifest(selector).await?;
        Ok(RawManifest::from(manifest).plain_descriptor())
    }

    /// Fetches a manifest or index and proves it against the digest it was asked for by.
    ///
    /// One request, which is shared with everybody who asks this client for the same at the same time. A body that does not match the
    /// pin is asked for once more before it fails. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`; `Integrity` when the bytes are not those of the pin; `TooLarge` beyond one of the [`Limits`](crate::Limits) of
    /// manifests, which [`NetError::limit`] names; `Protocol` when the answer is no usable manifest and `Unsupported` when it is one
    /// of a kind that is refused, with the [`ManifestError`](greentic_dist_types::ManifestError) as source; otherwise by cause.
    pub async fn manifest(&self, selector: Selector<'_>) -> Result<FetchedManifest, NetError> {
        self.manifest_for(self.action(), selector).await
    }

    /// As [`Repository::manifest`], with the login of the work it is a step of.
    pub(super) async fn manifest_for(
        &self,
        action: Action,
        selector: Selector<'_>,
    ) -> Result<FetchedManifest, NetError> {
        // Whoever is about to write asks for itself.
        if action != Action::Pull {
            return self.manifest_within(action, selector, &self.transport().limits).await;
        }
        let fetch = Box::pin(self.fetch_proven(action, selector, &self.transport().limits));
        let question = self.question(selector, None)?;
        self.transport().within(self.transport().manifests.join(&question, fetch)).await
    }

    /// As [`Repository::manifest_for`], within other limits than those of the client, and asked for by nobody else.
    pub(super) async fn manifest_within(
        &self,
        action: Action,
        selector: Selector<'_>,
        limits: &Limits,
    ) -> Result<FetchedManifest, NetError> {
        self.transport().within(Box::pin(self.fetch_proven(action, selector, limits))).await
    }

    fn question(
        &self,
        selector: Selector<'_>,
        known: Option<(Option<String>, Digest)>,
    ) -> Result<ManifestQuestion, NetError> {
        let url = self.known().url(&self.manifest_path(selector))?.to_string();
        let writes = self.transport().writes.load(Ordering::Relaxed);
        Ok(ManifestQuestion { registry: self.registry().to_owned(), url, known, writes })
    }

    /// A body that does not match the pin is asked for once more.
    async fn fetch_proven(
        &self,
        action: Action,
        selector: Selector<'_>,
        limits: &Limits,
    ) -> Result<FetchedManifest, NetError> {
        let mut ask = self.ask(selector);
        ask.target = self.target_for(action, self.manifest_path(selector));
        match self.fetch(&ask, selector, limits).await {
            Err(error) if error.kind() == NetErrorKind::Integrity => {
                let text = format!("a manifest did not match its digest and is fetched again: {error}");
                self.transport().warn(self.registry(), SafeText::new(&text));
                self.fetch(&ask, selector, limits).await
            }
            other => other,
        }
    }

    /// Asks for a tag's manifest only when it changed: one request, and at a registry that counts what is read but no HEAD (see
    /// [`HostEndpoint::prefer_head`](crate::HostEndpoint::prefer_head)) one HEAD, and a GET only when it changed.
    ///
    /// `etag` is the one that came with the manifest known under `known`; without it the digest itself is sent, which
    /// registries use as their `ETag`. `None` means the tag still points to `known`. A "not modified" that names another
    /// manifest is not believed: the manifest is then fetched, by a second request.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub async fn manifest_if_changed(
        &self,
        tag: &str,
        etag: Option<&str>,
        known: &Digest,
    ) -> Result<Option<FetchedManifest>, NetError> {
        Ok(self.revalidate(tag, etag, known).await?.changed)
    }

    /// As [`Repository::manifest_if_changed`], with the endpoint that answered.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub async fn revalidate(&self, tag: &str, etag: Option<&str>, known: &Digest) -> Result<Revalidated, NetError> {
        let question = self.question(Selector::Tag(tag), Some((etag.map(str::to_owned), *known)))?;
        let ask = Box::pin(self.ask_if_changed(tag, etag, known));
        self.transport().within(self.transport().changes.join(&question, ask)).await
    }

    async fn ask_if_changed(&self, tag: &str, etag: Option<&str>, known: &Digest) -> Result<Revalidated, NetError> {
        let selector = Selector::Tag(tag);
        if let Some(served_by) = self.still_names(tag, known).await? {
            return Ok(Revalidated { changed: None, served_by });
        }
        let mut ask = self.ask(selector);
        ask.accept = &[StatusCode::OK, StatusCode::NOT_MODIFIED];
        let quoted = format!("\"{known}\"");
        let condition = etag.filter(|etag| HeaderValue::from_str(etag).is_ok()).unwrap_or(&quoted);
        ask.set(header::IF_NONE_MATCH, Some(header_value(condition, "the ETag")?));
        let collected = self.transport().collect(&ask, self.limit()).await;
        let collected = collected.map_err(|error| self.transport().limits.name(Limit::ManifestBytes, error))?;
        let manifest = if collected.status != StatusCode::NOT_MODIFIED {
            self.understand(collected, selector, &self.transport().limits)?
        } else if is_about(&collected.headers, condition, known) {
            return Ok(Revalidated { changed: None, served_by: self.sender_of(&collected) });
        } else {
            let text =
                "the registry answered \"not modified\" about another manifest than the known one; it is asked again";
            self.transport().warn(self.registry(), SafeText::new(text));
            self.manifest(selector).await?
        };
        let same = manifest.digest == *known || Digest::of(known.algorithm(), &manifest.raw) == *known;
        let served_by = manifest.served_by.clone();
        Ok(Revalidated { changed: (!same).then_some(manifest), served_by })
    }

    /// The endpoint by which a registry that prefers to be asked so says by a HEAD that a tag names a manifest. What it does not say
    /// is not known: `None`.
    async fn still_names(&self, tag: &str, known: &Digest) -> Result<Option<String>, NetError> {
        self.known().mirrors(self.transport()).await?;
        if !self.known().prefers_head() || self.known().refuses_head() {
            return Ok(None);
        }
        let mut ask = self.ask(Selector::Tag(tag));
        ask.method = Method::HEAD;
        match self.transport().collect(&ask, 0).await {
            Ok(head) => Ok((digest_hint(&head.headers) == Some(*known)).then(|| self.sender_of(&head))),
            Err(error) if matches!(error.status(), Some(400 | 405 | 501)) => {
                self.known().set_refuses_head();
                Ok(None)
            }
            // The answer to a GET says why.
            Err(error) if matches!(error.status(), Some(403)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The endpoint that answered.
    fn sender_of(&self, answer: &Collected) -> String {
        answer.elsewhere.as_ref().map_or_else(|| self.known().address(), |access| access.registry.address())
    }

    async fn fetch(&self, ask: &Ask, selector: Selector<'_>, limits: &Limits) -> Result<FetchedManifest, NetError> {
        let understand = |answer| self.understand(answer, selector, limits);
        let fetched = self.transport().collect_as(ask, limits.manifest_bytes, understand).await;
        fetched.map_err(|error| limits.name(Limit::ManifestBytes, error))
    }

    pub(super) fn limit(&self) -> u64 {
        self.transport().limits.manifest_bytes
    }

    pub(super) fn manifest_path(&self, selector: Selector<'_>) -> String {
        match selector {
            Selector::Tag(tag) => format!("/v2/{}/manifests/{tag}", self.repository()),
            Selector::Digest(digest) => format!("/v2/{}/manifests/{digest}", self.repository()),
        }
    }

    fn ask(&self, selector: Selector<'_>) -> Ask {
        let target = self.target(self.manifest_path(selector));
        let mut ask = Ask::new(Method::GET, target, &[StatusCode::OK]);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static(media_type::MANIFEST_ACCEPT));
        ask
    }

    fn understand(
        &self,
        answer: Collected,
        selector: Selector<'_>,
        limits: &Limits,
    ) -> Result<FetchedManifest, NetError> {
        let about = |error: NetError| error.for_request(&Method::GET, &answer.url);
        let told = digest_hint(&answer.headers);
        let digest = match selector {
            Selector::Digest(pin) => {
                let actual = Digest::of(pin.algorithm(), &answer.body);
                if actual != pin {
                    return Err(about(NetError::integrity(Mismatch::Digest { expected: pin, actual })));
                }
                actual
            }
            Selector::Tag(_) => {
                let actual = Digest::sha256(&answer.body);
                if told.is_some_and(|told| told != Digest::of(told.algorithm(), &answer.body)) {
                    let text = "the registry's `Docker-Content-Digest` is not the digest of the manifest it sent";
                    self.transport().warn(self.registry(), SafeText::new(text));
                }
                actual
            }
        };
        let content_type = text(&answer.headers, header::CONTENT_TYPE);
        let kind = parse_manifest_within(&answer.body, content_type, &limits.of_manifests())
            .map_err(|error| about(limits.refuse_manifest(error)))?;
        let (media_type, is_typed) = type_of(&answer.body, content_type, &kind);
        let etag = text(&answer.headers, header::ETAG).map(str::to_owned);
        let served_by = self.sender_of(&answer);
        Ok(FetchedManifest { raw: answer.body, digest, media_type, etag, kind, served_by, is_typed })
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The digest a registry tells, when it tells exactly one that is well formed.
pub(super) fn digest_hint(headers: &HeaderMap) -> Option<Digest> {
    let mut told = headers.get_all(CONTENT_DIGEST).iter();
    let digest: Digest = told.next()?.to_str().ok()?.trim().parse().ok()?;
    let agree = told.all(|other| other.to_str().is_ok_and(|other| other.trim().parse() == Ok(digest)));
    agree.then_some(digest)
}

/// Whether a "not modified" is about the manifest it was asked for: it names no other `ETag` and no other digest.
fn is_about(headers: &HeaderMap, condition: &str, known: &Digest) -> bool {
    // `If-None-Match` compares weakly (RFC 9110, 13.1.2).
    let opaque = |etag: &str| etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    let mut etags = headers.get_all(header::ETAG).iter();
    let same_etag = etags.all(|etag| etag.to_str().is_ok_and(|etag| opaque(etag) == opaque(condition)));
    same_etag && digest_hint(headers).is_none_or(|told| told == *known || told.algorithm() != known.algorithm())
}

fn head_of(headers: &HeaderMap) -> ManifestHead {
    ManifestHead {
        digest: digest_hint(headers),
        size_bytes: text(headers, header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()),
        media_type: text(headers, header::CONTENT_TYPE).map(media_type::essence),
        etag: text(headers, header::ETAG).map(str::to_owned),
        rate_limit: RateLimit::of(headers),
    }
}

/// The media type of a parsed manifest, and whether anybody said it.
pub(super) fn type_of(body: &[u8], content_type: Option<&str>, kind: &ManifestKind) -> (String, bool) {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let known = |name: &String| matches!(media_type::manifest_type(name), ManifestType::Image | ManifestType::Index);
    let by_header = content_type.map(media_type::essence).filter(known);
    let by_body = || {
        let typed: Typed = serde_json::from_slice(body).ok()?;
        typed.media_type.as_deref().map(media_type::essence).filter(known)
    };
    match (by_header.or_else(by_body), kind) {
        (Some(said), _) => (said, true),
        (None, ManifestKind::Image(_)) => (media_type::OCI_MANIFEST.to_owned(), false),
        (None, ManifestKind::Index(_)) => (media_type::OCI_INDEX.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(values: &[&str]) -> Option<Digest> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_DIGEST, HeaderValue::from_str(value).unwrap());
        }
        digest_hint(&headers)
    }

    #[test]
    fn a_digest_header_counts_only_when_it_is_one_well_formed_digest() {
        let (one, other) = (Digest::sha256(b"1").to_string(), Digest::sha256(b"2").to_string());
        assert_eq!(hint(&[&one]), Some(Digest::sha256(b"1")));
        assert_eq!(hint(&[&one, &one]), Some(Digest::sha256(b"1")));
        for ignored in [&[][..], &[""], &["sha256:../../x"], &["/abs"], &["sha1:00"], &[&one, &other], &[&one, "x"]] {
            assert_eq!(hint(ignored), None, "{ignored:?}");
        }
    }
}
