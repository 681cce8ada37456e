//! What a reference of an extension turned out to be.

use std::path::PathBuf;

/// A component in the cache, or, of a lazy extension, one that will be there when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedComponent {
    /// The reference as written.
    pub original_reference: String,
    /// The digest that pins it: that of the manifest the reference names, of its index where it names one.
    pub resolved_digest: String,
    /// Media type of the layer that is the component.
    pub media_type: String,
    /// Where it is: under the name its publisher gave it, else `component.wasm`. Of a component that was not brought yet, where
    /// `component.wasm` will be.
    pub path: PathBuf,
    /// Whether this call moved it over the network.
    pub fetched_from_network: bool,
    /// The digest of its image manifest. `None` where an injected client told none.
    pub manifest_digest: Option<String>,
}

/// What a reference means, without the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedComponentDescriptor {
    /// The reference as written.
    pub original_reference: String,
    /// The digest that pins it: that of the manifest the reference names, of its index where it names one.
    pub resolved_digest: String,
    /// Media type of the layer that is the component.
    pub media_type: String,
    /// Size of that layer in bytes.
    pub size_bytes: u64,
    /// Whether somebody was asked.
    pub fetched_from_network: bool,
    /// The digest of its image manifest. `None` where an injected client told none.
    pub manifest_digest: Option<String>,
}
