//! `greentic-dist cache ls|rm|gc`.

use crate::dist::DistClient;
use crate::dist_cli::output::{Output, human_bytes};
use crate::dist_cli::{CacheCommand, CliError};

pub(crate) fn run(client: &DistClient, output: &Output, command: CacheCommand) -> Result<(), CliError> {
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
            let report = client.remove(&digests)?;
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
