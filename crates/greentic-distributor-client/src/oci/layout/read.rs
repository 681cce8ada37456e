//! A layout that is read: a directory or a tar archive, the same questions to both.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use greentic_dist_types::limits::{LAYOUT_INDEX_BYTES, MOST_MANIFEST_BYTES};
use greentic_dist_types::{
    Descriptor, Digest, ManifestKind, ManifestLimits, Mismatch, SafeText, Verifier, VerifyReader, parse_manifest_within,
};
use serde::Deserialize;

use super::beneath::Folder;
use super::index::IndexDocument;
use super::tar::{self, Member};
use super::{BLOBS, INDEX_FILE, LAYOUT_FILE, LAYOUT_FILE_BYTES, blob_name};
use crate::oci::graph::{ProvenManifest, referrers_tag, subject_of};
use crate::oci::{LayoutError, LayoutProblem};
use crate::regular_file;

/// An OCI image layout, open for reading. Its index is the one of the moment it was opened.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    content: Content,
    index: IndexDocument,
    /// What the entries of the index refer to, once it was asked for.
    subjects: Mutex<Option<Arc<Subjects>>>,
}

/// Referrers by what they refer to.
type Subjects = HashMap<Digest, Vec<Descriptor>>;

#[derive(Debug)]
enum Content {
    Dir(Folder),
    Archive(File, BTreeMap<String, Member>),
}

/// Content of a layout that cannot be read to its end without proof.
pub(crate) type BlobReader = VerifyReader<io::Take<File>>;

impl Layout {
    /// Opens a directory.
    pub(crate) fn open_dir(path: &Path) -> Result<Self, LayoutError> {
        let folder = Folder::open(path).map_err(|error| absent_or(path, error))?;
        Self::open(path, Content::Dir(folder))
    }

    /// Opens a tar archive: looks at its headers once, unpacks nothing.
    pub(crate) fn open_archive(path: &Path) -> Result<Self, LayoutError> {
        let mut file = regular_file::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                let why = "an archive must be a regular file: it is read more than once";
                LayoutError::new(path, LayoutProblem::NotALayout(why.into()))
            }
            _ => absent_or(path, error),
        })?;
        let wanted = |name: &str| name == LAYOUT_FILE || name == INDEX_FILE || is_blob_name(name);
        // The headers of large members lie far apart: a buffer would be filled anew for each.
        let members = tar::index(&mut file, wanted).map_err(|error| LayoutError::tar(path, error))?;
        Self::open(path, Content::Archive(file, members))
    }

    fn open(path: &Path, content: Content) -> Result<Self, LayoutError> {
        let (index, subjects) = (IndexDocument::empty(), Mutex::default());
        let mut layout = Self { path: path.to_owned(), content, index, subjects };
        check_version(path, &layout.document(LAYOUT_FILE, LAYOUT_FILE_BYTES)?)?;
        layout.index = IndexDocument::parse(path, &layout.document(INDEX_FILE, LAYOUT_INDEX_BYTES)?)?;
        Ok(layout)
    }

    /// What a name or digest stands for; without either, the only image of the layout.
    pub(crate) fn resolve(&self, name: Option<&str>, digest: Option<Digest>) -> Result<ProvenManifest, LayoutError> {
        match digest {
            // Also one that is in the layout and not in its index.
            Some(digest) => match self.index.find(digest) {
                Some(entry) => self.manifest(entry),
                None => self.manifest_by_digest(digest),
            },
            None => self.manifest(match name {
                Some(name) => self.index.resolve(&self.path, name)?,
                None => self.index.only(&self.path, |entry| self.refers(entry))?,
            }),
        }
    }

    /// The names of its index, each once, in its order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.index.all_names().into_iter().map(ToOwned::to_owned).collect()
    }

    /// The digest that a name stands for.
    pub(crate) fn digest_of(&self, name: &str) -> Option<Digest> {
        self.index.named(name).map(|entry| entry.digest)
    }

    /// Whether an entry refers to another one of the index.
    fn refers(&self, entry: &Descriptor) -> bool {
        let subject = self.manifest(entry).ok().and_then(|manifest| subject_of(&manifest.kind));
        subject.is_some_and(|subject| self.index.find(subject).is_some())
    }

    /// The manifest that has exactly this name.
    pub(crate) fn named(&self, name: &str) -> Result<Option<ProvenManifest>, LayoutError> {
        self.index.named(name).map(|entry| self.manifest(entry)).transpose()
    }

    /// The manifest a descriptor names; digest, size and media type must be the descriptor's.
    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<ProvenManifest, LayoutError> {
        if descriptor.size_bytes > MOST_MANIFEST_BYTES {
            let mismatch = Mismatch::TooLarge { limit: MOST_MANIFEST_BYTES };
            return Err(self.error(LayoutProblem::Damaged { digest: descriptor.digest, mismatch }));
        }
        let verifier = Verifier::for_content(descriptor.digest, descriptor.size_bytes);
        self.manifest_with(descriptor.digest, Some(&descriptor.media_type), verifier)
    }

    fn manifest_by_digest(&self, digest: Digest) -> Result<ProvenManifest, LayoutError> {
        self.manifest_with(digest, None, Verifier::for_digest(digest, MOST_MANIFEST_BYTES))
    }

    fn manifest_with(
        &self,
        digest: Digest,
        media_type: Option<&str>,
        verifier: Verifier,
    ) -> Result<ProvenManifest, LayoutError> {
        let mut reader = VerifyReader::new(self.content_of(digest)?, verifier);
        let mut raw = Vec::new();
        reader.read_to_end(&mut raw).map_err(|error| self.reading(digest, error))?;
        // A body that says what it is has been held against what it is called, in that.
        let parsed = parse_manifest_within(&raw, media_type, &ManifestLimits::MOST).and_then(|kind| {
            media_type.map_or(Ok(()), |called| kind.check_called(called, None))?;
            Ok(kind)
        });
        let kind = parsed.map_err(|source| self.error(LayoutProblem::Manifest { digest, source }))?;
        let media_type = media_type.map_or_else(|| type_of(&raw, &kind), ToOwned::to_owned);
        Ok(ProvenManifest { raw: raw.into(), digest, media_type, kind })
    }

    /// Content, hashed while it is read.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, LayoutError> {
        let verifier = Verifier::for_content(descriptor.digest, descriptor.size_bytes);
        Ok(VerifyReader::new(self.content_of(descriptor.digest)?, verifier))
    }

    /// The manifests of the index, and those an index named by a referrers tag lists, whose subject is `subject`.
    pub(crate) fn referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, LayoutError> {
        let mut found = self.subjects()?.get(&subject).cloned().unwrap_or_default();
        let listed = match self.named(&referrers_tag(subject))?.map(|manifest| manifest.kind) {
            Some(ManifestKind::Index(index)) => index.manifests,
            _ => Vec::new(),
        };
        for entry in &listed {
            if found.iter().any(|known| known.digest == entry.digest) {
                continue;
            }
            match self.manifest_if_one(entry)? {
                Some(manifest) if subject_of(&manifest.kind) == Some(subject) => found.push(manifest.descriptor()),
                // Whoever asks for it learns that it is not there, as in a registry.
                None if self.lacks(entry.digest)? => found.push(entry.clone()),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The entries of the index that refer to something, by what they refer to. Every manifest is read once for that, however
    /// many manifests are asked about.
    fn subjects(&self) -> Result<Arc<Subjects>, LayoutError> {
        let mut known = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let (mut subjects, mut seen) = (Subjects::new(), HashSet::new());
        for entry in self.index.entries().iter().filter(|entry| seen.insert(entry.digest)) {
            if let Some(manifest) = self.manifest_if_one(entry)?
                && let Some(subject) = subject_of(&manifest.kind)
            {
                subjects.entry(subject).or_default().push(manifest.descriptor());
            }
        }
        let subjects = Arc::new(subjects);
        *known = Some(Arc::clone(&subjects));
        Ok(subjects)
    }

    /// The manifest of an entry; `None` for one that leads to nothing here, or to something else than a manifest, which is no
    /// referrer of anything.
    fn manifest_if_one(&self, entry: &Descriptor) -> Result<Option<ProvenManifest>, LayoutError> {
        if entry.size_bytes > MOST_MANIFEST_BYTES {
            return Ok(None);
        }
        match self.manifest(entry) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => match error.problem() {
                LayoutProblem::Missing(_) | LayoutProblem::Manifest { .. } => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn lacks(&self, digest: Digest) -> Result<bool, LayoutError> {
        match self.content_of(digest) {
            Ok(_) => Ok(false),
            Err(error) if matches!(error.problem(), LayoutProblem::Missing(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a blob as they are, from the first to at most the last.
    fn content_of(&self, digest: Digest) -> Result<io::Take<File>, LayoutError> {
        let missing = || self.error(LayoutProblem::Missing(digest));
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => LayoutError::io(&self.path, error),
        };
        match &self.content {
            Content::Dir(folder) => {
                let blobs = folder.folder(BLOBS).map_err(failed)?.folder(digest.algorithm().name()).map_err(failed)?;
                Ok(blobs.file(&digest.to_hex()).map_err(failed)?.take(u64::MAX))
            }
            Content::Archive(_, members) => {
                let member = members.get(&blob_name(digest)).ok_or_else(missing)?;
                // A handle of its own, since readers of one archive have each their own position.
                let mut file = regular_file::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(member.offset)).map_err(failed)?;
                Ok(file.take(member.size_bytes))
            }
        }
    }

    /// One of the two documents at the top.
    fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                let why = format!("it has no `{name}`");
                self.error(LayoutProblem::NotALayout(SafeText::new(&why)))
            }
            _ => LayoutError::io(&self.path, error),
        };
        let source = match &self.content {
            Content::Dir(folder) => folder.file(name).map_err(failed)?.take(limit + 1),
            Content::Archive(file, members) => {
                let member = members.get(name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
                let mut file = file.try_clone().map_err(failed)?;
                file.seek(SeekFrom::Start(member.offset)).map_err(failed)?;
                file.take(member.size_bytes.min(limit + 1))
            }
        };
        read_capped(source, limit).map_err(failed)?.ok_or_else(|| too_large(&self.path, name, limit))
    }

    /// What a failed read of a blob means: wrong bytes, or a disk that fails.
    pub(crate) fn reading(&self, digest: Digest, error: io::Error) -> LayoutError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>()) {
            Some(mismatch) => self.error(LayoutProblem::Damaged { digest, mismatch: *mismatch }),
            None => LayoutError::io(&self.path, error),
        }
    }

    fn error(&self, problem: LayoutProblem) -> LayoutError {
        LayoutError::new(&self.path, problem)
    }
}

/// Reads all of it; `None` when that is more than `limit` bytes.
pub(super) fn read_capped(mut source: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
}

/// The error for one of the two documents at the top that is larger than anybody writes it.
pub(super) fn too_large(path: &Path, name: &str, limit: u64) -> LayoutError {
    let why = format!("its `{name}` is larger than {limit} bytes");
    LayoutError::new(path, LayoutProblem::NotALayout(SafeText::new(&why)))
}

/// Refuses what is no layout of a version this client knows.
pub(super) fn check_version(path: &Path, document: &[u8]) -> Result<(), LayoutError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let why = match serde_json::from_slice::<Marker>(document) {
        Ok(marker) if marker.image_layout_version == "1.0.0" => return Ok(()),
        Ok(marker) => format!("it has version `{}`, and only 1.0.0 is known", marker.image_layout_version),
        Err(error) => format!("its `oci-layout`: {error}"),
    };
    Err(LayoutError::new(path, LayoutProblem::NotALayout(SafeText::new(&why))))
}

fn is_blob_name(name: &str) -> bool {
    let Some((algorithm, hex)) = name.strip_prefix("blobs/").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    format!("{algorithm}:{hex}").parse::<Digest>().is_ok()
}

fn absent_or(path: &Path, error: io::Error) -> LayoutError {
    match error.kind() {
        io::ErrorKind::NotFound => LayoutError::new(path, LayoutProblem::Absent),
        io::ErrorKind::NotADirectory => {
            let why = "it is no directory (an archive is written `oci-archive:PATH`)";
            LayoutError::new(path, LayoutProblem::NotALayout(why.into()))
        }
        _ => LayoutError::io(path, error),
    }
}

/// The media type of a manifest nobody described: its body's, else the one of its shape.
fn type_of(raw: &[u8], kind: &ManifestKind) -> String {
    use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST};
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let by_body = serde_json::from_slice::<Typed>(raw).ok().and_then(|typed| typed.media_type);
    by_body.unwrap_or_else(|| match kind {
        ManifestKind::Image(_) => OCI_MANIFEST.to_owned(),
        ManifestKind::Index(_) => OCI_INDEX.to_owned(),
    })
}
