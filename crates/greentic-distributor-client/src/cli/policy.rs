//! The policy and the advisory of a command line: read from files, checked before anything is done.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use greentic_dist_types::{Digest, SafeText, redact_reference};
use serde::Deserialize;

use super::CliError;
use crate::dist::{AdvisorySet, DistClient, DistError, VerificationEnvironment, VerificationPolicy};
use crate::regular_file;

/// Largest policy that is read, in bytes.
const POLICY_BYTES: u64 = 1 << 20;
/// Largest advisory that is read, in bytes; one more than the client takes, so that the client says so.
const ADVISORY_BYTES: u64 = (16 << 20) + 1;

/// What an artifact is held against.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PolicyArgs {
    /// JSON file with the policy; a field that is left out demands nothing [default: demands nothing]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// JSON file with an advisory
    #[arg(long, value_name = "FILE")]
    pub advisory: Option<PathBuf>,
    /// How strict the checks are [default: what the policy says, else dev]
    #[arg(long, value_enum, value_name = "ENV")]
    pub env: Option<EnvironmentArg>,
}

/// How strict the checks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EnvironmentArg {
    /// What is missing is a warning
    Dev,
    /// Like production
    Staging,
    /// What is demanded and missing, unknown or out of date fails
    Prod,
}

impl From<EnvironmentArg> for VerificationEnvironment {
    fn from(argument: EnvironmentArg) -> Self {
        match argument {
            EnvironmentArg::Dev => Self::Dev,
            EnvironmentArg::Staging => Self::Staging,
            EnvironmentArg::Prod => Self::Prod,
        }
    }
}

/// A policy as a file has it: the fields of [`VerificationPolicy`], each of which may be left out, and no others, so that a
/// typing error demands something instead of nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PolicyFile {
    require_signature: bool,
    trusted_issuers: Vec<String>,
    deny_issuers: Vec<String>,
    deny_digests: Vec<String>,
    allowed_media_types: Vec<String>,
    require_sbom: bool,
    minimum_operator_version: Option<String>,
    environment: VerificationEnvironment,
}

impl From<PolicyFile> for VerificationPolicy {
    fn from(file: PolicyFile) -> Self {
        let PolicyFile {
            require_signature,
            trusted_issuers,
            deny_issuers,
            deny_digests,
            allowed_media_types,
            require_sbom,
            minimum_operator_version,
            environment,
        } = file;
        Self {
            require_signature,
            trusted_issuers,
            deny_issuers,
            deny_digests,
            allowed_media_types,
            require_sbom,
            minimum_operator_version,
            environment,
        }
    }
}

impl PolicyArgs {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Result<VerificationPolicy, CliError> {
        let mut policy = match &self.policy {
            None => VerificationPolicy::default(),
            Some(path) => {
                let bytes = read(path, POLICY_BYTES)?;
                // A list would be read as the values of the first fields, and an empty one as a policy that demands nothing.
                if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
                    return Err(CliError::invalid(&format!("policy `{}`: it is no JSON object", shown(path))));
                }
                let file: PolicyFile = serde_json::from_slice(&bytes)
                    .map_err(|error| CliError::invalid(&format!("policy `{}`: {error}", shown(path))))?;
                let policy = VerificationPolicy::from(file);
                check(path, &policy.deny_digests, &policy.deny_issuers, policy.minimum_operator_version.as_deref())?;
                policy
            }
        };
        if let Some(environment) = self.env {
            policy.environment = environment.into();
        }
        Ok(policy)
    }

    /// The advisory, where there is one. Its source is the path of its file: older ones there are noticed.
    pub(crate) fn advisory(&self, client: &DistClient) -> Result<Option<AdvisorySet>, CliError> {
        let Some(path) = &self.advisory else { return Ok(None) };
        let bytes = read(path, ADVISORY_BYTES)?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let source = format!("file://{}", absolute.display());
        let set = client.load_advisory_set(&bytes, source).map_err(|error| match error {
            DistError::Serde(error) => CliError::invalid(&format!("advisory `{}`: {error}", shown(path))),
            other => CliError::from_dist(&other),
        })?;
        check(path, &set.deny_digests, &set.deny_issuers, set.minimum_operator_version.as_deref())?;
        Ok(Some(set))
    }

    /// What the result of staging calls the policy.
    pub(crate) fn policy_ref(&self) -> String {
        self.policy.as_ref().map_or_else(|| "default".to_owned(), |path| path.display().to_string())
    }
}

/// A whole file, at most `limit` bytes of it.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    // What is no file may be a reference with a password that was typed in its place.
    let named = || redact_reference(&path.display().to_string());
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => CliError::from_dist(&DistError::NotFound { reference: named() }),
        std::io::ErrorKind::InvalidInput => CliError::invalid(&format!("`{}` is not a regular file", named())),
        _ => CliError::invalid(&format!("`{}` cannot be read: {error}", named())),
    };
    let mut bytes = Vec::new();
    regular_file::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(CliError::invalid(&format!("`{}` is larger than {limit} bytes", shown(path))));
    }
    Ok(bytes)
}

/// Says at once, and with the name of the file, what the checks would refuse every artifact for.
fn check(path: &Path, digests: &[String], issuers: &[String], minimum: Option<&str>) -> Result<(), CliError> {
    let invalid = |what: &str| CliError::invalid(&format!("`{}`: {what}", shown(path)));
    for (position, text) in digests.iter().enumerate() {
        text.parse::<Digest>().map_err(|error| invalid(&format!("deny_digests[{position}]: {error}")))?;
    }
    if let Some(position) = issuers.iter().position(|issuer| issuer.trim().is_empty()) {
        return Err(invalid(&format!("deny_issuers[{position}] is blank")));
    }
    match minimum.map(semver::Version::parse) {
        Some(Err(error)) => Err(invalid(&format!("minimum_operator_version: {error}"))),
        _ => Ok(()),
    }
}

fn shown(path: &Path) -> SafeText {
    SafeText::new(&regular_file::shown(path))
}
