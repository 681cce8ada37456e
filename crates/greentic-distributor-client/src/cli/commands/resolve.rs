//! `greentic-dist resolve REF…`: the digest a reference stands for.

use serde_json::{Value, json};

use super::{Context, conclude};
use crate::dist::{ArtifactDescriptor, DistClient, DistError, ResolvePolicy};
use crate::dist_cli::CliError;
use crate::dist_cli::output::echoed;

/// Arguments of `greentic-dist resolve`.
#[derive(Debug, clap::Args)]
pub struct ResolveArgs {
    /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
    #[arg(required = true, value_name = "REF")]
    pub references: Vec<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &ResolveArgs) -> Result<(), CliError> {
    let (output, references) = (context.output, &args.references);
    let mut documents: Vec<Value> = Vec::with_capacity(references.len());
    let mut failed: Vec<DistError> = Vec::new();
    for reference in references {
        match resolve(&context.client, reference).await {
            Ok(descriptor) if output.is_json() => documents.push(json!({
                "reference": echoed(reference),
                "digest": descriptor.digest,
                "canonical_ref": descriptor.canonical_ref,
                "media_type": descriptor.media_type,
                "size_bytes": descriptor.size_bytes,
                "resolved_by": context.client.resolved_by(&descriptor),
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
