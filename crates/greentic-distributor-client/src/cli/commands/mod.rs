//! One verb, one file: its arguments, what it does, what it prints.

mod auth;
mod bundle;
mod cache;
mod catalog;
mod components;
mod copy;
mod delete;
mod demo;
mod distributor;
mod inspect;
mod lock;
mod pack;
mod pull;
mod push;
mod resolve;
mod retention;
mod serve;
mod store;
mod tag;
mod tags;
mod verify;

pub use auth::{AuthCommand, AuthLoginArgs, AuthLogoutArgs, AuthStatusArgs, AuthSubject};
pub use bundle::{AccessModeArg, BundleCommand, RollbackArgs, StageArgs, StateArg, StateArgs, WarmArgs};
pub use cache::{CacheCommand, CacheGcArgs, CacheRmArgs, CacheStatArgs, CacheVerifyArgs};
pub use catalog::{CatalogArgs, CatalogCommand, CatalogLookArgs, CatalogPlaceArgs};
pub use components::{ComponentsArgs, ComponentsCommand};
pub use copy::CopyArgs;
pub use delete::DeleteArgs;
pub use demo::DemoArgs;
pub use distributor::{DistributorArgs, DistributorCommand};
pub use inspect::InspectArgs;
pub use lock::{LockAddArgs, LockArgs, LockCommand};
pub use pack::{PackArgs, PackCommand, PackFetchArgs};
pub use pull::PullArgs;
pub use push::{PushArgs, PushType};
pub use resolve::ResolveArgs;
pub use retention::{RetentionApplyArgs, RetentionArgs, RetentionCommand, RetentionEnvironmentArg};
pub use serve::{LayoutArg, ServeArgs};
pub use store::{StoreCommand, StoreDownloadArgs};
pub use tag::TagArgs;
pub use tags::{ListArgs, TagsArgs};
pub use verify::VerifyArgs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PathBufValueParser, TypedValueParser};
use serde_json::Value;

use super::output::Output;
use super::reporter::TerminalReporter;
use super::{CliError, Commands};
use crate::dist::{DistClient, DistError, DistErrorKind};
use crate::oci_packs::{DefaultRegistryClient, RegistryClient};

/// What every command works with.
pub(super) struct Context<'a> {
    /// The client with the options of the command line.
    pub(super) client: DistClient,
    /// `--cache-dir`, where it was given.
    pub(super) cache_dir: Option<PathBuf>,
    /// `--authfile`, where it was given.
    pub(super) authfile: Option<PathBuf>,
    /// The two streams of the process.
    pub(super) output: &'a Output,
    /// Shows progress on a terminal; a command that prompts or draws itself finishes it first.
    pub(super) reporter: Arc<TerminalReporter>,
}

/// Runs the command.
pub(super) async fn run(context: &Context<'_>, command: Commands) -> Result<(), CliError> {
    match command {
        Commands::Resolve(args) => resolve::run(context, &args).await,
        Commands::Pull(args) => pull::run(context, &args).await,
        Commands::Pack(args) => pack::run(context, args, DefaultRegistryClient::like(&context.client)).await,
        Commands::Components(command) => components::run(context, &command).await,
        Commands::Lock(args) => lock::run(context, &args).await,
        Commands::Inspect(args) => inspect::run(context, &args).await,
        Commands::Verify(args) => verify::run(context, &args).await,
        Commands::Bundle(command) => bundle::run(context, &command).await,
        Commands::Push(args) => push::run(context, &args).await,
        Commands::Copy(args) => copy::run(context, &args).await,
        Commands::Tags(args) => tags::run(context, &args).await,
        Commands::Catalog(args) => catalog::run(context, &args).await,
        Commands::Tag(args) => tag::run(context, &args).await,
        Commands::Delete(args) => delete::run(context, &args).await,
        Commands::Cache(command) => cache::run(context, &command),
        Commands::Retention(command) => retention::run(context, &command),
        Commands::Auth(command) => auth::run(context, command).await,
        Commands::Store(command) => store::run(context, command).await,
        Commands::Serve(args) => serve::run(context, args).await,
        Commands::Distributor(command) => distributor::run(context, command).await,
        Commands::Demo(args) => demo::run(context, args).await,
    }
}

/// Runs the command, with `client` to ask registries for packs.
pub(super) async fn run_with_packs<C: RegistryClient>(
    context: &Context<'_>,
    command: Commands,
    client: C,
) -> Result<(), CliError> {
    match command {
        Commands::Pack(args) => pack::run(context, args, client).await,
        other => run(context, other).await,
    }
}

/// Reads the name of a file to write. Results are text on stdout, so that `-` is refused, before a file is called so.
fn output_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some("-") => Err("the bytes are not written to stdout: name a file (`./-` for one of that name)"),
        _ => Ok(path),
    })
}

/// What to do where a file is in the way of one that was not to replace any.
fn replace_hint(kind: DistErrorKind, target: &Path) -> Option<String> {
    let is_in_the_way =
        kind == DistErrorKind::InvalidInput && target.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    is_in_the_way.then(|| "give --force to replace the file".to_owned())
}

/// Ends a command over several references: every failure is told, the worst decides the exit code, and what succeeded is
/// kept beside it.
fn conclude(output: &Output, asked: usize, mut documents: Vec<Value>, failed: &[DistError]) -> Result<(), CliError> {
    let Some(worst) = failed.iter().max_by_key(|error| error.exit_code()) else {
        return match (output.is_json(), asked) {
            (false, _) => Ok(()),
            (true, 1) => output.document(&documents.pop()),
            (true, _) => output.document(&documents),
        };
    };
    let mut summary = CliError::from_dist(worst);
    if asked > 1 {
        for error in failed.iter().filter(|error| !std::ptr::eq(*error, worst)) {
            output.explain(&CliError::from_dist(error));
        }
        summary.hints.push(format!("{} of {asked} references succeeded", asked - failed.len()));
        summary.partial = Some(Value::Array(documents));
    }
    Err(summary)
}

/// Ends a command over a list that is a list also with one item: failures with the places they are about, and the outcomes of
/// all items beside them.
fn conclude_list(output: &Output, documents: Vec<Value>, failed: &[(Arc<DistError>, String)]) -> Result<(), CliError> {
    let Some((worst, place)) = failed.iter().max_by_key(|(error, _)| error.exit_code()) else {
        return if output.is_json() { output.document(&documents) } else { Ok(()) };
    };
    let told = |error: &DistError, place: &str| {
        let mut told = CliError::from_dist(error);
        if !place.is_empty() {
            told.message = format!("{place}: {}", told.message);
        }
        told
    };
    for (error, place) in failed.iter().filter(|(error, _)| !Arc::ptr_eq(error, worst)) {
        output.explain(&told(error, place));
    }
    let mut summary = told(worst, place);
    summary.hints.push(format!("{} of {} entries are fine", documents.len() - failed.len(), documents.len()));
    summary.partial = Some(Value::Array(documents));
    Err(summary)
}
