//! `greentic-dist cache ls`: the digests, by directory names alone.

use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;

pub(crate) fn run(context: &Context<'_>) -> Result<(), CliError> {
    let digests = context.client.try_list_cache()?;
    if context.output.is_json() {
        return context.output.document(&digests);
    }
    context.output.lines(digests);
    Ok(())
}
