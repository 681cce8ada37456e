//! `greentic-dist retention plan|apply`: what would go, and what goes.

use std::time::Duration;

use super::Context;
use crate::dist::{Planned, RetentionEnvironment};
use crate::dist_cli::CliError;
use crate::dist_cli::output::human_bytes;
use crate::dist_cli::quantity::{parse_age, parse_bytes};

/// Keep the cache in bounds.
#[derive(Debug, clap::Subcommand)]
pub enum RetentionCommand {
    /// Say what would be evicted, and why; removes nothing
    Plan(RetentionArgs),
    /// Evict it
    Apply(RetentionApplyArgs),
}

/// Limits of `greentic-dist retention`.
#[derive(Debug, clap::Args)]
pub struct RetentionArgs {
    /// Bytes the artifacts may have together, like 3GiB or 500MB; 0 for any number [default: the cap of the cache]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_bytes: Option<u64>,
    /// How long an artifact may go unused, like 90s, 12h, 30d or 8w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub max_age: Option<Duration>,
    /// How many bundles that are not active to keep to go back to
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_rollback: usize,
    /// Where the bundles run; changes nothing that is evicted
    #[arg(long, value_name = "ENV", value_enum, default_value_t = RetentionEnvironmentArg::Dev)]
    pub env: RetentionEnvironmentArg,
    /// A bundle that serves, `bundle:sha256:…`; may be repeated
    #[arg(long, value_name = "BUNDLE")]
    pub active: Vec<String>,
    /// A bundle that a session refers to; may be repeated
    #[arg(long, value_name = "BUNDLE")]
    pub session: Vec<String>,
}

/// Arguments of `greentic-dist retention apply`.
#[derive(Debug, clap::Args)]
pub struct RetentionApplyArgs {
    /// The limits
    #[command(flatten)]
    pub limits: RetentionArgs,
    /// As `retention plan`
    #[arg(long)]
    pub dry_run: bool,
}

/// Where bundles run.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RetentionEnvironmentArg {
    /// A developer's machine
    Dev,
    /// A rehearsal
    Staging,
    /// Production
    Prod,
}

pub(crate) fn run(context: &Context<'_>, command: &RetentionCommand) -> Result<(), CliError> {
    let (limits, dry_run) = match command {
        RetentionCommand::Plan(limits) => (limits, true),
        RetentionCommand::Apply(args) => (&args.limits, args.dry_run),
    };
    let mut planned = plan(context, limits)?;
    if !dry_run {
        planned.apply(&context.client)?;
    }
    show(context, &planned, dry_run)
}

fn plan(context: &Context<'_>, limits: &RetentionArgs) -> Result<Planned, CliError> {
    for bundle in limits.active.iter().chain(&limits.session) {
        // One that is mistyped would protect nothing.
        bundle.parse::<greentic_dist_types::BundleId>().map_err(|error| CliError::invalid(&error.to_string()))?;
    }
    let planned = context.client.plan_retention(|input| {
        input.active_bundle_ids.clone_from(&limits.active);
        input.session_referenced_bundle_ids.clone_from(&limits.session);
        input.max_cache_bytes = limits.max_bytes.unwrap_or(input.max_cache_bytes);
        input.max_entry_age = limits.max_age.map(|age| age.as_secs());
        input.minimum_rollback_depth = limits.keep_rollback;
        input.environment = match limits.env {
            RetentionEnvironmentArg::Dev => RetentionEnvironment::Dev,
            RetentionEnvironmentArg::Staging => RetentionEnvironment::Staging,
            RetentionEnvironmentArg::Prod => RetentionEnvironment::Prod,
        };
    });
    Ok(planned?)
}

fn show(context: &Context<'_>, planned: &Planned, dry_run: bool) -> Result<(), CliError> {
    let (output, report, refused) = (context.output, planned.report(), planned.refused());
    if output.is_json() {
        output.document(planned)?;
    } else {
        let lines = planned.evictions().map(|(entry, verdict)| (entry.pin.to_string(), verdict.code()));
        let lines = lines.filter(|(digest, _)| !refused.contains(digest.as_str()));
        output.lines(lines.map(|(digest, code)| format!("{digest} {code}")));
    }
    let planned_bytes = planned.evictions().map(|(entry, _)| entry.size_bytes).sum();
    let (verb, bytes) = if dry_run { ("would evict", planned_bytes) } else { ("evicted", report.bytes_reclaimed) };
    output.note(&format!(
        "{verb} {} of {} artifacts ({}); {} are protected",
        report.evicted,
        report.scanned_entries,
        human_bytes(bytes),
        report.protected
    ));
    for refused in &report.refusals {
        output.note(&format!("kept {refused}: in use, or gone already"));
    }
    Ok(())
}
