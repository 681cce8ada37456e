//! `greentic-dist pull REF…`: artifacts into the cache, their paths on stdout.

use serde_json::{Value, json};

use super::conclude;
use crate::dist::{DistClient, DistError, ResolvedArtifact};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{Output, echoed};

pub(crate) async fn run(client: &DistClient, output: &Output, references: &[String]) -> Result<(), CliError> {
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
