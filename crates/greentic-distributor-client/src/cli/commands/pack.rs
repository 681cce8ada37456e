//! `greentic-dist pack REF`: a pack into its cache, and into a file where one is named.

use std::path::PathBuf;
use std::time::Duration;

use greentic_dist_types::redact_reference;
use serde_json::json;

use super::{Context, output_file, replace_hint};
use crate::dist_cli::CliError;
use crate::dist_cli::output::echoed;
use crate::dist_cli::quantity::parse_splay;
use crate::oci_packs::{OciPackFetcher, PackFetchOptions, RegistryClient};

/// Arguments of `greentic-dist pack`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct PackArgs {
    /// What to do; fetching is what a reference alone means.
    #[command(subcommand)]
    pub command: Option<PackCommand>,
    /// What to fetch.
    #[command(flatten)]
    pub fetch: Option<PackFetchArgs>,
}

/// Commands on packs.
#[derive(Debug, clap::Subcommand)]
pub enum PackCommand {
    /// Bring a pack into the cache of packs and print its path, as `pack REF` does
    Fetch(PackFetchArgs),
}

/// Arguments of `greentic-dist pack fetch`.
#[derive(Debug, clap::Args)]
pub struct PackFetchArgs {
    /// `host/name@sha256:…`, or with `--allow-tags` `host/name:tag`; `oci://` may stand in front
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Take a tag for what it means now
    #[arg(long)]
    pub allow_tags: bool,
    /// Also write the pack to this file
    #[arg(short, long, value_name = "FILE", value_parser = output_file())]
    pub output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Wait a random time below this before the first request, like 30s or 5m, at most 1h; not when everything is in the cache [default: do not wait]
    #[arg(long, value_name = "TIME", value_parser = parse_splay)]
    pub splay: Option<Duration>,
}

pub(crate) async fn run<C: RegistryClient>(context: &Context<'_>, args: PackArgs, client: C) -> Result<(), CliError> {
    let named = args.command.map(|PackCommand::Fetch(args)| args).or(args.fetch);
    let args = named.ok_or_else(|| CliError::invalid("nothing to fetch: give a reference"))?;
    let defaults = PackFetchOptions::default();
    let options = PackFetchOptions {
        allow_tags: args.allow_tags,
        offline: context.client.options().offline,
        cache_dir: context.cache_dir.clone().unwrap_or(defaults.cache_dir),
        ..PackFetchOptions::default()
    };
    // Of the scheme of a URL, case does not count.
    let reference = match args.reference.split_once("://") {
        Some((scheme, name)) if scheme.eq_ignore_ascii_case("oci") => name,
        _ => &args.reference,
    };
    let fetcher = OciPackFetcher::with_client(client, options);
    let pack = match &args.output {
        Some(target) => fetcher.fetch_pack_to_file(reference, target, args.force).await,
        None => fetcher.fetch_pack_to_cache(reference).await,
    };
    let pack = pack.map_err(|error| {
        let mut failure = CliError::from_pack(&error);
        failure.reference = Some(redact_reference(&args.reference));
        if let Some(target) = args.output.as_deref().filter(|_| !args.force) {
            failure.hints.extend(replace_hint(error.kind(), target));
        }
        failure
    })?;
    if context.output.is_json() {
        let size_bytes = std::fs::metadata(&pack.path).map(|meta| meta.len()).ok();
        return context.output.document(&json!({
            "reference": echoed(&args.reference),
            "digest": pack.resolved_digest,
            "manifest_digest": pack.manifest_digest,
            "media_type": pack.media_type,
            "size_bytes": size_bytes,
            "cache_path": pack.path,
            "fetched": pack.fetched_from_network,
            "output_path": args.output,
        }));
    }
    context.output.line(&args.output.unwrap_or(pack.path).display().to_string());
    Ok(())
}
