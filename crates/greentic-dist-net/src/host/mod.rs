//! How one registry is reached: its own host, and the mirrors that are asked before it.
//!
//! A [`HostConfig`] says it in code, a [`HostsFile`] in containerd's `hosts.toml`, a [`RegistriesFile`] in the `registries.conf` of
//! the containers tools, a [`HostSource`] wherever else it is kept. `oci::registry` turns it into endpoints, `fallback` goes from one to the next.

mod config;
mod duration;
mod hosts_toml;
mod memory;
mod profile;
mod registries_conf;

pub use config::{Capabilities, HostConfig, HostEndpoint, HostSource};
pub(crate) use config::{Scheme, check_path};
pub(crate) use duration::parse_duration;
pub use hosts_toml::{HostsFile, HostsFileEndpoint, HostsFileError};
pub use memory::EndpointMemory;
pub(crate) use memory::Liars;
pub(crate) use profile::Profile;
pub use registries_conf::{RegistriesFile, RegistriesFileError};
