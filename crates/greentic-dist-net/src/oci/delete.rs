//! Deleting manifests, tags and blobs, where a registry allows it.

use greentic_dist_types::Digest;
use http::Method;

use super::auth::Action;
use super::put_manifest::{RawManifest, ReferrersUpkeep, check_tag};
use super::referrers_tag::{self, Change};
use super::repository::{Repository, Selector};
use super::session::WRITTEN;
use crate::exchange::Ask;
use crate::{NetError, NetErrorKind};

impl Repository {
    /// Deletes a manifest and with it every tag that names it.
    ///
    /// Requests: 2, the manifest being read first, since it may have a subject whose list of referrers names it. Such a one costs
    /// one more to ask whether the registry keeps that list itself, and 3 more where it does not. Not one step: when the future
    /// is dropped, the manifest may be gone and still stand in that list.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where deletion is switched off; `Conflict` when others kept changing the list of referrers (the
    /// manifest is gone then); otherwise by cause.
    pub async fn delete_manifest(&self, digest: &Digest) -> Result<ReferrersUpkeep, NetError> {
        self.transport().within(self.delete_manifest_now(digest)).await
    }

    async fn delete_manifest_now(&self, digest: &Digest) -> Result<ReferrersUpkeep, NetError> {
        let subject = match self.manifest_for(Action::Delete, Selector::Digest(*digest)).await {
            Ok(manifest) => RawManifest::from(manifest).subject().map(|subject| subject.digest),
            // What this client cannot read it can delete; nobody has listed it as a referrer through this client.
            Err(error) if matches!(error.kind(), NetErrorKind::Protocol | NetErrorKind::TooLarge) => None,
            Err(error) => return Err(error),
        };
        self.delete(self.manifest_path(Selector::Digest(*digest))).await.map_err(|error| {
            refused(error, "deletion of manifests is disabled", "many registries delete only through their own tools")
        })?;
        let Some(subject) = subject else { return Ok(ReferrersUpkeep::NotNeeded) };
        if self.keeps_referrers(Action::Delete, &subject).await? {
            return Ok(ReferrersUpkeep::Registry);
        }
        referrers_tag::change(self, Action::Delete, &subject, &Change::Remove(*digest)).await?;
        Ok(ReferrersUpkeep::Tag)
    }

    /// Deletes a tag. The manifest it names stays, and so do its other tags. One request.
    ///
    /// # Errors
    /// `InvalidInput` for what is no tag; `NotFound`; `Unsupported` where a registry deletes no tags, as most do not: the
    /// manifest is never deleted instead; otherwise by cause.
    pub async fn delete_tag(&self, tag: &str) -> Result<(), NetError> {
        check_tag(self, tag)?;
        self.delete(self.manifest_path(Selector::Tag(tag))).await.map_err(|error| {
            let hint = "deleting the manifest by its digest would remove all its tags; that is another request";
            refused(error, "this registry does not delete tags", hint)
        })
    }

    /// Deletes a blob. One request. Registries do not look whether a manifest still names it.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where deletion is switched off; otherwise by cause.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), NetError> {
        self.delete(format!("/v2/{}/blobs/{digest}", self.repository())).await.map_err(|error| {
            refused(
                error,
                "deletion of blobs is disabled",
                "registries that collect garbage delete unused blobs by themselves",
            )
        })
    }

    async fn delete(&self, path: String) -> Result<(), NetError> {
        let ask = Ask::new(Method::DELETE, self.target_for(Action::Delete, path), WRITTEN);
        self.transport().tell(&ask).await.map(drop)
    }
}

/// What it means that a registry refuses to delete.
fn refused(error: NetError, what: &'static str, hint: &'static str) -> NetError {
    match error.status() {
        Some(400 | 405 | 501) => error.with_kind(NetErrorKind::Unsupported).with_detail(what).with_hint(hint),
        _ => error,
    }
}
