//! From an id and a version to one regular file under the root.

use std::{
    fs::{self, File},
    path::{Component, Path, PathBuf},
};

use crate::{
    beneath::{self, Refused},
    config::{DevConfig, DevLayout},
    error::{Asked, DevSourceError, DevSourceErrorKind},
};
use greentic_dist_types::{artifact_readings, refuse_artifact_id, refuse_artifact_version};

/// A development tree that is asked for files by id and version.
///
/// Making one does no I/O; every question looks at the disk as it is then.
#[derive(Clone, Debug)]
pub struct DevDirectory {
    config: DevConfig,
}

/// What is looked for, and where the layouts keep it.
struct Kind<'a> {
    noun: &'static str,
    dir: &'a str,
    extension: &'static str,
    file_name: &'static str,
}

impl DevDirectory {
    /// Takes the place of the tree as it is; a wrong one is reported by the first question.
    pub fn new(config: DevConfig) -> Self {
        Self { config }
    }

    /// The place of the tree.
    pub fn config(&self) -> &DevConfig {
        &self.config
    }

    /// The file of a pack: `{id}-{version}.gtpack`, or `{id}/{version}/pack.gtpack`, by layout.
    ///
    /// The path is absolute and holds no symbolic link, and was a regular file under the root, open for reading, when it was
    /// looked at. What lies there later is for the caller to judge; [`DevDistributorSource`](crate::DevDistributorSource)
    /// reads the very file that was looked at. Blocks on the file system for a few system calls.
    ///
    /// # Errors
    ///
    /// One of [`DevSourceErrorKind`]; only `NotFound` means that another source may have it.
    pub fn locate_pack(&self, id: &str, version: &str) -> Result<PathBuf, DevSourceError> {
        self.open_pack(id, version).map(|(path, _file)| path)
    }

    /// The file of a component: `{id}-{version}.wasm`, or `{id}/{version}/component.wasm`, by layout.
    ///
    /// What holds for the path of [`locate_pack`](Self::locate_pack) holds for this one.
    ///
    /// # Errors
    ///
    /// As for [`locate_pack`](Self::locate_pack).
    pub fn locate_component(&self, id: &str, version: &str) -> Result<PathBuf, DevSourceError> {
        self.open_component(id, version).map(|(path, _file)| path)
    }

    /// The file of a pack, open.
    pub(crate) fn open_pack(&self, id: &str, version: &str) -> Result<(PathBuf, File), DevSourceError> {
        let dir = &self.config.packs_dir;
        self.open(&Kind { noun: "pack", dir, extension: "gtpack", file_name: "pack.gtpack" }, id, version)
    }

    /// The file of a component, open.
    pub(crate) fn open_component(&self, id: &str, version: &str) -> Result<(PathBuf, File), DevSourceError> {
        let dir = &self.config.components_dir;
        self.open(&Kind { noun: "component", dir, extension: "wasm", file_name: "component.wasm" }, id, version)
    }

    fn open(&self, kind: &Kind<'_>, id: &str, version: &str) -> Result<(PathBuf, File), DevSourceError> {
        let asked = Asked { noun: kind.noun, id, version };
        if let Some(why) = refuse_artifact_id(id) {
            return Err(asked.refuse(DevSourceErrorKind::InvalidId, format!("this id is refused, {why}")));
        }
        if let Some(why) = refuse_artifact_version(version) {
            return Err(asked.refuse(DevSourceErrorKind::InvalidVersion, format!("this version is refused, {why}")));
        }
        if !stays_below(kind.dir) {
            let reason =
                format!("the {} directory {:?} must be relative to the root and hold no `..`", kind.noun, kind.dir);
            return Err(asked.refuse(DevSourceErrorKind::InvalidConfig, reason));
        }
        let stem = format!("{id}-{version}");
        let place = self.config.root_dir.join(kind.dir);
        let place = match self.config.layout {
            DevLayout::Flat => place.join(format!("{stem}.{}", kind.extension)),
            DevLayout::ByIdAndVersion => place.join(id).join(version).join(kind.file_name),
        };
        let file = regular_file_below(&self.config.root_dir, &place, asked)?;
        if self.config.layout == DevLayout::Flat {
            refuse_second_reading(&stem, &place, asked)?;
        }
        Ok(file)
    }
}

/// Whether a configured directory is made of plain names only.
fn stays_below(dir: &str) -> bool {
    Path::new(dir).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The regular file under `root` that `place` leads to, and its path with all links followed.
fn regular_file_below(root: &Path, place: &Path, asked: Asked<'_>) -> Result<(PathBuf, File), DevSourceError> {
    let real_root = fs::canonicalize(root).map_err(|error| asked.failed(root, error))?;
    beneath::open(&real_root, place).map_err(|refused| match refused {
        Refused::Outside => {
            let reason = format!("{} leads out of the root {}", place.display(), root.display());
            asked.refuse_at(DevSourceErrorKind::OutsideRoot, place, reason)
        }
        Refused::NotAFile(thing) => {
            let reason = format!("{} is {thing}, a {} was expected", place.display(), asked.noun);
            asked.refuse_at(DevSourceErrorKind::NotAFile, place, reason)
        }
        Refused::Io(error) => asked.failed(place, error),
    })
}

/// `foo` in version `1.0.0-2.0.0` and `foo-1.0.0` in version `2.0.0` share one flat name: which of them the file is
/// cannot be known, so neither is answered.
fn refuse_second_reading(stem: &str, place: &Path, asked: Asked<'_>) -> Result<(), DevSourceError> {
    let Some((id, version)) = artifact_readings(stem).into_iter().find(|reading| *reading != (asked.id, asked.version))
    else {
        return Ok(());
    };
    let reason = format!(
        "{} may as well be `{id}` in version `{version}`; the layout by id and version tells them apart",
        place.display()
    );
    Err(asked.refuse_at(DevSourceErrorKind::Ambiguous, place, reason))
}
