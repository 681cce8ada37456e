//! Where the bytes of a blob to be pushed come from.

use std::error::Error;
use std::fmt;
use std::sync::Mutex;

use bytes::Bytes;
use greentic_dist_types::{Descriptor, Digest};

use super::auth::BoxFuture;
use super::blob::{BlobStream, UnverifiedBlobStream};
use super::repository::Repository;
use crate::{NetError, NetErrorKind};

/// Bytes of a blob that wait in memory for their turn, when it comes over several connections and is sent over one.
const READ_AHEAD: u64 = 16 << 20;

/// Why a source could not be read. A [`NetError`] inside stays one; anything else becomes [`NetErrorKind::Source`].
pub type SourceError = Box<dyn Error + Send + Sync>;

/// The bytes of one blob, named by a descriptor, that can be read more than once.
///
/// A push reads its source anew, from any byte, whenever a connection breaks, a login expires or a registry wants the blob
/// another way. A source that can be read only once says so and is pushed without those second tries.
pub trait BlobSource: Send + Sync + fmt::Debug {
    /// Digest, exact size and media type of the blob. The same at every call.
    fn descriptor(&self) -> &Descriptor;

    /// Opens the blob at byte `offset`, which is at most its size.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>>;

    /// Whether [`BlobSource::open`] works more than once. Default true.
    fn is_replayable(&self) -> bool {
        true
    }
}

/// The bytes of an opened [`BlobSource`], in pieces.
pub trait BlobRead: Send {
    /// The next piece; `None` at the end. Empty pieces are allowed.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>>;
}

/// A blob in memory.
#[derive(Clone, Debug)]
pub struct BytesSource {
    descriptor: Descriptor,
    bytes: Bytes,
}

impl BytesSource {
    /// `bytes` under their SHA-256 digest.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), size_bytes);
        Self { descriptor, bytes }
    }

    /// `bytes` under a descriptor that the registry will hold them against.
    pub fn described(descriptor: Descriptor, bytes: impl Into<Bytes>) -> Self {
        Self { descriptor, bytes: bytes.into() }
    }
}

impl BlobSource for BytesSource {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let piece = self.bytes.slice(from..);
        Box::pin(std::future::ready(Ok(Box::new(Once(Some(piece))) as Box<dyn BlobRead>)))
    }
}

struct Once(Option<Bytes>);

impl BlobRead for Once {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(std::future::ready(self.0.take().map(Ok)))
    }
}

/// A blob that arrives once, from its first byte to its last, e.g. out of a pipe.
pub struct StreamSource {
    descriptor: Descriptor,
    reader: Mutex<Option<Box<dyn BlobRead>>>,
}

impl StreamSource {
    /// What `reader` yields, under a descriptor that the registry will hold it against.
    pub fn new(descriptor: Descriptor, reader: impl BlobRead + 'static) -> Self {
        Self { descriptor, reader: Mutex::new(Some(Box::new(reader))) }
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSource").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl BlobSource for StreamSource {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        let mut reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = if offset == 0 { reader.take() } else { None };
        Box::pin(std::future::ready(taken.ok_or_else(|| "the content can be read only once".into())))
    }

    fn is_replayable(&self) -> bool {
        false
    }
}

/// A blob of another repository, read while it is pushed; made by [`Repository::blob_source`].
#[derive(Clone, Debug)]
pub struct RepositorySource {
    repository: Repository,
    descriptor: Descriptor,
}

impl Repository {
    /// A blob of this repository as the source of a push to another one. Sends nothing until it is opened.
    ///
    /// Read from its start, its last piece is handed out only when the whole is proven. A large one may come over several
    /// connections at a time, see [`RangePolicy`](crate::RangePolicy); then up to 16 MiB of it wait in memory for their turn.
    pub fn blob_source(&self, descriptor: &Descriptor) -> RepositorySource {
        RepositorySource { repository: self.clone(), descriptor: descriptor.clone() }
    }
}

impl BlobSource for RepositorySource {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        let request = self.repository.blob(&self.descriptor).read_ahead(READ_AHEAD);
        Box::pin(async move {
            Ok(if offset == 0 {
                Box::new(request.open().await?) as Box<dyn BlobRead>
            } else {
                Box::new(request.from_offset(offset).open_unverified().await?)
            })
        })
    }
}

impl BlobRead for BlobStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move { Some(Self::next(self).await?.map_err(Into::into)) })
    }
}

impl BlobRead for UnverifiedBlobStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move { Some(Self::next(self).await?.map_err(Into::into)) })
    }
}

/// The error of a push whose content could not be read.
pub(crate) fn unreadable(error: SourceError) -> NetError {
    match error.downcast::<NetError>() {
        Ok(error) => *error,
        Err(error) => NetError::new(NetErrorKind::Source, "").with_boxed_source(error),
    }
}
