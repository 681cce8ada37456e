//! `greentic-dist inspect REF`: what is known about an artifact.

use greentic_dist_types::SafeText;

use super::Context;
use crate::dist::ArtifactType;
use crate::dist_cli::CliError;
use crate::dist_cli::output::echoed;

/// Arguments of `greentic-dist inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A reference or a digest
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Also print the media type of the chosen layer
    #[arg(long)]
    pub show_media_type: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &InspectArgs) -> Result<(), CliError> {
    let output = context.output;
    let mut found = context.client.inspect(&args.reference).await?;
    found.reference = echoed(&found.reference);
    if output.is_json() {
        return output.document(&found);
    }
    output.line(&format!("reference: {}", SafeText::excerpt(&found.canonical_ref, 1_024)));
    output.line(&format!("digest: {}", found.digest));
    output.line(&format!("content digest: {}", found.content_digest));
    output.line(&format!("size: {} bytes", found.size_bytes));
    output.line(&format!("cache dir: {}", found.cache_dir.display()));
    output.line(&format!("artifact type: {:?}", found.artifact_type));
    if found.artifact_type == ArtifactType::Component {
        output.line(&format!("component.wasm: {}", found.artifact_path.is_file()));
        output.line(&format!("component.manifest.json: {}", found.component_manifest_path.is_some()));
    } else {
        output.line(&format!("artifact path: {}", found.artifact_path.display()));
        output.line(&format!("artifact exists: {}", found.artifact_path.is_file()));
    }
    if args.show_media_type {
        output.line(&format!("selected media type: {}", SafeText::new(&found.media_type)));
    }
    Ok(())
}
