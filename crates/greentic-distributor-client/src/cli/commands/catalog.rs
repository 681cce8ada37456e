//! `greentic-dist catalog REGISTRY`: the repositories of a registry.

use serde_json::json;

use super::Context;
use super::tags::{ListArgs, print};
use crate::dist_cli::CliError;

/// Arguments of `greentic-dist catalog`.
#[derive(Debug, clap::Args)]
pub struct CatalogArgs {
    /// `host` or `host:port`
    #[arg(value_name = "REGISTRY")]
    pub registry: String,
    /// How much of the list
    #[command(flatten)]
    pub list: ListArgs,
}

pub(crate) async fn run(context: &Context<'_>, args: &CatalogArgs) -> Result<(), CliError> {
    let registry = args.registry.strip_prefix("oci://").unwrap_or(&args.registry).trim_end_matches('/');
    let listing = context.client.catalog(registry, &args.list.options()).await?;
    print(context, &listing, &json!({ "registry": registry, "repositories": listing.names, "more": listing.more }))
}
