//! Where packs and components lie in a directory, and which of them are there. Opens files, and reads none.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirEntry, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use greentic_dist_types::{artifact_readings, refuse_artifact_id, refuse_artifact_version};

use super::beneath::{self, Refused};

/// Most directory entries that one question looks at. Beyond it the rest is not listed; a version of it is found by its tag, and
/// by digest once it was found so.
const NAMES: usize = 100_000;

/// How a version of an artifact becomes a file name below `packs/` and `components/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TreeLayout {
    /// `<id>-<version>.gtpack` and `<id>-<version>.wasm`, side by side.
    #[default]
    Flat,
    /// `<id>/<version>/pack.gtpack` and `<id>/<version>/component.wasm`.
    ByIdAndVersion,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Component,
    Pack,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Component, Self::Pack];

    /// Its directory, which is also the first part of its repositories' names.
    pub(crate) const fn dir(self) -> &'static str {
        match self {
            Self::Component => "components",
            Self::Pack => "packs",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Component => "wasm",
            Self::Pack => "gtpack",
        }
    }

    const fn file_name(self) -> &'static str {
        match self {
            Self::Component => "component.wasm",
            Self::Pack => "pack.gtpack",
        }
    }
}

/// One version of one artifact, by checked names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) version: String,
}

/// Why there is no such artifact here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The id cannot be one; with the reason.
    Id(&'static str),
    /// The version cannot be one; with the reason.
    Version(&'static str),
    /// There is no such file.
    File,
    /// Links lead out of the root.
    Outside,
    /// Something else is in the place of the file; with what it is.
    NotAFile(&'static str),
    /// The file's name can mean another artifact too; with its id and version.
    Ambiguous(String, String),
    /// The file cannot be read; with what the system says.
    Unreadable(String),
    /// The file was written to while it was hashed.
    Changing,
    /// The server ends.
    Stopping,
}

impl Missing {
    /// A file that is there and cannot be read.
    pub(crate) fn unreadable(error: &io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<Refused> for Missing {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing => Self::File,
            Refused::Outside => Self::Outside,
            Refused::NotAFile(thing) => Self::NotAFile(thing),
            Refused::Io(error) => Self::unreadable(&error),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(why) => write!(f, "this id is refused, {why}"),
            Self::Version(why) => write!(f, "this version is refused, {why}"),
            Self::File => f.write_str("there is no such artifact here"),
            Self::Outside => f.write_str("a link in the place of its file leads out of the directory that is served"),
            Self::NotAFile(thing) => write!(f, "{thing} is in the place of its file"),
            Self::Ambiguous(id, version) => write!(
                f,
                "its file may as well be `{id}` in version `{version}`; the layout by id and version tells them apart"
            ),
            Self::Unreadable(why) => write!(f, "its file cannot be read: {why}"),
            Self::Changing => f.write_str("its file was written to while it was hashed"),
            Self::Stopping => f.write_str("the server is stopping"),
        }
    }
}

impl Name {
    /// # Errors
    /// [`Missing::Id`] and [`Missing::Version`].
    pub(crate) fn new(kind: Kind, id: &str, version: &str) -> Result<Self, Missing> {
        refuse_artifact_id(id).map_or(Ok(()), |why| Err(Missing::Id(why)))?;
        refuse_artifact_version(version).map_or(Ok(()), |why| Err(Missing::Version(why)))?;
        Ok(Self { kind, id: id.to_owned(), version: version.to_owned() })
    }

    /// `components/<id>` or `packs/<id>`.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.kind.dir(), self.id)
    }

    /// The version as a tag: tags have no `+`.
    pub(crate) fn tag(&self) -> String {
        self.version.replace('+', "_")
    }

    /// The version that a tag stands for.
    ///
    /// # Errors
    /// [`Missing::Id`] and [`Missing::Version`].
    pub(crate) fn of_tag(repository: &str, tag: &str) -> Result<Self, Missing> {
        let (kind, id) = split(repository).ok_or(Missing::File)?;
        // Versions have no `_`.
        Self::new(kind, id, &tag.replace('_', "+"))
    }

    pub(crate) fn path(&self, root: &Path, layout: TreeLayout) -> PathBuf {
        let dir = root.join(self.kind.dir());
        match layout {
            TreeLayout::Flat => dir.join(format!("{}-{}.{}", self.id, self.version, self.kind.extension())),
            TreeLayout::ByIdAndVersion => dir.join(&self.id).join(&self.version).join(self.kind.file_name()),
        }
    }
}

/// The kind and the id of a repository's name.
pub(crate) fn split(repository: &str) -> Option<(Kind, &str)> {
    let (dir, id) = repository.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.dir() == dir)?;
    refuse_artifact_id(id).is_none().then_some((kind, id))
}

/// Opens the file of an artifact: a regular file under the root, whatever links lead to it. `root` holds no link.
///
/// # Errors
/// What [`Missing`] says of files.
pub(crate) fn open(root: &Path, layout: TreeLayout, name: &Name) -> Result<(File, Metadata), Missing> {
    let opened = beneath::open(root, &name.path(root, layout))?;
    if layout == TreeLayout::Flat {
        let stem = format!("{}-{}", name.id, name.version);
        let others = artifact_readings(&stem);
        if let Some((id, version)) = others.iter().find(|(id, version)| (*id, *version) != (&name.id, &name.version)) {
            return Err(Missing::Ambiguous((*id).to_owned(), (*version).to_owned()));
        }
    }
    Ok(opened)
}

/// The ids of a kind that have a version, sorted. Looks at every name once.
pub(crate) fn ids(root: &Path, layout: TreeLayout, kind: Kind) -> BTreeSet<String> {
    let left = Cell::new(NAMES);
    match layout {
        TreeLayout::Flat => flat(root, kind, None, &left).into_iter().map(|(id, _version)| id).collect(),
        TreeLayout::ByIdAndVersion => {
            let ids = entries(&root.join(kind.dir()), &left).into_iter().map(|(id, _)| id);
            ids.filter(|id| refuse_artifact_id(id).is_none() && nested(root, kind, id, &left).next().is_some())
                .collect()
        }
    }
}

/// The versions of an artifact, in no order.
pub(crate) fn versions(root: &Path, layout: TreeLayout, kind: Kind, id: &str) -> Vec<String> {
    let left = Cell::new(NAMES);
    if refuse_artifact_id(id).is_some() {
        return Vec::new();
    }
    match layout {
        TreeLayout::Flat => flat(root, kind, Some(id), &left).into_iter().map(|(_id, version)| version).collect(),
        TreeLayout::ByIdAndVersion => nested(root, kind, id, &left).collect(),
    }
}

/// Every id and version that a flat directory names without doubt, or those of one id.
fn flat(root: &Path, kind: Kind, wanted: Option<&str>, left: &Cell<usize>) -> Vec<(String, String)> {
    let suffix = format!(".{}", kind.extension());
    let named = entries(&root.join(kind.dir()), left).into_iter().filter_map(|(name, entry)| {
        let (id, version) = match artifact_readings(name.strip_suffix(&suffix)?).as_slice() {
            [(id, version)] => ((*id).to_owned(), (*version).to_owned()),
            _ => return None,
        };
        let asked = wanted.is_none_or(|wanted| wanted == id);
        (asked && is_servable(root, &entry)).then_some((id, version))
    });
    named.collect()
}

/// The versions of an id in a directory of its own.
fn nested<'a>(root: &'a Path, kind: Kind, id: &'a str, left: &Cell<usize>) -> impl Iterator<Item = String> + 'a {
    let versions = entries(&root.join(kind.dir()).join(id), left).into_iter().map(|(version, _)| version);
    let layout = TreeLayout::ByIdAndVersion;
    versions.filter(move |version| Name::new(kind, id, version).is_ok_and(|name| open(root, layout, &name).is_ok()))
}

/// Whether an entry is a regular file, or a link to one below the root.
fn is_servable(root: &Path, entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => beneath::open(root, &entry.path()).is_ok(),
        Ok(kind) => kind.is_file(),
        Err(_gone) => false,
    }
}

/// What is in a directory, of the entries that are left to look at; nothing for what cannot be listed.
fn entries(dir: &Path, left: &Cell<usize>) -> Vec<(String, DirEntry)> {
    let looked_at = fs::read_dir(dir).into_iter().flatten().flatten().take(left.get());
    let found: Vec<DirEntry> = looked_at.collect();
    left.set(left.get().saturating_sub(found.len()));
    found.into_iter().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry))).collect()
}
