//! A directory of packs and components on a developer's disk, as a source beside the registries.
//!
//! [`DevDistributorSource`] is what a chain of sources asks: it hands out bytes by id and version. Below it,
//! [`DevDirectory`] answers one question: *which file is this id in this version?* Nothing here opens a socket or writes. The ids it is asked for may come from a manifest somebody else wrote, so a file is
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
//!
//! // The same tree as the first link of a chain.
//! use greentic_distributor_client::{ChainedDistributorSource, ComponentId, DistributorSource, Version};
//! use greentic_distributor_dev::DevDistributorSource;
//!
//! let chain = ChainedDistributorSource::new(vec![Box::new(DevDistributorSource::new(directory.config().clone()))]);
//! let bytes = chain.fetch_component(&ComponentId::new("acme.weather")?, &Version::parse("1.2.0")?)?;
//! assert_eq!(bytes, b"\0asm");
//! # Ok(())
//! # }
//! ```

mod beneath;
mod config;
mod directory;
mod error;
mod source;

pub use config::{DevConfig, DevLayout};
pub use directory::DevDirectory;
pub use error::{DevSourceError, DevSourceErrorKind};
pub use source::DevDistributorSource;
