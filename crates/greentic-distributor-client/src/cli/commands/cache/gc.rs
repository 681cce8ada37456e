//! `greentic-dist cache gc`.

use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;

/// Arguments of `greentic-dist cache gc`.
#[derive(Debug, clap::Args)]
pub struct CacheGcArgs {
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(crate) fn run(context: &Context<'_>, args: &CacheGcArgs) -> Result<(), CliError> {
    let removed = if args.dry_run { context.client.gc_dry_run()? } else { context.client.gc()? };
    let output = context.output;
    if output.is_json() {
        output.document(&removed)?;
    }
    if !removed.is_empty() {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        output.note(&format!("{verb} {}", removed.join(", ")));
    }
    Ok(())
}
