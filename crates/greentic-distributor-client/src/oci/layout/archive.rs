//! A layout that is written into a tar archive: one pass, always the same bytes for the same content.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use greentic_dist_store::Clock;
use greentic_dist_types::{Descriptor, Digest, Verifier};

use super::index::IndexDocument;
use super::stale::{create_archive, sweep_archives};
use super::tar::{MEMBERS, TarWriter};
use super::{INDEX_FILE, LAYOUT_FILE, LAYOUT_JSON, blob_name};
use crate::oci::graph::Named;
use crate::oci::{LayoutError, LayoutProblem};

/// Bytes written at a time.
const CHUNK: usize = 256 << 10;

/// An OCI image layout on its way into a tar archive.
///
/// It is written beside its place and moved there when it is whole; dropped before, nothing is left of it. What a process that was
/// killed leaves is removed by the next one that writes the same archive.
#[derive(Debug)]
pub(crate) struct ArchiveWriter {
    path: PathBuf,
    temporary: Option<PathBuf>,
    tar: Option<TarWriter<BufWriter<File>>>,
    blob: Option<(Digest, Verifier)>,
    may_replace: bool,
}

impl ArchiveWriter {
    /// Begins an archive with the documents at its top. The blobs must follow in the order of `digests`, which is sorted
    /// here: it says which directories there are.
    pub(crate) fn create(
        path: &Path,
        may_replace: bool,
        names: &[Named],
        digests: &[Digest],
    ) -> Result<Self, LayoutError> {
        let mut index = IndexDocument::empty();
        index.add(names);
        let index = index.written(path)?;
        // The two documents at the top, `blobs/`, and a directory for each algorithm.
        if digests.len() + 5 > MEMBERS {
            return Err(LayoutError::new(path, LayoutProblem::Full { what: "members", limit: MEMBERS as u64 }));
        }
        let mut writer = Self::begin(path, may_replace)?;
        writer.step(|tar| {
            for (name, content) in [(LAYOUT_FILE, LAYOUT_JSON), (INDEX_FILE, &index)] {
                tar.begin(name, content.len() as u64)?;
                tar.write(content)?;
                tar.end()?;
            }
            tar.folder("blobs/")?;
            let mut algorithms: Vec<_> = digests.iter().map(Digest::algorithm).collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            algorithms.iter().try_for_each(|algorithm| tar.folder(&format!("blobs/{algorithm}/")))
        })?;
        Ok(writer)
    }

    fn begin(path: &Path, may_replace: bool) -> Result<Self, LayoutError> {
        let failed = |error| LayoutError::io(path, error);
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.is_file() => return Err(failed(super::beneath::odd())),
            Ok(_) if !may_replace => return Err(LayoutError::new(path, LayoutProblem::Exists)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        sweep_archives(path, &Clock::system());
        let (temporary, file) = create_archive(path).map_err(failed)?;
        let tar = TarWriter::new(BufWriter::with_capacity(CHUNK, file));
        Ok(Self { path: path.to_owned(), temporary: Some(temporary), tar: Some(tar), blob: None, may_replace })
    }

    /// Begins a blob; its content follows with [`ArchiveWriter::write`].
    pub(crate) fn begin_blob(&mut self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let (digest, size) = (descriptor.digest, descriptor.size_bytes);
        self.blob = Some((digest, Verifier::for_content(digest, size)));
        self.step(|tar| tar.begin(&blob_name(digest), size))
    }

    /// Takes the next bytes of the blob.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        if let Some((digest, verifier)) = &mut self.blob
            && let Err(mismatch) = verifier.update(bytes)
        {
            return Err(LayoutError::new(&self.path, LayoutProblem::Damaged { digest: *digest, mismatch }));
        }
        self.step(|tar| tar.write(bytes))
    }

    /// Ends the blob: proves it.
    pub(crate) fn end_blob(&mut self) -> Result<(), LayoutError> {
        if let Some((digest, verifier)) = self.blob.take()
            && let Err(mismatch) = verifier.finish()
        {
            return Err(LayoutError::new(&self.path, LayoutProblem::Damaged { digest, mismatch }));
        }
        self.step(TarWriter::end)
    }

    /// Ends the archive and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), LayoutError> {
        let path = self.path.clone();
        let failed = |error| LayoutError::io(&path, error);
        if let (Some(tar), Some(temporary)) = (self.tar.take(), &self.temporary) {
            let mut buffered = tar.finish().map_err(failed)?;
            buffered.flush().map_err(failed)?;
            buffered.get_ref().sync_data().map_err(failed)?;
            if self.may_replace {
                std::fs::rename(temporary, &path).map_err(failed)?;
            } else {
                // Fails where somebody was first, which a rename does not.
                std::fs::hard_link(temporary, &path)
                    .or_else(|error| self.rename_unless_there(temporary, &error))
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::AlreadyExists => LayoutError::new(&path, LayoutProblem::Exists),
                        _ => failed(error),
                    })?;
                drop(std::fs::remove_file(temporary));
            }
            self.temporary = None;
        }
        Ok(())
    }

    /// Where a file system has no hard links.
    fn rename_unless_there(&self, temporary: &Path, error: &io::Error) -> io::Result<()> {
        if error.kind() == io::ErrorKind::AlreadyExists || self.path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(temporary, &self.path)
    }

    fn step(
        &mut self,
        work: impl FnOnce(&mut TarWriter<BufWriter<File>>) -> io::Result<()>,
    ) -> Result<(), LayoutError> {
        let Some(tar) = &mut self.tar else { return Ok(()) };
        work(tar).map_err(|error| LayoutError::io(&self.path, error))
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            drop(std::fs::remove_file(temporary));
        }
    }
}
