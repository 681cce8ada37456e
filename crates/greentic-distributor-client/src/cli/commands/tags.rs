//! `greentic-dist tags REF`: the tags of a repository, or of a layout.

use std::num::NonZeroUsize;

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use super::Context;
use crate::dist_cli::CliError;
use crate::oci::{ListOptions, Listing, Place};

/// Arguments of `greentic-dist tags`.
#[derive(Debug, clap::Args)]
pub struct TagsArgs {
    /// `host/name`, `oci-layout:DIR`, `oci-archive:FILE.tar`, or a path; a tag or digest is not looked at
    #[arg(value_name = "REF")]
    pub reference: String,
    /// How much of the list
    #[command(flatten)]
    pub list: ListArgs,
}

/// How much of a list is fetched.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// Ask for pages of so many, 1 to 1000 [default: what the registry likes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub page_size: Option<u32>,
}

impl ListArgs {
    pub(super) fn options(&self) -> ListOptions {
        ListOptions { limit: self.limit.map(NonZeroUsize::get), page_size: self.page_size }
    }
}

pub(crate) async fn run(context: &Context<'_>, args: &TagsArgs) -> Result<(), CliError> {
    let place = Place::parse(&args.reference)?;
    let listing = context.client.tags_at(&place, &args.list.options()).await?;
    print(context, &listing, &json!({ "reference": place.whole(), "tags": listing.names, "more": listing.more }))
}

/// Prints the names of a list, and whether there are more.
pub(super) fn print(context: &Context<'_>, listing: &Listing, document: &Value) -> Result<(), CliError> {
    let output = context.output;
    if output.is_json() {
        return output.document(document);
    }
    for name in &listing.names {
        output.line(SafeText::excerpt(name, 255).as_str());
    }
    if listing.more {
        output.note(&format!("the first {} are shown; there are more", listing.names.len()));
    }
    Ok(())
}
