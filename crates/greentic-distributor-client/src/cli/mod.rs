//! The command line: `greentic-dist`.
//!
//! Results go to stdout, everything else to stderr. The exit code is the kind of the error, see
//! [`DistErrorKind`](crate::dist::DistErrorKind).

mod args;
mod commands;
mod exit;
mod output;
mod policy;
mod prompt;
mod quantity;
mod reporter;
#[cfg(unix)]
mod signals;

#[cfg(unix)]
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use clap::error::ContextValue;
use greentic_dist_net::one_operation;
use greentic_dist_types::redact_url;

pub use args::{Cli, Commands};
pub use commands::{
    AccessModeArg, BundleCommand, CacheCommand, CacheGcArgs, CacheRmArgs, CacheStatArgs, CacheVerifyArgs, CatalogArgs,
    ComponentsArgs, ComponentsCommand, CopyArgs, DeleteArgs, DemoArgs, DistributorArgs, DistributorCommand,
    InspectArgs, LayoutArg, ListArgs, LockAddArgs, LockArgs, LockCommand, PackArgs, PackCommand, PackFetchArgs,
    PullArgs, PushArgs, PushType, ResolveArgs, RetentionApplyArgs, RetentionArgs, RetentionCommand,
    RetentionEnvironmentArg, RollbackArgs, ServeArgs, StageArgs, StateArg, StateArgs, StoreCommand, StoreDownloadArgs,
    TagArgs, TagsArgs, VerifyArgs, WarmArgs,
};
pub use commands::{AuthCommand, AuthLoginArgs, AuthLogoutArgs, AuthStatusArgs, AuthSubject};
pub use commands::{CatalogCommand, CatalogLookArgs, CatalogPlaceArgs};
pub use exit::CliError;
pub use policy::{EnvironmentArg, PolicyArgs};

use crate::credentials::DockerConfig;
use crate::dist::{DistClient, DistOptions, Limits, RegistriesConf, TargetPolicy};
use crate::oci_packs::{OciPackFetcher, PackFetchOptions, RegistryClient, ResolvedPack};
use commands::Context;
use output::Output;
use reporter::TerminalReporter;

/// Files that a runtime holds open, and one more.
#[cfg(unix)]
const RUNTIME_FILES: usize = 6;

/// Runs the command line of this process: parses the arguments, runs the command, prints its result or its error.
///
/// Usage errors exit with 2 and `--help` with 0, as clap does. Builds a single-threaded runtime.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&without_secrets(error)),
    };
    let output = Output::new(cli.json);
    #[cfg(unix)]
    signals::take_over();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&CliError::internal(&format!("cannot start a runtime: {error}"))),
    };
    let result = runtime.block_on(run_with(cli, &output));
    // A blocking worker of a failed transfer ends by itself; waiting for it would delay the error.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failure(&error),
    }
}

/// The runtime of a command. It needs files of its own, and tokio panics where it cannot have all of them (1.54, the pipe of its
/// signals): that there are as many is looked at before.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    #[cfg(unix)]
    {
        let spare: Vec<_> = (0..RUNTIME_FILES).map(|_| File::open("/dev/null")).collect();
        let failed = spare.into_iter().find_map(Result::err);
        if let Some(error) = failed.filter(|error| error.kind() != io::ErrorKind::NotFound) {
            return Err(error);
        }
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Help and version go to stdout with exit code 0; a usage error to stderr with 2, and as a document where JSON was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        Output::new(true).failure_document(&usage_failure(&error.render().to_string()));
    }
    drop(error.print());
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What clap writes for people as a failure of its own: the first paragraph, which goes over several lines where arguments are
/// missing, and its tips.
fn usage_failure(shown: &str) -> CliError {
    let message: Vec<_> = shown.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let mut failure = CliError::invalid(message.join(" ").trim_start_matches("error: "));
    failure.hints = shown.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).map(str::to_owned).collect();
    failure
}

/// The error with addresses in it as they may be shown: it repeats what was typed in a place where it makes no sense.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let repeated: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if text.contains("://") => Some((kind, redact_url(text))),
            _ => None,
        })
        .collect();
    for (kind, text) in repeated {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

/// Runs the deprecated name of the command line: one warning line, then exactly [`main`].
///
/// `GREENTIC_SILENCE_DEPRECATION_WARNINGS=1` silences the line.
pub fn main_deprecated() -> ExitCode {
    if !crate::env::switch(crate::env::SILENCE_DEPRECATION_WARNINGS) {
        Output::new(false)
            .note("warning: `greentic-distributor-client` is the old name of this command; use `greentic-dist`");
    }
    main()
}

/// Parses the arguments of this process and runs the command, without printing a failure.
///
/// # Errors
/// [`CliError`] with the exit code and the message.
pub async fn run_from_env() -> Result<(), CliError> {
    run(Cli::try_parse().unwrap_or_else(|error| without_secrets(error).exit())).await
}

/// Runs one parsed command and prints its result to stdout.
///
/// # Errors
/// [`CliError`] with the exit code and the message.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let output = Output::new(cli.json);
    run_with(cli, &output).await
}

/// As [`run`], with a client of the host's own to ask registries for packs (`pack`).
///
/// # Errors
/// [`CliError`] with the exit code and the message.
pub async fn run_with_pack_client<C: RegistryClient>(cli: Cli, client: C) -> Result<(), CliError> {
    let (output, deadline) = (Output::new(cli.json), cli.deadline);
    check_times(&cli)?;
    let (context, command) = prepare(cli, &output);
    let result = one_operation(deadline, Box::pin(commands::run_with_packs(&context, command, client))).await;
    conclude(&context, result)
}

/// Fetches a pack as `pack` does, for hosts with a client and a command line of their own. Without `cache_dir_override` it goes
/// where packs go by default.
///
/// # Errors
/// [`CliError`] with the exit code of the failure's kind.
pub async fn fetch_pack_for_cli<C: RegistryClient>(
    reference: &str,
    allow_tags: bool,
    cache_dir_override: Option<PathBuf>,
    offline: bool,
    client: C,
) -> Result<ResolvedPack, CliError> {
    let mut options = PackFetchOptions { allow_tags, offline, ..PackFetchOptions::default() };
    if let Some(cache_dir) = cache_dir_override {
        options.cache_dir = cache_dir;
    }
    let fetched = OciPackFetcher::with_client(client, options).fetch_pack_to_cache(reference).await;
    fetched.map_err(|error| CliError::from_pack(&error))
}

async fn run_with(cli: Cli, output: &Output) -> Result<(), CliError> {
    let deadline = cli.deadline;
    check_times(&cli)?;
    let (context, command) = prepare(cli, output);
    // The whole command is one operation. On the heap: it is as large as the largest of the commands.
    conclude(&context, one_operation(deadline, Box::pin(commands::run(&context, command))).await)
}

/// The wait before the first request counts for the deadline: with a deadline that is no longer, some of a fleet could never be done.
fn check_times(cli: &Cli) -> Result<(), CliError> {
    let splay = cli.command.splay();
    match cli.deadline {
        Some(deadline) if !splay.is_zero() && deadline <= splay => {
            Err(CliError::invalid("`--splay` is a part of the time that `--deadline` allows, and has to be shorter"))
        }
        _ => Ok(()),
    }
}

fn conclude(context: &Context<'_>, result: Result<(), CliError>) -> Result<(), CliError> {
    context.reporter.finish();
    result.and_then(|()| context.output.end())
}

/// What every command works with, and the command.
fn prepare(cli: Cli, output: &Output) -> (Context<'_>, Commands) {
    let mut options = DistOptions::default();
    if let Some(cache_dir) = &cli.cache_dir {
        options.cache_dir.clone_from(cache_dir);
    }
    options.offline |= cli.offline;
    let reporter = Arc::new(TerminalReporter::for_stderr(cli.quiet));
    let policy = cli
        .trust_realm
        .into_iter()
        .fold(TargetPolicy::new(), |policy, (registry, host)| policy.trust_realm(registry, host));
    let policy = cli.allow_http_login.into_iter().fold(policy, TargetPolicy::allow_http_login);
    let policy = cli.allow_http_realm.into_iter().fold(policy, TargetPolicy::allow_http_realm);
    let policy = policy.allow_private_targets(cli.allow_private_targets);
    let limits = cli.set_limit.into_iter().fold(Limits::default(), |limits, (limit, value)| limits.with(limit, value));
    let client = DistClient::builder().options(options).target_policy(policy).limits(limits);
    let mut client = client.reporter(Arc::clone(&reporter) as _).splay(cli.command.splay());
    if let Some(dir) = cli.hosts_dir {
        client = client.hosts_dir(dir);
    }
    if let Some(file) = &cli.authfile {
        client = client.credentials(Arc::new(DockerConfig::at(file)));
    }
    client = client.names_from_origin(cli.origin_tags);
    if let Some(name) = cli.registries_conf {
        client = client.registries_conf(RegistriesConf::named(name.as_os_str()));
    }
    let client = client.build();
    output.conceal(client.secrets());
    (Context { client, cache_dir: cli.cache_dir, authfile: cli.authfile, output, reporter }, cli.command)
}
