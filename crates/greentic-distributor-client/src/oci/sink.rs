//! Layouts as destinations: content on its way from a source to a blocking thread that hashes and writes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{BlobSource, BytesSource, NetError, NetErrorKind, SourceError};
use greentic_dist_types::{Descriptor, Digest, SafeText};
use tokio::sync::mpsc;

use super::copy::{CopyReport, Job};
use super::graph::{Named, Role, gather};
use super::layout::{ArchiveWriter, DirWriter};
use super::{LayoutError, LayoutProblem};
use crate::blocking;
use crate::dist::{DistClient, DistError};
use crate::progress::Event;

/// Pieces between the source and the disk.
const PIECES: usize = 4;
/// Attempts at a blob: what an earlier copy left may be wrong, and is then fetched anew.
const TRIES: u32 = 2;

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
    let blobs: Vec<_> = job.graph.blobs().into_values().map(|blob| (job.content(&blob), blob)).collect();
    let (to, client) = (Arc::clone(&writer), job.client.clone());
    let moved = gather(blobs, job.jobs, move |(content, blob)| {
        let (writer, client) = (Arc::clone(&to), client.clone());
        async move { Ok((blob_into_dir(&client, &writer, content.as_ref(), &blob).await?, blob.size_bytes)) }
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

async fn blob_into_dir(
    client: &DistClient,
    writer: &Arc<DirWriter>,
    content: &dyn BlobSource,
    blob: &Descriptor,
) -> Result<Moved, DistError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (to, descriptor) = (Arc::clone(writer), blob.clone());
        let begun = move || Ok(if to.has(&descriptor)? { None } else { Some(to.begin(&descriptor)?) });
        let Some(mut partial) = blocking::run(begun).await? else { return Ok(Moved::Present) };
        let offset = partial.offset();
        let (sender, mut receiver) = mpsc::channel::<Message>(PIECES);
        let to = Arc::clone(writer);
        let worker = blocking::run(move || {
            while let Some(message) = receiver.blocking_recv() {
                match message {
                    Message::Piece(piece) => partial.write(&piece)?,
                    Message::Discard => {
                        partial.discard();
                        return Ok(false);
                    }
                    Message::EndOfBlob | Message::Blob(_) | Message::End => {
                        return Ok(to.finish(partial).map(|()| true)?);
                    }
                }
            }
            // Nobody is interested any more: what is there is for the next time.
            Ok(false)
        });
        let pumped = pump(client, content, blob, offset, &sender).await;
        drop(sender);
        // A thread that stopped taking pieces says why.
        match (worker.await, pumped) {
            // What was left of an earlier attempt did not belong to this blob.
            (Err(DistError::Layout(error)), _)
                if offset > 0 && tries < TRIES && matches!(error.problem(), LayoutProblem::Damaged { .. }) => {}
            (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
            (Ok(true), Ok(())) => return Ok(Moved::Copied),
            (Ok(false), Ok(())) => return Err(DistError::Cancelled),
        }
    }
}

/// What is told to a thread that writes.
enum Message {
    /// A blob of an archive begins.
    Blob(Box<Descriptor>),
    Piece(Bytes),
    /// All of a blob came.
    EndOfBlob,
    /// What came of a blob is wrong for certain.
    Discard,
    /// All of an archive came.
    End,
}

/// Reads content and sends it on, telling the reporter. A receiver that is gone has failed and says so itself.
async fn pump(
    client: &DistClient,
    content: &dyn BlobSource,
    blob: &Descriptor,
    offset: u64,
    sender: &mpsc::Sender<Message>,
) -> Result<(), DistError> {
    let (name, reporter) = (shown(blob), &client.inner.reporter);
    reporter.event(&Event::Started { reference: &name, total_bytes: Some(blob.size_bytes), resumed_at: offset });
    let pumping = async {
        let mut bytes = offset;
        let mut reader = content.open(offset).await?;
        while let Some(piece) = reader.next().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            if sender.send(Message::Piece(piece)).await.is_err() {
                return Ok(());
            }
            reporter.event(&Event::Progress { reference: &name, bytes });
        }
        Ok(())
    };
    let pumped: Result<(), SourceError> = pumping.await;
    reporter.event(&match &pumped {
        Ok(()) => Event::Finished { reference: &name, bytes: blob.size_bytes },
        Err(_) => Event::Failed { reference: &name },
    });
    let last = match &pumped {
        Ok(()) => Some(Message::EndOfBlob),
        Err(error) if is_wrong(error) => Some(Message::Discard),
        Err(_) => None,
    };
    if let Some(last) = last {
        let _gone = sender.send(last).await.is_err();
    }
    pumped.map_err(|error| unreadable(&name, error))
}

/// Whether a source said that its bytes are not the promised ones.
fn is_wrong(error: &SourceError) -> bool {
    match (error.downcast_ref::<NetError>(), error.downcast_ref::<LayoutError>()) {
        (Some(error), _) => error.kind() == NetErrorKind::Integrity,
        (_, Some(error)) => matches!(error.problem(), LayoutProblem::Damaged { .. }),
        _ => false,
    }
}

/// What a source said, as an error of this crate.
pub(super) fn unreadable(name: &str, error: SourceError) -> DistError {
    let error = match error.downcast::<NetError>() {
        Ok(error) => return DistError::from_net(name, *error),
        Err(error) => error,
    };
    match error.downcast::<LayoutError>() {
        Ok(error) => DistError::Layout(*error),
        Err(error) => DistError::CorruptArtifact { reference: name.to_owned(), reason: error.to_string() },
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
                Message::Discard => break,
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
            pump(&job.client, job.content(blob).as_ref(), blob, 0, sender).await?;
            report.count(Moved::Copied, blob.size_bytes);
        }
    }
    let _gone = sender.send(Message::End).await.is_err();
    Ok(())
}
