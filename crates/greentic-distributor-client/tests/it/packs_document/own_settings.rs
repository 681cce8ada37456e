use std::time::Duration;

use greentic_distributor_client::dist::{DistClient, Timeouts};
use greentic_distributor_client::oci_packs::{DefaultRegistryClient, OciPackFetcher, PackFetchOptions};

/// A fetcher that reaches registries through the mirrors of a tree of host configurations, and gives up sooner.
pub fn own_settings(mirrors: &str, options: PackFetchOptions) -> OciPackFetcher {
    let timeouts = Timeouts { connect: Duration::from_secs(2), ..Timeouts::default() };
    let like = DistClient::builder().hosts_dir(mirrors).timeouts(timeouts).build();
    OciPackFetcher::with_client(DefaultRegistryClient::like(&like), options)
}
