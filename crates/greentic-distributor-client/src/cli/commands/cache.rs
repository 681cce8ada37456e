//! `greentic-dist cache ls|rm|gc`.

use super::Context;
use crate::dist_cli::CliError;
use crate::dist_cli::output::human_bytes;

/// Commands on the cache.
#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// List the digests in the cache
    Ls,
    /// Remove artifacts by digest
    Rm {
        /// sha256:… or its hex
        #[arg(value_name = "DIGEST")]
        digests: Vec<String>,
    },
    /// Remove dead temporary files and entries that can never be opened
    Gc,
}

pub(crate) fn run(context: &Context<'_>, command: &CacheCommand) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    match command {
        CacheCommand::Ls => {
            let digests = client.try_list_cache()?;
            if output.is_json() {
                return output.document(&digests);
            }
            for digest in digests {
                output.line(&digest);
            }
            Ok(())
        }
        CacheCommand::Rm { digests } => {
            let report = client.remove(digests)?;
            if output.is_json() {
                output.document(&report)?;
            }
            if report.evicted > 0 {
                output.note(&format!("removed {} artifacts ({})", report.evicted, human_bytes(report.bytes_reclaimed)));
            }
            for refused in &report.refusals {
                output.note(&format!("kept {refused}: a pull is using it"));
            }
            Ok(())
        }
        CacheCommand::Gc => {
            let removed = client.gc()?;
            if output.is_json() {
                output.document(&removed)?;
            }
            if !removed.is_empty() {
                output.note(&format!("removed {}", removed.join(", ")));
            }
            Ok(())
        }
    }
}
