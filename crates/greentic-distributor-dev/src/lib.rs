//! A directory of packs and components on a developer's disk, as a source beside the registries.
//!
//! [`DevDirectory`] answers one question: *which file is this id in this version?* It reads no artifact, opens no
//! socket and writes nothing. The ids it is asked for may come from a manifest somebody else wrote, so a file is
//! only ever named when it is a regular file under the configured root: ids of dots, ids with separators, links that
//! lead out of the root and names that could mean two artifacts are refused, each with an error of its own
//! [kind](DevSourceErrorKind).
//!
//! ```
//! use greentic_distributor_dev::{DevConfig, DevDirectory, DevLayout, DevSourceErrorKind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! # std::fs::create_dir_all(root.path().join("components/acme.weather/1.2.0"))?;
//! # std::fs::write(root.path().join("components/acme.weather/1.2.0/component.wasm"), b"\0asm")?;
//! let directory = DevDirectory::new(DevConfig {
//!     root_dir: root.path().to_path_buf(),
//!     layout: DevLayout::ByIdAndVersion,
//!     ..DevConfig::default()
//! });
//!
//! let file = directory.locate_component("acme.weather", "1.2.0")?;
//! assert!(file.ends_with("components/acme.weather/1.2.0/component.wasm"));
//!
//! let refused = directory.locate_component("..", "1.2.0").err().map(|error| error.kind());
//! assert_eq!(refused, Some(DevSourceErrorKind::InvalidId));
//! # Ok(())
//! # }
//! ```

mod config;
mod directory;
mod error;
mod name;

pub use config::{DevConfig, DevLayout};
pub use directory::DevDirectory;
pub use error::{DevSourceError, DevSourceErrorKind};
