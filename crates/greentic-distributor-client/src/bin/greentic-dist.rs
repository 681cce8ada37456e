//! The `greentic-dist` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    greentic_distributor_client::dist_cli::main()
}
