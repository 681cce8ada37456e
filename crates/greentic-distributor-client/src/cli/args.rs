//! What the command line accepts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::commands::AuthCommand;
use super::commands::{
    BundleCommand, CacheCommand, CatalogArgs, ComponentsCommand, CopyArgs, DeleteArgs, DemoArgs, DistributorCommand,
    InspectArgs, LockArgs, PackArgs, PackCommand, PullArgs, PushArgs, ResolveArgs, RetentionCommand, ServeArgs,
    StoreCommand, TagArgs, TagsArgs, VerifyArgs,
};
use super::quantity::{parse_age, parse_bytes};
use crate::dist::Limit;

/// Fetch, verify and keep Wasm components from OCI registries, HTTPS and disk.
#[derive(Debug, Parser)]
#[command(
    name = "greentic-dist",
    bin_name = "greentic-dist",
    version,
    propagate_version = false,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 ok, 2 invalid input, 3 not found, 4 offline, 5 auth, 6 policy, 7 temporary, 8 wrong bytes, 9 lock out of date, 10 other."
)]
pub struct Cli {
    /// Cache directory [default: `GREENTIC_CACHE_DIR`, of packs `GREENTIC_PACK_CACHE_DIR`, else below ~/.cache]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Host configurations, mirrors included, as in containerd's certs.d [default: `GREENTIC_DIST_HOSTS_DIR`, else none]
    #[arg(long, global = true, value_name = "DIR")]
    pub hosts_dir: Option<PathBuf>,
    /// Take logins for registries from this file (Docker's `config.json`, or an `auth.json`) and from nowhere else
    #[arg(long, global = true, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// registries.conf of the containers tools, or `system` for the standard places [default: `GREENTIC_DIST_REGISTRIES_CONF`, else `CONTAINERS_REGISTRIES_CONF`, else none]
    #[arg(long, global = true, value_name = "FILE")]
    pub registries_conf: Option<PathBuf>,
    /// Ask a registry itself what its tags name, and no mirror
    #[arg(long, global = true)]
    pub origin_tags: bool,
    /// Open no socket: answer from the cache or fail with exit code 4
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print one JSON document, on success and on failure
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Send the login for a registry also to the token server on another host; may be repeated
    #[arg(long, global = true, value_name = "REGISTRY=HOST", value_parser = trusted_realm)]
    pub trust_realm: Vec<(String, String)>,
    /// Send the login for a registry that speaks plain HTTP in clear text, with a warning; may be repeated
    #[arg(long, global = true, value_name = "REGISTRY", value_parser = registry)]
    pub allow_http_login: Vec<String>,
    /// Let a registry over HTTPS name a token server over plain HTTP, which gets its login; may be repeated
    #[arg(long, global = true, value_name = "REGISTRY", value_parser = registry)]
    pub allow_http_realm: Vec<String>,
    /// Let public registries redirect into private networks
    #[arg(long, global = true)]
    pub allow_private_targets: bool,
    /// Give up what is not done over the network after so long, like 90s, 10m or 2h [default: no limit while something moves]
    #[arg(long, global = true, value_name = "TIME", value_parser = deadline)]
    pub deadline: Option<Duration>,
    /// Another limit on what servers may send, e.g. `manifest-bytes=16MiB`; may be repeated
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = limit)]
    pub set_limit: Vec<(Limit, u64)>,
    /// What to do
    #[command(subcommand)]
    pub command: Commands,
}

/// The commands. Each one's arguments stand in its own file below `commands/`.
#[derive(Debug, Subcommand)]
pub enum Commands {
    /// Print the digest a reference stands for
    Resolve(ResolveArgs),
    /// Bring artifacts into the cache and print their paths
    Pull(PullArgs),
    /// Bring a pack into the cache of packs and print its path
    Pack(PackArgs),
    /// Bring the components that a pack names
    #[command(subcommand)]
    Components(ComponentsCommand),
    /// Write down what references mean now, and check it later
    Lock(LockArgs),
    /// Show what is known about an artifact
    Inspect(InspectArgs),
    /// Hold an artifact against a policy, every byte hashed
    Verify(VerifyArgs),
    /// Stage, warm and roll back artifacts that somebody relies on
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Push a file as an artifact to a registry, or write it into an OCI image layout
    Push(PushArgs),
    /// Copy an artifact between registries, directories and archives
    Copy(CopyArgs),
    /// List the tags of a repository, or of an OCI image layout
    Tags(TagsArgs),
    /// List the repositories of a registry; find, show and update the provider catalog of a bundle
    Catalog(CatalogArgs),
    /// Give a manifest of a registry, or of a layout, more tags
    Tag(TagArgs),
    /// Delete a tag of a registry or a layout, or a manifest
    Delete(DeleteArgs),
    /// Look at and tidy the cache
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Keep the cache in bounds
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Save and forget logins, and tell which one would be used
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Fetch files of a store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Serve a directory of packs and components, as a registry and as a distributor
    Serve(ServeArgs),
    /// Ask a distributor over HTTP
    #[command(subcommand)]
    Distributor(DistributorCommand),
    /// Show the whole flow against a registry inside this process
    Demo(DemoArgs),
}

impl Commands {
    /// Within which time the first request is made.
    pub(super) fn splay(&self) -> Duration {
        let splay = match self {
            Self::Pull(args) => args.splay,
            Self::Pack(PackArgs { command, fetch }) => {
                let named = command.as_ref().map(|PackCommand::Fetch(args)| args).or(fetch.as_ref());
                named.and_then(|args| args.splay)
            }
            Self::Components(ComponentsCommand::Fetch(args) | ComponentsCommand::Ls(args)) => args.splay,
            Self::Bundle(BundleCommand::Stage(args)) => args.splay,
            _ => None,
        };
        splay.unwrap_or_default()
    }
}

/// `REGISTRY=HOST`, each `host` or `host:port`.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

fn registry(text: &str) -> Result<String, &'static str> {
    if is_host(text) { Ok(text.to_owned()) } else { Err("write a registry as `host` or `host:port`") }
}

fn trusted_realm(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((registry, host)) if is_host(registry) && is_host(host) => Ok((registry.to_owned(), host.to_owned())),
        _ => Err("write REGISTRY=HOST, each as `host` or `host:port`"),
    }
}

fn limit(text: &str) -> Result<(Limit, u64), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let limit: Limit = name.parse().map_err(|_unknown| {
        let names: Vec<&str> = Limit::ALL.into_iter().map(Limit::name).collect();
        format!("the limits are {}", names.join(", "))
    })?;
    let value = parse_bytes(value)?;
    if value > limit.most() {
        return Err(format!("`{limit}` is at most {}", limit.most()));
    }
    Ok((limit, value))
}

fn deadline(text: &str) -> Result<Duration, String> {
    match parse_age(text) {
        Ok(time) if time > Duration::ZERO => Ok(time),
        _ => Err("expected a time like 90s, 10m or 2h".to_owned()),
    }
}
