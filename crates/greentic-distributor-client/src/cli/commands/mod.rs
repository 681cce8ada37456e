//! One verb, one file.

pub(super) mod cache;
pub(super) mod demo;
pub(super) mod inspect;
pub(super) mod pull;
pub(super) mod resolve;

use serde_json::Value;

use super::CliError;
use super::output::Output;
use crate::dist::DistError;

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
