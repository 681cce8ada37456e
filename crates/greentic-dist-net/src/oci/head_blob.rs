//! Whether a repository has a blob.

use greentic_dist_types::Digest;
use http::{HeaderValue, Method, StatusCode, header};

use super::auth::Action;
use super::repository::Repository;
use crate::NetError;
use crate::exchange::Ask;

/// What a registry says about a blob it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobHead {
    /// The size in bytes, when it says so. The registry's word, never proof.
    pub size_bytes: Option<u64>,
}

impl Repository {
    /// Asks whether the repository has a blob. One request. `None` when it has not. Cancel-safe.
    ///
    /// # Errors
    /// By cause. A repository that does not exist has no blobs: that is `None`, too.
    pub async fn head_blob(&self, digest: &Digest) -> Result<Option<BlobHead>, NetError> {
        self.head_blob_for(self.action(), digest).await
    }

    /// As [`Repository::head_blob`], with the login of the work it is the first step of.
    pub(super) async fn head_blob_for(&self, action: Action, digest: &Digest) -> Result<Option<BlobHead>, NetError> {
        let target = self.target_for(action, format!("/v2/{}/blobs/{digest}", self.repository()));
        let mut ask = Ask::new(Method::HEAD, target, &[StatusCode::OK]);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        match self.transport().tell(&ask).await {
            Ok(answer) => {
                let length = answer.header(header::CONTENT_LENGTH);
                Ok(Some(BlobHead { size_bytes: length.and_then(|length| length.trim().parse().ok()) }))
            }
            Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
