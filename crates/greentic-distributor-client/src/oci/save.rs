//! A blob as a file.

use std::path::Path;

use bytes::Bytes;
use greentic_dist_net::{BlobRequest, NetErrorKind, Repository, UnverifiedBlobStream};
use greentic_dist_types::{Descriptor, media_type};
use tokio::sync::mpsc;

use super::layout::Partial;
use super::{LayoutError, LayoutProblem, room};
use crate::blocking;
use crate::dist::DistError;
use crate::output_file::{Existing, check, unwritable};

/// Pieces on their way from the network to the disk.
const PIECES: usize = 8;
/// Attempts: what an earlier one left may be wrong, and is then fetched anew.
const TRIES: u32 = 2;

/// Writes a whole blob into the file at `path`, and returns its size in bytes. With `replace` a file of that name makes way, else
/// it stays and this fails.
///
/// The file appears under its name when its bytes are proven and synced, and not at all before. Until then they are beside it, in
/// `.<algorithm>-<hex>.part`. From 1 MiB on that file stays when the transfer breaks, the process dies or the future is dropped,
/// and the next call for this blob in the same directory hashes it and goes on from there with `Range`, or ends without a request
/// where nothing was missing. A `.part` that belongs to another user, that everybody may write to, or that another call is
/// writing is left alone: then the bytes are in a file of their own beside it, which never stays.
///
/// # Errors
/// [`DistError::Network`] by kind; [`DistError::TooLarge`] for a blob over [`Limits::artifact_bytes`](super::Limits) of the client;
/// [`DistError::CacheError`] where the file system has no room for what is missing of it; [`DistError::InvalidInput`] when `path` names
/// no file, the file cannot be written, or there is one and it is to stay. All of this is looked at before any request, and once more when the file is put in its place: where
/// that fails nothing stays.
pub async fn save_blob(
    repository: &Repository,
    descriptor: &Descriptor,
    path: &Path,
    replace: bool,
) -> Result<u64, DistError> {
    save_blob_with(repository.blob(descriptor), path, replace).await
}

/// As [`save_blob`], for a request that was made by [`Repository::blob`] and may have somebody who is told of its
/// [progress](BlobRequest::progress): `Started` with what is there already, `Verified` and `Done` when the file is in its place,
/// and `Failed` whatever failed, the disk included.
///
/// # Errors
/// As [`save_blob`].
pub async fn save_blob_with(request: BlobRequest, path: &Path, replace: bool) -> Result<u64, DistError> {
    let existing = if replace { Existing::Replace } else { Existing::Keep };
    let target = path.to_owned();
    let size = room::check_size(&request.name(), request.size_bytes(), request.most_bytes());
    let checked = blocking::run(move || {
        size?;
        check(&target, existing).map_err(|error| unwritable(&target, &error))
    });
    checked.await.inspect_err(|error| request.abandon(cause(error)))?;
    let mut tries = 0;
    loop {
        tries += 1;
        let Saved::Wrong { offset, stream } = once(&request, path, existing).await? else {
            return Ok(request.size_bytes());
        };
        if offset == 0 || tries >= TRIES {
            return Err(DistError::from_net(&request.name(), stream.refute()));
        }
    }
}

/// What came of one attempt.
enum Saved {
    Whole,
    /// The bytes are not the promised ones; so many of them were there before.
    Wrong {
        offset: u64,
        stream: Box<UnverifiedBlobStream>,
    },
}

/// What is told to the thread that writes.
enum Message {
    Piece(Bytes),
    /// All of it came.
    End,
    /// What came is wrong for certain.
    Discard,
}

async fn once(request: &BlobRequest, path: &Path, existing: Existing) -> Result<Saved, DistError> {
    let failed = |error| DistError::from_net(&request.name(), error);
    let descriptor = Descriptor::new(media_type::OCTET_STREAM, request.digest(), request.size_bytes());
    let target = path.to_owned();
    let begun = blocking::run(move || {
        let partial = Partial::beside(&target, &descriptor).map_err(|error| explain(&target, error))?;
        room::check_file(&target, descriptor.size_bytes.saturating_sub(partial.offset()))?;
        Ok(partial)
    });
    let mut partial = begun.await.inspect_err(|error| request.abandon(cause(error)))?;
    let offset = partial.offset();
    let mut stream = request.clone().from_offset(offset).open_unverified().await.map_err(failed)?;
    let (sender, mut receiver) = mpsc::channel::<Message>(PIECES);
    let target = path.to_owned();
    let worker = blocking::run(move || {
        while let Some(message) = receiver.blocking_recv() {
            match message {
                Message::Piece(piece) => partial.write(&piece).map_err(|error| explain(&target, error))?,
                Message::End => {
                    partial.prove().map_err(|error| explain(&target, error))?;
                    partial.place(&target, existing).map_err(|error| unwritable(&target, &error))?;
                    return Ok(true);
                }
                Message::Discard => {
                    partial.discard();
                    return Ok(false);
                }
            }
        }
        // Nobody is interested any more: what is there is for the next time.
        Ok(false)
    });
    let failure = pump(&mut stream, &sender).await;
    drop(sender);
    match (worker.await, failure) {
        (Ok(true), _) => {
            stream.confirm();
            Ok(Saved::Whole)
        }
        // Who takes no more has failed and says why.
        (Err(DistError::Layout(error)), _) if matches!(error.problem(), LayoutProblem::Damaged { .. }) => {
            Ok(Saved::Wrong { offset, stream: Box::new(stream) })
        }
        (Err(error), _) => {
            stream.abandon(cause(&error));
            Err(error)
        }
        (Ok(false), Some(error)) => Err(failed(error)),
        (Ok(false), None) => Err(DistError::Cancelled),
    }
}

/// Hands on what comes, and how it ends. Returns why it failed.
async fn pump(
    stream: &mut UnverifiedBlobStream,
    sender: &mpsc::Sender<Message>,
) -> Option<greentic_dist_net::NetError> {
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                if sender.send(Message::Piece(piece)).await.is_err() {
                    return None;
                }
            }
            Err(error) => {
                if error.kind() == NetErrorKind::Integrity {
                    let _gone = sender.send(Message::Discard).await.is_err();
                }
                return Some(error);
            }
        }
    }
    let _gone = sender.send(Message::End).await.is_err();
    None
}

/// An error that is returned, for whoever is told of it as well.
fn cause(error: &DistError) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// What a partial file could not do, about the file that was asked for. Wrong bytes are told as they are.
fn explain(target: &Path, error: LayoutError) -> DistError {
    match error.problem() {
        LayoutProblem::Damaged { .. } => DistError::Layout(error),
        LayoutProblem::Io(cause) => unwritable(target, cause),
        _ => unwritable(target, &std::io::Error::other(error.to_string())),
    }
}
