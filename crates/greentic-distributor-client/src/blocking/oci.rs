//! The client for registries, for code that is not async.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::runtime::wait_or;
use crate::dist::DistError;
use crate::oci::{
    self, BlobHead, BlobRange, BlobRequest, BlobSource, BlobStream, BlobUpload, Descriptor, Digest, Error,
    FetchedImage, FetchedManifest, ManifestHead, ManifestUpload, Paged, PlatformChoice, PushedBlob, PushedManifest,
    RawManifest, Reference, ReferrersUpkeep, RegistryVersion, Revalidated, Selector,
};

/// Waits for what a registry is asked.
pub(super) fn wait<T: Send>(future: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    wait_or(future, |error| Error::config("no runtime could be started to wait in").with_source(error))?
}

/// The client for registries; see [`oci::Client`]. Cheap to clone.
///
/// Like everything of this [module](super) it may be used from anywhere. Besides the errors of what it waits for, each call may
/// fail with the kind `Config` when the system has no thread to spare.
#[derive(Clone, Debug)]
pub struct Client(oci::Client);

/// One repository; see [`oci::Repository`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository(oci::Repository);

/// A registry as a whole; see [`oci::Registry`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(oci::Registry);

/// A list of a registry, entry by entry; see [`Paged`]. After an error it is over.
#[derive(Debug)]
pub struct List<T>(Paged<T>);

/// A blob that is read as it comes; see [`BlobStream`]. The last bytes come only when all are proven: what was read before an
/// error may not be used.
#[derive(Debug)]
pub struct BlobReader {
    stream: Stream,
    rest: Bytes,
}

#[derive(Debug)]
enum Stream {
    Whole(Box<BlobStream>),
    Part(BlobRange),
    Over,
}

impl From<oci::Client> for Client {
    fn from(client: oci::Client) -> Self {
        Self(client)
    }
}

impl Client {
    /// The async client this one is made of: for what sends nothing, such as its counters.
    pub const fn inner(&self) -> &oci::Client {
        &self.0
    }

    /// The repository a reference names; its tag and digest are not looked at. Sends nothing.
    pub fn repository(&self, reference: &Reference) -> Repository {
        Repository(self.0.repository(reference))
    }

    /// A registry as a whole, `host` or `host:port`. Sends nothing.
    ///
    /// # Errors
    /// `InvalidInput` for what is no registry.
    pub fn registry(&self, name: &str) -> Result<Registry, Error> {
        self.0.registry(name).map(Registry)
    }
}

impl Registry {
    /// Asks the registry whether it is one; see [`oci::Registry::ping`].
    ///
    /// # Errors
    /// As there.
    pub fn ping(&self) -> Result<RegistryVersion, Error> {
        wait(self.0.ping())
    }

    /// The repositories of the registry; see [`oci::Registry::catalog`]. Sends nothing yet.
    pub fn catalog(&self) -> List<String> {
        List(self.0.catalog())
    }
}

impl Repository {
    /// The async handle this one is made of.
    pub const fn inner(&self) -> &oci::Repository {
        &self.0
    }

    /// The tags of the repository; see [`oci::Repository::tags`]. Sends nothing yet.
    pub fn tags(&self) -> List<String> {
        List(self.0.tags())
    }

    /// What a tag or digest names; see [`oci::Repository::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, selector: Selector<'_>) -> Result<Descriptor, Error> {
        wait(self.0.resolve(selector))
    }

    /// What a registry says about a manifest without sending it; see [`oci::Repository::head_manifest`].
    ///
    /// # Errors
    /// As there.
    pub fn head_manifest(&self, selector: Selector<'_>) -> Result<ManifestHead, Error> {
        wait(self.0.head_manifest(selector))
    }

    /// Fetches a manifest or index and proves it; see [`oci::Repository::manifest`].
    ///
    /// # Errors
    /// As there.
    pub fn manifest(&self, selector: Selector<'_>) -> Result<FetchedManifest, Error> {
        wait(self.0.manifest(selector))
    }

    /// A tag's manifest when it changed; see [`oci::Repository::manifest_if_changed`].
    ///
    /// # Errors
    /// As there.
    pub fn manifest_if_changed(
        &self,
        tag: &str,
        etag: Option<&str>,
        known: &Digest,
    ) -> Result<Option<FetchedManifest>, Error> {
        wait(self.0.manifest_if_changed(tag, etag, known))
    }

    /// The same, with the endpoint that answered; see [`oci::Repository::revalidate`].
    ///
    /// # Errors
    /// As there.
    pub fn revalidate(&self, tag: &str, etag: Option<&str>, known: &Digest) -> Result<Revalidated, Error> {
        wait(self.0.revalidate(tag, etag, known))
    }

    /// The manifest for a platform, through an index where there is one; see [`oci::Repository::image`].
    ///
    /// # Errors
    /// As there.
    pub fn image(&self, selector: Selector<'_>, platform: &PlatformChoice) -> Result<FetchedImage, Error> {
        wait(self.0.image(selector, platform))
    }

    /// Whether the repository has a blob; see [`oci::Repository::head_blob`].
    ///
    /// # Errors
    /// As there.
    pub fn head_blob(&self, digest: &Digest) -> Result<Option<BlobHead>, Error> {
        wait(self.0.head_blob(digest))
    }

    /// The whole blob in memory, when it has at most `limit` bytes; see [`BlobRequest::bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn blob_bytes(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        wait(self.0.blob(descriptor).bytes(limit))
    }

    /// Opens a blob to be read as it comes; see [`BlobRequest::open`].
    ///
    /// # Errors
    /// As there; what goes wrong later comes out of [`BlobReader`].
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        let stream = Stream::Whole(Box::new(wait(self.0.blob(descriptor).open())?));
        Ok(BlobReader { stream, rest: Bytes::new() })
    }

    /// Writes a whole blob into a file; see [`oci::save_blob`].
    ///
    /// # Errors
    /// As there.
    pub fn save_blob(&self, descriptor: &Descriptor, path: &Path, replace: bool) -> Result<u64, DistError> {
        super::wait(oci::save_blob(&self.0, descriptor, path, replace))?
    }

    /// Writes a blob into a file in the way that `settings` make of the request, with progress for one; see
    /// [`oci::save_blob_with`].
    ///
    /// # Errors
    /// As there.
    pub fn save_blob_with(
        &self,
        descriptor: &Descriptor,
        path: &Path,
        replace: bool,
        settings: impl FnOnce(BlobRequest) -> BlobRequest,
    ) -> Result<u64, DistError> {
        super::wait(oci::save_blob_with(settings(self.0.blob(descriptor)), path, replace))?
    }

    /// Opens a blob in the way that `settings` make of the request; see [`BlobRequest::open`].
    ///
    /// # Errors
    /// As there; what goes wrong later comes out of [`BlobReader`].
    pub fn open_blob_with(
        &self,
        descriptor: &Descriptor,
        settings: impl FnOnce(BlobRequest) -> BlobRequest,
    ) -> Result<BlobReader, Error> {
        let stream = Stream::Whole(Box::new(wait(settings(self.0.blob(descriptor)).open())?));
        Ok(BlobReader { stream, rest: Bytes::new() })
    }

    /// Opens a part of a blob, which nothing can prove; see [`BlobRequest::open_range`].
    ///
    /// # Errors
    /// As there.
    pub fn open_blob_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<BlobReader, Error> {
        let request: BlobRequest = self.0.blob(descriptor);
        let stream = Stream::Part(wait(request.open_range(range))?);
        Ok(BlobReader { stream, rest: Bytes::new() })
    }

    /// Pushes a blob; see [`oci::Repository::put_blob`].
    ///
    /// # Errors
    /// As [`BlobUpload::send`].
    pub fn put_blob(&self, source: Arc<dyn BlobSource>) -> Result<PushedBlob, Error> {
        self.put_blob_with(source, |upload| upload)
    }

    /// Pushes a blob in the way that `settings` make of it; see [`BlobUpload`].
    ///
    /// # Errors
    /// As [`BlobUpload::send`].
    pub fn put_blob_with(
        &self,
        source: Arc<dyn BlobSource>,
        settings: impl FnOnce(BlobUpload) -> BlobUpload,
    ) -> Result<PushedBlob, Error> {
        wait(settings(self.0.put_blob(source)).send())
    }

    /// Pushes a manifest under its digest and these tags; see [`oci::Repository::put_manifest`].
    ///
    /// # Errors
    /// As [`ManifestUpload::send`].
    pub fn put_manifest(&self, manifest: &RawManifest, tags: &[&str]) -> Result<PushedManifest, Error> {
        let upload: ManifestUpload<'_> = self.0.put_manifest(manifest).tags(tags.iter().copied());
        wait(upload.send())
    }

    /// What refers to a manifest, at most `limit` of them; see [`oci::Repository::referrers`].
    ///
    /// # Errors
    /// As there, and `TooLarge` when there are more.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Descriptor>, Error> {
        wait(async { self.0.referrers(subject, artifact_type).await?.pages.collect(limit).await })
    }

    /// Deletes a manifest and every tag that names it; see [`oci::Repository::delete_manifest`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<ReferrersUpkeep, Error> {
        wait(self.0.delete_manifest(digest))
    }

    /// Deletes a tag and not the manifest it names; see [`oci::Repository::delete_tag`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_tag(&self, tag: &str) -> Result<(), Error> {
        wait(self.0.delete_tag(tag))
    }

    /// Deletes a blob; see [`oci::Repository::delete_blob`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_blob(&self, digest: &Digest) -> Result<(), Error> {
        wait(self.0.delete_blob(digest))
    }
}

impl<T: Send> List<T> {
    /// Asks for pages of so many entries, 1 to 1000. Only before the first entry.
    #[must_use]
    pub fn page_size(self, entries: u32) -> Self {
        Self(self.0.page_size(entries))
    }

    /// Begins after this entry, in the registry's order. Only before the first entry.
    #[must_use]
    pub fn after(self, entry: impl Into<String>) -> Self {
        Self(self.0.after(entry))
    }
}

impl<T: Send> Iterator for List<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(async { self.0.next().await.transpose() }).transpose()
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.rest.is_empty() {
            let piece = match &mut self.stream {
                Stream::Whole(stream) => wait(async { stream.next().await.transpose() }),
                Stream::Part(range) => wait(async { range.next().await.transpose() }),
                Stream::Over => Ok(None),
            };
            match piece {
                Ok(Some(piece)) => self.rest = piece,
                Ok(None) => {
                    self.stream = Stream::Over;
                    return Ok(0);
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
