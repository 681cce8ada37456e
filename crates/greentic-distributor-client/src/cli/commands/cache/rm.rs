//! `greentic-dist cache rm DIGEST…`.

use crate::dist::RemoveOptions;
use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;
use crate::dist_cli::output::human_bytes;

/// Arguments of `greentic-dist cache rm`.
#[derive(Debug, clap::Args)]
pub struct CacheRmArgs {
    /// sha256:… or its hex
    #[arg(value_name = "DIGEST")]
    pub digests: Vec<String>,
    /// Remove artifacts of bundles that are warming, ready or draining, too
    #[arg(long)]
    pub force: bool,
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(crate) fn run(context: &Context<'_>, args: &CacheRmArgs) -> Result<(), CliError> {
    let options = RemoveOptions { force: args.force, dry_run: args.dry_run };
    let report = context.client.remove_with(&args.digests, options)?;
    let output = context.output;
    if output.is_json() {
        output.document(&report)?;
    }
    if report.evicted > 0 {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        output.note(&format!("{verb} {} artifacts ({})", report.evicted, human_bytes(report.bytes_reclaimed)));
    }
    let in_use =
        if report.protected > 0 { "in use, or its bundle is (`--force` removes the latter)" } else { "in use" };
    for refused in &report.refusals {
        output.note(&format!("kept {refused}: {in_use}"));
    }
    Ok(())
}
