//! `greentic-dist cache size`: how much the cache holds.

use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;
use crate::dist_cli::output::human_bytes;

pub(crate) fn run(context: &Context<'_>) -> Result<(), CliError> {
    let sizes = context.client.cache_sizes()?;
    let output = context.output;
    if output.is_json() {
        return output.document(&sizes);
    }
    let cap = if sizes.max_bytes == 0 { "none".to_owned() } else { human_bytes(sizes.max_bytes) };
    output.line(&format!("entries: {}", sizes.entries));
    output.line(&format!("artifacts: {}", human_bytes(sizes.artifact_bytes)));
    output.line(&format!("cap: {cap}"));
    output.line(&format!("partial downloads: {}", human_bytes(sizes.partial_bytes)));
    output.line(&format!("in the making: {}", human_bytes(sizes.temp_bytes)));
    output.line(&format!("quarantine: {}", human_bytes(sizes.quarantine_bytes)));
    output.line(&format!("trash: {}", human_bytes(sizes.trash_bytes)));
    Ok(())
}
