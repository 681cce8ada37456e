//! `greentic-dist cache stat DIGEST`: the record of one entry.

use greentic_dist_types::SafeText;

use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;
use crate::dist_cli::output::human_bytes;

/// Arguments of `greentic-dist cache stat`.
#[derive(Debug, clap::Args)]
pub struct CacheStatArgs {
    /// sha256:… or its hex, of the manifest or of the bytes
    #[arg(value_name = "DIGEST")]
    pub digest: String,
}

pub(crate) fn run(context: &Context<'_>, args: &CacheStatArgs) -> Result<(), CliError> {
    let entry = context.client.stat_cache(&args.digest)?;
    let output = context.output;
    if output.is_json() {
        return output.document(&entry);
    }
    let seconds = |at: u64| format!("{at} (unix seconds)");
    let verified = entry.last_verified_at.map_or_else(|| "never".to_owned(), seconds);
    for (name, value) in [
        ("digest", entry.digest),
        ("path", entry.local_path.display().to_string()),
        ("size", human_bytes(entry.size_bytes)),
        ("media type", SafeText::new(&entry.media_type).to_string()),
        ("reference", SafeText::new(&entry.raw_ref).to_string()),
        ("state", format!("{:?}", entry.state)),
        ("fetched", seconds(entry.fetched_at)),
        ("last used", seconds(entry.last_accessed_at)),
        ("last verified", verified),
    ] {
        output.line(&format!("{name}: {value}"));
    }
    Ok(())
}
