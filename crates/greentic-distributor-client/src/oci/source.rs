//! Layouts as sources: manifests, referrers and content, read on blocking threads.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{BlobRead, BlobSource, BoxFuture, SourceError};
use greentic_dist_types::{Descriptor, Digest};
use tokio::sync::mpsc;

use super::LayoutError;
use super::graph::{Asked, ProvenManifest, Source};
use super::layout::Layout;
use crate::blocking;
use crate::dist::DistError;

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
        self.ask(move |layout| {
            let found = layout.referrers(subject)?;
            Ok(Asked::Found(found.iter().map(ProvenManifest::descriptor).collect()))
        })
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
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(CHUNKS);
            // Ends when everything was read, or when nobody reads any more.
            drop(blocking::run(move || {
                let sent = read_out(&layout, &descriptor, offset, &mut |chunk| sender.blocking_send(Ok(chunk)).is_ok());
                if let Err(error) = sent {
                    drop(sender.blocking_send(Err(error)));
                }
                Ok(())
            }));
            Ok(Box::new(Chunks(receiver)) as Box<dyn BlobRead>)
        })
    }
}

/// Chunks on their way from a blocking thread.
struct Chunks(mpsc::Receiver<Result<Bytes, LayoutError>>);

impl BlobRead for Chunks {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move { Some(self.0.recv().await?.map_err(Into::into)) })
    }
}

/// Reads content and hands it on from `offset`, always one chunk late: the last one only when the whole is proven.
fn read_out(
    layout: &Layout,
    descriptor: &Descriptor,
    offset: u64,
    take: &mut dyn FnMut(Bytes) -> bool,
) -> Result<(), LayoutError> {
    let mut reader = layout.blob(descriptor)?;
    let mut skip = offset;
    let mut held: Option<Bytes> = None;
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(layout.reading(descriptor.digest, error)),
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
