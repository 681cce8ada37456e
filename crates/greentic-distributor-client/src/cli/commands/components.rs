//! `greentic-dist components fetch|ls MANIFEST.json`: the components that a pack names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use super::Context;
use crate::dist::chain;
use crate::dist_cli::output::{echoed, error_value};
use crate::dist_cli::quantity::parse_splay;
use crate::dist_cli::{CliError, policy};
use crate::oci_components::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, DefaultRegistryClient, OciComponentError,
    OciComponentResolver, ResolvedComponent, ResolvedComponentDescriptor,
};

/// Largest pack manifest that is read, in bytes; one more than the library takes, so that it says so.
const MANIFEST_BYTES: u64 = (4 << 20) + 1;

/// Commands on the components of a pack.
#[derive(Debug, clap::Subcommand)]
pub enum ComponentsCommand {
    /// Bring the components into the cache and print their digests and paths, in the order of the manifest
    Fetch(ComponentsArgs),
    /// Print what the references mean: digests, sizes and media types; brings nothing
    Ls(ComponentsArgs),
}

/// Arguments of `greentic-dist components fetch` and `ls`.
#[derive(Debug, clap::Args)]
pub struct ComponentsArgs {
    /// JSON file with the manifest of the pack; its extension `greentic.components` names the components
    #[arg(value_name = "MANIFEST.json")]
    pub manifest: PathBuf,
    /// Take tags for what they mean now
    #[arg(long)]
    pub allow_tags: bool,
    /// Wait a random time below this before the first request, like 30s or 5m, at most 1h; not when everything is in the cache [default: do not wait]
    #[arg(long, value_name = "TIME", value_parser = parse_splay)]
    pub splay: Option<Duration>,
}

pub(crate) async fn run(context: &Context<'_>, command: &ComponentsCommand) -> Result<(), CliError> {
    let (ComponentsCommand::Fetch(args) | ComponentsCommand::Ls(args)) = command;
    let Some(extension) = read(&args.manifest)? else {
        let name = SafeText::new(&args.manifest.display().to_string()).to_string();
        context.output.note(&format!("`{name}` has no extension `greentic.components`: the pack needs no components"));
        return if context.output.is_json() { context.output.document(&Vec::<Value>::new()) } else { Ok(()) };
    };
    let options = context.client.options();
    let resolver = OciComponentResolver::with_client(
        DefaultRegistryClient::like(&context.client),
        ComponentResolveOptions {
            allow_tags: args.allow_tags,
            offline: options.offline,
            cache_dir: options.cache_dir.clone(),
            ..ComponentResolveOptions::default()
        },
    );
    match command {
        ComponentsCommand::Fetch(_) => {
            // Who says fetch asks for all of them.
            let extension = ComponentsExtension { mode: ComponentsMode::Eager, ..extension };
            let results = resolver.resolve_each(&extension).await;
            print(context, &extension.refs, results, component_line, describe_component)
        }
        ComponentsCommand::Ls(_) => {
            let results = resolver.describe_each(&extension).await;
            print(context, &extension.refs, results, descriptor_line, describe_descriptor)
        }
    }
}

fn read(path: &Path) -> Result<Option<ComponentsExtension>, CliError> {
    let bytes = policy::read(path, MANIFEST_BYTES)?;
    ComponentsExtension::from_pack_manifest(&bytes).map_err(|error| {
        let name = SafeText::new(&path.display().to_string()).to_string();
        CliError::invalid(&format!("pack manifest `{name}`: {}", SafeText::new(&chain(&error))))
    })
}

fn component_line(component: &ResolvedComponent) -> String {
    format!("{} {}", component.resolved_digest, component.path.display())
}

fn describe_component(component: &ResolvedComponent) -> Value {
    let size_bytes = std::fs::metadata(&component.path).map(|meta| meta.len()).ok();
    json!({
        "reference": echoed(&component.original_reference),
        "digest": component.resolved_digest,
        "manifest_digest": component.manifest_digest,
        "media_type": component.media_type,
        "size_bytes": size_bytes,
        "cache_path": component.path,
        "fetched": component.fetched_from_network,
    })
}

fn descriptor_line(descriptor: &ResolvedComponentDescriptor) -> String {
    let media_type = SafeText::excerpt(&descriptor.media_type, 100);
    format!("{} {} {media_type}", descriptor.resolved_digest, descriptor.size_bytes)
}

fn describe_descriptor(descriptor: &ResolvedComponentDescriptor) -> Value {
    json!({
        "reference": echoed(&descriptor.original_reference),
        "digest": descriptor.resolved_digest,
        "manifest_digest": descriptor.manifest_digest,
        "media_type": descriptor.media_type,
        "size_bytes": descriptor.size_bytes,
        "fetched": descriptor.fetched_from_network,
    })
}

/// How bad an exit code is, 0 being worst. What passes by itself hides nothing that does not: who tries again on 7 would never end.
fn severity(code: i32) -> usize {
    const WORST_FIRST: [i32; 7] = [8, 6, 5, 3, 2, 10, 4];
    WORST_FIRST.iter().position(|known| *known == code).unwrap_or(WORST_FIRST.len())
}

/// One line or object for each reference, in order. What succeeded is told also when something failed, every failure is told,
/// and the worst decides the exit code.
fn print<T>(
    context: &Context<'_>,
    refs: &[String],
    results: Vec<Result<T, OciComponentError>>,
    line: impl Fn(&T) -> String,
    describe: impl Fn(&T) -> Value,
) -> Result<(), CliError> {
    let output = context.output;
    let mut documents = Vec::with_capacity(results.len());
    let mut failed: Vec<CliError> = Vec::new();
    for (reference, result) in refs.iter().zip(results) {
        match result {
            Ok(found) => {
                if !output.is_json() {
                    output.line(&line(&found));
                }
                documents.push(describe(&found));
            }
            Err(error) => {
                let failure = CliError::from_component(&error);
                documents.push(json!({ "reference": echoed(reference), "error": error_value(&failure) }));
                failed.push(failure);
            }
        }
    }
    let failures = failed.len();
    let worst = failed.iter().enumerate().min_by_key(|(at, error)| (severity(error.code), *at));
    let Some(worst) = worst.map(|(at, _)| at) else {
        return if output.is_json() { output.document(&documents) } else { Ok(()) };
    };
    let mut summary = failed.remove(worst);
    for error in &failed {
        output.explain(error);
    }
    output.note(&format!("{} of {} components are fine", documents.len() - failures, documents.len()));
    summary.partial = Some(Value::Array(documents));
    Err(summary)
}
