//! Layouts as sources: manifests, referrers and content, read on blocking threads.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{BlobRead, BlobSource, BoxFuture, SourceError};
use greentic_dist_types::{Descriptor, Digest, Verifier, VerifyReader};
use tokio::sync::mpsc;

use super::LayoutError;
use super::graph::{Asked, ProvenManifest, Source};
use super::layout::{BlobReader, Layout};
use crate::dist::DistError;
use crate::{blocking, regular_file};

/// Bytes read at a time.
const CHUNK: usize = 512 << 10;
/// Chunks between the disk and whoever wants them.
const CHUNKS: usize = 4;

/// One artifact of a layout.
#[derive(Clone, Debug)]
pub(crate) struct LayoutSource {
    layout: Arc<Layout>,
    name: Option<String>,
    digest: Option<Digest>,
}

impl LayoutSource {
    pub(crate) fn new(layout: Layout, name: Option<String>, digest: Option<Digest>) -> Self {
        Self { layout: Arc::new(layout), name, digest }
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, LayoutError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DistError>> {
        let layout = Arc::clone(&self.layout);
        Box::pin(async move { blocking::run(move || work(&layout).map_err(DistError::from)).await })
    }
}

impl Source for LayoutSource {
    fn root(&self) -> BoxFuture<'_, Result<ProvenManifest, DistError>> {
        let (name, digest) = (self.name.clone(), self.digest);
        self.ask(move |layout| layout.resolve(name.as_deref(), digest))
    }

    fn manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<ProvenManifest, DistError>> {
        let entry = entry.clone();
        self.ask(move |layout| layout.manifest(&entry))
    }

    fn tagged<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<Option<ProvenManifest>, DistError>> {
        let tag = tag.to_owned();
        self.ask(move |layout| layout.named(&tag))
    }

    fn referrers(&self, subject: Digest) -> BoxFuture<'_, Result<Asked, DistError>> {
        self.ask(move |layout| layout.referrers(subject).map(Asked::Found))
    }

    fn blob(&self, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        Arc::new(LayoutBlob { layout: Arc::clone(&self.layout), descriptor: descriptor.clone() })
    }
}

/// Content of a layout, read as often as needed and proven each time.
#[derive(Debug)]
struct LayoutBlob {
    layout: Arc<Layout>,
    descriptor: Descriptor,
}

impl BlobSource for LayoutBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        let (layout, descriptor) = (Arc::clone(&self.layout), self.descriptor.clone());
        let digest = descriptor.digest;
        let open = {
            let layout = Arc::clone(&layout);
            move || layout.blob(&descriptor).map_err(SourceError::from)
        };
        let explain = move |error| layout.reading(digest, error).into();
        Box::pin(std::future::ready(Ok(chunks(offset, open, explain))))
    }
}

/// A file that is pushed, read as often as needed and held against the digest it had when it was looked at.
#[derive(Debug)]
pub(super) struct FileBlob {
    path: PathBuf,
    descriptor: Descriptor,
}

/// A file that is pushed is not what it was when its digest was computed.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` changed while it was pushed")]
struct Changed {
    path: String,
    #[source]
    source: io::Error,
}

impl FileBlob {
    pub(super) const fn new(path: PathBuf, descriptor: Descriptor) -> Self {
        Self { path, descriptor }
    }
}

impl BlobSource for FileBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, Result<Box<dyn BlobRead>, SourceError>> {
        let (path, descriptor) = (self.path.clone(), self.descriptor.clone());
        let shown = path.display().to_string();
        let open = move || {
            let file = regular_file::open(&path)?;
            let verifier = Verifier::for_content(descriptor.digest, descriptor.size_bytes);
            Ok(VerifyReader::new(file.take(u64::MAX), verifier))
        };
        let explain = move |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData => Changed { path: shown.clone(), source }.into(),
            _ => source.into(),
        };
        Box::pin(std::future::ready(Ok(chunks(offset, open, explain))))
    }
}

/// Reads content on a blocking thread, from `offset`, as far as somebody takes it.
fn chunks(
    offset: u64,
    open: impl FnOnce() -> Result<BlobReader, SourceError> + Send + 'static,
    explain: impl Fn(io::Error) -> SourceError + Send + 'static,
) -> Box<dyn BlobRead> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    // Ends when everything was read, or when nobody reads any more.
    drop(blocking::run(move || {
        let read = open().and_then(|reader| {
            read_out(reader, offset, &mut |chunk| sender.blocking_send(Ok(chunk)).is_ok()).map_err(explain)
        });
        if let Err(error) = read {
            drop(sender.blocking_send(Err(error)));
        }
        Ok(())
    }));
    Box::new(Chunks(receiver))
}

/// Chunks on their way from a blocking thread.
struct Chunks(mpsc::Receiver<Result<Bytes, SourceError>>);

impl BlobRead for Chunks {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move { self.0.recv().await })
    }
}

/// Reads content and hands it on from `offset`, always one chunk late: the last one only when the whole is proven.
fn read_out(mut reader: BlobReader, offset: u64, take: &mut dyn FnMut(Bytes) -> bool) -> io::Result<()> {
    let mut skip = offset;
    let mut held: Option<Bytes> = None;
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Some(chunk) = held.take()
            && !take(chunk)
        {
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        // What comes before the offset is hashed and not handed on.
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
        skip -= skipped as u64;
        let chunk = buffer.get(skipped..count).unwrap_or_default();
        if !chunk.is_empty() {
            held = Some(Bytes::copy_from_slice(chunk));
        }
    }
}
