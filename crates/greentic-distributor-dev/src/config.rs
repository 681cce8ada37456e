//! Where the development tree lies and how its files are named.

use std::path::PathBuf;

/// How a version of an artifact becomes a file name below its directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevLayout {
    /// `<id>-<version>.gtpack` and `<id>-<version>.wasm`, side by side. Short, but a name with several dashes can
    /// mean two artifacts; such a name is reported, never guessed.
    #[default]
    Flat,
    /// `<id>/<version>/pack.gtpack` and `<id>/<version>/component.wasm`. One file for one meaning.
    ByIdAndVersion,
}

/// The place of a development tree.
///
/// The default is the flat layout under `.greentic/dev` of the working directory, with packs in `packs` and
/// components in `components`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevConfig {
    /// The directory that nothing may lead out of. It may itself be a symbolic link. One that does not exist is no error of its own:
    /// nothing is found in it, and a chain of sources goes on.
    pub root_dir: PathBuf,
    /// The directory of packs, relative to [`root_dir`](Self::root_dir), without `..`.
    pub packs_dir: String,
    /// The directory of components, relative to [`root_dir`](Self::root_dir), without `..`.
    pub components_dir: String,
    /// How the files below those two directories are named.
    pub layout: DevLayout,
}

impl Default for DevConfig {
    fn default() -> Self {
        Self {
            root_dir: PathBuf::from(".greentic/dev"),
            packs_dir: "packs".to_owned(),
            components_dir: "components".to_owned(),
            layout: DevLayout::default(),
        }
    }
}
