//! The directory as one of the sources a distributor client asks.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use greentic_distributor_client::{ComponentId, DistributorError, DistributorSource, PackId};
use semver::Version;

use crate::{DevConfig, DevDirectory, DevSourceError, DevSourceErrorKind};

/// Largest artifact read, in bytes: 2 GiB, as everywhere in the distributor client. An artifact is returned whole.
const MAX_ARTIFACT_BYTES: u64 = 2 << 30;

/// A [`DevDirectory`] that hands out the bytes of its files.
///
/// A file that is not there is [`DistributorError::NotFound`], so that a chain goes on; ids and trees that are refused are
/// [`DistributorError::Other`] with the reason, so that a chain stops and somebody looks. Making one does no I/O: a tree that does
/// not exist, a mistyped [`root_dir`](DevConfig::root_dir) included, has no file, so that every question ends in
/// [`DistributorError::NotFound`] and a chain goes on.
///
/// ```
/// use greentic_distributor_client::{ChainedDistributorSource, DistributorError, DistributorSource, PackId, Version};
/// use greentic_distributor_dev::{DevConfig, DevDistributorSource};
///
/// fn pack(id: &PackId) -> Result<Vec<u8>, DistributorError> {
///     // `.greentic/dev/packs/<id>-1.0.0.gtpack`; the next source of a chain is asked for what is not there.
///     let chain = ChainedDistributorSource::new(vec![Box::new(DevDistributorSource::new(DevConfig::default()))]);
///     chain.fetch_pack(id, &Version::new(1, 0, 0))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct DevDistributorSource {
    directory: DevDirectory,
}

impl DevDistributorSource {
    /// The tree at this place.
    pub fn new(cfg: DevConfig) -> Self {
        Self { directory: DevDirectory::new(cfg) }
    }

    /// The tree, for questions that need no bytes.
    pub const fn directory(&self) -> &DevDirectory {
        &self.directory
    }
}

impl DistributorSource for DevDistributorSource {
    fn fetch_pack(&self, pack_id: &PackId, version: &Version) -> Result<Vec<u8>, DistributorError> {
        read(self.directory.open_pack(pack_id.as_str(), &version.to_string()).map_err(refused)?)
    }

    fn fetch_component(&self, component_id: &ComponentId, version: &Version) -> Result<Vec<u8>, DistributorError> {
        read(self.directory.open_component(component_id.as_str(), &version.to_string()).map_err(refused)?)
    }
}

/// The whole of the file that was found, whatever lies at its path by now.
fn read((path, file): (PathBuf, File)) -> Result<Vec<u8>, DistributorError> {
    let meta = file.metadata()?;
    let too_large = || {
        DistributorError::Other(format!(
            "{} is larger than {MAX_ARTIFACT_BYTES} bytes, the most that is read",
            path.display()
        ))
    };
    if meta.len() > MAX_ARTIFACT_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    file.take(MAX_ARTIFACT_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_ARTIFACT_BYTES) {
        return Err(too_large());
    }
    Ok(bytes)
}

fn refused(error: DevSourceError) -> DistributorError {
    match error.kind() {
        DevSourceErrorKind::NotFound => DistributorError::NotFound,
        DevSourceErrorKind::Io => {
            let kind = error.io_kind().unwrap_or(io::ErrorKind::Other);
            DistributorError::Io(io::Error::new(kind, error))
        }
        _ => DistributorError::Other(error.to_string()),
    }
}
