//! `greentic-dist resolve REF…`: the digest a reference stands for.

use serde_json::{Value, json};

use super::conclude;
use crate::dist::{ArtifactDescriptor, DistClient, DistError, ResolvePolicy};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{Output, echoed};

pub(crate) async fn run(client: &DistClient, output: &Output, references: &[String]) -> Result<(), CliError> {
    let mut documents: Vec<Value> = Vec::with_capacity(references.len());
    let mut failed: Vec<DistError> = Vec::new();
    for reference in references {
        match resolve(client, reference).await {
            Ok(descriptor) if output.is_json() => documents.push(json!({
                "reference": echoed(reference),
                "digest": descriptor.digest,
                "canonical_ref": descriptor.canonical_ref,
                "media_type": descriptor.media_type,
                "size_bytes": descriptor.size_bytes,
            })),
            Ok(descriptor) => output.line(&descriptor.digest),
            Err(error) => failed.push(error),
        }
    }
    conclude(output, references.len(), documents, &failed)
}

async fn resolve(client: &DistClient, reference: &str) -> Result<ArtifactDescriptor, DistError> {
    let source = client.parse_source(reference)?;
    client.resolve(source, ResolvePolicy).await
}
