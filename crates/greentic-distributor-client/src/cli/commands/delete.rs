//! `greentic-dist delete REF`: a tag, or when asked for it a manifest, is deleted.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::{Context, registry_reference};
use crate::dist_cli::CliError;
use crate::oci::{Deletion, Reference};

/// Arguments of `greentic-dist delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// `host/name:tag`, or with `--manifest` also `host/name@sha256:…`
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Delete the manifest, and with it every tag that names it
    #[arg(long)]
    pub manifest: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub yes: bool,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &DeleteArgs) -> Result<(), CliError> {
    let reference = registry_reference(&args.reference)?;
    let deletion = context.client.deletion(&reference, args.manifest).await.map_err(|error| {
        let mut error = CliError::from_dist(&error);
        if !args.manifest && reference.digest().is_some() {
            error.hints.push("add `--manifest` when the manifest is meant".to_owned());
        }
        error
    })?;
    let what = sentence(&reference, &deletion);
    let output = context.output;
    if !args.dry_run {
        confirm(context, args, &what)?;
        context.client.delete(&reference, &deletion).await?;
    }
    if output.is_json() {
        return output.document(&document(&reference, &deletion, args.dry_run));
    }
    output.note(&if args.dry_run {
        format!("would delete {what}; nothing was deleted")
    } else {
        format!("deleted {what}")
    });
    Ok(())
}

fn sentence(reference: &Reference, deletion: &Deletion) -> String {
    match deletion {
        Deletion::Tag(tag) => format!("the tag `{tag}` of {}; the manifest stays", reference.name()),
        Deletion::Manifest(digest) => format!("the manifest {digest} of {} with all its tags", reference.name()),
    }
}

fn document(reference: &Reference, deletion: &Deletion, dry_run: bool) -> Value {
    let (tag, digest) = match deletion {
        Deletion::Tag(tag) => (Some(tag), None),
        Deletion::Manifest(digest) => (None, Some(digest)),
    };
    json!({ "reference": reference.to_string(), "tag": tag, "digest": digest, "deleted": !dry_run, "dry_run": dry_run })
}

/// Asks on a terminal; elsewhere only `--yes` deletes.
fn confirm(context: &Context<'_>, args: &DeleteArgs, what: &str) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let mut error = CliError::invalid(&format!("not deleted without being asked: {what}"));
        error.hints.push(
            "say `--yes` where there is no terminal to ask on, or `--dry-run` to see what it would do".to_owned(),
        );
        return Err(error);
    }
    context.reporter.finish();
    drop(write!(io::stderr().lock(), "delete {what}? [y/N] ").and_then(|()| io::stderr().flush()));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CliError::invalid("not deleted: the answer was no"))
}
