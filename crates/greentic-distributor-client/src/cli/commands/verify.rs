//! `greentic-dist verify REF|DIGEST`: an artifact held against a policy.

use greentic_dist_types::SafeText;

use super::Context;
use crate::dist::VerificationReport;
use crate::dist::bundle::BundleError;
use crate::dist::verify::verify_reference;
use crate::dist_cli::{CliError, PolicyArgs};

/// Arguments of `greentic-dist verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A reference, which is brought into the cache, or a digest that is there
    #[arg(value_name = "REF|DIGEST")]
    pub reference: String,
    /// What it is held against.
    #[command(flatten)]
    pub against: PolicyArgs,
}

pub(crate) async fn run(context: &Context<'_>, args: &VerifyArgs) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let policy = args.against.policy()?;
    let advisory = args.against.advisory(client)?;
    let (_path, verdict) = verify_reference(client, &args.reference, advisory, policy).await?;
    if !output.is_json() {
        for line in lines(verdict.report()) {
            output.line(&line);
        }
    }
    let report = verdict.accepted().map_err(|verdict| CliError::from_bundle(&BundleError::Refused(verdict)))?;
    if output.is_json() {
        return output.document(&report);
    }
    Ok(())
}

/// One line a check: outcome, name, detail.
fn lines(report: &VerificationReport) -> Vec<String> {
    report
        .checks
        .iter()
        .map(|check| {
            let outcome = format!("{:?}", check.outcome).to_lowercase();
            format!("{outcome:<8} {:<28} {}", check.name, SafeText::excerpt(&check.detail, 1_000))
        })
        .collect()
}
