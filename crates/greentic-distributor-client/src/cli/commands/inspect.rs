//! `greentic-dist inspect REF`: what is known about an artifact.

use std::path::Path;

use greentic_dist_types::SafeText;
use serde_json::json;

use super::Context;
use crate::dist::{ArtifactType, DistError, Inspected};
use crate::dist_cli::CliError;
use crate::dist_cli::output::{Output, echoed};
use crate::oci::{ArtifactDescription, ContentDescription, Place, SelectError};

/// Arguments of `greentic-dist inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A reference, a digest, or an OCI image layout (`oci-layout:DIR`, `oci-archive:FILE.tar`)
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Also print the media type of the chosen layer
    #[arg(long)]
    pub show_media_type: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &InspectArgs) -> Result<(), CliError> {
    let output = context.output;
    let text = args.reference.as_str();
    if is_layout(text) {
        return describe(context, text, &Place::parse(text)?).await;
    }
    let mut found = match context.client.look_at(text).await {
        Ok(Inspected::Artifact(found)) => found,
        // A good manifest of something that is no artifact of ours is described all the same.
        Ok(Inspected::Other(oci, _)) => return tell(context, text, text, &oci),
        // As is an index without a manifest for this client.
        Err(error) if is_about_platforms(&error) && Place::parse(text).is_ok() => {
            return describe(context, text, &Place::parse(text)?).await;
        }
        Err(error) => return Err(error.into()),
    };
    found.reference = echoed(&found.reference);
    if output.is_json() {
        return output.document(&*found);
    }
    output.line(&format!("reference: {}", SafeText::excerpt(&found.canonical_ref, 1_024)));
    output.line(&format!("digest: {}", found.digest));
    if let Some(endpoint) = &found.resolved_by {
        output.line(&format!("resolved by: {}", SafeText::excerpt(endpoint, 1_024)));
    }
    output.line(&format!("content digest: {}", found.content_digest));
    output.line(&format!("size: {} bytes", found.size_bytes));
    output.line(&format!("cached: {}", found.cached));
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
    if let Some(oci) = &found.oci {
        print(output, oci);
    }
    Ok(())
}

/// Whether a text names a layout: by its kind, or because it is a directory, which no artifact is.
fn is_layout(text: &str) -> bool {
    text.starts_with("oci-layout:")
        || text.starts_with("oci-archive:")
        || (text.starts_with(['.', '/']) && Path::new(text).is_dir())
}

/// Whether nothing could be chosen from an index.
fn is_about_platforms(error: &DistError) -> bool {
    let DistError::Network { source, .. } = error else { return false };
    std::error::Error::source(source).is_some_and(<dyn std::error::Error>::is::<SelectError>)
}

/// What is not in the cache, and does not go there.
async fn describe(context: &Context<'_>, text: &str, place: &Place) -> Result<(), CliError> {
    let oci = context.client.describe(place).await?;
    tell(context, text, &place.to_string(), &oci)
}

fn tell(context: &Context<'_>, text: &str, shown: &str, oci: &ArtifactDescription) -> Result<(), CliError> {
    let output = context.output;
    if output.is_json() {
        return output.document(&json!({ "reference": echoed(text), "digest": oci.digest, "oci": oci }));
    }
    output.line(&format!("reference: {}", SafeText::excerpt(shown, 1_024)));
    output.line(&format!("digest: {}", oci.digest));
    print(output, oci);
    Ok(())
}

fn print(output: &Output, oci: &ArtifactDescription) {
    let safe = |text: &str| SafeText::excerpt(text, 200);
    let content = |what: &str, content: &ContentDescription| {
        let kind = content.artifact_type.as_ref().map(|kind| format!(" {}", safe(kind))).unwrap_or_default();
        output.line(&format!(
            "{what}: {} {} {} bytes{kind}",
            content.digest,
            safe(&content.media_type),
            content.size_bytes
        ));
    };
    output.line(&format!("manifest: {} {} {} bytes", oci.digest, safe(&oci.media_type), oci.size_bytes));
    for entry in &oci.platforms {
        content(&format!("platform {}", safe(entry.platform.as_deref().unwrap_or("unknown"))), &entry.manifest);
    }
    if let Some(manifest) = oci.manifest_digest.as_ref().filter(|digest| **digest != oci.digest) {
        output.line(&format!("chosen manifest: {manifest}"));
    }
    for (what, said) in [("declared type", &oci.artifact_type), ("subject", &oci.subject)] {
        if let Some(said) = said {
            output.line(&format!("{what}: {}", safe(said)));
        }
    }
    if let Some(config) = &oci.config {
        content("config", config);
    }
    for layer in &oci.layers {
        content("layer", layer);
    }
    for (key, value) in &oci.annotations {
        output.line(&format!("annotation: {}={}", safe(key), SafeText::excerpt(value, 500)));
    }
    if let Some(told) = oci.rate_limit {
        let said = [
            (told.remaining, " left"),
            (told.limit, " allowed"),
            (told.window_seconds, " s window"),
            (told.reset_seconds, " s until new ones"),
        ];
        let said: Vec<String> =
            said.into_iter().filter_map(|(number, what)| Some(format!("{}{what}", number?))).collect();
        output.line(&format!("rate limit: {}", said.join(", ")));
    }
    match (&oci.referrers, &oci.referrers_unknown) {
        (Some(referrers), _) if referrers.is_empty() => output.line("referrers: none"),
        (Some(referrers), _) => referrers.iter().for_each(|referrer| content("referrer", referrer)),
        (None, why) => {
            output.line(&format!("referrers: unknown ({})", safe(why.as_deref().unwrap_or("not asked"))));
        }
    }
}
