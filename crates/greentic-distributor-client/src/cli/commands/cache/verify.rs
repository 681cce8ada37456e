//! `greentic-dist cache verify`: everything hashed again; exit code 8 when something is wrong and stays so.

use crate::dist_cli::CliError;
use crate::dist_cli::commands::Context;
use crate::dist_cli::output::human_bytes;

/// Arguments of `greentic-dist cache verify`.
#[derive(Debug, clap::Args)]
pub struct CacheVerifyArgs {
    /// sha256:… or its hex; all artifacts in the cache when there is none
    #[arg(value_name = "DIGEST")]
    pub digests: Vec<String>,
    /// Put what is damaged aside, so that the next pull brings it anew
    #[arg(long)]
    pub repair: bool,
}

pub(crate) fn run(context: &Context<'_>, args: &CacheVerifyArgs) -> Result<(), CliError> {
    let report = context.client.verify_cache(&args.digests, args.repair)?;
    let output = context.output;
    for damage in &report.damaged {
        if !output.is_json() {
            output.line(&damage.digest);
        }
        let done = if damage.repaired { "; put aside" } else { "" };
        output.note(&format!("damaged: {}{done}", damage.reason));
    }
    for (digest, reason) in &report.unknown {
        output.note(&format!("not verified: {digest}: {reason}"));
    }
    let damaged = report.damaged.iter().filter(|damage| !damage.repaired).count();
    output.note(&format!(
        "{} artifacts hashed, {} good ({}), {} damaged",
        report.checked,
        report.checked - report.damaged.len(),
        human_bytes(report.bytes),
        report.damaged.len()
    ));
    if damaged == 0 && report.unknown.is_empty() {
        return if output.is_json() { output.document(&report) } else { Ok(()) };
    }
    let mut error = if damaged > 0 {
        let message = format!("{damaged} of {} artifacts in the cache are damaged", report.checked);
        let mut error = CliError::integrity(&message);
        error.hints.push(if args.repair {
            "somebody is using them, or they lie in an older layout: stop whoever does and try again, or remove them with \
             `greentic-dist cache rm`"
                .to_owned()
        } else {
            "put them aside with `greentic-dist cache verify --repair`, and pull them again".to_owned()
        });
        error
    } else {
        CliError::internal(&format!("{} entries of the cache could not be verified", report.unknown.len()))
    };
    error.partial = serde_json::to_value(&report).ok();
    Err(error)
}
