//! Where packs and components lie in a directory, and which of them are there. Looks at names only.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use greentic_dist_types::{artifact_readings, refuse_artifact_id, refuse_artifact_version};

/// Most names of one directory that are looked at; beyond it the rest is not listed, and still found when asked for.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The id cannot be one; with the reason.
    Id(&'static str),
    /// The version cannot be one; with the reason.
    Version(&'static str),
    /// There is no such file, or it is none that may be served.
    File,
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

    fn path(&self, root: &Path, layout: TreeLayout) -> PathBuf {
        let dir = root.join(self.kind.dir());
        match layout {
            TreeLayout::Flat => dir.join(format!("{}-{}.{}", self.id, self.version, self.kind.extension())),
            TreeLayout::ByIdAndVersion => dir.join(&self.id).join(&self.version).join(self.kind.file_name()),
        }
    }
}

/// Opens the file of an artifact: a regular file under the root, whatever links lead to it. `root` holds no link.
///
/// # Errors
/// [`Missing::File`], also for a flat name that can mean two artifacts.
pub(crate) fn open(root: &Path, layout: TreeLayout, name: &Name) -> Result<(PathBuf, File, Metadata), Missing> {
    let path = name.path(root, layout);
    let ambiguous = layout == TreeLayout::Flat && artifact_readings(&format!("{}-{}", name.id, name.version)).len() > 1;
    let look = || -> io::Result<(PathBuf, File, Metadata)> {
        let real = fs::canonicalize(&path)?;
        // A pipe would block whoever opens it.
        if !real.starts_with(root) || !real.symlink_metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(&real)?;
        let meta = file.metadata()?;
        if meta.is_file() { Ok((real, file, meta)) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    if ambiguous {
        return Err(Missing::File);
    }
    look().map_err(|_looked_at_and_not_there| Missing::File)
}

/// The ids of a kind, sorted.
pub(crate) fn ids(root: &Path, layout: TreeLayout, kind: Kind) -> BTreeSet<String> {
    match layout {
        TreeLayout::Flat => flat(root, kind).into_iter().map(|(id, _version)| id).collect(),
        TreeLayout::ByIdAndVersion => {
            names(&root.join(kind.dir())).into_iter().filter(|id| refuse_artifact_id(id).is_none()).collect()
        }
    }
}

/// The versions of an artifact, sorted as text.
pub(crate) fn versions(root: &Path, layout: TreeLayout, kind: Kind, id: &str) -> BTreeSet<String> {
    if refuse_artifact_id(id).is_some() {
        return BTreeSet::new();
    }
    let found: Vec<String> = match layout {
        TreeLayout::Flat => {
            flat(root, kind).into_iter().filter(|(other, _)| other == id).map(|(_, version)| version).collect()
        }
        TreeLayout::ByIdAndVersion => names(&root.join(kind.dir()).join(id)),
    };
    let servable = |version: &String| Name::new(kind, id, version).is_ok_and(|name| open(root, layout, &name).is_ok());
    found.into_iter().filter(servable).collect()
}

/// Every id and version that a flat directory names without doubt.
fn flat(root: &Path, kind: Kind) -> Vec<(String, String)> {
    let suffix = format!(".{}", kind.extension());
    let names = names(&root.join(kind.dir()));
    let stems = names.iter().filter_map(|name| name.strip_suffix(&suffix));
    stems
        .filter_map(|stem| match artifact_readings(stem).as_slice() {
            [(id, version)] => Some(((*id).to_owned(), (*version).to_owned())),
            _ => None,
        })
        .collect()
}

/// The names in a directory; none for what cannot be listed.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(NAMES);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
