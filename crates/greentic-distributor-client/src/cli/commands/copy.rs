//! `greentic-dist copy SRC DST`: an artifact from one place to another.

use greentic_dist_types::{PlatformChoice, SafeText};

use super::Context;
use crate::dist_cli::CliError;
use crate::dist_cli::output::human_bytes;
use crate::oci::{CopyOptions, CopyReport, Place};

/// Arguments of `greentic-dist copy`.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// `host/name:tag`, `oci-layout:DIR[:TAG]`, `oci-archive:FILE.tar[:TAG]`, or a path
    #[arg(value_name = "SRC")]
    pub from: String,
    /// The same; without a tag, the one of SRC
    #[arg(value_name = "DST")]
    pub to: String,
    /// Of an index, only the manifest of this platform: OS/ARCHITECTURE[/VARIANT], e.g. linux/arm/v7. Without a variant the usual
    /// one (v7 of arm, v8 of arm64, v1 of amd64)
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<PlatformChoice>,
    /// Leave out what refers to the artifact: referrers, and the tags of signatures
    #[arg(long)]
    pub no_referrers: bool,
    /// Blobs at a time, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub jobs: u8,
    /// Replace an archive that is there
    #[arg(long)]
    pub force: bool,
    /// Do not ask the registry what it has: it is known to have nothing of it
    #[arg(long)]
    pub assume_missing: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &CopyArgs) -> Result<(), CliError> {
    let (from, to) = (Place::parse(&args.from)?, Place::parse(&args.to)?);
    let options = CopyOptions {
        platform: args.platform.clone(),
        referrers: !args.no_referrers,
        jobs: usize::from(args.jobs),
        replace: args.force,
        assume_missing: args.assume_missing,
    };
    let report = context.client.copy(&from, &to, &options).await?;
    let output = context.output;
    if output.is_json() {
        return output.document(&report);
    }
    output.line(&report.digest);
    output.note(&summary(&report, &to));
    Ok(())
}

fn summary(report: &CopyReport, to: &Place) -> String {
    let manifests = report.manifests_copied + report.manifests_present;
    let blobs = report.blobs_copied + report.blobs_present + report.blobs_mounted;
    let mounted = match report.blobs_mounted {
        0 => String::new(),
        mounted => format!(", {mounted} taken over"),
    };
    let referrers = match report.referrers {
        0 => String::new(),
        referrers => format!(", {referrers} of the manifests refer to others"),
    };
    format!(
        "copied to {}: {manifests} manifests ({} there already), {blobs} blobs ({} there already{mounted}), {} transferred{referrers}",
        SafeText::excerpt(&to.to_string(), 500),
        report.manifests_present,
        report.blobs_present,
        human_bytes(report.bytes_copied),
    )
}
