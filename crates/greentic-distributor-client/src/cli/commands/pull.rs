//! `greentic-dist pull REF…` and `pull --lock FILE`: artifacts into the cache, their paths on stdout.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use super::lock::DEFAULT_LOCK;
use super::{Context, conclude, conclude_list};
use crate::dist::{DistError, LockMode, LockPullItem, ResolvedArtifact};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{echoed, error_value};
use crate::dist_cli::quantity::parse_splay;

/// Arguments of `greentic-dist pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
    #[arg(value_name = "REF", conflicts_with_all = ["lock", "locked"])]
    pub references: Vec<String>,
    /// Pull the entries of this lock file
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Refuse a lock file that is out of date (exit code 9) [default lock file: `pack.lock.json`]
    #[arg(long)]
    pub locked: bool,
    /// Wait a random time below this before the first request, like 30s or 5m, at most 1h; not when everything is in the cache [default: do not wait]
    #[arg(long, value_name = "TIME", value_parser = parse_splay)]
    pub splay: Option<Duration>,
}

pub(crate) async fn run(context: &Context<'_>, args: &PullArgs) -> Result<(), CliError> {
    let locked = args.locked || crate::env::switch(crate::env::LOCKED);
    match (&args.lock, args.locked) {
        (Some(lock), _) => pull_lock(context, lock, locked).await,
        (None, true) => pull_lock(context, Path::new(DEFAULT_LOCK), true).await,
        (None, false) if args.references.is_empty() => {
            let mut usage = CliError::invalid("nothing to pull: give a reference, or a lock file with `--lock FILE`");
            usage.hints.push("`greentic-dist pull --help` says more".to_owned());
            Err(usage)
        }
        (None, false) => pull(context, &args.references).await,
    }
}

async fn pull(context: &Context<'_>, references: &[String]) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let results = match references {
        [reference] => vec![client.resolve_ref(reference).await],
        many => client.pull_all(many).await,
    };
    let mut documents: Vec<Value> = Vec::with_capacity(references.len());
    let mut failed: Vec<DistError> = Vec::new();
    for (reference, result) in references.iter().zip(results) {
        match result {
            Ok(artifact) if output.is_json() => documents.push(describe(reference, &artifact)),
            Ok(artifact) => output.line(&artifact.local_path.display().to_string()),
            Err(error) => failed.push(error),
        }
    }
    conclude(output, references.len(), documents, &failed)
}

/// One line or object for each entry, in file order. What succeeded is told also when something failed.
async fn pull_lock(context: &Context<'_>, lock: &Path, locked: bool) -> Result<(), CliError> {
    let (client, output) = (&context.client, context.output);
    let mode = if locked { LockMode::Locked } else { LockMode::Pinned };
    let pulled = client.pull_lock_items(lock, mode).await?;
    let mut documents: Vec<Value> = Vec::with_capacity(pulled.items.len());
    let mut failed: Vec<(Arc<DistError>, String)> = Vec::new();
    for item in &pulled.items {
        match &item.result {
            Ok(artifact) => {
                if !output.is_json() {
                    output.line(&format!("{} {}", artifact.digest, artifact.local_path.display()));
                }
            }
            Err(error) => failed.push((Arc::clone(error), place(item, &pulled.path))),
        }
        documents.push(describe_item(item));
    }
    conclude_list(output, documents, &failed)
}

/// `entry 3 (hello) of pack.lock.json`.
fn place(item: &LockPullItem, lock: &Path) -> String {
    let name = item.entry.name.as_ref().map(|name| format!(" ({})", SafeText::excerpt(name, 64))).unwrap_or_default();
    format!("entry {}{name} of {}", item.index, lock.display())
}

fn describe_item(item: &LockPullItem) -> Value {
    let reference = item.entry.subject();
    let mut document = match &item.result {
        Ok(artifact) => describe(&reference, artifact),
        Err(error) => json!({
            "reference": echoed(&reference),
            "digest": item.entry.digest,
            "error": error_value(&CliError::from_dist(error)),
        }),
    };
    if let Some(object) = document.as_object_mut() {
        object.insert("index".to_owned(), item.index.into());
        object.insert("name".to_owned(), item.entry.name.clone().into());
    }
    document
}

fn describe(reference: &str, artifact: &ResolvedArtifact) -> Value {
    json!({
        "reference": echoed(reference),
        "digest": artifact.digest,
        "content_digest": artifact.content_digest(),
        "cache_path": artifact.cache_path,
        "fetched": artifact.fetched,
        "size_bytes": artifact.content_length,
        "media_type": artifact.content_type,
        "resolved_by": artifact.resolved_by(),
        "served_by": artifact.served_by(),
    })
}
