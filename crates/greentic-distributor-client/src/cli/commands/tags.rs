//! `greentic-dist tags REF`: the tags of a repository.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::Context;
use crate::dist_cli::CliError;
use crate::oci::Listing;

/// Arguments of `greentic-dist tags`.
#[derive(Debug, clap::Args)]
pub struct TagsArgs {
    /// `host/name`; a tag or digest is not looked at
    #[arg(value_name = "REF")]
    pub reference: String,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
}

pub(crate) async fn run(context: &Context<'_>, args: &TagsArgs) -> Result<(), CliError> {
    let reference = super::registry_reference(&args.reference)?;
    let listing = context.client.tags(&reference, args.limit.map(NonZeroUsize::get)).await?;
    print(context, &listing, &json!({ "reference": reference.name(), "tags": listing.names, "more": listing.more }))
}

/// Prints the names of a list, and whether there are more.
pub(super) fn print(context: &Context<'_>, listing: &Listing, document: &Value) -> Result<(), CliError> {
    let output = context.output;
    if output.is_json() {
        return output.document(document);
    }
    for name in &listing.names {
        output.line(name);
    }
    if listing.more {
        output.note(&format!("the first {} are shown; there are more", listing.names.len()));
    }
    Ok(())
}
