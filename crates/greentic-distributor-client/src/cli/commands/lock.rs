//! `greentic-dist lock`: what references mean now, written down, compared, and written anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use super::{Context, conclude_list};
use crate::dist::{DistError, LockChange, LockEntry, LockReport};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{echoed, error_value};

/// The lock file where none is named, in the working directory.
pub(super) const DEFAULT_LOCK: &str = "pack.lock.json";

/// Arguments of `greentic-dist lock`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct LockArgs {
    /// What to do; references alone are added
    #[command(subcommand)]
    pub command: Option<LockCommand>,
    #[command(flatten)]
    add: LockAddArgs,
    /// The lock file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_LOCK)]
    pub lock: PathBuf,
}

/// What can be done to a lock file.
#[derive(Debug, clap::Subcommand)]
pub enum LockCommand {
    /// Add references, or update those that are there
    Add(LockAddArgs),
    /// Compare the file with what its references mean now; exit code 9 when it is out of date
    Check,
    /// Write what the references mean now
    Update {
        /// Names or references of the entries to update; all of them when none is given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Arguments of `greentic-dist lock add`.
#[derive(Debug, clap::Args)]
pub struct LockAddArgs {
    /// References to add
    #[arg(value_name = "REF", required = true)]
    pub references: Vec<String>,
    /// Name of the entry; with one reference only
    #[arg(long)]
    pub name: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &LockArgs) -> Result<(), CliError> {
    let (client, lock) = (&context.client, args.lock.as_path());
    match &args.command {
        Some(LockCommand::Check) => check(context, &client.check_lock(lock).await?),
        Some(LockCommand::Update { names }) => written(context, &client.update_lock(lock, names).await?),
        Some(LockCommand::Add(args)) => add(context, lock, args).await,
        None => add(context, lock, &args.add).await,
    }
}

async fn add(context: &Context<'_>, lock: &Path, args: &LockAddArgs) -> Result<(), CliError> {
    let report = context.client.add_to_lock(lock, &args.references, args.name.as_deref()).await?;
    written(context, &report)
}

/// Prints `digest reference` for each entry that was looked at.
fn written(context: &Context<'_>, report: &LockReport) -> Result<(), CliError> {
    let output = context.output;
    if report.failed().next().is_some() {
        output.note("nothing was written");
        return conclude_list(output, report.changes.iter().map(describe).collect(), &failures(report));
    }
    if output.is_json() {
        let entries: Vec<Value> = report.changes.iter().map(describe).collect();
        return output.document(&json!({ "path": report.path, "written": report.written, "entries": entries }));
    }
    for entry in report.changes.iter().filter_map(|change| change.after.as_ref().ok()) {
        output.line(&format!("{} {}", digest_of(Some(entry)), echoed(&entry.subject())));
    }
    let path = report.path.display();
    output.note(&if report.written { format!("wrote {path}") } else { format!("{path} is up to date") });
    Ok(())
}

/// Prints a line for each entry; one that is out of date has both digests.
fn check(context: &Context<'_>, report: &LockReport) -> Result<(), CliError> {
    let output = context.output;
    let mut failed = failures(report);
    for change in &report.changes {
        let subject = echoed(&change.subject());
        let before = digest_of(change.before.as_ref());
        match &change.after {
            Ok(_) if change.is_current => say(context, &format!("ok {before} {subject}")),
            Ok(after) => {
                let after = digest_of(Some(after));
                let what = if before == after {
                    format!("{before} has another size, type or content digest than the file says")
                } else {
                    format!("{before} is now {after}")
                };
                say(context, &format!("changed {before} {after} {subject}"));
                let error = DistError::LockOutOfDate {
                    path: report.path.display().to_string(),
                    reason: format!("entry {}: `{}`: {what}", change.index, SafeText::excerpt(&subject, 200)),
                };
                failed.push((Arc::new(error), String::new()));
            }
            Err(_) => say(context, &format!("unknown {before} {subject}")),
        }
    }
    let entries: Vec<Value> = report.changes.iter().map(describe).collect();
    if failed.is_empty() && output.is_json() {
        return output.document(&json!({ "path": report.path, "written": false, "entries": entries }));
    }
    conclude_list(output, entries, &failed)
}

fn say(context: &Context<'_>, line: &str) {
    if !context.output.is_json() {
        context.output.line(line);
    }
}

fn failures(report: &LockReport) -> Vec<(Arc<DistError>, String)> {
    let failed = report.changes.iter().filter_map(|change| {
        let error = change.after.as_ref().err()?;
        Some((Arc::clone(error), format!("entry {} of {}", change.index, report.path.display())))
    });
    failed.collect()
}

fn digest_of(entry: Option<&LockEntry>) -> String {
    entry.and_then(|entry| entry.digest).map_or_else(|| "-".to_owned(), |digest| digest.to_string())
}

fn describe(change: &LockChange) -> Value {
    let before = change.before.as_ref();
    let shown = change.after.as_ref().ok().or(before);
    let mut document = json!({
        "index": change.index,
        "name": shown.and_then(|entry| entry.name.as_ref()),
        "reference": echoed(&change.subject()),
        "previous_digest": before.and_then(|entry| entry.digest),
        "current": change.is_current,
    });
    let Some(object) = document.as_object_mut() else { return document };
    match &change.after {
        Ok(after) => {
            object.insert("digest".to_owned(), json!(after.digest));
            object.insert("content_digest".to_owned(), json!(after.content_digest));
            object.insert("size_bytes".to_owned(), json!(after.size_bytes));
            object.insert("media_type".to_owned(), json!(after.media_type));
        }
        Err(error) => {
            object.insert("error".to_owned(), error_value(&CliError::from_dist(error)));
        }
    }
    document
}
