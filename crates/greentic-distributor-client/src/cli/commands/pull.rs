//! `greentic-dist pull REF…`: artifacts into the cache, their paths on stdout.

use serde_json::{Value, json};

use crate::dist::{DistClient, DistError, ResolvedArtifact};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{Output, echoed};

pub(crate) async fn run(client: &DistClient, output: &Output, references: &[String]) -> Result<(), CliError> {
    if let [reference] = references {
        let artifact = client.resolve_ref(reference).await?;
        if output.is_json() {
            return output.document(&describe(reference, &artifact));
        }
        output.line(&artifact.local_path.display().to_string());
        return Ok(());
    }
    let results = client.pull_all(references).await;
    let mut documents: Vec<Value> = Vec::with_capacity(references.len());
    let mut failed: Vec<(&String, DistError)> = Vec::new();
    for (reference, result) in references.iter().zip(results) {
        match result {
            Ok(artifact) if output.is_json() => documents.push(describe(reference, &artifact)),
            Ok(artifact) => output.line(&artifact.local_path.display().to_string()),
            Err(error) => failed.push((reference, error)),
        }
    }
    // The worst failure decides the exit code; every one is told.
    let Some(worst) = failed.iter().map(|(_, error)| error).max_by_key(|error| error.exit_code()) else {
        return if output.is_json() { output.document(&documents) } else { Ok(()) };
    };
    let mut summary = CliError::from_dist(worst);
    for (_, error) in failed.iter().filter(|(_, error)| !std::ptr::eq(error, worst)) {
        output.explain(&CliError::from_dist(error));
    }
    summary.hints.push(format!("{} of {} references were pulled", references.len() - failed.len(), references.len()));
    summary.partial = Some(Value::Array(documents));
    Err(summary)
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
