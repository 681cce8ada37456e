//! A blob as a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_net::{BlobRequest, Repository};
use greentic_dist_types::{Descriptor, media_type};

use super::layout::Partial;
use super::transfer::{Content, End, bring, cause};
use super::{LayoutError, LayoutProblem, room};
use crate::blocking;
use crate::dist::DistError;
use crate::output_file::{Existing, check, unwritable};

/// Writes a whole blob into the file at `path`, and returns its size in bytes. With `replace` a file of that name makes way, else
/// it stays and this fails.
///
/// A large blob comes over several connections at a time where that makes it faster, see [`RangePolicy`](super::RangePolicy).
///
/// The file appears under its name when its bytes are proven and synced, and not at all before. Until then they are beside it, in
/// `.<algorithm>-<hex>.part`. From 1 MiB on that file stays when the transfer breaks, the process dies or the future is dropped,
/// and the next call for this blob in the same directory hashes it and goes on from there with `Range`, or ends without a request
/// where nothing was missing. Nobody else removes it: the directory is not this client's. A `.part` that belongs to another user,
/// that everybody may write to, or that another call is writing is left alone: then the bytes are in a file of their own beside
/// it, which never stays.
///
/// # Errors
/// [`DistError::Network`] by kind; [`DistError::TooLarge`] for a blob over [`Limits::artifact_bytes`](super::Limits) of the client,
/// or over [`BlobRequest::max_bytes`] where that is set;
/// [`DistError::CacheError`] where the file system has no room for what is missing of it; [`DistError::InvalidInput`] when `path` names
/// no file, the file cannot be written, or there is one and it is to stay. All of this is looked at before any request, and once
/// more when the file is put in its place: where that fails nothing stays.
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
    let (name, size_bytes) = (request.name(), request.size_bytes());
    let descriptor = Descriptor::new(media_type::OCTET_STREAM, request.digest(), size_bytes);
    let end = Arc::new(OneFile { target: path.to_owned(), existing, descriptor });
    // Who watches has asked the request to tell.
    bring(&Content::Registry(Box::new(request)), &name, &end, &|_| {}).await?;
    Ok(size_bytes)
}

/// A file that somebody named.
struct OneFile {
    target: PathBuf,
    existing: Existing,
    descriptor: Descriptor,
}

impl End for OneFile {
    fn begin(&self) -> Result<Option<Partial>, DistError> {
        let partial = Partial::beside(&self.target, &self.descriptor).map_err(|error| self.explain(error))?;
        room::check_file(&self.target, self.descriptor.size_bytes.saturating_sub(partial.offset()))?;
        Ok(Some(partial))
    }

    fn finish(&self, mut partial: Partial) -> Result<(), DistError> {
        partial.prove().map_err(|error| self.explain(error))?;
        partial.place(&self.target, self.existing).map_err(|error| unwritable(&self.target, &error))
    }

    fn explain(&self, error: LayoutError) -> DistError {
        match error.problem() {
            LayoutProblem::Damaged { .. } => DistError::Layout(error),
            LayoutProblem::Io(cause) => unwritable(&self.target, cause),
            _ => unwritable(&self.target, &std::io::Error::other(error.to_string())),
        }
    }
}
