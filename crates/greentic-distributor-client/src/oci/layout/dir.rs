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
use super::stale::{fresh, is_unique, sweep};
use super::{BLOBS, INDEX_FILE, LAYOUT_FILE, LAYOUT_FILE_BYTES, LAYOUT_JSON};
use crate::oci::graph::Named;
use crate::oci::{LayoutError, LayoutProblem};

/// Where blobs are while they come. Not part of the image-spec's layout; removed when nothing is in it.
const PARTIAL: &str = ".partial";
/// How often the folder of partial blobs is made again when another process takes it away.
const TRIES: u32 = 64;

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
        if !is_layout(path, &root)? {
            begin(path, &root)?;
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
        let mut tries = 1;
        loop {
            match self.begin_once(descriptor) {
                // Another process that is done took the folder away before there was a file in it.
                Err(error) if tries < TRIES && is_gone(&error) => tries += 1,
                done => return done,
            }
        }
    }

    fn begin_once(&self, descriptor: &Descriptor) -> Result<Partial, LayoutError> {
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

/// Whether a directory has the marker of a layout, of a version this client knows.
fn is_layout(path: &Path, root: &Folder) -> Result<bool, LayoutError> {
    let failed = |error| LayoutError::io(path, error);
    match root.file(LAYOUT_FILE) {
        Ok(file) => {
            let document = read_capped(file.take(LAYOUT_FILE_BYTES + 1), LAYOUT_FILE_BYTES).map_err(failed)?;
            check_version(path, &document.unwrap_or_default()).map(|()| true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a layout of an empty directory. Others may be at it: whoever is first gives a document its name, and the rest leave it.
fn begin(path: &Path, root: &Folder) -> Result<(), LayoutError> {
    let failed = |error| LayoutError::io(path, error);
    for entry in std::fs::read_dir(root.path()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_str().is_some_and(|name| is_beginning(root, name)) {
            continue;
        }
        // What is there may have been put there by whoever made it a layout a moment ago.
        if is_layout(path, root)? {
            return Ok(());
        }
        let why = "it has no `oci-layout`, and the directory is not empty";
        return Err(LayoutError::new(path, LayoutProblem::NotALayout(why.into())));
    }
    // An index before the marker: a directory with the marker is a layout, whenever the power fails.
    put_new(root, INDEX_FILE, &IndexDocument::empty().to_bytes()).map_err(failed)?;
    put_new(root, LAYOUT_FILE, LAYOUT_JSON).map_err(failed)
}

/// Whether a name is what a directory has before it is a layout: an index of nothing, and documents on their way.
fn is_beginning(root: &Folder, name: &str) -> bool {
    if name == INDEX_FILE {
        let empty = IndexDocument::empty().to_bytes();
        let limit = empty.len() as u64;
        let content = root.file(name).and_then(|file| read_capped(file.take(limit + 1), limit));
        return content.is_ok_and(|content| content == Some(empty));
    }
    let unique = |document| name.strip_prefix('.')?.strip_prefix(document)?.strip_prefix('.');
    [INDEX_FILE, LAYOUT_FILE].into_iter().filter_map(unique).any(is_unique)
}

fn is_gone(error: &LayoutError) -> bool {
    matches!(error.problem(), LayoutProblem::Io(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Writes a document under a name of its own and gives it its name when it is whole.
fn replace(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(folder, bytes, name, |temporary| folder.rename(temporary, folder, name))
}

/// The same, unless there is one of that name: that one stays.
fn put_new(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    match put(folder, bytes, name, |temporary| folder.rename_new(temporary, name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn put(folder: &Folder, bytes: &[u8], name: &str, place: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    let (temporary, mut file) = fresh(|unique| {
        let temporary = format!(".{name}.{unique}");
        folder.create_file(&temporary).map(|file| (temporary, file))
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    let placed = written.and_then(|()| place(&temporary));
    if placed.is_err() {
        drop(folder.remove(&temporary));
    }
    placed
}

#[cfg(test)]
mod tests {
    use greentic_dist_types::media_type;

    use super::*;

    #[test]
    fn a_directory_that_another_process_is_making_a_layout_of_is_one() {
        for there in [&["index.json"][..], &[".index.json.0123456789abcdef", ".oci-layout.0123456789abcdef"]] {
            let dir = tempfile::tempdir().unwrap();
            for name in there {
                std::fs::write(dir.path().join(name), IndexDocument::empty().to_bytes()).unwrap();
            }
            DirWriter::open(dir.path()).unwrap();
            assert_eq!(std::fs::read(dir.path().join(LAYOUT_FILE)).unwrap(), LAYOUT_JSON);
        }
        for foreign in ["index.json", ".index.json.notes", ".oci-layout.1-0"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(foreign), "{}").unwrap();
            let error = DirWriter::open(dir.path()).unwrap_err();
            assert!(matches!(error.problem(), LayoutProblem::NotALayout(_)), "{foreign}: {error:?}");
        }
    }

    #[test]
    fn who_is_late_making_a_layout_changes_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        put_new(&root, INDEX_FILE, b"first").unwrap();
        put_new(&root, INDEX_FILE, b"late").unwrap();
        assert_eq!(std::fs::read(dir.path().join(INDEX_FILE)).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn several_at_once_make_one_layout_and_each_has_its_content_and_its_name_in_it() {
        const WRITERS: usize = 4;
        const EACH: usize = 8;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layout");
        let start = std::sync::Barrier::new(WRITERS);
        let content = |writer: usize, number: usize| {
            let bytes = format!("{writer} {number}").into_bytes();
            (Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(&bytes), bytes.len() as u64), bytes)
        };
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..EACH {
                        let layout = DirWriter::open(path).unwrap();
                        let (descriptor, bytes) = content(writer, number);
                        layout.put(&descriptor, &bytes).unwrap();
                        layout.name(&[Named { descriptor, name: Some(format!("{writer}-{number}")) }]).unwrap();
                    }
                });
            }
        });
        let layout = DirWriter::open(&path).unwrap();
        let index = std::fs::read_to_string(path.join(INDEX_FILE)).unwrap();
        for (writer, number) in (0..WRITERS).flat_map(|writer| (0..EACH).map(move |number| (writer, number))) {
            assert!(layout.has(&content(writer, number).0).unwrap());
            assert!(index.contains(&format!("\"{writer}-{number}\"")), "{index}");
        }
        assert!(!path.join(PARTIAL).exists());
    }
}
