//! `greentic-dist resolve REF…`: the digest a reference stands for.

use serde_json::{Value, json};

use crate::dist::{DistClient, ResolvePolicy};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{Output, echoed};

pub(crate) async fn run(client: &DistClient, output: &Output, references: &[String]) -> Result<(), CliError> {
    let mut documents: Vec<Value> = Vec::with_capacity(references.len());
    for reference in references {
        let source = client.parse_source(reference)?;
        let descriptor = client.resolve(source, ResolvePolicy).await?;
        if output.is_json() {
            documents.push(json!({
                "reference": echoed(reference),
                "digest": descriptor.digest,
                "canonical_ref": descriptor.canonical_ref,
                "media_type": descriptor.media_type,
                "size_bytes": descriptor.size_bytes,
            }));
        } else {
            output.line(&descriptor.digest);
        }
    }
    match documents.as_slice() {
        [] => Ok(()),
        [one] => output.document(one),
        many => output.document(&many),
    }
}
