//! The old name of the `greentic-dist` command: one line of warning, then the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    greentic_distributor_client::dist_cli::main_deprecated()
}
