//! `greentic-dist tag REF NEW…`: more names for a manifest.

use super::{Context, registry_reference};
use crate::dist_cli::CliError;

/// Arguments of `greentic-dist tag`.
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// `host/name:tag` or `host/name@sha256:…`
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Tags the manifest is to have, too
    #[arg(required = true, value_name = "NEW")]
    pub tags: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &TagArgs) -> Result<(), CliError> {
    let reference = registry_reference(&args.reference)?;
    let report = context.client.tag(&reference, &args.tags).await?;
    let output = context.output;
    if output.is_json() {
        return output.document(&report);
    }
    output.line(&report.digest);
    let set: Vec<&str> = report.tags.iter().filter(|tag| !report.unchanged.contains(tag)).map(String::as_str).collect();
    if !set.is_empty() {
        output.note(&format!("{} now has {}", reference.name(), set.join(", ")));
    }
    if !report.unchanged.is_empty() {
        output.note(&format!("it had {} already", report.unchanged.join(", ")));
    }
    Ok(())
}
