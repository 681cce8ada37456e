//! Pushing a blob: not at all when it is there, by a mount, in one request, in two, or in chunks.

use std::sync::Arc;
use std::time::Duration;

use greentic_dist_types::{Descriptor, SafeText};
use http::{HeaderValue, Method, StatusCode, header};

use super::auth::Action;
use super::manifest::digest_hint;
use super::mount::{self, Mount};
use super::repository::Repository;
use super::session::Session;
use super::source::BlobSource;
use crate::exchange::{Ask, Collected};
use crate::limit::Lane;
use crate::payload::{OnSent, Payload};
use crate::retry::Retry;
use crate::{NetError, NetErrorKind};

/// Size of a chunk unless told otherwise, in bytes.
pub(super) const CHUNK_BYTES: u64 = 16 << 20;
/// Bytes per second at which a registry is expected to hash and store what it was sent, at the least.
const STORED_PER_SECOND: u64 = 16 << 20;

/// In how many requests the bytes of a blob are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadMode {
    /// `POST`, then one `PUT` with all bytes: what every registry takes. Goes over to [`UploadMode::Chunked`] by itself when
    /// the registry finds the body too large (413) or does not answer in time.
    #[default]
    Whole,
    /// One `POST` with all bytes. Where a registry does not take that (most do not) it goes on as [`UploadMode::Whole`], and
    /// the next blob begins there.
    Single,
    /// `POST`, a `PATCH` for each chunk, an empty `PUT`. A cut costs the rest of a chunk. A registry that loses chunks gets the
    /// blob as a [`UploadMode::Whole`]. A source that can be read only once is one chunk.
    Chunked {
        /// Size of a chunk in bytes, raised to what the registry demands (up to 64 MiB). 0 for 16 MiB.
        chunk_bytes: u64,
    },
}

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushedBlob {
    /// It was there.
    Existed,
    /// It was taken over from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// A blob about to be pushed; made by [`Repository::put_blob`].
#[must_use]
pub struct BlobUpload {
    pub(super) repository: Repository,
    pub(super) source: Arc<dyn BlobSource>,
    mount_from: Option<String>,
    mode: UploadMode,
    check_first: bool,
    pub(super) on_sent: Option<OnSent>,
}

/// A failed way to push, and what may come after it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: NetError,
    pub(super) step: Step,
}

/// How far a failed way had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing of the blob can be in the registry.
    Before,
    /// The bytes were on their way, or the commit was: it may be there all the same.
    Commit,
    /// The registry lost chunks, or says it has what was never sent.
    Diverged,
    /// The registry does not know the session any more.
    Lost,
}

/// What was tried for one blob.
#[derive(Debug)]
struct Tried {
    mode: UploadMode,
    mount_from: Option<Arc<str>>,
    /// Whether nobody has asked yet whether the blob is there, and somebody is to.
    is_unasked: bool,
    may_change_mode: bool,
    may_lose_session: bool,
}

impl Repository {
    /// A blob to be pushed into this repository. Sends nothing yet.
    pub fn put_blob(&self, source: Arc<dyn BlobSource>) -> BlobUpload {
        BlobUpload {
            repository: self.clone(),
            source,
            mount_from: None,
            mode: UploadMode::default(),
            check_first: true,
            on_sent: None,
        }
    }
}

impl std::fmt::Debug for BlobUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobUpload")
            .field("repository", &self.repository)
            .field("source", &self.source)
            .field("mount_from", &self.mount_from)
            .field("mode", &self.mode)
            .field("check_first", &self.check_first)
            .finish_non_exhaustive()
    }
}

impl BlobUpload {
    /// Another repository of the same registry that has the blob: the registry is asked to take it over from there, and gets
    /// the bytes where it does not. This comes before any other question: where it succeeds it is the only one.
    pub fn mount_from(mut self, repository: impl Into<String>) -> Self {
        self.mount_from = Some(repository.into());
        self
    }

    /// In how many requests the bytes are sent. Default [`UploadMode::Whole`].
    pub fn mode(mut self, mode: UploadMode) -> Self {
        self.mode = mode;
        self
    }

    /// Asks first whether the blob is there already (one HEAD). Default true; without it a blob that is known to be missing
    /// costs one request less.
    pub fn check_first(mut self, check: bool) -> Self {
        self.check_first = check;
        self
    }

    /// Who is told how many bytes of the blob the connection has taken. Called on the async threads: must not block. The number
    /// goes back when an attempt starts anew.
    pub fn on_sent(mut self, on_sent: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.on_sent = Some(Arc::new(on_sent));
        self
    }

    /// Pushes the blob, unless it is there.
    ///
    /// Requests: 1 when it is there, else 3 (HEAD, POST, PUT), and one more for each chunk. With [`BlobUpload::mount_from`] 1 when
    /// it is mounted, there already or not; where the registry answers with a session, 3 (POST, HEAD, and the PUT, or the DELETE
    /// of the session when it is there); where it refuses the mount, one more than without. A way that fails in passing is tried again from its start (chunks: from where the registry says it is), as often as the
    /// [`RetryPolicy`](crate::RetryPolicy) allows.
    ///
    /// Cancel-safe: dropping the future gives up the upload, and the session is cancelled in the background.
    ///
    /// # Errors
    /// `Integrity` when the bytes are not those of the descriptor; `Source` when they cannot be read; `Unsupported` where the
    /// registry takes no uploads; `Refused` when it names a location this client may not follow; otherwise by cause.
    pub async fn send(self) -> Result<PushedBlob, NetError> {
        let transport = Arc::clone(self.repository.transport());
        transport.within(self.send_now()).await
    }

    async fn send_now(mut self) -> Result<PushedBlob, NetError> {
        self.repository = self.repository.for_pushing().await?;
        let descriptor = self.source.descriptor();
        let mount_from = match &self.mount_from {
            Some(from) => Some(mount::checked(self.repository.registry(), from)?),
            None => None,
        };
        let is_unasked = self.check_first && mount_from.is_some();
        if self.check_first && mount_from.is_none() && self.is_there().await? {
            return Ok(PushedBlob::Existed);
        }
        let mut tried =
            Tried { mode: self.mode, mount_from, is_unasked, may_change_mode: true, may_lose_session: true };
        let mut retry = self.retry()?;
        loop {
            let failure = match Box::pin(self.once(&mut tried)).await {
                Ok(pushed) => return Ok(pushed),
                Err(failure) => failure,
            };
            // Requests that carry nothing were repeated already, as often as is allowed.
            if failure.step == Step::Before {
                return Err(failure.error);
            }
            // The answer to a commit may be what was lost.
            if failure.step == Step::Commit && failure.error.is_transient() && self.is_there().await.unwrap_or(false) {
                return Ok(PushedBlob::Sent);
            }
            let again = tried.after(&failure, descriptor);
            if !again || !self.source.is_replayable() {
                let error = name_wrong_bytes(failure.error);
                self.repository.transport().pause(&mut retry, error).await?;
            }
        }
    }

    pub(super) fn retry(&self) -> Result<Retry, NetError> {
        Ok(self.repository.transport().retry_at(&self.repository.known().url("/")?))
    }

    /// Whether the repository has the blob.
    async fn is_there(&self) -> Result<bool, NetError> {
        let descriptor = self.source.descriptor();
        match self.repository.head_blob_for(Action::Push, &descriptor.digest).await {
            Ok(Some(head)) => Ok(head.size_bytes.is_none_or(|size| size == descriptor.size_bytes)),
            Ok(None) => Ok(false),
            // No HEAD here, or no right to read: the upload itself decides.
            Err(error) if matches!(error.status(), Some(400 | 403 | 405 | 501)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One way from its start to its end.
    async fn once(&self, tried: &mut Tried) -> Result<PushedBlob, Failure> {
        let digest = &self.source.descriptor().digest;
        let before = |error| Failure { error, step: Step::Before };
        if let Some(from) = tried.mount_from.clone() {
            match mount::mount(&self.repository, digest, &from).await.map_err(before)? {
                Mount::Done => return Ok(PushedBlob::Mounted),
                Mount::Session(session) => {
                    if std::mem::take(&mut tried.is_unasked) && self.is_there().await.map_err(before)? {
                        session.cancel().await;
                        return Ok(PushedBlob::Existed);
                    }
                    return self.fill(session, tried.mode).await;
                }
                Mount::Refused => tried.mount_from = None,
            }
        }
        if std::mem::take(&mut tried.is_unasked) && self.is_there().await.map_err(before)? {
            return Ok(PushedBlob::Existed);
        }
        if tried.mode == UploadMode::Single {
            tried.mode = UploadMode::Whole;
            if !self.repository.known().refuses_single_post() {
                match self.post_whole().await? {
                    None => return Ok(PushedBlob::Sent),
                    Some(session) => return self.fill(session, UploadMode::Whole).await,
                }
            }
        }
        let session = Session::begin(&self.repository, digest).await.map_err(before)?;
        self.fill(session, tried.mode).await
    }

    /// Brings the bytes into a session and ends it, one way or the other.
    async fn fill(&self, mut session: Session, mode: UploadMode) -> Result<PushedBlob, Failure> {
        let sent = match mode {
            UploadMode::Chunked { chunk_bytes } => self.send_chunks(&mut session, chunk_bytes).await,
            UploadMode::Whole | UploadMode::Single => self.put_whole(&session).await,
        };
        match sent {
            Ok(()) => {
                session.finished();
                Ok(PushedBlob::Sent)
            }
            Err(failure) => {
                match failure.step {
                    Step::Lost => session.finished(),
                    Step::Before | Step::Commit | Step::Diverged => session.cancel().await,
                }
                Err(failure)
            }
        }
    }

    /// All bytes in the request that ends the session (end-6).
    async fn put_whole(&self, session: &Session) -> Result<(), Failure> {
        let descriptor = self.source.descriptor();
        let mut ask = session.commit(&descriptor.digest);
        self.load(&mut ask, 0, descriptor.size_bytes);
        self.finish(&ask).await
    }

    /// All bytes in the request that would open a session (end-4b). `None` when that was all.
    async fn post_whole(&self) -> Result<Option<Session>, Failure> {
        let descriptor = self.source.descriptor();
        let path = format!("/v2/{}/blobs/uploads/?digest={}", self.repository.repository(), descriptor.digest);
        let access = self.repository.access_for(Action::Push);
        let target = self.repository.target_for(Action::Push, path);
        let mut ask = Ask::new(Method::POST, target, &[StatusCode::CREATED, StatusCode::ACCEPTED]);
        self.load(&mut ask, 0, descriptor.size_bytes);
        match self.repository.transport().tell_once(&ask).await {
            Ok(answer) if answer.status == StatusCode::CREATED => self.confirm(&answer).await.map(|()| None),
            Ok(answer) => {
                self.repository.known().set_refuses_single_post();
                Session::of(&self.repository, &access, &answer)
                    .map(Some)
                    .map_err(|error| Failure { error, step: Step::Before })
            }
            Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 411 | 413 | 415 | 501)) => {
                self.repository.known().set_refuses_single_post();
                Err(Failure { error, step: Step::Lost })
            }
            Err(error) => Err(Failure { error, step: Step::Commit }),
        }
    }

    /// Puts a part of the blob into a request.
    pub(super) fn load(&self, ask: &mut Ask, first: u64, len: u64) {
        ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.lane = Lane::Upload;
        ask.patience = storing(self.source.descriptor().size_bytes);
        ask.body =
            if len == 0 { Payload::NONE } else { Payload::part(&self.source, first, len, self.on_sent.as_ref()) };
    }

    /// Sends the request that ends an upload, and sees to it that the registry means what it answers.
    pub(super) async fn finish(&self, ask: &Ask) -> Result<(), Failure> {
        match self.repository.transport().tell_once(ask).await {
            Ok(answer) => self.confirm(&answer).await,
            Err(error) => {
                let lost = error.has_code("BLOB_UPLOAD_UNKNOWN") || error.has_code("BLOB_UPLOAD_INVALID");
                let lost = lost || matches!(error.status(), Some(404 | 416));
                Err(Failure { error, step: if lost { Step::Lost } else { Step::Commit } })
            }
        }
    }

    /// Whether a blob that was answered for is there under the digest it was pushed by.
    async fn confirm(&self, answer: &Collected) -> Result<(), Failure> {
        let digest = self.source.descriptor().digest;
        let told = digest_hint(&answer.headers);
        // Registries with one favourite algorithm name the blob by that (docker-registry 2.8): nothing to compare.
        let other = told.is_some_and(|told| told.algorithm() == digest.algorithm() && told != digest);
        if !other && matches!(answer.status, StatusCode::CREATED | StatusCode::NO_CONTENT) {
            return Ok(());
        }
        let found = self.repository.head_blob_for(Action::Push, &digest).await;
        if found.map_err(|error| Failure { error, step: Step::Commit })?.is_none() {
            let detail = "the registry accepted a blob and does not have it";
            let error = NetError::new(NetErrorKind::Protocol, detail).for_request(&Method::PUT, &answer.url);
            return Err(Failure { error, step: Step::Diverged });
        }
        if other {
            let text = "the registry named a pushed blob by another digest, and has it under the right one";
            self.repository.transport().warn(self.repository.registry(), SafeText::new(text));
        }
        Ok(())
    }
}

impl Tried {
    /// What comes after a failure without a wait. False when it is only to be repeated, where it is worth that.
    fn after(&mut self, failure: &Failure, descriptor: &Descriptor) -> bool {
        let chunks = matches!(self.mode, UploadMode::Chunked { .. });
        let slow = failure.error.status() == Some(413) || failure.error.kind() == NetErrorKind::Timeout;
        let wrong = failure.step == Step::Diverged || failure.error.has_code("DIGEST_INVALID");
        let next = match failure.step {
            _ if chunks && wrong => Some(UploadMode::Whole),
            Step::Commit if !chunks && slow && descriptor.size_bytes > CHUNK_BYTES => {
                Some(UploadMode::Chunked { chunk_bytes: CHUNK_BYTES })
            }
            _ => None,
        };
        if let Some(next) = next {
            self.mode = next;
            return std::mem::take(&mut self.may_change_mode);
        }
        failure.step == Step::Lost && std::mem::take(&mut self.may_lose_session)
    }
}

/// Tells a registry's word that the bytes are wrong for what it is.
fn name_wrong_bytes(error: NetError) -> NetError {
    if !error.has_code("DIGEST_INVALID") && !error.has_code("SIZE_INVALID") {
        return error;
    }
    error
        .with_kind(NetErrorKind::Integrity)
        .with_hint("the content changed since its digest was computed, or on its way")
}

/// How much longer than usual a registry may take to answer for so many bytes.
fn storing(size_bytes: u64) -> Duration {
    Duration::from_secs(size_bytes / STORED_PER_SECOND)
}
