//! `greentic-dist store download REF`: one file of a store, as it is, outside of the cache.

use std::io::{self, Read as _};
use std::path::PathBuf;

use greentic_dist_types::Secret;
use serde_json::json;

use super::{Context, output_file, replace_hint};
use crate::dist::StoreDownload;
use crate::dist_cli::CliError;

/// Longest token read from the standard input, in bytes.
const TOKEN_BYTES: u64 = 64 << 10;

/// Commands on a store.
#[derive(Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Save the file of a `store://` reference; nothing is kept in the cache
    Download(StoreDownloadArgs),
}

/// Arguments of `greentic-dist store download`.
#[derive(Debug, clap::Args)]
pub struct StoreDownloadArgs {
    /// `store://greentic-biz/<tenant>/<path>[:tag|@digest]`, or a name in the configured store
    #[arg(value_name = "REF")]
    pub reference: String,
    /// The file to write [default: in the working directory, named after the reference and what it is]
    #[arg(short, long, value_name = "FILE", value_parser = output_file())]
    pub output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long)]
    pub force: bool,
    /// Use this token instead of the saved login, once; everybody on this machine can see it
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_stdin")]
    pub token: Option<String>,
    /// Read the token from the standard input, use it once and save it nowhere
    #[arg(long)]
    pub token_stdin: bool,
}

pub(crate) async fn run(context: &Context<'_>, command: StoreCommand) -> Result<(), CliError> {
    let StoreCommand::Download(args) = command;
    let output = context.output;
    let token = match args.token {
        Some(token) => {
            output
                .note("warning: a token in the arguments can be seen by everybody on this machine; use --token-stdin");
            Some(checked(Secret::from(token))?)
        }
        None if args.token_stdin => Some(token_from_stdin()?),
        None => None,
    };
    let target = args.output.clone().filter(|_| !args.force);
    let download = StoreDownload { output: args.output, replace: args.force, token };
    let saved = context.client.save_store_artifact(&args.reference, download).await.map_err(|error| {
        let mut failure = CliError::from_dist(&error);
        failure.hints.extend(target.and_then(|target| replace_hint(error.kind(), &target)));
        failure
    })?;
    if output.is_json() {
        return output.document(&json!({
            "reference": saved.source_ref,
            "mapped_reference": saved.mapped_reference,
            "canonical_ref": saved.canonical_ref,
            "digest": saved.digest,
            "content_digest": saved.content_digest,
            "media_type": saved.media_type,
            "size_bytes": saved.size_bytes,
            "output_path": saved.output_path,
        }));
    }
    output.line(&saved.output_path.display().to_string());
    Ok(())
}

fn token_from_stdin() -> Result<Secret, CliError> {
    let mut text = String::new();
    let read = io::stdin().lock().take(TOKEN_BYTES + 1).read_to_string(&mut text);
    let text = Secret::from(text);
    match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= TOKEN_BYTES) => {
            checked(Secret::new(text.expose().trim_end_matches(['\r', '\n'])))
        }
        Ok(_) => Err(CliError::invalid("the token on the standard input is longer than 64 KiB")),
        Err(error) => Err(CliError::invalid(&format!("the token cannot be read from the standard input: {error}"))),
    }
}

fn checked(token: Secret) -> Result<Secret, CliError> {
    if token.is_empty() { Err(CliError::invalid("the token is empty")) } else { Ok(token) }
}
