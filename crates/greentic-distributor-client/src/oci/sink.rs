//! Layouts as destinations: what is brought into a directory or an archive, and in which order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{BlobSource, BytesSource, Piece};
use greentic_dist_types::{Descriptor, Digest, SafeText};
use tokio::sync::mpsc;

use super::LayoutError;
use super::copy::{CopyReport, Job};
use super::graph::{Named, Role, gather};
use super::layout::{ArchiveWriter, DirWriter, Partial};
use super::transfer::{Content, End, Incoming, PIECES, Step, bring, pump, unreadable};
use crate::blocking;
use crate::dist::{DistClient, DistError};
use crate::progress::{Event, SkipReason};

/// What happened to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Copied,
    Present,
    Mounted,
}

impl CopyReport {
    pub(super) fn count(&mut self, moved: Moved, size_bytes: u64) {
        match moved {
            Moved::Copied => {
                self.blobs_copied += 1;
                self.bytes_copied += size_bytes;
            }
            Moved::Present => self.blobs_present += 1,
            Moved::Mounted => self.blobs_mounted += 1,
        }
    }
}

impl Job {
    /// Content: what the manifest itself carries, else the source's.
    pub(super) fn content(&self, blob: &Descriptor) -> Arc<dyn BlobSource> {
        match &blob.data {
            Some(data) => Arc::new(BytesSource::described(blob.clone(), Bytes::copy_from_slice(data))),
            None => self.source.blob(blob),
        }
    }

    /// The same, for somebody who takes its pieces in any order.
    fn fastest(&self, blob: &Descriptor) -> Content {
        match self.source.request(blob).filter(|_| blob.data.is_none()) {
            Some(request) => Content::Registry(Box::new(request)),
            None => Content::Source(self.content(blob)),
        }
    }

    /// The manifests that a layout's index names: what was asked for under its name, what is attached under its tag, and what
    /// refers to it, so that it is found.
    fn named(&self) -> Vec<Named> {
        let named = self.graph.nodes.iter().flat_map(|node| match &node.role {
            Role::Root if !self.names.is_empty() => {
                self.names.iter().map(|name| node.manifest.named(Some(name))).collect()
            }
            Role::Root | Role::Referrer => vec![node.manifest.named(None)],
            Role::Attached(tag) => vec![node.manifest.named(Some(tag))],
            Role::Child => Vec::new(),
        });
        named.collect()
    }
}

/// The name of a blob in progress events.
pub(super) fn shown(blob: &Descriptor) -> String {
    let digest = blob.digest.to_string();
    format!("{} {}", digest.get(..19).unwrap_or(&digest), SafeText::excerpt(&blob.media_type, 80))
}

/// Copies into a directory that has room for it: blobs, several at a time, then manifests, then the index.
pub(super) async fn into_dir(job: &Job, writer: DirWriter, report: &mut CopyReport) -> Result<(), DistError> {
    let (writer, named) = (Arc::new(writer), Arc::new(job.named()));
    let (to, names) = (Arc::clone(&writer), Arc::clone(&named));
    blocking::run(move || Ok(to.check(&names)?)).await?;
    let blobs: Vec<_> = job.graph.blobs().into_values().map(|blob| (job.fastest(&blob), blob)).collect();
    let (to, client) = (Arc::clone(&writer), job.client.clone());
    let moved = gather(blobs, job.jobs, move |(content, blob)| {
        let (writer, client) = (Arc::clone(&to), client.clone());
        async move {
            let (name, size_bytes) = (shown(&blob), blob.size_bytes);
            let tell = telling(&client, &name, &blob);
            let end = Arc::new(InDir { writer, blob });
            let moved = bring(&content, &name, &end, &tell).await?;
            if moved == Moved::Present {
                skipped(&client, &name, SkipReason::Present);
            }
            Ok((moved, size_bytes))
        }
    });
    for (moved, size_bytes) in moved.await? {
        report.count(moved, size_bytes);
    }
    let manifests: Vec<_> = job.graph.nodes.iter().map(|node| node.manifest.clone()).collect();
    let (copied, present) = blocking::run(move || {
        let (mut copied, mut present) = (0, 0);
        for manifest in manifests {
            let descriptor = manifest.descriptor();
            if writer.has(&descriptor)? {
                present += 1;
            } else {
                writer.put(&descriptor, &manifest.raw)?;
                copied += 1;
            }
        }
        writer.name(&named)?;
        Ok((copied, present))
    })
    .await?;
    report.manifests_copied += copied;
    report.manifests_present += present;
    Ok(())
}

/// A blob on its way into a directory.
struct InDir {
    writer: Arc<DirWriter>,
    blob: Descriptor,
}

impl End for InDir {
    fn begin(&self) -> Result<Option<Partial>, DistError> {
        Ok(if self.writer.has(&self.blob)? { None } else { Some(self.writer.begin(&self.blob)?) })
    }

    fn finish(&self, partial: Partial) -> Result<(), DistError> {
        Ok(self.writer.finish(partial)?)
    }

    fn explain(&self, error: LayoutError) -> DistError {
        DistError::Layout(error)
    }
}

/// Tells the reporter of a blob that is not transferred.
pub(super) fn skipped(client: &DistClient, name: &str, reason: SkipReason) {
    client.inner.reporter.event(&Event::Skipped { reference: name, reason });
}

/// Tells the reporter what happens to a blob.
fn telling<'a>(client: &'a DistClient, name: &'a str, blob: &Descriptor) -> impl Fn(Step) + Send + Sync + 'a {
    let size_bytes = blob.size_bytes;
    move |step| {
        client.inner.reporter.event(&match step {
            Step::Started(offset) => {
                Event::Started { reference: name, total_bytes: Some(size_bytes), resumed_at: offset }
            }
            Step::Came(bytes) => Event::Progress { reference: name, bytes },
            Step::Ended { well: true } => Event::Finished { reference: name, bytes: size_bytes },
            Step::Ended { well: false } => Event::Failed { reference: name },
        });
    }
}

/// What is told to the thread that writes an archive.
enum Message {
    /// A blob begins.
    Blob(Box<Descriptor>),
    Piece(Bytes),
    /// All of a blob came.
    EndOfBlob,
    /// All of the archive came.
    End,
}

impl From<Piece> for Message {
    fn from(piece: Piece) -> Self {
        Self::Piece(piece.bytes)
    }
}

/// Copies into an archive: everything in the order of its digest.
pub(super) async fn into_archive(job: &Job, path: &Path, report: &mut CopyReport) -> Result<(), DistError> {
    let blobs = job.graph.blobs();
    let mut all: BTreeMap<Digest, Descriptor> = blobs.clone();
    let manifests: BTreeMap<Digest, Bytes> =
        job.graph.nodes.iter().map(|node| (node.manifest.digest, node.manifest.raw.clone())).collect();
    all.extend(job.graph.nodes.iter().map(|node| (node.manifest.digest, node.manifest.descriptor())));
    let digests: Vec<Digest> = all.keys().copied().collect();
    let (named, path, replace) = (job.named(), path.to_owned(), job.replace);
    let (sender, mut receiver) = mpsc::channel::<Message>(PIECES);
    let worker = blocking::run(move || {
        let mut writer = ArchiveWriter::create(&path, replace, &named, &digests)?;
        while let Some(message) = receiver.blocking_recv() {
            match message {
                Message::Blob(descriptor) => writer.begin_blob(&descriptor)?,
                Message::Piece(piece) => writer.write(&piece)?,
                Message::EndOfBlob => writer.end_blob()?,
                Message::End => return Ok(writer.finish().map(|()| true)?),
            }
        }
        Ok(false)
    });
    let fed = feed(job, &all, &manifests, &sender, report).await;
    drop(sender);
    // What the writer says explains why it takes nothing any more.
    if !worker.await? {
        return fed.and(Err(DistError::Cancelled));
    }
    report.manifests_copied += manifests.len();
    fed
}

/// Sends everything to the thread that writes the archive.
async fn feed(
    job: &Job,
    all: &BTreeMap<Digest, Descriptor>,
    manifests: &BTreeMap<Digest, Bytes>,
    sender: &mpsc::Sender<Message>,
    report: &mut CopyReport,
) -> Result<(), DistError> {
    for (digest, blob) in all {
        if sender.send(Message::Blob(Box::new(blob.clone()))).await.is_err() {
            return Ok(());
        }
        if let Some(raw) = manifests.get(digest) {
            for part in [Message::Piece(raw.clone()), Message::EndOfBlob] {
                let _gone = sender.send(part).await.is_err();
            }
        } else {
            blob_into_archive(job, blob, sender).await?;
            report.count(Moved::Copied, blob.size_bytes);
        }
    }
    let _gone = sender.send(Message::End).await.is_err();
    Ok(())
}

/// An archive is written from its beginning to its end: what comes over several connections is put in its order before.
async fn blob_into_archive(job: &Job, blob: &Descriptor, sender: &mpsc::Sender<Message>) -> Result<(), DistError> {
    let name = shown(blob);
    let tell = telling(&job.client, &name, blob);
    tell(Step::Started(0));
    let source = job.content(blob);
    let pumping = async {
        let mut incoming = Incoming::of(source.as_ref(), 0).await?;
        pump(&mut incoming, sender, 0, &tell).await
    };
    let pumped = pumping.await;
    // Who writes the archive and is gone has failed, and says why.
    let well = pumped.is_ok() && sender.send(Message::EndOfBlob).await.is_ok();
    tell(Step::Ended { well });
    pumped.map_err(|error| unreadable(&name, error))
}
