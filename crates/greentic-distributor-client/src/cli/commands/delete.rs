//! `greentic-dist delete REF`: a tag, or when asked for it a manifest, is deleted.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use super::Context;
use crate::dist_cli::CliError;
use crate::oci::{Deletion, Place, PlaceKind};

/// Arguments of `greentic-dist delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// `host/name:tag` or `oci-layout:DIR:TAG`, or with `--manifest` also `host/name@sha256:…`
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
    let place = Place::parse(&args.reference)?;
    let deletion = context.client.deletion_at(&place, args.manifest).await.map_err(|error| {
        let mut error = CliError::from_dist(&error);
        if !args.manifest && place.digest().is_some() {
            error.hints.push("add `--manifest` when the manifest is meant".to_owned());
        }
        error
    })?;
    let what = sentence(&place, &deletion);
    let output = context.output;
    if !args.dry_run {
        confirm(context, args, &what)?;
        context.client.delete_at(&place, &deletion).await?;
    }
    if output.is_json() {
        return output.document(&document(&place, &deletion, args.dry_run));
    }
    output.note(&if args.dry_run {
        format!("would delete {what}; nothing was deleted")
    } else {
        format!("deleted {what}")
    });
    Ok(())
}

fn sentence(place: &Place, deletion: &Deletion) -> String {
    let whole = SafeText::excerpt(&place.whole(), 500);
    match (deletion, place.kind()) {
        (Deletion::Tag(tag), _) => format!("the tag `{tag}` of {whole}; the manifest stays"),
        (Deletion::Manifest(digest), PlaceKind::Registry(_)) => {
            format!("the manifest {digest} of {whole} with all its tags")
        }
        (Deletion::Manifest(digest), _) => {
            format!("the manifest {digest} from the index of {whole} with all its tags; its content stays")
        }
    }
}

fn document(place: &Place, deletion: &Deletion, dry_run: bool) -> Value {
    let (tag, digest) = match deletion {
        Deletion::Tag(tag) => (Some(tag), None),
        Deletion::Manifest(digest) => (None, Some(digest)),
    };
    let reference = match place.kind() {
        PlaceKind::Registry(reference) => reference.to_string(),
        _ => place.to_string(),
    };
    json!({ "reference": reference, "tag": tag, "digest": digest, "deleted": !dry_run, "dry_run": dry_run })
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
