//! `greentic-dist bundle stage|warm|rollback|ls|show|state`.

use std::time::Duration;

use greentic_dist_types::{BundleId, SafeText};
use serde_json::json;

use super::Context;
use crate::dist::bundle::{rollback, stage, warm};
use crate::dist::{
    AccessMode, BundleLifecycleState, BundleRecord, DistErrorKind, RollbackBundleInput, StageBundleInput,
    WarmBundleInput,
};
use crate::dist_cli::quantity::parse_splay;
use crate::dist_cli::{CliError, PolicyArgs};

/// Commands on bundles: artifacts that somebody relies on.
#[derive(Debug, clap::Subcommand)]
pub enum BundleCommand {
    /// Fetch, verify and write down an artifact, so that it is kept and opens without a network
    Stage(StageArgs),
    /// Hash, verify and open a bundle from the cache; no network
    Warm(WarmArgs),
    /// Make sure from the cache that an earlier bundle can be used; no network
    Rollback(RollbackArgs),
    /// List the bundles
    Ls,
    /// Show a bundle and its artifact
    Show {
        /// bundle:sha256:…
        #[arg(value_name = "BUNDLE")]
        bundle_id: String,
    },
    /// Set the state of a bundle
    State(StateArgs),
}

/// Arguments of `greentic-dist bundle stage`.
#[derive(Debug, clap::Args)]
pub struct StageArgs {
    /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
    #[arg(value_name = "REF")]
    pub reference: String,
    /// What it is held against.
    #[command(flatten)]
    pub against: PolicyArgs,
    /// How it is meant to be used; repeated in the result
    #[arg(long, value_enum, default_value = "userspace", value_name = "MODE")]
    pub access_mode: AccessModeArg,
    /// Whom it is for; repeated in the result
    #[arg(long)]
    pub tenant: Option<String>,
    /// Whom of them it is for; repeated in the result
    #[arg(long)]
    pub team: Option<String>,
    /// Wait a random time below this before the first request, like 30s or 5m, at most 1h; not when everything is in the cache [default: do not wait]
    #[arg(long, value_name = "TIME", value_parser = parse_splay)]
    pub splay: Option<Duration>,
}

/// How a bundle is meant to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccessModeArg {
    /// Read by a program
    Userspace,
    /// Mounted as a file system
    Mount,
}

/// Arguments of `greentic-dist bundle warm`.
#[derive(Debug, clap::Args)]
pub struct WarmArgs {
    /// bundle:sha256:…
    #[arg(value_name = "BUNDLE")]
    pub bundle_id: String,
    /// What it is held against.
    #[command(flatten)]
    pub against: PolicyArgs,
    /// Version of the operator that will use it
    #[arg(long, value_name = "VERSION")]
    pub operator_version: Option<String>,
    /// Try the artifact out
    #[arg(long)]
    pub smoke_test: bool,
    /// Open nothing, only verify
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `greentic-dist bundle rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// bundle:sha256:…
    #[arg(value_name = "BUNDLE")]
    pub bundle_id: String,
    /// What it is held against.
    #[command(flatten)]
    pub against: PolicyArgs,
    /// The digest it must have
    #[arg(long, value_name = "DIGEST")]
    pub expect: Option<String>,
}

/// Arguments of `greentic-dist bundle state`.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// bundle:sha256:…
    #[arg(value_name = "BUNDLE")]
    pub bundle_id: String,
    /// The state it is to be in; an inactive bundle may be evicted
    #[arg(value_enum)]
    pub state: StateArg,
    /// Only from this state, and only along the life cycle: inactive, staged, warming, ready, draining, inactive
    #[arg(long, value_enum, value_name = "STATE")]
    pub from: Option<StateArg>,
    /// Change nothing, only say what would be
    #[arg(long)]
    pub dry_run: bool,
}

/// Where a bundle is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateArg {
    /// Out of use; may be evicted
    Inactive,
    /// In the cache and verified
    Staged,
    /// Being made ready
    Warming,
    /// In use
    Ready,
    /// Finishing what it began
    Draining,
}

impl From<StateArg> for BundleLifecycleState {
    fn from(argument: StateArg) -> Self {
        match argument {
            StateArg::Inactive => Self::Inactive,
            StateArg::Staged => Self::Staged,
            StateArg::Warming => Self::Warming,
            StateArg::Ready => Self::Ready,
            StateArg::Draining => Self::Draining,
        }
    }
}

pub(crate) async fn run(context: &Context<'_>, command: &BundleCommand) -> Result<(), CliError> {
    match command {
        BundleCommand::Stage(args) => stage_bundle(context, args).await,
        BundleCommand::Warm(args) => warm_bundle(context, args),
        BundleCommand::Rollback(args) => rollback_bundle(context, args),
        BundleCommand::Ls => list(context),
        BundleCommand::Show { bundle_id } => show(context, bundle_id),
        BundleCommand::State(args) => set_state(context, args),
    }
}

fn note_warnings(context: &Context<'_>, warnings: &[String]) {
    for warning in warnings {
        context.output.note(&format!("warning: {warning}"));
    }
}

async fn stage_bundle(context: &Context<'_>, args: &StageArgs) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let policy = args.against.policy()?;
    let advisory = args.against.advisory(client)?;
    let input = StageBundleInput {
        bundle_ref: args.reference.clone(),
        requested_access_mode: match args.access_mode {
            AccessModeArg::Userspace => AccessMode::Userspace,
            AccessModeArg::Mount => AccessMode::Mount,
        },
        verification_policy_ref: args.against.policy_ref(),
        cache_policy_ref: "default".to_owned(),
        tenant: args.tenant.clone(),
        team: args.team.clone(),
    };
    let staged =
        stage(client, &input, advisory.as_ref(), &policy).await.map_err(|error| CliError::from_bundle(&error))?;
    note_warnings(context, &staged.verification_report.warnings);
    if output.is_json() {
        let state = client.stat_bundle(&staged.bundle_id)?.lifecycle_state;
        return output.document(&json!({
            "bundle_id": staged.bundle_id,
            "canonical_ref": staged.canonical_ref,
            "digest": staged.resolved_artifact.digest,
            "content_digest": staged.resolved_artifact.content_digest(),
            "cache_path": staged.resolved_artifact.cache_path,
            "fetched": staged.resolved_artifact.fetched,
            "lifecycle_state": state,
            "verification_report": staged.verification_report,
            "cache_entry": staged.cache_entry,
            "stage_audit_fields": staged.stage_audit_fields,
        }));
    }
    output.line(&staged.bundle_id);
    Ok(())
}

fn warm_bundle(context: &Context<'_>, args: &WarmArgs) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let policy = args.against.policy()?;
    let advisory = args.against.advisory(client)?;
    let input = WarmBundleInput {
        cache_key: parse_id(&args.bundle_id)?.pin().to_string(),
        bundle_id: args.bundle_id.clone(),
        smoke_test: args.smoke_test,
        dry_run: args.dry_run,
        expected_operator_version: args.operator_version.clone(),
    };
    let warmed = warm(client, &input, advisory.as_ref(), &policy).map_err(|error| CliError::from_bundle(&error))?;
    note_warnings(context, &warmed.warnings);
    if output.is_json() {
        return output.document(&warmed);
    }
    let mode = format!("{:?}", warmed.bundle_open_mode).to_lowercase();
    let component = SafeText::excerpt(&warmed.bundle_manifest_summary.component_id, 512);
    output.line(&format!("{} {mode} {component}", warmed.bundle_id));
    Ok(())
}

fn rollback_bundle(context: &Context<'_>, args: &RollbackArgs) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let policy = args.against.policy()?;
    let advisory = args.against.advisory(client)?;
    let input =
        RollbackBundleInput { target_bundle_id: args.bundle_id.clone(), expected_cache_key: args.expect.clone() };
    let back = rollback(client, &input, advisory.as_ref(), &policy).map_err(|error| CliError::from_bundle(&error))?;
    note_warnings(context, &back.verification_report.warnings);
    if output.is_json() {
        return output.document(&back);
    }
    output.line(&back.cache_entry.local_path.display().to_string());
    Ok(())
}

fn list(context: &Context<'_>) -> Result<(), CliError> {
    let bundles = context.client.list_bundles()?;
    if context.output.is_json() {
        return context.output.document(&bundles);
    }
    context.output.lines(bundles.iter().map(line));
    Ok(())
}

/// Id, state and reference of a bundle.
fn line(bundle: &BundleRecord) -> String {
    let state = format!("{:?}", bundle.lifecycle_state).to_lowercase();
    format!("{} {state:<8} {}", bundle.bundle_id, SafeText::excerpt(&bundle.canonical_ref, 1_024))
}

fn show(context: &Context<'_>, bundle_id: &str) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let bundle = client.stat_bundle(bundle_id)?;
    let entry = match client.stat_cache(&bundle.cache_key) {
        Ok(entry) => Some(entry),
        Err(error) if error.kind() == DistErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if output.is_json() {
        return output.document(&json!({ "bundle": bundle, "cache_entry": entry }));
    }
    output.line(&format!("bundle: {}", bundle.bundle_id));
    output.line(&format!("state: {}", format!("{:?}", bundle.lifecycle_state).to_lowercase()));
    output.line(&format!("reference: {}", SafeText::excerpt(&bundle.canonical_ref, 1_024)));
    output.line(&format!("digest: {}", bundle.cache_key));
    output.line(&format!("fetched at: {}", bundle.fetched_at));
    match entry {
        None => output.line("artifact: not in the cache"),
        Some(entry) => {
            output.line(&format!("artifact: {}", entry.local_path.display()));
            output.line(&format!("size: {} bytes", entry.size_bytes));
            output.line(&format!("entry: {:?}", entry.state));
            let verified = entry.last_verified_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            output.line(&format!("verified at: {verified}"));
        }
    }
    Ok(())
}

fn set_state(context: &Context<'_>, args: &StateArgs) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let to = BundleLifecycleState::from(args.state);
    let changed = match (args.dry_run, args.from.map(BundleLifecycleState::from)) {
        (false, None) => client.set_bundle_state(&args.bundle_id, to)?,
        (false, Some(from)) => client.try_transition(&args.bundle_id, from, to)?,
        (true, from) => {
            let bundle = client.stat_bundle(&args.bundle_id)?;
            let actual = bundle.lifecycle_state;
            if let Some(from) = from.filter(|from| *from != actual || !from.may_become(to)) {
                let bundle_id = args.bundle_id.clone();
                return Err(crate::dist::DistError::InvalidTransition { bundle_id, from, to, actual }.into());
            }
            output.note(&format!("would go from {actual:?} to {to:?}"));
            BundleRecord { lifecycle_state: to, ..bundle }
        }
    };
    if output.is_json() {
        return output.document(&changed);
    }
    output.line(&line(&changed));
    Ok(())
}

fn parse_id(text: &str) -> Result<BundleId, CliError> {
    text.parse().map_err(|error: greentic_dist_types::ParseBundleIdError| CliError::invalid(&error.to_string()))
}
