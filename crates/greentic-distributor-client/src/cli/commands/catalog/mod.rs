//! `greentic-dist catalog`: the repositories of a registry, and the provider catalog of a bundle.

mod providers;
mod show;

use greentic_dist_types::SafeText;
use serde_json::json;

use super::Context;
use super::tags::{ListArgs, print};
use crate::dist_cli::CliError;
pub use providers::{CatalogLookArgs, CatalogPlaceArgs};

/// Arguments of `greentic-dist catalog`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    override_usage = "greentic-dist catalog [OPTIONS] <REGISTRY>\n       greentic-dist catalog [OPTIONS] <COMMAND>",
    after_help = "A registry has a dot or a colon in its name, or is `localhost`; a bare word is sent to nobody."
)]
pub struct CatalogArgs {
    /// `host` or `host:port`, whose repositories are listed
    #[arg(value_name = "REGISTRY", required = true)]
    pub registry: Option<String>,
    /// How much of the list
    #[command(flatten)]
    pub list: ListArgs,
    /// What to do with the provider catalog of a bundle
    #[command(subcommand)]
    pub command: Option<CatalogCommand>,
}

/// What can be done with a provider catalog.
#[derive(Debug, clap::Subcommand)]
pub enum CatalogCommand {
    /// Print the path of a bundle's provider catalog, fetched when it is not cached
    Resolve(CatalogLookArgs),
    /// Show what is known of it: where it came from, when, and what it lists
    Show(CatalogLookArgs),
    /// List its providers: id, category, reference
    Ls(CatalogLookArgs),
    /// Ask the registry for a newer one, in one request when there is none
    Update(CatalogPlaceArgs),
}

pub(crate) async fn run(context: &Context<'_>, args: &CatalogArgs) -> Result<(), CliError> {
    let ListArgs { limit, page_size } = args.list;
    match (&args.command, &args.registry) {
        // Options for every command may stand before a subcommand, so this is not left to the parser.
        (Some(_), registry) if registry.is_some() || limit.is_some() || page_size.is_some() => {
            Err(CliError::invalid("a registry, --limit and --page-size do not go with a subcommand of `catalog`"))
        }
        (Some(CatalogCommand::Resolve(args)), _) => providers::resolve(context, args).await,
        (Some(CatalogCommand::Show(args)), _) => providers::show(context, args).await,
        (Some(CatalogCommand::Ls(args)), _) => providers::ls(context, args).await,
        (Some(CatalogCommand::Update(args)), _) => providers::update(context, args).await,
        (None, Some(registry)) => repositories(context, registry, &args.list).await,
        (None, None) => Err(CliError::invalid("no registry is named")),
    }
}

async fn repositories(context: &Context<'_>, registry: &str, list: &ListArgs) -> Result<(), CliError> {
    let registry = registry.strip_prefix("oci://").unwrap_or(registry).trim_end_matches('/');
    if registry != "localhost" && !registry.contains(['.', ':']) {
        let shown = SafeText::excerpt(registry, 96);
        let mut failure = CliError::invalid(&format!(
            "`{shown}` names no registry: one has a dot or a colon in its name, or is `localhost`"
        ));
        failure.hints.push(format!(
            "write the port with it, as in `{shown}:5000`; the commands of `catalog` are `resolve`, `show`, `ls` and `update`"
        ));
        return Err(failure);
    }
    let listing = context.client.catalog(registry, &list.options()).await?;
    print(context, &listing, &json!({ "registry": registry, "repositories": listing.names, "more": listing.more }))
}
