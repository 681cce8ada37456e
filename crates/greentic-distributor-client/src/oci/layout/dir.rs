//! A layout that is written into a directory: blobs first, the index last, each by one rename.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use greentic_dist_store::Clock;
use greentic_dist_types::limits::LAYOUT_INDEX_BYTES;
use greentic_dist_types::{Algorithm, Descriptor, Digest, Verifier};

use super::beneath::Folder;
use super::index::IndexDocument;
use super::partial::Partial;
use super::read::{check_version, read_capped, too_large};
use super::stale::{fresh, sweep};
use super::{BLOBS, INDEX_FILE, LAYOUT_FILE, LAYOUT_FILE_BYTES, LAYOUT_JSON};
use crate::oci::graph::Named;
use crate::oci::{LayoutError, LayoutProblem};

/// Where blobs are while they come. Not part of the image-spec's layout; removed when nothing is in it.
const PARTIAL: &str = ".partial";

/// An OCI image layout in a directory, open for writing.
///
/// A blob gets its name when it is whole and proven, by a rename; the index names a manifest when everything below it is
/// there. Several processes may write to one directory: the index is changed under a lock of the file `oci-layout`.
#[derive(Debug)]
pub(crate) struct DirWriter {
    path: PathBuf,
    root: Folder,
    blobs: Folder,
}

impl DirWriter {
    /// Opens a layout, or makes one where there is nothing or an empty directory. Parents must be there.
    pub(crate) fn open(path: &Path) -> Result<Self, LayoutError> {
        let failed = |error| LayoutError::io(path, error);
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let root = Folder::open(path).map_err(failed)?;
        match root.file(LAYOUT_FILE) {
            Ok(file) => {
                let document = read_capped(file.take(LAYOUT_FILE_BYTES + 1), LAYOUT_FILE_BYTES).map_err(failed)?;
                check_version(path, &document.unwrap_or_default())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => begin(path, &root)?,
            Err(error) => return Err(failed(error)),
        }
        root.create_folder(BLOBS).map_err(failed)?;
        let blobs = root.folder(BLOBS).map_err(failed)?;
        Ok(Self { path: path.to_owned(), root, blobs })
    }

    /// Whether a blob is there, whole. One that is not what its name promises is taken away.
    pub(crate) fn has(&self, descriptor: &Descriptor) -> Result<bool, LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        let (digest, size) = (descriptor.digest, descriptor.size_bytes);
        let absent = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
        let folder = match self.blobs.folder(digest.algorithm().name()) {
            Ok(folder) => folder,
            Err(error) => return absent(error).map(|()| false).map_err(failed),
        };
        let mut file = match folder.file(&digest.to_hex()) {
            Ok(file) => file,
            Err(error) => return absent(error).map(|()| false).map_err(failed),
        };
        let mut verifier = Verifier::for_content(digest, size);
        let proven = verifier.read_all_of(&mut file).map_err(failed)?;
        if proven.is_ok() && verifier.finish().is_ok() {
            return Ok(true);
        }
        folder.remove(&digest.to_hex()).or_else(absent).map_err(failed)?;
        Ok(false)
    }

    /// Bytes of a blob that are in the directory at `path` already, whole or begun, as far as names and sizes tell: enough to know
    /// how many more there will be, and no proof of anything. 0 where there is no directory.
    pub(crate) fn bytes_there(path: &Path, descriptor: &Descriptor) -> u64 {
        let (algorithm, hex) = (descriptor.digest.algorithm().name(), descriptor.digest.to_hex());
        let whole = path.join(BLOBS).join(algorithm).join(&hex);
        let begun = path.join(PARTIAL).join(format!("{algorithm}-{hex}"));
        let whole = std::fs::symlink_metadata(whole).ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
        let most = whole.unwrap_or_default().max(Partial::bytes_in(&begun, descriptor.size_bytes));
        most.min(descriptor.size_bytes)
    }

    /// Begins to write a blob, after what an earlier attempt left of it.
    pub(crate) fn begin(&self, descriptor: &Descriptor) -> Result<Partial, LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        self.root.create_folder(PARTIAL).map_err(failed)?;
        let folder = self.root.folder(PARTIAL).map_err(failed)?;
        let name = format!("{}-{}", descriptor.digest.algorithm(), descriptor.digest.to_hex());
        Partial::begin(&self.path, folder, name, descriptor, 0)
    }

    /// Ends a blob: proves it, and gives it its name.
    pub(crate) fn finish(&self, mut partial: Partial) -> Result<(), LayoutError> {
        partial.prove()?;
        let into = self.algorithm(partial.digest().algorithm())?;
        partial.move_into(&into)
    }

    /// Writes content that is at hand.
    pub(crate) fn put(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), LayoutError> {
        if self.has(descriptor)? {
            return Ok(());
        }
        let mut partial = self.begin(descriptor)?;
        // Nothing an earlier attempt left is worth a failure: all of it is at hand.
        partial.rewrite(bytes)?;
        self.finish(partial)
    }

    /// Adds manifests to the index, whose content is there. Takes away what earlier transfers left and nobody went on with.
    pub(crate) fn name(&self, manifests: &[Named]) -> Result<(), LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        for algorithm in Algorithm::ALL {
            if let Ok(folder) = self.blobs.folder(algorithm.name()) {
                folder.sync().map_err(failed)?;
            }
        }
        self.change(|index| {
            index.add(manifests);
            Ok(())
        })?;
        if let Ok(folder) = self.root.folder(PARTIAL) {
            sweep(&folder, &Clock::system());
        }
        // Not empty while another process writes to it, or where a transfer was cut.
        drop(self.root.remove_folder(PARTIAL));
        self.root.sync().map_err(failed)
    }

    /// Takes a name away; the manifest stays.
    pub(crate) fn unname(&self, name: &str) -> Result<(), LayoutError> {
        self.change(|index| index.unname(&self.path, name))?;
        self.root.sync().map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Takes a manifest out of the index, with every name of it. Its content stays.
    pub(crate) fn forget(&self, digest: Digest) -> Result<(), LayoutError> {
        self.change(|index| index.forget(&self.path, digest))?;
        self.root.sync().map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Reads the index, changes it and writes it.
    fn change(&self, work: impl FnOnce(&mut IndexDocument) -> Result<(), LayoutError>) -> Result<(), LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        // Whoever changes the index holds this file; where there are no locks, the last one wins, as with every other tool.
        let guard = self.root.file_to_write(LAYOUT_FILE).map_err(failed)?;
        let _unlocked_where_unsupported = guard.lock().is_err();
        let index = self.index_after(work)?;
        replace(&self.root, INDEX_FILE, &index).map_err(failed)
    }

    /// Refuses manifests for which the index has no room, and an index that nobody can read. Writes nothing.
    pub(crate) fn check(&self, manifests: &[Named]) -> Result<(), LayoutError> {
        let added = self.index_after(|index| {
            index.add(manifests);
            Ok(())
        });
        added.map(drop)
    }

    /// What the index of the moment is after a change.
    fn index_after(
        &self,
        work: impl FnOnce(&mut IndexDocument) -> Result<(), LayoutError>,
    ) -> Result<Vec<u8>, LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        let mut index = match self.root.file(INDEX_FILE) {
            Ok(file) => {
                let bytes = read_capped(file.take(LAYOUT_INDEX_BYTES + 1), LAYOUT_INDEX_BYTES).map_err(failed)?;
                let bytes = bytes.ok_or_else(|| too_large(&self.path, INDEX_FILE, LAYOUT_INDEX_BYTES))?;
                IndexDocument::parse(&self.path, &bytes)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => IndexDocument::empty(),
            Err(error) => return Err(failed(error)),
        };
        work(&mut index)?;
        index.written(&self.path)
    }

    fn algorithm(&self, algorithm: Algorithm) -> Result<Folder, LayoutError> {
        let failed = |error| LayoutError::io(&self.path, error);
        self.blobs.create_folder(algorithm.name()).map_err(failed)?;
        self.blobs.folder(algorithm.name()).map_err(failed)
    }
}

/// Makes a layout of an empty directory.
fn begin(path: &Path, root: &Folder) -> Result<(), LayoutError> {
    let failed = |error| LayoutError::io(path, error);
    if std::fs::read_dir(root.path()).map_err(failed)?.next().is_some() {
        let why = "it has no `oci-layout`, and the directory is not empty";
        return Err(LayoutError::new(path, LayoutProblem::NotALayout(why.into())));
    }
    // An index before the marker: a directory with the marker is a layout, whenever the power fails.
    replace(root, INDEX_FILE, &IndexDocument::empty().to_bytes()).map_err(failed)?;
    replace(root, LAYOUT_FILE, LAYOUT_JSON).map_err(failed)
}

/// Writes a document under a name of its own and gives it its name when it is whole.
fn replace(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = fresh(|unique| {
        let temporary = format!(".{name}.{unique}");
        folder.create_file(&temporary).map(|file| (temporary, file))
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    let renamed = written.and_then(|()| folder.rename(&temporary, folder, name));
    if renamed.is_err() {
        drop(folder.remove(&temporary));
    }
    renamed
}
