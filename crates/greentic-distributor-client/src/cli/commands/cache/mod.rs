//! `greentic-dist cache …`.

mod gc;
mod ls;
mod rm;
mod size;
mod stat;
mod verify;

pub use gc::CacheGcArgs;
pub use rm::CacheRmArgs;
pub use stat::CacheStatArgs;
pub use verify::CacheVerifyArgs;

use super::Context;
use crate::dist_cli::CliError;

/// Commands on the cache.
#[derive(Debug, clap::Subcommand)]
pub enum CacheCommand {
    /// List the digests in the cache
    Ls,
    /// Show what is known of an artifact in the cache
    Stat(CacheStatArgs),
    /// Show how much the cache holds
    Size,
    /// Hash artifacts again, from their first to their last byte
    Verify(CacheVerifyArgs),
    /// Remove artifacts by digest
    Rm(CacheRmArgs),
    /// Remove dead temporary files and what can never be opened
    Gc(CacheGcArgs),
}

pub(crate) fn run(context: &Context<'_>, command: &CacheCommand) -> Result<(), CliError> {
    match command {
        CacheCommand::Ls => ls::run(context),
        CacheCommand::Stat(args) => stat::run(context, args),
        CacheCommand::Size => size::run(context),
        CacheCommand::Verify(args) => verify::run(context, args),
        CacheCommand::Rm(args) => rm::run(context, args),
        CacheCommand::Gc(args) => gc::run(context, args),
    }
}
