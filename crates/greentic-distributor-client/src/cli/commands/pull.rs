//! `greentic-dist pull REF…`: artifacts into the cache, their paths on stdout.

use serde_json::{Value, json};

use super::{Context, conclude};
use crate::dist::{DistError, ResolvedArtifact};
use crate::dist_cli::CliError;
use crate::dist_cli::output::echoed;

/// Arguments of `greentic-dist pull`.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &PullArgs) -> Result<(), CliError> {
    let (client, output, references) = (&context.client, context.output, &args.references);
    let results = match references.as_slice() {
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

fn describe(reference: &str, artifact: &ResolvedArtifact) -> Value {
    json!({
        "reference": echoed(reference),
        "digest": artifact.digest,
        "content_digest": artifact.content_digest(),
        "cache_path": artifact.cache_path,
        "fetched": artifact.fetched,
        "size_bytes": artifact.content_length,
        "media_type": artifact.content_type,
    })
}
