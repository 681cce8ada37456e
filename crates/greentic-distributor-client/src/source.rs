//! Where packs and components come from by id and version: a directory, a bucket, anything that implements one trait.

use std::fmt;

use crate::DistributorError;
use crate::types::{ComponentId, PackId, Version};

/// A place that has packs and components by id and version. Synchronous; may be called from several threads.
///
/// Artifacts are returned whole: meant for development and for small sets. Hosts that pull from registries use
/// `dist::DistClient`, which streams.
pub trait DistributorSource: Send + Sync {
    /// The bytes of a pack.
    ///
    /// # Errors
    /// [`DistributorError::NotFound`] when this source does not have it, which lets a chain go on; anything else ends the
    /// search.
    fn fetch_pack(&self, pack_id: &PackId, version: &Version) -> Result<Vec<u8>, DistributorError>;

    /// The bytes of a component.
    ///
    /// # Errors
    /// As [`DistributorSource::fetch_pack`].
    fn fetch_component(&self, component_id: &ComponentId, version: &Version) -> Result<Vec<u8>, DistributorError>;
}

/// Sources asked one after another.
///
/// The first that has the artifact answers. A source that does not have it (`NotFound`) passes the question on; any other
/// failure is returned at once, so that a broken source is noticed instead of skipped.
pub struct ChainedDistributorSource {
    sources: Vec<Box<dyn DistributorSource>>,
}

impl ChainedDistributorSource {
    /// A chain in this order. An empty one has nothing.
    pub fn new(sources: Vec<Box<dyn DistributorSource>>) -> Self {
        Self { sources }
    }

    fn first(
        &self,
        ask: impl Fn(&dyn DistributorSource) -> Result<Vec<u8>, DistributorError>,
    ) -> Result<Vec<u8>, DistributorError> {
        for source in &self.sources {
            match ask(&**source) {
                Err(DistributorError::NotFound) => {}
                answer => return answer,
            }
        }
        Err(DistributorError::NotFound)
    }
}

impl DistributorSource for ChainedDistributorSource {
    fn fetch_pack(&self, pack_id: &PackId, version: &Version) -> Result<Vec<u8>, DistributorError> {
        self.first(|source| source.fetch_pack(pack_id, version))
    }

    fn fetch_component(&self, component_id: &ComponentId, version: &Version) -> Result<Vec<u8>, DistributorError> {
        self.first(|source| source.fetch_component(component_id, version))
    }
}

impl fmt::Debug for ChainedDistributorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainedDistributorSource").field("sources", &self.sources.len()).finish()
    }
}
