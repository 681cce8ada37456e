//! What refers to a manifest: signatures, SBOMs, attestations.

use greentic_dist_types::media_type::{OCI_INDEX, essence};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, parse_manifest_within};
use http::{HeaderValue, Method, header};
use url::form_urlencoded::byte_serialize;

use super::auth::Action;
use super::pagination::{PAGE, Paged};
use super::referrers_tag;
use super::repository::Repository;
use crate::exchange::{Ask, Collected};
use crate::{Limit, Limits, NetError, NetErrorKind};

/// Where a list of referrers comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersSource {
    /// The registry's referrers API.
    Api,
    /// The index under the subject's tag: the registry has no such API. Complete as far as everybody who pushed kept it.
    Tag,
}

/// What refers to a manifest.
#[derive(Debug)]
pub struct Referrers {
    /// Where the list comes from.
    pub source: ReferrersSource,
    /// The manifests that refer to it. The first page is at hand.
    pub pages: Paged<Descriptor>,
}

impl Referrers {
    /// All of them, at most [`Limits::referrers`](crate::Limits). One request for each further page. Cancel-safe.
    ///
    /// # Errors
    /// `TooLarge` when there are more, and then [`NetError::limit`] is that limit; otherwise as [`Paged::next_page`].
    pub async fn all(self) -> Result<Vec<Descriptor>, NetError> {
        self.pages.collect_within(Limit::Referrers).await
    }
}

impl Repository {
    /// What refers to the manifest of this digest, only manifests of one artifact type when that is given.
    ///
    /// That nobody refers to it is an empty list; that it could not be asked is an error. One request, two where the registry
    /// has no referrers API (404, 400, 405, 406, 501, or an answer that is no index) and the index under the subject's tag is
    /// read instead (distribution-spec, "Listing Referrers"). So it is where the API redirects to another server, which is not asked:
    /// nobody but the registry says what refers to its manifests. What the registry filtered is filtered here once more.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `Protocol` when the subject's tag names something that is no index; `Refused` for a later page on another server,
    /// and for redirects that lead nowhere; otherwise by cause.
    pub async fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Referrers, NetError> {
        self.transport().within(self.referrers_for(Action::Pull, subject, artifact_type)).await
    }

    async fn referrers_for(
        &self,
        action: Action,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, NetError> {
        let wanted = artifact_type.map(str::to_owned);
        if let Some((ask, answer)) = self.ask_for_referrers(action.clone(), subject, artifact_type).await? {
            let limits = self.transport().limits;
            let read = move |answer: &Collected| entries(answer, wanted.as_deref(), &limits);
            let pages = Paged::new(self.transport(), ask.clone(), read, |error, _| error);
            let pages = pages.limited_by(Limit::ManifestBytes);
            return Ok(Referrers { source: ReferrersSource::Api, pages: pages.starting_with(&ask, &answer)? });
        }
        let list = referrers_tag::list(self, action, subject, &self.transport().limits).await?;
        let found = match list.map(|list| list.kind) {
            Some(ManifestKind::Index(index)) => index.manifests,
            Some(ManifestKind::Image(_)) | None => Vec::new(),
        };
        let pages = Paged::of(self.transport(), of_type(found, artifact_type));
        Ok(Referrers { source: ReferrersSource::Tag, pages })
    }

    /// Whether the registry keeps the list of referrers itself.
    ///
    /// # Errors
    /// When it could not be asked.
    pub(super) async fn keeps_referrers(&self, action: Action, subject: &Digest) -> Result<bool, NetError> {
        Ok(self.ask_for_referrers(action, subject, None).await?.is_some())
    }

    /// The first page of the referrers API; `None` where there is none.
    async fn ask_for_referrers(
        &self,
        action: Action,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<(Ask, Collected)>, NetError> {
        let mut path = format!("/v2/{}/referrers/{subject}", self.repository());
        if let Some(artifact_type) = artifact_type {
            path.push_str("?artifactType=");
            path.extend(byte_serialize(artifact_type.as_bytes()));
        }
        let mut ask = Ask::new(Method::GET, self.target_for(action, path), PAGE);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static(OCI_INDEX));
        // Nobody else says what refers to the registry's manifests, on the pages behind this one neither.
        ask.stays = true;
        match self.transport().collect(&ask, self.limit()).await {
            Ok(answer) => {
                let is_index = answer.header(header::CONTENT_TYPE).map(essence).as_deref() == Some(OCI_INDEX);
                Ok(is_index.then_some((ask, answer)))
            }
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 406 | 501)) => Ok(None),
            Err(error) if error.leads_elsewhere() => {
                tracing::debug!(%error, "the list of referrers is read from the tag instead");
                Ok(None)
            }
            Err(error) => Err(self.transport().limits.name(Limit::ManifestBytes, error)),
        }
    }
}

/// The manifests of one page.
fn entries(answer: &Collected, artifact_type: Option<&str>, limits: &Limits) -> Result<Vec<Descriptor>, NetError> {
    let about = |error: NetError| error.for_request(&Method::GET, &answer.url);
    let parsed = parse_manifest_within(&answer.body, Some(OCI_INDEX), &limits.of_manifests());
    match parsed.map_err(|error| about(limits.refuse_manifest(error)))? {
        ManifestKind::Index(index) => Ok(of_type(index.manifests, artifact_type)),
        ManifestKind::Image(_) => {
            Err(about(NetError::new(NetErrorKind::Protocol, "the answer is no list of referrers")))
        }
    }
}

fn of_type(mut found: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    if let Some(wanted) = artifact_type {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
    }
    found
}
