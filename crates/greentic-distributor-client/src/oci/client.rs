//! The client for registries, with the settings of this machine.

use std::sync::Arc;

use greentic_dist_net::{Net, NetBuilder};

use crate::credentials::CredentialChain;
use crate::dist::{DistClient, DistError};
use crate::hosts::HostFiles;

/// The settings of a [`Client`](super::Client) with the logins of this user on this machine ([`CredentialChain`]) and the host
/// configuration that the environment names ([`HostFiles::from_env`]). Everything can be set otherwise before it is built. Reads
/// variables, no file; a login is looked for when a registry demands one.
pub fn client() -> NetBuilder {
    let builder = Net::builder().credentials(Arc::new(CredentialChain::new()));
    let files = HostFiles::from_env();
    if files.is_empty() { builder } else { builder.host_source(Arc::new(files)) }
}

impl DistClient {
    /// The client for registries that this one uses: the same settings, logins, connections and counters. Offline when this client
    /// is. No I/O.
    ///
    /// # Errors
    /// [`DistError::Network`] of kind `Config` or `InvalidInput` for settings that cannot be used.
    pub fn oci(&self) -> Result<Net, DistError> {
        self.inner.net("the registry client").cloned()
    }
}
