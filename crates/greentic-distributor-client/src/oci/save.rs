//! A blob as a file.

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use greentic_dist_net::Repository;
use greentic_dist_types::Descriptor;
use tokio::sync::mpsc;

use crate::blocking;
use crate::dist::DistError;
use crate::output_file::{Existing, OutputFile, unwritable};

/// Pieces on their way from the network to the disk.
const PIECES: usize = 8;

/// Writes a whole blob into the file at `path`, and returns its size in bytes. With `replace` a file of that name makes way, else
/// it stays and this fails.
///
/// The file appears under its name when its bytes are proven and synced, and not at all before: a temporary file beside it is
/// removed when anything fails or the future is dropped. A transfer that is cut goes on where it was; one that was given up begins
/// anew. [`DistClient::fetch`](crate::dist::DistClient::fetch) keeps what was downloaded, also for other processes.
///
/// # Errors
/// [`DistError::Network`] by kind; [`DistError::InvalidInput`] when the file cannot be written, or there is one and it is to stay.
pub async fn save_blob(
    repository: &Repository,
    descriptor: &Descriptor,
    path: &Path,
    replace: bool,
) -> Result<u64, DistError> {
    let shown = format!("{}/{}@{}", repository.registry(), repository.repository(), descriptor.digest);
    let failed = |error| DistError::from_net(&shown, error);
    let existing = if replace { Existing::Replace } else { Existing::Keep };
    let target = path.to_owned();
    let created =
        blocking::run(move || OutputFile::create(&target, existing).map_err(|error| unwritable(&target, &error)));
    let mut file = created.await?;
    let mut stream = repository.blob(descriptor).open().await.map_err(failed)?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let target = path.to_owned();
    let writing = blocking::run(move || {
        while let Some(piece) = receiver.blocking_recv() {
            file.write_all(&piece).map_err(|error| unwritable(&target, &error))?;
        }
        Ok(file)
    });
    let mut failure = None;
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                // Who takes no more has failed and says why.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    drop(sender);
    let (file, target) = (writing.await?, path.to_owned());
    let is_proven = failure.is_none();
    let ended = blocking::run(move || {
        if is_proven {
            file.place().map_err(|error| unwritable(&target, &error))?;
        }
        Ok(())
    });
    ended.await?;
    failure.map_or(Ok(descriptor.size_bytes), |error| Err(failed(error)))
}
