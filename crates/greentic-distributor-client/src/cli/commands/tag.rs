//! `greentic-dist tag REF NEW…`: more names for a manifest.

use greentic_dist_types::SafeText;

use super::Context;
use crate::dist_cli::CliError;
use crate::oci::Place;

/// Arguments of `greentic-dist tag`.
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// `host/name:tag` or `host/name@sha256:…`; `oci-layout:DIR`, with `:TAG` or `@sha256:…` where it holds several
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Tags the manifest is to have, too
    #[arg(required = true, value_name = "NEW")]
    pub tags: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &TagArgs) -> Result<(), CliError> {
    let place = Place::parse(&args.reference)?;
    let report = context.client.tag_at(&place, &args.tags).await?;
    let output = context.output;
    if output.is_json() {
        return output.document(&report);
    }
    output.line(&report.digest);
    let set: Vec<&str> = report.tags.iter().filter(|tag| !report.unchanged.contains(tag)).map(String::as_str).collect();
    if !set.is_empty() {
        output.note(&format!("{} now has {}", SafeText::excerpt(&place.whole(), 500), set.join(", ")));
    }
    if !report.unchanged.is_empty() {
        output.note(&format!("it had {} already", report.unchanged.join(", ")));
    }
    Ok(())
}
