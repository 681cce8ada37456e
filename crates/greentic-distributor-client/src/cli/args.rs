//! What the command line accepts.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    after_help = "Exit codes: 0 ok, 2 invalid input, 3 not found, 4 offline, 5 auth, 6 policy, 7 temporary, 8 wrong bytes, 10 other."
)]
pub struct Cli {
    /// Cache directory [default: `GREENTIC_CACHE_DIR`, else below ~/.cache]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Open no socket: answer from the cache or fail with exit code 4
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print one JSON document, on success and on failure
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Commands,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Commands {
    /// Print the digest a reference stands for
    Resolve {
        /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
        #[arg(required = true, value_name = "REF")]
        references: Vec<String>,
    },
    /// Bring artifacts into the cache and print their paths
    Pull {
        /// `oci://host/name:tag`, `host/name@sha256:…`, `https://…`, a file, `repo://…`, `store://…`
        #[arg(required = true, value_name = "REF")]
        references: Vec<String>,
    },
    /// Show what is known about an artifact
    Inspect {
        /// A reference or a digest
        #[arg(value_name = "REF")]
        reference: String,
        /// Also print the media type of the chosen layer
        #[arg(long)]
        show_media_type: bool,
    },
    /// Look at and tidy the cache
    Cache {
        /// What to do with the cache
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Show the whole flow against a registry inside this process
    Demo {
        /// Keep the demo's cache and registry content in this directory (must not exist, or be empty)
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
}

/// Commands on the cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the digests in the cache
    Ls,
    /// Remove artifacts by digest
    Rm {
        /// sha256:… or its hex
        #[arg(value_name = "DIGEST")]
        digests: Vec<String>,
    },
    /// Remove dead temporary files and entries that can never be opened
    Gc,
}
